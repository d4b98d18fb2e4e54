/*
 * feed_sync.c
 *		Stock feeds: whole ones by sync_vendor_stock(), and in parts by the bridge.
 *
 *		begin_feed -> apply_feed_part, once a range of SKUs -> finish_feed
 *
 * Each part is a transaction of its own, so an order for what it changes waits
 * for a part at most. A vendor has one running feed: the next one supersedes it,
 * and its later parts are refused. From begin_feed on older feeds are stale.
 *
 * Locks: the vendor's or the feed's row, then stock rows (reconcile.c).
 */

#include "postgres.h"

#include "catalog/pg_type.h"
#include "feed/feed.h"
#include "outbox/events.h"
#include "store/caller.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/json.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_sync_vendor_stock);
OA_FUNCTION(oa_begin_feed);
OA_FUNCTION(oa_apply_feed_part);
OA_FUNCTION(oa_finish_feed);

/* ---------- the history's row ---------- */

static void
add_to_feed(int64 sync_id, const FeedPart *part)
{
	Datum values[9] = {
		Int64GetDatum(sync_id),
		Int64GetDatum(part->total),
		Int64GetDatum(part->nnew),
		Int64GetDatum(part->nchanged),
		Int64GetDatum(part->ninactive),
		Int64GetDatum(part->nskipped),
		Int64GetDatum(part->noversold),
		CStringGetTextDatum(psprintf("[%s]", part->skipped.data)),
		CStringGetTextDatum(psprintf("[%s]", part->oversold.data)),
	};
	const char *rules = feed_rules_json(part);

	plan_execute(PLAN_ADD_TO_FEED, values, NULL, SPI_OK_UPDATE);
	if (rules != NULL)
	{
		values[1] = CStringGetTextDatum(rules);
		plan_execute(PLAN_ADD_RULES_TO_FEED, values, NULL, SPI_OK_UPDATE);
	}
}

/* A row of the history as JSON. */
static char *
feed_result(void)
{
	bool           is_null;
	const char    *error = spi_string(0, FEED_ERROR);
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(
		&json,
		"{\"vendorId\": \"%s\", \"status\": \"%s\", \"asOf\": \"%s\", \"asOfRule\": \"%s\""
		", \"items\": " INT64_FORMAT ", \"new\": " INT64_FORMAT ", \"changed\": " INT64_FORMAT
		", \"inactive\": " INT64_FORMAT ", \"skippedItems\": " INT64_FORMAT
		", \"skipped\": %s, \"rules\": %s, \"oversold\": %s",
		spi_string(0, FEED_VENDOR_ID), spi_string(0, FEED_STATUS),
		utc_timestamp(DatumGetTimestampTz(spi_datum(0, FEED_AS_OF, &is_null))),
		spi_string(0, FEED_AS_OF_RULE), spi_int64(0, FEED_ITEMS), spi_int64(0, FEED_NEW),
		spi_int64(0, FEED_CHANGED), spi_int64(0, FEED_INACTIVE), spi_int64(0, FEED_SKIPPED),
		spi_string(0, FEED_SKIPPED_LIST), spi_string(0, FEED_RULES_USED),
		spi_string(0, FEED_OVERSOLD_LIST));
	if (error != NULL)
	{
		appendStringInfoString(&json, ", \"error\": ");
		json_append_string(&json, error);
	}
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* Ends the feed, and tells that the vendor was synced; returns what became of it. */
static char *
finish_feed(int64 sync_id, const char *etag, const char *last_modified)
{
	Datum       values[5] = {Int64GetDatum(sync_id)};
	char       *result;
	EventBatch *events;
	Event      *event;
	char        nulls[5] = {' ', ' ', ' ', ' ', ' '};

	plan_execute(PLAN_FINISH_FEED, values, NULL, SPI_OK_UPDATE_RETURNING);
	result = feed_result();
	/* what waits for an order's end has to come again, unchanged as it may be */
	if (strstr(spi_string(0, FEED_RULES_USED), "\"sku_waits\"") != NULL)
		etag = last_modified = NULL;
	nulls[2] = etag ? ' ' : 'n';
	nulls[3] = last_modified ? ' ' : 'n';
	events = event_batch_create(1);
	event = event_batch_add(events);
	event->routing_key = psprintf("stock.synced.%s", spi_string(0, FEED_VENDOR_ID));
	event->payload = result;

	values[1] = CStringGetTextDatum(spi_string(0, FEED_VENDOR_ID));
	values[0] = Int64GetDatum(spi_int64(0, FEED_ITEMS));
	values[2] = etag ? CStringGetTextDatum(etag) : (Datum) 0;
	values[3] = last_modified ? CStringGetTextDatum(last_modified) : (Datum) 0;
	values[4] = Int64GetDatum(sync_id);
	plan_execute(PLAN_VENDOR_SYNCED, values, nulls, SPI_OK_UPDATE);
	outbox_write(events);
	return result;
}

static void
apply_part(int64 sync_id, FeedPart *part)
{
	reconcile(part);
	add_to_feed(sync_id, part);
	outbox_write(part->events);
}

/* ---------- arguments ---------- */

static TimestampTz
as_of_argument(FunctionCallInfo fcinfo, int argument)
{
	TimestampTz as_of =
		PG_ARGISNULL(argument) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(argument);

	if (TIMESTAMP_NOT_FINITE(as_of))
		argument_error("as_of", "must be finite");
	/* a vendor's or a bridge's clock may run ahead: no count is of the future; 0, which is in 2000,
	 * is no time at all */
	return Max(Min(as_of, GetCurrentTimestamp()), 1);
}

/* Makes jsonb of the text that outlives SPI's memory. */
static Datum
jsonb_result(const char *text)
{
	return SPI_datumTransfer(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)), false, -1);
}

