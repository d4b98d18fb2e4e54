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
#include "access/xact.h"
#include "catalog/index.h"
#include "store/compat.h"
#include "store/search_path.h"
#include "store/tables.h"
#include "store/user_rules.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define ROWS_MAX       1000
#define SLOTS_KEPT_MAX 64
#define NAMES_MAX      8
#define IDLE_MAX       16 /* each outbox partition is a table, and there is always a next one */

typedef struct ConstantText
{
	const char *name;
	Datum       text;
} ConstantText;

/*
 * What it takes to insert into a table and its indexes is kept from one call to the next: making it
 * anew, with the expressions of partial indexes, took as long as an order's rows. All of it lives
 * in one context and holds nothing of a transaction but the open relations, which bulk_begin and
 * bulk_end see to.
 */
struct BulkInsert
{
	BulkInsert   *next; /* in the list that it is in */
	MemoryContext context;
	Oid           relid;
	int           nest_level; /* of the transaction that uses it */
	bool          is_stale;   /* the table or an index was changed since */
	Relation      relation;
	TupleDesc desc; /* a copy: pinning the relation's own for each slot costs more than the rows */
	EState   *estate;
	ResultRelInfo  *result_rel;
	Oid            *index_ids;
	int             nindexes;
	bool            runs_code; /* an index calls functions of whoever made it */
	UserRules      *rules;
	TupleTableSlot *slots[ROWS_MAX];
	int             nslots;     /* slots made so far */
	int             nrows;      /* slots filled */
	int             nused;      /* of them by whoever uses it now, at most */
	int             yield_rows; /* 0: never */
	ConstantText    names[NAMES_MAX];
	int             nnames;
};

static BulkInsert *idle;
static BulkInsert *in_use;

/* ---------- what is kept ---------- */

static void
take_out(BulkInsert **list, BulkInsert *bulk)
{
	while (*list != bulk)
		list = &(*list)->next;
	*list = bulk->next;
}

/* While it learns its indexes anything may be one of them. */
static bool
depends_on(const BulkInsert *bulk, Oid relid)
{
	if (!OidIsValid(relid) || bulk->relid == relid || bulk->index_ids == NULL)
		return true;
	for (int i = 0; i < bulk->nindexes; i++)
	{
		if (bulk->index_ids[i] == relid)
			return true;
	}
	return false;
}

static void
on_relation_changed(Datum argument, Oid relid)
{
	for (BulkInsert *bulk = idle; bulk != NULL; bulk = bulk->next)
		bulk->is_stale |= depends_on(bulk, relid);
	for (BulkInsert *bulk = in_use; bulk != NULL; bulk = bulk->next)
		bulk->is_stale |= depends_on(bulk, relid);
}

/* A function or a type was changed, which a user's rules may be made of. */
static void
on_code_changed(Datum argument, int cache, uint32 hash)
{
	for (BulkInsert *bulk = idle; bulk != NULL; bulk = bulk->next)
		bulk->is_stale |= user_rules_run_code(bulk->rules);
	for (BulkInsert *bulk = in_use; bulk != NULL; bulk = bulk->next)
		bulk->is_stale |= bulk->rules == NULL || user_rules_run_code(bulk->rules);
}

/* Those that an error has left, with relations and pages that are no longer theirs. */
static void
forget_used(int nest_level)
{
	BulkInsert **link = &in_use;

	while (*link != NULL)
	{
		BulkInsert *bulk = *link;

		if (bulk->nest_level < nest_level)
		{
			link = &bulk->next;
			continue;
		}
		*link = bulk->next;
		MemoryContextDelete(bulk->context);
	}
}

static void
on_transaction_end(XactEvent event, void *argument)
{
	forget_used(0);
}

static void
on_subtransaction_end(SubXactEvent event, SubTransactionId id, SubTransactionId parent,
					  void *argument)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_used(GetCurrentTransactionNestLevel());
}

static void
watch_once(void)
{
	static bool is_watched = false;

	if (is_watched)
		return;
	CacheRegisterRelcacheCallback(on_relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, on_code_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, on_code_changed, (Datum) 0);
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
	is_watched = true;
}

/* ---------- beginning ---------- */

static BulkInsert *
make(Oid relid)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "order_aggregator rows", ALLOCSET_DEFAULT_SIZES);
	BulkInsert *bulk = MemoryContextAllocZero(context, sizeof(BulkInsert));

	bulk->context = context;
	bulk->relid = relid;
	return bulk;
}

