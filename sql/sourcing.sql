-- mappings, buffers, low stock, a limit of vendors, shortages, returns
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20), register_vendor('c', 'Vendor C', NULL, 30);

-- a vendor's SKU is a product of the shop; other SKUs are products themselves
SELECT map_product('a', 'A-1', 'x'), map_product('a', 'A-2', 'y');
SELECT sync_vendor_stock('a', '[{"id": "A-1", "name": "The X", "quantity": 5, "price": 2}, {"id": "A-2", "quantity": 5, "price": 2}, {"id": "z", "quantity": 5, "price": 2}, {"id": "x", "quantity": 9, "price": 1}]') - 'asOf' AS synced;
SELECT product_id, vendor_sku, on_hand, is_active FROM stock ORDER BY 1;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') AS first_x \gset
SELECT payload->'lines' AS lines FROM outbox WHERE routing_key = 'order.placed.a';
-- two SKUs swap their products, and one is its own product again: what is held as x is of it, and x waits
SELECT map_products('a', '[{"vendorSku": "A-1", "productId": "y"}, {"vendorSku": "A-2", "productId": "x"}]');
SELECT sync_vendor_stock('a', '[{"id": "A-1", "quantity": 5}, {"id": "A-2", "quantity": 6}, {"id": "z", "quantity": 5}]') - 'asOf' AS synced;
SELECT product_id, vendor_sku, on_hand, reserved, is_active FROM stock ORDER BY 1;
SELECT map_product('a', 'A-1', NULL);
SELECT sync_vendor_stock('a', '[{"id": "A-1", "quantity": 5}, {"id": "A-2", "quantity": 6}, {"id": "z", "quantity": 5}]') - 'asOf' AS synced;
SELECT product_id, vendor_sku, on_hand, reserved, is_active FROM stock ORDER BY 1;
SELECT cancel_order(:first_x, 'no');
SELECT sync_vendor_stock('a', '[{"id": "A-1", "quantity": 5}, {"id": "A-2", "quantity": 6}, {"id": "z", "quantity": 5}]') - 'asOf' AS synced;
SELECT product_id, vendor_sku, on_hand, reserved, is_active FROM stock ORDER BY 1;
SELECT map_product('a', 'A-9', 'x');
SELECT map_product('nobody', 'A-1', 'x');
SELECT map_product('a', '', 'x');
SELECT map_products('a', '[{"vendorSku": "A-1"}]');
SELECT map_products('a', '{}');
SELECT map_products('a', '[{"vendorSku": "1", "productId": "p1"}, {"vendorSku": "2", "productId": "p1"}]');
SELECT map_products('a', '[{"vendorSku": "1", "productId": "p1"}, {"vendorSku": "1", "productId": null}]');

-- buffers: the larger one of the offer and its vendor
SELECT configure_vendor('a', buffer => 2), configure_product('z', buffer => 4);
SELECT product_id, on_hand, buffer, available FROM vendor_offer WHERE product_id IN ('x', 'z') ORDER BY 1;
SELECT place_order('c', '[{"productId": "z", "quantity": 2}]');
SELECT configure_product('z', buffer => 1, vendor_id => 'a');
SELECT place_order('c', '[{"productId": "z", "quantity": 2}]');
-- an offer that is new takes the product's
SELECT sync_vendor_stock('b', '[{"id": "z", "quantity": 5, "price": 3}]') -> 'new' AS new;
SELECT vendor_id, buffer, available FROM vendor_offer WHERE product_id = 'z' ORDER BY 1;
SELECT configure_vendor('a', buffer => 0), configure_product('z', buffer => 0);
SELECT configure_vendor('a', buffer => -1);
SELECT configure_product('nothing', buffer => 1);
SELECT configure_product('x', buffer => 1, vendor_id => 'c');
SELECT configure_vendor('nobody', buffer => 1);

