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
#include "store/subtransaction.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define FEED_YIELD_ROWS 32
#define PRODUCTS_A_TIME 128 /* in one statement, which lets nobody go first */
#define NEW_RUN_MIN     32  /* so many new products in a row are worth a subtransaction */
#define NEW_RUNS_MAX    32 /* the server remembers 64 subtransactions of each, more cost everyone */

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

FeedItem **
new_offers_items(const FeedPart *part, int *count)
{
	FeedItem **items =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nitems, 1));

	*count = 0;
	for (int i = 0; i < part->nitems; i++)
	{
		if (!part->items[i].exists && !part->items[i].is_bad)
			items[(*count)++] = &part->items[i];
	}
	qsort(items, *count, sizeof(FeedItem *), compare_by_product_id);
	return items;
}

/* Looks the items' products up: they are in the order of their ids. */
static void
locate_products(RowScan *product, FeedItem **items, int count)
{
	Datum *keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * Max(count, 1));

	for (int i = 0; i < count; i++)
		keys[i] = CStringGetTextDatum(items[i]->product_id);
	row_scan_begin(product, "product", NULL, AccessShareLock);
	row_scan_locate(product, keys, 1, count, F_TEXTEQ);
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
	bulk_set(slot, STOCK_COLUMN_ON_HAND, Int64GetDatum(Max(0, item->count - item->held_elsewhere)));
	bulk_set(slot, STOCK_COLUMN_RESERVED, Int64GetDatum(0));
	bulk_set(slot, STOCK_COLUMN_BUFFER,
			 Int64GetDatum(row_int64(product, PRODUCT_COLUMN_BUFFER, 0)));
	bulk_set(slot, STOCK_COLUMN_IS_ACTIVE, BoolGetDatum(true));
	bulk_set(slot, STOCK_COLUMN_AS_OF, TimestampTzGetDatum(item->counted_at));
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
	int         count;
	FeedItem  **items = new_offers_items(part, &count);
	BulkInsert *stock;
	RowScan     product;

	if (count == 0)
		return;
	rows_see_latest();
	locate_products(&product, items, count);
	stock = bulk_begin(table_oid("stock"));
	bulk_yield(stock, FEED_YIELD_ROWS);
	for (int i = 0; i < count; i++)
	{
		feed_yield(i);
		row_scan_find_located(&product, i);
		if (row_scan_next(&product) == NULL)
			elog(ERROR, "product \"%s\" is gone", items[i]->product_id);
		store_stock(stock, part, items[i], product.found);
	}
	bulk_end(stock);
	row_scan_end(&product);
	PopActiveSnapshot();
}

/* Finds which of the products, in the order of their ids, have no name; it may find others too. */
static void
find_unnamed(FeedItem **named, int count)
{
	const char  *last = named[count - 1]->product_id;
	Datum        range[3] = {CStringGetTextDatum(named[0]->product_id), CStringGetTextDatum(last),
							 Int64GetDatum(count + 1)};
	const char **product_ids;
	Datum        ids[1];

	plan_execute(PLAN_UNNAMED_IN_RANGE, range, NULL, SPI_OK_SELECT);
	if (SPI_processed <= (uint64) count)
		return;
	product_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * count);
	for (int i = 0; i < count; i++)
		product_ids[i] = named[i]->product_id;
	ids[0] = text_array(product_ids, count);
	plan_execute(PLAN_UNNAMED_PRODUCTS, ids, NULL, SPI_OK_SELECT);
}

/* Products that have no name yet, and that the part has one for, are added to "wanted"; returns how
 * many it then has. */
static int
add_unnamed(const FeedPart *part, FeedItem **wanted, int count)
{
	FeedItem **named =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem *) * Max(part->nitems, 1));
	int nnamed = 0;

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
	find_unnamed(named, nnamed);
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

/* ---------- adding products ---------- */

static bool *
are_products_there(FeedItem **items, int count)
{
	bool   *are_there = MemoryContextAllocHuge(CurrentMemoryContext, count);
	RowScan product;

	rows_see_latest();
	locate_products(&product, items, count);
	for (int i = 0; i < count; i++)
	{
		feed_yield(i);
		row_scan_find_located(&product, i);
		are_there[i] = row_scan_next(&product) != NULL;
	}
	row_scan_end(&product);
	PopActiveSnapshot();
	return are_there;
}

static void
write_products(PlanId plan, FeedItem **items, int count)
{
	const char *product_ids[PRODUCTS_A_TIME];
	const char *names[PRODUCTS_A_TIME];

	for (int first = 0; first < count; first += PRODUCTS_A_TIME)
	{
		int   some = Min(count - first, PRODUCTS_A_TIME);
		Datum values[2];

		feed_yield(first);
		for (int i = 0; i < some; i++)
		{
			const FeedItem *item = items[first + i];

			product_ids[i] = item->product_id;
			names[i] = item->name ? item->name : item->product_id;
		}
		values[0] = text_array(product_ids, some);
		values[1] = text_array(names, some);
		plan_execute(plan, values, NULL, SPI_OK_INSERT);
	}
}

typedef struct NewProducts
{
	FeedItem **items;
	int        count;
} NewProducts;

static void
write_new_products(void *context)
{
	const NewProducts *products = context;

	write_products(PLAN_INSERT_PRODUCTS, products->items, products->count);
}

/*
 * Adds products that were not there a moment ago, without asking for each whether
 * it is there now, which takes longer than adding it. False, and nothing done, if
 * somebody else has added one meanwhile.
 */
static bool
insert_products(FeedItem **items, int count)
{
	NewProducts products = {items, count};
	ErrorData  *error = subtransaction_run(write_new_products, &products);

	if (error != NULL && error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
		ReThrowError(error);
	return error == NULL;
}

/* Where the next run of products that are not there begins, and how long it is: 0 at the end. */
static int
next_new_run(const bool *are_there, int count, int *first)
{
	for (; *first < count; (*first)++)
	{
		int length = 0;

		while (*first + length < count && !are_there[*first + length])
			length++;
		if (length >= NEW_RUN_MIN)
			return length;
		*first += length;
	}
	*first = count;
	return 0;
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
	int        count;
	FeedItem **wanted = new_offers_items(part, &count);
	bool      *are_there;
	int        done = 0;
	int        nruns = 0;

	lock_for_writing("product");
	count = add_unnamed(part, wanted, count);
	if (count == 0)
		return;
	qsort(wanted, count, sizeof(FeedItem *), compare_by_product_id);
	are_there = are_products_there(wanted, count);
	while (done < count)
	{
		int first = nruns++ < NEW_RUNS_MAX ? done : count;
		int length = next_new_run(are_there, count, &first);

		write_products(PLAN_ADD_PRODUCTS, wanted + done, first - done);
		if (length > 0 && !insert_products(wanted + first, length))
			write_products(PLAN_ADD_PRODUCTS, wanted + first, length);
		done = first + length;
	}
}
