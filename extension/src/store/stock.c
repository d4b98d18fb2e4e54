/*
 * stock.c
 *		Stock rows: locked in their order, changed once each.
 *
 * The locking order of every path is (product_id, vendor_id), in one go, after
 * any order rows. Changes are folded here in memory, so a row that a thousand
 * orders want is still written once.
 */
#include "postgres.h"

#include "store/stock.h"

#include "store/rows.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* What an offer needs of its vendor; read once a call. */
typedef struct VendorFacts
{
	const char *vendor_id;
	int32       vendor_no;
	int32       priority;
	bool        is_active; /* and a feed has confirmed its offers of late */
	int64       buffer;
	uint32      hash;
	char        status;
} VendorFacts;

#define SH_PREFIX       vendors
#define SH_ELEMENT_TYPE VendorFacts
#define SH_KEY_TYPE     const char *
#define SH_KEY          vendor_id
#define SH_SCOPE        static inline
#define SH_DECLARE
#define SH_DEFINE
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), (int) strlen(key))
#define SH_EQUAL(tb, a, b)   (strcmp((a), (b)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#include "common/hashfn.h"
#include "lib/simplehash.h"
#include "store/errors.h"
#include "store/settings.h"
#include "store/tables.h"

/* ---------- locking ---------- */

typedef struct Locking
{
	RowScan       stock;
	RowScan       vendor;
	vendors_hash *vendors;
	StockRows    *rows;
	int           room;
	int           busy_room;
	TimestampTz   now;
} Locking;

static const VendorFacts *
find_vendor(Locking *locking, const char *vendor_id)
{
	bool         found;
	VendorFacts *facts = vendors_insert(locking->vendors, vendor_id, &found);

	if (found)
		return facts;
	row_scan_find_text(&locking->vendor, vendor_id);
	if (row_scan_next(&locking->vendor) == NULL)
		elog(ERROR, "vendor \"%s\" of a stock row does not exist", vendor_id);
	facts->vendor_no = DatumGetInt32(row_column(locking->vendor.found, VENDOR_COLUMN_VENDOR_NO));
	facts->priority = DatumGetInt32(row_column(locking->vendor.found, VENDOR_COLUMN_PRIORITY));
	facts->is_active =
		DatumGetBool(row_column(locking->vendor.found, VENDOR_COLUMN_IS_ACTIVE)) &&
		row_int64(locking->vendor.found, VENDOR_COLUMN_STALE_AT, PG_INT64_MAX) > locking->now;
	facts->buffer = DatumGetInt64(row_column(locking->vendor.found, VENDOR_COLUMN_BUFFER));
	return facts;
}

void
stock_set_offer(StockRows *stock, const StockRow *row)
{
	SourcingOffer *offer = &stock->offers[row - stock->rows];
	bool           is_sold = row->is_active && (row->is_priced || guc_sell_unpriced);

	offer->available = is_sold ? Max(0, row->free) : 0;
	offer->is_unpriced = !row->is_priced;
}

static void
add_locked_row(Locking *locking)
{
	TupleTableSlot    *slot = locking->stock.locked;
	StockRows         *stock = locking->rows;
	StockRow          *row;
	SourcingOffer     *offer;
	const VendorFacts *vendor;

	if (stock->nrows == locking->room)
	{
		locking->room *= 2;
		stock->rows = repalloc(stock->rows, sizeof(StockRow) * locking->room);
		stock->offers = repalloc(stock->offers, sizeof(SourcingOffer) * locking->room);
	}
	row = &stock->rows[stock->nrows];
	offer = &stock->offers[stock->nrows++];
	memset(row, 0, sizeof(StockRow));
	memset(offer, 0, sizeof(SourcingOffer));

	row->tuple = ExecCopySlotHeapTuple(slot);
	row->product_id = row_text(slot, STOCK_COLUMN_PRODUCT_ID);
	row->vendor_id = row_text(slot, STOCK_COLUMN_VENDOR_ID);
	row->vendor_sku = row_text(slot, STOCK_COLUMN_VENDOR_SKU);
	row->unit_price = DatumGetNumericCopy(row_column(slot, STOCK_COLUMN_PRICE));
	if (!price_from_numeric(row->unit_price, &row->price))
		elog(ERROR, "price of product \"%s\" at vendor \"%s\" is out of range", row->product_id,
			 row->vendor_id);
	vendor = find_vendor(locking, row->vendor_id);
	row->on_hand = DatumGetInt64(row_column(slot, STOCK_COLUMN_ON_HAND));
	row->reserved = DatumGetInt64(row_column(slot, STOCK_COLUMN_RESERVED));
	row->buffer = Max(DatumGetInt64(row_column(slot, STOCK_COLUMN_BUFFER)), vendor->buffer);
	row->free = row->on_hand - row->reserved - row->buffer;
	row->low_threshold = row_int64(slot, STOCK_COLUMN_LOW_THRESHOLD, guc_low_stock);
	row->counted = row_int64(slot, STOCK_COLUMN_COUNTED, -1);
	row->as_of = row_int64(slot, STOCK_COLUMN_AS_OF, 0);
	row->last_shipped_at = row_int64(slot, STOCK_COLUMN_LAST_SHIPPED_AT, 0);
	row->vendor_is_active = vendor->is_active;
	row->is_active = DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE)) && vendor->is_active;
	row->is_priced = row_bool(slot, STOCK_COLUMN_IS_PRICED, true);
	offer->price = row->price.amount;
	stock_set_offer(stock, row);
	offer->vendor = vendor->vendor_no;
	offer->priority = vendor->priority;
}

