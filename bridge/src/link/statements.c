/*
 * statements.c
 *		The bridge's SQL statements. Values are parameters only.
 */
#include "link/statements.h"

/* of a primary, in hexadecimal */
#define TIMELINE         "left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)"
#define TIMELINE_OR_NONE "CASE WHEN pg_catalog.pg_is_in_recovery() THEN '' ELSE " TIMELINE " END"

const char SQL_TRANSACTION[] =
	"SELECT set_config('timezone', 'UTC', true), set_config('extra_float_digits', '3', true), "
	"set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, "
	"true), " TIMELINE_OR_NONE ", " SQL_DURABLE("true");

const char SQL_UNPREPARE[] = "DEALLOCATE ALL";

const char SQL_BACKEND_PID[] = "SELECT pg_catalog.pg_backend_pid()";

const char SQL_DATABASE[] = "SELECT c.system_identifier, "
							"  " TIMELINE_OR_NONE ", "
							"  (SELECT e.extversion FROM pg_catalog.pg_extension AS e "
							"   WHERE e.extname = 'order_aggregator'), "
							"  (SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') "
							"   FROM pg_catalog.pg_namespace AS n "
							"   WHERE n.nspname = 'order_aggregator') "
							"FROM pg_catalog.pg_control_system() AS c";

const char SQL_PLACE[] = "SELECT order_id, document, error->>'code', error FROM "
						 "order_aggregator.place_order_documents($1::jsonb) "
						 "ORDER BY request_no";

const char SQL_PLACE_SKIP_LOCKED[] =
	"SELECT order_id, document, error->>'code', error FROM "
	"order_aggregator.place_order_documents_skip_locked($1::jsonb) "
	"ORDER BY request_no";

const char SQL_APPLY_REPLIES[] =
	"SELECT outcome, detail FROM order_aggregator.apply_vendor_replies($1::jsonb, $2::text[]) "
	"ORDER BY reply_no";

const char SQL_APPLY_REPLIES_SKIP_LOCKED[] =
	"SELECT outcome, detail FROM order_aggregator.apply_vendor_replies_skip_locked($1::jsonb, "
	"$2::text[]) ORDER BY reply_no";

/* ---------- relay ---------- */

/* a checkpoint that is lost in a crash costs duplicates only */
const char SQL_RELAY_SESSION[] = "SET synchronous_commit = off";

/* who listens and does not read keeps all of it */
const char SQL_RELAY_LISTEN[] = "LISTEN order_aggregator";

/* a leader that is stopped or cut off loses its session, and with it the lock, so that another can
 * take over */
const char SQL_RELAY_LEASE[] = "SELECT set_config('idle_session_timeout', $1, false), "
							   "set_config('tcp_user_timeout', $1, false)";

/* changes with a fail-over, a restore, another database */
const char SQL_RELAY_TIMELINE[] =
	"SELECT c.system_identifier || ' ' || d.oid || ' ' || " TIMELINE " "
	"FROM pg_catalog.pg_control_system() AS c, pg_catalog.pg_database AS d "
	"WHERE d.datname = current_database()";

/* durable at once, whatever the session has */
const char SQL_LEAVE_ORDER_IDS[] = "SELECT set_config('synchronous_commit', 'on', true), "
								   "order_aggregator.leave_order_ids()";

const char SQL_RELAY_MISSING[] = "SELECT order_aggregator.missing_events($1, $2, $3)";

const char SQL_RELAY_TRY_LEAD[] = "SELECT order_aggregator.relay_try_lead()";

const char SQL_RELAY_MARK_IDLE[] = "SELECT order_aggregator.relay_fall_asleep()";

const char SQL_RELAY_UNMARK_IDLE[] = "SELECT order_aggregator.relay_wake_up()";

const char SQL_RELAY_ACQUIRE[] =
	"SELECT epoch, snapshot, low_event_id, window_snapshot, window_event_id, restored_upto "
	"FROM order_aggregator.relay_acquire($1)";

