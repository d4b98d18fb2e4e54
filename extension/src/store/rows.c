/*
 * rows.c
 *		Rows of the extension's own tables by key: found and locked.
 *
 * By the table and index access methods directly. Planning and running SQL for
 * it took half of the time of a small order, and a plan made while the tables
 * were empty reads them from end to end for as long as it is cached
 * (docs/performance.md). What LockRows does is done here: wait for the last
 * version, fail with a serialization error under REPEATABLE READ.
 */
#include "postgres.h"

#include "store/rows.h"

#include "access/heapam.h"
#include "access/table.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "store/compat.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#define LOCATED_MIN 8 /* fewer keys are looked up one by one */

void
rows_see_latest(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
row_scan_begin(RowScan *scan, const char *table_name, const char *index_name, LOCKMODE mode)
{
	memset(scan, 0, sizeof(RowScan));
	scan->table = table_open(table_oid(table_name), mode);
	scan->index_name = index_name;
	scan->context = CurrentMemoryContext;
	scan->current = -1;
	scan->found = table_slot_create(scan->table, NULL);
}

void
row_scan_renew(RowScan *scan)
{
	if (scan->scan != NULL)
		index_endscan(scan->scan);
	scan->scan = NULL;
	scan->located = NULL;
	scan->has_dead = false;
}

void
row_scan_end(RowScan *scan)
{
	row_scan_renew(scan);
	ExecDropSingleTupleTableSlot(scan->found);
	if (scan->locked != NULL)
		ExecDropSingleTupleTableSlot(scan->locked);
	if (scan->index != NULL)
		index_close(scan->index, NoLock);
	table_close(scan->table, NoLock);
}

static Relation
open_index(const RowScan *scan)
{
	/* makes the table know its primary key */
	(void) RelationGetIndexList(scan->table);
	return index_open(scan->index_name ? table_oid(scan->index_name)
									   : compat_primary_key(scan->table),
					  AccessShareLock);
}

static Snapshot
snapshot_of(const RowScan *scan)
{
	return scan->snapshot ? scan->snapshot : GetActiveSnapshot();
}

void
row_scan_find(RowScan *scan, ScanKeyData *keys, int nkeys)
{
	MemoryContext old_context;

	if (scan->index == NULL)
		scan->index = open_index(scan);
	/* a scan has as many keys as it was begun with, always */
	if (scan->scan != NULL && scan->scan->numberOfKeys != nkeys)
		row_scan_renew(scan);
	old_context = MemoryContextSwitchTo(scan->context);
	if (scan->scan == NULL)
		scan->scan = compat_index_beginscan(scan->table, scan->index, snapshot_of(scan), nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
	scan->current = -1;
	scan->has_dead = false;
	MemoryContextSwitchTo(old_context);
}

void
row_scan_find_text(RowScan *scan, const char *key)
{
	ScanKeyData keys[1];

	/* ScanKeyInit uses the "C" collation, which is the columns' own */
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key));
	row_scan_find(scan, keys, 1);
}

void
row_scan_find_texts(RowScan *scan, const char *first, const char *second)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(first));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(second));
	row_scan_find(scan, keys, 2);
}

void
row_scan_find_int8(RowScan *scan, int64 key)
{
	ScanKeyData keys[1];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	row_scan_find(scan, keys, 1);
}

void
row_scan_locate(RowScan *scan, const Datum *keys, int ncolumns, int nkeys, RegProcedure equals)
{
	scan->keys = keys;
	scan->ncolumns = ncolumns;
	scan->equals = equals;
	scan->has_dead = false;
	/* at SERIALIZABLE a scan tells the server what it has read of the index */
	if (nkeys < LOCATED_MIN || IsolationIsSerializable())
		return;
	if (scan->index == NULL)
		scan->index = open_index(scan);
	scan->located = index_find_places(scan->index, keys, ncolumns, nkeys, &scan->places);
}

static void
find_key(RowScan *scan, int n)
{
	ScanKeyData keys[INDEX_MAX_KEYS];

	for (int i = 0; i < scan->ncolumns; i++)
		ScanKeyInit(&keys[i], i + 1, BTEqualStrategyNumber, scan->equals,
					scan->keys[(size_t) n * scan->ncolumns + i]);
	row_scan_find(scan, keys, scan->ncolumns);
}