-- low stock is told when it falls to the threshold: by an order, by a feed, once
SELECT configure_product('z', low_threshold => 6);
SELECT product_id, sum(available) FROM vendor_offer WHERE product_id = 'z' GROUP BY 1;
SELECT place_order('c', '[{"productId": "z", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "z", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "z", "quantity": 1}]');
SELECT sync_vendor_stock('b', '[{"id": "z", "quantity": 9, "price": 3}]') -> 'changed' AS changed;
SELECT sync_vendor_stock('b', '[{"id": "z", "quantity": 2, "price": 3}]') -> 'changed' AS changed;
SELECT accept_feed('b');
SELECT sync_vendor_stock('b', '[]') -> 'inactive' AS inactive;
SELECT routing_key, payload FROM outbox WHERE routing_key LIKE 'stock.low.%' ORDER BY event_id;
SELECT configure_product('z', low_threshold => -1);
-- and by an order that goes to another vendor, because its own has not what it counted
SELECT sync_vendor_stock('a', '[{"id": "m0", "quantity": 10, "price": 1}]') IS NOT NULL AS a, sync_vendor_stock('b', '[{"id": "m0", "quantity": 10, "price": 2}]') IS NOT NULL AS b;
SELECT configure_product('m0', low_threshold => 8);
SELECT place_order('c', '[{"productId": "m0", "quantity": 5}]') AS order_id \gset
SELECT sync_vendor_stock('a', '[{"id": "m0", "quantity": 0, "price": 1}]') -> 'changed' AS changed;
SELECT count(*) FROM outbox WHERE routing_key = 'stock.low.m0';
SELECT reject_order(:order_id, 'a', 'none there');
SELECT payload FROM outbox WHERE routing_key = 'stock.low.m0';
SELECT cancel_order(:order_id, 'enough');
-- an offer that the feed lacks from now on, one of several, is told too
SELECT sync_vendor_stock('b', '[{"id": "m1", "quantity": 9, "price": 3}, {"id": "m2", "quantity": 9, "price": 3}]') -> 'new' AS new;
SELECT configure_product('m1', low_threshold => 2);
SELECT f ->> 'status' AS status, f -> 'inactive' AS inactive, f -> 'changed' AS changed FROM sync_vendor_stock('b', '[{"id": "m2", "quantity": 9, "price": 3}]') AS f;
SELECT routing_key, payload FROM outbox WHERE routing_key = 'stock.low.m1';
SET order_aggregator.low_stock = 5;
SELECT sync_vendor_stock('c', '[{"id": "v.1 #", "quantity": 6, "price": 3}]') -> 'new' AS new;
SELECT place_order('c', '[{"productId": "v.1 #", "quantity": 1}]') AS order_id \gset
SELECT routing_key, payload FROM outbox ORDER BY event_id DESC LIMIT 1;
RESET order_aggregator.low_stock;
SELECT * FROM check_consistency();