/* ---------- the functions ---------- */

Datum
oa_sync_vendor_stock(PG_FUNCTION_ARGS)
{
	FeedFacts facts = {.as_of = as_of_argument(fcinfo, 2), .as_of_rule = "caller", .config_no = -1};
	FeedPart *part;
	VendorFeeds   vendor;
	FeedBeginning begun;
	Jsonb        *json;
	Datum         result;
	Caller        caller;

	begin_writing("sync_vendor_stock()");
	require_argument(fcinfo, 0, "vendor_id");
	require_argument(fcinfo, 1, "feed");
	json = PG_GETARG_JSONB_P(1);
	if (!json_is_array(json))
		argument_error("feed", "must be a JSON array of items");

	caller = caller_begin(fcinfo);
	SPI_connect();
	facts.vendor_id = text_argument(fcinfo, 0);
	require_answers_for(&caller, facts.vendor_id);
	vendor = feed_lock_vendor(facts.vendor_id);
	part = feed_part_create(facts.vendor_id, facts.as_of, vendor.values);
	feed_items_from_jsonb(part, json);
	facts.items = part->total;
	facts.nunreadable = part->nunreadable;
	facts.complaint = feed_main_complaint(part);
	facts.noffers = facts.nskus = part->nskus;
	facts.skus = part->skus;
	begun = feed_begin(&vendor, &facts);
	if (begun.is_running)
	{
		part->as_of = begun.as_of;
		part->previous_pull_at = begun.previous_pull_at;
		apply_part(begun.sync_id, part);
		result = jsonb_result(finish_feed(begun.sync_id, NULL, NULL));
	}
	else
		result = jsonb_result(feed_result());
	SPI_finish();
	caller_end(&caller);
	return result;
}

/* The elements of an array of text, none of them null. */
static const char **
texts_argument(FunctionCallInfo fcinfo, int argument, const char *name, int *count)
{
	Datum       *values;
	bool        *nulls;
	const char **texts;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), TEXTOID, -1, false, TYPALIGN_INT, &values,
					  &nulls, count);
	texts = palloc(sizeof(char *) * Max(*count, 1));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			argument_error(name, "must not have a null in it");
		texts[i] = TextDatumGetCString(values[i]);
	}
	return texts;
}

