-- what must never happen is refused, also to a superuser at psql
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS synced;
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]') FROM generate_series(1, 3);
-- a legal edge by hand does all that belongs to it
UPDATE orders SET status = 'cancelled', close_reason = 'by hand' WHERE order_id = 1;
UPDATE orders SET status = 'confirmed' WHERE order_id = 2;
SELECT order_id, status, closed_at IS NOT NULL AS closed, close_reason FROM orders ORDER BY 1;
SELECT order_id, status, reason FROM hold ORDER BY 1;
SELECT on_hand, reserved FROM stock;
SELECT routing_key FROM outbox WHERE order_id IS NOT NULL ORDER BY event_id;
-- no other edge
UPDATE orders SET status = 'pending', closed_at = NULL WHERE order_id = 1;
UPDATE orders SET status = 'cancelled' WHERE order_id = 2;
\set VERBOSITY sqlstate
UPDATE orders SET status = 'shipped' WHERE order_id = 3;
\set VERBOSITY default
UPDATE hold SET status = 'open', settled_at = NULL WHERE order_id = 1;
UPDATE hold SET status = 'returned' WHERE order_id = 3;
-- which edges there are: each of them, and none but these
CREATE FUNCTION pg_temp.may(kind text, was text, becomes text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	change CONSTANT text := format('UPDATE %I SET status = $1, %I = CASE WHEN $1 NOT IN (''open'', ''pending'') THEN now() END WHERE order_id = 3',
		kind, CASE kind WHEN 'hold' THEN 'settled_at' ELSE 'closed_at' END);
BEGIN
	PERFORM set_config('session_replication_role', 'replica', true);
	EXECUTE change USING was;
	PERFORM set_config('session_replication_role', 'origin', true);
	EXECUTE change USING becomes;
	RAISE 'it may';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLERRM;
END
$$;
CREATE VIEW pg_temp.edges AS
	SELECT kind, was, becomes, pg_temp.may(kind, was, becomes) AS says
	FROM (VALUES ('hold', '{open,confirmed,rejected,released,returned}'::text[]), ('orders', '{pending,confirmed,rejected,cancelled,expired}')) AS k(kind, statuses),
		 unnest(statuses) AS was, unnest(statuses) AS becomes;
SELECT kind, was, becomes FROM pg_temp.edges WHERE says = 'it may' ORDER BY 1, 2, 3;
SELECT kind, count(*) FROM pg_temp.edges WHERE says ~ ' (is|of order 3 at vendor "a" is) [a-z]+ and cannot become [a-z]+$' GROUP BY 1 ORDER BY 1;
SELECT order_id, status FROM orders WHERE order_id = 3;
-- a closed order inserted by hand is not refused, because a restore does just that; it is reported
BEGIN;
INSERT INTO orders VALUES (100, 'c', 'confirmed', 0, 'cheapest', false, now(), now(), now());
SELECT problem FROM check_consistency() ORDER BY 1;
ROLLBACK;
-- no negative counter
UPDATE stock SET reserved = -1;
UPDATE stock SET on_hand = on_hand - 100;
INSERT INTO stock (product_id, vendor_id, vendor_sku, price, on_hand) VALUES ('x', 'b', 'x', 1, -1);
-- the outbox is append-only
UPDATE outbox SET routing_key = 'x';
SELECT * FROM check_consistency();
-- what stock refers to is kept, without foreign keys
DELETE FROM vendor WHERE vendor_id = 'a';
DELETE FROM product;
UPDATE vendor SET vendor_id = 'z' WHERE vendor_id = 'a';
UPDATE product SET product_id = 'z';
UPDATE vendor SET name = 'A' WHERE vendor_id = 'a';
-- nor one that a login may answer for: the next vendor of that id would be answered for by it
SELECT register_vendor('l', 'Vendor L', NULL, 30), configure_vendor('l', logins => ARRAY[current_user::text]);
DELETE FROM vendor WHERE vendor_id = 'l';
UPDATE vendor SET vendor_id = 'm' WHERE vendor_id = 'l';
SELECT configure_vendor('l', logins => '{}');
DELETE FROM vendor WHERE vendor_id = 'l';
DELETE FROM vendor WHERE vendor_id = 'b';
SELECT vendor_id FROM vendor;
BEGIN;
SET session_replication_role = replica;
DELETE FROM product;
SELECT problem, subject FROM check_consistency();
ROLLBACK;
