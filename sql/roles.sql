-- who may do what: nobody anything, but for the five groups; no trigger function works elsewhere
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
DROP SCHEMA IF EXISTS order_aggregator CASCADE; -- with what other tests have left in it
CREATE EXTENSION order_aggregator;
DROP ROLE IF EXISTS oa_nobody, oa_reader, oa_shop, oa_vendor_a, oa_vendor_b, oa_bridge, oa_admin;
CREATE ROLE oa_nobody;
CREATE ROLE oa_reader IN ROLE order_aggregator_reader;
CREATE ROLE oa_shop IN ROLE order_aggregator_shop;
CREATE ROLE oa_vendor_a IN ROLE order_aggregator_vendor;
CREATE ROLE oa_vendor_b IN ROLE order_aggregator_vendor;
CREATE ROLE oa_bridge IN ROLE order_aggregator_bridge;
CREATE ROLE oa_admin IN ROLE order_aggregator_admin;
RESET client_min_messages;
-- all that is not the owner's alone
SELECT kind, what, string_agg(replace(grantee, 'order_aggregator_', ''), ' ' ORDER BY grantee) AS granted_to
FROM (SELECT 'function' AS kind, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS what,
		coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC') AS grantee
	  FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
	  WHERE p.pronamespace = 'order_aggregator'::regnamespace AND a.grantee <> p.proowner
	  UNION ALL
	  SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE 'table' END, c.relname || ': ' || lower(a.privilege_type),
		coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC')
	  FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) AS a
	  WHERE c.relnamespace = 'order_aggregator'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND a.grantee <> c.relowner
	  UNION ALL
	  SELECT 'schema', n.nspname || ': ' || lower(a.privilege_type), coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC')
	  FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
	  WHERE n.nspname = 'order_aggregator' AND a.grantee <> n.nspowner) AS g
GROUP BY kind, what ORDER BY kind, what COLLATE "C";
-- groups are kept, whoever made them
SELECT rolname, rolcanlogin, rolsuper, rolcreaterole FROM pg_roles WHERE rolname LIKE 'order\_aggregator\_%' ORDER BY 1;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}]') IS NOT NULL AS synced;
SELECT sync_vendor_stock('b', '[{"id": "x", "quantity": 10, "price": 3}, {"id": "y", "quantity": 10, "price": 3}]') IS NOT NULL AS synced;
-- a role with nothing
SET ROLE oa_nobody;
SELECT order_aggregator.place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT * FROM order_aggregator.product_stock;
CREATE TEMP TABLE mine (status text, closed_at int, order_id text, vendor_id int);
CREATE TRIGGER t BEFORE UPDATE ON mine FOR EACH ROW EXECUTE FUNCTION order_aggregator.guard_order();
RESET ROLE;
-- even who may make the trigger gains nothing by it
CREATE TEMP TABLE orders (order_id bigint, customer_id int, status int, closed_at text);
CREATE TEMP TABLE hold (order_id bigint, vendor_id int, status int);
INSERT INTO pg_temp.orders VALUES (1, 1, 1, NULL);
INSERT INTO pg_temp.hold VALUES (1, 1, 1);
CREATE TRIGGER guard_update BEFORE UPDATE ON pg_temp.orders FOR EACH ROW EXECUTE FUNCTION guard_order();
UPDATE pg_temp.orders SET status = 2;
DROP TRIGGER guard_update ON pg_temp.orders;
CREATE TRIGGER settle AFTER UPDATE ON pg_temp.orders REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders
	FOR EACH STATEMENT EXECUTE FUNCTION settle_closed_orders();
