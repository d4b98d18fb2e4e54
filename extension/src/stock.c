/*
 * stock.c
 *		Stock rows: locked in their order, changed once each.
 *
 * The locking order of every path is (product_id, vendor_id), in one statement,
 * after any order rows. Changes are folded here in memory, so a row that a
 * thousand orders want is still written once.
 */
#include "stock.h"

#include "catalog/pg_type.h"
#include "plans.h"
#include "utils/array.h"
#include "utils/builtins.h"

static StockRows *
read_locked_rows(void)
{
	StockRows  *stock = palloc(sizeof(StockRows));

	stock->nrows = (int) SPI_processed;
	stock->rows = palloc0(sizeof(StockRow) * Max(stock->nrows, 1));
	stock->offers = palloc0(sizeof(SourcingOffer) * Max(stock->nrows, 1));

	for (int i = 0; i < stock->nrows; i++)
	{
		StockRow   *row = &stock->rows[i];
		SourcingOffer *offer = &stock->offers[i];
		bool		is_null;

		row->tid = *(ItemPointer) DatumGetPointer(spi_datum(i, 1, &is_null));
		row->product_id = spi_string(i, 2);
		row->vendor_id = spi_string(i, 3);
		row->vendor_sku = spi_string(i, 4);
		row->unit_price = DatumGetNumericCopy(spi_datum(i, 5, &is_null));
		if (!price_from_numeric(row->unit_price, &row->price))
			elog(ERROR, "price of product \"%s\" at vendor \"%s\" is out of range", row->product_id, row->vendor_id);
		offer->price = row->price.amount;
		row->free = spi_int64(i, 6) - spi_int64(i, 7) - spi_int64(i, 8);
		row->is_active = spi_bool(i, 9);
		offer->available = row->is_active ? Max(0, row->free) : 0;
		offer->vendor = (int32) spi_int64(i, 10);
		offer->priority = (int32) spi_int64(i, 11);
	}
	SPI_freetuptable(SPI_tuptable);
	return stock;
}

StockRows *
stock_lock_offers(const char **product_ids, int count)
{
	Datum		values[1];

	values[0] = text_array(product_ids, count);
	plan_execute(PLAN_LOCK_OFFERS, values, NULL, SPI_OK_SELECT);
	return read_locked_rows();
}

typedef struct StockKey
{
	const char *product_id;
	const char *vendor_id;
} StockKey;

static int
compare_keys(const void *a, const void *b)
{
	const StockKey *left = a;
	const StockKey *right = b;
	int			order = strcmp(left->product_id, right->product_id);

	return order != 0 ? order : strcmp(left->vendor_id, right->vendor_id);
}

StockRows *
stock_lock_rows(const char **product_ids, const char **vendor_ids, int count)
{
	StockKey   *keys = palloc(sizeof(StockKey) * Max(count, 1));
	const char **distinct_products = palloc(sizeof(char *) * Max(count, 1));
	const char **distinct_vendors = palloc(sizeof(char *) * Max(count, 1));
	int			distinct = 0;
	Datum		values[2];

	for (int i = 0; i < count; i++)
		keys[i] = (StockKey) {product_ids[i], vendor_ids[i]};
	qsort(keys, count, sizeof(StockKey), compare_keys);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && compare_keys(&keys[i - 1], &keys[i]) == 0)
			continue;
		distinct_products[distinct] = keys[i].product_id;
		distinct_vendors[distinct] = keys[i].vendor_id;
		distinct++;
	}
	values[0] = text_array(distinct_products, distinct);
	values[1] = text_array(distinct_vendors, distinct);
	plan_execute(PLAN_LOCK_STOCK, values, NULL, SPI_OK_SELECT);
	return read_locked_rows();
}

/* The first row that is not before (product, vendor); vendor NULL is before all. */
static int
lower_bound(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	int			low = 0;
	int			high = stock->nrows;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const StockRow *row = &stock->rows[middle];
		int			order = strcmp(row->product_id, product_id);

		if (order == 0 && vendor_id != NULL)
			order = strcmp(row->vendor_id, vendor_id);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
stock_find_offers(const StockRows *stock, const char *product_id, int *first, int *count)
{
	int			row = lower_bound(stock, product_id, NULL);

	*first = row;
	while (row < stock->nrows && strcmp(stock->rows[row].product_id, product_id) == 0)
		row++;
	*count = row - *first;
}

StockRow *
stock_find(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	int			row = lower_bound(stock, product_id, vendor_id);

	if (row < stock->nrows && strcmp(stock->rows[row].product_id, product_id) == 0 &&
		strcmp(stock->rows[row].vendor_id, vendor_id) == 0)
		return &stock->rows[row];
	return NULL;
}

void
stock_reserve(StockRows *stock, int row, int64 quantity)
{
	if (quantity <= 0 || quantity > stock->offers[row].available)
		elog(ERROR, "reserving " INT64_FORMAT " of " INT64_FORMAT " available", quantity, stock->offers[row].available);
	stock->offers[row].available -= quantity;
	stock->rows[row].free -= quantity;
	stock->rows[row].reserved_change += quantity;
}

void
stock_release(StockRows *stock, StockRow *row, int64 quantity)
{
	row->reserved_change -= quantity;
	row->free += quantity;
	if (row->is_active)
		stock->offers[row - stock->rows].available = Max(0, row->free);
}

void
stock_ship(StockRow *row, int64 quantity)
{
	row->reserved_change -= quantity;
	row->on_hand_change -= quantity;
}

void
stock_return(StockRow *row, int64 quantity)
{
	row->on_hand_change += quantity;
}

void
stock_write_changes(StockRows *stock)
{
	Datum	   *tids = palloc(sizeof(Datum) * Max(stock->nrows, 1));
	int64	   *on_hand = palloc(sizeof(int64) * Max(stock->nrows, 1));
	int64	   *reserved = palloc(sizeof(int64) * Max(stock->nrows, 1));
	uint64		changed = 0;
	Datum		values[3];

	for (int i = 0; i < stock->nrows; i++)
	{
		StockRow   *row = &stock->rows[i];

		if (row->on_hand_change == 0 && row->reserved_change == 0)
			continue;
		tids[changed] = PointerGetDatum(&row->tid);
		on_hand[changed] = row->on_hand_change;
		reserved[changed] = row->reserved_change;
		changed++;
	}
	if (changed == 0)
		return;

	values[0] = PointerGetDatum(construct_array(tids, (int) changed, TIDOID, sizeof(ItemPointerData), false,
												TYPALIGN_SHORT));
	values[1] = int8_array(on_hand, (int) changed);
	values[2] = int8_array(reserved, (int) changed);
	plan_execute(PLAN_UPDATE_STOCK, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed != changed)
		elog(ERROR, "updated " UINT64_FORMAT " stock rows of " UINT64_FORMAT " locked", SPI_processed, changed);
}
