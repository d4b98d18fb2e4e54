/*
 * feed.c
 *		Vendors and their stock feeds.
 *
 * A feed is the vendor's own count at the time as_of. Units held but not
 * confirmed stay in "reserved"; units confirmed after as_of are not in the count
 * yet and are subtracted from it. Rows the feed does not change are neither
 * locked nor written: whoever confirms units meanwhile lowers on_hand by just
 * what would be subtracted here, so a row that agrees goes on agreeing.
 *
 * Locks: the vendor's row, then its changed stock rows by product_id.
 */
#include "order_aggregator.h"

#include "events.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "money.h"
#include "outbox.h"
#include "plans.h"
#include "request.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oa_register_vendor);
PG_FUNCTION_INFO_V1(oa_sync_vendor_stock);

#define SKIPPED_TOLD_MAX    100 /* skipped items named in the result */
#define FEED_NAME_CHARS_MAX 500

/* One item of a feed, or one row that the feed lacks. */
typedef struct FeedItem
{
	int         index; /* its place in the feed, from 0 */
	const char *product_id;
	const char *name; /* NULL: not given */
	int64       count;
	Price       price;
	bool        has_price;
	bool        is_bad; /* skipped; but its product is in the feed, and stays as it is */

	/* the row as it is */
	bool  exists;
	bool  changes;
	int64 reserved;
} FeedItem;

typedef struct Feed
{
	const char    *vendor_id;
	TimestampTz    as_of;
	FeedItem      *items; /* by product_id, each once */
	int            nitems;
	const char   **missing; /* active products that the feed lacks */
	int            nmissing;
	int            total; /* items in the feed, bad ones too */
	int            nskipped;
	StringInfoData skipped; /* JSON array elements */
	int            nnew;
	int            nchanged;
	StringInfoData oversold; /* JSON array elements */
	int            noversold;
} Feed;

/* ---------- vendors ---------- */

static char *
required_text(FunctionCallInfo fcinfo, int argument, const char *name, int max_chars)
{
	char *value;
	char *complaint;

	if (PG_ARGISNULL(argument))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be null", name)));
	value = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	complaint = check_text_id(value, strlen(value), max_chars);
	if (complaint != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s %s", name, complaint)));
	return value;
}

Datum
oa_register_vendor(PG_FUNCTION_ARGS)
{
	char *vendor_id = required_text(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	char *name = required_text(fcinfo, 1, "name", FEED_NAME_CHARS_MAX);
	char *stock_url = PG_ARGISNULL(2) ? NULL : required_text(fcinfo, 2, "stock_url", 2000);
	Datum values[4];
	char  nulls[4] = {' ', ' ', stock_url ? ' ' : 'n', ' '};

	if (!is_vendor_id(vendor_id, strlen(vendor_id)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("vendor_id must be 1 to 64 of A-Z a-z 0-9 _ -")));
	if (stock_url != NULL && strncmp(stock_url, "http://", 7) != 0 && strncmp(stock_url, "https://", 8) != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("stock_url must begin with http:// or https://")));

	SPI_connect();
	values[0] = CStringGetTextDatum(vendor_id);
	values[1] = CStringGetTextDatum(name);
	values[2] = stock_url ? CStringGetTextDatum(stock_url) : (Datum) 0;
	values[3] = Int32GetDatum(PG_ARGISNULL(3) ? 100 : PG_GETARG_INT32(3));
	plan_execute(PLAN_REGISTER_VENDOR, values, nulls, SPI_OK_INSERT);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---------- parsing ---------- */

static void
skip_item(Feed *feed, int index, const char *complaint)
{
	if (feed->nskipped++ >= SKIPPED_TOLD_MAX)
		return;
	appendStringInfo(&feed->skipped, "%s{\"index\": %d, \"error\": ", feed->nskipped > 1 ? ", " : "", index);
	json_append_string(&feed->skipped, complaint);
	appendStringInfoChar(&feed->skipped, '}');
}

static bool
member(JsonbContainer *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, key, strlen(key), value) != NULL && value->type != jbvNull;
}

/* A price given as a number, or as a string that is one. */
static bool
parse_price(const JsonbValue *value, Price *price)
{
	char *text;

	if (value->type == jbvNumeric)
		return price_from_numeric(value->val.numeric, price);
	if (value->type != jbvString || value->val.string.len > 32)
		return false;
	text = pnstrdup(value->val.string.val, value->val.string.len);
	if (*text == '\0' || strspn(text, "0123456789.") != strlen(text) || *text == '.' || strchr(text, '.') != strrchr(text, '.'))
		return false;
	return price_from_numeric(
		DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))),
		price);
}

