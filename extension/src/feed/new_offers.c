/*
 * new_offers.c
 *		What a feed brings that was not there: products, and a vendor's offers of them.
 */
#include "postgres.h"

#include "feed/new_offers.h"

#include <sched.h>

#include "miscadmin.h"
#include "store/bulk.h"
#include "store/plans.h"
#include "store/rows.h"
#include "store/stock.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define FEED_YIELD_ROWS 32
#define PRODUCTS_A_TIME 128 /* in one statement, which lets nobody go first */

/*
 * Called for each row. A feed is long work that nobody waits for: every so many
 * rows whoever waits for the processor goes first. Without it an order waits for
 * the rest of the scheduler's slice, some milliseconds (docs/performance.md).
 */
void
feed_yield(int row)
{
	CHECK_FOR_INTERRUPTS();
	if (row % FEED_YIELD_ROWS == 0)
		(void) sched_yield();
}

static int
compare_by_product_id(const void *a, const void *b)
{
	return strcmp((*(FeedItem *const *) a)->product_id, (*(FeedItem *const *) b)->product_id);
}

static FeedItem **
new_items(const FeedPart *part)
{
	FeedItem **items =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nnew, 1));
	int count = 0;

	for (int i = 0; i < part->nitems; i++)
	{
		if (!part->items[i].exists && !part->items[i].is_bad)
			items[count++] = &part->items[i];
	}
	qsort(items, count, sizeof(FeedItem *), compare_by_product_id);
	return items;
}

/* The product's buffer, threshold and lanes become the offer's. */
static void
store_stock(BulkInsert *stock, const FeedPart *part, const FeedItem *item, TupleTableSlot *product)
{
	TupleTableSlot *slot = bulk_next_row(stock);
	Price           price = item->has_price ? item->price : (Price){0, MONEY_SCALE_MIN};
	int64 low_threshold = row_int64(product, PRODUCT_COLUMN_LOW_THRESHOLD, LOW_THRESHOLD_NONE);

	bulk_set_text(slot, STOCK_COLUMN_PRODUCT_ID, item->product_id);
	bulk_set_text(slot, STOCK_COLUMN_VENDOR_ID, part->vendor_id);
	bulk_set_text(slot, STOCK_COLUMN_VENDOR_SKU, item->sku);
	bulk_set(slot, STOCK_COLUMN_PRICE,
			 NumericGetDatum(amount_to_numeric((Amount){price.amount, price.decimals})));
	bulk_set(slot, STOCK_COLUMN_ON_HAND, Int64GetDatum(item->count));
	bulk_set(slot, STOCK_COLUMN_RESERVED, Int64GetDatum(0));
	bulk_set(slot, STOCK_COLUMN_BUFFER,
			 Int64GetDatum(row_int64(product, PRODUCT_COLUMN_BUFFER, 0)));
	bulk_set(slot, STOCK_COLUMN_IS_ACTIVE, BoolGetDatum(true));
	bulk_set(slot, STOCK_COLUMN_AS_OF, TimestampTzGetDatum(part->as_of));
	bulk_set(slot, STOCK_COLUMN_IS_PRICED, BoolGetDatum(item->has_price));
	bulk_set(slot, STOCK_COLUMN_COUNTED, Int64GetDatum(item->count));
	if (low_threshold != LOW_THRESHOLD_NONE)
		bulk_set(slot, STOCK_COLUMN_LOW_THRESHOLD, Int64GetDatum(low_threshold));
	if (row_int64(product, PRODUCT_COLUMN_LANES_MAX, 0) > 0)
	{
		bulk_set(slot, STOCK_COLUMN_LANES, row_column(product, PRODUCT_COLUMN_LANES));
		bulk_set(slot, STOCK_COLUMN_LANES_MAX, row_column(product, PRODUCT_COLUMN_LANES_MAX));
	}
	bulk_store_row(stock);
}

/* Writes the rows of new offers. Their products are there, and locked, because their buffer and
 * threshold become the offer's. */
void
new_offers_insert(FeedPart *part)
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
	bulk_yield(stock, FEED_YIELD_ROWS);
	for (int i = 0; i < part->nnew; i++)
	{
		feed_yield(i);
		row_scan_find_text(&product, items[i]->product_id);
		if (row_scan_next(&product) == NULL)
			elog(ERROR, "product \"%s\" is gone", items[i]->product_id);
		store_stock(stock, part, items[i], product.found);
	}
	bulk_end(stock);
	row_scan_end(&product);
	PopActiveSnapshot();
}

/* Products that have no name yet, and that the part has one for, are added to "wanted"; returns how
 * many it then has. */
static int
add_unnamed(const FeedPart *part, FeedItem **wanted, int count)
{
	FeedItem **named =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nitems, 1));
	int   nnamed = 0;
	Datum values[2];

	for (int i = 0; i < part->nitems; i++)
	{
		const FeedItem *item = &part->items[i];

		if (item->exists && !item->is_bad && item->name != NULL &&
			strcmp(item->name, item->product_id) != 0)
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
		FeedItem **found =
			bsearch(&key_pointer, named, nnamed, sizeof(FeedItem *), compare_by_product_id);

		if (found != NULL)
			wanted[count++] = *found;
	}
	return count;
}

/*
 * Adds the products of new offers that are not there yet, locks those that are,
 * and names those that have no name: all in the order of their ids, so that two
 * feeds with the same products wait for one another instead of deadlocking, and
 * nobody waits for a feed with others.
 */
void
new_offers_add_products(const FeedPart *part)
{
	FeedItem **wanted =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nitems, 1));
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
	for (int first = 0; first < count; first += PRODUCTS_A_TIME)
	{
		int some = Min(count - first, PRODUCTS_A_TIME);

		feed_yield(first);
		values[0] = text_array(product_ids + first, some);
		values[1] = text_array(names + first, some);
		plan_execute(PLAN_ADD_PRODUCTS, values, NULL, SPI_OK_INSERT);
	}
}