/* three statements: they must be read in this order (relay.c) */
const char SQL_RELAY_HORIZON[] =
	"SELECT order_aggregator.outbox_head(); SELECT order_aggregator.next_xid(), clock_timestamp(); "
	"SELECT pg_current_snapshot()";

/* when an order was placed, of the event that says it is confirmed */
#define PLACED_AT "CASE WHEN routing_key = 'order.confirmed' THEN payload::json ->> 'placedAt' END "

const char SQL_RELAY_EVENTS[] =
	"SELECT event_id, message_id, routing_key, mandatory, headers, payload, "
	"created_at_us, " PLACED_AT "FROM order_aggregator.relay_events($1, $2, $3, $4, $5, $6, $7)";

const char SQL_RELAY_ADVANCE[] =
	"SELECT order_aggregator.relay_advance($1, $2, $3, $4, $5, $6, $7)";

const char SQL_RELAY_PARK[] = "SELECT order_aggregator.park_event($1, $2, $3)";

const char SQL_RELAY_DEFER[] = "SELECT order_aggregator.defer_events($1, $2, $3)";

const char SQL_RELAY_DEFERRED[] =
	"SELECT event_id, message_id, routing_key, mandatory, headers, payload, "
	"created_at_us, " PLACED_AT "FROM order_aggregator.deferred_events($1, $2)";

const char SQL_RELAY_DEFERRED_SENT[] = "SELECT order_aggregator.deferred_events_sent($1)";

const char SQL_RELAY_HAS_DEFERRED[] = "SELECT EXISTS (SELECT FROM order_aggregator.deferred_event)";

/* the head after the top: it only grows */
const char SQL_OUTBOX_TOP_AND_HEAD[] =
	"SELECT order_aggregator.outbox_top(); SELECT order_aggregator.outbox_head()";

const char SQL_REDRIVE_PARKED[] = "SELECT order_aggregator.redrive_parked_events($1)";

/* ---------- housekeeping ---------- */

const char SQL_EXPIRE[] = "SELECT order_aggregator.expire_orders($1)";

const char SQL_EXPIRE_SKIP_LOCKED[] = "SELECT order_aggregator.expire_orders_skip_locked($1)";

const char SQL_BACKLOG[] =
	"SELECT greatest(0, order_aggregator.outbox_head() - coalesce(max(low_event_id), 0)), "
	"  coalesce(extract(epoch FROM now() - order_aggregator.unrelayed_since()), 0)::bigint, "
	"  (SELECT count(*) FROM order_aggregator.unroutable_event), (SELECT count(*) FROM "
	"order_aggregator.deferred_event), "
	"  (SELECT count(*) FROM order_aggregator.vendor_sync WHERE circuit <> 'closed'), "
	"  (SELECT count(*) FROM order_aggregator.vendor_sync WHERE is_stale AND is_active), "
	"  (SELECT count(*) FROM order_aggregator.vendor_sync WHERE feed_held_at IS NOT NULL) FROM "
	"order_aggregator.relay_checkpoint";

const char SQL_HAS_SILENT[] =
	"SELECT order_aggregator.has_silent_vendors(make_interval(secs => $1))::int";

const char SQL_ASK_SILENT[] =
	"SELECT order_aggregator.ask_silent_vendors(make_interval(secs => $1), 100)";

const char SQL_MAKE_PARTITIONS[] = "SELECT order_aggregator.make_outbox_partitions(1)";

const char SQL_DROP_PARTITIONS[] =
	"SELECT order_aggregator.drop_outbox_partitions(make_interval(hours => $1))";

const char SQL_FORGET_KEYS[] =
	"SELECT order_aggregator.forget_idempotency_keys(make_interval(hours => $1))";

const char SQL_FORGET_SYNCS[] =
	"SELECT order_aggregator.forget_feed_syncs(make_interval(hours => $1))";

const char SQL_SETTLE_SHORTAGES_SKIP_LOCKED[] =
	"SELECT order_aggregator.settle_shortages_skip_locked($1)";

const char SQL_SETTLE_SHORTAGES[] = "SELECT order_aggregator.settle_shortages($1)";

/* ---------- sync ---------- */

