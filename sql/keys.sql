-- one key, one outcome: also of what is done to an order
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A');
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS a;
SELECT place_order('c', '[{"productId": "x", "quantity": 3}]', 'order') FROM generate_series(1, 2);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') FROM generate_series(1, 2);
-- cancelled once
SELECT cancel_order_once(3, 'no need', 'cancel'), cancel_order_once(3, 'no need', 'cancel');
SELECT cancel_order_once(3, 'other words', 'cancel');
SELECT cancel_order_once(4, 'no need', 'cancel');
SELECT cancel_order_once(4, 'no need', 'order');
SELECT cancel_order_once(3, 'no need', 'another');
SELECT cancel_order_once(4, 'no need', NULL);
SELECT cancel_order_once(4, 'no need', '');
-- a refusal keeps nothing under its key
SELECT key, action, order_id FROM idempotency ORDER BY key;
-- taken back once
SELECT confirm_order(1);
SELECT return_order(1, '[{"productId": "x", "quantity": 1}]', true, 'return'), return_order(1, '[{"quantity": 1, "productId": "x"}]', true, 'return');
SELECT return_order(1, '[{"productId": "x", "quantity": 2}]', true, 'return');
SELECT return_order(1, '[{"productId": "x", "quantity": 1}]', false, 'return');
SELECT return_order(1, NULL, true, 'cancel');
SELECT return_order(1, NULL, true, 'rest'), return_order(1, NULL, true, 'rest');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]', 'return');
SELECT request_no, order_id, error->>'code' AS code FROM place_orders('[{"productId": "x", "quantity": 1, "idempotencyKey": "rest"}, {"productId": "x", "quantity": 1}]');
SELECT on_hand, reserved FROM stock;
-- a key of a return that is older than what is kept of keys still finds it
DELETE FROM idempotency;
SELECT return_order(1, '[{"productId": "x", "quantity": 2}]', true, 'return');
SELECT return_order(1, '[{"productId": "x", "quantity": 1}]', false, 'return');
SELECT return_order(1, NULL, true, 'return');
SELECT return_order(1, '[{"productId": "x", "quantity": 1}]', true, 'return');
SELECT return_order(1, NULL, true, 'rest');
SELECT * FROM check_consistency();
