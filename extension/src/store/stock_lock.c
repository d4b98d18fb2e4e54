/*
 * stock_lock.c
 *		Stock rows, locked in their order; for one order of a hot product only a lane.
 *
 * The locking order of every path is (product_id, vendor_id), in one go, after
 * any order rows; the lanes of an offer after its row. An order that takes a lane has
 * no other lock on that offer, and has seen that the lane is enough, so it never has to
 * lock the row afterwards.
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/array.h"
#include "store/lanes.h"
#include "store/rows.h"
#include "store/settings.h"
#include "store/stock.h"
#include "store/tables.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* How often an order waits for a lane before it queues for the row. */
#define LANE_ROUNDS 16

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

typedef struct Locking
{
	RowScan       stock;
	RowScan       vendor;
	vendors_hash *vendors;
	StockRows    *rows;
	int           room;
	int           busy_room;
	bool          skip_locked;
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

/* What the slot has becomes the next row; the tuple, of a row that is locked, is for changing it.
 */
static void
add_row(Locking *locking, TupleTableSlot *slot, HeapTuple tuple)
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

static void
add_busy(Locking *locking, const char *product_id, const char *vendor_id)
{
	StockRows *stock = locking->rows;

	stock->busy = array_with_room(stock->busy, stock->nbusy, &locking->busy_room, sizeof(StockKey));
	stock->busy[stock->nbusy++] = (StockKey){product_id, vendor_id};
}

/* ---------- rows ---------- */

/* Locks the row that was found; true if another transaction had it. */
static bool
lock_row(Locking *locking)
{
	RowScan        *scan = &locking->stock;
	TupleTableSlot *slot;
	bool            was_busy;

	/* without waiting first: who waits for an offer that may be spread is a reason to spread it */
	scan->skip_locked =
		locking->skip_locked || row_int64(scan->found, STOCK_COLUMN_LANES_MAX, 0) > 0;
	slot = row_scan_lock_found(scan);
	was_busy = scan->is_busy;
	if (was_busy && !locking->skip_locked)
	{
		scan->skip_locked = false;
		slot = row_scan_lock_found(scan);
	}
	if (scan->is_busy)
		add_busy(locking, row_text(slot, STOCK_COLUMN_PRODUCT_ID),
				 row_text(slot, STOCK_COLUMN_VENDOR_ID));
	else if (slot != NULL)
		add_row(locking, slot, ExecCopySlotHeapTuple(slot));
	return was_busy;
}

static void
locking_begin(Locking *locking, int expected, bool skip_locked)
{
	rows_see_latest();
	row_scan_begin(&locking->stock, "stock", NULL, RowExclusiveLock);
	locking->skip_locked = skip_locked;
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

/* From now on it sees what has been committed while it waited. */
static void
locking_see_latest(Locking *locking)
{
	row_scan_renew(&locking->vendor);
	row_scan_renew(&locking->stock);
	PopActiveSnapshot();
	rows_see_latest();
}

/* ---------- lanes ---------- */

/* The offer, of those from "first" on, that a line of so many units is served from whole; NULL if
 * none has as many in its row. Of one that is spread it is not asked, with in_lanes. */
static StockRow *
best_row(const Locking *locking, int first, const StockDemand *demand, bool in_lanes)
{
	StockRows *stock = locking->rows;
	int        best = -1;

	for (int i = first; i < stock->nrows; i++)
	{
		bool has_enough = in_lanes && stock->rows[i].lanes_max > 0
							  ? stock_is_sold(&stock->rows[i])
							  : stock->offers[i].available >= demand->quantity;

		if (has_enough && (best < 0 || offer_compare(demand->strategy, &stock->offers[i],
													 &stock->offers[best]) < 0))
			best = i;
	}
	return best < 0 ? NULL : &stock->rows[best];
}

/*
 * Takes a lane of the offer that the order is to be served from; LANES_EMPTY if that is to be seen
 * with all rows locked. The product's rows are read, not locked: a lane that is as it was found
 * says that no feed has changed its offer since, for that would have folded it.
 */
static LaneOutcome
take_lane(Locking *locking, const StockDemand *demand, bool wait)
{
	StockRows  *stock = locking->rows;
	int         first = stock->nrows;
	int         count;
	StockRow   *row;
	LaneOutcome outcome = LANES_EMPTY;

	do
		add_row(locking, locking->stock.found, NULL);
	while (row_scan_next(&locking->stock) != NULL);
	count = stock->nrows - first;
	row = best_row(locking, first, demand, true);
	/* several are split and compared as only sourcing knows */
	if (row != NULL && row->lanes > 0 && (count == 1 || (!demand->compares && row->is_priced)))
		outcome = lanes_take(row, demand->quantity, wait && row->lanes >= row->lanes_max);
	if (outcome != LANE_TAKEN)
	{
		stock->nrows = first;
		return outcome;
	}
	stock_set_offer(stock, row);
	row->low_threshold = LOW_THRESHOLD_NONE; /* the row has more than that */
	stock->offers[first] = stock->offers[row - stock->rows];
	stock->rows[first] = *row;
	stock->nrows = first + 1;
	return LANE_TAKEN;
}

/* The product's first row is found; false if its rows are to be locked. *was_busy: all lanes were.
 */
static bool
lock_lane(Locking *locking, const StockDemand *demand, bool *was_busy)
{
	bool wait = !locking->skip_locked && !IsolationUsesXactSnapshot();

	for (int round = 0; round < LANE_ROUNDS; round++)
	{
		LaneOutcome outcome;

		if (round > 0)
		{
			locking_see_latest(locking);
			row_scan_find_text(&locking->stock, demand->product_id);
			if (row_scan_next(&locking->stock) == NULL)
				return false;
		}
		outcome = take_lane(locking, demand, wait);
		if (outcome == LANE_TAKEN)
			return true;
		*was_busy = outcome == LANES_BUSY;
		if (!*was_busy || !wait)
			return false;
	}
	return false;
}

static int64
threshold_of(const StockRow *row)
{
	return Max(row->low_threshold, 0);
}

/* Everything that the row's lanes have is the row's again. */
static void
fold(Locking *locking, StockRow *row)
{
	if (!lanes_fold(row, locking->skip_locked))
		add_busy(locking, row->product_id, row->vendor_id);
	stock_set_offer(locking->rows, row);
}

/*
 * So that what the product's rows have is enough for the demand, and for none of them to fall to
 * its threshold; else all is told.
 */
static void
fold_what_is_needed(Locking *locking, int first, const StockDemand *demand)
{
	StockRows *stock = locking->rows;
	bool       needs_all = demand->compares && stock->nrows - first > 1;

	for (int i = first; i < stock->nrows; i++)
		needs_all |= stock->rows[i].in_lanes > 0 &&
					 stock->rows[i].free - threshold_of(&stock->rows[i]) < demand->quantity;
	for (int i = first; i < stock->nrows && needs_all; i++)
	{
		if (stock->rows[i].in_lanes > 0)
			fold(locking, &stock->rows[i]);
	}
}

/* Half of what the order leaves goes to the lanes of the offer that it is served from; to more of
 * them if it had to wait and nobody has added any since. */
static void
refill_lanes(Locking *locking, int first, const StockDemand *demand, bool was_busy, int64 lanes)
{
	StockRow *row = best_row(locking, first, demand, false);
	int64     left;

	if (row == NULL || row->lanes_max == 0)
		return;
	left = row->free - demand->quantity - threshold_of(row);
	if (was_busy && row->lanes == lanes && lanes < row->lanes_max &&
		left / (4 * Max(lanes, 1)) >= demand->quantity)
		row->lanes = Min(Max(lanes * 2, 2), row->lanes_max);
	if (row->lanes > 0 && left / (2 * row->lanes) >= demand->quantity)
		lanes_refill(row, left / (2 * row->lanes));
	stock_set_offer(locking->rows, row);
}

/* ---------- products ---------- */

static void
lock_product(Locking *locking, const StockDemand *demand)
{
	RowScan *scan = &locking->stock;
	int      first = locking->rows->nrows;
	bool     was_busy = false;
	bool     is_spread;
	int64    lanes;

	row_scan_find_text(scan, demand->product_id);
	if (row_scan_next(scan) == NULL)
		return;
	is_spread = row_int64(scan->found, STOCK_COLUMN_LANES_MAX, 0) > 0;
	lanes = row_int64(scan->found, STOCK_COLUMN_LANES, 0);
	if (is_spread && demand->is_one)
	{
		if (lock_lane(locking, demand, &was_busy))
			return;
		row_scan_find_text(scan, demand->product_id);
		if (row_scan_next(scan) == NULL)
			return;
	}
	do
		was_busy |= lock_row(locking);
	while (row_scan_next(scan) != NULL);
	if (!is_spread)
		return;
	fold_what_is_needed(locking, first, demand);
	if (demand->is_one)
		refill_lanes(locking, first, demand, was_busy, lanes);
}

static int
compare_demands(const void *a, const void *b)
{
	return strcmp(((const StockDemand *) a)->product_id, ((const StockDemand *) b)->product_id);
}

StockRows *
stock_lock_demand(StockDemand *demands, int count, bool skip_locked)
{
	Locking locking;

	qsort(demands, count, sizeof(StockDemand), compare_demands);
	locking_begin(&locking, count, skip_locked);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || compare_demands(&demands[i - 1], &demands[i]) != 0)
			lock_product(&locking, &demands[i]);
	}
	return locking_end(&locking);
}