/* NULL if the item is good, else what is wrong with it. Fields unknown to us are the vendor's own. */
static char *
parse_item(JsonbContainer *object, FeedItem *item)
{
	JsonbValue  id;
	JsonbValue  count;
	JsonbValue  value;
	const char *id_field = member(object, "id", &id) ? "id" : "productId";
	const char *count_field = member(object, "quantity", &count) ? "quantity" : "stock";
	char       *complaint;

	if (*id_field == 'p' && !member(object, "productId", &id))
		return "id (or productId) is missing";
	if (*count_field == 's' && !member(object, "stock", &count))
		return "quantity (or stock) is missing";
	if (id.type != jbvString)
		return psprintf("%s must be a string", id_field);
	complaint = check_text_id(id.val.string.val, id.val.string.len, ID_CHARS_MAX);
	if (complaint != NULL)
		return psprintf("%s %s", id_field, complaint);
	item->product_id = pnstrdup(id.val.string.val, id.val.string.len);

	if (count.type != jbvNumeric || !numeric_to_whole(count.val.numeric, 0, ON_HAND_MAX, &item->count))
		return psprintf("%s must be a whole number from 0 to " INT64_FORMAT, count_field, ON_HAND_MAX);
	if (member(object, "price", &value))
	{
		if (!parse_price(&value, &item->price))
			return "price must be a number from 0 to below 10^11 with at most 4 decimals";
		item->has_price = true;
	}
	if (member(object, "name", &value))
	{
		if (value.type != jbvString ||
			(complaint = check_text_id(value.val.string.val, value.val.string.len, FEED_NAME_CHARS_MAX)) != NULL)
			return psprintf("name must be a string of 1 to %d characters without control characters", FEED_NAME_CHARS_MAX);
		item->name = pnstrdup(value.val.string.val, value.val.string.len);
	}
	return NULL;
}

static int
compare_items(const void *a, const void *b)
{
	const FeedItem *left = a;
	const FeedItem *right = b;
	int             order = strcmp(left->product_id, right->product_id);

	if (order == 0)
		order = left->is_bad - right->is_bad;
	return order != 0 ? order : left->index - right->index;
}

static void
parse_feed(Feed *feed, Jsonb *json)
{
	JsonbIterator     *it = JsonbIteratorInit(&json->root);
	JsonbIteratorToken token;
	JsonbValue         value;
	int                nparsed = 0;

	feed->items = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem) * Max(JB_ROOT_COUNT(json), 1));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		FeedItem item = {0};
		char    *complaint = NULL;

		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		item.index = feed->total++;
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			complaint = "must be an object";
		else
			complaint = parse_item(value.val.binary.data, &item);
		if (complaint != NULL)
		{
			skip_item(feed, item.index, complaint);
			item.is_bad = true;
		}
		if (item.product_id != NULL)
			feed->items[nparsed++] = item;
	}
	qsort(feed->items, nparsed, sizeof(FeedItem), compare_items);
	for (int i = 0; i < nparsed; i++)
	{
		if (feed->nitems == 0 || strcmp(feed->items[feed->nitems - 1].product_id, feed->items[i].product_id) != 0)
			feed->items[feed->nitems++] = feed->items[i];
		else if (!feed->items[i].is_bad)
			skip_item(feed, feed->items[i].index, psprintf("product \"%s\" is in the feed already", feed->items[i].product_id));
	}
}