static void
add_busy_row(Locking *locking)
{
	StockRows *stock = locking->rows;

	if (stock->nbusy == locking->busy_room)
	{
		locking->busy_room = Max(locking->busy_room * 2, 8);
		stock->busy = stock->busy ? repalloc(stock->busy, sizeof(StockKey) * locking->busy_room)
								  : palloc(sizeof(StockKey) * locking->busy_room);
	}
	stock->busy[stock->nbusy++] =
		(StockKey){row_text(locking->stock.found, STOCK_COLUMN_PRODUCT_ID),
				   row_text(locking->stock.found, STOCK_COLUMN_VENDOR_ID)};
}

/* Locks the rows that the scan of stock finds. */
static void
lock_found(Locking *locking)
{
	while (row_scan_next_locked(&locking->stock) != NULL)
	{
		if (locking->stock.is_busy)
			add_busy_row(locking);
		else
			add_locked_row(locking);
	}
}

static void
locking_begin(Locking *locking, int expected, bool skip_locked)
{
	rows_see_latest();
	row_scan_begin(&locking->stock, "stock", NULL, RowExclusiveLock);
	locking->stock.skip_locked = skip_locked;
	locking->busy_room = 0;
	locking->now = GetCurrentTimestamp();
	row_scan_begin(&locking->vendor, "vendor", NULL, AccessShareLock);
	locking->vendors = vendors_create(CurrentMemoryContext, 16, NULL);
	locking->room = Max(expected, 8);
	locking->rows = palloc0(sizeof(StockRows));
	locking->rows->rows = palloc(sizeof(StockRow) * locking->room);
	locking->rows->offers = palloc(sizeof(SourcingOffer) * locking->room);
}

static StockRows *
locking_end(Locking *locking)
{
	row_scan_end(&locking->vendor);
	row_scan_end(&locking->stock);
	vendors_destroy(locking->vendors);
	PopActiveSnapshot();
	return locking->rows;
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

StockRows *
stock_lock_offers(const char **product_ids, int count, bool skip_locked)
{
	const char **sorted = palloc(sizeof(char *) * Max(count, 1));
	Locking      locking;

	memcpy(sorted, product_ids, sizeof(char *) * count);
	qsort(sorted, count, sizeof(char *), compare_strings);
	locking_begin(&locking, count, skip_locked);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && strcmp(sorted[i - 1], sorted[i]) == 0)
			continue;
		row_scan_find_text(&locking.stock, sorted[i]);
		lock_found(&locking);
	}
	return locking_end(&locking);
}

static int
compare_keys(const void *a, const void *b)
{
	const StockKey *left = a;
	const StockKey *right = b;
	int             order = strcmp(left->product_id, right->product_id);

	return order != 0 ? order : strcmp(left->vendor_id, right->vendor_id);
}

StockRows *
stock_lock_rows(const char **product_ids, const char **vendor_ids, int count, bool skip_locked)
{
	StockKey *keys = palloc(sizeof(StockKey) * Max(count, 1));
	Locking   locking;

	for (int i = 0; i < count; i++)
		keys[i] = (StockKey){product_ids[i], vendor_ids[i]};
	qsort(keys, count, sizeof(StockKey), compare_keys);
	locking_begin(&locking, count, skip_locked);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && compare_keys(&keys[i - 1], &keys[i]) == 0)
			continue;
		row_scan_find_texts(&locking.stock, keys[i].product_id, keys[i].vendor_id);
		lock_found(&locking);
	}
	return locking_end(&locking);
}

/* ---------- finding ---------- */

/* The first row that is not before (product, vendor); vendor NULL is before all. */
static int
lower_bound(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	int low = 0;
	int high = stock->nrows;

	while (low < high)
	{
		int             middle = (low + high) / 2;
		const StockRow *row = &stock->rows[middle];
		int             order = strcmp(row->product_id, product_id);

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
	for (int i = 0; i < stock->nbusy; i++)
	{
		if (strcmp(stock->busy[i].product_id, product_id) == 0 &&
			(vendor_id == NULL || strcmp(stock->busy[i].vendor_id, vendor_id) == 0))
			return true;
	}
	return false;
}

/* ---------- changing ---------- */

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

void
stock_write_changes(StockRows *stock, TimestampTz shipped_at)
{
	RowUpdate update;

	row_update_begin(&update, "stock");
	for (int i = 0; i < stock->nrows; i++)
	{
		const StockRow *row = &stock->rows[i];

		if (row->on_hand_change != 0 || row->reserved_change != 0 || row->ships)
			write_changed_row(&update, row, shipped_at);
	}
	row_update_end(&update);
}
