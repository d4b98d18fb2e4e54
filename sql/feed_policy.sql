-- what is readable is applied, what is unreadable is not sold, a feed that cannot be right is a failure
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A'), register_vendor('b', 'Vendor B'), register_vendor('c', 'Vendor C');

-- numbers as people write them, without and with a declared mark; JSON's own are JSON's
CREATE FUNCTION reads(VARIADIC quantities text[]) RETURNS TABLE (written text, on_hand bigint, is_active boolean, rule text)
LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	-- good ones beside them, so that no feed is mostly unreadable
	result := sync_vendor_stock('a', (
		SELECT jsonb_agg(jsonb_build_object('id', 'q' || n, 'quantity', q)) FROM unnest(quantities) WITH ORDINALITY AS u(q, n))
		|| (SELECT jsonb_agg(jsonb_build_object('id', 'good' || n, 'quantity', 7)) FROM generate_series(1, 60) AS n));
	RETURN QUERY
	SELECT q, s.on_hand, s.is_active, (SELECT string_agg(e->>'rule', ', ') FROM jsonb_array_elements(result->'skipped') AS e WHERE e->>'id' = 'q' || n)
	FROM unnest(quantities) WITH ORDINALITY AS u(q, n) LEFT JOIN stock AS s ON s.vendor_id = 'a' AND s.product_id = 'q' || n ORDER BY n;
END
$$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$ DELETE FROM stock WHERE vendor_id = 'a' $$;
SELECT * FROM reads('5', '+5', '-3', '5.0', '5,00', '1.000', '1,000', '1.299,00', '15,550.00', '1.234.567', '1 200', '1''000', '1234.000', '0.500',
	'1e3', '1.5e1', '1.23457E+12', '10+', '5 pcs', 'true', ' 5 ', '5.', '.0', '1.00.000', '12 34', '--5', '0x10', 'Infinity', 'NaN', '1000000000000', '1000000000001');
SELECT forget();
SELECT configure_vendor('a', feed_mapping => '{"decimal": ","}');
SELECT * FROM reads('1.000', '1.299,00', '1 200', '1''000', '5,0', '5.0', '1,5', '1,000', '1.000.000');
SELECT forget();
SELECT configure_vendor('a', feed_mapping => '{"decimal": "."}');
SELECT * FROM reads('1.000', '1,299.00', '1 200', '5,0', '1,000,000');
SELECT forget();
SELECT configure_vendor('a', feed_mapping => '{}');
SELECT sync_vendor_stock('a', '[{"id": "j1", "quantity": 1.000, "price": 1.299}, {"id": "j2", "quantity": 1e3}, {"id": "j3", "quantity": 5.0, "price": "1.299"}, {"id": "j4", "quantity": 2, "price": "15.00"}]') - 'asOf' AS synced;
SELECT product_id, on_hand, price, is_priced FROM stock WHERE vendor_id = 'a' AND product_id LIKE 'j%' ORDER BY 1;
SELECT forget();

-- several rows of one SKU: the first readable one, the last, the sum; at the highest price
CREATE FUNCTION repeats(rule text) RETURNS TABLE (product_id text, on_hand bigint, price numeric, rules jsonb) LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	PERFORM configure_vendor('a', feed_mapping => jsonb_strip_nulls(jsonb_build_object('repeated', rule)));
	result := sync_vendor_stock('a', '[{"id": "r", "quantity": "?", "price": 9}, {"id": "r", "quantity": 3, "price": 2}, {"id": "s", "quantity": 1}, {"id": "r", "quantity": -1, "price": 5}, {"id": "r", "quantity": 4, "price": 1}, {"id": "s", "quantity": 2}]');
	RETURN QUERY SELECT s.product_id, s.on_hand, s.price, result->'rules' FROM stock AS s WHERE vendor_id = 'a' ORDER BY 1;
END
$$;
SELECT * FROM repeats(NULL);
SELECT * FROM repeats('first');
SELECT * FROM repeats('last');
SELECT * FROM repeats('sum');
SELECT forget();
SELECT configure_vendor('a', feed_mapping => '{}');

