-- check_consistency() reports a row tampered with
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS synced;
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]', 'key-1');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT confirm_order(2);
SELECT * FROM check_consistency();
BEGIN; UPDATE stock SET reserved = reserved + 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE hold SET quantity = 3 WHERE order_id = 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE orders SET total_amount = 1 WHERE order_id = 2; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE order_line SET quantity = 3 WHERE order_id = 2; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE order_line SET product_id = 'y' WHERE order_id = 2; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; DELETE FROM hold WHERE order_id = 2; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; DELETE FROM orders WHERE order_id = 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; DELETE FROM outbox WHERE routing_key = 'order.confirmed'; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; DELETE FROM outbox WHERE order_id = 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE hold SET status = 'confirmed', settled_at = now() WHERE order_id = 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; DELETE FROM stock; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE idempotency SET order_id = 77; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; INSERT INTO idempotency (key, request_hash, order_id) VALUES ('key-2', 1, 1); SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; UPDATE orders SET expires_at = '2020-01-01' WHERE order_id = 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; ALTER TABLE orders DISABLE TRIGGER ALL; UPDATE orders SET status = 'expired', closed_at = now() WHERE order_id = 2; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; ALTER TABLE orders DISABLE TRIGGER ALL; UPDATE orders SET status = 'pending', closed_at = NULL WHERE order_id = 2; SELECT * FROM check_consistency(); ROLLBACK;
SELECT * FROM check_consistency();
-- what refers to a vendor that is gone
BEGIN; INSERT INTO product_map (vendor_id, vendor_sku, product_id) VALUES ('nobody', 's', 'x'); SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; INSERT INTO feed_sync (vendor_id, as_of, status) VALUES ('nobody', now(), 'failed'); SELECT problem FROM check_consistency(); ROLLBACK;
-- what there is without its order, line or event, and what there is twice
BEGIN; DELETE FROM order_line WHERE order_id = 1; SELECT * FROM check_consistency(); ROLLBACK;
BEGIN; DELETE FROM order_line WHERE order_id = 2; DELETE FROM orders WHERE order_id = 2; SELECT problem, subject FROM check_consistency(); ROLLBACK;
BEGIN; INSERT INTO outbox SELECT event_id + 1000, txid, message_id, order_id, routing_key, mandatory, headers, payload, created_at FROM outbox WHERE routing_key = 'order.confirmed'; SELECT problem, subject, detail FROM check_orders(); ROLLBACK;
BEGIN; ALTER TABLE outbox_0 DISABLE TRIGGER ALL; UPDATE outbox_0 SET routing_key = 'order.placed.b' WHERE order_id = 1; SELECT * FROM check_orders(); ROLLBACK;
BEGIN; ALTER TABLE outbox_0 DISABLE TRIGGER ALL; UPDATE outbox_0 SET order_id = 99 WHERE order_id = 1; SELECT * FROM check_orders(); ROLLBACK;
BEGIN; ALTER TABLE outbox_0 DISABLE TRIGGER ALL; UPDATE outbox_0 SET headers = '{"x-again": "redrive"}' WHERE order_id = 1; SELECT * FROM check_orders(); ROLLBACK;
BEGIN; UPDATE hold SET vendor_id = 'b' WHERE order_id = 2; SELECT problem, subject FROM check_orders(); ROLLBACK;
BEGIN; UPDATE hold SET unit_price = 2.5 WHERE order_id = 2; SELECT * FROM check_orders(); ROLLBACK;
BEGIN; UPDATE hold SET line_no = 2 WHERE order_id = 2; SELECT problem, subject FROM check_orders(); ROLLBACK;
BEGIN; ALTER TABLE orders DISABLE TRIGGER ALL; ALTER TABLE orders DROP CONSTRAINT orders_status_check; UPDATE orders SET status = 'lost', closed_at = now() WHERE order_id = 1; SELECT problem, subject FROM check_orders(); ROLLBACK;
-- the largest number that a line can have
BEGIN; UPDATE order_line SET line_no = 2147483647 WHERE order_id = 1; SELECT problem, subject FROM check_orders(); ROLLBACK;
BEGIN; UPDATE hold SET line_no = 2147483647 WHERE order_id = 1; SELECT problem, subject FROM check_orders(); ROLLBACK;
BEGIN; UPDATE order_line SET line_no = 2147483647 WHERE order_id = 1; UPDATE hold SET line_no = 2147483647 WHERE order_id = 1; SELECT problem, subject FROM check_orders(); ROLLBACK;
-- some orders only, and how far they are read is not what decides
BEGIN;
UPDATE orders SET total_amount = 1 WHERE order_id = 2;
SELECT subject FROM check_orders(1, 1);
SELECT subject FROM check_orders(2, 2);
SELECT subject FROM check_orders(3, NULL);
SELECT subject FROM check_orders(NULL, 2);
SELECT subject FROM check_orders(2, 9223372036854775807);
SELECT subject FROM check_orders(-9223372036854775808, 1);
ROLLBACK;
-- events that were dropped with their partitions are not missed
BEGIN; INSERT INTO relay_checkpoint (snapshot, system_identifier, dropped_until) VALUES (pg_current_snapshot(), 1, now()); DELETE FROM outbox; SELECT * FROM check_orders(); ROLLBACK;
BEGIN; INSERT INTO relay_checkpoint (snapshot, system_identifier, dropped_until) VALUES (pg_current_snapshot(), 1, '2000-01-01'); DELETE FROM outbox WHERE order_id = 1; SELECT problem, subject FROM check_orders(); ROLLBACK;
-- totals larger than any price
BEGIN; UPDATE stock SET price = 99999999999, on_hand = 1000000; SELECT place_order('c', '[{"productId": "x", "quantity": 1000}]') > 0 AS placed; SELECT * FROM check_consistency(); ROLLBACK;
SELECT * FROM check_consistency();
-- the stock alone; it goes by what pending orders hold
SELECT * FROM check_stock();
BEGIN; UPDATE stock SET reserved = reserved + 1; SELECT * FROM check_stock(); ROLLBACK;
BEGIN; UPDATE hold SET quantity = 3 WHERE order_id = 1; SELECT * FROM check_stock(); ROLLBACK;
BEGIN; ALTER TABLE orders DISABLE TRIGGER ALL; UPDATE orders SET status = 'confirmed', closed_at = now() WHERE order_id = 1; SELECT * FROM check_stock(); SELECT problem, subject FROM check_consistency(); ROLLBACK;
-- the events of recent orders are looked for in the newest partitions, and further back while any is missing
BEGIN;
SELECT setval('event_id_seq', 9 * 1048576);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') AS order_id \gset
SELECT setval('event_id_seq', 10 * 1048576);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') - :order_id AS next;
INSERT INTO outbox SELECT event_id + 1, txid, message_id, order_id + 1, routing_key || 'x', mandatory, headers, payload, created_at FROM outbox WHERE order_id = :order_id;
SELECT confirm_order(1);
SELECT tableoid::regclass AS partition, event_id, order_id - :order_id AS nth, routing_key FROM outbox WHERE event_id > 1048576 ORDER BY event_id;
SELECT problem, detail FROM check_orders(:order_id + 1, NULL);
SELECT problem, detail FROM check_orders(:order_id, NULL);
SELECT problem, detail FROM check_orders(1, 1);
SELECT problem, detail FROM check_orders();
ROLLBACK;
-- the whole check reads what is older than all that there has to be
SET client_min_messages = warning;
DROP EXTENSION order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SELECT register_vendor('a', 'Vendor A');
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS synced;
SELECT publish_event('mine', '{}');
INSERT INTO outbox SELECT event_id + 1, txid, message_id, 1, 'order.placed.b', mandatory, headers, payload, created_at FROM outbox WHERE routing_key = 'mine';
SELECT setval('event_id_seq', 1048576);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT problem, subject, detail FROM check_orders(1, NULL);
SELECT problem, subject, detail FROM check_orders();
-- what was held after the events were dropped is looked at, whenever its order was placed
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 100000, "price": 2}]') IS NOT NULL AS a;
SELECT register_vendor('b', 'Vendor B') IS NOT NULL AS b;
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 100000, "price": 3}]') IS NOT NULL AS b;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') AS older \gset
INSERT INTO relay_checkpoint (snapshot, system_identifier, dropped_until) SELECT '3:3:', system_identifier, clock_timestamp() FROM pg_control_system();
SELECT reject_order(:older, 'a', 'no');
SELECT problem, detail FROM check_orders(:older, NULL);
BEGIN;
DELETE FROM outbox WHERE order_id = :older AND routing_key = 'order.placed.a';
SELECT problem, detail FROM check_orders(:older, NULL);
DELETE FROM outbox WHERE order_id = :older AND routing_key = 'order.placed.b';
SELECT problem, detail FROM check_orders(:older, NULL);
ROLLBACK;
-- so many that not each of them is looked at
SELECT count(order_id) FROM place_orders((SELECT jsonb_agg(jsonb_build_object('productId', 'x', 'quantity', 1)) FROM generate_series(1, 6000)));
SELECT count(order_id) FROM place_orders((SELECT jsonb_agg(jsonb_build_object('productId', 'x', 'quantity', 1)) FROM generate_series(1, 6000)));
SELECT problem, detail FROM check_orders(:older, NULL);
DELETE FROM outbox WHERE order_id > :older;
SELECT problem, count(*) FROM check_orders(:older, NULL) GROUP BY 1 ORDER BY 2;
