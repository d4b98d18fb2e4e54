/*
 * plans.c
 *		Every SQL statement of the extension, prepared once a session.
 *
 * All names are qualified, operators too: a caller's search_path must not
 * reach in. Values are parameters only. Sets go in as arrays through unnest(),
 * so that one statement serves a batch of any size.
 */
#include "plans.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define ARGS_MAX 10

/*
 * A hold h whose vendor was asked before $2, and not again since. A question
 * that the relay has not sent yet, or that no queue takes, is no vendor's silence.
 */
#define IS_SILENT                                                                                                                \
	"h.status OPERATOR(pg_catalog.=) 'open' AND h.held_at OPERATOR(pg_catalog.<=) $2 "                                           \
	"AND h.held_at OPERATOR(pg_catalog.<) "                                                                                      \
	"  (SELECT c.relayed_until FROM order_aggregator.relay_checkpoint AS c) "                                                    \
	"AND NOT EXISTS (SELECT FROM order_aggregator.parked_event AS p WHERE p.redriven_at IS NULL "                                \
	"  AND p.routing_key OPERATOR(pg_catalog.=) ('order.placed.' OPERATOR(pg_catalog.||) h.vendor_id)) "                         \
	"AND NOT EXISTS (SELECT FROM order_aggregator.vendor_retry AS r "                                                            \
	"  WHERE r.order_id OPERATOR(pg_catalog.=) h.order_id AND r.vendor_id OPERATOR(pg_catalog.=) h.vendor_id "                   \
	"    AND r.attempt OPERATOR(pg_catalog.=) h.attempt AND r.retried_at OPERATOR(pg_catalog.>) $2) "

typedef struct PlanText
{
	const char *sql;
	int         nargs;
	Oid         args[ARGS_MAX];
	bool        by_index; /* never to be answered by reading a table from end to end */
} PlanText;

