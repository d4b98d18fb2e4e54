/*
 * plans.c
 *		The extension's SQL statements, prepared once a session.
 *
 * All names are qualified, operators too: a caller's search_path must not
 * reach in. Values are parameters only. Sets go in as arrays through unnest(),
 * so that one statement serves a batch of any size.
 */
#include "postgres.h"

#include "store/plans.h"

#include "store/search_path.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#define ARGS_MAX 10

/*
 * A hold h whose vendor was asked before $2, and again $3 after, twice that after the
 * first repetition, and so on up to a thousand times, and has had its time since. A
 * question that the relay has not sent yet, or that no queue takes, is no vendor's silence.
 */
#define IS_SILENT                                                                                  \
	"h.status OPERATOR(pg_catalog.=) 'open' AND h.held_at OPERATOR(pg_catalog.<=) $2 "             \
	"AND h.held_at OPERATOR(pg_catalog.<) "                                                        \
	"  (SELECT c.relayed_until FROM order_aggregator.relay_checkpoint AS c WHERE c.only_row) "     \
	"AND NOT EXISTS (SELECT FROM order_aggregator.parked_event AS p "                              \
	"  WHERE pg_catalog.left(p.payload OPERATOR(pg_catalog.->>) 'orderId', 20) "                   \
	"      OPERATOR(pg_catalog.=) h.order_id::pg_catalog.text "                                    \
	"    AND p.routing_key OPERATOR(pg_catalog.=) "                                                \
	"      ('order.placed.' OPERATOR(pg_catalog.||) h.vendor_id) AND p.redriven_at IS NULL) "      \
	"AND NOT EXISTS (SELECT FROM order_aggregator.vendor_retry AS r "                              \
	"  WHERE r.order_id OPERATOR(pg_catalog.=) h.order_id AND r.vendor_id OPERATOR(pg_catalog.=) " \
	"h.vendor_id "                                                                                 \
	"    AND r.attempt OPERATOR(pg_catalog.=) h.attempt "                                          \
	"  HAVING (pg_catalog.max(r.retried_at) OPERATOR(pg_catalog.+) ($3 OPERATOR(pg_catalog.*) "    \
	"    pg_catalog.power(2::pg_catalog.float8, LEAST(pg_catalog.count(*), "                       \
	"10)::pg_catalog.float8))) "                                                                   \
	"    OPERATOR(pg_catalog.>) pg_catalog.now()) "

/* A row of the history of feeds, as feed.h counts its columns. */
#define FEED_ROW                                                                                   \
	"f.sync_id, f.vendor_id, f.as_of, f.status, f.error, f.items, f.new_items, "                   \
	"f.changed_items, f.inactive_items, f.skipped_items, f.skipped::pg_catalog.text, "             \
	"f.oversold::pg_catalog.text, f.as_of_rule, f.rules::pg_catalog.text"

typedef struct PlanText
{
	const char *sql;
	int         nargs;
	Oid         args[ARGS_MAX];
	bool        by_index;  /* never to be answered by reading a table from end to end */
	bool        by_latest; /* it sees what is committed now, not what the transaction sees */
} PlanText;

