/*
 * rows.c
 *		Rows of the extension's own tables by key: found, locked and updated.
 *
 * By the table and index access methods directly. Planning and running SQL for
 * it took half of the time of a small order, and a plan made while the tables
 * were empty reads them from end to end for as long as it is cached
 * (docs/performance.md). What LockRows and ModifyTable do is done here: wait
 * for the last version, fail with a serialization error under REPEATABLE READ,
 * insert into the indexes unless the update was HOT.
 */
#include "postgres.h"

#include "store/rows.h"

#include "access/table.h"
#include "miscadmin.h"
#include "store/compat.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* ---------- finding and locking ---------- */

void
rows_see_latest(void)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
row_scan_begin(RowScan *scan, const char *table_name, const char *index_name, LOCKMODE mode)
{
	scan->table = table_open(table_oid(table_name), mode);
	/* makes the table know its primary key */
	(void) RelationGetIndexList(scan->table);
	scan->index = index_open(index_name ? table_oid(index_name) : compat_primary_key(scan->table),
							 AccessShareLock);
	scan->scan = NULL;
	scan->context = CurrentMemoryContext;
	scan->snapshot = NULL;
	scan->skip_locked = scan->is_busy = false;
	scan->found = table_slot_create(scan->table, NULL);
	scan->locked = table_slot_create(scan->table, NULL);
}

void
row_scan_renew(RowScan *scan)
{
	if (scan->scan != NULL)
		index_endscan(scan->scan);
	scan->scan = NULL;
}

void
row_scan_end(RowScan *scan)
{
	row_scan_renew(scan);
	ExecDropSingleTupleTableSlot(scan->found);
	ExecDropSingleTupleTableSlot(scan->locked);
	index_close(scan->index, NoLock);
	table_close(scan->table, NoLock);
}

void
row_scan_find(RowScan *scan, ScanKeyData *keys, int nkeys)
{
	MemoryContext old_context;

	/* a scan has as many keys as it was begun with, always */
	if (scan->scan != NULL && scan->scan->numberOfKeys != nkeys)
		row_scan_renew(scan);
	old_context = MemoryContextSwitchTo(scan->context);
	if (scan->scan == NULL)
		scan->scan = compat_index_beginscan(
			scan->table, scan->index, scan->snapshot ? scan->snapshot : GetActiveSnapshot(), nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
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

TupleTableSlot *
row_scan_next(RowScan *scan)
{
	/* the access method remembers things of the whole scan whenever it meets them */
	MemoryContext old_context = MemoryContextSwitchTo(scan->context);
	bool          is_found = index_getnext_slot(scan->scan, ForwardScanDirection, scan->found);

	MemoryContextSwitchTo(old_context);
	return is_found ? scan->found : NULL;
}

static void
serialization_failure(Relation table)
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
		serialization_failure(scan->table);
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

Datum
row_column(TupleTableSlot *slot, int column)
{
	bool is_null;

	return slot_getattr(slot, column, &is_null);
}

/* False if it is null, or if the table of an earlier version of the extension has no such column.
 */
static bool
find_column(TupleTableSlot *slot, int column, Datum *value)
{
	bool is_null;

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
	Datum value = slot_getattr(slot, column, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

/* ---------- updating ---------- */

void
row_update_begin(RowUpdate *update, const char *table_name)
{
	update->table = table_open(table_oid(table_name), RowExclusiveLock);
	update->slot = MakeSingleTupleTableSlot(RelationGetDescr(update->table), &TTSOpsHeapTuple);
	update->indexes = NULL;
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Leaves the new row in the slot. */
static void
update_row(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values, bool *nulls)
{
	HeapTuple changed = heap_modify_tuple_by_cols(row, RelationGetDescr(update->table), ncolumns,
												  columns, values, nulls);
	TM_FailureData  failure;
	LockTupleMode   mode;
	IndexesToUpdate indexes;

	ExecStoreHeapTuple(changed, update->slot, true);
	if (table_tuple_update(update->table, &row->t_self, update->slot, GetCurrentCommandId(true),
						   GetActiveSnapshot(), InvalidSnapshot, true, &failure, &mode,
						   &indexes) != TM_Ok)
		serialization_failure(update->table);
	if (indexes == INDEXES_NONE)
		return;
	if (update->indexes == NULL)
		update->indexes = bulk_begin(RelationGetRelid(update->table));
	bulk_index(update->indexes, update->slot, compat_only_summarizing(indexes));
}

void
row_update(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values, bool *nulls)
{
	update_row(update, row, ncolumns, columns, values, nulls);
	ExecClearTuple(update->slot);
}

HeapTuple
row_replace(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values,
			bool *nulls)
{
	HeapTuple changed;

	update_row(update, row, ncolumns, columns, values, nulls);
	changed = ExecCopySlotHeapTuple(update->slot);
	ExecClearTuple(update->slot);
	return changed;
}

void
row_update_end(RowUpdate *update)
{
	PopActiveSnapshot();
	if (update->indexes != NULL)
		bulk_end(update->indexes);
	ExecDropSingleTupleTableSlot(update->slot);
	table_close(update->table, NoLock);
	CommandCounterIncrement();
}
