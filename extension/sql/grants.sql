/* who may do what: what is not granted here is closed, whatever was open in 1.0 */

-- the way back to the openness of 1.0, for those who upgrade and need it: SELECT
-- order_aggregator.open_to_public()
CREATE OR REPLACE FUNCTION open_to_public() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	GRANT USAGE ON SCHEMA order_aggregator TO PUBLIC;
	GRANT SELECT ON order_aggregator.vendor_offer, order_aggregator.product_stock,
		order_aggregator.order_summary, order_aggregator.unroutable_event TO PUBLIC;
	GRANT EXECUTE ON FUNCTION order_aggregator.register_vendor,
		order_aggregator.configure_vendor, order_aggregator.configure_product,
		order_aggregator.map_product, order_aggregator.map_products,
		order_aggregator.sync_vendor_stock, order_aggregator.place_order,
		order_aggregator.place_orders, order_aggregator.confirm_order,
		order_aggregator.reject_order, order_aggregator.cancel_order,
		order_aggregator.apply_vendor_replies, order_aggregator.expire_orders,
		order_aggregator.return_order, order_aggregator.publish_event,
		order_aggregator.check_consistency TO PUBLIC
$$;
COMMENT ON FUNCTION open_to_public() IS
'Gives everyone who may connect what 1.0 gave them: orders, settlement, vendors, events. Only the '
'extension''s owner can; see docs/security.md before.';

-- Roles belong to the cluster, the grants to this database. A role that is there is kept as it is:
-- other databases may use it, and a restore finds it made already. Two databases may get the
-- extension at the same moment.
DO $$
DECLARE
	role_name text;
BEGIN
	FOREACH role_name IN ARRAY ARRAY['order_aggregator_reader', 'order_aggregator_shop',
		'order_aggregator_vendor',
									 'order_aggregator_bridge', 'order_aggregator_admin']
	LOOP
		BEGIN
			IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r
				WHERE r.rolname OPERATOR(pg_catalog.=) role_name) THEN
				EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
			END IF;
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL;
		END;
	END LOOP;
END
$$;

-- From PUBLIC everything, and what is new also from whoever has got it by ALTER DEFAULT PRIVILEGES.
-- What the site has granted by name on what was here before stays; what is in the schema and is not
-- ours, too.
DO $$
DECLARE
	statement text;
BEGIN
	FOR statement IN
		SELECT pg_catalog.format('REVOKE ALL ON %s %s FROM %s',
			CASE WHEN i.type OPERATOR(pg_catalog.=) 'view' THEN 'table' ELSE i.type END, i.identity,
			CASE WHEN g.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC'
				ELSE g.grantee::pg_catalog.regrole::pg_catalog.text END)
		FROM pg_temp.ours AS o
		CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS i
		LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) o.objid
			AND o.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
		LEFT JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) o.objid
			AND o.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
		CROSS JOIN LATERAL (SELECT 0::pg_catalog.oid AS grantee
			UNION
			SELECT a.grantee
			FROM pg_catalog.aclexplode(COALESCE(c.relacl, p.proacl)) AS a
			WHERE a.grantee OPERATOR(pg_catalog.<>) a.grantor
				AND NOT EXISTS (SELECT FROM pg_temp.ours_before AS b
					WHERE b.classid OPERATOR(pg_catalog.=) o.classid
						AND b.objid OPERATOR(pg_catalog.=) o.objid)) AS g
		-- those of rows, which 17 and later count as an extension's own, go with their tables
		WHERE i.type OPERATOR(pg_catalog.<>) 'type'
	LOOP
		EXECUTE statement;
	END LOOP;
END
$$;

GRANT USAGE ON SCHEMA order_aggregator TO order_aggregator_reader, order_aggregator_shop,
	order_aggregator_vendor, order_aggregator_bridge, order_aggregator_admin;

-- reads everything that is meant to be read
GRANT SELECT ON vendor_offer, product_stock, order_summary, unroutable_event,
	deferred_event, vendor_sync TO order_aggregator_reader;
GRANT EXECUTE ON FUNCTION check_consistency(), check_orders(bigint, bigint), check_stock()
	TO order_aggregator_reader;

-- takes orders
GRANT SELECT ON vendor_offer, product_stock, order_summary TO order_aggregator_shop;
GRANT EXECUTE ON FUNCTION place_order(text, jsonb, text, text, interval, boolean),
	place_orders(jsonb), cancel_order(bigint, text), return_order(bigint, jsonb, boolean, text)
	TO order_aggregator_shop;

-- a vendor's login, for the vendors that vendor_login gives it
GRANT SELECT ON vendor_order, vendor_stock TO order_aggregator_vendor;
GRANT EXECUTE ON FUNCTION confirm_order(bigint, text), reject_order(bigint, text, text),
	sync_vendor_stock(text, jsonb, timestamptz) TO order_aggregator_vendor;

-- order-bridge, all roles of it
GRANT SELECT ON vendor_offer, product_stock, order_summary, unroutable_event,
	deferred_event, vendor_sync, vendor, feed_sync, relay_checkpoint, parked_event, orders TO
	order_aggregator_bridge;
