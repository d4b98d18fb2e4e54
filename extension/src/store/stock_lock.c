/*
 * stock_lock.c
 *		Stock rows, locked in their order; for one order of a hot product only a lane.
 *
 * The locking order of every path is (product_id, vendor_id), in one go, after
 * any order rows; the lanes of an offer after its row. An order that takes a lane has
 * no other lock on that offer, and has seen that the lane is enough, so it does not have to
 * lock the row afterwards; but another call of the same transaction may (docs/api.md). An order
 * of one line that meets nobody locks nothing: it changes the row that it has read, if that is
 * the last version.
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/lanes.h"
#include "store/rows.h"
#include "store/stock.h"
#include "store/stock_scan.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* How often an order waits for a lane before it queues for the row. */
#define LANE_ROUNDS 16

/* ---------- without locking rows first ---------- */

/* The offer, of those from "first" on, that a line of so many units is served from whole; NULL if
 * none has as many in its row, or, with in_lanes, in its row and lanes. */
static StockRow *
best_row(const Locking *locking, int first, const StockDemand *demand, bool in_lanes)
{
	StockRows *stock = locking->rows;
	int        best = -1;

	for (int i = first; i < stock->nrows; i++)
	{
		const StockRow *row = &stock->rows[i];
		int64           units =
			stock->offers[i].available + (in_lanes && stock_is_sold(row) ? row->in_lanes : 0);

		if (units >= demand->quantity &&
			(best < 0 ||
			 offer_compare(demand->strategy, &stock->offers[i], &stock->offers[best]) < 0))
			best = i;
	}
	return best < 0 ? NULL : &stock->rows[best];
}

/* Reads the rows of the product whose first is found, and locks none; returns where they begin. */
static int
read_rows(Locking *locking)
{
	int first = locking->rows->nrows;

	do
		locking_add_row(locking, locking->stock.found, ExecCopySlotHeapTuple(locking->stock.found));
	while (row_scan_next(&locking->stock) != NULL);
	return first;
}

/* Is it certain that sourcing takes the row, of those from "first" on, that is best? Several are
 * split and compared as only it knows. */
static bool
is_certain(const Locking *locking, int first, const StockDemand *demand, const StockRow *row)
{
	return locking->rows->nrows - first == 1 || (!demand->compares && row->is_priced);
}

/*
 * An order of one line changes the row that it is to be served from at once; false if nobody knows
 * which that is, or others have it: then all are locked. The rows are read, not locked: what the
 * row has is what was read of it, or it is not changed. Whether the product's stock as a whole
 * falls to its threshold only who has all of its rows can tell.
 */
static bool
take_row(Locking *locking, const StockDemand *demand)
{
	StockRows *stock = locking->rows;
	int        first = read_rows(locking);
	StockRow  *row = best_row(locking, first, demand, false);
	bool       has_all = stock->nrows - first == 1;

	if (row != NULL && is_certain(locking, first, demand, row) &&
		(has_all || row->low_threshold == LOW_THRESHOLD_NONE) && stock_take(row, demand->quantity))
		return true;
	stock->nrows = first;
	return false;
}

/* ---------- lanes ---------- */

/* The units that an offer's row never gives to lanes and must not fall below while they have some:
 * so what is kept back and what falls to a threshold is seen in the row alone. */
static int64
kept_in_row(const StockRow *row)
{
	return row->low_threshold == LOW_THRESHOLD_NONE ? 0 : row->low_threshold + 1;
}

/*
 * Takes a lane of the offer that the order is to be served from, or its row; LANES_EMPTY if that is
 * to be seen with all rows locked. The product's rows are read, not locked: a lane that is as it
 * was found says that no feed has changed its offer since, for that would have folded it. A
 * vendor's buffer may have been raised meanwhile: then the row has less than nothing, and all are
 * locked.
 */
