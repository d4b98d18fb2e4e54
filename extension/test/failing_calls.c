/*
 * failing_calls.c
 *		Linked with the extension for a test (--wrap): of its calls into the server the nth
 *		raises "out of memory", as any of them may.
 *
 *		SELECT fail_call(n); SELECT place_order(...); SELECT has_failed();
 *
 * What fails is told before it has done anything. Calls that cannot raise are not here, nor some
 * that differ from one version of PostgreSQL to the next (those below index scans and pages).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/async.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(fail_call);
PG_FUNCTION_INFO_V1(has_failed);

static int64 calls_left; /* until one fails; 0: none does */
static bool  is_done;

Datum
fail_call(PG_FUNCTION_ARGS)
{
	calls_left = PG_GETARG_INT64(0);
	is_done = false;
	PG_RETURN_VOID();
}

/* None fails any more. */
Datum
has_failed(PG_FUNCTION_ARGS)
{
	calls_left = 0;
	PG_RETURN_BOOL(is_done);
}

static void
count_call(const char *name)
{
	if (calls_left == 0 || --calls_left > 0)
		return;
	is_done = true;
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory in %s", name)));
}

/* The Makefile reads the names from these lines. */
#define FAILS(result, name, parameters, arguments)                                                 \
	extern result __real_##name parameters;                                                        \
	extern result __wrap_##name parameters;                                                        \
	result __wrap_##name parameters                                                                \
	{                                                                                              \
		count_call(#name);                                                                         \
		return __real_##name arguments;                                                            \
	}

/* clang-format off */

/* memory */
FAILS(void *, palloc, (Size size), (size))
FAILS(void *, palloc0, (Size size), (size))
FAILS(void *, repalloc, (void *chunk, Size size), (chunk, size))
FAILS(void *, repalloc_huge, (void *chunk, Size size), (chunk, size))
FAILS(void *, MemoryContextAlloc, (MemoryContext context, Size size), (context, size))
FAILS(void *, MemoryContextAllocZero, (MemoryContext context, Size size), (context, size))
FAILS(void *, MemoryContextAllocHuge, (MemoryContext context, Size size), (context, size))
FAILS(void *, MemoryContextAllocExtended, (MemoryContext context, Size size, int flags), (context, size, flags))
FAILS(MemoryContext, AllocSetContextCreateInternal, (MemoryContext parent, const char *name, Size min, Size init, Size max), (parent, name, min, init, max))
FAILS(char *, pstrdup, (const char *text), (text))
FAILS(char *, pnstrdup, (const char *text, Size len), (text, len))
FAILS(char *, text_to_cstring, (const text *value), (value))
FAILS(text *, cstring_to_text, (const char *text), (text))
FAILS(text *, cstring_to_text_with_len, (const char *text, int len), (text, len))
FAILS(void, initStringInfo, (StringInfo buffer), (buffer))
FAILS(void, appendStringInfoString, (StringInfo buffer, const char *text), (buffer, text))
FAILS(void, appendStringInfoChar, (StringInfo buffer, char c), (buffer, c))
FAILS(void, escape_json, (StringInfo buffer, const char *text), (buffer, text))

/* tables */
FAILS(Relation, table_open, (Oid id, LOCKMODE lock), (id, lock))
FAILS(Relation, index_open, (Oid id, LOCKMODE lock), (id, lock))
FAILS(List *, RelationGetIndexList, (Relation table), (table))
FAILS(Oid, get_relname_relid, (const char *name, Oid schema), (name, schema))
FAILS(LockAcquireResult, LockAcquire, (const LOCKTAG *tag, LOCKMODE lock, bool session, bool dont_wait), (tag, lock, session, dont_wait))
FAILS(void, LockRelationOid, (Oid id, LOCKMODE lock), (id, lock))
FAILS(Buffer, ReadBuffer, (Relation table, BlockNumber block), (table, block))
FAILS(ItemPointer, index_getnext_tid, (IndexScanDesc scan, ScanDirection direction), (scan, direction))
FAILS(void, index_rescan, (IndexScanDesc scan, ScanKey keys, int nkeys, ScanKey orderbys, int norderbys), (scan, keys, nkeys, orderbys, norderbys))
FAILS(TupleTableSlot *, table_slot_create, (Relation table, List **slots), (table, slots))
FAILS(TupleTableSlot *, MakeSingleTupleTableSlot, (TupleDesc row, const TupleTableSlotOps *ops), (row, ops))
FAILS(TupleDesc, CreateTupleDescCopy, (TupleDesc row), (row))
FAILS(HeapTuple, heap_modify_tuple_by_cols, (HeapTuple tuple, TupleDesc row, int count, int *columns, Datum *values, bool *nulls), (tuple, row, count, columns, values, nulls))
FAILS(void, tuplestore_putvalues, (Tuplestorestate *store, TupleDesc row, Datum *values, bool *nulls), (store, row, values, nulls))
FAILS(int64, nextval_internal, (Oid sequence, bool checked), (sequence, checked))
FAILS(void, Async_Notify, (const char *channel, const char *payload), (channel, payload))
FAILS(void, RegisterXactCallback, (XactCallback callback, void *arg), (callback, arg))
FAILS(void, CommandCounterIncrement, (void), ())

/* the executor */
FAILS(EState *, CreateExecutorState, (void), ())
FAILS(void, ExecOpenIndices, (ResultRelInfo *table, bool speculative), (table, speculative))
FAILS(Snapshot, GetTransactionSnapshot, (void), ())
FAILS(void, PushActiveSnapshot, (Snapshot snapshot), (snapshot))
FAILS(int, SPI_connect, (void), ())
FAILS(SPIPlanPtr, SPI_prepare, (const char *sql, int nargs, Oid *types), (sql, nargs, types))
FAILS(int, SPI_keepplan, (SPIPlanPtr plan), (plan))
FAILS(int, SPI_execute_plan, (SPIPlanPtr plan, Datum *values, const char *nulls, bool read_only, long count), (plan, values, nulls, read_only, count))
FAILS(int, SPI_execute, (const char *sql, bool read_only, long count), (sql, read_only, count))

/* values */
FAILS(Datum, DirectFunctionCall1Coll, (PGFunction function, Oid collation, Datum a), (function, collation, a))
FAILS(Datum, DirectFunctionCall2Coll, (PGFunction function, Oid collation, Datum a, Datum b), (function, collation, a, b))
FAILS(Datum, DirectFunctionCall3Coll, (PGFunction function, Oid collation, Datum a, Datum b, Datum c), (function, collation, a, b, c))
FAILS(struct varlena *, pg_detoast_datum, (struct varlena *datum), (datum))
FAILS(struct varlena *, pg_detoast_datum_packed, (struct varlena *datum), (datum))
FAILS(ArrayType *, construct_array, (Datum *values, int count, Oid type, int len, bool by_value, char align), (values, count, type, len, by_value, align))
FAILS(JsonbValue *, pushJsonbValue, (JsonbParseState **state, JsonbIteratorToken token, JsonbValue *value), (state, token, value))
FAILS(Jsonb *, JsonbValueToJsonb, (JsonbValue *value), (value))