static const PlanText plan_texts[PLAN_COUNT] = {
	[PLAN_KNOWN_PRODUCTS] = {"SELECT p.product_id FROM order_aggregator.product AS p "
							 "WHERE p.product_id OPERATOR(pg_catalog.=) ANY ($1)",
							 1,
							 {TEXTARRAYOID},
							 true},

	/*
	 * Keys are claimed in the order they are given: sorted, so that two batches
	 * with the same keys wait for one another instead of deadlocking. A key of
	 * a transaction still running is waited for.
	 */
	[PLAN_CLAIM_KEYS] =
		{"INSERT INTO order_aggregator.idempotency (key, request_hash, order_id) "
		 "SELECT d.key, d.request_hash, d.order_id "
		 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS d(key, request_hash, order_id) "
		 "ON CONFLICT (key) DO NOTHING RETURNING key",
		 3,
		 {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID}},
	[PLAN_READ_KEYS] = {"SELECT i.key, i.request_hash, i.order_id, i.error FROM order_aggregator.idempotency AS i "
						"WHERE i.key OPERATOR(pg_catalog.=) ANY ($1)",
						1,
						{TEXTARRAYOID},
						true},
	[PLAN_RECORD_ERRORS] = {"UPDATE order_aggregator.idempotency AS i SET order_id = NULL, error = d.error::pg_catalog.jsonb "
							"FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) AS d(key, error) "
							"WHERE i.key OPERATOR(pg_catalog.=) d.key",
							2,
							{TEXTARRAYOID, TEXTARRAYOID},
							true},
	/* orders as they were placed: the first attempt's holds */
	[PLAN_REPLAY_ORDERS] = {"SELECT o.order_id, o.customer_id, o.placed_at, o.expires_at, l.line_no, l.product_id, l.quantity, "
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
	[PLAN_LOCK_EXPIRED] = {"SELECT o.order_id FROM order_aggregator.orders AS o "
						   "WHERE o.status OPERATOR(pg_catalog.=) 'pending' "
						   "  AND o.expires_at OPERATOR(pg_catalog.<=) $2 "
						   "ORDER BY o.expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
						   2,
						   {INT8OID, TIMESTAMPTZOID},
						   true},
	/* orders of which a part is at a silent vendor */
	[PLAN_LOCK_SILENT] =
		{"SELECT o.order_id FROM order_aggregator.orders AS o "
		 "WHERE o.status OPERATOR(pg_catalog.=) 'pending' AND o.expires_at OPERATOR(pg_catalog.>) pg_catalog.now() "
		 "  AND o.placed_at OPERATOR(pg_catalog.<=) $2 "
		 "  AND EXISTS (SELECT FROM order_aggregator.hold AS h "
		 "    WHERE h.order_id OPERATOR(pg_catalog.=) o.order_id AND " IS_SILENT ") "
		 "ORDER BY o.expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
		 2,
		 {INT8OID, TIMESTAMPTZOID},
		 true},
	/* their silent vendors' lines, as order.placed tells of them */
	[PLAN_READ_SILENT] = {"SELECT o.order_id, o.customer_id, o.placed_at, o.expires_at, o.traceparent, "
						  "  h.vendor_id, h.attempt, h.line_no, h.product_id, s.vendor_sku, h.quantity, h.unit_price "
						  "FROM order_aggregator.orders AS o "
						  "JOIN order_aggregator.hold AS h ON h.order_id OPERATOR(pg_catalog.=) o.order_id "
						  "JOIN order_aggregator.stock AS s ON s.product_id OPERATOR(pg_catalog.=) h.product_id "
						  "  AND s.vendor_id OPERATOR(pg_catalog.=) h.vendor_id "
						  "WHERE o.order_id OPERATOR(pg_catalog.=) ANY ($1) AND " IS_SILENT
						  "ORDER BY o.order_id, h.vendor_id, h.attempt, h.line_no",
						  2,
						  {INT8ARRAYOID, TIMESTAMPTZOID},
						  true},
	[PLAN_RECORD_RETRIES] = {"INSERT INTO order_aggregator.vendor_retry (order_id, vendor_id, attempt, retried_at) "
							 "SELECT d.order_id, d.vendor_id, d.attempt, pg_catalog.now() "
							 "FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS "
							 "d(order_id, vendor_id, attempt)",
							 3,
							 {INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID}},
	[PLAN_REGISTER_VENDOR] = {"INSERT INTO order_aggregator.vendor AS v (vendor_id, name, stock_url, priority) "
							  "VALUES ($1, $2, $3, $4) "
							  "ON CONFLICT (vendor_id) DO UPDATE "
							  "SET name = EXCLUDED.name, stock_url = EXCLUDED.stock_url, priority = EXCLUDED.priority, "
							  "  feed_etag = NULL, feed_last_modified = NULL",
							  4,
							  {TEXTOID, TEXTOID, TEXTOID, INT4OID}},
	[PLAN_LOCK_VENDOR] = {"SELECT v.synced_as_of FROM order_aggregator.vendor AS v "
						  "WHERE v.vendor_id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE",
						  1,
						  {TEXTOID}},
	[PLAN_VENDOR_APPLIED] =
		{"UPDATE order_aggregator.vendor AS v SET synced_as_of = $2 WHERE v.vendor_id OPERATOR(pg_catalog.=) $1",
		 2,
		 {TEXTOID, TIMESTAMPTZOID}},
	/* in one statement, and so of one moment: a row's count and what was confirmed of it */
	[PLAN_READ_VENDOR_STOCK] = {"SELECT s.product_id, p.name, s.price, s.on_hand, s.is_active, COALESCE(c.units, 0) "
								"FROM order_aggregator.stock AS s "
								"JOIN order_aggregator.product AS p ON p.product_id OPERATOR(pg_catalog.=) s.product_id "
								"LEFT JOIN (SELECT h.product_id, pg_catalog.sum(h.quantity)::pg_catalog.int8 AS units "
								"  FROM order_aggregator.hold AS h "
								"  WHERE h.vendor_id OPERATOR(pg_catalog.=) $1 AND h.settled_at OPERATOR(pg_catalog.>) $2 "
								"    AND h.status OPERATOR(pg_catalog.=) 'confirmed' "
								"  GROUP BY h.product_id) AS c ON c.product_id OPERATOR(pg_catalog.=) s.product_id "
								"WHERE s.vendor_id OPERATOR(pg_catalog.=) $1",
								2,
								{TEXTOID, TIMESTAMPTZOID}},
	[PLAN_CONFIRMED_SINCE] = {"SELECT h.product_id, pg_catalog.sum(h.quantity)::pg_catalog.int8 FROM order_aggregator.hold AS h "
							  "WHERE h.vendor_id OPERATOR(pg_catalog.=) $1 AND h.settled_at OPERATOR(pg_catalog.>) $2 "
							  "  AND h.status OPERATOR(pg_catalog.=) 'confirmed' "
							  "GROUP BY h.product_id",
							  2,
							  {TEXTOID, TIMESTAMPTZOID}},
	[PLAN_LOCK_VENDOR_STOCK] = {"SELECT s.product_id, s.reserved FROM order_aggregator.stock AS s "
								"WHERE s.product_id OPERATOR(pg_catalog.=) ANY ($2) AND s.vendor_id OPERATOR(pg_catalog.=) $1 "
								"ORDER BY s.product_id, s.vendor_id FOR NO KEY UPDATE",
								2,
								{TEXTOID, TEXTARRAYOID}},
	[PLAN_UPSERT_PRODUCTS] = {"INSERT INTO order_aggregator.product AS p (product_id, name) "
							  "SELECT d.product_id, COALESCE(d.name, d.product_id) FROM ROWS FROM (pg_catalog.unnest($1), "
							  "pg_catalog.unnest($2)) AS d(product_id, name) "
							  "ON CONFLICT (product_id) DO UPDATE SET name = EXCLUDED.name "
							  "WHERE p.name OPERATOR(pg_catalog.=) p.product_id AND EXCLUDED.name OPERATOR(pg_catalog.<>) p.name",
							  2,
							  {TEXTARRAYOID, TEXTARRAYOID}},
	[PLAN_UPSERT_STOCK] =
		{"INSERT INTO order_aggregator.stock AS s (product_id, vendor_id, vendor_sku, price, on_hand, as_of) "
		 "SELECT d.product_id, $1, d.product_id, d.price::pg_catalog.numeric, d.on_hand, $2 "
		 "FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5)) AS d(product_id, price, on_hand) "
		 "ON CONFLICT (product_id, vendor_id) DO UPDATE "
		 "SET price = EXCLUDED.price, on_hand = EXCLUDED.on_hand, is_active = true, as_of = EXCLUDED.as_of",
		 5,
		 {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID}},
	[PLAN_DEACTIVATE_STOCK] = {"UPDATE order_aggregator.stock AS s SET is_active = false, as_of = $2 "
							   "WHERE s.vendor_id OPERATOR(pg_catalog.=) $1 AND s.product_id OPERATOR(pg_catalog.=) ANY ($3)",
							   3,
							   {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID}},

	[PLAN_LOCK_PARKED] =
		{"SELECT p.event_id, p.message_id, p.routing_key, p.headers::pg_catalog.text, p.payload::pg_catalog.text "
		 "FROM order_aggregator.parked_event AS p WHERE p.redriven_at IS NULL "
		 "ORDER BY p.event_id LIMIT $1 FOR UPDATE SKIP LOCKED",
		 1,
		 {INT8OID}},
	[PLAN_MARK_REDRIVEN] = {"UPDATE order_aggregator.parked_event AS p SET redriven_at = pg_catalog.now() "
							"WHERE p.event_id OPERATOR(pg_catalog.=) ANY ($1)",
							1,
							{INT8ARRAYOID},
							true},
	[PLAN_OLD_PARTITIONS] = {"SELECT c.relname FROM pg_catalog.pg_inherits AS i "
							 "JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid "
							 "WHERE i.inhparent OPERATOR(pg_catalog.=) $1",
							 1,
							 {OIDOID}},
	[PLAN_NOTE_DROPPED] = {"UPDATE order_aggregator.relay_checkpoint AS c SET dropped_until = GREATEST(c.dropped_until, $1)",
						   1,
						   {TIMESTAMPTZOID}},
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
	static const char *const settings[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"};
	int                      nest_level = NewGUCNestLevel();

	for (unsigned i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

void
plan_execute(PlanId plan, Datum *values, const char *nulls, int expected)
{
	const PlanText *text = &plan_texts[plan];
	int             nest_level = 0;
	int             result;

	if (saved_plans[plan] == NULL)
	{
		SPIPlanPtr prepared = SPI_prepare(text->sql, text->nargs, (Oid *) text->args);

		if (prepared == NULL)
			elog(ERROR, "SPI_prepare failed: %s: %s", SPI_result_code_string(SPI_result), text->sql);
		SPI_keepplan(prepared);
		saved_plans[plan] = prepared;
	}
	if (text->by_index)
		nest_level = prefer_indexes();
	result = SPI_execute_plan(saved_plans[plan], values, nulls, false, 0);
	if (text->by_index)
		AtEOXact_GUC(true, nest_level);
	if (result != expected)
		elog(ERROR, "SPI_execute_plan returned %s: %s", SPI_result_code_string(result), text->sql);
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
	return PointerGetDatum(construct_md_array(elements, nulls, 1, dims, lower_bounds, TEXTOID, -1, false, TYPALIGN_INT));
}

Datum
int8_array(const int64 *numbers, int count)
{
	Datum *elements = palloc(sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(elements, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
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
	return TupleDescAttr(SPI_tuptable->tupdesc, column - 1)->attlen == sizeof(int32) ? DatumGetInt32(value)
																					 : DatumGetInt64(value);
}

char *
spi_string(uint64 row, int column)
{
	bool  is_null;
	Datum value = spi_datum(row, column, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

bool
spi_bool(uint64 row, int column)
{
	bool  is_null;
	Datum value = spi_datum(row, column, &is_null);

	return !is_null && DatumGetBool(value);
}
