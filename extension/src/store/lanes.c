/*
 * lanes.c
 *		The lanes of an offer: counters of which each order needs only one.
 */
#include "postgres.h"

#include "store/lanes.h"

#include "store/bulk.h"
#include "store/compat.h"
#include "store/rows.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* A lane that is locked, and what its row has for now. */
typedef struct Lane
{
	HeapTuple tuple;
	int64     free;
	int64     reserved;
} Lane;

/* ---------- finding ---------- */

static void
find_lane(RowScan *scan, const StockRow *row, int lane)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(row->product_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(row->vendor_id));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lane));
	row_scan_find(scan, keys, 3);
}

static int64
free_of(TupleTableSlot *slot)
{
	return DatumGetInt64(row_column(slot, STOCK_LANE_COLUMN_FREE));
}

static Lane
read_lane(TupleTableSlot *slot)
{
	return (Lane){ExecCopySlotHeapTuple(slot), free_of(slot),
				  DatumGetInt64(row_column(slot, STOCK_LANE_COLUMN_RESERVED))};
}

/* ---------- without the stock row ---------- */

/* Takes the lane that is looked for, if it has enough: from then on the row is that lane. A wait
 * ends with the transaction of who has it, or by the caller's own time-outs. */
static LaneOutcome
try_lane(RowScan *scan, StockRow *row, int64 quantity, LockWaitPolicy wait)
{
	Lane lane;

	if (row_scan_next(scan) == NULL || free_of(scan->found) < quantity)
		return LANES_EMPTY;
	/* only the version that was found: another may have less, and a lock is not given back */
	if (row_scan_lock(scan, wait, false) != ROW_LOCKED)
		return LANES_BUSY;
	lane = read_lane(scan->locked);
	row->lane = lane.tuple;
	row->free = lane.free;
	row->reserved = lane.reserved;
	return LANE_TAKEN;
}

LaneOutcome
lanes_take(StockRow *row, int64 quantity, bool wait)
{
	int         first = compat_session_number() % row->lanes;
	int         busy = -1;
	LaneOutcome outcome = LANES_EMPTY;
	RowScan     scan;

	row_scan_begin(&scan, "stock_lane", NULL, RowExclusiveLock);
	for (int i = 0; i < row->lanes && outcome != LANE_TAKEN; i++)
	{
		int lane = (first + i) % row->lanes;

		find_lane(&scan, row, lane);
		outcome = try_lane(&scan, row, quantity, LockWaitSkip);
		if (outcome == LANES_BUSY && busy < 0)
			busy = lane;
	}
	if (outcome != LANE_TAKEN && busy >= 0)
	{
		outcome = LANES_BUSY;
		if (wait)
		{
			find_lane(&scan, row, busy);
			outcome = try_lane(&scan, row, quantity, LockWaitBlock);
		}
	}
	row_scan_end(&scan);
	return outcome;
}

static void
write_lane(RowUpdate *update, const Lane *lane)
{
	int   columns[2] = {STOCK_LANE_COLUMN_FREE, STOCK_LANE_COLUMN_RESERVED};
	bool  nulls[2] = {false, false};
	Datum values[2] = {Int64GetDatum(lane->free), Int64GetDatum(lane->reserved)};

	row_update(update, lane->tuple, 2, columns, values, nulls);
}

void
lanes_write(RowUpdate *update, const StockRow *row)
{
	write_lane(update, &(Lane){row->lane, row->free, row->reserved + row->reserved_change});
}

/* ---------- with the stock row locked ---------- */

/* The row as it is in memory, written; it may be changed again. */
static void
write_row(StockRow *row)
{
	int       columns[] = {STOCK_COLUMN_RESERVED, STOCK_COLUMN_LANES, STOCK_COLUMN_IN_LANES};
	bool      nulls[lengthof(columns)] = {false};
	Datum     values[] = {Int64GetDatum(row->reserved), Int64GetDatum(row->lanes),
						  Int64GetDatum(row->in_lanes)};
	RowUpdate update;

	row_update_begin(&update, "stock");
	row->tuple = row_replace(&update, row->tuple, lengthof(columns), columns, values, nulls);
	row_update_end(&update);
	row->free = row->on_hand - row->reserved - row->in_lanes - row->buffer;
}

static void
write_lanes(const Lane *lanes, int count)
{
	RowUpdate update;

	row_update_begin(&update, "stock_lane");
	for (int i = 0; i < count; i++)
		write_lane(&update, &lanes[i]);
	row_update_end(&update);
}

/* All lanes of the row: which of them are there is known only now that the row is locked. */
static void
scan_lanes(RowScan *scan, const StockRow *row, bool skip_locked)
{
	rows_see_latest();
	row_scan_begin(scan, "stock_lane", NULL, RowExclusiveLock);
	scan->skip_locked = skip_locked;
	row_scan_find_texts(scan, row->product_id, row->vendor_id);
}

