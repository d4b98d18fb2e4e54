-- Batches over so many products that their index has many pages: who finds a key by walking
-- along it finds what a lookup of its own finds.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SELECT order_aggregator.register_vendor(v, v) FROM unnest('{a,b,c}'::text[]) AS v;
-- every third product is b's too, every seventh nobody's; long ids, that differ at their ends
CREATE FUNCTION pg_temp.product(n int) RETURNS text LANGUAGE sql AS
$$SELECT 'product ' || repeat('x', 60) || lpad(n::text, 6, '0')$$;
CREATE FUNCTION pg_temp.offers(vendor text, step int) RETURNS jsonb LANGUAGE sql AS
$$SELECT jsonb_agg(jsonb_build_object('id', pg_temp.product(n), 'quantity', 1000, 'price', 5))
  FROM generate_series(0, 3999) AS n WHERE n % step = 0 AND n % 7 <> 0$$;
SELECT order_aggregator.sync_vendor_stock('a', pg_temp.offers('a', 1)) ->> 'new' AS new;
SELECT order_aggregator.sync_vendor_stock('b', pg_temp.offers('b', 3)) ->> 'new' AS new;
-- orders of some units of each step-th product from some product on: who is served is whose product
-- somebody has
CREATE FUNCTION pg_temp.place(first int, step int, count int, units int DEFAULT 2, OUT served bigint, OUT refused bigint, OUT wrong bigint)
LANGUAGE sql AS $$
	WITH asked AS MATERIALIZED (
		SELECT i, (first + i * step) % 4000 AS n FROM generate_series(0, count - 1) AS i
	), answered AS MATERIALIZED (
		SELECT request_no, order_id, error FROM order_aggregator.place_orders(
			(SELECT jsonb_agg(jsonb_build_object('productId', pg_temp.product(n), 'quantity', units) ORDER BY i) FROM asked))
	)
	SELECT count(order_id), count(error),
		   count(*) FILTER (WHERE (order_id IS NULL) <> (n % 7 = 0) OR error ->> 'code' <> 'OA002')
	FROM asked JOIN answered ON request_no = i + 1
$$;
SELECT * FROM pg_temp.place(0, 1, 4000);
SELECT * FROM pg_temp.place(3999, -1, 2000);
SELECT * FROM pg_temp.place(17, 397, 1000);
SELECT * FROM pg_temp.place(1000, 1, 7);
SELECT * FROM pg_temp.place(1000, 1, 8);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM pg_temp.place(0, 3, 1000);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM pg_temp.place(1, 3, 1000);
COMMIT;
-- so many that two vendors have to serve each
BEGIN;
SELECT * FROM pg_temp.place(0, 3, 1334, 1200);
ROLLBACK;
-- entries of rows that are dead, and of versions that are: some keys have many
DO $$
BEGIN
	FOR i IN 1..6 LOOP
		UPDATE order_aggregator.stock SET vendor_sku = vendor_sku || i WHERE right(product_id, 1) IN ('3', '8');
		COMMIT;
	END LOOP;
END
$$;
SELECT * FROM pg_temp.place(0, 1, 4000);
SELECT * FROM pg_temp.place(0, 1, 4000);
SELECT * FROM pg_temp.place(0, 3, 1334, 1200);
VACUUM order_aggregator.stock;
SELECT * FROM pg_temp.place(0, 1, 4000);
-- as long as they cannot be removed the entries of one row are put together
BEGIN;
DO $$
BEGIN
	FOR i IN 1..40 LOOP
		UPDATE order_aggregator.stock SET vendor_sku = vendor_sku || i WHERE right(product_id, 2) IN ('13', '14');
	END LOOP;
END
$$;
SELECT * FROM pg_temp.place(0, 1, 4000);
COMMIT;
SELECT * FROM pg_temp.place(0, 1, 4000);
-- what this transaction has made, and what it has undone
BEGIN;
SELECT order_aggregator.sync_vendor_stock('c', jsonb_agg(jsonb_build_object('id', pg_temp.product(n), 'quantity', 1000, 'price', 4)))
	->> 'new' AS new FROM generate_series(0, 3999, 7) AS n;
SELECT served, refused FROM pg_temp.place(0, 1, 4000);
ROLLBACK;
SELECT * FROM pg_temp.place(0, 1, 4000);
-- a product whose offers fill several pages: all of them are needed
DO $$
BEGIN
	FOR i IN 1..500 LOOP
		PERFORM order_aggregator.register_vendor('v' || i, 'v' || i);
		PERFORM order_aggregator.sync_vendor_stock('v' || i, jsonb_build_array(jsonb_build_object('id', pg_temp.product(1400), 'quantity', 1, 'price', 1)));
	END LOOP;
