-- place_order: stock is locked, lines are split, amounts are exact, events are written
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "name": "The X", "quantity": 5, "price": 1299.99}, {"id": "y", "quantity": 10, "price": 0.1}]') - 'asOf' AS synced;
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 7, "price": 1300}, {"id": "z", "quantity": 1, "price": "2.5000"}]') - 'asOf' AS synced;
SELECT place_order('Customer Beta', '[{"productId": "x", "quantity": 2}, {"vendorProductId": "y", "quantity": 3}]');
SELECT place_order(NULL, '[{"productId": "x", "quantity": 8}]');  -- 3 of a, 5 of b
SELECT place_order('c', '[{"productId": "z", "quantity": 1}]', hold_for => '2 hours', strategy => 'priority');
SELECT order_id, customer_id, status, total_amount, strategy, expires_at - placed_at AS held_for FROM orders ORDER BY 1;
SELECT order_id, line_no, product_id, quantity FROM order_line ORDER BY 1, 2;
SELECT order_id, line_no, vendor_id, attempt, product_id, quantity, unit_price, status FROM hold ORDER BY 1, 2, 3;
SELECT product_id, vendor_id, on_hand, reserved, available FROM vendor_offer ORDER BY 1, 2;
SELECT product_id, available, on_hand, reserved, lowest_price, vendors FROM product_stock ORDER BY 1;
SELECT event_id, order_id, routing_key, mandatory, headers, (payload::jsonb - 'placedAt' - 'expiresAt') AS payload FROM outbox WHERE order_id IS NOT NULL ORDER BY 1;
SELECT payload->>'placedAt' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$' AS utc, message_id::text ~ '^.{14}7' AS uuid_version_7 FROM outbox WHERE order_id = 1;
-- lines of one product are added up before the stock is looked at
SELECT place_order('c', '[{"productId": "y", "quantity": 4}, {"productId": "y", "quantity": 4}]');
SELECT place_order('c', '[{"productId": "y", "quantity": 3}, {"productId": "y", "quantity": 4}]');
SELECT order_id, line_no, product_id, quantity FROM order_line WHERE order_id > 3;
-- partial orders
SELECT place_order('c', '[{"productId": "x", "quantity": 100}]', allow_partial => true);
SELECT o.status, o.total_amount, l.quantity, sum(h.quantity) AS held FROM orders o JOIN order_line l USING (order_id) JOIN hold h USING (order_id) WHERE allow_partial GROUP BY 1, 2, 3;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]', allow_partial => true);
-- the trace context goes along
SET order_aggregator.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 50, "price": 1}]') IS NOT NULL AS synced;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT headers FROM outbox WHERE headers IS NOT NULL;
-- who is chosen as vendor of all may be another than the first at that price: only its stock is touched
SELECT FROM register_vendor('u', 'U', priority => 300);
SELECT FROM register_vendor('t', 'T', priority => 400);
SELECT sync_vendor_stock(v, '[{"id": "two", "quantity": 10, "price": 5}]') IS NOT NULL AS synced FROM unnest('{u,t}'::text[]) AS v;
BEGIN;
SELECT place_order('c', '[{"productId": "two", "quantity": 1}]', strategy => 'fewest_vendors') IS NOT NULL AS placed;
SELECT s.vendor_id, s.xmin = pg_current_xact_id()::xid AS is_touched, s.reserved FROM stock AS s WHERE product_id = 'two' ORDER BY 1;
ROLLBACK;
BEGIN;
SET LOCAL order_aggregator.max_vendors_per_order = 1;
SELECT place_order('c', '[{"productId": "two", "quantity": 1}]') IS NOT NULL AS placed;
SELECT s.vendor_id, s.xmin = pg_current_xact_id()::xid AS is_touched, s.reserved FROM stock AS s WHERE product_id = 'two' ORDER BY 1;
ROLLBACK;
-- a column added to a table is null in what is placed
ALTER TABLE orders ADD COLUMN note text;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT count(*), count(note) FROM orders;
-- indexes of a user's own, of those that keep something from row to row too
CREATE INDEX orders_when ON orders USING brin (placed_at);
CREATE INDEX lines_by_product ON order_line USING hash (product_id);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 3);
SELECT count(*) FROM place_orders('[{"productId": "x", "quantity": 1}, {"productId": "x", "quantity": 1}]');
SELECT cancel_order(max(order_id), 'test') FROM orders;
SET enable_seqscan = off;
SELECT count(*) FROM orders WHERE placed_at > '2000-01-01';
SELECT count(*) FROM order_line WHERE product_id = 'x';
RESET enable_seqscan;
SELECT * FROM check_consistency();
-- ids that were given to orders which are gone: the next ones begin elsewhere, each time
SELECT leave_order_ids();
WITH placed AS (SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') AS id)
SELECT id % 1000000000 AS first, id / 1000000000 BETWEEN 1 AND 20000 AS is_ahead FROM placed;
SELECT leave_order_ids();
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') > max(order_id) + 500000000 AS is_ahead FROM orders;
SELECT * FROM check_consistency();
