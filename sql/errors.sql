-- bad input: an error of its own that names the field, and nothing changed
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS synced;
SELECT n, error->>'code' AS code, error->>'field' AS field, error->>'message' AS message
FROM place_orders('[
  {}, {"products": null}, {"products": {}}, {"products": []}, {"products": [7]}, {"products": [[]]}, {"products": [{}]},
  {"products": [{"productId": "x"}]}, {"products": [{"quantity": 1}]},
  {"products": [{"productId": "x", "quantity": 0}]}, {"products": [{"productId": "x", "quantity": -1}]},
  {"products": [{"productId": "x", "quantity": 1.5}]}, {"products": [{"productId": "x", "quantity": 1000000001}]},
  {"products": [{"productId": "x", "quantity": 99999999999999999999999999}]}, {"products": [{"productId": "x", "quantity": 1e400}]},
  {"products": [{"productId": "x", "quantity": "1"}]}, {"products": [{"productId": "x", "quantity": null}]},
  {"products": [{"productId": "x", "quantity": true}]}, {"products": [{"productId": "x", "quantity": [1]}]},
  {"products": [{"productId": "", "quantity": 1}]}, {"products": [{"productId": 7, "quantity": 1}]},
  {"products": [{"productId": "x\u0001", "quantity": 1}]}, {"products": [{"productId": "x\u0085", "quantity": 1}]},
  {"products": [{"productId": "x", "vendorProductId": "x", "quantity": 1}]},
  {"products": [{"productId": "x", "quantity": 1, "colour": "red"}]},
  {"products": [{"productId": "x", "quantity": 1}], "colour": "red"},
  {"products": [{"productId": "x", "quantity": 1}], "quantity": 1}, {"quantity": 1}, {"productId": "x"},
  {"products": [{"productId": "x", "quantity": 1000000000}, {"productId": "x", "quantity": 1}]},
  {"productId": "x", "quantity": 1, "customerId": 7}, {"productId": "x", "quantity": 1, "customerId": ""},
  {"productId": "x", "quantity": 1, "strategy": "dearest"}, {"productId": "x", "quantity": 1, "strategy": 1},
  {"productId": "x", "quantity": 1, "holdFor": "soon"}, {"productId": "x", "quantity": 1, "holdFor": "-1 hour"},
  {"productId": "x", "quantity": 1, "holdFor": "10 years"}, {"productId": "x", "quantity": 1, "allowPartial": "yes"},
  {"productId": "x", "quantity": 1, "idempotencyKey": ""}, 1, null, [], "x"]') AS p(n, order_id, status, total_amount, error) ORDER BY n;
SELECT error->>'field' AS field, error->>'message' AS message FROM place_orders(jsonb_build_array(
  jsonb_build_object('productId', repeat('x', 129), 'quantity', 1),
  jsonb_build_object('productId', 'x', 'quantity', 1, 'customerId', repeat('x', 129)),
  jsonb_build_object('productId', 'x', 'quantity', 1, 'idempotencyKey', repeat('x', 256)),
  jsonb_build_object('products', (SELECT jsonb_agg(jsonb_build_object('productId', 'x', 'quantity', 1)) FROM generate_series(1, 1001)))));
-- what a stranger calls a thing comes back to 128 characters of it, whole ones
SELECT char_length(error->>'field') AS field, right(error->>'field', 5) AS field_end, char_length(error->>'message') AS message, right(error->>'message', 28) AS message_end
FROM place_orders(jsonb_build_array(
  jsonb_build_object('productId', 'x', 'quantity', 1, repeat('x', 1000000), 1),
  jsonb_build_object('productId', 'x', 'quantity', 1, repeat('ä', 129), 1), jsonb_build_object('productId', 'x', 'quantity', 1, repeat('😀', 128), 1),
  jsonb_build_object('products', jsonb_build_array(jsonb_build_object('productId', 'x', 'quantity', 1, repeat('ä', 1000000), 1))))) ORDER BY request_no;
BEGIN;
DO $$
DECLARE
	statement text;
	said text;
	detail text;
