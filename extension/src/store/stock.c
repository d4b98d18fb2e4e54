/*
 * stock.c
 *		Locked stock rows: found, and changed once each.
 *
 * Changes are folded here in memory, so a row that a thousand orders want is still written once.
 */
#include "postgres.h"

#include "store/stock.h"

#include "store/errors.h"
#include "store/lanes.h"
#include "store/rows.h"
#include "store/settings.h"
#include "store/tables.h"
#include "utils/timestamp.h"

/* ---------- finding ---------- */

int
stock_compare_keys(const void *a, const void *b)
{
	const StockKey *left = a;
	const StockKey *right = b;
	int             order = strcmp(left->product_id, right->product_id);

	if (order != 0 || left->vendor_id == NULL || right->vendor_id == NULL)
		return order;
	return strcmp(left->vendor_id, right->vendor_id);
}

/* The first row that is not before (product, vendor); vendor NULL is before all. */
static int
lower_bound(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	StockKey key = {product_id, vendor_id};
	int      low = 0;
	int      high = stock->nrows;

	while (low < high)
	{
		int             middle = (low + high) / 2;
		const StockRow *row = &stock->rows[middle];
		StockKey        row_key = {row->product_id, row->vendor_id};

		if (stock_compare_keys(&row_key, &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
stock_find_offers(const StockRows *stock, const char *product_id, int *first, int *count)
{
	int row = lower_bound(stock, product_id, NULL);

	*first = row;
	while (row < stock->nrows && strcmp(stock->rows[row].product_id, product_id) == 0)
		row++;
	*count = row - *first;
}

int64
stock_available(const StockRows *stock, int first, int count)
{
	int64 available = 0;

	for (int i = first; i < first + count; i++)
		available += stock->offers[i].available;
	return available;
}

StockRow *
stock_find(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	int row = lower_bound(stock, product_id, vendor_id);

	if (row < stock->nrows && strcmp(stock->rows[row].product_id, product_id) == 0 &&
		strcmp(stock->rows[row].vendor_id, vendor_id) == 0)
		return &stock->rows[row];
	return NULL;
}

bool
stock_is_busy(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	StockKey key = {product_id, vendor_id};

	return stock->nbusy > 0 &&
		   bsearch(&key, stock->busy, stock->nbusy, sizeof(StockKey), stock_compare_keys) != NULL;
}

/* ---------- changing ---------- */

bool
stock_is_sold(const StockRow *row)
{
	return row->is_active && (row->is_priced || guc_sell_unpriced);
}

void
stock_set_offer(StockRows *stock, const StockRow *row)
{
	SourcingOffer *offer = &stock->offers[row - stock->rows];

	offer->available = stock_is_sold(row) ? Max(0, row->free) : 0;
	offer->is_unpriced = !row->is_priced;
}

void
stock_reserve(StockRows *stock, int row, int64 quantity)
{
	if (quantity <= 0 || quantity > stock->offers[row].available)
		elog(ERROR, "reserving " INT64_FORMAT " of " INT64_FORMAT " available", quantity,
			 stock->offers[row].available);
	stock->offers[row].available -= quantity;
	stock->rows[row].free -= quantity;
	stock->rows[row].reserved_change += quantity;
}

/* Units that are free again can be sold to another order of the batch. */
static void
add_free(StockRows *stock, StockRow *row, int64 quantity)
{
	row->free += quantity;
	stock_set_offer(stock, row);
}

void
stock_release(StockRows *stock, StockRow *row, int64 quantity)
{
	row->reserved_change -= quantity;
	add_free(stock, row, quantity);
}

void
stock_ship(StockRow *row, int64 quantity)
{
	row->reserved_change -= quantity;
	row->on_hand_change -= quantity;
	row->ships = true;
}

void
stock_return(StockRows *stock, StockRow *row, int64 quantity)
{
	row->on_hand_change += quantity;
	add_free(stock, row, quantity);
}

bool
stock_take(StockRow *row, int64 quantity)
{
	int       column = STOCK_COLUMN_RESERVED;
	bool      is_null = false;
	Datum     value = Int64GetDatum(row->reserved + quantity);
	HeapTuple changed;
	RowUpdate update;

	row_update_begin(&update, "stock");
	changed = row_try_replace(&update, row->tuple, 1, &column, &value, &is_null);
	row_update_end(&update);
	if (changed == NULL)
		return false;
	row->tuple = changed;
	row->reserved_ahead = quantity;
	return true;
}

static void
write_changed_row(RowUpdate *update, const StockRow *row, TimestampTz shipped_at)
{
	int   columns[3] = {STOCK_COLUMN_ON_HAND, STOCK_COLUMN_RESERVED, STOCK_COLUMN_LAST_SHIPPED_AT};
	bool  nulls[3] = {false, false, false};
	Datum values[3];
	int64 on_hand = row->on_hand + row->on_hand_change;
	int64 reserved = row->reserved + row->reserved_change;

	if (reserved < 0)
		ereport(ERROR, (errcode(ERRCODE_OA_STATE),
						errmsg("stock of product \"%s\" at vendor \"%s\" cannot be negative",
							   row->product_id, row->vendor_id),
						errdetail("reserved would be " INT64_FORMAT ".", reserved)));

	/*
	 * A feed may tell of the vendor's decrement before its reply does: then the
	 * units have left on_hand already, and the next feed sets it right.
	 */
	values[0] = Int64GetDatum(Max(0, on_hand));
	values[1] = Int64GetDatum(reserved);
	values[2] = TimestampTzGetDatum(shipped_at);
	row_update(update, row->tuple, row->ships ? 3 : 2, columns, values, nulls);
}

static bool
is_changed(const StockRow *row)
{
	return row->on_hand_change != 0 || row->reserved_change != row->reserved_ahead || row->ships;
}

/* Writes those rows of which the row, or only a lane, is locked; opens no table for nothing. */
static void
write_rows_of(const StockRows *stock, bool of_lanes, TimestampTz shipped_at)
{
	bool      is_begun = false;
	RowUpdate update;

	for (int i = 0; i < stock->nrows; i++)
	{
		const StockRow *row = &stock->rows[i];

		if ((row->lane != NULL) != of_lanes || !is_changed(row))
			continue;
		if (!is_begun)
			row_update_begin(&update, of_lanes ? "stock_lane" : "stock");
		is_begun = true;
		if (of_lanes)
			lanes_write(&update, row);
		else
			write_changed_row(&update, row, shipped_at);
	}
	if (is_begun)
		row_update_end(&update);
}

void
stock_write_changes(StockRows *stock, TimestampTz shipped_at)
{
	write_rows_of(stock, false, shipped_at);
	write_rows_of(stock, true, shipped_at);
}