const char SQL_VENDOR_FEEDS[] =
	"SELECT vendor_id, stock_url, feed_mapping, feed_etag, feed_last_modified, feed_config_no "
	"FROM order_aggregator.vendor WHERE is_active AND stock_url IS NOT NULL AND ($1::text IS NULL "
	"OR "
	"vendor_id = $1) ORDER BY vendor_id";

const char SQL_CLAIM_FEEDS[] =
	"SELECT vendor_id, stock_url, feed_mapping, etag, last_modified, config_no "
	"FROM order_aggregator.claim_due_feeds(make_interval(secs => $1), $2)";

/*
 * The time that the feed tells ($2, microseconds since 1970; in the time zone $3 if it is given,
 * the earlier one of an hour that comes twice) by a clock that is ahead by $4; if that is none, or
 * later than when it was asked for, $8, the time $5, which is what $6 says. That was by the
 * bridge's clock, which is ahead by $15; the times are compared with those of the database, and no
 * count is later than its request. What became of one that is not begun is asked in the same
 * breath: only the same session knows it.
 */
const char SQL_BEGIN_FEED[] =
	"SELECT f.begun, r.sync_id, r.status, r.error FROM (SELECT order_aggregator.begin_feed($1, "
	"  CASE WHEN t.at <= p.at THEN t.at ELSE least(to_timestamp($5), p.at) END, "
	"  CASE WHEN t.at <= p.at THEN 'asOf' ELSE $6::text END, $7, "
	"  p.at, $9, $10, $11, $12, $13, $14) AS begun "
	"FROM (SELECT to_timestamp($8 - greatest($15, 0)) AS at) AS p, "
	"  (SELECT CASE WHEN $3::text IS NULL THEN u.at ELSE least("
	"      (u.at AT TIME ZONE 'UTC') AT TIME ZONE $3, "
	"      ((u.at - interval '1 hour') AT TIME ZONE 'UTC') AT TIME ZONE $3 + interval '1 hour') "
	"    END - make_interval(secs => $4) AS at "
	"  FROM (SELECT to_timestamp($2::float8 / 1000000) AS at) AS u) AS t OFFSET 0) AS f "
	"LEFT JOIN LATERAL (SELECT * FROM order_aggregator.refused_feed() WHERE f.begun IS NULL) AS r "
	"  ON true";

const char SQL_CLOCK[] = "SELECT extract(epoch FROM clock_timestamp())";

/* a part that is lost in a crash comes again with the next feed */
const char SQL_APPLY_FEED_PART[] =
	"SELECT p.rows FROM (SELECT set_config('synchronous_commit', 'off', true) OFFSET 0) AS s, "
	"  LATERAL order_aggregator.apply_feed_part($1, $2, $3, $4, $5, $6, $7, $8, $9) AS p(rows)";

const char SQL_FINISH_FEED[] =
	"SELECT r->>'status', r->>'items' FROM order_aggregator.finish_feed($1, $2, $3) AS r";

const char SQL_POSTPONE_FEED[] =
	"SELECT order_aggregator.postpone_feed($1, $2, $3, make_interval(secs => $4))";

const char SQL_RECORD_PULL[] =
	"SELECT order_aggregator.record_feed_pull($1, $2, $3, $4, $5, make_interval(secs => $6), "
	"make_interval(secs => $7), $8)";

const char SQL_TELL_STALE_VENDORS[] = "SELECT order_aggregator.tell_stale_vendors()";

/* ---------- http ---------- */

const char SQL_GET_ORDERS[] =
	"SELECT request_no, document FROM order_aggregator.order_documents($1::bigint[])";

/* $2: the change, and its request's "traceparent"; $4: how long to wait for somebody's lock */
#define FROM_CHANGE                                                                                \
	"FROM (SELECT j.b, set_config('lock_timeout', $4, true), "                                     \
	"  set_config('order_aggregator.traceparent', coalesce(j.b->>'traceparent', ''), true) "       \
	"FROM (SELECT $2::jsonb AS b) AS j OFFSET 0) AS d"