UPDATE pg_temp.orders SET status = 2;
CREATE TRIGGER guard_update BEFORE UPDATE ON pg_temp.hold FOR EACH ROW EXECUTE FUNCTION guard_hold();
UPDATE pg_temp.hold SET status = 2;
CREATE TRIGGER guard_stock BEFORE INSERT OR UPDATE OR DELETE ON pg_temp.hold FOR EACH ROW EXECUTE FUNCTION guard_stock();
DELETE FROM pg_temp.hold;
DROP TRIGGER guard_stock ON pg_temp.hold;
CREATE TRIGGER guard_reference BEFORE DELETE ON pg_temp.hold FOR EACH ROW EXECUTE FUNCTION guard_reference();
DELETE FROM pg_temp.hold;
CREATE TRIGGER guard_outbox BEFORE INSERT ON pg_temp.hold FOR EACH ROW EXECUTE FUNCTION guard_outbox();
INSERT INTO pg_temp.hold VALUES (2, 2, 2);
DROP TRIGGER guard_outbox ON pg_temp.hold;
CREATE TRIGGER ring_doorbell AFTER INSERT ON pg_temp.hold FOR EACH STATEMENT EXECUTE FUNCTION ring_doorbell();
INSERT INTO pg_temp.hold VALUES (2, 2, 2);
-- nor on our own tables, as another trigger
CREATE TRIGGER another BEFORE UPDATE ON order_aggregator.orders FOR EACH ROW EXECUTE FUNCTION guard_order();
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
UPDATE order_aggregator.orders SET customer_id = 'd';
DROP TRIGGER another ON order_aggregator.orders;
SELECT guard_order();
DROP TABLE pg_temp.orders, pg_temp.hold;
-- a reader reads
SET ROLE oa_reader;
SELECT order_id, status FROM order_summary;
SELECT * FROM check_consistency();
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT cancel_order(1, 'no');
SELECT * FROM order_aggregator.orders;
-- a shop takes orders
SET ROLE oa_shop;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
SELECT confirm_order(1);
SELECT register_vendor('evil', 'Evil', 'http://127.0.0.1/');
SELECT sync_vendor_stock('a', '[]');
SELECT publish_event('mine', '{}');
SET order_aggregator.hold_for_max = '300 days';
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]', hold_for => '8 days');
SELECT error FROM place_orders('[{"productId": "y", "quantity": 1, "holdFor": "8 days"}]');
-- a vendor answers for its own, and sees no other's
RESET ROLE;
SELECT configure_vendor('a', logins => '{oa_vendor_a}'), configure_vendor('b', logins => '{oa_vendor_b}');
SELECT configure_vendor('b', logins => '{oa_vendor_nobody}');
SELECT configure_vendor('b', logins => '{NULL}');
SET ROLE oa_vendor_a;
SELECT vendor_id, order_id, product_id, vendor_sku, quantity, unit_price, status, customer_id, order_status FROM vendor_order ORDER BY order_id;
SELECT vendor_id, product_id, on_hand, reserved FROM vendor_stock;
SELECT confirm_order(1);
SELECT confirm_order(1, 'b');
SELECT confirm_order(3, 'a');
SELECT confirm_order(3, 'b');
SELECT confirm_order(99, 'a');
SELECT reject_order(3, 'b', 'no');
SELECT sync_vendor_stock('b', '[]');
-- nor by way of a function of its own that somebody else calls
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS oa_vendor_a CASCADE;
RESET client_min_messages;
CREATE SCHEMA oa_vendor_a AUTHORIZATION oa_vendor_a;
SET ROLE oa_vendor_a;
CREATE FUNCTION oa_vendor_a.way_round() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT order_aggregator.confirm_order(3, 'b') $$;
RESET ROLE;
GRANT USAGE ON SCHEMA oa_vendor_a TO oa_nobody;
SET ROLE oa_nobody;
SELECT oa_vendor_a.way_round();
RESET ROLE;
SELECT oa_vendor_a.way_round();
DROP SCHEMA oa_vendor_a CASCADE;
SET ROLE oa_vendor_a;
SELECT confirm_order(1, 'a');
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 7, "price": 2}]')->>'changed' AS changed;
SELECT vendor_id, order_id, status FROM vendor_order ORDER BY order_id;
-- a function that tells what it is shown is shown nothing more
CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'shown %', $1; RETURN true; END $$;
SELECT count(*) FROM vendor_order WHERE pg_temp.tell(vendor_id);
DROP FUNCTION pg_temp.tell(text);
SELECT * FROM order_summary;
SELECT * FROM product_stock;
SELECT cancel_order(2, 'no');
SELECT apply_vendor_replies('[]');
RESET ROLE;
-- who loses its vendor loses the right
SELECT configure_vendor('a', logins => '{}');
SET ROLE oa_vendor_a;
SELECT reject_order(2, 'a', 'no');
SELECT count(*) FROM vendor_order;
RESET ROLE;
-- a name that is nobody's may become somebody's
INSERT INTO vendor_login VALUES ('oa_vendor_gone', 'a');
SELECT * FROM check_consistency();
DELETE FROM vendor_login;
-- answers by AMQP: where a vendor has a user, only its answers count
SELECT configure_vendor('b', amqp_user => 'wms_b');
SELECT * FROM apply_vendor_replies('[{"orderId": 3, "vendorId": "b", "attempt": 1, "status": "confirmed"}]', '{evil}');
SELECT * FROM apply_vendor_replies('[{"orderId": 3, "vendorId": "b", "attempt": 1, "status": "confirmed"}]', '{NULL}');
SELECT * FROM apply_vendor_replies('[{"orderId": 3, "vendorId": "b", "attempt": 1, "status": "confirmed"}]', '{}');
SELECT * FROM apply_vendor_replies('[{"orderId": 3, "vendorId": "b", "attempt": 1, "status": "confirmed"}, {"orderId": 2, "vendorId": "a", "attempt": 1, "status": "confirmed"}]', '{wms_b,anybody}');
SELECT configure_vendor('b', amqp_user => E'x\n');
SELECT configure_vendor('b', amqp_user => '');
-- events that are ours cannot be published by hand
SET ROLE oa_admin;
SELECT publish_event(key, '{}') FROM unnest(ARRAY['order.confirmed']) AS key;
SELECT publish_event(key, '{}') FROM unnest(ARRAY['order']) AS key;
SELECT publish_event(key, '{}') FROM unnest(ARRAY['stock.low.x']) AS key;
SELECT publish_event(key, '{}') IS NOT NULL AS published FROM unnest(ARRAY['orders.mine', 'stocks', 'my.order.x', 'Order.x']) AS key;
SELECT relay_acquire('me');
SELECT relay_try_lead();
SELECT open_to_public();
-- the bridge needs no more than its group
SET ROLE oa_bridge;
SELECT order_id FROM place_order_documents('[{"productId": "y", "quantity": 1}]');
SELECT (relay_acquire('me')).holder;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT register_vendor('evil', 'Evil', 'http://127.0.0.1/');
UPDATE order_aggregator.stock SET on_hand = 1000;
RESET ROLE;
-- the way back
SELECT open_to_public();
SET ROLE oa_nobody;
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]') IS NOT NULL AS placed;
SELECT confirm_order(2);
SELECT problem FROM check_consistency();
SELECT relay_acquire('me');
RESET ROLE;
SELECT * FROM check_consistency();
RESET search_path;
SET client_min_messages = warning;
DROP TABLE mine;
DROP EXTENSION order_aggregator;
SELECT count(*) AS groups_left FROM pg_roles WHERE rolname LIKE 'order\_aggregator\_%';
CREATE EXTENSION order_aggregator;
SELECT count(*) AS public_functions FROM pg_proc AS p WHERE pronamespace = 'order_aggregator'::regnamespace AND has_function_privilege('oa_nobody', p.oid, 'EXECUTE');
DROP ROLE oa_nobody, oa_reader, oa_shop, oa_vendor_a, oa_vendor_b, oa_bridge, oa_admin;
