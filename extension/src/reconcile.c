/*
 * reconcile.c
 *		A vendor's stock rows against its feed.
 *
 * A feed is the vendor's own count at the time as_of. Units held but not
 * confirmed stay in "reserved"; units confirmed after as_of are not in the count
 * yet and are subtracted from it. Rows the feed does not change are neither
 * locked nor written: whoever confirms units meanwhile lowers on_hand by just
 * what would be subtracted here, so a row that agrees goes on agreeing.
 *
 * Items and rows are merged in the order of the SKU, in one pass over an index.
 * Then the rows that change are locked, by (product_id, vendor_id), and written.
 */
#include "feed.h"

#include <sched.h>

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "bulk.h"
#include "catalog/pg_type.h"
#include "events.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "holds.h"
#include "miscadmin.h"
#include "plans.h"
#include "request.h"
#include "rows.h"
#include "stock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Columns of the tables that are only met here. */
enum
{
	PRODUCT_MAP_VENDOR_SKU = 2,
	PRODUCT_MAP_PRODUCT_ID,
	PRODUCT_BUFFER = 4,
	PRODUCT_LOW_THRESHOLD
};

#define YIELD_ROWS        32
#define OVERSOLD_TOLD_MAX 1000 /* products, in one event and in the history of a part */

typedef struct Reconciliation
{
	FeedPart    *part;
	const char **missing; /* products that the vendor offers and the part lacks */
	int          nmissing;
	int          missing_room;
	RowScan      confirmed;        /* holds, by vendor, product and time */
	bool         wants_all_offers; /* a product that changes has a low threshold */
	int          nrows;            /* read so far */
} Reconciliation;

/*
 * Called for each row. A feed is long work that nobody waits for: every so many
 * rows whoever waits for the processor goes first. Without it an order waits for
 * the rest of the scheduler's slice, some milliseconds (docs/performance.md).
 */
static inline void
breathe(int row)
{
	CHECK_FOR_INTERRUPTS();
	if (row % YIELD_ROWS == 0)
		(void) sched_yield();
}

/* ---------- ranges of an index that begins with vendor and SKU ---------- */

static void
find_range(RowScan *scan, const FeedPart *part)
{
	ScanKeyData keys[3];
	int         nkeys = 0;

	ScanKeyInit(&keys[nkeys++], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(part->vendor_id));
	if (part->after != NULL)
		ScanKeyInit(&keys[nkeys++], 2, BTGreaterStrategyNumber, F_TEXT_GT, CStringGetTextDatum(part->after));
	if (part->upto != NULL)
		ScanKeyInit(&keys[nkeys++], 2, BTLessEqualStrategyNumber, F_TEXT_LE, CStringGetTextDatum(part->upto));
	row_scan_find(scan, keys, nkeys);
}

/* Moves *next to the first item that is not before the SKU; the item if it is that SKU's, else NULL. */
static FeedItem *
item_of_sku(const FeedPart *part, int *next, const char *sku)
{
	int order = 1;

	while (*next < part->nitems && (order = strcmp(part->items[*next].sku, sku)) < 0)
		(*next)++;
	return *next < part->nitems && order == 0 ? &part->items[*next] : NULL;
}

/* ---------- which product an item is ---------- */

static bool
has_mapping(RowScan *map, const char *vendor_id)
{
	row_scan_find_text(map, vendor_id);
	return row_scan_next(map) != NULL;
}

static void
map_skus(FeedPart *part, RowScan *map)
{
	TupleTableSlot *slot;
	int             next = 0;

	find_range(map, part);
	while ((slot = row_scan_next(map)) != NULL)
	{
		char     *sku = row_text(slot, PRODUCT_MAP_VENDOR_SKU);
		FeedItem *item = item_of_sku(part, &next, sku);

		if (item != NULL)
			item->product_id = row_text(slot, PRODUCT_MAP_PRODUCT_ID);
		pfree(sku);
	}
}

