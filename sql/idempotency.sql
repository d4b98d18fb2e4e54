-- a key has one outcome, also if it is a refusal
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS synced;
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]', 'key-1');
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]', 'key-1');
SELECT place_order('c', '[{"productId": "x", "quantity": 3}]', 'key-1');
SELECT reserved FROM stock;
-- through place_orders: the same answer, the refusal kept too
SELECT order_id, status, total_amount, error FROM place_orders('[{"customerId": "c", "products": [{"productId": "x", "quantity": 2}], "idempotencyKey": "key-1"}, {"productId": "x", "quantity": 100, "idempotencyKey": "key-2"}, {"productId": "x", "quantity": 100, "idempotencyKey": "key-2"}, {"productId": "x", "quantity": 1, "idempotencyKey": "key-2"}]');
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 1000, "price": 2}]') IS NOT NULL AS synced;
SELECT order_id, error->>'message' AS message FROM place_orders('[{"productId": "x", "quantity": 100, "idempotencyKey": "key-2"}]');
SELECT place_order(NULL, '[{"productId": "x", "quantity": 100}]', 'key-2');
-- the answer of an order that has gone on since is the first one
SELECT confirm_order(1);
SELECT document->>'status' AS status, document->>'totalAmount' AS total FROM place_order_documents('[{"customerId": "c", "products": [{"productId": "x", "quantity": 2}], "idempotencyKey": "key-1"}]');
-- also that of a line that was split
SELECT register_vendor('z', 'Z'), sync_vendor_stock('b', '[{"id": "w", "quantity": 2, "price": 3}]') IS NOT NULL AS b, sync_vendor_stock('a', '[{"id": "x", "quantity": 1000, "price": 2}, {"id": "w", "quantity": 2, "price": 5}]') IS NOT NULL AS a;
CREATE TEMP TABLE answers AS SELECT 1 AS n, document::text FROM place_order_documents('[{"productId": "w", "quantity": 4, "idempotencyKey": "split"}]');
INSERT INTO answers SELECT 2, document::text FROM place_order_documents('[{"productId": "w", "quantity": 4, "idempotencyKey": "split"}]');
SELECT count(*), count(DISTINCT document) FROM answers;
-- settings that change do not make it another request
SET order_aggregator.strategy = 'priority';
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]', 'key-1');
-- malformed requests claim nothing
SELECT error->>'field' AS field FROM place_orders('[{"productId": "x", "quantity": -1, "idempotencyKey": "key-3"}]');
-- nor do refusals that the caller does not want kept, beside one that is
SELECT error->>'message' AS message FROM place_orders('[{"productId": "x", "quantity": 9000, "idempotencyKey": "key-4", "dropRefusal": true}, {"productId": "x", "quantity": 9000, "idempotencyKey": "key-5"}, {"productId": "x", "quantity": 9000, "idempotencyKey": "key-6", "dropRefusal": true}]');
SELECT key, order_id, error IS NOT NULL AS refused FROM idempotency ORDER BY key;
SELECT forget_idempotency_keys('0 seconds');
SELECT * FROM check_consistency();
-- an order that somebody has deleted fails its own request, and no other
BEGIN;
SELECT count(order_id) FROM place_orders('[{"productId": "x", "quantity": 1, "idempotencyKey": "gone"}]');
DELETE FROM hold USING idempotency AS i WHERE i.key = 'gone' AND hold.order_id = i.order_id;
DELETE FROM order_line USING idempotency AS i WHERE i.key = 'gone' AND order_line.order_id = i.order_id;
DELETE FROM orders USING idempotency AS i WHERE i.key = 'gone' AND orders.order_id = i.order_id;
SELECT order_id IS NOT NULL AS placed, error->>'code' AS code, error->>'field' AS field, error->>'message' LIKE 'order % does not exist any more' AS says_why
FROM place_orders('[{"productId": "x", "quantity": 1, "idempotencyKey": "gone"}, {"productId": "x", "quantity": 1}, {"productId": "x", "quantity": 1, "idempotencyKey": "gone"}]');
ROLLBACK;