static LaneOutcome
take_lane(Locking *locking, const StockDemand *demand, bool *wait)
{
	StockRows  *stock = locking->rows;
	int         first = read_rows(locking);
	StockRow   *row = best_row(locking, first, demand, true);
	LaneOutcome outcome = LANES_EMPTY;

	if (row != NULL && row->lanes > 0 && row->free >= kept_in_row(row) &&
		is_certain(locking, first, demand, row))
	{
		bool has_all = row->lanes >= row->lanes_max;

		/* who finds all of them busy adds some, if there may be more, and does not wait; else the
		 * row itself may do, before anybody is waited for */
		*wait &= has_all;
		outcome = lanes_take(row, demand->quantity, false);
		if (outcome == LANES_BUSY && has_all && row->free - kept_in_row(row) >= demand->quantity &&
			stock_take(row, demand->quantity))
			outcome = LANE_TAKEN;
		else if (outcome == LANES_BUSY && *wait)
			outcome = lanes_take(row, demand->quantity, true);
	}
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

/* The first row of the nth product is found; false if its rows are to be locked. *was_busy: all
 * lanes were. */
static bool
lock_lane(Locking *locking, const StockDemand *demand, int n, bool *was_busy)
{
	bool wait = !locking->skip_locked && !IsolationUsesXactSnapshot();

	for (int round = 0; round < LANE_ROUNDS; round++)
	{
		LaneOutcome outcome;

		if (round > 0)
		{
			locking_see_latest(locking);
			row_scan_find_located(&locking->stock, n);
			if (row_scan_next(&locking->stock) == NULL)
				return false;
		}
		outcome = take_lane(locking, demand, &wait);
		if (outcome == LANE_TAKEN)
			return true;
		*was_busy = outcome == LANES_BUSY;
		if (!*was_busy || !wait)
			return false;
	}
	return false;
}

/* Everything that the row's lanes have is the row's again. */
static void
fold(Locking *locking, StockRow *row)
{
	if (!lanes_fold(row, locking->skip_locked))
		locking_add_busy(locking, row->product_id, row->vendor_id);
	stock_set_offer(locking->rows, row);
}

/*
 * So that what the product's rows have is enough for the demand, and for none of them to fall to
 * its threshold; else all is told. Nothing is written for an order that will be refused all the
 * same: a sold-out product has many of those.
 */
static void
fold_what_is_needed(Locking *locking, int first, const StockDemand *demand)
{
	StockRows *stock = locking->rows;
	bool       needs_all = demand->compares && stock->nrows - first > 1;

	for (int i = first; i < stock->nrows; i++)
		needs_all |= stock->rows[i].in_lanes > 0 &&
					 stock->rows[i].free - kept_in_row(&stock->rows[i]) < demand->quantity;
	for (int i = first; i < stock->nrows && needs_all; i++)
	{
		if (stock->rows[i].in_lanes > 0 && lanes_have_free(&stock->rows[i]))
			fold(locking, &stock->rows[i]);
	}
}

/* Half of what the order leaves goes to the lanes of the offer that it is served from; to more of
 * them if it had to wait and nobody has added any since. */
static void
refill_lanes(Locking *locking, int first, const StockDemand *demand, bool was_busy)
{
	StockRow *row = best_row(locking, first, demand, false);
	int64     lanes;
	int64     left;

	if (row == NULL || row->lanes_max == 0)
		return;
	lanes = row->lanes;
	left = row->free - demand->quantity - kept_in_row(row);
	if (was_busy && lanes == row->lanes_before && lanes < row->lanes_max &&
		left / (4 * Max(lanes, 1)) >= demand->quantity)
		row->lanes = Min(Max(lanes * 2, 2), row->lanes_max);
	if (row->lanes > 0 && left / (2 * row->lanes) >= demand->quantity)
		lanes_refill(row, left / (2 * row->lanes));
	stock_set_offer(locking->rows, row);
}

static bool
has_lanes(const Locking *locking, int first)
{
	for (int i = first; i < locking->rows->nrows; i++)
	{
		if (locking->rows->rows[i].lanes_max > 0 || locking->rows->rows[i].in_lanes > 0)
			return true;
	}
	return false;
}

/* ---------- products ---------- */

/* The nth product. An order of several products changes a row before it has locked them all only
 * where all lanes are busy: what it then cannot do is written back with its end. */
static void
lock_product(Locking *locking, const StockDemand *demand, int n, bool is_only)
{
	RowScan *scan = &locking->stock;
	int      first = locking->rows->nrows;
	bool     was_busy = false;
	bool     is_spread;

	row_scan_find_located(scan, n);
	if (row_scan_next(scan) == NULL)
		return;
	is_spread = row_int64(scan->found, STOCK_COLUMN_LANES_MAX, 0) > 0;
	if (demand->is_one && (is_spread || is_only))
	{
		if (is_spread ? lock_lane(locking, demand, n, &was_busy) : take_row(locking, demand))
			return;
		row_scan_find_located(scan, n);
		if (row_scan_next(scan) == NULL)
			return;
	}
	do
		was_busy |= locking_lock_row(locking);
	while (row_scan_next(scan) != NULL);
	/* as they are now, not as they were seen */
	if (!has_lanes(locking, first))
		return;
	fold_what_is_needed(locking, first, demand);
	/* whoever compares is to see all that each has */
	if (demand->is_one && !(demand->compares && locking->rows->nrows - first > 1))
		refill_lanes(locking, first, demand, was_busy);
}

static int
compare_demands(const void *a, const void *b)
{
	return strcmp(((const StockDemand *) a)->product_id, ((const StockDemand *) b)->product_id);
}

StockRows *
stock_lock_demand(StockDemand *demands, int count, bool skip_locked)
{
	Datum  *keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * Max(count, 1));
	int     nproducts = 0;
	Locking locking;

	qsort(demands, count, sizeof(StockDemand), compare_demands);
	for (int i = 0; i < count; i++)
	{
		if (nproducts > 0 && compare_demands(&demands[nproducts - 1], &demands[i]) == 0)
			continue;
		demands[nproducts] = demands[i];
		keys[nproducts++] = CStringGetTextDatum(demands[i].product_id);
	}
	locking_begin(&locking, nproducts, skip_locked);
	row_scan_locate(&locking.stock, keys, 1, nproducts, F_TEXTEQ);
	for (int i = 0; i < nproducts; i++)
	{
		demands[i].first = locking.rows->nrows;
		lock_product(&locking, &demands[i], i, count == 1);
		demands[i].count = locking.rows->nrows - demands[i].first;
	}
	return locking_end(&locking);
}