/* An item without a mapping takes its SKU as product, unless another SKU is mapped to that. */
static void
claim_by_sku(FeedPart *part, FeedItem *item, RowScan *claims)
{
	if (claims != NULL)
	{
		row_scan_find_texts(claims, part->vendor_id, item->sku);
		if (row_scan_next(claims) != NULL)
		{
			if (!item->is_bad)
				feed_skip(
					part, item->index,
					psprintf("product \"%s\" is mapped from \"%s\"", item->sku, row_text(claims->found, PRODUCT_MAP_VENDOR_SKU)));
			item->is_bad = true;
			return;
		}
	}
	item->product_id = item->sku;
}

static void
resolve_products(FeedPart *part)
{
	RowScan map;
	RowScan claims;
	bool    mapped;

	rows_see_latest();
	row_scan_begin(&map, "product_map", NULL, AccessShareLock);
	mapped = has_mapping(&map, part->vendor_id);
	if (mapped)
	{
		row_scan_begin(&claims, "product_map", "product_map_product_key", AccessShareLock);
		map_skus(part, &map);
	}
	for (int i = 0; i < part->nitems; i++)
	{
		if (part->items[i].product_id == NULL)
			claim_by_sku(part, &part->items[i], mapped ? &claims : NULL);
	}
	if (mapped)
		row_scan_end(&claims);
	row_scan_end(&map);
	PopActiveSnapshot();
}

/* ---------- comparing ---------- */

/* Units of the product that were confirmed since the feed was taken, as far as the active snapshot sees. */
static int64
confirmed_since(Reconciliation *work, const char *product_id, TimestampTz last_shipped_at)
{
	const FeedPart *part = work->part;
	ScanKeyData     keys[3];
	int64           units = 0;

	if (last_shipped_at <= part->as_of)
		return 0;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(part->vendor_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(product_id));
	ScanKeyInit(&keys[2], 3, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT, TimestampTzGetDatum(part->as_of));
	row_scan_find(&work->confirmed, keys, 3);
	while (row_scan_next(&work->confirmed) != NULL)
		units += DatumGetInt64(row_column(work->confirmed.found, HOLD_QUANTITY));
	return units;
}

static int64
on_hand_after(Reconciliation *work, const FeedItem *item, TimestampTz last_shipped_at)
{
	return Max(0, item->count - confirmed_since(work, item->product_id, last_shipped_at));
}

static void
see_low_threshold(Reconciliation *work, TupleTableSlot *slot)
{
	if (row_int64(slot, STOCK_LOW_THRESHOLD, guc_low_stock) != LOW_THRESHOLD_NONE)
		work->wants_all_offers = true;
}

static void
compare_row(Reconciliation *work, FeedItem *item, TupleTableSlot *slot)
{
	Price price;

	item->exists = true;
	if (item->is_bad)
		return;
	if (!price_from_numeric(DatumGetNumeric(row_column(slot, STOCK_PRICE)), &price))
		elog(ERROR, "price of product \"%s\" is out of range", item->product_id);
	if (!item->has_price)
		item->price = price;
	item->changes =
		!DatumGetBool(row_column(slot, STOCK_IS_ACTIVE)) || item->price.amount != price.amount ||
		DatumGetInt64(row_column(slot, STOCK_ON_HAND)) != on_hand_after(work, item, row_int64(slot, STOCK_LAST_SHIPPED_AT, 0));
	if (item->changes)
		see_low_threshold(work, slot);
}

static void
add_missing(Reconciliation *work, TupleTableSlot *slot)
{
	if (!DatumGetBool(row_column(slot, STOCK_IS_ACTIVE)))
		return;
	if (work->nmissing == work->missing_room)
	{
		work->missing_room = Max(work->missing_room * 2, 64);
		work->missing = work->missing ? repalloc_huge(work->missing, sizeof(char *) * work->missing_room)
									  : palloc(sizeof(char *) * work->missing_room);
	}
	work->missing[work->nmissing++] = row_text(slot, STOCK_PRODUCT_ID);
	see_low_threshold(work, slot);
}

