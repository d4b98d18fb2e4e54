/*
 * compat.h
 *		What differs between the server's versions, 15 to 18.
 *
 * Nothing else looks at PG_VERSION_NUM. What 19 is known to change is written at its place.
 */
#ifndef OA_COMPAT_H
#define OA_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* 18 puts it before the declaration, and has no pg_attribute_noreturn() behind it any more. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/* Since 17 a partition gets the identity of the table when it is attached, and may bring none. */
#if PG_VERSION_NUM >= 170000
#define COMPAT_IDENTITY_IN_PARTITION " EXCLUDING IDENTITY"
#else
#define COMPAT_IDENTITY_IN_PARTITION ""
#endif

/* What an update leaves to be done in the indexes: nothing, all, or, since 16, only in those that
 * summarize. */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes IndexesToUpdate;
#define INDEXES_NONE TU_None
#else
typedef bool IndexesToUpdate;
#define INDEXES_NONE false
#endif

static inline bool
compat_only_summarizing(IndexesToUpdate indexes)
{
#if PG_VERSION_NUM >= 160000
	return indexes == TU_Summarizing;
#else
	return false;
#endif
}

/* compat_insert_index_entries makes the row of the slot known to its table's indexes; returns those
 * that are to be checked again. */
static inline List *
compat_insert_index_entries(ResultRelInfo *result_rel, TupleTableSlot *slot, EState *estate,
							bool is_update, bool only_summarizing)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(result_rel, slot, estate, is_update, false, NULL, NIL,
								 only_summarizing);
#else
	return ExecInsertIndexTuples(result_rel, slot, estate, is_update, false, NULL, NIL);
#endif
}

static inline IndexScanDesc
compat_index_beginscan(Relation table, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(table, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(table, index, snapshot, nkeys, 0);
#endif
}

/* The leaf where the key is, read-locked; InvalidBuffer if the index is empty. 19 takes another
 * argument: whether the stack is wanted. */
static inline BTStack
compat_bt_search(Relation index, BTScanInsert key, Buffer *leaf)
{
#if PG_VERSION_NUM >= 170000
	return _bt_search(index, NULL, key, leaf, BT_READ);
#elif PG_VERSION_NUM >= 160000
	return _bt_search(index, NULL, key, leaf, BT_READ, GetActiveSnapshot());
#else
	return _bt_search(index, key, leaf, BT_READ, GetActiveSnapshot());
#endif
}

/* A small number that no other session has now. */
static inline int
compat_session_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyBackendId;
#endif
}

/* Columns that are computed where they are read, which 18 has. */
static inline bool
compat_has_virtual_columns(TupleDesc desc)
{
#if PG_VERSION_NUM >= 180000
	return desc->constr != NULL && desc->constr->has_generated_virtual;
#else
	return false;
#endif
}

/* The table's primary key, which is none that could be deferred. */
static inline Oid
compat_primary_key(Relation table)
{
#if PG_VERSION_NUM >= 180000
	return RelationGetPrimaryKeyIndex(table, false);
#else
	return RelationGetPrimaryKeyIndex(table);
#endif
}

#endif /* OA_COMPAT_H */