static const PlanText plan_texts[PLAN_COUNT] = {
	[PLAN_KNOWN_PRODUCTS] = {"SELECT p.product_id FROM order_aggregator.product AS p "
							 "WHERE p.product_id OPERATOR(pg_catalog.=) ANY ($1)",
							 1,
							 {TEXTARRAYOID},
							 true},
	[PLAN_LAST_TIMELINE] =
		{"SELECT s.last_value FROM order_aggregator.timeline_seq AS s WHERE s.is_called", 0, {0}},
	[PLAN_LAST_ORDER_ID] =
		{"SELECT s.last_value FROM order_aggregator.order_id_seq AS s WHERE s.is_called", 0, {0}},
	[PLAN_LAST_ORDER] =
		{"SELECT o.order_id FROM order_aggregator.orders AS o ORDER BY o.order_id DESC LIMIT 1",
		 0,
		 {0}},

	/*
	 * Keys are claimed in the order they are given: sorted, so that two batches
	 * with the same keys wait for one another instead of deadlocking. A key of
	 * a transaction still running is waited for.
	 */
	[PLAN_CLAIM_KEYS] = {"INSERT INTO order_aggregator.idempotency (key, request_hash, order_id) "
						 "SELECT d.key, d.request_hash, d.order_id "
						 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), "
						 "pg_catalog.unnest($3)) AS d(key, request_hash, order_id) "
						 "ON CONFLICT (key) DO NOTHING RETURNING key",
						 3,
						 {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID}},
	[PLAN_READ_KEYS] =
		{"SELECT i.key, i.request_hash, i.order_id, i.error FROM order_aggregator.idempotency AS i "
		 "WHERE i.key OPERATOR(pg_catalog.=) ANY ($1)",
		 1,
		 {TEXTARRAYOID},
		 true},
	[PLAN_RECORD_ERRORS] =
		{"UPDATE order_aggregator.idempotency AS i SET order_id = NULL, error = "
		 "d.error::pg_catalog.jsonb "
		 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS d(key, error) "
		 "WHERE i.key OPERATOR(pg_catalog.=) d.key",
		 2,
		 {TEXTARRAYOID, TEXTARRAYOID},
		 true},
	[PLAN_RELEASE_KEYS] = {"DELETE FROM order_aggregator.idempotency AS i WHERE i.key "
						   "OPERATOR(pg_catalog.=) ANY ($1)",
						   1,
						   {TEXTARRAYOID},
						   true},
	/* orders as they were placed: the first attempt's holds */
	[PLAN_REPLAY_ORDERS] =
		{"SELECT o.order_id, o.customer_id, o.placed_at, o.expires_at, l.line_no, l.product_id, "
		 "l.quantity, "
		 "  h.vendor_id, h.quantity, h.unit_price "
		 "FROM order_aggregator.orders AS o "
		 "JOIN order_aggregator.order_line AS l ON l.order_id OPERATOR(pg_catalog.=) o.order_id "
		 "LEFT JOIN order_aggregator.hold AS h ON h.order_id OPERATOR(pg_catalog.=) l.order_id "
		 "  AND h.line_no OPERATOR(pg_catalog.=) l.line_no AND h.attempt OPERATOR(pg_catalog.=) 1 "
		 "WHERE o.order_id OPERATOR(pg_catalog.=) ANY ($1) "
		 "ORDER BY o.order_id, l.line_no, h.vendor_id",
		 1,
		 {INT8ARRAYOID},
		 true},

	/* an order that someone else has locked is being settled: it is left to the next sweep */
	[PLAN_LOCK_EXPIRED] =
		{"SELECT o.order_id, o.expires_at FROM order_aggregator.orders AS o "
		 "WHERE o.status OPERATOR(pg_catalog.=) 'pending' "
		 "  AND o.expires_at OPERATOR(pg_catalog.<=) $2 AND o.expires_at OPERATOR(pg_catalog.>=) "
		 "$3 "
		 "  AND (o.expires_at OPERATOR(pg_catalog.>) $3 OR o.order_id OPERATOR(pg_catalog.>) $4) "
		 "ORDER BY o.expires_at, o.order_id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
		 4,
		 {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID},
		 true},
	/* orders of which a part is at a silent vendor */
	[PLAN_LOCK_SILENT] = {"SELECT o.order_id FROM order_aggregator.orders AS o "
						  "WHERE o.status OPERATOR(pg_catalog.=) 'pending' AND o.expires_at "
						  "OPERATOR(pg_catalog.>) pg_catalog.now() "
						  "  AND o.placed_at OPERATOR(pg_catalog.<=) $2 "
						  "  AND EXISTS (SELECT FROM order_aggregator.hold AS h "
						  "    WHERE h.order_id OPERATOR(pg_catalog.=) o.order_id AND " IS_SILENT
						  ") "
						  "ORDER BY o.expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
						  3,
						  {INT8OID, TIMESTAMPTZOID, INTERVALOID},
						  true},
	/* their silent vendors' lines, as order.placed tells of them */
	[PLAN_READ_SILENT] =
		{"SELECT o.order_id, o.customer_id, o.placed_at, o.expires_at, o.traceparent, "
		 "  h.vendor_id, h.attempt, h.line_no, h.product_id, s.vendor_sku, h.quantity, "
		 "h.unit_price "
		 "FROM order_aggregator.orders AS o "
		 "JOIN order_aggregator.hold AS h ON h.order_id OPERATOR(pg_catalog.=) o.order_id "
		 "JOIN order_aggregator.stock AS s ON s.product_id OPERATOR(pg_catalog.=) h.product_id "
		 "  AND s.vendor_id OPERATOR(pg_catalog.=) h.vendor_id "
		 "WHERE o.order_id OPERATOR(pg_catalog.=) ANY ($1) AND " IS_SILENT
		 "ORDER BY o.order_id, h.vendor_id, h.attempt, h.line_no",
		 3,
		 {INT8ARRAYOID, TIMESTAMPTZOID, INTERVALOID},
		 true},
	[PLAN_RECORD_RETRIES] =
		{"INSERT INTO order_aggregator.vendor_retry (order_id, vendor_id, attempt, retried_at) "
		 "SELECT d.order_id, d.vendor_id, d.attempt, pg_catalog.now() "
		 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS "
		 "d(order_id, vendor_id, attempt)",
		 3,
		 {INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID}},
	[PLAN_CLAIM_ACTION] = {"INSERT INTO order_aggregator.idempotency (key, request_hash, order_id, "
						   "action) VALUES ($1, $2, $3, $4) "
						   "ON CONFLICT (key) DO NOTHING",
						   4,
						   {TEXTOID, INT8OID, INT8OID, TEXTOID}},
	[PLAN_READ_ACTION] = {"SELECT i.action, i.request_hash FROM order_aggregator.idempotency AS i "
						  "WHERE i.key OPERATOR(pg_catalog.=) $1",
						  1,
						  {TEXTOID},
						  true},
	[PLAN_REFERS_TO_VENDOR] = {"SELECT EXISTS (SELECT FROM order_aggregator.stock AS s WHERE "
							   "s.vendor_id OPERATOR(pg_catalog.=) $1) "
							   "OR EXISTS (SELECT FROM order_aggregator.product_map AS m WHERE "
							   "m.vendor_id OPERATOR(pg_catalog.=) $1) "
							   "OR EXISTS (SELECT FROM order_aggregator.feed_sync AS f WHERE "
							   "f.vendor_id OPERATOR(pg_catalog.=) $1) "
							   "OR EXISTS (SELECT FROM order_aggregator.vendor_login AS l WHERE "
							   "l.vendor_id OPERATOR(pg_catalog.=) $1)",
							   1,
							   {TEXTOID},
							   .by_index = true,
							   .by_latest = true},
	[PLAN_REFERS_TO_PRODUCT] = {"SELECT EXISTS (SELECT FROM order_aggregator.stock AS s WHERE "
								"s.product_id OPERATOR(pg_catalog.=) $1)",
								1,
								{TEXTOID},
								.by_index = true,
								.by_latest = true},
	[PLAN_VENDOR_LOGIN] =
		{"SELECT 1 FROM order_aggregator.vendor_login AS l "
		 "WHERE l.login OPERATOR(pg_catalog.=) $1 AND l.vendor_id OPERATOR(pg_catalog.=) $2",
		 2,
		 {NAMEOID, TEXTOID},
		 .by_index = true,
		 .by_latest = true},
	[PLAN_AMQP_USERS] =
		{"SELECT v.vendor_id, v.amqp_user FROM order_aggregator.vendor AS v "
		 "WHERE v.amqp_user IS NOT NULL AND v.vendor_id OPERATOR(pg_catalog.=) ANY ($1)",
		 1,
		 {TEXTARRAYOID},
		 true},
	[PLAN_REGISTER_VENDOR] =
		{"INSERT INTO order_aggregator.vendor AS v (vendor_id, name, stock_url, priority) "
		 "VALUES ($1, $2, $3, $4) "
		 "ON CONFLICT (vendor_id) DO UPDATE "
		 "SET name = EXCLUDED.name, stock_url = EXCLUDED.stock_url, priority = EXCLUDED.priority",
		 4,
		 {TEXTOID, TEXTOID, TEXTOID, INT4OID}},
	[PLAN_LOCK_VENDOR] = {"SELECT v.vendor_id FROM order_aggregator.vendor AS v "
						  "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
						  1,
						  {TEXTOID}},
	[PLAN_LOCK_VENDOR_FEEDS] =
		{"SELECT v.feed_held_at IS NOT NULL, v.drop_accepted, "
		 "v.drop_limit::pg_catalog.int8, v.last_sync_items::pg_catalog.int8, v.feed_told, "
		 "v.applied_told, v.feed_pulled_at, v.stale_feeds::pg_catalog.int8, "
		 "v.feed_mapping OPERATOR(pg_catalog.->>) 'decimal', "
		 "v.feed_mapping OPERATOR(pg_catalog.->>) 'repeated', v.feed_told_at, "
		 "v.held_offers::pg_catalog.int8, v.feed_config_no::pg_catalog.int8 "
		 "FROM order_aggregator.vendor AS v "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
		 1,
		 {TEXTOID}},
	/* a statement of its own: whoever has waited for the vendor's lock sees what has begun since */
	[PLAN_RUNNING_PULL] = {"SELECT f.pulled_at FROM order_aggregator.feed_sync AS f "
						   "WHERE f.vendor_id OPERATOR(pg_catalog.=) $1 "
						   "  AND f.status OPERATOR(pg_catalog.=) 'running'",
						   1,
						   {TEXTOID}},
	[PLAN_LIMIT_FEEDS] =
		{"UPDATE order_aggregator.vendor AS v SET "
		 "  stale_after = COALESCE($2, v.stale_after), drop_limit = COALESCE($3, v.drop_limit), "
		 "  stale_at = CASE WHEN $2 IS NULL THEN v.stale_at "
		 "    ELSE COALESCE(v.confirmed_at, CASE WHEN v.synced_as_of IS NOT NULL "
		 "      THEN pg_catalog.clock_timestamp() END) OPERATOR(pg_catalog.+) "
		 "      NULLIF($2, '0'::pg_catalog.interval) END, "
		 "  stale_told_at = CASE WHEN $2 IS NULL THEN v.stale_told_at END "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
		 3,
		 {TEXTOID, INTERVALOID, INT4OID}},
	[PLAN_ACCEPT_FEED] = {"UPDATE order_aggregator.vendor AS v "
						  "SET drop_accepted = true, next_sync_at = '-infinity' "
						  "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
						  1,
						  {TEXTOID}},
	[PLAN_CONFIGURE_VENDOR] =
		{"UPDATE order_aggregator.vendor AS v SET sync_interval = COALESCE($2, v.sync_interval), "
		 "  feed_mapping = CASE WHEN $3 OPERATOR(pg_catalog.=) '{}'::pg_catalog.jsonb THEN NULL "
		 "ELSE COALESCE($3, "
		 "v.feed_mapping) END, "
		 "  buffer = COALESCE($4, v.buffer), on_shortage = COALESCE($5, v.on_shortage), is_active "
		 "= COALESCE($6, v.is_active) "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
		 6,
		 {TEXTOID, INTERVALOID, JSONBOID, INT8OID, TEXTOID, BOOLOID}},
	[PLAN_SET_AMQP_USER] = {"UPDATE order_aggregator.vendor AS v SET amqp_user = NULLIF($2, '') "
							"WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
							2,
							{TEXTOID, TEXTOID}},
	[PLAN_FORGET_LOGINS] = {"DELETE FROM order_aggregator.vendor_login AS l WHERE l.vendor_id "
							"OPERATOR(pg_catalog.=) $1",
							1,
							{TEXTOID}},
	[PLAN_ADD_LOGINS] = {"INSERT INTO order_aggregator.vendor_login (login, vendor_id) "
						 "SELECT DISTINCT n, $1 FROM pg_catalog.unnest($2) AS n",
						 2,
						 {TEXTOID, NAMEARRAYOID}},
	[PLAN_CONFIGURE_PRODUCT] =
		{"UPDATE order_aggregator.product AS p SET buffer = COALESCE($2, p.buffer), "
		 "  low_threshold = CASE WHEN $3 OPERATOR(pg_catalog.=) (-1)::pg_catalog.int8 THEN NULL "
		 "ELSE "
		 "COALESCE($3, p.low_threshold) END "
		 "WHERE p.product_id OPERATOR(pg_catalog.=) $1",
		 4,
		 {TEXTOID, INT8OID, INT8OID, TEXTOID},
		 true},
	[PLAN_CONFIGURE_STOCK] =
		{"UPDATE order_aggregator.stock AS s SET buffer = COALESCE($2, s.buffer), "
		 "  low_threshold = CASE WHEN $3 OPERATOR(pg_catalog.=) (-1)::pg_catalog.int8 THEN NULL "
		 "ELSE COALESCE($3, "
		 "s.low_threshold) END "
		 "WHERE s.product_id OPERATOR(pg_catalog.=) $1 AND ($4 IS NULL OR s.vendor_id "
		 "OPERATOR(pg_catalog.=) $4)",
		 4,
		 {TEXTOID, INT8OID, INT8OID, TEXTOID},
		 true},
	[PLAN_PRODUCTS_IN_LANES] = {"SELECT s.product_id FROM order_aggregator.stock AS s WHERE "
								"s.vendor_id OPERATOR(pg_catalog.=) $1 AND s.in_lanes "
								"OPERATOR(pg_catalog.>) 0::pg_catalog.int8",
								1,
								{TEXTOID}},
	[PLAN_FORGET_LANES] = {"DELETE FROM order_aggregator.stock_lane AS l "
						   "WHERE l.product_id OPERATOR(pg_catalog.=) $1",
						   1,
						   {TEXTOID},
						   true},
	[PLAN_SET_PRODUCT_LANES] = {"UPDATE order_aggregator.product AS p SET lanes = $2, "
								"lanes_max = $3 WHERE p.product_id OPERATOR(pg_catalog.=) $1",
								3,
								{TEXTOID, INT8OID, INT8OID},
								true},
	[PLAN_SET_STOCK_LANES] = {"UPDATE order_aggregator.stock AS s SET lanes = $2, lanes_max = $3 "
							  "WHERE s.product_id OPERATOR(pg_catalog.=) $1",
							  3,
							  {TEXTOID, INT8OID, INT8OID},
							  true},
	[PLAN_UNMAP_PRODUCTS] = {"DELETE FROM order_aggregator.product_map AS m "
							 "WHERE m.vendor_id OPERATOR(pg_catalog.=) $1 AND m.vendor_sku "
							 "OPERATOR(pg_catalog.=) ANY ($2)",
							 3,
							 {TEXTOID, TEXTARRAYOID, TEXTARRAYOID},
							 true},
	[PLAN_CLAIMED_PRODUCT] =
		{"SELECT m.product_id, m.vendor_sku FROM order_aggregator.product_map AS m "
		 "WHERE m.vendor_id OPERATOR(pg_catalog.=) $1 AND m.product_id OPERATOR(pg_catalog.=) ANY "
		 "($3) "
		 "ORDER BY m.product_id LIMIT 1",
		 3,
		 {TEXTOID, TEXTARRAYOID, TEXTARRAYOID},
		 true},
	[PLAN_MAP_PRODUCTS] =
		{"INSERT INTO order_aggregator.product_map (vendor_id, vendor_sku, product_id) "
		 "SELECT $1, d.vendor_sku, d.product_id "
		 "FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS d(vendor_sku, "
		 "product_id) "
		 "WHERE d.product_id IS NOT NULL",
		 3,
		 {TEXTOID, TEXTARRAYOID, TEXTARRAYOID}},
	[PLAN_PULL_ANEW] =
		{"UPDATE order_aggregator.vendor AS v "
		 "SET feed_etag = NULL, feed_last_modified = NULL, next_sync_at = '-infinity' "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
		 1,
		 {TEXTOID}},
	[PLAN_COUNT_CONFIG] =
		{"UPDATE order_aggregator.vendor AS v "
		 "SET feed_config_no = v.feed_config_no OPERATOR(pg_catalog.+) 1, feed_held_at = NULL, "
		 "  held_offers = NULL, drop_accepted = false "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
		 1,
		 {TEXTOID}},
	/* what is known of its feeds was known of another one */
	[PLAN_FORGET_TIMES] = {"UPDATE order_aggregator.vendor AS v "
						   "SET applied_told = NULL, feed_told = NULL, feed_told_at = NULL, "
						   "  stale_feeds = 0 WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
						   1,
						   {TEXTOID}},
	[PLAN_HAS_URL] = {"SELECT 1 FROM order_aggregator.vendor AS v "
					  "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1 AND (v.stock_url "
					  "OPERATOR(pg_catalog.=) $2 OR (v.stock_url IS NULL AND $2 IS NULL))",
					  2,
					  {TEXTOID, TEXTOID}},

	[PLAN_SUPERSEDE_FEED] = {"UPDATE order_aggregator.feed_sync AS f SET status = 'superseded', "
							 "finished_at = pg_catalog.clock_timestamp() "
							 "WHERE f.vendor_id OPERATOR(pg_catalog.=) $1 AND f.status "
							 "OPERATOR(pg_catalog.=) 'running'",
							 1,
							 {TEXTOID},
							 true},
	/* the tags of the last feed say nothing of one that is half applied; the first one's offers
	 * are sold as they come, and for how long if it never ends */
	[PLAN_VENDOR_BEGINS] = {"UPDATE order_aggregator.vendor AS v "
							"SET synced_as_of = $2, feed_etag = NULL, feed_last_modified = NULL, "
							"  stale_at = COALESCE(v.stale_at, CASE WHEN v.confirmed_at IS NULL "
							"    THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) "
							"    NULLIF(v.stale_after, '0'::pg_catalog.interval) END), "
							"  feed_told = $3, feed_told_at = $2, stale_feeds = 0, "
							"  feed_held_at = NULL, held_offers = NULL, drop_accepted = false, "
							"  last_sync_items = NULL "
							"WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
							3,
							{TEXTOID, TIMESTAMPTZOID, TEXTOID}},
	/* one that is only stale says nothing of how the last one went */
	[PLAN_VENDOR_REFUSED] =
		{"UPDATE order_aggregator.vendor AS v SET "
		 "  stale_feeds = CASE WHEN $4 THEN v.stale_feeds OPERATOR(pg_catalog.+) 1 "
		 "    ELSE v.stale_feeds END, "
		 "  feed_held_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'held' "
		 "    THEN pg_catalog.clock_timestamp() ELSE v.feed_held_at END, "
		 "  held_offers = CASE WHEN $2 OPERATOR(pg_catalog.=) 'held' THEN $5 ELSE v.held_offers "
		 "END, "
		 "  last_sync_at = CASE WHEN $3 IS NULL THEN v.last_sync_at "
		 "    ELSE pg_catalog.clock_timestamp() END, "
		 "  last_sync_status = CASE WHEN $3 IS NULL THEN v.last_sync_status ELSE $2 END, "
		 "  last_sync_error = COALESCE($3, v.last_sync_error) "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
		 5,
		 {TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID}},
	[PLAN_BEGIN_FEED] =
		{"INSERT INTO order_aggregator.feed_sync AS f (vendor_id, as_of, status, error, "
		 "  as_of_rule, items, previous_pull_at, told, pulled_at, finished_at) "
		 "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
		 "  CASE WHEN $3 OPERATOR(pg_catalog.<>) 'running' "
		 "    THEN pg_catalog.clock_timestamp() END) "
		 "RETURNING " FEED_ROW,
		 9,
		 {TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, TIMESTAMPTZOID, TEXTOID,
		  TIMESTAMPTZOID}},
	[PLAN_VENDOR_OF_FEED] = {"SELECT f.vendor_id FROM order_aggregator.feed_sync AS f WHERE "
							 "f.sync_id OPERATOR(pg_catalog.=) $1",
							 1,
							 {INT8OID},
							 true},
	[PLAN_LOCK_FEED] = {"SELECT f.vendor_id, f.as_of, f.status, "
						"  (SELECT v.feed_mapping OPERATOR(pg_catalog.->>) 'repeated' "
						"   FROM order_aggregator.vendor AS v "
						"   WHERE v.vendor_id OPERATOR(pg_catalog.=) f.vendor_id), "
						"  f.previous_pull_at "
						"FROM order_aggregator.feed_sync AS f "
						"WHERE f.sync_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
						1,
						{INT8OID},
						true},
	[PLAN_ADD_TO_FEED] =
		{"UPDATE order_aggregator.feed_sync AS f "
		 "SET progressed_at = pg_catalog.clock_timestamp(), items = f.items OPERATOR(pg_catalog.+) "
		 "$2::pg_catalog.int4, "
		 "  new_items = f.new_items OPERATOR(pg_catalog.+) $3::pg_catalog.int4, "
		 "  changed_items = f.changed_items OPERATOR(pg_catalog.+) $4::pg_catalog.int4, "
		 "  inactive_items = f.inactive_items OPERATOR(pg_catalog.+) $5::pg_catalog.int4, "
		 "  skipped_items = f.skipped_items OPERATOR(pg_catalog.+) $6::pg_catalog.int4, "
		 "  oversold_items = f.oversold_items OPERATOR(pg_catalog.+) $7::pg_catalog.int4, "
		 "  skipped = CASE WHEN pg_catalog.jsonb_array_length(f.skipped) OPERATOR(pg_catalog.<) "
		 "100 "
		 "    THEN f.skipped OPERATOR(pg_catalog.||) $8::pg_catalog.jsonb ELSE f.skipped END, "
		 "  oversold = CASE WHEN pg_catalog.jsonb_array_length(f.oversold) OPERATOR(pg_catalog.<) "
		 "1000 "
		 "    THEN f.oversold OPERATOR(pg_catalog.||) $9::pg_catalog.jsonb ELSE f.oversold END "
		 "WHERE f.sync_id OPERATOR(pg_catalog.=) $1",
		 9,
		 {INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID},
		 true},
	/* by itself: most parts use none, and nobody plans for the aggregate then */
	[PLAN_ADD_RULES_TO_FEED] =
		{"UPDATE order_aggregator.feed_sync AS f SET rules = "
		 "  (SELECT pg_catalog.jsonb_object_agg(r.rule, r.times) FROM "
		 "    (SELECT u.key AS rule, pg_catalog.sum(u.value::pg_catalog.int8) AS times "
		 "     FROM (SELECT * FROM pg_catalog.jsonb_each_text(f.rules) UNION ALL "
		 "           SELECT * FROM pg_catalog.jsonb_each_text($2::pg_catalog.jsonb)) AS u "
		 "     GROUP BY u.key) AS r) "
		 "WHERE f.sync_id OPERATOR(pg_catalog.=) $1",
		 2,
		 {INT8OID, TEXTOID},
		 true},
	[PLAN_FINISH_FEED] = {"UPDATE order_aggregator.feed_sync AS f SET status = 'applied', "
						  "finished_at = pg_catalog.clock_timestamp() "
						  "WHERE f.sync_id OPERATOR(pg_catalog.=) $1 "
						  "RETURNING " FEED_ROW,
						  1,
						  {INT8OID},
						  true},
	[PLAN_VENDOR_SYNCED] =
		{"UPDATE order_aggregator.vendor AS v SET last_sync_at = n.at, "
		 "last_sync_status = 'applied', "
		 "  last_sync_error = NULL, last_sync_items = $1::pg_catalog.int4, feed_etag = $3, "
		 "feed_last_modified = $4, "
		 "  sync_failures = 0, circuit_open_until = NULL, "
		 "  next_sync_at = n.at OPERATOR(pg_catalog.+) v.sync_interval, confirmed_at = n.at, "
		 "  stale_at = n.at OPERATOR(pg_catalog.+) "
		 "    NULLIF(v.stale_after, '0'::pg_catalog.interval), stale_told_at = NULL, "
		 "  applied_told = n.told, feed_pulled_at = n.pulled_at "
		 "FROM (SELECT pg_catalog.clock_timestamp() AS at, f.told, f.pulled_at "
		 "  FROM order_aggregator.feed_sync AS f WHERE f.sync_id OPERATOR(pg_catalog.=) $5) AS n "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) $2",
		 5,
		 {INT8OID, TEXTOID, TEXTOID, TEXTOID, INT8OID}},
	/* what is for sale at a vendor whose time is over is not, whether it is told of or not */
	[PLAN_TELL_STALE] =
		{"UPDATE order_aggregator.vendor AS v SET stale_told_at = pg_catalog.clock_timestamp() "
		 "FROM (SELECT o.vendor_id FROM order_aggregator.vendor AS o "
		 "  WHERE o.is_active AND o.stale_told_at IS NULL "
		 "    AND o.stale_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() "
		 "  ORDER BY o.vendor_id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED) AS d "
		 "WHERE v.vendor_id OPERATOR(pg_catalog.=) d.vendor_id "
		 "RETURNING v.vendor_id, v.confirmed_at, v.stale_at",
		 0,
		 {InvalidOid}},
	/* mostly there is none; where there are many, each is asked for */
	[PLAN_UNNAMED_IN_RANGE] =
		{"SELECT p.product_id FROM order_aggregator.product AS p "
		 "WHERE p.name OPERATOR(pg_catalog.=) p.product_id "
		 "  AND p.product_id OPERATOR(pg_catalog.>=) $1 "
		 "  AND p.product_id OPERATOR(pg_catalog.<=) $2 ORDER BY p.product_id LIMIT $3",
		 3,
		 {TEXTOID, TEXTOID, INT8OID},
		 true},
	[PLAN_UNNAMED_PRODUCTS] = {"SELECT p.product_id FROM order_aggregator.product AS p "
							   "WHERE p.name OPERATOR(pg_catalog.=) p.product_id "
							   "  AND p.product_id OPERATOR(pg_catalog.=) ANY ($1)",
							   1,
							   {TEXTARRAYOID},
							   true},
	/* one that is there already is locked, also if it keeps its name */
	[PLAN_ADD_PRODUCTS] =
		{"INSERT INTO order_aggregator.product AS p (product_id, name) "
		 "SELECT d.product_id, d.name "
		 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS d(product_id, name) "
		 "ON CONFLICT (product_id) DO UPDATE SET name = EXCLUDED.name "
		 "WHERE p.name OPERATOR(pg_catalog.=) p.product_id "
		 "  AND EXCLUDED.name OPERATOR(pg_catalog.<>) EXCLUDED.product_id",
		 2,
		 {TEXTARRAYOID, TEXTARRAYOID}},

	/* of those that are not there */
	[PLAN_INSERT_PRODUCTS] = {"INSERT INTO order_aggregator.product (product_id, name) "
							  "SELECT d.product_id, d.name "
							  "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) "
							  "  AS d(product_id, name)",
							  2,
							  {TEXTARRAYOID, TEXTARRAYOID}},

	[PLAN_NOTE_SHORTAGES] = {"INSERT INTO order_aggregator.shortage AS s (vendor_id, product_id) "
							 "SELECT $1, d.product_id FROM pg_catalog.unnest($2) AS d(product_id) "
							 "ON CONFLICT (vendor_id, product_id) DO UPDATE SET tried_at = NULL",
							 2,
							 {TEXTOID, TEXTARRAYOID}},
	[PLAN_END_SHORTAGES] = {"DELETE FROM order_aggregator.shortage AS s "
							"WHERE s.vendor_id OPERATOR(pg_catalog.=) $1 AND s.product_id "
							"OPERATOR(pg_catalog.=) ANY ($2)",
							2,
							{TEXTOID, TEXTARRAYOID},
							true},
	[PLAN_READ_SHORTAGES] =
		{"SELECT s.vendor_id, s.product_id, v.on_shortage, k.reserved OPERATOR(pg_catalog.-) "
		 "k.on_hand "
		 "FROM order_aggregator.shortage AS s "
		 "JOIN order_aggregator.vendor AS v ON v.vendor_id OPERATOR(pg_catalog.=) s.vendor_id "
		 "JOIN order_aggregator.stock AS k ON k.product_id OPERATOR(pg_catalog.=) s.product_id "
		 "  AND k.vendor_id OPERATOR(pg_catalog.=) s.vendor_id "
		 "WHERE (s.tried_at IS NULL "
		 "    OR s.tried_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) '1 "
		 "minute'::pg_catalog.interval)) "
		 "  AND (k.reserved OPERATOR(pg_catalog.<=) k.on_hand OR v.on_shortage "
		 "OPERATOR(pg_catalog.<>) 'keep') "
		 "ORDER BY s.tried_at NULLS FIRST, s.noticed_at LIMIT $1",
		 1,
		 {INT8OID},
		 true},
	/* one that a feed notes anew meanwhile has not been tried, and stays */
	[PLAN_FORGET_SHORTAGES] =
		{"DELETE FROM order_aggregator.shortage AS s USING ("
		 "  SELECT o.vendor_id, o.product_id FROM order_aggregator.shortage AS o "
		 "  JOIN order_aggregator.stock AS k ON k.product_id OPERATOR(pg_catalog.=) o.product_id "
		 "    AND k.vendor_id OPERATOR(pg_catalog.=) o.vendor_id "
		 "  WHERE k.reserved OPERATOR(pg_catalog.<=) k.on_hand "
		 "    AND o.tried_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) '1 "
		 "minute'::pg_catalog.interval) "
		 "  FOR UPDATE OF o SKIP LOCKED) AS d "
		 "WHERE s.vendor_id OPERATOR(pg_catalog.=) d.vendor_id AND s.product_id "
		 "OPERATOR(pg_catalog.=) d.product_id",
		 0,
		 {InvalidOid},
		 true},
	/* the newest first: whoever came first is served first; by the place of the shortage */
	[PLAN_ORDERS_HOLDING] =
		{"SELECT a.place, a.order_id FROM ("
		 "  SELECT d.place, h.order_id, d.units AS short, "
		 "    pg_catalog.sum(h.quantity) AS units, "
		 "    pg_catalog.sum(pg_catalog.sum(h.quantity)) "
		 "      OVER (PARTITION BY d.place ORDER BY h.order_id DESC) AS with_newer "
		 "  FROM order_aggregator.orders AS o "
		 "  JOIN order_aggregator.hold AS h ON h.order_id OPERATOR(pg_catalog.=) o.order_id "
		 "  JOIN ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) "
		 "    WITH ORDINALITY AS d(vendor_id, product_id, units, place) "
		 "    ON h.vendor_id OPERATOR(pg_catalog.=) d.vendor_id "
		 "    AND h.product_id OPERATOR(pg_catalog.=) d.product_id "
		 "  WHERE o.status OPERATOR(pg_catalog.=) 'pending' "
		 "    AND h.status OPERATOR(pg_catalog.=) 'open' "
		 "    AND h.product_id OPERATOR(pg_catalog.=) ANY ($2) "
		 "  GROUP BY d.place, d.units, h.order_id) AS a "
		 "WHERE a.with_newer OPERATOR(pg_catalog.-) a.units OPERATOR(pg_catalog.<) a.short "
		 "ORDER BY a.place, a.order_id DESC LIMIT $4",
		 4,
		 {TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8OID},
		 true},
	[PLAN_SHORTAGES_TRIED] =
		{"UPDATE order_aggregator.shortage AS s SET tried_at = pg_catalog.now() FROM ("
		 "  SELECT o.vendor_id, o.product_id FROM order_aggregator.shortage AS o "
		 "  JOIN ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS d(vendor_id, "
		 "product_id) "
		 "    ON o.vendor_id OPERATOR(pg_catalog.=) d.vendor_id AND o.product_id "
		 "OPERATOR(pg_catalog.=) d.product_id "
		 "  FOR UPDATE OF o SKIP LOCKED) AS t "
		 "WHERE s.vendor_id OPERATOR(pg_catalog.=) t.vendor_id AND s.product_id "
		 "OPERATOR(pg_catalog.=) t.product_id",
		 2,
		 {TEXTARRAYOID, TEXTARRAYOID},
		 true},

	[PLAN_READ_RETURNS] = {"SELECT r.line_no, r.vendor_id, r.attempt, r.quantity, r.return_id, "
						   "r.key, r.restocked FROM order_aggregator.order_return AS r "
						   "WHERE r.order_id OPERATOR(pg_catalog.=) $1",
						   1,
						   {INT8OID},
						   true},
	[PLAN_STORE_RETURNS] = {"INSERT INTO order_aggregator.order_return "
							"  (return_id, order_id, line_no, vendor_id, attempt, product_id, "
							"quantity, unit_price, restocked, returned_at, key) "
							"SELECT $1, $2, d.line_no, d.vendor_id, d.attempt, d.product_id, "
							"d.quantity, d.unit_price::pg_catalog.numeric, $9, "
							"  pg_catalog.now(), $10 "
							"FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), "
							"pg_catalog.unnest($5), pg_catalog.unnest($6), "
							"  pg_catalog.unnest($7), pg_catalog.unnest($8)) AS d(line_no, "
							"vendor_id, attempt, product_id, quantity, unit_price)",
							10,
							{INT8OID, INT8OID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
							 TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, BOOLOID, TEXTOID}},

	[PLAN_LOCK_PARKED] = {"SELECT p.event_id, p.message_id, p.routing_key, "
						  "p.headers::pg_catalog.text, p.payload::pg_catalog.text "
						  "FROM order_aggregator.parked_event AS p WHERE p.redriven_at IS NULL AND "
						  "p.retry_at IS NULL "
						  "ORDER BY p.event_id LIMIT $1 FOR UPDATE SKIP LOCKED",
						  1,
						  {INT8OID}},
	[PLAN_MARK_REDRIVEN] =
		{"UPDATE order_aggregator.parked_event AS p SET redriven_at = pg_catalog.now() "
		 "WHERE p.event_id OPERATOR(pg_catalog.=) ANY ($1)",
		 1,
		 {INT8ARRAYOID},
		 true},
	[PLAN_OUTBOX_HEAD] = {"SELECT order_aggregator.outbox_head()", 0, {0}},
	[PLAN_RELAYED_UPTO] = {"SELECT c.low_event_id FROM order_aggregator.relay_checkpoint AS c",
						   0,
						   {0}},
	/* whom the database gives a new table by default, but for its owner */
	[PLAN_GRANTEES] = {"SELECT pg_catalog.string_agg(DISTINCT CASE WHEN a.grantee "
					   "  OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' "
					   "  ELSE a.grantee::pg_catalog.regrole::pg_catalog.text END, ', ') "
					   "FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a "
					   "WHERE c.oid OPERATOR(pg_catalog.=) $1 "
					   "AND a.grantee OPERATOR(pg_catalog.<>) c.relowner",
					   1,
					   {OIDOID}},
	/* by their numbers */
	[PLAN_PARTITIONS] = {"SELECT c.relname FROM pg_catalog.pg_inherits AS i "
						 "JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid "
						 "WHERE i.inhparent OPERATOR(pg_catalog.=) $1 "
						 "ORDER BY pg_catalog.length(c.relname::pg_catalog.text), c.relname",
						 1,
						 {OIDOID}},
	[PLAN_NOTE_DROPPED] = {"UPDATE order_aggregator.relay_checkpoint AS c SET dropped_until = "
						   "GREATEST(c.dropped_until, $1)",
						   1,
						   {TIMESTAMPTZOID}},
	/* those that the broker has meanwhile; so many at a time */
	[PLAN_FORGET_PARKED] = {"DELETE FROM order_aggregator.parked_event AS p WHERE p.event_id "
							"OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT o.event_id "
							"  FROM order_aggregator.parked_event AS o "
							"  WHERE o.redriven_at OPERATOR(pg_catalog.<) $1 "
							"  ORDER BY o.redriven_at LIMIT 10000 FOR UPDATE SKIP LOCKED))",
							1,
							{TIMESTAMPTZOID},
							true},
};

