/*
 * row_update.c
 *		Rows of the extension's own tables, changed by the table access method.
 *
 * What ModifyTable does is done here: fail with a serialization error if somebody has changed the
 * row, insert into the indexes unless the update was HOT.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "store/compat.h"
#include "store/rows.h"
#include "store/tables.h"
#include "store/user_rules.h"
#include "utils/snapmgr.h"

void
row_update_begin(RowUpdate *update, const char *table_name)
{
	update->table = table_open(table_oid(table_name), RowExclusiveLock);
	update->slot = MakeSingleTupleTableSlot(RelationGetDescr(update->table), &TTSOpsHeapTuple);
	user_rules_refuse_capture(update->table);
	PushActiveSnapshot(GetTransactionSnapshot());
	update->is_checked = user_rules_exist(update->table);
	update->indexes = update->is_checked ? bulk_begin(RelationGetRelid(update->table)) : NULL;
}

/* So that the new version of a row finds room beside it, and the update is HOT. */
static void
make_room(Relation table, HeapTuple row, HeapTuple changed)
{
	Buffer buffer = ReadBuffer(table, ItemPointerGetBlockNumber(&row->t_self));

	/* read without a lock, as the server does: it is only a hint */
	if (PageGetHeapFreeSpace(BufferGetPage(buffer)) < MAXALIGN(changed->t_len))
		heap_page_prune_opt(table, buffer);
	ReleaseBuffer(buffer);
}

#ifdef USE_ASSERT_CHECKING
static bool
try_lock(Relation table, HeapTuple row)
{
	TupleTableSlot *slot = table_slot_create(table, NULL);
	TM_FailureData  failure;
	TM_Result       result =
		table_tuple_lock(table, &row->t_self, GetActiveSnapshot(), slot, GetCurrentCommandId(true),
						 LockTupleNoKeyExclusive, LockWaitSkip, 0, &failure);

	ExecDropSingleTupleTableSlot(slot);
	return result == TM_Ok;
}
#endif

static HeapTuple
change(Relation table, HeapTuple row, int ncolumns, const int *columns, Datum *values, bool *nulls)
{
	TupleDesc desc = RelationGetDescr(table);
	int       numbers[ROW_UPDATE_COLUMNS_MAX];

	Assert(ncolumns <= ROW_UPDATE_COLUMNS_MAX);
	for (int i = 0; i < ncolumns; i++)
	{
		numbers[i] = table_column(desc, columns[i]);
		/* of ours none becomes null that must not be; a user may have said so of others */
		if (nulls[i] && numbers[i] <= desc->natts &&
			TupleDescAttr(desc, numbers[i] - 1)->attnotnull)
			ereport(ERROR,
					(errcode(ERRCODE_NOT_NULL_VIOLATION),
					 errmsg("null value in column \"%s\" of relation \"%s\" violates not-null "
							"constraint",
							NameStr(TupleDescAttr(desc, numbers[i] - 1)->attname),
							RelationGetRelationName(table)),
					 errtablecol(table, numbers[i])));
	}
	return heap_modify_tuple_by_cols(row, desc, ncolumns, numbers, values, nulls);
}

/* Leaves the new row in the slot; false if another transaction has the row locked, unless that is
 * waited for, or has changed it. */
static bool
try_update(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values, bool *nulls,
		   bool wait)
{
	HeapTuple       changed = change(update->table, row, ncolumns, columns, values, nulls);
	TM_FailureData  failure;
	LockTupleMode   mode;
	IndexesToUpdate indexes;

#ifdef USE_ASSERT_CHECKING
	/* heap_update() can do without waiting, and asserts that nobody asks for it */
	if (!wait && !try_lock(update->table, row))
		return false;
	wait = true;
#endif
	make_room(update->table, row, changed);
	ExecStoreHeapTuple(changed, update->slot, true);
	if (update->is_checked)
		bulk_check(update->indexes, update->slot);
	if (table_tuple_update(update->table, &row->t_self, update->slot, GetCurrentCommandId(true),
						   GetActiveSnapshot(), InvalidSnapshot, wait, &failure, &mode,
						   &indexes) != TM_Ok)
		return false;
	if (indexes == INDEXES_NONE)
		return true;
	if (update->indexes == NULL)
		update->indexes = bulk_begin(RelationGetRelid(update->table));
	bulk_index(update->indexes, update->slot, compat_only_summarizing(indexes));
	return true;
}

/* The new row, palloc'd. */
static HeapTuple
take_row(RowUpdate *update)
{
	HeapTuple changed = ExecCopySlotHeapTuple(update->slot);

	ExecClearTuple(update->slot);
	return changed;
}

static void
update_row(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values, bool *nulls)
{
	if (!try_update(update, row, ncolumns, columns, values, nulls, true))
		row_serialization_failure(update->table);
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
	update_row(update, row, ncolumns, columns, values, nulls);
	return take_row(update);
}

HeapTuple
row_try_replace(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values,
				bool *nulls)
{
	return try_update(update, row, ncolumns, columns, values, nulls, false) ? take_row(update)
																			: NULL;
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
