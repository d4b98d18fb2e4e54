-- place_orders: many requests, one transaction, each with its own outcome
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}, {"id": "y", "quantity": 3, "price": 3}]') IS NOT NULL AS synced;
SELECT * FROM place_orders('[
  {"customerId": "one", "products": [{"productId": "x", "quantity": 4}]},
  {"customerId": "two", "products": [{"productId": "x", "quantity": 4}, {"productId": "y", "quantity": 4}]},
  {"customerId": "three", "products": [{"productId": "nowhere", "quantity": 1}]},
  {"productId": "x", "quantity": 6},
  {"productId": "x", "quantity": 1},
  {"products": []},
  "not an object",
  {"productId": "y", "quantity": 3, "customerId": null, "strategy": "most_stock", "holdFor": "1 hour", "allowPartial": false}]');
SELECT product_id, on_hand, reserved FROM stock ORDER BY 1;
SELECT count(*) FROM orders;
SELECT * FROM place_orders('[]');
-- one stock row is written once, however many orders want it
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 2000, "price": 2}]') IS NOT NULL AS synced;
BEGIN;
SELECT n_tup_upd AS before FROM pg_stat_xact_user_tables WHERE relid = 'stock'::regclass \gset
SELECT count(*) FILTER (WHERE error IS NULL) AS placed, count(error) AS refused FROM place_orders((SELECT jsonb_agg(jsonb_build_object('productId', 'x', 'quantity', 1)) FROM generate_series(1, 2500)));
SELECT n_tup_upd - :before AS updates FROM pg_stat_xact_user_tables WHERE relid = 'stock'::regclass;
COMMIT;
-- many placements in one transaction: stock updates that find no room on their page go to another, with their index entries
SELECT count(place_order('c', '[{"productId": "big", "quantity": 1}]')) FROM sync_vendor_stock('b', '[{"id": "big", "quantity": 1000, "price": 1}]'), generate_series(1, 300);
SELECT on_hand, reserved FROM stock WHERE product_id = 'big';
SET enable_seqscan = off;
SELECT on_hand, reserved FROM stock WHERE product_id = 'big';
RESET enable_seqscan;
-- five strategies
SELECT register_vendor('c', 'Vendor C', NULL, 5);
SELECT sync_vendor_stock('a', '[{"id": "m", "quantity": 5, "price": 1}, {"id": "n", "quantity": 5, "price": 3}]') IS NOT NULL AS a,
       sync_vendor_stock('b', '[{"id": "m", "quantity": 20, "price": 2}, {"id": "n", "quantity": 20, "price": 2}]') IS NOT NULL AS b,
       sync_vendor_stock('c', '[{"id": "m", "quantity": 6, "price": 3}]') IS NOT NULL AS c;
CREATE TEMP TABLE placed AS
SELECT s, n, order_id FROM unnest(ARRAY['cheapest', 'single_vendor', 'priority', 'most_stock', 'fewest_vendors']) WITH ORDINALITY AS s(s, n),
	place_orders(jsonb_build_array(jsonb_build_object('strategy', s, 'products', '[{"productId": "m", "quantity": 2}, {"productId": "n", "quantity": 1}]'::jsonb)));
SELECT s, array_agg(h.vendor_id || ':' || h.product_id || ':' || h.quantity ORDER BY h.line_no, h.vendor_id) AS holds
FROM placed JOIN hold h USING (order_id) GROUP BY s, n ORDER BY n;
SELECT error->>'message' AS message, error->>'hint' AS hint FROM place_orders('[{"productId": "n", "quantity": 22, "strategy": "single_vendor"}]');
SELECT * FROM check_consistency();
-- a product that nobody offers any more is known all the same
SELECT sync_vendor_stock('a', '[{"id": "left", "quantity": 5, "price": 1}]') ->> 'status' AS status;
SELECT map_product('a', 'left', 'right');
SELECT sync_vendor_stock('a', '[{"id": "left", "quantity": 5, "price": 1}]') ->> 'status' AS status;
SELECT product_id, vendor_id, on_hand, is_active FROM stock WHERE product_id IN ('left', 'right') ORDER BY 1;
PREPARE wanted AS SELECT request_no, error ->> 'code' AS code, error ->> 'message' AS message
FROM place_orders('[{"productId": "left", "quantity": 1}, {"productId": "nowhere", "quantity": 1}, {"productId": "right", "quantity": 1},
                    {"products": [{"productId": "right", "quantity": 2}, {"productId": "left", "quantity": 1}]}]');
EXECUTE wanted;
DELETE FROM stock WHERE product_id = 'left';
EXECUTE wanted;
-- an error names the line and the field as they were given
SELECT error ->> 'field' AS field FROM place_orders('[{"products": [{"productId": "right", "quantity": 1}, {"productId": "right", "quantity": 1}, {"productId": "nowhere", "quantity": 1}]},
    {"products": [{"vendorProductId": "nowhere", "quantity": 1}]}, {"vendorProductId": "nowhere", "quantity": 1}, {"productId": "nowhere", "quantity": 1}]');
SELECT * FROM check_consistency();
