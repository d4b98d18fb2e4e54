/*
 * bulk.c
 *		Writing many rows into one of the extension's own tables, as COPY does.
 *
 * Rows are gathered in slots and written a page at a time by
 * table_multi_insert(): one WAL record for a page of rows instead of one a row,
 * and no executor in between. Indexes are updated row by row in table order.
 */
#include "postgres.h"

#include "store/bulk.h"

#include <sched.h>

#include "access/table.h"
#include "store/compat.h"
#include "utils/builtins.h"

#define ROWS_MAX 1000

struct BulkInsert
{
	Relation  relation;
	TupleDesc desc; /* a copy: pinning the relation's own for each slot costs more than the rows */
	EState   *estate;
	ResultRelInfo  *result_rel;
	TupleTableSlot *slots[ROWS_MAX];
	int             nslots;     /* slots made so far */
	int             nrows;      /* slots filled */
	int             yield_rows; /* 0: never */
};

BulkInsert *
bulk_begin(Oid relid)
{
	BulkInsert *bulk = palloc(offsetof(BulkInsert, slots) + sizeof(TupleTableSlot *) * ROWS_MAX);

	bulk->relation = table_open(relid, RowExclusiveLock);
	bulk->desc = CreateTupleDescCopy(RelationGetDescr(bulk->relation));
	bulk->estate = CreateExecutorState();
	bulk->result_rel = makeNode(ResultRelInfo);
	InitResultRelInfo(bulk->result_rel, bulk->relation, 1, NULL, 0);
	ExecOpenIndices(bulk->result_rel, false);
	bulk->nslots = 0;
	bulk->nrows = 0;
	bulk->yield_rows = 0;
	return bulk;
}

void
bulk_yield(BulkInsert *bulk, int every_rows)
{
	bulk->yield_rows = every_rows;
}

static void
flush(BulkInsert *bulk)
{
	MemoryContext old_context;

	if (bulk->nrows == 0)
		return;

	/* table_multi_insert leaks: give it a context that is reset */
	old_context = MemoryContextSwitchTo(GetPerTupleMemoryContext(bulk->estate));
	table_multi_insert(bulk->relation, bulk->slots, bulk->nrows, GetCurrentCommandId(true), 0,
					   NULL);
	MemoryContextSwitchTo(old_context);

	for (int i = 0; i < bulk->nrows; i++)
	{
		if (bulk->yield_rows > 0 && i % bulk->yield_rows == 0)
			(void) sched_yield();
		if (bulk->result_rel->ri_NumIndices > 0)
			compat_insert_index_entries(bulk->result_rel, bulk->slots[i], bulk->estate, false,
										false);
		ExecClearTuple(bulk->slots[i]);
	}
	ResetPerTupleExprContext(bulk->estate);
	bulk->nrows = 0;
}

TupleTableSlot *
bulk_next_row(BulkInsert *bulk)
{
	if (bulk->nrows == ROWS_MAX)
		flush(bulk);
	if (bulk->nrows == bulk->nslots)
	{
		bulk->slots[bulk->nslots] =
			MakeSingleTupleTableSlot(bulk->desc, table_slot_callbacks(bulk->relation));
		bulk->nslots++;
	}
	ExecClearTuple(bulk->slots[bulk->nrows]);
	/* a column that the caller does not know, added since, is null */
	memset(bulk->slots[bulk->nrows]->tts_isnull, true, sizeof(bool) * bulk->desc->natts);
	return bulk->slots[bulk->nrows];
}

void
bulk_store_row(BulkInsert *bulk)
{
	ExecStoreVirtualTuple(bulk->slots[bulk->nrows]);
	bulk->nrows++;
}

void
bulk_end(BulkInsert *bulk)
{
	flush(bulk);
	for (int i = 0; i < bulk->nslots; i++)
		ExecDropSingleTupleTableSlot(bulk->slots[i]);
	ExecCloseIndices(bulk->result_rel);
	FreeExecutorState(bulk->estate);
	FreeTupleDesc(bulk->desc);
	table_close(bulk->relation, NoLock);
	pfree(bulk);
	CommandCounterIncrement();
}

void
bulk_set(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = false;
}

void
bulk_set_text(TupleTableSlot *slot, int column, const char *text)
{
	if (text != NULL)
		bulk_set(slot, column, CStringGetTextDatum(text));
}