static void
scan_lanes_end(RowScan *scan)
{
	row_scan_end(scan);
	PopActiveSnapshot();
}

/* Locks lanes of the row, all or those that nobody holds; returns how many, and sets *passed_over
 * if somebody holds others. */
static int
lock_lanes(const StockRow *row, bool skip_locked, Lane *lanes, bool *passed_over)
{
	RowScan         scan;
	TupleTableSlot *slot;
	int             count = 0;

	*passed_over = false;
	scan_lanes(&scan, row, skip_locked);
	while ((slot = row_scan_next_locked(&scan)) != NULL)
	{
		if (scan.is_busy)
			*passed_over = true;
		else if (count < LANES_MAX)
			lanes[count++] = read_lane(slot);
	}
	scan_lanes_end(&scan);
	return count;
}

/* Moves to the row what the lanes have reserved, and, with_free, all else that they have. */
static void
bring_in(StockRow *row, Lane *lanes, int count, bool with_free)
{
	for (int i = 0; i < count; i++)
	{
		row->in_lanes -= lanes[i].reserved;
		row->reserved += lanes[i].reserved;
		lanes[i].reserved = 0;
		if (with_free)
		{
			row->in_lanes -= lanes[i].free;
			lanes[i].free = 0;
		}
	}
	write_lanes(lanes, count);
	write_row(row);
}

/* Only who has locked the row gives its lanes more. */
bool
lanes_have_free(const StockRow *row)
{
	RowScan         scan;
	TupleTableSlot *slot;
	bool            have_free = false;

	scan_lanes(&scan, row, false);
	while (!have_free && (slot = row_scan_next(&scan)) != NULL)
		have_free = free_of(slot) > 0;
	scan_lanes_end(&scan);
	return have_free;
}

bool
lanes_fold(StockRow *row, bool skip_locked)
{
	Lane lanes[LANES_MAX];
	bool passed_over;
	int  count;

	if (row->in_lanes == 0)
		return true;
	count = lock_lanes(row, skip_locked, lanes, &passed_over);
	if (passed_over)
		return false;
	bring_in(row, lanes, count, true);
	return true;
}

/* Of all lanes that nobody holds, so that the next ones who settle find enough in the row; only if
 * that is too little, of those that are waited for. */
bool
lanes_gather(StockRow *row, int64 units, bool skip_locked)
{
	Lane lanes[LANES_MAX];
	bool passed_over;
	int  count;

	if (row->reserved >= units || row->in_lanes == 0)
		return true;
	count = lock_lanes(row, true, lanes, &passed_over);
	bring_in(row, lanes, count, false);
	if (row->reserved >= units || !passed_over)
		return true;
	if (skip_locked)
		return false;
	count = lock_lanes(row, false, lanes, &passed_over);
	bring_in(row, lanes, count, false);
	return true;
}

/* Makes the lanes that are not there yet, with so many free units each; returns how many. */
static int
make_lanes(const StockRow *row, const bool *is_there, int64 each)
{
	BulkInsert *bulk = bulk_begin(table_oid("stock_lane"));
	int         made = 0;

	for (int lane = 0; lane < row->lanes; lane++)
	{
		TupleTableSlot *slot;

		if (is_there[lane])
			continue;
		slot = bulk_next_row(bulk);
		bulk_set_text(slot, STOCK_LANE_COLUMN_PRODUCT_ID, row->product_id);
		bulk_set_text(slot, STOCK_LANE_COLUMN_VENDOR_ID, row->vendor_id);
		bulk_set(slot, STOCK_LANE_COLUMN_LANE, Int32GetDatum(lane));
		bulk_set(slot, STOCK_LANE_COLUMN_FREE, Int64GetDatum(each));
		bulk_set(slot, STOCK_LANE_COLUMN_RESERVED, Int64GetDatum(0));
		bulk_store_row(bulk);
		made++;
	}
	bulk_end(bulk);
	return made;
}

/* One that still has half of it is left alone: a few units are not worth writing a row for. */
void
lanes_refill(StockRow *row, int64 each)
{
	bool            is_there[LANES_MAX] = {false};
	Lane            lanes[LANES_MAX];
	int             count = 0;
	RowScan         scan;
	TupleTableSlot *slot;

	scan_lanes(&scan, row, true);
	while ((slot = row_scan_next(&scan)) != NULL)
	{
		int lane = DatumGetInt32(row_column(slot, STOCK_LANE_COLUMN_LANE));

		if (lane >= row->lanes)
			continue;
		is_there[lane] = true;
		if (free_of(slot) >= each / 2 || row_scan_lock(&scan, LockWaitSkip, false) != ROW_LOCKED)
			continue;
		lanes[count] = read_lane(scan.locked);
		row->in_lanes += each - lanes[count].free;
		lanes[count++].free = each;
	}
	scan_lanes_end(&scan);
	write_lanes(lanes, count);
	row->in_lanes += each * make_lanes(row, is_there, each);
	write_row(row);
}