/* 1.0 had the first two arguments. */
static FeedFacts
facts_of_arguments(FunctionCallInfo fcinfo)
{
	FeedFacts facts = {
		.as_of = as_of_argument(fcinfo, 1), .as_of_rule = "caller", .config_no = -1, .items = -1};

	require_argument(fcinfo, 0, "vendor_id");
	facts.vendor_id = text_argument(fcinfo, 0);
	if (PG_NARGS() < 11)
		return facts;
	if (!PG_ARGISNULL(2))
		facts.as_of_rule = text_argument(fcinfo, 2);
	facts.told = text_argument(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		facts.pulled_at = Min(PG_GETARG_TIMESTAMPTZ(4), GetCurrentTimestamp());
	if (!PG_ARGISNULL(10))
		facts.config_no = PG_GETARG_INT32(10);
	if (PG_ARGISNULL(5) || PG_ARGISNULL(8))
		return facts;
	facts.items = Max(PG_GETARG_INT32(5), 0);
	facts.nunreadable = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT32(6);
	facts.noffers = PG_ARGISNULL(7) ? 0 : PG_GETARG_INT32(7);
	facts.skus = texts_argument(fcinfo, 8, "skus", &facts.nskus);
	facts.complaint = text_argument(fcinfo, 9);
	return facts;
}

Datum
oa_begin_feed(PG_FUNCTION_ARGS)
{
	FeedFacts     facts;
	VendorFeeds   vendor;
	FeedBeginning begun;

	begin_writing("begin_feed()");
	facts = facts_of_arguments(fcinfo);
	SPI_connect();
	vendor = feed_lock_vendor(facts.vendor_id);
	begun = feed_begin(&vendor, &facts);
	SPI_finish();
	if (!begun.is_running)
		PG_RETURN_NULL();
	PG_RETURN_INT64(begun.sync_id);
}

/* Locks the feed's row; ERROR unless the feed is running. */
static FeedPart *
lock_feed(int64 sync_id)
{
	Datum     values[1] = {Int64GetDatum(sync_id)};
	char     *status;
	bool      is_null;
	Datum     previous_pull_at;
	FeedPart *part;

	require_column("vendor", VENDOR_COLUMN_FEED_CONFIG_NO);
	lock_for_writing("feed_sync");
	plan_execute(PLAN_LOCK_FEED, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OA_UNKNOWN_SUBJECT), errmsg("unknown feed " INT64_FORMAT, sync_id),
				 errdetail("No feed has that id, or its history has been dropped.")));
	status = spi_string(0, 3);
	if (strcmp(status, "running") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OA_STATE), errmsg("feed " INT64_FORMAT " is %s", sync_id, status),
				 errdetail("Only a running feed takes parts, and ends.")));
	part = feed_part_create(spi_string(0, 1), DatumGetTimestampTz(spi_datum(0, 2, &is_null)),
							value_rules(NULL, spi_string(0, 4)));
	previous_pull_at = spi_datum(0, 5, &is_null);
	part->previous_pull_at = is_null ? 0 : DatumGetTimestampTz(previous_pull_at);
	return part;
}

static void
lock_vendor_of_feed(int64 sync_id)
{
	Datum values[1] = {Int64GetDatum(sync_id)};

	lock_for_writing("feed_sync", "vendor");
	plan_execute(PLAN_VENDOR_OF_FEED, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		return;
	values[0] = CStringGetTextDatum(spi_string(0, 1));
	plan_execute(PLAN_LOCK_VENDOR, values, NULL, SPI_OK_SELECT);
}

Datum
oa_apply_feed_part(PG_FUNCTION_ARGS)
{
	static const char *const arrays[] = {"indexes",    "skus",   "names",
										 "quantities", "prices", "complaints"};
	FeedPart                *part;
	int                      written;

	begin_writing("apply_feed_part()");
	require_argument(fcinfo, 0, "sync_id");
	for (int i = 0; i < lengthof(arrays); i++)
		require_argument(fcinfo, 3 + i, arrays[i]);
	SPI_connect();
	part = lock_feed(PG_GETARG_INT64(0));
	part->after = text_argument(fcinfo, 1);
	part->upto = text_argument(fcinfo, 2);
	feed_items_from_arrays(part, PG_GETARG_ARRAYTYPE_P(3), PG_GETARG_ARRAYTYPE_P(4),
						   PG_GETARG_ARRAYTYPE_P(5), PG_GETARG_ARRAYTYPE_P(6),
						   PG_GETARG_ARRAYTYPE_P(7), PG_GETARG_ARRAYTYPE_P(8));
	if (part->nitems > 0 &&
		((part->after != NULL && strcmp(part->items[0].sku, part->after) <= 0) ||
		 (part->upto != NULL && strcmp(part->items[part->nitems - 1].sku, part->upto) > 0)))
		argument_error("skus", "must be in the part's range, after_sku < SKU <= upto_sku");
	apply_part(PG_GETARG_INT64(0), part);
	written = part->nnew + part->nchanged + part->ninactive;
	SPI_finish();
	PG_RETURN_INT32(written);
}

Datum
oa_finish_feed(PG_FUNCTION_ARGS)
{
	Datum result;

	begin_writing("finish_feed()");
	require_argument(fcinfo, 0, "sync_id");
	SPI_connect();
	lock_vendor_of_feed(PG_GETARG_INT64(0)); /* the vendor before the feed, as begin_feed does */
	(void) lock_feed(PG_GETARG_INT64(0));
	result = jsonb_result(
		finish_feed(PG_GETARG_INT64(0), text_argument(fcinfo, 1), text_argument(fcinfo, 2)));
	SPI_finish();
	return result;
}
