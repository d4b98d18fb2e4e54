-- what users add to our tables counts: defaults, generated columns, NOT NULL, CHECK, unique and exclusion constraints
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A'), register_vendor('b', 'Vendor B');
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 100, "price": 1}, {"id": "y", "quantity": 100, "price": 2}]') IS NOT NULL AS synced;

CREATE SEQUENCE public_numbers;
CREATE FUNCTION public_number() RETURNS text LANGUAGE sql AS $$ SELECT 'no-' || nextval('order_aggregator.public_numbers') $$;
CREATE TYPE mood AS ENUM ('calm', 'tense');
ALTER TABLE orders
	ADD COLUMN channel text NOT NULL DEFAULT 'web',
	ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
	ADD COLUMN name text DEFAULT public_number(),
	ADD COLUMN mood mood DEFAULT 'calm',
	ADD COLUMN gone_for_good text DEFAULT 'x',
	ADD COLUMN is_large boolean GENERATED ALWAYS AS (total_amount >= 10) STORED;
ALTER TABLE orders DROP COLUMN gone_for_good;
ALTER TABLE order_line ADD COLUMN label text GENERATED ALWAYS AS (product_id || ' * ' || quantity) STORED;
ALTER TABLE hold ADD COLUMN is_open boolean GENERATED ALWAYS AS (status = 'open') STORED;
ALTER TABLE stock
	ADD COLUMN available bigint GENERATED ALWAYS AS (on_hand - reserved) STORED,
	ADD COLUMN shelf text DEFAULT 'main';
ALTER TABLE outbox
	ADD COLUMN shard int GENERATED ALWAYS AS (order_id % 4) STORED,
	ADD COLUMN written_by text DEFAULT (session_user IS NOT NULL);
CREATE FUNCTION settle(order_id bigint) RETURNS text LANGUAGE sql AS $$
	SELECT r.outcome FROM order_aggregator.apply_vendor_replies(jsonb_build_array(jsonb_build_object('orderId', $1, 'vendorId', 'a', 'attempt', 1, 'status', 'confirmed'))) AS r
$$;
CREATE FUNCTION shown() RETURNS TABLE (order_id bigint, status text, channel text, number bigint, name text, mood mood, is_large boolean, labels text, open_holds bigint, shards int[], all_written boolean)
LANGUAGE sql AS $$
	SELECT o.order_id, o.status, channel, number, o.name, mood, is_large,
		(SELECT string_agg(label, ', ' ORDER BY line_no) FROM order_line AS l WHERE l.order_id = o.order_id),
		(SELECT count(*) FROM hold AS h WHERE h.order_id = o.order_id AND h.is_open),
		(SELECT array_agg(DISTINCT shard) FROM outbox AS e WHERE e.order_id = o.order_id),
		(SELECT bool_and(written_by = 'true') FROM outbox AS e WHERE e.order_id = o.order_id)
	FROM orders AS o ORDER BY 1
$$;
SELECT place_order('c', '[{"productId": "x", "quantity": 3}, {"productId": "y", "quantity": 4}]');
SELECT order_id FROM place_orders('[{"productId": "x", "quantity": 1}, {"productId": "y", "quantity": 2}]');
SELECT * FROM shown();
SELECT product_id, on_hand, reserved, available, shelf FROM stock ORDER BY 1;
SELECT settle(1);
SELECT cancel_order(2, 'no');
SELECT * FROM shown();
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 90, "price": 1}, {"id": "y", "quantity": 80, "price": 2}, {"id": "z", "quantity": 5, "price": 3}]') IS NOT NULL AS synced;
SELECT product_id, on_hand, reserved, available, shelf FROM stock ORDER BY 1;
SELECT configure_product('x', lanes => '4');
SELECT count(place_order('c', '[{"productId": "x", "quantity": 1}]')) FROM generate_series(1, 3);
SELECT cancel_order(max(order_id), 'no') FROM orders;
SELECT count(*) FILTER (WHERE available IS DISTINCT FROM on_hand - reserved) AS wrong FROM stock;
SELECT count(*) FILTER (WHERE is_open IS DISTINCT FROM (status = 'open')) AS wrong FROM hold;
SELECT * FROM check_consistency();

