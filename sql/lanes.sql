-- a hot product, its counters spread over lanes: everything else is as before
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 1000, "price": 2}]') -> 'new' AS new;

-- a number or auto, and nothing else
SELECT configure_product('x', lanes => -1);
SELECT configure_product('x', lanes => 65);
SELECT configure_product('x', lanes => 'many');
SELECT configure_product('x', lanes => 2.5);
SELECT configure_product('x', lanes => true);
SELECT configure_product('x', lanes => 4, vendor_id => 'a');
SELECT configure_product('nothing', lanes => 4);
SELECT configure_product('x', lanes => 'auto');
SELECT lanes, lanes_max FROM stock;
SELECT configure_product('x', lanes => 4::smallint);
SELECT lanes, lanes_max, in_lanes FROM stock;
-- an offer that is new takes the product's
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 500, "price": 3}]') -> 'new' AS new;
SELECT vendor_id, lanes, lanes_max FROM stock ORDER BY 1;

-- the first order takes from the row and fills the lanes; the next ones leave the row alone
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT sum(free) AS free, sum(reserved) AS reserved, count(*) FROM stock_lane;
SELECT ctid AS before FROM stock WHERE vendor_id = 'a' \gset
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]') AS order_id \gset
SELECT place_order('c', '[{"productId": "x", "quantity": 3}]', strategy => s) IS NOT NULL AS placed FROM unnest(ARRAY['cheapest', 'priority', 'single_vendor', 'fewest_vendors']) AS s;
SELECT ctid = :'before' AS untouched, on_hand, reserved, in_lanes FROM stock WHERE vendor_id = 'a';
SELECT vendor_id, quantity, unit_price FROM hold WHERE order_id = :order_id;
SELECT vendor_id, on_hand, reserved, available FROM vendor_offer ORDER BY 1;
SELECT available, on_hand, reserved FROM product_stock;
SELECT * FROM check_consistency();
-- most_stock compares, so it looks at everything
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]', strategy => 'most_stock') IS NOT NULL AS placed;
SELECT ctid = :'before' AS untouched FROM stock WHERE vendor_id = 'a';
-- and what it is about to give the lanes is a vendor's, too
BEGIN;
SELECT register_vendor('more', 'More', NULL, 90), register_vendor('less', 'Less', NULL, 10);
SELECT sync_vendor_stock(v, jsonb_build_array(jsonb_build_object('id', 'm', 'quantity', q, 'price', p))) -> 'new' AS new FROM (VALUES ('more', 1000, 9), ('less', 800, 3)) AS f(v, q, p);
SELECT configure_product('m', lanes => 16);
SELECT place_order('c', '[{"productId": "m", "quantity": 1}]', strategy => 'most_stock') AS of_most \gset
SELECT vendor_id, unit_price FROM hold WHERE order_id = :of_most;
ROLLBACK;

-- a batch, a cancel, a confirmation, a return: of units wherever they are
SELECT count(*), count(error) FROM place_orders((SELECT jsonb_agg(jsonb_build_object('customerId', 'c', 'products', '[{"productId": "x", "quantity": 5}]'::jsonb)) FROM generate_series(1, 20)));
SELECT cancel_order(:order_id, 'changed my mind');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') AS order_id \gset
SELECT confirm_order(order_id) FROM orders WHERE status = 'pending';
SELECT return_order(:order_id) IS NOT NULL AS returned;
SELECT vendor_id, on_hand, reserved, available FROM vendor_offer ORDER BY 1;
SELECT * FROM check_consistency();

-- a feed takes everything into account
SELECT place_order('c', '[{"productId": "x", "quantity": 7}]') AS order_id \gset
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') - 'asOf' AS synced;
SELECT on_hand, reserved, in_lanes FROM stock WHERE vendor_id = 'a';
SELECT sum(free) AS free, sum(reserved) AS reserved FROM stock_lane WHERE vendor_id = 'a';
SELECT available FROM vendor_offer WHERE vendor_id = 'a';
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 5, "price": 2}]') -> 'oversold' AS oversold;
SELECT * FROM check_consistency();