static SPIPlanPtr saved_plans[PLAN_COUNT];

/*
 * A plan is cached for as long as nobody analyzes its tables, and one made while
 * they were empty would read them from end to end ever after, however large
 * they grow. For this statement the planner is told not to.
 */
static int
prefer_indexes(void)
{
	/* what is left may look dear enough to be compiled */
	static const char *const settings[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin",
										   "jit"};
	int                      nest_level = NewGUCNestLevel();

	for (unsigned i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	return nest_level;
}

static void
check_result(int result, int expected, const char *sql)
{
	if (result != expected)
		elog(ERROR, "SPI returned %s: %s", SPI_result_code_string(result), sql);
}

void
sql_execute(const char *sql, int expected)
{
	int nest_level = NewGUCNestLevel();
	int result;

	/* what is made is made where our tables are, whatever the caller has set */
	(void) set_config_option("default_tablespace", "", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	(void) search_path_hide();
	result = SPI_execute(sql, false, 0);
	AtEOXact_GUC(true, nest_level);
	check_result(result, expected, sql);
}

void
plan_execute(PlanId plan, Datum *values, const char *nulls, int expected)
{
	const PlanText *text = &plan_texts[plan];
	int             path_level = search_path_hide();
	int             nest_level = 0;
	int             result;

	if (saved_plans[plan] == NULL)
	{
		SPIPlanPtr prepared = SPI_prepare(text->sql, text->nargs, (Oid *) text->args);

		if (prepared == NULL)
			elog(ERROR, "SPI_prepare failed: %s: %s", SPI_result_code_string(SPI_result),
				 text->sql);
		SPI_keepplan(prepared);
		saved_plans[plan] = prepared;
	}
	if (text->by_index)
		nest_level = prefer_indexes();
	result = text->by_latest
				 ? SPI_execute_snapshot(saved_plans[plan], values, nulls, GetLatestSnapshot(),
										InvalidSnapshot, false, false, 0)
				 : SPI_execute_plan(saved_plans[plan], values, nulls, false, 0);
	if (text->by_index)
		AtEOXact_GUC(true, nest_level);
	search_path_show(path_level);
	check_result(result, expected, text->sql);
}

Datum
text_array(const char **strings, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));
	bool  *nulls = palloc(sizeof(bool) * Max(count, 1));
	int    dims[1] = {count};
	int    lower_bounds[1] = {1};

	for (int i = 0; i < count; i++)
	{
		nulls[i] = strings[i] == NULL;
		elements[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(strings[i]);
	}
	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, lower_bounds, TEXTOID, -1,
											  false, TYPALIGN_INT));
}

Datum
int8_array(const int64 *numbers, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(numbers[i]);
	return PointerGetDatum(
		construct_array(elements, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum
spi_datum(uint64 row, int column, bool *is_null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, is_null);
}

int64
spi_int64(uint64 row, int column)
{
	bool  is_null;
	Datum value = spi_datum(row, column, &is_null);

	if (is_null)
		return 0;
	return TupleDescAttr(SPI_tuptable->tupdesc, column - 1)->attlen == sizeof(int32)
			   ? DatumGetInt32(value)
			   : DatumGetInt64(value);
}

char *
spi_string(uint64 row, int column)
{
	bool  is_null;
	Datum value = spi_datum(row, column, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}