StockRows *
stock_lock_offers(const char **product_ids, int count, bool skip_locked)
{
	StockDemand *demands =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(StockDemand) * Max(count, 1));

	for (int i = 0; i < count; i++)
		demands[i] = (StockDemand){product_ids[i], PG_INT64_MAX};
	return stock_lock_demand(demands, count, skip_locked);
}

/* ---------- pairs ---------- */

typedef struct StockPair
{
	StockKey key;
	int64    settled;
} StockPair;

static int
compare_pairs(const void *a, const void *b)
{
	const StockKey *left = &((const StockPair *) a)->key;
	const StockKey *right = &((const StockPair *) b)->key;
	int             order = strcmp(left->product_id, right->product_id);

	return order != 0 ? order : strcmp(left->vendor_id, right->vendor_id);
}

static void
lock_pair(Locking *locking, const StockPair *pair)
{
	StockRows *stock = locking->rows;
	int        first = stock->nrows;

	row_scan_find_texts(&locking->stock, pair->key.product_id, pair->key.vendor_id);
	if (row_scan_next(&locking->stock) == NULL)
		return;
	(void) lock_row(locking);
	if (stock->nrows == first || stock->rows[first].in_lanes == 0)
		return;
	if (pair->settled < 0)
		fold(locking, &stock->rows[first]);
	else if (!lanes_gather(&stock->rows[first], pair->settled, locking->skip_locked))
		add_busy(locking, pair->key.product_id, pair->key.vendor_id);
}

StockRows *
stock_lock_rows(const char **product_ids, const char **vendor_ids, const int64 *settled, int count,
				bool skip_locked)
{
	StockPair *pairs =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(StockPair) * Max(count, 1));
	int     npairs = 0;
	Locking locking;

	for (int i = 0; i < count; i++)
		pairs[i] = (StockPair){{product_ids[i], vendor_ids[i]}, settled ? settled[i] : -1};
	qsort(pairs, count, sizeof(StockPair), compare_pairs);
	for (int i = 0; i < count; i++)
	{
		if (npairs > 0 && compare_pairs(&pairs[npairs - 1], &pairs[i]) == 0)
			pairs[npairs - 1].settled += settled ? pairs[i].settled : 0;
		else
			pairs[npairs++] = pairs[i];
	}
	locking_begin(&locking, npairs, skip_locked);
	for (int i = 0; i < npairs; i++)
		lock_pair(&locking, &pairs[i]);
	return locking_end(&locking);
}