GRANT EXECUTE ON FUNCTION place_order_documents(jsonb), order_documents(bigint[]),
	product_documents(text[]),
	place_order_documents_skip_locked(jsonb), cancel_order_once(bigint, text, text),
	return_order(bigint, jsonb, boolean, text), apply_vendor_replies(jsonb, text[]),
	apply_vendor_replies_skip_locked(jsonb, text[]), expire_orders(int),
	expire_orders_skip_locked(int), settle_shortages(int), settle_shortages_skip_locked(int),
	has_silent_vendors(interval), ask_silent_vendors(interval, int),
	claim_due_feeds(interval, int),
	begin_feed(text, timestamptz, text, text, timestamptz, int, int, int, text[], text, int),
	refused_feed(), tell_stale_vendors(),
	apply_feed_part(bigint, text, text, int[], text[], text[], text[], text[], text[]),
	finish_feed(bigint, text, text),
	record_feed_pull(text, bigint, text, text, int, interval, interval, int),
	postpone_feed(text, bigint, text, interval), make_outbox_partitions(int),
	drop_outbox_partitions(interval), forget_idempotency_keys(interval),
	forget_feed_syncs(interval), outbox_head(), outbox_tail(), unrelayed_since(), outbox_top(),
	next_xid(),
	replay_timeline(),
	relay_try_lead(), relay_fall_asleep(), relay_wake_up(), relay_acquire(text),
	relay_advance(bigint, pg_snapshot, bigint, pg_snapshot, bigint, bigint, timestamptz),
	relay_events(bigint, xid8, xid8[], pg_snapshot, int, bigint, bigint),
	settled_events(bigint, bigint, int), park_event(bigint, int, text),
	defer_events(bigint[], text, boolean), deferred_events(int, bigint),
	deferred_events_sent(bigint[]), missing_events(bigint[], uuid[], bigint[]),
	leave_order_ids(), redrive_parked_events(int) TO order_aggregator_bridge;

-- keeps the shop: all the above but the relay's own steps, and what is set up
GRANT order_aggregator_reader, order_aggregator_shop, order_aggregator_vendor TO
	order_aggregator_admin;
GRANT SELECT ON vendor, vendor_login, product, stock, stock_lane, product_map, feed_sync, shortage,
	orders, order_line, hold, vendor_retry, order_return, idempotency, outbox, relay_checkpoint,
	parked_event, deferred_event, order_summary, product_stock, unroutable_event, vendor_offer,
	vendor_order, vendor_stock, vendor_sync TO order_aggregator_admin;
GRANT EXECUTE ON FUNCTION register_vendor(text, text, text, int),
	configure_vendor(text, interval, jsonb, bigint, text, boolean, text, name[], interval, int),
	accept_feed(text), tell_stale_vendors(), configure_product(text, bigint, bigint, text, "any"),
	map_product(text, text, text), map_products(text, jsonb),
	publish_event(text, jsonb, jsonb, boolean), redrive_parked_events(int),
	apply_vendor_replies(jsonb, text[]), expire_orders(int), settle_shortages(int),
	ask_silent_vendors(interval, int), make_outbox_partitions(int),
	drop_outbox_partitions(interval), forget_idempotency_keys(interval),
	forget_feed_syncs(interval), leave_order_ids() TO order_aggregator_admin;

-- Of an object on which a script grants something, PostgreSQL takes all privileges for the
-- extension's own, which a dump leaves out: true of what we grant alone. Since 17 the roles among
-- them cannot be dropped, either.
DELETE FROM pg_catalog.pg_init_privs AS i USING pg_temp.ours AS o
WHERE i.classoid OPERATOR(pg_catalog.=) o.classid AND i.objoid OPERATOR(pg_catalog.=) o.objid
	AND i.objsubid OPERATOR(pg_catalog.<>) 0;
UPDATE pg_catalog.pg_init_privs AS i
SET initprivs = ARRAY(SELECT t.item
	FROM pg_catalog.unnest(i.initprivs) AS t(item)
	WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(ARRAY[t.item]) AS a
		WHERE a.grantee OPERATOR(pg_catalog.=) a.grantor
			OR a.grantee OPERATOR(pg_catalog.=) ANY (ARRAY['order_aggregator_reader',
				'order_aggregator_shop', 'order_aggregator_vendor', 'order_aggregator_bridge',
				'order_aggregator_admin']::pg_catalog.regrole[]::pg_catalog.oid[])))
FROM pg_temp.ours AS o
WHERE i.classoid OPERATOR(pg_catalog.=) o.classid AND i.objoid OPERATOR(pg_catalog.=) o.objid;
DELETE FROM pg_catalog.pg_shdepend AS d USING pg_temp.ours AS o, pg_catalog.pg_database AS b
WHERE d.classid OPERATOR(pg_catalog.=) o.classid AND d.objid OPERATOR(pg_catalog.=) o.objid
	AND b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
	AND d.dbid OPERATOR(pg_catalog.=) b.oid AND d.deptype OPERATOR(pg_catalog.=) 'i'
	AND NOT EXISTS (SELECT
		FROM pg_catalog.pg_init_privs AS i, pg_catalog.aclexplode(i.initprivs) AS a
		WHERE i.classoid OPERATOR(pg_catalog.=) d.classid
			AND i.objoid OPERATOR(pg_catalog.=) d.objid
			AND i.objsubid OPERATOR(pg_catalog.=) d.objsubid
			AND (a.grantee OPERATOR(pg_catalog.=) d.refobjid
				OR a.grantor OPERATOR(pg_catalog.=) d.refobjid));
DROP TABLE pg_temp.ours_before;
DROP VIEW pg_temp.ours;