-- at most so many vendors
SELECT sync_vendor_stock('a', '[{"id": "p", "quantity": 5, "price": 1}, {"id": "q", "quantity": 1, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "p", "quantity": 5, "price": 2}, {"id": "q", "quantity": 5, "price": 2}]') -> 'new' AS new;
SELECT sync_vendor_stock('c', '[{"id": "p", "quantity": 9, "price": 9}, {"id": "q", "quantity": 9, "price": 9}]') -> 'new' AS new;
SET order_aggregator.max_vendors_per_order = 1;
SELECT place_order('c', '[{"productId": "p", "quantity": 4}, {"productId": "q", "quantity": 3}]') AS order_id \gset
SELECT line_no, vendor_id, quantity FROM hold WHERE order_id = :order_id ORDER BY 1, 2;
SELECT place_order('c', '[{"productId": "p", "quantity": 6}, {"productId": "q", "quantity": 3}]', strategy => 'priority') AS order_id \gset
SELECT line_no, vendor_id, quantity FROM hold WHERE order_id = :order_id ORDER BY 1, 2;
SELECT place_order('c', '[{"productId": "p", "quantity": 6}]');
SELECT place_order('c', '[{"productId": "p", "quantity": 6}]', allow_partial => true) AS order_id \gset
SELECT line_no, vendor_id, quantity FROM hold WHERE order_id = :order_id ORDER BY 1, 2;
-- a vendor that rejects is replaced within the limit: whoever serves already counts
SET order_aggregator.max_vendors_per_order = 2;
SELECT sync_vendor_stock('a', '[{"id": "t", "quantity": 3, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "t", "quantity": 3, "price": 2}]') -> 'new' AS new;
SELECT sync_vendor_stock('c', '[{"id": "t", "quantity": 2, "price": 3}, {"id": "u", "quantity": 1, "price": 1}]') -> 'new' AS new;
SELECT register_vendor('d', 'Vendor D', NULL, 40);
SELECT sync_vendor_stock('d', '[{"id": "t", "quantity": 3, "price": 9}]') -> 'new' AS new;
SELECT place_order('c', '[{"productId": "t", "quantity": 6}]') AS order_id \gset
SELECT reject_order(:order_id, 'b', 'no');
SELECT attempt, vendor_id, quantity, status FROM hold WHERE order_id = :order_id ORDER BY 1, 2;
SELECT reject_order(:order_id, 'd', 'no');
SELECT status, close_reason FROM orders WHERE order_id = :order_id;
RESET order_aggregator.max_vendors_per_order;
SELECT * FROM check_consistency();

-- a feed that drops below what is held: keep (the default), resource, reject
SELECT cancel_order(order_id, 'done') FROM orders WHERE status = 'pending' ORDER BY 1 \g /dev/null
SELECT sync_vendor_stock('a', '[{"id": "s", "quantity": 10, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "s", "quantity": 4, "price": 2}]') -> 'new' AS new;
SELECT place_order('first', '[{"productId": "s", "quantity": 3}]') AS first, place_order('second', '[{"productId": "s", "quantity": 3}]') AS second, place_order('third', '[{"productId": "s", "quantity": 3}]') AS third \gset
SELECT sync_vendor_stock('a', '[{"id": "s", "quantity": 4, "price": 1}]') -> 'oversold' AS oversold;
SELECT settle_shortages();
SELECT vendor_id, product_id, tried_at FROM shortage;
SELECT configure_vendor('a', on_shortage => 'resource');
SELECT settle_shortages();
SELECT o.customer_id, o.status, h.vendor_id, h.attempt, h.quantity, h.status, h.reason FROM orders o JOIN hold h USING (order_id) WHERE product_id = 's' ORDER BY h.order_id, h.attempt;
SELECT routing_key, payload->>'reason' AS reason FROM outbox WHERE order_id = :second ORDER BY event_id;
-- what none can serve stays, and is tried again a minute later, or after the next feed
SELECT vendor_id, product_id, tried_at IS NOT NULL AS tried FROM shortage;
SELECT settle_shortages();
SELECT configure_vendor('a', on_shortage => 'reject');
UPDATE shortage SET tried_at = now() - interval '2 minutes';
SELECT settle_shortages();
SELECT customer_id, status, close_reason FROM orders WHERE order_id IN (:first, :second, :third) ORDER BY order_id;
SELECT routing_key, payload->>'reason' AS reason FROM outbox WHERE order_id = :third ORDER BY event_id;
UPDATE shortage SET tried_at = now() - interval '2 minutes';
SELECT settle_shortages();
SELECT count(*) FROM shortage;
-- the vendor that lost its part confirms it all the same: it is told again
SELECT outcome FROM apply_vendor_replies(jsonb_build_array(jsonb_build_object('orderId', :third, 'vendorId', 'a', 'attempt', 1, 'status', 'confirmed')));
SELECT on_hand, reserved FROM stock WHERE product_id = 's' ORDER BY vendor_id;
SELECT configure_vendor('a', on_shortage => 'burn');
SELECT settle_shortages(0);
SELECT * FROM check_consistency();

