/*
 * stock_scan.c
 *		Stock rows and what is to be known of their vendors, read in order and locked or not.
 */
#include "postgres.h"

#include "store/stock_scan.h"

#include "storage/proc.h"
#include "store/array.h"
#include "store/lanes.h"
#include "store/settings.h"
#include "store/tables.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define VENDOR_PLACES 64

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

/* ---------- reading ---------- */

static const VendorFacts *
find_vendor(Locking *locking, const char *vendor_id)
{
	/* every order asks: where its vendor was found is kept from call to call */
	static ItemPointerData places[VENDOR_PLACES];
	bool                   found;
	VendorFacts           *facts = vendors_insert(locking->vendors, vendor_id, &found);
	TupleTableSlot        *row;

	if (found)
		return facts;
	row = row_scan_get_text(&locking->vendor, VENDOR_COLUMN_VENDOR_ID, vendor_id,
							&places[facts->hash % VENDOR_PLACES]);
	if (row == NULL)
		elog(ERROR, "vendor \"%s\" of a stock row does not exist", vendor_id);
	facts->vendor_no = DatumGetInt32(row_column(row, VENDOR_COLUMN_VENDOR_NO));
	facts->priority = DatumGetInt32(row_column(row, VENDOR_COLUMN_PRIORITY));
	facts->is_active = DatumGetBool(row_column(row, VENDOR_COLUMN_IS_ACTIVE)) &&
					   row_int64(row, VENDOR_COLUMN_STALE_AT, PG_INT64_MAX) > locking->now;
	facts->buffer = DatumGetInt64(row_column(row, VENDOR_COLUMN_BUFFER));
	return facts;
}

void
locking_add_row(Locking *locking, TupleTableSlot *slot, HeapTuple tuple)
{
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

	row->tuple = tuple;
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
	row->lanes = Min(row_int64(slot, STOCK_COLUMN_LANES, 0), LANES_MAX);
	row->lanes_max = row_int64(slot, STOCK_COLUMN_LANES_MAX, 0);
	row->in_lanes = row_int64(slot, STOCK_COLUMN_IN_LANES, 0);
	row->free = row->on_hand - row->reserved - row->in_lanes - row->buffer;
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

void
locking_add_busy(Locking *locking, const char *product_id, const char *vendor_id)
{
	StockRows *stock = locking->rows;

	stock->busy = array_with_room(stock->busy, stock->nbusy, &locking->busy_room, sizeof(StockKey));
	stock->busy[stock->nbusy++] = (StockKey){product_id, vendor_id};
}

/* ---------- locking ---------- */

/*
 * Waits for the row that was found; its slot, or NULL if it is gone. lock_timeout is for all rows
 * of a call together: else who locks a thousand rows might wait for each of them that long, and
 * hold up whoever needs those that it has.
 */
static TupleTableSlot *
wait_for_row(Locking *locking)
{
	TimestampTz     began = GetCurrentTimestamp();
	TupleTableSlot *slot;

	if (LockTimeout > 0 && locking->waited_us >= LockTimeout * INT64CONST(1000))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("canceling statement due to lock timeout"),
						errdetail("It has waited for rows of stock one after the other.")));
	locking->stock.skip_locked = false;
	slot = row_scan_lock_found(&locking->stock);
	locking->waited_us += GetCurrentTimestamp() - began;
	return slot;
}

bool
locking_lock_row(Locking *locking)
{
	RowScan        *scan = &locking->stock;
	int64           lanes = row_int64(scan->found, STOCK_COLUMN_LANES, 0);
	TupleTableSlot *slot;
	bool            was_busy;

	/* without waiting first: what is waited for is added up, and who waits for an offer that may be
	 * spread is a reason to spread it */
	scan->skip_locked = true;
	slot = row_scan_lock_found(scan);
	was_busy = scan->is_busy;
	if (was_busy && !locking->skip_locked)
		slot = wait_for_row(locking);
	if (scan->is_busy)
		locking_add_busy(locking, row_text(slot, STOCK_COLUMN_PRODUCT_ID),
						 row_text(slot, STOCK_COLUMN_VENDOR_ID));
	else if (slot != NULL)
	{
		locking_add_row(locking, slot, ExecCopySlotHeapTuple(slot));
		locking->rows->rows[locking->rows->nrows - 1].lanes_before = lanes;
	}
	/* so that it can be pruned for the row's next version */
	row_scan_unpin(scan);
	return was_busy;
}

void
locking_begin(Locking *locking, int expected, bool skip_locked)
{
	rows_see_latest();
	row_scan_begin(&locking->stock, "stock", NULL, RowExclusiveLock);
	locking->skip_locked = skip_locked;
	locking->busy_room = 0;
	locking->waited_us = 0;
	locking->now = GetCurrentTimestamp();
	row_scan_begin(&locking->vendor, "vendor", NULL, AccessShareLock);
	locking->vendors = vendors_create(CurrentMemoryContext, 16, NULL);
	locking->room = Max(expected, 8);
	locking->rows = palloc0(sizeof(StockRows));
	locking->rows->rows = palloc(sizeof(StockRow) * locking->room);
	locking->rows->offers = palloc(sizeof(SourcingOffer) * locking->room);
}

StockRows *
locking_end(Locking *locking)
{
	row_scan_end(&locking->vendor);
	row_scan_end(&locking->stock);
	vendors_destroy(locking->vendors);
	PopActiveSnapshot();
	if (locking->rows->nbusy > 0)
		qsort(locking->rows->busy, locking->rows->nbusy, sizeof(StockKey), stock_compare_keys);
	return locking->rows;
}

void
locking_see_latest(Locking *locking)
{
	row_scan_renew(&locking->vendor);
	row_scan_renew(&locking->stock);
	vendors_reset(locking->vendors);
	PopActiveSnapshot();
	rows_see_latest();
}