END
$$;
SELECT request_no, order_id IS NOT NULL AS served, error ->> 'code' AS error FROM order_aggregator.place_orders(
	(SELECT jsonb_agg(jsonb_build_object('productId', pg_temp.product(1395 + i), 'quantity', CASE i WHEN 5 THEN 500 ELSE 1 END)) FROM generate_series(1, 10) AS i));
-- all of it is where the orders say
SELECT sum(reserved) = (SELECT sum(quantity) FROM order_aggregator.hold WHERE status = 'open') AS is_equal,
	   sum(reserved) FROM order_aggregator.stock;
SELECT * FROM order_aggregator.check_consistency();
-- settled in one go: the rows of orders, holds and stock are found in the same way
SELECT outcome, count(*) FROM order_aggregator.apply_vendor_replies((
	SELECT jsonb_agg(jsonb_build_object('orderId', order_id, 'vendorId', vendor_id, 'attempt', 1,
										'status', CASE WHEN order_id % 5 = 0 THEN 'rejected' ELSE 'confirmed' END) ORDER BY random())
	FROM (SELECT * FROM order_aggregator.hold ORDER BY order_id DESC LIMIT 5000) AS last)) GROUP BY 1 ORDER BY 1;
SELECT status, count(*) FROM order_aggregator.orders GROUP BY 1 ORDER BY 1;
SELECT * FROM order_aggregator.check_consistency();
-- A feed of products that are there, that are not, one by one and many in a row, and a name for all:
-- a new offer has its product's buffer, and what somebody's own trigger or index says holds for all.
SELECT order_aggregator.configure_product(pg_temp.product(3991), buffer => 4);
CREATE FUNCTION pg_temp.named(first int, last int, count int DEFAULT 9) RETURNS jsonb LANGUAGE sql AS
$$SELECT jsonb_agg(jsonb_build_object('id', pg_temp.product(n), 'name', 'Name of ' || n, 'quantity', count))
  FROM generate_series(first, last) AS n$$;
CREATE VIEW pg_temp.of_c AS
	SELECT count(*), sum(s.on_hand) AS on_hand, sum(s.buffer) AS buffer, count(DISTINCT p.name) AS names,
		   count(*) FILTER (WHERE p.buffer <> s.buffer) AS differ
	FROM order_aggregator.stock s JOIN order_aggregator.product p USING (product_id) WHERE s.vendor_id = 'c';
SELECT feed ->> 'new' AS new, feed ->> 'changed' AS changed
FROM order_aggregator.sync_vendor_stock('c', pg_temp.named(3901, 4300)) AS feed;
SELECT * FROM pg_temp.of_c;
-- again, and those before and after them
SELECT feed ->> 'new' AS new, feed ->> 'changed' AS changed
FROM order_aggregator.sync_vendor_stock('c', pg_temp.named(3851, 4400)) AS feed;
ALTER TABLE order_aggregator.product ALTER buffer SET DEFAULT 2;
CREATE UNIQUE INDEX own_index ON order_aggregator.product (name) WHERE product_id >= pg_temp.product(4401);
SELECT order_aggregator.sync_vendor_stock('c', pg_temp.named(3851, 4450) || jsonb_build_object('id', pg_temp.product(4451), 'name', 'Name of 4450', 'quantity', 1));
SELECT * FROM pg_temp.of_c;
DROP INDEX order_aggregator.own_index;
SELECT feed ->> 'new' AS new, feed ->> 'changed' AS changed
FROM order_aggregator.sync_vendor_stock('c', pg_temp.named(3851, 4500)) AS feed;
SELECT * FROM pg_temp.of_c;
-- the same products under other SKUs: their rows are found by the products
INSERT INTO order_aggregator.product_map (vendor_id, vendor_sku, product_id)
	SELECT 'c', 'z' || n, pg_temp.product(n) FROM generate_series(3851, 4500) AS n;
SELECT order_aggregator.begin_feed('c', now()) AS feed \gset
SELECT order_aggregator.apply_feed_part(:feed, NULL, NULL, array_agg(n), array_agg('z' || n ORDER BY n), array_agg(NULL::text),
	array_agg('9'::text), array_agg(NULL::text), array_agg(NULL::text)) AS written FROM generate_series(3851, 4600) AS n;
SELECT f ->> 'status' AS status, f ->> 'new' AS new, f ->> 'changed' AS changed, f ->> 'inactive' AS inactive
FROM order_aggregator.finish_feed(:feed, NULL, NULL) AS f;
SELECT count(*), count(*) FILTER (WHERE vendor_sku LIKE 'z%' AND is_active) AS active FROM order_aggregator.stock WHERE vendor_id = 'c';
SELECT * FROM order_aggregator.check_consistency();