-- what stays with its vendor is nobody else's: the first order must not be given the units that the second one keeps
SELECT configure_vendor('a', on_shortage => 'resource'), configure_vendor('b', on_shortage => 'resource');
SELECT sync_vendor_stock('a', '[{"id": "w", "quantity": 5, "price": 1}]') -> 'new' AS new;
SELECT place_order('one', '[{"productId": "w", "quantity": 5}]') AS one \gset
SELECT sync_vendor_stock('b', '[{"id": "w", "quantity": 10, "price": 2}]') -> 'new' AS new;
SELECT place_order('two', '[{"productId": "w", "quantity": 10}]') AS two \gset
SELECT sync_vendor_stock('a', '[{"id": "w", "quantity": 0, "price": 1}]') -> 'oversold' AS a, sync_vendor_stock('b', '[{"id": "w", "quantity": 8, "price": 2}]') -> 'oversold' AS b;
SELECT settle_shortages();
SELECT vendor_id, on_hand, reserved FROM stock WHERE product_id = 'w' ORDER BY 1;
SELECT cancel_order(:one, 'done'), cancel_order(:two, 'done');
-- of several shortages the one that there was no room for is next, not a minute later
SELECT sync_vendor_stock('a', '[{"id": "k1", "quantity": 5, "price": 1}, {"id": "k2", "quantity": 5, "price": 1}]') -> 'new' AS new;
SELECT place_order('k1', '[{"productId": "k1", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 3);
SELECT place_order('k2', '[{"productId": "k2", "quantity": 1}]') AS order_id \gset
SELECT sync_vendor_stock('b', '[{"id": "k2", "quantity": 5, "price": 2}]') -> 'new' AS new;
SELECT sync_vendor_stock('a', '[{"id": "k1", "quantity": 0, "price": 1}, {"id": "k2", "quantity": 5, "price": 1}]') -> 'changed' AS changed;
SELECT sync_vendor_stock('a', '[{"id": "k1", "quantity": 0, "price": 1}, {"id": "k2", "quantity": 0, "price": 1}]') -> 'changed' AS changed;
SELECT settle_shortages(2), settle_shortages(2);
SELECT vendor_id, attempt, status FROM hold WHERE order_id = :order_id ORDER BY 2;
SELECT count(cancel_order(order_id, 'done')) FROM orders WHERE customer_id IN ('k1', 'k2') AND status = 'pending';
SELECT * FROM check_consistency();
-- of several shortages at once the newest orders that cover each, and no other; one that is short of two goes once
SELECT sync_vendor_stock('a', '[{"id": "n1", "quantity": 9, "price": 1}, {"id": "n2", "quantity": 9, "price": 1}, {"id": "n3", "quantity": 9, "price": 1}]') -> 'new' AS new;
SELECT place_order(customer, products) IS NOT NULL AS placed FROM (VALUES (1, 'n-1', jsonb '[{"productId": "n1", "quantity": 2}]'), (2, 'n-2', '[{"productId": "n1", "quantity": 3}, {"productId": "n2", "quantity": 1}]'), (3, 'n-3', '[{"productId": "n1", "quantity": 2}]'), (4, 'n-4', '[{"productId": "n2", "quantity": 4}]'), (5, 'n-5', '[{"productId": "n3", "quantity": 1}]')) AS o(n, customer, products) ORDER BY n;
SELECT sync_vendor_stock('b', '[{"id": "n1", "quantity": 9, "price": 2}, {"id": "n2", "quantity": 9, "price": 2}, {"id": "n3", "quantity": 9, "price": 2}]') -> 'new' AS new;
SELECT sync_vendor_stock('a', '[{"id": "n1", "quantity": 4, "price": 1}, {"id": "n2", "quantity": 4, "price": 1}, {"id": "n3", "quantity": 1, "price": 1}]') -> 'oversold' AS oversold;
SELECT settle_shortages();
SELECT customer_id, product_id, vendor_id FROM orders JOIN hold USING (order_id) WHERE customer_id LIKE 'n-%' AND hold.status = 'open' ORDER BY 1, 2;
SELECT count(cancel_order(order_id, 'done')) FROM orders WHERE customer_id LIKE 'n-%' AND status = 'pending';
-- many orders that cannot be settled, here by a rule of the user's, do not keep the others from it for ever
SELECT sync_vendor_stock('a', '[{"id": "r1", "quantity": 50, "price": 1}, {"id": "r2", "quantity": 5, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "r1", "quantity": 50, "price": 2}, {"id": "r2", "quantity": 5, "price": 2}]') -> 'new' AS new;
SELECT count(place_order('r1', '[{"productId": "r1", "quantity": 1}]')) FROM generate_series(1, 34);
SELECT place_order('r2', '[{"productId": "r2", "quantity": 1}]') AS order_id \gset
ALTER TABLE hold ADD CONSTRAINT none_of_r1 CHECK (product_id <> 'r1' OR status <> 'rejected');
SELECT sync_vendor_stock('a', '[{"id": "r1", "quantity": 0, "price": 1}, {"id": "r2", "quantity": 0, "price": 1}]') -> 'changed' AS changed;
\set VERBOSITY terse
SELECT settle_shortages();
UPDATE shortage SET tried_at = now() - interval '2 minutes';
SELECT settle_shortages();
\set VERBOSITY default
SELECT vendor_id, attempt, status FROM hold WHERE order_id = :order_id ORDER BY 2;
ALTER TABLE hold DROP CONSTRAINT none_of_r1;
SELECT count(cancel_order(order_id, 'done')) FROM orders WHERE customer_id IN ('r1', 'r2') AND status = 'pending';
SELECT * FROM check_consistency();
-- of two vendors the one whose shortage rejects decides
SELECT sync_vendor_stock('a', '[{"id": "v", "quantity": 5, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "v", "quantity": 5, "price": 2}]') -> 'new' AS new;
SELECT place_order('both', '[{"productId": "v", "quantity": 10}]') AS order_id \gset
SELECT sync_vendor_stock('a', '[{"id": "v", "quantity": 1, "price": 1}]') -> 'oversold' AS a, sync_vendor_stock('b', '[{"id": "v", "quantity": 1, "price": 2}]') -> 'oversold' AS b;
SELECT configure_vendor('a', on_shortage => 'reject');
SELECT settle_shortages();
SELECT status, close_reason FROM orders WHERE order_id = :order_id;
SELECT * FROM check_consistency();

-- an offer whose SKU is another product by now, or nothing that can be read, is not on sale any more
SELECT map_product('b', 'r-1', 'r');
SELECT sync_vendor_stock('b', '[{"id": "r-1", "quantity": 5, "price": 1}, {"id": "m", "quantity": 50, "price": 1}]') -> 'new' AS new;
SELECT map_product('b', 'r-1', 'r2'), map_product('b', 'm-1', 'm');
SELECT sync_vendor_stock('b', '[{"id": "r-1", "quantity": -5}, {"id": "m", "quantity": 0}]') -> 'skipped' AS skipped;
SELECT product_id, is_active FROM stock WHERE vendor_id = 'b' AND product_id IN ('r', 'r2', 'm') ORDER BY 1;

-- returns
SELECT confirm_order(:first), confirm_order(:second);
SELECT return_order(:first, '[{"productId": "s", "quantity": 1}]', true, 'key-1') AS return_id;
SELECT return_order(:first, '[{"productId": "s", "quantity": 1}]', true, 'key-1') AS the_same;
SELECT on_hand, reserved FROM stock WHERE product_id = 's' ORDER BY vendor_id;
SELECT return_order(:first, '[{"lineNo": 1, "vendorId": "a", "quantity": 1}]', false);
SELECT on_hand, reserved FROM stock WHERE product_id = 's' ORDER BY vendor_id;
SELECT return_order(:first, '[{"productId": "s", "quantity": 2}]');
SELECT return_order(:first);
SELECT return_order(:first);
SELECT return_order(:third);
SELECT return_order(999);
SELECT return_order(:first, '[]');
SELECT return_order(:first, '[{"quantity": 1}]');
SELECT return_order(:first, '[{"productId": "s"}]');
SELECT return_order(:first, '[{"productId": "s", "quantity": 1.5}]');
SELECT return_order(:first, '[{"productId": "s", "quantity": 1, "colour": "red"}]');
SELECT status, jsonb_path_query_array(returns::jsonb, '$[*].quantity') AS quantities, jsonb_path_query_array(returns::jsonb, '$[*].restocked') AS restocked FROM order_summary WHERE order_id = :first;
SELECT h->>'event' AS event, h->>'reason' AS reason FROM order_summary, json_array_elements(history) AS h WHERE order_id = :first;
SELECT routing_key, payload FROM outbox WHERE order_id = :first AND routing_key = 'order.returned' ORDER BY event_id LIMIT 1;
SELECT * FROM check_consistency();
-- each hold has its own account: of two lines, one of two vendors
SELECT sync_vendor_stock('a', '[{"id": "g", "quantity": 2, "price": 1}, {"id": "h", "quantity": 2, "price": 1}]') -> 'new' AS a, sync_vendor_stock('b', '[{"id": "g", "quantity": 2, "price": 2}]') -> 'new' AS b;
SELECT place_order('c', '[{"productId": "g", "quantity": 4}, {"productId": "h", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT return_order(:order_id, '[{"lineNo": 1, "vendorId": "b", "quantity": 1}]') > 0 AS returned;
SELECT return_order(:order_id, '[{"lineNo": 1, "vendorId": "b", "quantity": 2}]');
SELECT return_order(:order_id, '[{"lineNo": 2, "quantity": 1}]') > 0 AS returned;
SELECT return_order(:order_id, '[{"lineNo": 2, "quantity": 2}]');
SELECT return_order(:order_id) > 0 AS returned;
SELECT line_no, vendor_id, sum(quantity) AS returned FROM order_return WHERE order_id = :order_id GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM check_consistency();
-- each hold at its own price: the vendor took over units of the line at another one
SELECT sync_vendor_stock('a', '[{"id": "f", "quantity": 3, "price": 10}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "f", "quantity": 2, "price": 11}]') -> 'new' AS new;
SELECT place_order('c', '[{"productId": "f", "quantity": 5}]') AS order_id \gset
SELECT sync_vendor_stock('a', '[{"id": "f", "quantity": 6, "price": 15}]') -> 'changed' AS changed;
SELECT reject_order(:order_id, 'b', 'no'), confirm_order(:order_id);
SELECT total_amount FROM orders WHERE order_id = :order_id;
SELECT return_order(:order_id, '[{"productId": "f", "quantity": 4}]') IS NOT NULL AS returned;
SELECT payload->>'amount' AS amount FROM outbox WHERE routing_key = 'order.returned' AND order_id = :order_id;
SELECT * FROM check_consistency();
-- a vendor may answer for an attempt that is lost: what survived the loss has its next attempts elsewhere
SELECT register_vendor(v, v) FROM unnest('{later,last}'::text[]) AS v;
SELECT sync_vendor_stock(v, '[{"id": "survivor", "quantity": 9, "price": 1}]') IS NOT NULL AS stocked FROM unnest('{a,b,later,last}'::text[]) AS v;
SET order_aggregator.max_attempts = 3;
SELECT place_order('c', '[{"productId": "survivor", "quantity": 1}]') AS old \gset
BEGIN;
SELECT reject_order(:old, 'a', 'no');
SELECT vendor_id AS lost_vendor, attempt AS lost_attempt FROM hold WHERE order_id = :old AND status = 'open' \gset
ROLLBACK;
SELECT leave_order_ids();
SELECT reject_order(:old, 'a', 'no');
SELECT vendor_id = :'lost_vendor' AS same_vendor, :lost_attempt AS lost_attempt, attempt > 1000 AS is_elsewhere, attempt % 1000 AS number FROM hold WHERE order_id = :old AND status = 'open';
SELECT outcome, detail FROM apply_vendor_replies(jsonb_build_array(jsonb_build_object('orderId', :old, 'vendorId', :'lost_vendor', 'attempt', :lost_attempt, 'status', 'confirmed')));
SELECT payload->>'attempt' = h.attempt::text AS asked FROM outbox AS o JOIN hold AS h USING (order_id) WHERE order_id = :old AND h.status = 'open' AND routing_key = 'order.placed.' || h.vendor_id;
-- again, and each counts: the fourth would be one too many
SELECT leave_order_ids();
SELECT reject_order(:old, 'b', 'no');
SELECT attempt % 1000 AS number, attempt > lag(attempt) OVER (ORDER BY held_at, attempt) AS is_later, status FROM hold WHERE order_id = :old ORDER BY attempt;
SELECT reject_order(:old, vendor_id, 'no') FROM hold WHERE order_id = :old AND status = 'open';
SELECT status FROM orders WHERE order_id = :old;
-- an order of now counts from 1
SELECT place_order('c', '[{"productId": "survivor", "quantity": 1}]') AS new \gset
SELECT reject_order(:new, 'a', 'no');
SELECT attempt FROM hold WHERE order_id = :new ORDER BY 1;
RESET order_aggregator.max_attempts;
SELECT * FROM check_consistency();
-- a SKU that is mapped to another product: its units are the same, and what is held of them is not sold twice
SELECT sync_vendor_stock('later', '[{"id": "sku", "quantity": 10, "price": 1}]') ->> 'status' AS status;
SELECT place_order('c', '[{"productId": "sku", "quantity": 4}]') AS held, place_order('c', '[{"productId": "sku", "quantity": 1}]') AS shipped \gset
SELECT map_product('later', 'sku', 'other');
SELECT sync_vendor_stock('later', '[{"id": "sku", "quantity": 10, "price": 1}]', now()) ->> 'status' AS status;
SELECT product_id, on_hand, reserved, is_active FROM stock WHERE vendor_id = 'later' AND product_id IN ('sku', 'other') ORDER BY 1;
SELECT place_order('c', '[{"productId": "other", "quantity": 6}]');
SELECT confirm_order(:shipped);
SELECT sync_vendor_stock('later', '[{"id": "sku", "quantity": 9, "price": 1}]', now()) ->> 'status' AS status;
SELECT product_id, on_hand, reserved, is_active FROM stock WHERE vendor_id = 'later' AND product_id IN ('sku', 'other') ORDER BY 1;
SELECT cancel_order(:held, 'no');
SELECT sync_vendor_stock('later', '[{"id": "sku", "quantity": 9, "price": 1}]', now()) ->> 'status' AS status;
SELECT product_id, on_hand, reserved, is_active FROM stock WHERE vendor_id = 'later' AND product_id IN ('sku', 'other') ORDER BY 1;
SELECT sync_vendor_stock('later', '[{"id": "sku", "quantity": 9, "price": 1}]', now()) ->> 'changed' AS changed;
SELECT * FROM check_consistency();
-- two that are swapped: neither is sold before nothing is held as the other, and what was confirmed is counted
SELECT map_products('later', '[{"vendorSku": "a1", "productId": "swap1"}, {"vendorSku": "a2", "productId": "swap2"}]');
SELECT sync_vendor_stock('later', '[{"id": "a1", "quantity": 10, "price": 1}, {"id": "a2", "quantity": 20, "price": 1}]', now()) ->> 'status' AS status;
SELECT place_order('c', '[{"productId": "swap1", "quantity": 4}]') AS held1, place_order('c', '[{"productId": "swap2", "quantity": 5}]') AS held2 \gset
SELECT map_products('later', '[{"vendorSku": "a1", "productId": "swap2"}, {"vendorSku": "a2", "productId": "swap1"}]');
CREATE FUNCTION swapped(a1 int, a2 int, counted_at timestamptz DEFAULT now()) RETURNS TABLE (product_id text, vendor_sku text, on_hand bigint, reserved bigint, is_active boolean, rules jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	result jsonb := sync_vendor_stock('later', jsonb_build_array(jsonb_build_object('id', 'a1', 'quantity', a1), jsonb_build_object('id', 'a2', 'quantity', a2)), counted_at);
BEGIN
	RETURN QUERY SELECT s.product_id, s.vendor_sku, s.on_hand, s.reserved, s.is_active, result -> 'rules' FROM stock AS s WHERE s.vendor_id = 'later' AND s.product_id LIKE 'swap%' ORDER BY 1;
END
$$;
SELECT * FROM swapped(10, 20);
SELECT place_order('c', '[{"productId": "swap1", "quantity": 1}]');
-- one is free: it takes its new SKU, of which units are held as the other
SELECT cancel_order(:held1, 'no');
SELECT * FROM swapped(10, 20);
SELECT place_order('c', '[{"productId": "swap1", "quantity": 16}]');
-- the other one's are confirmed, and the vendor has counted before that
SELECT now() AS before \gset
SELECT confirm_order(:held2);
SELECT * FROM swapped(10, 20, :'before');
SELECT * FROM swapped(10, 15);
SELECT * FROM swapped(10, 15);
-- another name for what nobody else has got
SELECT place_order('c', '[{"productId": "swap1", "quantity": 1}]') AS held1 \gset
SELECT map_products('later', '[{"vendorSku": "a2", "productId": null}, {"vendorSku": "a3", "productId": "swap1"}]');
SELECT sync_vendor_stock('later', '[{"id": "a3", "quantity": 15}]', now()) -> 'rules' AS rules;
SELECT vendor_sku, on_hand, reserved, is_active FROM stock WHERE vendor_id = 'later' AND product_id = 'swap1';
-- unmapped, and in the same feed: it is a product of its own
SELECT map_products('later', '[{"vendorSku": "a3", "productId": null}, {"vendorSku": "a4", "productId": "swap1"}]');
SELECT sync_vendor_stock('later', '[{"id": "a3", "quantity": 15}, {"id": "a4", "quantity": 7}]', now()) -> 'rules' AS rules;
SELECT product_id, vendor_sku, on_hand, reserved, is_active FROM stock WHERE vendor_id = 'later' AND product_id IN ('a3', 'swap1') ORDER BY 1;
SELECT * FROM check_consistency();
-- more came back than was sold: reported
UPDATE order_return SET quantity = 100 WHERE order_id = :first AND return_id = 1;
SELECT problem, subject FROM check_consistency();
-- a limit that the search can keep to
SET order_aggregator.max_vendors_per_order = 257;
SET order_aggregator.max_vendors_per_order = 256;
SELECT count(register_vendor('many' || i, 'Many')) FROM generate_series(1, 300) AS i;
SELECT count(sync_vendor_stock('many' || i, '[{"id": "many", "quantity": 1, "price": 1}]')) FROM generate_series(1, 300) AS i;
BEGIN;
SELECT place_order('c', '[{"productId": "many", "quantity": 257}]');
ROLLBACK;
SELECT place_order('c', '[{"productId": "many", "quantity": 256}]') AS order_id \gset
SELECT count(DISTINCT vendor_id) FROM hold WHERE order_id = :order_id;
RESET order_aggregator.max_vendors_per_order;
-- without one as many as it takes, though more are not compared
SELECT cancel_order(:order_id, 'more of it');
SELECT place_order('c', '[{"productId": "many", "quantity": 290}]', strategy => 'fewest_vendors') AS order_id \gset
SELECT count(DISTINCT vendor_id) FROM hold WHERE order_id = :order_id;
