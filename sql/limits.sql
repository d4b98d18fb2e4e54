-- each limit: the last that is allowed, and the first that is not
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT f->>'status' AS status, f->>'new' AS new, left(s->>'id', 3) AS product, s->>'rule' AS rule, s->>'index' AS index FROM sync_vendor_stock('a', jsonb_build_array(
	jsonb_build_object('id', 'x', 'quantity', 1000000000000, 'price', 2), jsonb_build_object('id', 'y', 'quantity', 1000000000001, 'price', 2),
	jsonb_build_object('id', repeat('ä', 128), 'quantity', 5), jsonb_build_object('id', repeat('ä', 129), 'quantity', 5),
	jsonb_build_object('id', 'n', 'name', repeat('ä', 500), 'quantity', 5), jsonb_build_object('id', 'o', 'name', repeat('ä', 501), 'quantity', 5)))
	AS f, jsonb_array_elements(f->'skipped') AS s;
SELECT left(product_id, 3) AS product, char_length(product_id) AS chars, char_length(name) AS name, on_hand FROM stock JOIN product USING (product_id) ORDER BY product_id;
-- one request
SELECT n, status, total_amount, error->>'field' AS field, error->>'message' AS message
FROM place_orders(jsonb_build_array(
	jsonb_build_object('productId', 'x', 'quantity', 1000000000), jsonb_build_object('productId', 'x', 'quantity', 1000000001),
	jsonb_build_object('products', '[{"productId": "x", "quantity": 500000000}, {"productId": "x", "quantity": 500000000}]'::jsonb),
	jsonb_build_object('products', '[{"productId": "x", "quantity": 500000000}, {"productId": "x", "quantity": 500000001}]'::jsonb),
	jsonb_build_object('productId', repeat('ä', 128), 'quantity', 5), jsonb_build_object('productId', repeat('ä', 129), 'quantity', 1),
	jsonb_build_object('productId', 'x', 'quantity', 1, 'customerId', repeat('ä', 128)), jsonb_build_object('productId', 'x', 'quantity', 1, 'customerId', repeat('ä', 129)),
	jsonb_build_object('productId', 'x', 'quantity', 1, 'idempotencyKey', repeat('ä', 255)), jsonb_build_object('productId', 'x', 'quantity', 1, 'idempotencyKey', repeat('ä', 256)),
	jsonb_build_object('products', (SELECT jsonb_agg(jsonb_build_object('productId', 'x', 'quantity', 1)) FROM generate_series(1, 1000))),
	jsonb_build_object('products', (SELECT jsonb_agg(jsonb_build_object('productId', 'x', 'quantity', 1)) FROM generate_series(1, 1001)))
	)) AS p(n, order_id, status, total_amount, error) ORDER BY n;
SELECT quantity, count(*) FROM order_line GROUP BY 1 ORDER BY 1;
SET order_aggregator.max_lines = 2;
SELECT n, status, error->>'message' AS message FROM place_orders('[
	{"products": [{"productId": "x", "quantity": 1}, {"productId": "n", "quantity": 1}]},
	{"products": [{"productId": "x", "quantity": 1}, {"productId": "n", "quantity": 1}, {"productId": "o", "quantity": 1}]}]') AS p(n, order_id, status, total_amount, error) ORDER BY n;
RESET order_aggregator.max_lines;
-- how long units are held
SET order_aggregator.hold_for_max = '1h';
SELECT n, status, error->>'message' AS message FROM place_orders('[
	{"productId": "x", "quantity": 1, "holdFor": "1 hour"}, {"productId": "x", "quantity": 1, "holdFor": "1 hour 1 microsecond"},
	{"productId": "x", "quantity": 1, "holdFor": "1 microsecond"}, {"productId": "x", "quantity": 1, "holdFor": "0"}]') AS p(n, order_id, status, total_amount, error) ORDER BY n;
