/*
 * plans.c
 *		Every SQL statement of the bridge. Values are parameters only.
 */
#include "plans.h"

const char SQL_PLACE[] =
	"SELECT order_id, document, error->>'code', error FROM order_aggregator.place_order_documents($1::jsonb) "
	"ORDER BY request_no";

const char SQL_APPLY_REPLIES[] = "SELECT outcome, detail FROM order_aggregator.apply_vendor_replies($1::jsonb) ORDER BY reply_no";

/* ---------- relay ---------- */

/* a checkpoint that is lost in a crash costs duplicates only */
const char SQL_RELAY_SESSION[] = "SET synchronous_commit = off; LISTEN order_aggregator";

/* a leader that is stopped or cut off loses its session, and with it the lock, so that another can take over */
const char SQL_RELAY_LEASE[] = "SELECT set_config('idle_session_timeout', $1, false), set_config('tcp_user_timeout', $1, false)";

/* 28513 is the class of our advisory locks: 1 is held by the leader, 2 by a leader that sleeps (outbox.c) */
const char SQL_RELAY_TRY_LEAD[] = "SELECT pg_try_advisory_lock(28513, 1)";

const char SQL_RELAY_MARK_IDLE[] = "SELECT pg_advisory_lock(28513, 2)";

const char SQL_RELAY_UNMARK_IDLE[] = "SELECT pg_advisory_unlock(28513, 2)";

const char SQL_RELAY_ACQUIRE[] = "SELECT epoch, snapshot, low_event_id, window_snapshot, window_event_id, restored_upto "
								 "FROM order_aggregator.relay_acquire($1)";

/* three statements: they must be read in this order (relay.c) */
const char SQL_RELAY_HORIZON[] =
	"SELECT order_aggregator.outbox_head(); SELECT order_aggregator.next_xid(), clock_timestamp(); SELECT pg_current_snapshot()";

const char SQL_RELAY_EVENTS[] = "SELECT event_id, message_id, routing_key, mandatory, headers, payload, created_at_us "
								"FROM order_aggregator.relay_events($1, $2, $3, $4, $5)";

const char SQL_RELAY_ADVANCE[] = "SELECT order_aggregator.relay_advance($1, $2, $3, $4, $5, $6, $7)";

const char SQL_RELAY_PARK[] = "SELECT order_aggregator.park_event($1, $2, $3)";

const char SQL_REDRIVE_PARKED[] = "SELECT order_aggregator.redrive_parked_events($1)";

/* ---------- housekeeping ---------- */

const char SQL_EXPIRE[] = "SELECT order_aggregator.expire_orders($1)";

const char SQL_BACKLOG[] = "SELECT greatest(0, order_aggregator.outbox_head() - coalesce(max(low_event_id), 0)), "
						   "  coalesce(extract(epoch FROM now() - max(relayed_until)), 0)::bigint, "
						   "  (SELECT count(*) FROM order_aggregator.unroutable_event) FROM order_aggregator.relay_checkpoint";

const char SQL_ASK_SILENT[] = "SELECT order_aggregator.ask_silent_vendors(make_interval(secs => $1), 10000)";

const char SQL_MAKE_PARTITIONS[] = "SELECT order_aggregator.make_outbox_partitions(1)";

const char SQL_DROP_PARTITIONS[] = "SELECT order_aggregator.drop_outbox_partitions(make_interval(hours => $1))";

const char SQL_FORGET_KEYS[] = "SELECT order_aggregator.forget_idempotency_keys(make_interval(hours => $1))";

/* ---------- sync ---------- */

const char SQL_VENDOR_FEEDS[] =
	"SELECT vendor_id, stock_url, extract(epoch FROM sync_interval)::int, feed_etag, feed_last_modified "
	"FROM order_aggregator.vendor WHERE is_active AND stock_url IS NOT NULL ORDER BY vendor_id";

const char SQL_SYNC_STOCK[] =
	"SELECT r->>'status', r->>'items', r FROM order_aggregator.sync_vendor_stock($1, $2::jsonb, to_timestamp($3)) AS r";