-- what is kept back is in no lane: neither the offer's buffer nor its vendor's
SELECT accept_feed('b');
SELECT sync_vendor_stock('b', '[]') -> 'inactive' AS inactive;
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 1007, "price": 2}]') -> 'changed' AS changed;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed;
SELECT configure_product('x', buffer => 990);
SELECT place_order('c', '[{"productId": "x", "quantity": 10}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 9);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT configure_product('x', buffer => 0);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed;
SELECT in_lanes > 0 AS spread FROM stock WHERE vendor_id = 'a';
SELECT configure_vendor('a', buffer => 980);
SELECT available FROM vendor_offer WHERE vendor_id = 'a';
SELECT place_order('c', '[{"productId": "x", "quantity": 10}]');
SELECT configure_vendor('a', buffer => 0);
SELECT * FROM check_consistency();

-- nor what is below the threshold: stock.low is told of the same order as without lanes
SELECT configure_product('x', low_threshold => 900);
SELECT available FROM product_stock;
SELECT count(*) FROM (SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') FROM generate_series(1, 88)) AS o;
SELECT count(*) FROM outbox WHERE routing_key LIKE 'stock.low.%';
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed;
SELECT payload FROM outbox WHERE routing_key LIKE 'stock.low.%';
SELECT configure_product('x', low_threshold => -1);

-- a threshold counts what the lanes have, to the unit
SELECT configure_product('x', low_threshold => 0);
BEGIN;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed;
SELECT on_hand - reserved - in_lanes AS free FROM stock WHERE vendor_id = 'a' \gset
DELETE FROM outbox;
SELECT place_order('c', jsonb_build_array(jsonb_build_object('productId', 'x', 'quantity', :free))) IS NOT NULL AS placed;
SELECT payload FROM outbox WHERE routing_key LIKE 'stock.low.%';
SELECT place_order('c', jsonb_build_array(jsonb_build_object('productId', 'x', 'quantity', available))) IS NOT NULL AS placed FROM product_stock;
SELECT payload FROM outbox WHERE routing_key LIKE 'stock.low.%';
ROLLBACK;
SELECT configure_product('x', low_threshold => -1);

-- to the last unit, whatever is asked for; then it is told what all lanes have
SELECT place_order('c', '[{"productId": "x", "quantity": 100}]') IS NOT NULL AS placed;
SELECT place_order('c', '[{"productId": "x", "quantity": 801}]');
SELECT count(*) FROM (SELECT place_order('c', '[{"productId": "x", "quantity": 3}]') FROM generate_series(1, 266)) AS o;
SELECT place_order('c', '[{"productId": "x", "quantity": 3}]', allow_partial => true) AS order_id \gset
SELECT quantity FROM hold WHERE order_id = :order_id;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT reserved, available FROM vendor_offer WHERE vendor_id = 'a';
SELECT * FROM check_consistency();

-- without lanes again
SELECT configure_product('x', lanes => 0);
SELECT count(*) FROM stock_lane;
SELECT lanes, in_lanes FROM stock WHERE vendor_id = 'a';
SELECT count(*) FROM (SELECT cancel_order(order_id, 'all') FROM orders WHERE status = 'pending') AS o;
SELECT on_hand, reserved FROM stock WHERE vendor_id = 'a';
SELECT * FROM check_consistency();

-- a lane that was tampered with is reported
SELECT configure_product('x', lanes => 2);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed;
BEGIN;
UPDATE stock_lane SET free = free + 1 WHERE lane = 0 AND vendor_id = 'a';
SELECT * FROM check_consistency();
ROLLBACK;
BEGIN;
UPDATE stock_lane SET free = free - 1, reserved = reserved + 1 WHERE lane = 0 AND vendor_id = 'a';
SELECT * FROM check_consistency();
ROLLBACK;
BEGIN;
UPDATE stock SET on_hand = 100 WHERE vendor_id = 'a';
SELECT problem, subject FROM check_consistency();
ROLLBACK;
BEGIN;
INSERT INTO stock_lane VALUES ('nothing', 'a', 0, 0, 0);
SELECT * FROM check_consistency();
ROLLBACK;
\set VERBOSITY terse
UPDATE stock_lane SET free = -1;
\set VERBOSITY default
SELECT * FROM check_consistency();

-- what comes after a rollback, and two orders in one transaction
BEGIN;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 2);
SELECT place_order('c', '[{"productId": "x", "quantity": 600}]') IS NOT NULL AS placed;
SELECT available FROM product_stock;
ROLLBACK;
SELECT available FROM product_stock;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 2);
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 2);
COMMIT;
SELECT * FROM check_consistency();
-- who has none of it keeps nobody from the lanes of the next vendor; he gets them back with the units
SELECT sync_vendor_stock('a', '[{"id": "w", "quantity": 0, "price": 1}]') IS NOT NULL AS a, sync_vendor_stock('b', '[{"id": "w", "quantity": 1000, "price": 2}]') IS NOT NULL AS b;
SELECT configure_product('w', lanes => 4);
SELECT place_order('c', '[{"productId": "w", "quantity": 1}]') IS NOT NULL AS placed;
SELECT ctid AS before FROM stock WHERE product_id = 'w' AND vendor_id = 'b' \gset
SELECT place_order('c', '[{"productId": "w", "quantity": 2}]') IS NOT NULL AS placed FROM generate_series(1, 3);
SELECT ctid = :'before' AS untouched, in_lanes > 0 AS spread FROM stock WHERE product_id = 'w' AND vendor_id = 'b';
SELECT sync_vendor_stock('a', '[{"id": "w", "quantity": 5, "price": 1}]') -> 'changed' AS changed;
SELECT place_order('c', '[{"productId": "w", "quantity": 5}]') AS order_id \gset
SELECT vendor_id, quantity FROM hold WHERE order_id = :order_id;
SELECT vendor_id, available FROM vendor_offer WHERE product_id = 'w' ORDER BY 1;
SELECT * FROM check_consistency();
-- once all is sold, who is refused writes nothing into the lanes
SELECT register_vendor('c', 'Vendor C'), sync_vendor_stock('c', '[{"id": "sold", "quantity": 1000, "price": 1}]') IS NOT NULL AS fed;
SELECT configure_product('sold', lanes => 16);
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		PERFORM order_aggregator.place_order('c', '[{"productId": "sold", "quantity": 1}]');
	END LOOP;
END
$$;
SELECT available, reserved FROM product_stock WHERE product_id = 'sold';
SELECT sum(free) AS free, sum(reserved) > 0 AS reserved FROM stock_lane WHERE product_id = 'sold';
SELECT string_agg(xmax || ' ' || ctid, ', ' ORDER BY lane) AS before FROM stock_lane WHERE product_id = 'sold' \gset
SELECT place_order('c', '[{"productId": "sold", "quantity": 1}]');
SELECT string_agg(xmax || ' ' || ctid, ', ' ORDER BY lane) = :'before' AS untouched FROM stock_lane WHERE product_id = 'sold';
SELECT * FROM check_consistency();
DROP EXTENSION order_aggregator;