-- mostly unreadable: it has failed, and changes nothing; a single bad item is only that
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 5, "price": 1}, {"id": "y", "quantity": 5, "price": 1}, {"id": "z", "quantity": 5, "price": 1}]') ->> 'status' AS status;
SELECT sync_vendor_stock('a', '[{"id": "x", "qty": 1}, {"id": "y", "qty": 1}, {"id": "z", "quantity": 1}]') - 'asOf' AS synced;
SELECT product_id, on_hand, is_active FROM stock WHERE vendor_id = 'a' ORDER BY 1;
SELECT last_sync_status, last_sync_error FROM vendor WHERE vendor_id = 'a';
SELECT sync_vendor_stock('a', '[{"id": "x", "qty": 1}, {"id": "y", "quantity": 1}]') ->> 'status' AS half, sync_vendor_stock('a', '[{"id": "x", "qty": 1}]') ->> 'status' AS single;
SELECT product_id, on_hand, is_active FROM stock WHERE vendor_id = 'a' ORDER BY 1;

-- one that suddenly lacks almost everything is held back until it is seen twice, or said to be right
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 5, 'price', 1)) FROM generate_series(1, 100) AS n)) -> 'new' AS new;
SELECT sync_vendor_stock('b', '[{"id": "p1", "quantity": 4}]') - 'asOf' AS synced;
SELECT count(*) FILTER (WHERE is_active) AS active, sum(on_hand) FROM stock WHERE vendor_id = 'b';
SELECT feed_held_at IS NOT NULL AS held, last_sync_status, drop_limit FROM vendor_sync WHERE vendor_id = 'b';
SELECT sync_vendor_stock('b', '[{"id": "p1", "quantity": 4}]') -> 'inactive' AS inactive;
SELECT feed_held_at, last_sync_status FROM vendor_sync WHERE vendor_id = 'b';
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 5)) FROM generate_series(1, 100) AS n)) -> 'changed' AS back;
-- a good one in between, a tenth that is left, other ids, a limit of its own
SELECT sync_vendor_stock('b', '[]') ->> 'status' AS status;
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 100) AS n)) ->> 'status' AS status;
SELECT sync_vendor_stock('b', '[]') ->> 'status' AS status, feed_held_at IS NOT NULL AS held FROM vendor WHERE vendor_id = 'b';
SELECT accept_feed('b');
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 10) AS n)) -> 'inactive' AS inactive;
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 100) AS n)) ->> 'status' AS status;
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', '0p' || n, 'quantity', 6)) FROM generate_series(1, 100) AS n)) ->> 'status' AS other_ids;
-- one that is worse than what was held is held anew; a limit of its own
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 100) AS n)) ->> 'status' AS status,
	sync_vendor_stock('b', '[{"id": "p1", "quantity": 4}]') ->> 'status' AS held, sync_vendor_stock('b', '[]') ->> 'status' AS worse;
SELECT sync_vendor_stock('b', '[{"id": "p1", "quantity": 4}]') ->> 'status' AS no_worse;
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 100) AS n)) ->> 'status' AS status;
SELECT configure_vendor('b', drop_limit => 20);
SELECT sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 79) AS n)) ->> 'status' AS fewer,
	sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 6)) FROM generate_series(1, 80) AS n)) ->> 'status' AS enough;
SELECT configure_vendor('b', drop_limit => 100);
SELECT sync_vendor_stock('b', '[]') -> 'inactive' AS inactive;
SELECT configure_vendor('b', drop_limit => 101);
SELECT accept_feed('nobody');

