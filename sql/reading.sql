-- what GET /order/{id} and GET /products/{id} show is what the views show
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SET timezone = 'Asia/Kathmandu';
SELECT register_vendor('a', 'A "q"', NULL, 1), register_vendor('b', 'B', NULL, 2), register_vendor('c', 'C', NULL, 3);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 100, "price": 2.5, "name": "X \"é\" \\ "}, {"id": "y", "quantity": 5, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 50, "price": 1.25}, {"id": "y", "quantity": 3}, {"id": "z", "quantity": 0, "price": 1}]') -> 'new' AS new;
SELECT sync_vendor_stock('c', '[{"id": "v", "quantity": 9, "price": 1}, {"id": "{\"w\\,}", "quantity": 9, "price": 0.0001}, {"id": "NULL", "quantity": 9, "price": 1}]') -> 'new' AS new;
SELECT configure_product('x', lanes => 3), configure_product('y', buffer => 1), configure_vendor('c', is_active => false);
SELECT place_order('c "1"', '[{"productId": "x", "quantity": 60}, {"productId": "y", "quantity": 6}]');
SELECT place_order(NULL, '[{"productId": "x", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 3}]', hold_for => '1 microsecond');
SELECT confirm_order(1);
SELECT return_order(1, '[{"productId": "x", "quantity": 3}, {"productId": "y", "quantity": 2}]');
SELECT return_order(1, '[{"productId": "x", "quantity": 1}]', false);
SELECT cancel_order(2, 'why "not"');
SELECT reject_order(3, 'b', 'sold out');
SELECT expire_orders();
INSERT INTO vendor_retry SELECT order_id, vendor_id, attempt, held_at + interval '1 second' * n FROM hold, generate_series(1, 2) AS n WHERE status = 'open';

CREATE TEMP VIEW order_view AS SELECT order_id, json_build_object('id', order_id, 'status', status, 'totalAmount', total_amount::text, 'customerId', customer_id,
	'placedAt', placed_at, 'expiresAt', expires_at, 'closedAt', closed_at, 'reason', close_reason, 'lines', lines, 'holds', holds, 'returns', returns,
	'history', history)::jsonb AS document FROM order_summary;
CREATE TEMP VIEW product_view AS SELECT p.product_id, json_build_object('id', p.product_id, 'name', p.product_name, 'available', p.available,
	'onHand', p.on_hand, 'reserved', p.reserved, 'lowestPrice', p.lowest_price::text, 'offers', (SELECT json_agg(json_build_object(
		'vendorId', o.vendor_id, 'price', o.price::text, 'isPriced', o.is_priced, 'confirmedAt', o.confirmed_at, 'available', o.available,
		'onHand', o.on_hand, 'reserved', o.reserved, 'isActive', o.is_active) ORDER BY o.vendor_id)
	FROM vendor_offer AS o WHERE o.product_id = p.product_id))::jsonb AS document FROM product_stock AS p;
SELECT order_id, v.document ->> 'status' AS status, jsonb_array_length(v.document -> 'history') AS happenings, d.document::jsonb = v.document AS same
FROM order_view AS v LEFT JOIN order_documents(ARRAY(SELECT order_id FROM orders ORDER BY 1)) AS d ON d.request_no = v.order_id ORDER BY 1;
SELECT product_id, v.document ->> 'available' AS available, v.document ->> 'lowestPrice' AS price, d.document::jsonb = v.document AS same
FROM product_view AS v LEFT JOIN (SELECT product_id, row_number() OVER (ORDER BY product_id) AS n FROM product) AS p USING (product_id)
LEFT JOIN product_documents(ARRAY(SELECT product_id FROM product ORDER BY 1)) AS d ON d.request_no = p.n ORDER BY 1;
-- the setting, and a feed that is too old, count too
SET order_aggregator.sell_unpriced = off;
UPDATE vendor SET stale_at = now() - interval '1 second' WHERE vendor_id = 'a';
SELECT product_id, d.document::jsonb = v.document AS same, d.document ->> 'available' AS available
FROM product_view AS v, product_documents(ARRAY[v.product_id]) AS d ORDER BY 1;
RESET order_aggregator.sell_unpriced;

-- each that there is, by its place; twice if it is asked for twice
SELECT request_no, document ->> 'id' AS id FROM order_documents(ARRAY[9, 1, NULL, -1, 2, 1, 0]);
SELECT request_no, document ->> 'id' AS id FROM product_documents(ARRAY['nothing', 'x', NULL, '', 'x']);
SELECT count(*) FROM order_documents('{}');
SELECT count(*) FROM order_documents(NULL);
-- not on somebody's lock
BEGIN READ ONLY;
SELECT count(*) FROM order_documents('{1,2}'), product_documents('{x}');
COMMIT;
-- in the state of the statement's snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT document ->> 'status' AS status FROM order_documents('{4}');
SELECT cancel_order(4, 'here');
SELECT document ->> 'status' AS status FROM order_documents('{4}');
ROLLBACK;
-- past index entries of rows that are dead, many times
SELECT count(*) FROM (SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') FROM generate_series(1, 20)) AS o;
DO $$ DECLARE id record; BEGIN FOR id IN SELECT order_id FROM order_aggregator.orders WHERE status = 'pending' LOOP PERFORM order_aggregator.cancel_order(id.order_id, 'no'); COMMIT; END LOOP; END $$;
SELECT count(*), sum(length(document::text)) > 0 AS full FROM generate_series(1, 30) AS n, LATERAL order_documents(ARRAY(SELECT g + n * 0 FROM generate_series(1, 30) AS g));
SELECT count(*), sum(length(document::text)) > 0 AS full FROM generate_series(1, 30) AS n, LATERAL product_documents(ARRAY(SELECT 'x' FROM generate_series(1, 30) AS g WHERE n > 0));
DROP VIEW order_view, product_view;
DROP EXTENSION order_aggregator;