/* Merges the vendor's rows of the range with the items. */
static void
compare_with_stock(Reconciliation *work, RowScan *stock)
{
	FeedPart       *part = work->part;
	TupleTableSlot *slot;
	int             next = 0;

	find_range(stock, part);
	while ((slot = row_scan_next(stock)) != NULL)
	{
		char     *sku = row_text(slot, STOCK_VENDOR_SKU);
		FeedItem *item = item_of_sku(part, &next, sku);
		char     *product_id;

		breathe(work->nrows++);
		pfree(sku);
		if (item == NULL)
		{
			add_missing(work, slot);
			continue;
		}
		product_id = row_text(slot, STOCK_PRODUCT_ID);
		if (item->product_id != NULL && strcmp(item->product_id, product_id) == 0)
			compare_row(work, item, slot);
		else
			add_missing(work, slot); /* the SKU is not this product any more */
		pfree(product_id);
	}
}

/* Finds the rows of the remaining items: those that were offered under another SKU so far. */
static void
compare_by_product(Reconciliation *work, RowScan *stock)
{
	FeedPart *part = work->part;

	for (int i = 0; i < part->nitems; i++)
	{
		FeedItem *item = &part->items[i];

		if (item->exists || item->is_bad)
			continue;
		row_scan_find_texts(stock, item->product_id, part->vendor_id);
		if (row_scan_next(stock) == NULL)
			continue;
		compare_row(work, item, stock->found);
		item->changes = true;
		see_low_threshold(work, stock->found);
	}
}

static void
compare(Reconciliation *work)
{
	FeedPart *part = work->part;
	RowScan   by_sku;
	RowScan   by_product;

	/* one snapshot for a row's count and what was confirmed of it */
	rows_see_latest();
	row_scan_begin(&by_sku, "stock", "stock_vendor_sku_idx", RowExclusiveLock);
	row_scan_begin(&by_product, "stock", NULL, RowExclusiveLock);
	row_scan_begin(&work->confirmed, "hold", "hold_confirmed_idx", AccessShareLock);
	compare_with_stock(work, &by_sku);
	compare_by_product(work, &by_product);
	row_scan_end(&work->confirmed);
	row_scan_end(&by_product);
	row_scan_end(&by_sku);
	PopActiveSnapshot();
	for (int i = 0; i < part->nitems; i++)
	{
		part->nchanged += part->items[i].exists && part->items[i].changes;
		part->nnew += !part->items[i].exists && !part->items[i].is_bad;
	}
}

/* ---------- changing rows ---------- */

/* Locks the rows that change; with all other offers of their products if someone wants to know when those get low. */
static StockRows *
lock_changing(const Reconciliation *work)
{
	const FeedPart *part = work->part;
	int             room = Max(part->nchanged + work->nmissing, 1);
	const char    **product_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * room);
	const char    **vendor_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * room);
	int             count = 0;

	for (int i = 0; i < part->nitems; i++)
	{
		if (part->items[i].exists && part->items[i].changes)
			product_ids[count++] = part->items[i].product_id;
	}
	for (int i = 0; i < work->nmissing; i++)
		product_ids[count++] = work->missing[i];
	for (int i = 0; i < count; i++)
		vendor_ids[i] = part->vendor_id;
	return work->wants_all_offers ? stock_lock_offers(product_ids, count, false)
								  : stock_lock_rows(product_ids, vendor_ids, count, false);
}

/* An event tells of so many products at most, so that it stays small enough for the broker. */
static void
add_oversold_event(FeedPart *part)
{
	Event *event;

	if (part->oversold_event.len == 0)
		return;
	event = event_batch_add(part->events);
	event->routing_key = psprintf("stock.oversold.%s", part->vendor_id);
	event->payload = psprintf("{\"vendorId\": \"%s\", \"asOf\": \"%s\", \"products\": [%s]}", part->vendor_id,
							  utc_timestamp(part->as_of), part->oversold_event.data);
	resetStringInfo(&part->oversold_event);
}