-- an offer whose price nobody has told comes after all others, whatever the strategy, and is shown so
SELECT sync_vendor_stock('b', '[{"productId": "n", "stock": 10}, {"productId": "only", "stock": 3}]') ->> 'status' AS status;
SELECT sync_vendor_stock('c', '[{"id": "n", "quantity": 2, "price": 100}, {"id": "free", "quantity": 1, "price": 0}]') ->> 'status' AS status;
SELECT product_id, vendor_id, price, is_priced, available FROM vendor_offer WHERE product_id IN ('n', 'only', 'free') ORDER BY 1, 2;
SELECT product_id, lowest_price, available FROM product_stock WHERE product_id IN ('n', 'only', 'free') ORDER BY 1;
CREATE FUNCTION chooses(strategy text, quantity int) RETURNS TABLE (vendors text) LANGUAGE plpgsql AS $$
DECLARE
	id bigint := place_order('c', jsonb_build_array(jsonb_build_object('productId', 'n', 'quantity', quantity)), strategy => strategy);
BEGIN
	RETURN QUERY SELECT string_agg(h.quantity || ' of ' || vendor_id, ', ' ORDER BY vendor_id) FROM hold AS h WHERE order_id = id;
	PERFORM cancel_order(id, 'only asked');
END
$$;
SELECT strategy, chooses(strategy, 1) AS one, chooses(strategy, 5) AS five
FROM unnest('{priority,most_stock,fewest_vendors,cheapest,single_vendor}'::text[]) AS strategy;
SELECT place_order('c', '[{"productId": "n", "quantity": 5}]', strategy => s) AS id FROM unnest('{most_stock}'::text[]) AS s \gset
SELECT vendor_id, quantity, unit_price FROM hold WHERE order_id = :id ORDER BY 1;
SELECT place_order('c', '[{"productId": "only", "quantity": 1}]') > 0 AS sold;
SET order_aggregator.sell_unpriced = off;
SELECT place_order('c', '[{"productId": "only", "quantity": 1}]');
SELECT product_id, available FROM vendor_offer WHERE product_id = 'only';
RESET order_aggregator.sell_unpriced;
-- a price that is told later stays told
SELECT sync_vendor_stock('b', '[{"id": "n", "quantity": 10, "price": 0}, {"productId": "only", "stock": 3}]') -> 'changed' AS changed;
SELECT sync_vendor_stock('b', '[{"productId": "n", "stock": 10}, {"productId": "only", "stock": 3}]') -> 'changed' AS changed;
SELECT product_id, price, is_priced FROM vendor_offer WHERE vendor_id = 'b' AND product_id IN ('n', 'only') ORDER BY 1;

-- offers that no feed has confirmed for long are not sold, which is told once; the next feed brings them back
SELECT configure_vendor('b', stale_after => '1 hour');
SELECT stale_at - confirmed_at AS after, is_stale FROM vendor_sync WHERE vendor_id = 'b';
UPDATE vendor SET confirmed_at = now() - interval '2 hours', stale_at = now() - interval '1 hour' WHERE vendor_id = 'b';
SELECT product_id, available, is_active FROM vendor_offer WHERE vendor_id = 'b' AND product_id = 'only';
SELECT place_order('c', '[{"productId": "only", "quantity": 1}]');
SELECT tell_stale_vendors(), tell_stale_vendors();
SELECT routing_key, payload::jsonb ? 'confirmedAt' AS told FROM outbox WHERE routing_key LIKE 'stock.stale.%';
SELECT vendor_id, is_stale FROM vendor_sync WHERE is_stale;
SELECT sync_vendor_stock('b', '[{"productId": "n", "stock": 10}, {"productId": "only", "stock": 3}]') ->> 'status' AS status;
SELECT place_order('c', '[{"productId": "only", "quantity": 1}]') > 0 AS sold;
UPDATE vendor SET confirmed_at = now() - interval '2 hours', stale_at = now() - interval '1 hour' WHERE vendor_id = 'b';
SELECT record_feed_pull('b', NULL, 'unchanged', NULL, 5, '1 hour');
SELECT tell_stale_vendors(), is_stale FROM vendor_sync WHERE vendor_id = 'b';
SELECT configure_vendor('b', stale_after => '0');
SELECT stale_at FROM vendor WHERE vendor_id = 'b';
SELECT configure_vendor('b', stale_after => '-1 hour');