/* Learns the table and its indexes. The bodies of SQL functions in their expressions are looked at
 * here, by name. */
static void
open_first(BulkInsert *bulk)
{
	MemoryContext  old_context = MemoryContextSwitchTo(bulk->context);
	ResultRelInfo *result_rel = makeNode(ResultRelInfo);
	int            nest_level = search_path_hide();

	bulk->desc = CreateTupleDescCopy(RelationGetDescr(bulk->relation));
	bulk->estate = CreateExecutorState();
	bulk->result_rel = result_rel;
	/* of no query: it has no range table */
	InitResultRelInfo(result_rel, bulk->relation, 0, NULL, 0);
	ExecOpenIndices(result_rel, false);
	bulk->index_ids = palloc0(sizeof(Oid) * Max(result_rel->ri_NumIndices, 1));
	for (int i = 0; i < result_rel->ri_NumIndices; i++)
		bulk->index_ids[i] = RelationGetRelid(result_rel->ri_IndexRelationDescs[i]);
	bulk->nindexes = result_rel->ri_NumIndices;
	bulk->runs_code = user_rules_indexes_run_code(result_rel);
	bulk->rules = user_rules_learn(result_rel, bulk->estate);
	search_path_show(nest_level);
	MemoryContextSwitchTo(old_context);
}

static void
open_again(BulkInsert *bulk)
{
	bulk->result_rel->ri_RelationDesc = bulk->relation;
	for (int i = 0; i < bulk->nindexes; i++)
		bulk->result_rel->ri_IndexRelationDescs[i] =
			index_open(bulk->index_ids[i], RowExclusiveLock);
}

/* One that is kept for the table and still fits it; NULL if there is none. */
static BulkInsert *
find_kept(Oid relid)
{
	BulkInsert **link = &idle;

	while (*link != NULL)
	{
		BulkInsert *bulk = *link;

		if (bulk->is_stale)
		{
			*link = bulk->next;
			MemoryContextDelete(bulk->context);
		}
		else if (bulk->relid == relid)
		{
			*link = bulk->next;
			return bulk;
		}
		else
			link = &bulk->next;
	}
	return NULL;
}

BulkInsert *
bulk_begin(Oid relid)
{
	/* the lock first: what has changed until then is known afterwards */
	Relation    relation = table_open(relid, RowExclusiveLock);
	BulkInsert *bulk;

	user_rules_refuse_capture(relation);
	watch_once();
	bulk = find_kept(relid);
	if (bulk == NULL)
		bulk = make(relid);
	bulk->relation = relation;
	bulk->nest_level = GetCurrentTransactionNestLevel();
	bulk->nrows = 0;
	bulk->nused = 0;
	bulk->yield_rows = 0;
	/* before an index is opened, which may tell of changes and may fail */
	bulk->next = in_use;
	in_use = bulk;
	if (bulk->result_rel == NULL)
		open_first(bulk);
	else
		open_again(bulk);
	for (int i = 0; i < bulk->nindexes; i++)
	{
		/* what an access method keeps for itself is of the last time */
		bulk->result_rel->ri_IndexRelationInfo[i]->ii_AmCache = NULL;
		bulk->result_rel->ri_IndexRelationInfo[i]->ii_Context = CurrentMemoryContext;
	}
	return bulk;
}

void
bulk_yield(BulkInsert *bulk, int every_rows)
{
	bulk->yield_rows = every_rows;
}

/* What may be deferred is only noted by the index: it is checked here, at once. */
static void
check_again(BulkInsert *bulk, Oid index_id, TupleTableSlot *slot)
{
	ResultRelInfo *result_rel = bulk->result_rel;
	ExprContext   *context = GetPerTupleExprContext(bulk->estate);

	context->ecxt_scantuple = slot;
	for (int i = 0; i < bulk->nindexes; i++)
	{
		Relation   index = result_rel->ri_IndexRelationDescs[i];
		IndexInfo *info = result_rel->ri_IndexRelationInfo[i];
		Datum      values[INDEX_MAX_KEYS];
		bool       nulls[INDEX_MAX_KEYS];

		if (bulk->index_ids[i] != index_id)
			continue;
		FormIndexDatum(info, slot, bulk->estate, values, nulls);
		if (info->ii_ExclusionOps == NULL)
			index_insert(index, values, nulls, &slot->tts_tid, bulk->relation,
						 UNIQUE_CHECK_EXISTING, false, info);
		else
			check_exclusion_constraint(bulk->relation, index, info, &slot->tts_tid, values, nulls,
									   bulk->estate, false);
	}
}