static void
append_oversold(StringInfo list, const StockRow *row, int64 on_hand)
{
	appendStringInfo(list, "%s{\"productId\": ", list->len > 0 ? ", " : "");
	json_append_string(list, row->product_id);
	appendStringInfo(list, ", \"onHand\": " INT64_FORMAT ", \"held\": " INT64_FORMAT ", \"short\": " INT64_FORMAT "}", on_hand,
					 row->reserved, row->reserved - on_hand);
}

static void
note_oversold(FeedPart *part, const StockRow *row, int64 on_hand)
{
	if (part->noversold++ < OVERSOLD_TOLD_MAX)
		append_oversold(&part->oversold, row, on_hand);
	append_oversold(&part->oversold_event, row, on_hand);
	if (part->noversold % OVERSOLD_TOLD_MAX == 0)
		add_oversold_event(part);
}

/* What the row has for sale from now on. */
static void
set_available(StockRows *stock, StockRow *row, int64 on_hand, bool is_active)
{
	row->free = on_hand - row->reserved - row->buffer;
	row->is_active = is_active && row->vendor_is_active;
	stock->offers[row - stock->rows].available = row->is_active ? Max(0, row->free) : 0;
}

static void
write_item(Reconciliation *work, RowUpdate *update, StockRows *stock, StockRow *row, const FeedItem *item)
{
	int64 on_hand = on_hand_after(work, item, row->last_shipped_at);
	int   columns[] = {STOCK_VENDOR_SKU, STOCK_PRICE, STOCK_ON_HAND, STOCK_IS_ACTIVE, STOCK_AS_OF};
	bool  nulls[lengthof(columns)] = {false};
	Datum values[] = {CStringGetTextDatum(item->sku),
					  NumericGetDatum(amount_to_numeric((Amount){item->price.amount, item->price.decimals})),
					  Int64GetDatum(on_hand), BoolGetDatum(true), TimestampTzGetDatum(work->part->as_of)};

	row_update(update, row->tuple, lengthof(columns), columns, values, nulls);
	set_available(stock, row, on_hand, true);
	if (row->reserved > on_hand)
		note_oversold(work->part, row, on_hand);
}

static void
write_inactive(const FeedPart *part, RowUpdate *update, StockRows *stock, StockRow *row)
{
	int   columns[] = {STOCK_IS_ACTIVE, STOCK_AS_OF};
	bool  nulls[lengthof(columns)] = {false};
	Datum values[] = {BoolGetDatum(false), TimestampTzGetDatum(part->as_of)};

	row_update(update, row->tuple, lengthof(columns), columns, values, nulls);
	set_available(stock, row, row->on_hand, false);
}

/* Shortages of the part's products: those that there are now are noted, the others are over. */
static void
note_shortages(const FeedPart *part, const StockRows *stock)
{
	const char **short_ids = palloc(sizeof(char *) * Max(stock->nrows, 1));
	const char **other_ids = palloc(sizeof(char *) * Max(stock->nrows, 1));
	int          nshort = 0;
	int          nothers = 0;
	Datum        values[2] = {CStringGetTextDatum(part->vendor_id)};

	for (int i = 0; i < stock->nrows; i++)
	{
		const StockRow *row = &stock->rows[i];

		if (strcmp(row->vendor_id, part->vendor_id) != 0)
			continue;
		if (row->free + row->buffer < 0)
			short_ids[nshort++] = row->product_id;
		else
			other_ids[nothers++] = row->product_id;
	}
	if (nothers > 0)
	{
		values[1] = text_array(other_ids, nothers);
		plan_execute(PLAN_END_SHORTAGES, values, NULL, SPI_OK_DELETE);
	}
	if (nshort > 0)
	{
		values[1] = text_array(short_ids, nshort);
		plan_execute(PLAN_NOTE_SHORTAGES, values, NULL, SPI_OK_INSERT);
	}
}