-- a time that has gone back is ignored, and after three feeds in a row a failure
SELECT sync_vendor_stock('c', '[{"id": "n", "quantity": 1, "price": 1}]', '2026-01-01 10:00Z') ->> 'status' AS status;
SELECT register_vendor('d', 'Vendor D');
SELECT sync_vendor_stock('d', '[{"id": "t", "quantity": 1, "price": 1}]', '2026-01-01 12:00Z') ->> 'status' AS one,
	sync_vendor_stock('d', '[{"id": "t", "quantity": 2}]', '2026-01-01 11:00Z') ->> 'status' AS two,
	sync_vendor_stock('d', '[{"id": "t", "quantity": 2}]', '2026-01-01 11:00Z') ->> 'status' AS three;
SELECT r ->> 'status' AS four, r ->> 'error' AS error FROM sync_vendor_stock('d', '[{"id": "t", "quantity": 2}]', '2026-01-01 11:00Z') AS r;
SELECT sync_vendor_stock('d', '[{"id": "t", "quantity": 3}]', '2026-01-01 12:00Z') ->> 'status' AS five,
	sync_vendor_stock('d', '[{"id": "t", "quantity": 2}]', '2026-01-01 11:00Z') ->> 'status' AS six;
-- those that do not begin for another reason are not counted
SELECT sync_vendor_stock('d', '[]', '2026-01-01 12:30Z') ->> 'status' AS seven, sync_vendor_stock('d', '[7, 8]', '2026-01-01 12:30Z') ->> 'status' AS eight,
	sync_vendor_stock('d', '[{"id": "t", "quantity": 2}]', '2026-01-01 11:00Z') ->> 'status' AS nine;
-- a time that stands still while the count changes: what was confirmed is subtracted once
SELECT begin_feed('d', '2026-01-01 12:00Z', 'Last-Modified', 'Thu', '2026-01-02 10:00Z', 1, 0, 1, '{t}') AS feed \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0}', '{t}', '{NULL}', '{10}', '{1}', '{NULL}');
SELECT finish_feed(:feed) ->> 'status' AS status;
SELECT place_order('c', '[{"productId": "t", "quantity": 4}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT on_hand FROM stock WHERE product_id = 't';
-- the same feed again: the units it does not know of are still subtracted, once
SELECT begin_feed('d', '2026-01-01 12:00Z', 'Last-Modified', 'Thu', now(), 1, 0, 1, '{t}') AS feed \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0}', '{t}', '{NULL}', '{10}', '{1}', '{NULL}');
SELECT finish_feed(:feed) ->> 'asOf' AS as_of;
SELECT on_hand FROM stock WHERE product_id = 't';
-- another count under the same time was made after we were given the one before, and knows of them
SELECT begin_feed('d', '2026-01-01 12:00Z', 'Last-Modified', 'Thu', now(), 1, 0, 1, '{t}') AS feed \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0}', '{t}', '{NULL}', '{6}', '{1}', '{NULL}');
SELECT finish_feed(:feed) ->> 'asOfRule' AS rule;
SELECT on_hand FROM stock WHERE product_id = 't';

-- under one time some counts are new and some are not: those that are not are subtracted from as before
SELECT register_vendor('e', 'Vendor E');
CREATE FUNCTION still(told text, as_of timestamptz, quantities text[], says text DEFAULT 'Last-Modified') RETURNS TABLE (product_id text, on_hand bigint, rule text)
LANGUAGE plpgsql AS $$
DECLARE
	id bigint := begin_feed('e', as_of, says, told, clock_timestamp(), 2, 0, 2, '{d,o}');
BEGIN
	IF id IS NULL THEN
		RETURN QUERY SELECT r.status, NULL::bigint, r.error FROM refused_feed() AS r;
		RETURN;
	END IF;
	PERFORM apply_feed_part(id, NULL, NULL, '{0,1}', '{d,o}', '{NULL,NULL}', quantities, '{1,1}', '{NULL,NULL}');
	RETURN QUERY SELECT s.product_id, s.on_hand, r.r ->> 'asOfRule' FROM stock AS s, finish_feed(id) AS r(r) WHERE s.vendor_id = 'e' ORDER BY 1;