static void
insert_into_indexes(BulkInsert *bulk, TupleTableSlot *slot, bool is_update, bool only_summarizing)
{
	int       nest_level;
	ListCell *again;

	if (bulk->nindexes == 0)
		return;
	nest_level = bulk->runs_code ? search_path_hide() : 0;
	foreach (again, compat_insert_index_entries(bulk->result_rel, slot, bulk->estate, is_update,
												only_summarizing))
		check_again(bulk, lfirst_oid(again), slot);
	search_path_show(nest_level);
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
		insert_into_indexes(bulk, bulk->slots[i], false, false);
		ExecClearTuple(bulk->slots[i]);
	}
	ResetPerTupleExprContext(bulk->estate);
	bulk->nrows = 0;
}

void
bulk_check(BulkInsert *bulk, TupleTableSlot *slot)
{
	user_rules_check(bulk->rules, slot);
	ResetPerTupleExprContext(bulk->estate); /* what was computed is the slot's own now */
}

void
bulk_index(BulkInsert *bulk, TupleTableSlot *slot, bool only_summarizing)
{
	insert_into_indexes(bulk, slot, true, only_summarizing);
	ResetPerTupleExprContext(bulk->estate);
}

TupleTableSlot *
bulk_next_row(BulkInsert *bulk)
{
	if (bulk->nrows == ROWS_MAX)
		flush(bulk);
	if (bulk->nrows == bulk->nslots)
	{
		MemoryContext old_context = MemoryContextSwitchTo(bulk->context);

		bulk->slots[bulk->nslots] =
			MakeSingleTupleTableSlot(bulk->desc, table_slot_callbacks(bulk->relation));
		MemoryContextSwitchTo(old_context);
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
	TupleTableSlot *slot = bulk->slots[bulk->nrows];

	user_rules_fill(bulk->rules, slot);
	ExecStoreVirtualTuple(slot);
	user_rules_check(bulk->rules, slot);
	bulk->nrows++;
	bulk->nused = Max(bulk->nused, bulk->nrows);
}

/* The one that was used last is the first; the last of too many goes. */
static void
keep(BulkInsert *bulk)
{
	BulkInsert **link = &idle;
	int          count = 0;

	bulk->next = idle;
	idle = bulk;
	while (*link != NULL && count < IDLE_MAX)
	{
		link = &(*link)->next;
		count++;
	}
	if (*link != NULL)
	{
		MemoryContextDelete((*link)->context);
		*link = NULL;
	}
}

void
bulk_end(BulkInsert *bulk)
{
	flush(bulk);
	ExecCloseIndices(bulk->result_rel);
	table_close(bulk->relation, NoLock);
	take_out(&in_use, bulk);
	/* a batch's worth of slots is kept for batches, and not for single orders */
	if (bulk->is_stale || bulk->nslots > Max(SLOTS_KEPT_MAX, 2 * bulk->nused))
		MemoryContextDelete(bulk->context);
	else
		keep(bulk);
	CommandCounterIncrement();
}

void
bulk_set(TupleTableSlot *slot, int column, Datum value)
{
	column = table_column(slot->tts_tupleDescriptor, column);
	if (column > slot->tts_tupleDescriptor->natts)
		elog(ERROR, "column %d does not exist", column);
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = false;
}

void
bulk_set_text(TupleTableSlot *slot, int column, const char *text)
{
	if (text != NULL)
		bulk_set(slot, column, CStringGetTextDatum(text));
}

void
bulk_set_name(BulkInsert *bulk, TupleTableSlot *slot, int column, const char *name)
{
	int n = 0;

	while (n < bulk->nnames && bulk->names[n].name != name)
		n++;
	if (n == NAMES_MAX)
	{
		bulk_set_text(slot, column, name);
		return;
	}
	if (n == bulk->nnames)
	{
		MemoryContext old_context = MemoryContextSwitchTo(bulk->context);

		bulk->names[n] = (ConstantText){name, CStringGetTextDatum(name)};
		bulk->nnames++;
		MemoryContextSwitchTo(old_context);
	}
	bulk_set(slot, column, bulk->names[n].text);
}