/* ---------- pairs ---------- */

/* Of a product at a vendor; NULL: at all of them, and then "settled" says nothing. */
typedef struct StockPair
{
	StockKey key;
	int64    settled;
} StockPair;

/* By product, then by vendor, no vendor first. */
static int
compare_pairs(const void *a, const void *b)
{
	const StockKey *left = &((const StockPair *) a)->key;
	const StockKey *right = &((const StockPair *) b)->key;
	int             order = stock_compare_keys(left, right);

	return order != 0 ? order : (left->vendor_id != NULL) - (right->vendor_id != NULL);
}

/* The row that is found, with what is wanted of its lanes. */
static void
lock_found(Locking *locking, int64 settled)
{
	StockRows *stock = locking->rows;
	int        first = stock->nrows;

	(void) locking_lock_row(locking);
	if (stock->nrows == first || stock->rows[first].in_lanes == 0)
		return;
	if (settled < 0)
		fold(locking, &stock->rows[first]);
	else if (!lanes_gather(&stock->rows[first], settled, locking->skip_locked))
		locking_add_busy(locking, stock->rows[first].product_id, stock->rows[first].vendor_id);
}

static void
lock_pairs(Locking *locking, const StockPair *pairs, int npairs)
{
	Datum *keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * 2 * Max(npairs, 1));

	for (int i = 0; i < npairs; i++)
	{
		keys[2 * i] = CStringGetTextDatum(pairs[i].key.product_id);
		keys[2 * i + 1] = CStringGetTextDatum(pairs[i].key.vendor_id);
	}
	row_scan_locate(&locking->stock, keys, 2, npairs, F_TEXTEQ);
	for (int i = 0; i < npairs; i++)
	{
		row_scan_find_located(&locking->stock, i);
		if (row_scan_next(&locking->stock) != NULL)
			lock_found(locking, pairs[i].settled);
	}
}