END
$$;
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{10,10}');
SELECT place_order('c', '[{"productId": "d", "quantity": 4}, {"productId": "o", "quantity": 3}]') AS order_id \gset
SELECT confirm_order(:order_id);
-- o was counted off, d was not: what is new was made after the pull before, so o has less rather than too much
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{10,7}');
-- now d was, too
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{6,7}');
-- the same again, however often, and another one beside it: each count is as old as it was
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{6,7}');
SELECT place_order('c', '[{"productId": "d", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{6,9}');
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{6,9}');
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{6,8}');
-- units that came back, and counts below what was sold, say nothing of whether a count is new
SELECT return_order(:order_id, restock => true) > 0 AS returned;
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{6,7}');
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{1,7}');
SELECT place_order('c', '[{"productId": "d", "quantity": 1}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{1,8}');
-- a feed that was superseded half-way has not been given to us
SELECT begin_feed('e', '2026-01-01 10:00Z', 'Last-Modified', 'T0', clock_timestamp(), 2, 0, 2, '{d,o}') AS feed \gset
SELECT apply_feed_part(:feed, NULL, 'd', '{0}', '{d}', '{NULL}', '{1}', '{1}', '{NULL}');
SELECT place_order('c', '[{"productId": "o", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT register_vendor('e', 'Vendor E');
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{1,8}');
-- another URL: nothing is known of its times
SELECT register_vendor('e', 'Vendor E', 'http://e.example/stock');
SELECT * FROM still('T-1', '2025-12-31 10:00Z', '{1,8}');
SELECT register_vendor('e', 'Vendor E');
-- a later time is never stale, however far behind our clock it is
SELECT * FROM still('T1', '2026-01-01 11:00Z', '{9,9}');
SELECT * FROM still('T0', '2026-01-01 10:00Z', '{9,9}');
-- nor is the same one, though the vendor's clock, set right meanwhile, makes it a second older
SELECT * FROM still('T1', '2026-01-01 10:59:59Z', '{9,9}');
-- what the feed itself tells is believed: what was confirmed after it is not in it
SELECT * FROM still('T1', '2026-01-01 11:00Z', '{9,8}', 'asOf');
-- what was left out, or could not be read, and comes back has less what was confirmed since its last
-- count, however often the feed says so: not what was ever confirmed, and not nothing
CREATE FUNCTION still_without_d(told text, as_of timestamptz, d text DEFAULT NULL) RETURNS TABLE (product_id text, vendor_sku text, on_hand bigint, is_active boolean, counted bigint)
LANGUAGE plpgsql AS $$
DECLARE
	id bigint;
BEGIN
	IF d IS NULL THEN
		id := begin_feed('e', as_of, 'Last-Modified', told, clock_timestamp(), 1, 0, 1, '{o}');
		PERFORM apply_feed_part(id, NULL, NULL, '{0}', '{o}', '{NULL}', '{8}', '{1}', '{NULL}'), finish_feed(id);
	ELSE
		PERFORM still(told, as_of, ARRAY[d, '8']);
	END IF;
	RETURN QUERY SELECT s.product_id, s.vendor_sku, s.on_hand, s.is_active, s.counted FROM stock AS s WHERE s.vendor_id = 'e' ORDER BY 1;
END
$$;
CREATE VIEW e_stock AS SELECT product_id, vendor_sku, on_hand, is_active FROM stock WHERE vendor_id = 'e' ORDER BY 1;
SELECT * FROM still('T2', '2026-01-01 12:00Z', '{20,8}');
SELECT * FROM still('T2', '2026-01-01 12:00Z', '{21,8}');
SELECT place_order('c', '[{"productId": "d", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT * FROM still_without_d('T2', '2026-01-01 12:00Z');
SELECT * FROM still_without_d('T2', '2026-01-01 12:00Z', '"?"');
SELECT * FROM still('T2', '2026-01-01 12:00Z', '{21,8}');
SELECT * FROM still_without_d('T2', '2026-01-01 12:00Z', '"?"');
SELECT * FROM still('T2', '2026-01-01 12:00Z', '{50,8}');
SELECT * FROM still('T2', '2026-01-01 12:00Z', '{50,8}');
SELECT place_order('c', '[{"productId": "d", "quantity": 3}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT * FROM still('T2', '2026-01-01 12:00Z', '{45,8}');
-- SKUs that are swapped under it: each goes when the vendor has counted what was confirmed as the other,
-- and no unit is for sale again, however often the old count is told
SELECT map_products('e', '[{"vendorSku": "d", "productId": "o"}, {"vendorSku": "o", "productId": "d"}]');
SELECT FROM still('T2', '2026-01-01 12:00Z', '{45,8}');
SELECT * FROM e_stock;
SELECT FROM still('T2', '2026-01-01 12:00Z', '{42,8}');
SELECT * FROM e_stock;
SELECT FROM still('T2', '2026-01-01 12:00Z', '{42,8}');
SELECT FROM still('T2', '2026-01-01 12:00Z', '{42,8}');
SELECT * FROM e_stock;
SELECT FROM still('T2', '2026-01-01 12:00Z', '{42,3}');
SELECT FROM still('T2', '2026-01-01 12:00Z', '{42,3}');
SELECT * FROM e_stock;
-- a time that stands still ahead of ours is none, also of what comes back, or is another product
SELECT map_products('e', '[{"vendorSku": "d", "productId": null}, {"vendorSku": "o", "productId": null}]');
SELECT FROM still('T3', clock_timestamp(), '{30,9}');
SELECT * FROM still('T3', clock_timestamp(), '{30,9}');
SELECT place_order('c', '[{"productId": "d", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT * FROM still_without_d('T3', clock_timestamp());
SELECT * FROM still('T3', clock_timestamp(), '{30,9}');
SELECT map_product('e', 'd', 'd2');
SELECT FROM still('T3', clock_timestamp(), '{30,9}');
SELECT FROM still('T3', clock_timestamp(), '{30,9}');
SELECT * FROM e_stock;
SELECT map_product('e', 'd', NULL);
SELECT FROM still('T3', clock_timestamp(), '{30,9}');
SELECT * FROM e_stock;
-- another name: it is the same units, and their last count
SELECT place_order('c', '[{"productId": "d", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT FROM still('T3', clock_timestamp(), '{30,9}');
SELECT map_product('e', 'a', 'd');
SELECT id AS feed FROM begin_feed('e', clock_timestamp(), 'Last-Modified', 'T3', clock_timestamp(), 2, 0, 2, '{a,o}') AS id \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0,1}', '{a,o}', '{NULL,NULL}', '{30,9}', '{1,1}', '{NULL,NULL}');
SELECT finish_feed(:feed) ->> 'status' AS status;
SELECT * FROM e_stock;
SELECT map_product('e', 'a', NULL);
-- a feed with a new time passes the former product over, which gets its SKU back under that time
SELECT FROM still('T4', clock_timestamp(), '{29,9}');
SELECT map_product('e', 'd', 'd3');
SELECT FROM still('T5', clock_timestamp(), '{28,9}');
SELECT clock_timestamp() AS t6 \gset
SELECT place_order('c', '[{"productId": "d3", "quantity": 3}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT FROM still('T6', :'t6', '{27,9}');
SELECT * FROM e_stock;
SELECT map_product('e', 'd', NULL);
SELECT FROM still('T6', :'t6', '{27,9}');
SELECT * FROM e_stock;
-- a time ahead that was told by a feed which did not come to its end
SELECT begin_feed('e', clock_timestamp(), 'Last-Modified', 'T7', clock_timestamp(), 2, 0, 2, '{d,o}') AS feed \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0,1}', '{d,o}', '{NULL,NULL}', '{40,9}', '{1,1}', '{NULL,NULL}');
SELECT place_order('c', '[{"productId": "d", "quantity": 5}]') AS order_id \gset
SELECT confirm_order(:order_id);
SELECT map_product('e', 'z', NULL);
SELECT FROM still('T7', clock_timestamp(), '{40,9}');
SELECT * FROM e_stock;
-- a former SKU that the feed lacks says nothing of what was confirmed of it
SELECT map_products('e', '[{"vendorSku": "d", "productId": "q"}, {"vendorSku": "n", "productId": "d"}]');
SELECT id AS feed FROM begin_feed('e', clock_timestamp(), 'Last-Modified', 'T8', clock_timestamp(), 2, 0, 2, '{n,o}') AS id \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0,1}', '{n,o}', '{NULL,NULL}', '{8,9}', '{1,1}', '{NULL,NULL}');
SELECT finish_feed(:feed) -> 'rules' AS rules;
SELECT * FROM e_stock;
SELECT map_product('e', 'd', NULL);
SELECT id AS feed FROM begin_feed('e', clock_timestamp(), 'Last-Modified', 'T8', clock_timestamp(), 2, 0, 2, '{n,o}') AS id \gset
SELECT apply_feed_part(:feed, NULL, NULL, '{0,1}', '{n,o}', '{NULL,NULL}', '{8,9}', '{1,1}', '{NULL,NULL}');
SELECT finish_feed(:feed) -> 'rules' AS rules;
SELECT * FROM e_stock;
DROP VIEW e_stock;
-- what was pulled from another URL, or was to be read otherwise, is not applied
SELECT begin_feed('e', now(), config_no => 0) IS NULL AS refused, (SELECT status FROM refused_feed()) AS status;

-- a mapping says what values mean, and no more
SELECT configure_vendor('a', feed_mapping => '{"decimal": ";"}');
SELECT configure_vendor('a', feed_mapping => '{"repeated": "max"}');
SELECT configure_vendor('a', feed_mapping => '{"timeZone": "Mars/Olympus"}');
SELECT configure_vendor('a', feed_mapping => '{"charset": "utf-16//IGNORE"}');
SELECT configure_vendor('a', feed_mapping => '{"timeZone": "Europe/Berlin", "charset": "windows-1252", "decimal": ",", "repeated": "sum"}');
SELECT * FROM check_consistency();
-- a sample of the SKUs stands for all of them: half of it known is half of the feed
SELECT register_vendor('s', 'S');
SELECT FROM sync_vendor_stock('s', (SELECT jsonb_agg(jsonb_build_object('id', 's' || n, 'quantity', 1)) FROM generate_series(1, 200) AS n), '2026-01-01');
SELECT configure_vendor('s', drop_limit => 40);
BEGIN; SELECT begin_feed('s', '2026-01-02', items => 200, unreadable => 0, offers => 200, skus => ARRAY['s1', 's2', 's3', 'new1']) IS NULL AS refused; ROLLBACK;
BEGIN; SELECT begin_feed('s', '2026-01-02', items => 200, unreadable => 0, offers => 200, skus => ARRAY['s1', 's2', 'new1', 'new2']) IS NULL AS refused; ROLLBACK;
-- a time before 2000 is one, too, and no earlier than none
SELECT register_vendor('t', 'T');
SELECT sync_vendor_stock('t', '[{"id": "t1", "quantity": 5, "price": 1}]', '1980-01-01') ->> 'status' AS status;
SELECT available FROM product_stock WHERE product_id = 't1';
-- what a first feed brings that never ends is sold no longer than what another does
SELECT register_vendor('u', 'U');
SELECT begin_feed('u', now()) AS sync_id \gset
SELECT apply_feed_part(:sync_id, NULL, 'v', '{0}', '{u1}', '{NULL}', '{50}', '{1}', '{NULL}');
SELECT stale_at > now() AS ends, confirmed_at FROM vendor WHERE vendor_id = 'u';
SELECT configure_vendor('u', stale_after => '1 microsecond');
SELECT is_stale FROM vendor_sync WHERE vendor_id = 'u';
SELECT place_order('c', '[{"productId": "u1", "quantity": 1}]');
SELECT tell_stale_vendors() > 0 AS told;
SELECT payload -> 'confirmedAt' AS confirmed FROM outbox WHERE routing_key = 'stock.stale.u';
-- the field that is missing
SELECT apply_feed_part(:sync_id, NULL, 'v', '{0}', '{u1}', NULL, '{50}', '{1}', '{NULL}');
-- a name that was encoded twice has control characters of Unicode's second row
SELECT sync_vendor_stock('u', jsonb_build_array(jsonb_build_object('id', 'u1', 'quantity', 1, 'price', 1, 'name', 'Men' || chr(226) || chr(128) || chr(153) || 's'))) -> 'rules' AS rules;
SELECT name = 'Men' || chr(226) || '    s' AS cleaned FROM product WHERE product_id = 'u1';
-- as long as something waits for an order's end, the feed is asked for as a whole
SELECT register_vendor('w', 'W'), sync_vendor_stock('w', '[{"id": "w1", "quantity": 5, "price": 1}, {"id": "w2", "quantity": 5, "price": 1}]') IS NOT NULL AS fed;
SELECT place_order('c', '[{"productId": "w1", "quantity": 1}]') AS order_id \gset
SELECT map_products('w', '[{"vendorSku": "w1", "productId": "w2"}, {"vendorSku": "w2", "productId": "w1"}]');
SELECT begin_feed('w', now()) AS sync_id \gset
SELECT apply_feed_part(:sync_id, NULL, NULL, '{0,1}', '{w1,w2}', '{NULL,NULL}', '{5,5}', '{1,1}', '{NULL,NULL}');
SELECT finish_feed(:sync_id, '"e1"', 'Thu, 01 Jan 2026 12:00:00 GMT') -> 'rules' AS rules;
SELECT feed_etag, feed_last_modified FROM vendor WHERE vendor_id = 'w';
SELECT cancel_order(:order_id, 'no');
SELECT begin_feed('w', now()) AS sync_id \gset
SELECT apply_feed_part(:sync_id, NULL, NULL, '{0,1}', '{w1,w2}', '{NULL,NULL}', '{5,5}', '{1,1}', '{NULL,NULL}');
SELECT finish_feed(:sync_id, '"e1"', 'Thu, 01 Jan 2026 12:00:00 GMT') -> 'rules' AS rules;
SELECT feed_etag, feed_last_modified FROM vendor WHERE vendor_id = 'w';
-- what came back, and is counted, is not missing again because the next feed tells the same time
SELECT register_vendor('r', 'R');
SELECT begin_feed('r', now() - interval '1 hour', 'Last-Modified', 'first', now() - interval '59 minutes') AS sync_id \gset
SELECT apply_feed_part(:sync_id, NULL, NULL, '{0}', '{r1}', '{NULL}', '{10}', '{1}', '{NULL}'), finish_feed(:sync_id) IS NOT NULL AS finished;
SELECT place_order('c', '[{"productId": "r1", "quantity": 2}]') AS order_id \gset
SELECT confirm_order(:order_id, 'r');
SELECT return_order(:order_id) IS NOT NULL AS returned;
SELECT on_hand FROM stock WHERE product_id = 'r1';
SELECT begin_feed('r', clock_timestamp(), 'Last-Modified', 'second', clock_timestamp()) AS sync_id \gset
SELECT apply_feed_part(:sync_id, NULL, NULL, '{0}', '{r1}', '{NULL}', '{10}', '{1}', '{NULL}'), finish_feed(:sync_id) IS NOT NULL AS finished;
SELECT begin_feed('r', (SELECT feed_told_at FROM vendor WHERE vendor_id = 'r'), 'Last-Modified', 'second', clock_timestamp()) AS sync_id \gset
SELECT apply_feed_part(:sync_id, NULL, NULL, '{0}', '{r1}', '{NULL}', '{10}', '{1}', '{NULL}'), finish_feed(:sync_id) IS NOT NULL AS finished;
SELECT on_hand FROM stock WHERE product_id = 'r1';
SELECT * FROM check_consistency();