\set VERBOSITY terse
-- what a rule is made of may be replaced, and what it was made of be gone
CREATE OR REPLACE FUNCTION public_number() RETURNS text LANGUAGE sql AS $$ SELECT 'another' $$;
DROP SEQUENCE public_numbers;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') AS order_id \gset
SELECT name FROM orders WHERE order_id = :order_id;
CREATE DOMAIN shade AS text;
ALTER TABLE orders ADD COLUMN shade shade;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS placed;
UPDATE orders SET shade = 'grey';
ALTER DOMAIN shade SET NOT NULL;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
ALTER TABLE orders ALTER COLUMN shade SET DEFAULT 'green';
ALTER DOMAIN shade ADD CHECK (VALUE <> 'green') NOT VALID;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
ALTER TABLE orders DROP COLUMN shade;
-- constraints refuse what they refuse elsewhere, and nothing stays of it
ALTER TABLE orders ADD CONSTRAINT no_large_ones CHECK (total_amount < 50);
SELECT place_order('c', '[{"productId": "x", "quantity": 50}]');
SELECT place_orders('[{"productId": "x", "quantity": 1}, {"productId": "y", "quantity": 30}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 49}]') IS NOT NULL AS placed;
ALTER TABLE hold ADD CONSTRAINT never_confirmed CHECK (status <> 'confirmed') NOT VALID;
SELECT settle(max(order_id)) FROM orders;
ALTER TABLE hold DROP CONSTRAINT never_confirmed;
ALTER TABLE orders ALTER COLUMN traceparent SET NOT NULL;
ALTER TABLE orders ALTER COLUMN traceparent DROP NOT NULL;
UPDATE orders SET traceparent = '';
ALTER TABLE orders ALTER COLUMN traceparent SET NOT NULL;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
ALTER TABLE orders ALTER COLUMN traceparent DROP NOT NULL;
ALTER TABLE stock ADD CONSTRAINT few CHECK (on_hand < 1000);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 1000, "price": 1}, {"id": "y", "quantity": 80, "price": 2}, {"id": "z", "quantity": 5, "price": 3}]');
SELECT sync_vendor_stock('b', '[{"id": "new", "quantity": 1000, "price": 1}]');
ALTER TABLE outbox ADD CONSTRAINT no_cancelling CHECK (routing_key <> 'order.cancelled') NOT VALID;
SELECT cancel_order(max(order_id), 'no') FROM orders;
ALTER TABLE outbox DROP CONSTRAINT no_cancelling;
-- what may be deferred is checked at once
ALTER TABLE order_line ADD CONSTRAINT once UNIQUE (order_id, quantity) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE orders ADD COLUMN day int DEFAULT 7, ADD CONSTRAINT one_a_day EXCLUDE USING btree (day WITH =) WHERE (customer_id = 'daily') DEFERRABLE INITIALLY DEFERRED;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}, {"productId": "y", "quantity": 1}]');
SELECT place_order('daily', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS placed;
SELECT place_order('daily', '[{"productId": "y", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS placed FROM generate_series(1, 2);
SELECT * FROM check_consistency();
ALTER TABLE orders DROP CONSTRAINT no_large_ones, DROP CONSTRAINT one_a_day, DROP COLUMN is_large;
ALTER TABLE order_line DROP CONSTRAINT once, DROP COLUMN label;
ALTER TABLE hold DROP COLUMN is_open;
ALTER TABLE stock DROP CONSTRAINT few, DROP COLUMN available;
ALTER TABLE outbox DROP COLUMN shard;
-- with nothing but a default that is code
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS placed;
CREATE OR REPLACE FUNCTION public_number() RETURNS text LANGUAGE sql AS $$ SELECT 'third' $$;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS placed;
SELECT name FROM orders ORDER BY order_id DESC LIMIT 2;
-- who copies a table while it is written to, as pg_repack does, would not see what is written: nobody writes then
CREATE FUNCTION public.capture() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER repack_trigger AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION public.capture();
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS as_always;
CREATE TRIGGER of_deletes AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION public.capture();
ALTER TABLE orders ENABLE ALWAYS TRIGGER of_deletes;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS as_always;
ALTER TABLE orders ENABLE ALWAYS TRIGGER repack_trigger;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
SELECT cancel_order(max(order_id), 'no') FROM orders;
DROP TRIGGER repack_trigger ON orders;
CREATE TRIGGER repack_trigger AFTER INSERT OR UPDATE OR DELETE ON stock FOR EACH ROW EXECUTE FUNCTION public.capture();
ALTER TABLE stock ENABLE ALWAYS TRIGGER repack_trigger;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
DROP FUNCTION public.capture CASCADE;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS as_always;

-- and none of our own is looked at where a user has added none: what notices here is under the names of ours
CREATE FUNCTION notices(which text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'looked at %', which; RETURN true; END $$;
DO $$
DECLARE
	own record;
BEGIN
	FOR own IN SELECT conrelid::regclass AS tab, conname FROM pg_constraint
		WHERE contype = 'c' AND conrelid IN ('orders'::regclass, 'order_line'::regclass, 'hold'::regclass, 'stock'::regclass, 'stock_lane'::regclass) LOOP
		EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I CHECK (order_aggregator.notices(%L)) NOT VALID', own.tab, own.conname, own.conname, own.conname);
	END LOOP;
END
$$;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}, {"productId": "y", "quantity": 1}]') IS NOT NULL AS placed;
SELECT cancel_order(max(order_id), 'no') FROM orders;
SELECT sync_vendor_stock('b', '[{"id": "new", "quantity": 10, "price": 1}]') IS NOT NULL AS synced;
SELECT sync_vendor_stock('b', '[{"id": "new", "quantity": 11, "price": 1}]') IS NOT NULL AS synced;
ALTER TABLE order_line ADD CONSTRAINT mine CHECK (quantity < 100);
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') IS NOT NULL AS placed;
SELECT * FROM check_consistency();
SET client_min_messages = warning;
DROP EXTENSION order_aggregator CASCADE;