/* $2: {"reason"} */
const char SQL_CANCEL_ORDER[] =
	"SELECT json_build_object('message', 'Order cancelled', 'orderId', $1::bigint, 'status', "
	"  order_aggregator.cancel_order_once($1::bigint, b->>'reason', $3)) " FROM_CHANGE;

/* $2: {"lines", "restock"} */
const char SQL_RETURN_ORDER[] =
	"SELECT json_build_object('message', 'Units returned', 'orderId', $1::bigint, 'returnId', "
	"  order_aggregator.return_order($1::bigint, nullif(b->'lines', 'null'), "
	"coalesce((b->>'restock')::boolean, true), $3)) " FROM_CHANGE;

/* the cursor is where the order by has got to: the last row's keys */
const char SQL_GET_PRODUCTS[] =
	"SELECT json_build_object('isSuccess', true, 'data', coalesce(json_agg(t ORDER BY t.id, "
	"t.\"vendorId\"), '[]'), 'next', "
	"  CASE WHEN count(*) = $3 THEN (array_agg(t.id || '/' || t.\"vendorId\" ORDER BY t.id DESC, "
	"t.\"vendorId\" DESC))[1] END) FROM ("
	"  SELECT product_id AS id, product_name AS name, vendor_id AS \"vendorId\", vendor_name AS "
	"\"vendorName\", "
	"    product_id AS \"vendorProductId\", vendor_sku AS \"vendorSku\", price::text AS price, "
	"    is_priced AS \"isPriced\", "
	"    available AS quantity, on_hand AS \"onHand\", "
	"    reserved, is_active AS \"isActive\" "
	"  FROM order_aggregator.vendor_offer "
	"  WHERE (product_id, vendor_id) > ($1::text COLLATE \"C\", $2::text COLLATE \"C\") "
	"  ORDER BY product_id, vendor_id LIMIT $3) AS t";

const char SQL_GET_PRODUCT_DOCUMENTS[] =
	"SELECT request_no, document FROM order_aggregator.product_documents($1::text[])";

const char SQL_GET_VENDORS[] =
	"SELECT coalesce(json_agg(json_build_object('id', vendor_id, 'name', name, 'priority', "
	"priority, "
	"  'isActive', is_active, 'syncIntervalSeconds', least(extract(epoch FROM sync_interval), "
	"1e12)::bigint, "
	"  'lastSync', json_build_object('at', last_sync_at, 'status', last_sync_status, 'error', "
	"last_sync_error, "
	"    'items', last_sync_items, 'asOf', synced_as_of), 'nextSyncAt', CASE WHEN "
	"isfinite(next_sync_at) THEN next_sync_at END, "
	"  'failures', sync_failures, 'circuit', circuit, 'circuitOpenUntil', circuit_open_until, "
	"  'confirmedAt', confirmed_at, 'staleAt', stale_at, 'isStale', is_stale, 'dropLimit', "
	"drop_limit, 'heldAt', feed_held_at) "
	"ORDER BY vendor_id), '[]') "
	"FROM order_aggregator.vendor_sync";

const char SQL_GET_SYNCS[] = "SELECT json_build_object('vendorId', v.vendor_id, 'syncs', "
							 "coalesce((SELECT json_agg(json_build_object('id', f.sync_id, "
							 "    'beganAt', f.began_at, 'finishedAt', f.finished_at, 'asOf', "
							 "f.as_of, 'asOfRule', f.as_of_rule, 'status', f.status, 'error', "
							 "f.error, 'items', "
							 "f.items, "
							 "    'new', f.new_items, 'changed', f.changed_items, 'inactive', "
							 "f.inactive_items, 'skippedItems', f.skipped_items, "
							 "    'oversoldItems', f.oversold_items, 'rules', f.rules, "
							 "'skipped', f.skipped, "
							 "'oversold', f.oversold) ORDER BY f.sync_id DESC) "
							 "  FROM (SELECT * FROM order_aggregator.feed_sync AS s WHERE "
							 "s.vendor_id = v.vendor_id ORDER BY s.sync_id DESC LIMIT 100) AS "
							 "f), '[]')) "
							 "FROM order_aggregator.vendor AS v WHERE v.vendor_id = $1";

