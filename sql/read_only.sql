-- every function that writes refuses a READ ONLY transaction, as INSERT does
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS a, sync_vendor_stock('b', '[{"id": "y", "quantity": 10, "price": 2}]') IS NOT NULL AS b;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}, {"productId": "y", "quantity": 1}]');
-- all functions of the extension, whatever their arguments: what a new one is not told is shown here
CREATE FUNCTION pg_temp.outcome(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE call;
	RETURN 'runs';
EXCEPTION
	WHEN read_only_sql_transaction THEN RETURN 'refused';
	WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE calls AS
SELECT p.proname, p.provolatile, format('SELECT FROM order_aggregator.%I(%s)', p.proname,
	(SELECT string_agg(format('NULL::%s', format_type(t.oid, NULL)), ', ') FROM unnest(p.proargtypes) AS t(oid))) AS call
FROM pg_proc AS p JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'order_aggregator') AND p.prorettype <> 'trigger'::regtype AND p.prokind = 'f';
BEGIN READ ONLY;
SELECT proname, pg_temp.outcome(call) FROM calls WHERE provolatile = 'v' ORDER BY 1;
ROLLBACK;
-- with arguments that would do something
BEGIN READ ONLY;
SELECT call, pg_temp.outcome('SELECT * FROM order_aggregator.' || call) FROM (VALUES
	('place_order(''c'', ''[{"productId": "x", "quantity": 1}]'')'), ('place_orders(''[{"productId": "nowhere", "quantity": 1}]'')'), ('place_orders(''[]'')'),
	('confirm_order(1, ''a'')'), ('confirm_order(1)'), ('reject_order(1, ''a'', ''no'')'), ('cancel_order(1, ''no'')'), ('return_order(1)'),
	('apply_vendor_replies(''[{"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed"}]'')'), ('apply_vendor_replies(''[]'')'),
	('expire_orders()'), ('publish_event(''mine'', ''{}'')'), ('register_vendor(''c'', ''C'')'), ('sync_vendor_stock(''a'', ''[]'')')) AS c(call);
ROLLBACK;
-- reading goes on
BEGIN READ ONLY;
SELECT * FROM check_consistency();
SELECT status FROM order_summary;
ROLLBACK;
SELECT status FROM orders;