/* Those of one product, whose first row is found. */
static void
lock_pairs_of_product(Locking *locking, const StockPair *pairs, int npairs)
{
	RowScan *scan = &locking->stock;
	bool     is_whole = pairs[0].key.vendor_id == NULL;

	do
	{
		StockPair        here = {{pairs[0].key.product_id, NULL}, -1};
		const StockPair *pair = &here;

		if (!is_whole)
		{
			here.key.vendor_id = row_text(scan->found, STOCK_COLUMN_VENDOR_ID);
			pair = bsearch(&here, pairs, npairs, sizeof(StockPair), compare_pairs);
		}
		if (pair != NULL)
			lock_found(locking, pair->settled);
	} while (row_scan_next(scan) != NULL);
}

/* Product by product, because of some all rows are wanted. */
static void
lock_products(Locking *locking, const StockPair *pairs, int npairs)
{
	Datum *keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * npairs);
	int   *firsts = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int) * (npairs + 1));
	int    nproducts = 0;

	for (int i = 0; i < npairs; i++)
	{
		if (i > 0 && strcmp(pairs[i - 1].key.product_id, pairs[i].key.product_id) == 0)
			continue;
		keys[nproducts] = CStringGetTextDatum(pairs[i].key.product_id);
		firsts[nproducts++] = i;
	}
	firsts[nproducts] = npairs;
	row_scan_locate(&locking->stock, keys, 1, nproducts, F_TEXTEQ);
	for (int i = 0; i < nproducts; i++)
	{
		row_scan_find_located(&locking->stock, i);
		if (row_scan_next(&locking->stock) != NULL)
			lock_pairs_of_product(locking, &pairs[firsts[i]], firsts[i + 1] - firsts[i]);
	}
}

StockRows *
stock_lock_rows(const char **product_ids, const char **vendor_ids, const int64 *settled, int count,
				bool skip_locked)
{
	StockPair *pairs =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(StockPair) * Max(count, 1));
	int     npairs = 0;
	bool    has_whole = false;
	Locking locking;

	for (int i = 0; i < count; i++)
	{
		pairs[i] = (StockPair){{product_ids[i], vendor_ids[i]}, settled ? settled[i] : -1};
		has_whole |= vendor_ids[i] == NULL;
	}
	qsort(pairs, count, sizeof(StockPair), compare_pairs);
	for (int i = 0; i < count; i++)
	{
		if (npairs > 0 && compare_pairs(&pairs[npairs - 1], &pairs[i]) == 0)
			pairs[npairs - 1].settled += settled ? pairs[i].settled : 0;
		else
			pairs[npairs++] = pairs[i];
	}
	locking_begin(&locking, npairs, skip_locked);
	if (has_whole)
		lock_products(&locking, pairs, npairs);
	else
		lock_pairs(&locking, pairs, npairs);
	return locking_end(&locking);
}

StockRows *
stock_lock_offers(const char **product_ids, int count, bool skip_locked)
{
	const char **all_vendors = MemoryContextAllocExtended(
		CurrentMemoryContext, sizeof(char *) * Max(count, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	return stock_lock_rows(product_ids, all_vendors, NULL, count, skip_locked);
}