const char SQL_OUTBOX_HEAD[] = "SELECT order_aggregator.outbox_head()";

const char SQL_NEXT_AND_OLDEST_XID[] =
	"SELECT order_aggregator.next_xid(), pg_snapshot_xmin(pg_current_snapshot())";

const char SQL_SETTLED_EVENTS[] =
	"SELECT event_id, routing_key, payload FROM order_aggregator.settled_events($1, $2, $3)";

const char SQL_OUTBOX_TAIL[] = "SELECT order_aggregator.outbox_tail()";

const char SQL_PING[] = "SELECT 1";

const char SQL_STATUS[] =
	"SELECT json_build_object("
	"  'relay', (SELECT json_build_object('holder', holder, 'epoch', epoch, 'published', "
	"published, "
	"      'lowEventId', low_event_id, 'advancedAt', advanced_at) FROM "
	"order_aggregator.relay_checkpoint), "
	"  'outboxHead', order_aggregator.outbox_head(), "
	"  'parkedEvents', (SELECT count(*) FROM order_aggregator.unroutable_event), "
	"  'deferredEvents', (SELECT count(*) FROM order_aggregator.deferred_event), "
	"  'orders', (SELECT json_object_agg(status, n) FROM "
	"      (SELECT status, count(*) AS n FROM order_aggregator.orders GROUP BY status) AS s), "
	"  'vendors', (SELECT json_agg(v ORDER BY v.vendor_id) FROM order_aggregator.vendor_sync AS "
	"v))";

/* ---------- reading from a standby ---------- */

const char SQL_LSN[] = "SELECT pg_catalog.pg_current_wal_insert_lsn(), " TIMELINE;

/* null of what is no standby; a primary that comes back may be further, on an earlier timeline */
const char SQL_HAS_REPLAYED[] = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() "
								"THEN pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_catalog.pg_lsn "
								"AND order_aggregator.replay_timeline() = $2 END";

/* ---------- doctor ---------- */

/* the cluster and the database that this is */
const char SQL_WHICH_DATABASE[] =
	"SELECT c.system_identifier || ' ' || d.oid FROM pg_catalog.pg_control_system() AS c, "
	"  pg_catalog.pg_database AS d WHERE d.datname = current_database()";

const char SQL_DOCTOR_SERVER[] =
	"SELECT current_database(), current_user, current_setting('server_version'), "
	"  (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'order_aggregator'), "
	"  pg_is_in_recovery(), current_setting('default_transaction_read_only')::boolean, "
	"  (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'synchronous_commit'), "
	"  extract(epoch FROM clock_timestamp())";

/* what order_aggregator_bridge may use, and we may not */
const char SQL_DOCTOR_RIGHTS[] =
	"SELECT CASE WHEN NOT has_schema_privilege(n.oid, 'USAGE') THEN 'schema order_aggregator' ELSE "
	"  (SELECT string_agg(t.name, ', ' ORDER BY t.name) FROM ("
	"    SELECT p.proname AS name FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = n.oid "
	"      AND has_function_privilege('order_aggregator_bridge', p.oid, 'EXECUTE') "
	"      AND NOT has_function_privilege(p.oid, 'EXECUTE') "
	"    UNION ALL "
	"    SELECT c.relname FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid "
	"      AND c.relkind IN ('r', 'v', 'p') "
	"      AND has_table_privilege('order_aggregator_bridge', c.oid, 'SELECT') "
	"      AND NOT has_table_privilege(c.oid, 'SELECT')) AS t) END, current_user "
	"FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'order_aggregator'";

const char SQL_DOCTOR_WORK[] =
	"SELECT (SELECT count(*) FROM order_aggregator.unroutable_event), "
	"  (SELECT string_agg(vendor_id, ', ' ORDER BY vendor_id) FROM order_aggregator.vendor_sync "
	"   WHERE is_active AND is_stale), "
	"  (SELECT string_agg(vendor_id, ', ' ORDER BY vendor_id) FROM order_aggregator.vendor_sync "
	"   WHERE is_active AND last_sync_status IN ('failed', 'held'))";