static void
write_changes(Reconciliation *work, StockRows *stock)
{
	FeedPart *part = work->part;
	bool     *written = palloc0(Max(stock->nrows, 1));
	RowUpdate update;

	rows_see_latest(); /* what was confirmed until the rows were locked */
	row_scan_begin(&work->confirmed, "hold", "hold_confirmed_idx", AccessShareLock);
	row_update_begin(&update, "stock");
	for (int i = 0; i < part->nitems; i++)
	{
		const FeedItem *item = &part->items[i];
		StockRow       *row;

		if (!item->exists || !item->changes)
			continue;
		row = stock_find(stock, item->product_id, part->vendor_id);
		if (row == NULL)
			elog(ERROR, "stock of product \"%s\" at vendor \"%s\" is gone", item->product_id, part->vendor_id);
		write_item(work, &update, stock, row, item);
		written[row - stock->rows] = true;
	}
	for (int i = 0; i < work->nmissing; i++)
	{
		StockRow *row = stock_find(stock, work->missing[i], part->vendor_id);

		if (row == NULL || written[row - stock->rows])
			continue;
		write_inactive(part, &update, stock, row);
		part->ninactive++;
	}
	row_update_end(&update);
	row_scan_end(&work->confirmed);
	PopActiveSnapshot();
	if (stock->nrows > 0)
		note_shortages(part, stock);
}

/* ---------- new rows ---------- */

static int
compare_by_product_id(const void *a, const void *b)
{
	return strcmp((*(FeedItem *const *) a)->product_id, (*(FeedItem *const *) b)->product_id);
}

static FeedItem **
new_items(const FeedPart *part)
{
	FeedItem **items = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nnew, 1));
	int        count = 0;

	for (int i = 0; i < part->nitems; i++)
	{
		if (!part->items[i].exists && !part->items[i].is_bad)
			items[count++] = &part->items[i];
	}
	qsort(items, count, sizeof(FeedItem *), compare_by_product_id);
	return items;
}

/* The product's buffer and threshold become the offer's. */
static void
store_stock(BulkInsert *stock, const FeedPart *part, const FeedItem *item, TupleTableSlot *product)
{
	TupleTableSlot *slot = bulk_next_row(stock);
	Price           price = item->has_price ? item->price : (Price){0, MONEY_SCALE_MIN};
	int64           low_threshold = row_int64(product, PRODUCT_LOW_THRESHOLD, LOW_THRESHOLD_NONE);
	Datum           values[] = {
				  CStringGetTextDatum(item->product_id),
				  CStringGetTextDatum(part->vendor_id),
				  CStringGetTextDatum(item->sku),
				  NumericGetDatum(amount_to_numeric((Amount){price.amount, price.decimals})),
				  Int64GetDatum(item->count),
				  Int64GetDatum(0),
				  Int64GetDatum(row_int64(product, PRODUCT_BUFFER, 0)),
				  BoolGetDatum(true),
				  TimestampTzGetDatum(part->as_of),
				  Int64GetDatum(low_threshold),
    };

	for (unsigned i = 0; i < lengthof(values); i++)
	{
		slot->tts_values[i] = values[i];
		slot->tts_isnull[i] = i == STOCK_LOW_THRESHOLD - 1 && low_threshold == LOW_THRESHOLD_NONE;
	}
	bulk_store_row(stock);
}

/* Writes the rows of new offers. Their products are there, and locked, because their buffer and threshold become the offer's. */
static void
insert_new(FeedPart *part)
{
	FeedItem  **items;
	BulkInsert *stock;
	RowScan     product;

	if (part->nnew == 0)
		return;
	items = new_items(part);
	rows_see_latest();
	row_scan_begin(&product, "product", NULL, AccessShareLock);
	stock = bulk_begin(table_oid("stock"));
	bulk_yield(stock, YIELD_ROWS);
	for (int i = 0; i < part->nnew; i++)
	{
		breathe(i);
		row_scan_find_text(&product, items[i]->product_id);
		if (row_scan_next(&product) == NULL)
			elog(ERROR, "product \"%s\" is gone", items[i]->product_id);
		store_stock(stock, part, items[i], product.found);
	}
	bulk_end(stock);
	row_scan_end(&product);
	PopActiveSnapshot();
}

