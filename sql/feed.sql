-- feeds: counts, holds, units confirmed since, bad items
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "name": "X", "quantity": 10, "price": 2}, {"id": "y", "quantity": 4, "price": 1.5, "colour": "red"}]', '2026-01-01 10:00Z') AS synced;
-- the other shape has no price: it stays
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 12}]', '2026-01-01 10:01Z') AS synced;
SELECT product_id, price, on_hand, reserved, is_active FROM stock ORDER BY 1;
-- an older feed is ignored; the same one again changes nothing
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 99}]', '2026-01-01 10:00Z') ->> 'status' AS status;
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 12}]', '2026-01-01 10:01Z') -> 'changed' AS changed;
-- held units stay reserved; units confirmed after the feed was taken are subtracted from it
SELECT place_order('c', '[{"productId": "x", "quantity": 5}]'), place_order('c', '[{"productId": "x", "quantity": 2}]');
SELECT confirm_order(2);
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 12}]', '2026-01-01 10:02Z') -> 'changed' AS changed;
SELECT on_hand, reserved FROM stock WHERE product_id = 'x';
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 11}]', '2026-01-01 10:03Z') -> 'changed' AS changed;
SELECT on_hand, reserved FROM stock WHERE product_id = 'x';
-- a feed taken after the confirmation has them subtracted already
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 10}]') -> 'changed' AS changed;
SELECT on_hand, reserved FROM stock WHERE product_id = 'x';
-- fewer than are held: oversold by so many
SELECT sync_vendor_stock('a', '[{"productId": "x", "stock": 3}]') -> 'oversold' AS oversold;
SELECT product_id, available FROM vendor_offer ORDER BY 1;
SELECT routing_key, payload::jsonb - 'asOf' AS payload FROM outbox WHERE routing_key LIKE 'stock.oversold.%';
-- gone from the feed: inactive, not deleted; it can come back
-- (an empty feed is held back until it is seen twice)
SELECT sync_vendor_stock('a', '[]') ->> 'status' AS first, sync_vendor_stock('a', '[]') -> 'inactive' AS second;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
SELECT sync_vendor_stock('a', '[{"id": "y", "quantity": 4}]') - 'asOf' AS synced;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
-- what is readable is applied, what is unreadable is not sold; all of it is told
SELECT e->>'index' AS index, e->>'error' AS error FROM jsonb_array_elements(sync_vendor_stock('b', '[{"id": "x", "quantity": 1, "price": 1}, 5, {"quantity": 1}, {"id": "p"}, {"id": "p", "quantity": -1}, {"id": "p", "quantity": 1.5}, {"id": "p", "quantity": "7"}, {"id": "p", "quantity": 1e15}, {"id": "", "quantity": 1}, {"id": 7, "quantity": 1}, {"id": "p", "quantity": 1, "price": -1}, {"id": "p", "quantity": 1, "price": 1.23456}, {"id": "p", "quantity": 1, "price": "free"}, {"id": "p", "quantity": 1, "price": 1e11}, {"id": "p", "quantity": 1, "name": 3}, {"id": "a\u0007", "quantity": 1}, {"id": "x", "quantity": 5}]') -> 'skipped') AS e;
SELECT product_id, vendor_id, on_hand FROM stock WHERE vendor_id = 'b';
-- a bad price leaves the price as it was, and the count is taken
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 4, "price": -1}]') -> 'inactive' AS inactive;
SELECT product_id, on_hand, is_active, price FROM stock WHERE vendor_id = 'b' ORDER BY 1;
-- a count that nobody can read is not the old one: nothing is sold, nothing is short; a negative one is none
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": "lots", "price": 3}]') - 'asOf' AS synced;
SELECT product_id, on_hand, is_active, price FROM stock WHERE vendor_id = 'b' ORDER BY 1;
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": -3, "price": 3}]') - 'asOf' AS synced;
SELECT product_id, on_hand, is_active, price FROM stock WHERE vendor_id = 'b' ORDER BY 1;
-- noise of floats is rounded; a name is cleaned; no offer begins with a price that nobody can read
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 4, "price": 19.989999999999998, "name": " a\tb\n"}, {"id": "new", "quantity": 1, "price": "15.00 USD"}]') - 'asOf' AS synced;
SELECT s.product_id, p.name, on_hand, is_active, price FROM stock AS s JOIN product AS p USING (product_id) WHERE vendor_id = 'b' ORDER BY 1;
-- the vendor's count may know of a sale before its reply has come
SELECT place_order('c', '[{"productId": "y", "quantity": 2}]') AS order_id \gset
SELECT sync_vendor_stock('a', '[{"id": "y", "quantity": 1}]') -> 'oversold' AS oversold;
SELECT confirm_order(:order_id);
SELECT on_hand, reserved FROM stock WHERE product_id = 'y';
-- a count of the future is one of now
SELECT sync_vendor_stock('a', '[{"id": "y", "quantity": 7}]', '2999-01-01') ->> 'status' AS status, synced_as_of < '2999-01-01' AS now FROM vendor WHERE vendor_id = 'a';
SELECT sync_vendor_stock('a', '[{"id": "y", "quantity": 8}]') ->> 'status' AS status;
-- a feed that is not an array changes nothing
SELECT sync_vendor_stock('a', '{"id": "x", "quantity": 1}');
SELECT sync_vendor_stock('a', '"x"');
SELECT sync_vendor_stock('a', NULL);
SELECT sync_vendor_stock('nobody', '[]');
SELECT sync_vendor_stock('a', '[]', 'infinity');
SELECT * FROM check_consistency();
