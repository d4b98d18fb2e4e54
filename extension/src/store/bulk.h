/*
 * bulk.h
 *		Writing many rows into one of the extension's own tables, as COPY does.
 */
#ifndef OA_BULK_H
#define OA_BULK_H

#include "postgres.h"

#include "executor/tuptable.h"

typedef struct BulkInsert BulkInsert;

/*
 * bulk_begin opens the table and its indexes with RowExclusiveLock. Rows are
 * written without row triggers; of CHECK constraints and defaults only those of users count
 * (user_rules.h): the caller builds a row right by construction. Unique indexes do check, those
 * that may be deferred at once.
 */
extern BulkInsert *bulk_begin(Oid relid);

/*
 * bulk_yield has the inserts into indexes yield the processor every so many
 * rows: for work that must not hold up what customers wait for.
 */
extern void bulk_yield(BulkInsert *bulk, int every_rows);

/*
 * bulk_next_row returns a slot of nulls: fill it in with bulk_set and bulk_set_text,
 * then call bulk_store_row. The values must live until the next
 * bulk_end, or the 1000th row, whichever is first.
 */
extern TupleTableSlot *bulk_next_row(BulkInsert *bulk);
extern void            bulk_store_row(BulkInsert *bulk);

/* bulk_set gives a column, counted from 1, its value; bulk_set_text a copy of a text, which may be
 * NULL. */
extern void bulk_set(TupleTableSlot *slot, int column, Datum value);
extern void bulk_set_text(TupleTableSlot *slot, int column, const char *text);

/* bulk_set_name is bulk_set_text of a constant, which is made a text only once. */
extern void bulk_set_name(BulkInsert *bulk, TupleTableSlot *slot, int column, const char *name);

/* bulk_check computes what users have added to a row that is updated otherwise, and checks it. */
extern void bulk_check(BulkInsert *bulk, TupleTableSlot *slot);

/* bulk_index makes the new version of a row, which was updated otherwise, known to the indexes. */
extern void bulk_index(BulkInsert *bulk, TupleTableSlot *slot, bool only_summarizing);

/* bulk_end writes what is left, closes all, and makes the rows visible to later commands. */
extern void bulk_end(BulkInsert *bulk);

#endif /* OA_BULK_H */