const char SQL_RECORD_SYNC[] = "SELECT order_aggregator.record_vendor_sync($1, $2, $3, $4, $5, $6)";

/* ---------- http ---------- */

const char SQL_GET_ORDER[] =
	"SELECT json_build_object('id', order_id, 'status', status, 'totalAmount', total_amount::text, "
	"  'customerId', customer_id, 'placedAt', placed_at, 'expiresAt', expires_at, 'closedAt', closed_at, "
	"  'reason', close_reason, 'lines', lines, 'holds', holds, 'history', history) "
	"FROM order_aggregator.order_summary WHERE order_id = $1";

const char SQL_CANCEL_ORDER[] = "SELECT order_aggregator.cancel_order($1, $2)";

const char SQL_GET_PRODUCTS[] =
	"SELECT coalesce(json_agg(t), '[]'), count(*), max(t.\"id\" || '/' || t.\"vendorId\") FROM ("
	"  SELECT product_id AS id, product_name AS name, vendor_id AS \"vendorId\", vendor_name AS \"vendorName\", "
	"    vendor_sku AS \"vendorProductId\", price::text AS price, available AS quantity, on_hand AS \"onHand\", "
	"    reserved, is_active AS \"isActive\" "
	"  FROM order_aggregator.vendor_offer "
	"  WHERE (product_id, vendor_id) > ($1::text COLLATE \"C\", $2::text COLLATE \"C\") "
	"  ORDER BY product_id, vendor_id LIMIT $3) AS t";

const char SQL_GET_PRODUCT[] =
	"SELECT json_build_object('id', p.product_id, 'name', p.product_name, 'available', p.available, "
	"  'onHand', p.on_hand, 'reserved', p.reserved, 'lowestPrice', p.lowest_price::text, 'offers', ("
	"    SELECT json_agg(json_build_object('vendorId', o.vendor_id, 'price', o.price::text, 'available', o.available, "
	"      'onHand', o.on_hand, 'reserved', o.reserved, 'isActive', o.is_active) ORDER BY o.vendor_id) "
	"    FROM order_aggregator.vendor_offer AS o WHERE o.product_id = $1)) "
	"FROM order_aggregator.product_stock AS p WHERE p.product_id = $1";

const char SQL_GET_VENDORS[] =
	"SELECT coalesce(json_agg(json_build_object('id', vendor_id, 'name', name, 'priority', priority, "
	"  'isActive', is_active, 'syncIntervalSeconds', extract(epoch FROM sync_interval)::int, "
	"  'lastSync', json_build_object('at', last_sync_at, 'status', last_sync_status, 'error', last_sync_error, "
	"    'items', last_sync_items, 'asOf', synced_as_of)) ORDER BY vendor_id), '[]') "
	"FROM order_aggregator.vendor_sync";

const char SQL_OUTBOX_HEAD[] = "SELECT order_aggregator.outbox_head()";

const char SQL_NEXT_AND_OLDEST_XID[] = "SELECT order_aggregator.next_xid(), pg_snapshot_xmin(pg_current_snapshot())";

const char SQL_SETTLED_EVENTS[] = "SELECT event_id, routing_key, payload FROM order_aggregator.settled_events($1, $2, $3)";

const char SQL_OUTBOX_TAIL[] = "SELECT order_aggregator.outbox_tail()";

const char SQL_PING[] = "SELECT 1";

const char SQL_STATUS[] = "SELECT json_build_object("
						  "  'relay', (SELECT json_build_object('holder', holder, 'epoch', epoch, 'published', published, "
						  "      'lowEventId', low_event_id, 'advancedAt', advanced_at) FROM order_aggregator.relay_checkpoint), "
						  "  'outboxHead', order_aggregator.outbox_head(), "
						  "  'parkedEvents', (SELECT count(*) FROM order_aggregator.parked_event WHERE redriven_at IS NULL), "
						  "  'orders', (SELECT json_object_agg(status, n) FROM "
						  "      (SELECT status, count(*) AS n FROM order_aggregator.orders GROUP BY status) AS s), "
						  "  'vendors', (SELECT json_agg(v ORDER BY v.vendor_id) FROM order_aggregator.vendor_sync AS v))";