static FeedItem *
find_item(const Feed *feed, const char *product_id)
{
	int low = 0;
	int high = feed->nitems - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		int order = strcmp(feed->items[middle].product_id, product_id);

		if (order == 0)
			return &feed->items[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

/* ---------- comparing ---------- */

/*
 * Units confirmed since the feed was taken, for each product of the feed.
 * Fills confirmed[], which is parallel to items.
 */
static void
read_confirmed_since(const Feed *feed, int64 *confirmed)
{
	Datum values[2] = {CStringGetTextDatum(feed->vendor_id), TimestampTzGetDatum(feed->as_of)};

	memset(confirmed, 0, sizeof(int64) * feed->nitems);
	plan_execute(PLAN_CONFIRMED_SINCE, values, NULL, SPI_OK_SELECT);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		char     *product_id = spi_string(row, 1);
		FeedItem *item = find_item(feed, product_id);

		if (item != NULL)
			confirmed[item - feed->items] = spi_int64(row, 2);
		pfree(product_id);
	}
	SPI_freetuptable(SPI_tuptable);
}

static inline int64
on_hand_after(const FeedItem *item, int64 confirmed)
{
	return Max(0, item->count - confirmed);
}

/* Compares one row of the vendor with its item. */
static void
compare_row(FeedItem *item, uint64 row)
{
	Price price;
	bool  is_null;
	char *name = spi_string(row, 2);
	char *product_id = spi_string(row, 1);

	item->exists = true;
	if (item->is_bad)
		return;
	if (!price_from_numeric(DatumGetNumeric(spi_datum(row, 3, &is_null)), &price))
		elog(ERROR, "price of product \"%s\" is out of range", item->product_id);
	if (!item->has_price)
		item->price = price;
	item->changes = !spi_bool(row, 5) || spi_int64(row, 4) != on_hand_after(item, spi_int64(row, 6)) ||
					item->price.amount != price.amount ||
					(item->name != NULL && strcmp(name, product_id) == 0 && strcmp(name, item->name) != 0);
	pfree(name);
	pfree(product_id);
}

static void
compare_with_stock(Feed *feed)
{
	Datum values[2] = {CStringGetTextDatum(feed->vendor_id), TimestampTzGetDatum(feed->as_of)};

	plan_execute(PLAN_READ_VENDOR_STOCK, values, NULL, SPI_OK_SELECT);
	feed->missing = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * Max(SPI_processed, 1));
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		char     *product_id = spi_string(row, 1);
		FeedItem *item = find_item(feed, product_id);

		CHECK_FOR_INTERRUPTS();
		if (item != NULL)
			compare_row(item, row);
		else if (spi_bool(row, 5))
			feed->missing[feed->nmissing++] = product_id;
	}
	SPI_freetuptable(SPI_tuptable);
	for (int i = 0; i < feed->nitems; i++)
	{
		FeedItem *item = &feed->items[i];

		if (item->exists)
			feed->nchanged += item->changes;
		else if (!item->is_bad)
		{
			item->changes = true;
			if (!item->has_price)
				item->price = (Price){0, MONEY_SCALE_MIN};
			feed->nnew++;
		}
	}
}

/* ---------- writing ---------- */

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Locks the rows that will change, and learns what is held of them. */
static void
lock_changing_rows(Feed *feed)
{
	const char **product_ids;
	int          count = 0;
	Datum        values[2];

	product_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * Max(feed->nitems + feed->nmissing, 1));
	for (int i = 0; i < feed->nitems; i++)
	{
		if (feed->items[i].exists && feed->items[i].changes)
			product_ids[count++] = feed->items[i].product_id;
	}
	for (int i = 0; i < feed->nmissing; i++)
		product_ids[count++] = feed->missing[i];
	if (count == 0)
		return;
	qsort(product_ids, count, sizeof(char *), compare_strings);
	values[0] = CStringGetTextDatum(feed->vendor_id);
	values[1] = text_array(product_ids, count);
	plan_execute(PLAN_LOCK_VENDOR_STOCK, values, NULL, SPI_OK_SELECT);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		FeedItem *item = find_item(feed, spi_string(row, 1));

		if (item != NULL)
			item->reserved = spi_int64(row, 2);
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
note_oversold(Feed *feed, const FeedItem *item, int64 on_hand)
{
	if (item->reserved <= on_hand)
		return;
	appendStringInfo(&feed->oversold, "%s{\"productId\": ", feed->noversold++ > 0 ? ", " : "");
	json_append_string(&feed->oversold, item->product_id);
	appendStringInfo(&feed->oversold, ", \"onHand\": " INT64_FORMAT ", \"held\": " INT64_FORMAT ", \"short\": " INT64_FORMAT "}",
					 on_hand, item->reserved, item->reserved - on_hand);
}

static void
write_changed_items(Feed *feed, const int64 *confirmed)
{
	int          count_max = Max(feed->nnew + feed->nchanged, 1);
	const char **product_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * count_max);
	const char **names = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * count_max);
	const char **prices = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * count_max);
	int64       *on_hand = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * count_max);
	int          count = 0;
	Datum        values[5];

	for (int i = 0; i < feed->nitems; i++)
	{
		const FeedItem *item = &feed->items[i];

		if (!item->changes)
			continue;
		product_ids[count] = item->product_id;
		names[count] = item->name;
		prices[count] = price_to_string(item->price);
		on_hand[count] = on_hand_after(item, confirmed[i]);
		note_oversold(feed, item, on_hand[count]);
		count++;
	}
	if (count == 0)
		return;
	values[0] = text_array(product_ids, count);
	values[1] = text_array(names, count);
	plan_execute(PLAN_UPSERT_PRODUCTS, values, NULL, SPI_OK_INSERT);

	values[2] = values[0];
	values[0] = CStringGetTextDatum(feed->vendor_id);
	values[1] = TimestampTzGetDatum(feed->as_of);
	values[3] = text_array(prices, count);
	values[4] = int8_array(on_hand, count);
	plan_execute(PLAN_UPSERT_STOCK, values, NULL, SPI_OK_INSERT);
}