RESET order_aggregator.hold_for_max;
-- one batch
SELECT count(*), count(error) FROM place_orders((SELECT jsonb_agg(1) FROM generate_series(1, 10000)));
SELECT * FROM place_orders((SELECT jsonb_agg(1) FROM generate_series(1, 10001)));
CREATE FUNCTION pg_temp.lines(count int) RETURNS jsonb LANGUAGE sql AS
$$SELECT jsonb_build_object('products', jsonb_agg('{"productId": "nobody has it", "quantity": 1}'::jsonb)) FROM generate_series(1, count)$$;
SELECT count(*), count(error), min(error->>'code') AS code FROM place_orders((SELECT jsonb_agg(pg_temp.lines(1000)) FROM generate_series(1, 200)));
SELECT * FROM place_orders((SELECT jsonb_agg(pg_temp.lines(1000)) FROM generate_series(1, 200)) || pg_temp.lines(1));
-- what one event tells of, and the history of one part
CREATE FUNCTION pg_temp.offers(quantity int) RETURNS jsonb LANGUAGE sql AS
$$SELECT jsonb_agg(jsonb_build_object('id', 'o' || n, 'quantity', quantity, 'price', 1)) FROM generate_series(1000, 3000) AS n$$;
SELECT sync_vendor_stock('b', pg_temp.offers(2)) ->> 'new' AS new;
SELECT count(order_id), count(error) FROM place_orders((SELECT jsonb_agg(jsonb_build_object('productId', 'o' || n, 'quantity', 2)) FROM generate_series(1000, 3000) AS n));
SELECT f ->> 'changed' AS changed, jsonb_array_length(f -> 'oversold') AS noted, f #>> '{oversold,999}' AS last FROM sync_vendor_stock('b', pg_temp.offers(1)) AS f;
SELECT jsonb_array_length(payload::jsonb -> 'products') AS products, payload::jsonb #>> '{products,0,productId}' AS first FROM outbox WHERE routing_key = 'stock.oversold.b' ORDER BY event_id;
SELECT count(*) FROM shortage;
-- those that the vendor has again are over
SELECT f ->> 'changed' AS changed, jsonb_array_length(f -> 'oversold') AS noted FROM sync_vendor_stock('b', (SELECT jsonb_agg(CASE WHEN o ->> 'id' IN ('o1000', 'o3000') THEN o || '{"quantity": 2}' ELSE o END) FROM jsonb_array_elements(pg_temp.offers(1)) AS o)) AS f;
SELECT count(*) FROM shortage;
-- numbers that are short here and long as text
SELECT register_vendor('l', 'Long', NULL, 90);
SELECT e->>'index' AS index, e->>'error' AS error FROM jsonb_array_elements(sync_vendor_stock('l', '[{"id": "n", "quantity": 1e131071}, {"id": "n", "quantity": 1e-16383}, {"id": "n", "quantity": 1, "price": 1e-16383}, {"id": "m", "quantity": 1}]') -> 'skipped') AS e;
SELECT outcome, detail FROM apply_vendor_replies('[{"orderId": 1e131071, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 1e-16383, "vendorId": 1e-16383, "attempt": 1, "status": "confirmed"}]');
-- replies, and reasons
SELECT outcome, count(*) FROM apply_vendor_replies((SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 10000))) GROUP BY 1;
SELECT * FROM apply_vendor_replies((SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 10001)));
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') AS id \gset
SELECT cancel_order(:id, repeat('x', 1001));
SELECT cancel_order(:id, repeat('x', 1000));
-- returns: no line more than an order may have, and no unit more than was kept, by however many lines
SELECT place_order('c', '[{"productId": "n", "quantity": 4}, {"productId": "o", "quantity": 2}]') AS id \gset
SELECT confirm_order(:id);
SET order_aggregator.max_lines = 2;
BEGIN; SELECT return_order(:id, '[{"lineNo": 1, "quantity": 1}, {"lineNo": 2, "quantity": 1}]') > 0 AS returned; ROLLBACK;
SELECT return_order(:id, '[{"lineNo": 1, "quantity": 1}, {"lineNo": 2, "quantity": 1}, {"lineNo": 1, "quantity": 1}]');
RESET order_aggregator.max_lines;
SELECT return_order(:id, '[{"lineNo": 1, "quantity": 3}, {"productId": "n", "quantity": 2}]');
SELECT return_order(:id, '[{"lineNo": 1, "quantity": 0}]');
SELECT return_order(:id, '[{"lineNo": 1, "quantity": 1000000001}]');
SELECT return_order(:id, '[{"lineNo": 3, "quantity": 1}]');
SELECT return_order(:id, '[{"lineNo": 1, "productId": "o", "quantity": 1}]');
SELECT return_order(:id, '[{"lineNo": 1, "vendorId": "b", "quantity": 1}]');
SELECT return_order(:id, '[{"lineNo": 1, "quantity": 3}, {"productId": "n", "vendorId": "a", "quantity": 1}]') > 0 AS returned;
SELECT return_order(:id, '[{"productId": "n", "quantity": 1}]');
-- units cannot go back to an offer that somebody has removed by hand, but they can come back
BEGIN;
DELETE FROM stock WHERE product_id = 'o' AND vendor_id = 'a';
SAVEPOINT without;
SELECT return_order(:id);
ROLLBACK TO without;
SELECT return_order(:id, '[{"productId": "o", "quantity": 1}]', restock => false) > 0 AS returned;
SELECT * FROM check_consistency();
ROLLBACK;
SELECT return_order(:id) > 0 AS the_rest;
SELECT line_no, quantity FROM order_return ORDER BY return_id, line_no;
SELECT * FROM check_consistency();