/* ---------- products ---------- */

/* Products that have no name yet, and that the part has one for, are added to "wanted"; returns how many it then has. */
static int
add_unnamed(const FeedPart *part, FeedItem **wanted, int count)
{
	FeedItem **named = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nitems, 1));
	int        nnamed = 0;
	Datum      values[2];

	for (int i = 0; i < part->nitems; i++)
	{
		const FeedItem *item = &part->items[i];

		if (item->exists && !item->is_bad && item->name != NULL && strcmp(item->name, item->product_id) != 0)
			named[nnamed++] = &part->items[i];
	}
	if (nnamed == 0)
		return count;
	qsort(named, nnamed, sizeof(FeedItem *), compare_by_product_id);
	values[0] = CStringGetTextDatum(named[0]->product_id);
	values[1] = CStringGetTextDatum(named[nnamed - 1]->product_id);
	plan_execute(PLAN_UNNAMED_PRODUCTS, values, NULL, SPI_OK_SELECT);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		FeedItem   key = {.product_id = spi_string(row, 1)};
		FeedItem  *key_pointer = &key;
		FeedItem **found = bsearch(&key_pointer, named, nnamed, sizeof(FeedItem *), compare_by_product_id);

		if (found != NULL)
			wanted[count++] = *found;
	}
	return count;
}

/*
 * Adds the products of new offers that are not there yet, locks those that are,
 * and names those that have no name: all in the order of their ids and in one
 * statement, so that two feeds with the same products wait for one another
 * instead of deadlocking, and nobody waits for a feed with others.
 */
static void
add_products(const FeedPart *part)
{
	FeedItem   **wanted = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nitems, 1));
	const char **product_ids;
	const char **names;
	int          count = 0;
	Datum        values[2];

	for (int i = 0; i < part->nitems; i++)
	{
		if (!part->items[i].exists && !part->items[i].is_bad)
			wanted[count++] = &part->items[i];
	}
	count = add_unnamed(part, wanted, count);
	if (count == 0)
		return;
	qsort(wanted, count, sizeof(FeedItem *), compare_by_product_id);
	product_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * count);
	names = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * count);
	for (int i = 0; i < count; i++)
	{
		product_ids[i] = wanted[i]->product_id;
		names[i] = wanted[i]->name ? wanted[i]->name : wanted[i]->product_id;
	}
	values[0] = text_array(product_ids, count);
	values[1] = text_array(names, count);
	plan_execute(PLAN_ADD_PRODUCTS, values, NULL, SPI_OK_INSERT);
}

/* ---------- events ---------- */

/* What was available of each locked row, before anything was changed. */
static int64 *
remember_available(const StockRows *stock)
{
	int64 *available = palloc(sizeof(int64) * Max(stock->nrows, 1));

	for (int i = 0; i < stock->nrows; i++)
		available[i] = stock->offers[i].available;
	return available;
}

/* Tells of products whose units have fallen to their threshold. All offers of each are locked. */
static void
add_low_events(FeedPart *part, const StockRows *stock, const int64 *available_before)
{
	int first = 0;

	while (first < stock->nrows)
	{
		int64 before = 0;
		int   count = 0;

		for (; first + count < stock->nrows && strcmp(stock->rows[first + count].product_id, stock->rows[first].product_id) == 0;
			 count++)
			before += available_before[first + count];
		event_stock_low(part->events, stock->rows[first].product_id, stock->rows[first].low_threshold, before,
						stock_available(stock, first, count));
		first += count;
	}
}

void
reconcile(FeedPart *part)
{
	Reconciliation work = {.part = part};
	StockRows     *stock;
	int64         *available_before;

	resolve_products(part);
	compare(&work);
	stock = lock_changing(&work);
	available_before = remember_available(stock);
	write_changes(&work, stock);
	add_products(part);
	insert_new(part);
	if (work.wants_all_offers)
		add_low_events(part, stock, available_before);
	add_oversold_event(part);
}