static void
deactivate_missing(const Feed *feed)
{
	Datum values[3];

	if (feed->nmissing == 0)
		return;
	values[0] = CStringGetTextDatum(feed->vendor_id);
	values[1] = TimestampTzGetDatum(feed->as_of);
	values[2] = text_array(feed->missing, feed->nmissing);
	plan_execute(PLAN_DEACTIVATE_STOCK, values, NULL, SPI_OK_UPDATE);
}

static char *
feed_result(const Feed *feed, const char *status)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json,
					 "{\"vendorId\": \"%s\", \"status\": \"%s\", \"asOf\": \"%s\", \"items\": %d, \"new\": %d, "
					 "\"changed\": %d, \"inactive\": %d, \"skippedItems\": %d, \"skipped\": [%s], \"oversold\": [%s]}",
					 feed->vendor_id, status, utc_timestamp(feed->as_of), feed->total, feed->nnew, feed->nchanged, feed->nmissing,
					 feed->nskipped, feed->skipped.data, feed->oversold.data);
	return json.data;
}

static void
write_feed_events(const Feed *feed, char *result)
{
	EventBatch *events = event_batch_create(2);
	Event      *event = event_batch_add(events);

	event->routing_key = psprintf("stock.synced.%s", feed->vendor_id);
	event->payload = result;
	if (feed->noversold > 0)
	{
		event = event_batch_add(events);
		event->routing_key = psprintf("stock.oversold.%s", feed->vendor_id);
		event->payload = psprintf("{\"vendorId\": \"%s\", \"asOf\": \"%s\", \"products\": [%s]}", feed->vendor_id,
								  utc_timestamp(feed->as_of), feed->oversold.data);
	}
	outbox_write(events);
}

/* Locks the vendor; false if a later feed has been applied already. */
static bool
lock_vendor(const Feed *feed)
{
	Datum values[1] = {CStringGetTextDatum(feed->vendor_id)};
	Datum synced_as_of;
	bool  is_null;

	plan_execute(PLAN_LOCK_VENDOR, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_OA_UNKNOWN_SUBJECT), errmsg("unknown vendor \"%s\"", feed->vendor_id)));
	synced_as_of = spi_datum(0, 1, &is_null);
	return is_null || DatumGetTimestampTz(synced_as_of) <= feed->as_of;
}

static char *
apply_feed(Feed *feed, Jsonb *json)
{
	int64 *confirmed;
	Datum  values[2];
	char  *result;

	if (!lock_vendor(feed))
		return feed_result(feed, "stale");

	parse_feed(feed, json);
	confirmed = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(feed->nitems, 1));
	compare_with_stock(feed);
	lock_changing_rows(feed);
	read_confirmed_since(feed, confirmed); /* until the rows were locked */
	write_changed_items(feed, confirmed);
	deactivate_missing(feed);

	values[0] = CStringGetTextDatum(feed->vendor_id);
	values[1] = TimestampTzGetDatum(feed->as_of);
	plan_execute(PLAN_VENDOR_APPLIED, values, NULL, SPI_OK_UPDATE);
	result = feed_result(feed, "applied");
	write_feed_events(feed, result);
	return result;
}

Datum
oa_sync_vendor_stock(PG_FUNCTION_ARGS)
{
	Feed   feed = {0};
	Jsonb *json;
	char  *result;
	Datum  returned;

	feed.vendor_id = required_text(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("feed must not be null")));
	json = PG_GETARG_JSONB_P(1);
	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("feed must be a JSON array of items")));
	feed.as_of = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);
	if (TIMESTAMP_NOT_FINITE(feed.as_of))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("as_of must be finite")));
	/* a vendor's or a bridge's clock may run ahead: no count is of the future */
	feed.as_of = Min(feed.as_of, GetCurrentTimestamp());

	SPI_connect();
	initStringInfo(&feed.skipped);
	initStringInfo(&feed.oversold);
	result = apply_feed(&feed, json);
	returned = SPI_datumTransfer(DirectFunctionCall1(jsonb_in, CStringGetDatum(result)), false, -1);
	SPI_finish();
	return returned;
}