/*
 * Finds the version of a row that the snapshot sees, from where the index says that it begins.
 *
 * What index_getnext_slot does for a heap, which our tables are, but for the pruning: that would
 * be done whenever a page is fuller than its table's fillfactor, which one with a dead row is, so
 * that each update would make the next visitor prune. make_room() does it once a page is full.
 */
static bool
fetch_at(RowScan *scan, const ItemPointerData *place, Snapshot snapshot, bool *is_dead)
{
	BufferHeapTupleTableSlot *slot = (BufferHeapTupleTableSlot *) scan->found;
	HeapTuple                 row = &slot->base.tupdata;
	ItemPointerData           tid = *place;
	bool                      is_visible;
	Buffer                    buffer;

	ExecClearTuple(scan->found);
	buffer = ReadBuffer(scan->table, ItemPointerGetBlockNumber(&tid));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	is_visible = heap_hot_search_buffer(&tid, scan->table, buffer, snapshot, row, is_dead, true);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (!is_visible)
	{
		ReleaseBuffer(buffer);
		return false;
	}
	row->t_self = tid;
	scan->found->tts_tableOid = RelationGetRelid(scan->table);
	ExecStorePinnedBufferHeapTuple(row, scan->found, buffer);
	scan->place = *place;
	return true;
}

static bool
fetch_next_of_scan(RowScan *scan)
{
	ItemPointer tid;

	while ((tid = index_getnext_tid(scan->scan, ForwardScanDirection)) != NULL)
	{
		bool is_dead;
		bool is_visible = fetch_at(scan, tid, scan->scan->xs_snapshot, &is_dead);

		if (!scan->scan->xactStartedInRecovery)
			scan->scan->kill_prior_tuple = is_dead;
		if (!is_visible)
			continue;
		pgstat_count_heap_fetch(scan->index);
		return true;
	}
	ExecClearTuple(scan->found);
	return false;
}

/*
 * A scan marks dead entries, so that they are removed once the page is full. Whoever reads no
 * further than the one row of a key leaves them to the next key.
 */
static void
mark_dead(RowScan *scan)
{
	MemoryContext old_context = MemoryContextSwitchTo(scan->context);

	find_key(scan, scan->current);
	while (fetch_next_of_scan(scan))
		;
	MemoryContextSwitchTo(old_context);
}

void
row_scan_find_located(RowScan *scan, int n)
{
	if (scan->has_dead)
		mark_dead(scan);
	if (scan->located == NULL || scan->located[n].count == PLACES_UNKNOWN)
	{
		find_key(scan, n);
		return;
	}
	scan->current = n;
	scan->next_place = scan->located[n].first;
	scan->end_place = scan->next_place + scan->located[n].count;
}

static bool
fetch_next_place(RowScan *scan)
{
	while (scan->next_place < scan->end_place)
	{
		bool is_dead;

		if (fetch_at(scan, &scan->places[scan->next_place++], snapshot_of(scan), &is_dead))
		{
			pgstat_count_heap_fetch(scan->index);
			return true;
		}
		scan->has_dead |= is_dead;
	}
	ExecClearTuple(scan->found);
	if (scan->has_dead)
		mark_dead(scan);
	return false;
}

static bool
fetch_next(RowScan *scan)
{
	return scan->current < 0 ? fetch_next_of_scan(scan) : fetch_next_place(scan);
}

TupleTableSlot *
row_scan_next(RowScan *scan)
{
	/* the access method remembers things of the whole scan whenever it meets them */
	MemoryContext old_context = MemoryContextSwitchTo(scan->context);
	bool          is_found = fetch_next(scan);

	MemoryContextSwitchTo(old_context);
	return is_found ? scan->found : NULL;
}

