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
	scan->snapshot = NULL;
	scan->skip_locked = scan->is_busy = false;
	scan->found = table_slot_create(scan->table, NULL);
	scan->locked = table_slot_create(scan->table, NULL);
}

void
row_scan_end(RowScan *scan)
{
	if (scan->scan != NULL)
		index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->found);
	ExecDropSingleTupleTableSlot(scan->locked);
	index_close(scan->index, NoLock);
	table_close(scan->table, NoLock);
}

void
row_scan_find(RowScan *scan, ScanKeyData *keys, int nkeys)
{
	/* a scan has as many keys as it was begun with, always */
	if (scan->scan != NULL && scan->scan->numberOfKeys != nkeys)
	{
		index_endscan(scan->scan);
		scan->scan = NULL;
	}
	if (scan->scan == NULL)
		scan->scan = compat_index_beginscan(
			scan->table, scan->index, scan->snapshot ? scan->snapshot : GetActiveSnapshot(), nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
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
	return index_getnext_slot(scan->scan, ForwardScanDirection, scan->found) ? scan->found : NULL;
}

static void
serialization_failure(Relation table)
{
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("could not serialize access to %s due to concurrent update",
						   RelationGetRelationName(table))));
}

TupleTableSlot *
row_scan_next_locked(RowScan *scan)
{
	uint8 flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	while (row_scan_next(scan) != NULL)
	{
		TM_FailureData failure;
		TM_Result      result;

		CHECK_FOR_INTERRUPTS();
		result =
			table_tuple_lock(scan->table, &scan->found->tts_tid, GetActiveSnapshot(), scan->locked,
							 GetCurrentCommandId(true), LockTupleNoKeyExclusive,
							 scan->skip_locked ? LockWaitSkip : LockWaitBlock, flags, &failure);
		scan->is_busy = result == TM_WouldBlock;
		if (scan->is_busy)
			return scan->found;
		if (result == TM_Ok)
			return scan->locked;
		if (result != TM_Deleted || IsolationUsesXactSnapshot())
			serialization_failure(scan->table);
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
	update->estate = NULL;
	update->result_rel = NULL;
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
insert_into_indexes(RowUpdate *update, bool only_summarizing)
{
	if (update->result_rel == NULL)
	{
		update->estate = CreateExecutorState();
		update->result_rel = makeNode(ResultRelInfo);
		InitResultRelInfo(update->result_rel, update->table, 0, NULL,
						  0); /* of no query: it has no range table */
		ExecOpenIndices(update->result_rel, false);
	}
	compat_insert_index_entries(update->result_rel, update->slot, update->estate, true,
								only_summarizing);
	ResetPerTupleExprContext(update->estate);
}

void
row_update(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values, bool *nulls)
{
	HeapTuple changed = heap_modify_tuple_by_cols(row, RelationGetDescr(update->table), ncolumns,
												  columns, values, nulls);
	TM_FailureData  failure;
	LockTupleMode   mode;
	IndexesToUpdate indexes;

	ExecStoreHeapTuple(changed, update->slot, false);
	if (table_tuple_update(update->table, &row->t_self, update->slot, GetCurrentCommandId(true),
						   GetActiveSnapshot(), InvalidSnapshot, true, &failure, &mode,
						   &indexes) != TM_Ok)
		serialization_failure(update->table);
	if (indexes != INDEXES_NONE)
		insert_into_indexes(update, compat_only_summarizing(indexes));
	ExecClearTuple(update->slot);
	heap_freetuple(changed);
}

void
row_update_end(RowUpdate *update)
{
	PopActiveSnapshot();
	if (update->result_rel != NULL)
	{
		ExecCloseIndices(update->result_rel);
		FreeExecutorState(update->estate);
	}
	ExecDropSingleTupleTableSlot(update->slot);
	table_close(update->table, NoLock);
	CommandCounterIncrement();
}