BEGIN
	PERFORM order_aggregator.confirm_order(order_aggregator.place_order('c', '[{"productId": "x", "quantity": 1}]'));
	FOREACH statement IN ARRAY ARRAY[
		$s$ SELECT order_aggregator.return_order(1, jsonb_build_array(jsonb_build_object(repeat('ä', 100000), 1))) $s$,
		$s$ SELECT order_aggregator.configure_vendor('a', feed_mapping => jsonb_build_object(repeat('ä', 100000), 'x')) $s$,
		$s$ SELECT order_aggregator.configure_vendor('a', feed_mapping => jsonb_build_object(repeat('ä', 100000), 1)) $s$,
		$s$ SELECT order_aggregator.sync_vendor_stock(repeat('ä', 100000), '[]') $s$,
		$s$ SELECT order_aggregator.confirm_order(order_aggregator.place_order('c', '[{"productId": "x", "quantity": 1}]'), repeat('ä', 100000)) $s$]
	LOOP
		BEGIN
			EXECUTE statement;
			RAISE 'taken: %', statement;
		EXCEPTION WHEN SQLSTATE '22023' OR SQLSTATE 'OA005' THEN
			GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
			RAISE NOTICE '% % %', SQLSTATE, char_length(said) < 300 AND char_length(detail) < 300 AND said ~ 'ä\.\.\.', regexp_replace(said, 'ä+', 'ä');
		END;
	END LOOP;
END $$;
SELECT order_id AS placed FROM orders LIMIT 1 \gset
SELECT configure_vendor('a', amqp_user => 'wms');
SELECT outcome, char_length(detail) < 300 AS is_short, regexp_replace(detail, 'ä+', 'ä') AS detail
FROM apply_vendor_replies(jsonb_build_array(jsonb_build_object('orderId', :placed, 'vendorId', 'a', 'attempt', 1, 'status', 'confirmed')), ARRAY[repeat('ä', 100000)]);
ROLLBACK;
SELECT * FROM place_orders('{}');
SELECT * FROM place_orders('7');
SELECT * FROM place_orders(NULL);
SELECT * FROM place_orders((SELECT jsonb_agg(1) FROM generate_series(1, 10001)));
\set VERBOSITY sqlstate
SELECT place_order('c', NULL);
SELECT place_order('c', '[]');
SELECT place_order('c', '{"productId": "x", "quantity": 1}');
SELECT place_order(E'c\n', '[{"productId": "x", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]', strategy => 'dearest');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]', hold_for => '0');
SELECT place_order('c', '[{"productId": "x", "quantity": 11}]');
SELECT place_order('c', '[{"productId": "nowhere", "quantity": 1}]');
SELECT register_vendor('a b', 'A');
SELECT register_vendor(NULL, 'A');
SELECT register_vendor('a', NULL);
SELECT register_vendor('a', 'A', 'ftp://x');
SELECT publish_event(NULL, '{}');
SELECT publish_event('', '{}');
SELECT publish_event('a', '{}', '[]');
SELECT publish_event('a', '{}', '{"x": {}}');
SELECT publish_event('a', '{}', '{"x": 1e400}');
SELECT publish_event('a', '{}', jsonb_build_object('x', repeat('x', 40000)));
SELECT publish_event('a', to_jsonb(repeat('x', 17000000)));
SELECT publish_event(repeat('ä', 200), '{}');
SELECT expire_orders(0);
SELECT apply_vendor_replies('{}');
SELECT apply_vendor_replies(NULL);
SELECT cancel_order(1, repeat('x', 1001));
\set VERBOSITY default
SELECT place_order('c', '[{"productId": "x", "quantity": 11}]');
SELECT place_order('c', '[{"productId": "x", "quantity": 1}, {"productId": "x", "quantity": 0}]');
SELECT count(*) FROM orders;
SELECT on_hand, reserved FROM stock;
SELECT * FROM check_consistency();
-- between installing a version and ALTER EXTENSION UPDATE the tables are older than the library
SET client_min_messages = warning;
DROP EXTENSION order_aggregator;
CREATE EXTENSION order_aggregator VERSION '1.0';
RESET client_min_messages;
SELECT register_vendor('a', 'Vendor A');
SELECT begin_feed('a', now());
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]');
SELECT configure_product('x', buffer => 1);
SELECT count(*) FROM stock;
ALTER EXTENSION order_aggregator UPDATE;
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') ->> 'status' AS status;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]') > 0 AS placed;
SELECT * FROM check_consistency();