/* Is the row still where it was? Whatever is there now may be another's, or nothing. */
static bool
is_at(RowScan *scan, const ItemPointerData *place, int column, const char *key)
{
	bool  is_dead;
	text *found;

	if (!ItemPointerIsValid(place) ||
		ItemPointerGetBlockNumber(place) >= RelationGetNumberOfBlocks(scan->table) ||
		!fetch_at(scan, place, snapshot_of(scan), &is_dead))
		return false;
	found = DatumGetTextPP(row_column(scan->found, column));
	return VARSIZE_ANY_EXHDR(found) == strlen(key) &&
		   memcmp(VARDATA_ANY(found), key, strlen(key)) == 0;
}

TupleTableSlot *
row_scan_get_text(RowScan *scan, int column, const char *key, ItemPointerData *place)
{
	if (is_at(scan, place, column, key))
		return scan->found;
	row_scan_find_text(scan, key);
	if (row_scan_next(scan) == NULL)
		return NULL;
	*place = scan->place;
	return scan->found;
}

void
row_serialization_failure(Relation table)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access to %s due to concurrent update",
						   RelationGetRelationName(table))));
}

RowLocked
row_scan_lock(RowScan *scan, LockWaitPolicy wait, bool follow)
{
	uint8          flags = 0; /* else who waits for an update in vain has locked its result */
	TM_FailureData failure;

	if (follow)
		flags |= TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	if (follow && !IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	if (scan->locked == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(scan->context);

		scan->locked = table_slot_create(scan->table, NULL);
		MemoryContextSwitchTo(old_context);
	}
	CHECK_FOR_INTERRUPTS();
	switch (table_tuple_lock(scan->table, &scan->found->tts_tid, GetActiveSnapshot(), scan->locked,
							 GetCurrentCommandId(true), LockTupleNoKeyExclusive, wait, flags,
							 &failure))
	{
		case TM_Ok:
			return ROW_LOCKED;
		case TM_WouldBlock:
			return ROW_BUSY;
		case TM_Deleted:
			return ROW_GONE;
		default:
			return ROW_CHANGED;
	}
}

TupleTableSlot *
row_scan_lock_found(RowScan *scan)
{
	RowLocked locked = row_scan_lock(scan, scan->skip_locked ? LockWaitSkip : LockWaitBlock, true);

	scan->is_busy = locked == ROW_BUSY;
	if (scan->is_busy)
		return scan->found;
	if (locked == ROW_LOCKED)
		return scan->locked;
	if (locked == ROW_CHANGED || IsolationUsesXactSnapshot())
		row_serialization_failure(scan->table);
	return NULL;
}

TupleTableSlot *
row_scan_next_locked(RowScan *scan)
{
	while (row_scan_next(scan) != NULL)
	{
		TupleTableSlot *slot = row_scan_lock_found(scan);

		if (slot != NULL)
			return slot;
	}
	return NULL;
}

void
row_scan_unpin(RowScan *scan)
{
	ExecClearTuple(scan->found);
	if (scan->locked != NULL)
		ExecClearTuple(scan->locked);
}

Datum
row_get(TupleTableSlot *slot, int column, bool *is_null)
{
	return slot_getattr(slot, table_column(slot->tts_tupleDescriptor, column), is_null);
}

Datum
row_column(TupleTableSlot *slot, int column)
{
	bool is_null;

	return row_get(slot, column, &is_null);
}

/* False if it is null, or if the table of an earlier version of the extension has no such column.
 */
static bool
find_column(TupleTableSlot *slot, int column, Datum *value)
{
	bool is_null;

	column = table_column(slot->tts_tupleDescriptor, column);
	if (column > slot->tts_tupleDescriptor->natts)
		return false;
	*value = slot_getattr(slot, column, &is_null);
	return !is_null;
}

int64
row_int64(TupleTableSlot *slot, int column, int64 if_null)
{
	Datum value;

	return find_column(slot, column, &value) ? DatumGetInt64(value) : if_null;
}

bool
row_bool(TupleTableSlot *slot, int column, bool if_null)
{
	Datum value;

	return find_column(slot, column, &value) ? DatumGetBool(value) : if_null;
}

char *
row_text(TupleTableSlot *slot, int column)
{
	bool  is_null;
	Datum value = row_get(slot, column, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}
