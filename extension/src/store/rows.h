/*
 * rows.h
 *		Rows of the extension's own tables by key: found, locked and updated.
 */
#ifndef OA_ROWS_H
#define OA_ROWS_H

#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "nodes/lockoptions.h"
#include "store/bulk.h"
#include "store/index_places.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A lookup by the leading columns of one of a table's indexes. */
typedef struct RowScan
{
	Relation         table;
	const char      *index_name;
	Relation         index; /* NULL until something is looked up by it */
	IndexScanDesc    scan;
	MemoryContext    context; /* where the lookup lives: that of row_scan_begin */
	TupleTableSlot  *found;
	const Datum     *keys; /* of row_scan_locate */
	int              ncolumns;
	RegProcedure     equals;
	KeyPlaces       *located; /* NULL: each is to be looked up */
	ItemPointerData *places;
	int              next_place; /* of the key that is being read, if it is read by its places */
	int              end_place;
	bool             has_dead;    /* entries of the key that nobody sees any more */
	int              current;     /* that key; -1: by the index */
	ItemPointerData  place;       /* where the index says that the row found last is */
	TupleTableSlot  *locked;      /* the last version of a row that was locked; NULL before */
	Snapshot         snapshot;    /* NULL: the active one; set it after row_scan_begin */
	bool             skip_locked; /* rows that others have locked are not waited for; set it after
									 row_scan_begin */
	bool is_busy;                 /* the last row was one */
} RowScan;

/*
 * row_scan_begin opens the table with the given lock and one of its indexes
 * (NULL: the primary key). Of a partial index only the rows in it are found. It
 * sees what the active snapshot sees: rows_see_latest() pushes one that sees all
 * that is committed now and all that this transaction has written (at REPEATABLE
 * READ, what had been committed when it began); pop it after row_scan_end.
 */
extern void rows_see_latest(void);
extern void row_scan_begin(RowScan *scan, const char *table_name, const char *index_name,
						   LOCKMODE mode);
extern void row_scan_end(RowScan *scan);

/* row_scan_renew: the next lookup sees what the snapshot that is active then sees. */
extern void row_scan_renew(RowScan *scan);

/* row_scan_find begins with another key; row_scan_find_text and row_scan_find_int8 with one column
 * of it, row_scan_find_texts with two. */
extern void row_scan_find(RowScan *scan, ScanKeyData *keys, int nkeys);
extern void row_scan_find_text(RowScan *scan, const char *key);
extern void row_scan_find_texts(RowScan *scan, const char *first, const char *second);
extern void row_scan_find_int8(RowScan *scan, int64 key);

/*
 * row_scan_locate looks up many keys at once, each of so many columns, which "equals" compares:
 * distinct, ascending, and there until row_scan_end. row_scan_find_located then begins with the nth
 * of them, which costs less than a lookup of its own.
 */
extern void row_scan_locate(RowScan *scan, const Datum *keys, int ncolumns, int nkeys,
							RegProcedure equals);
extern void row_scan_find_located(RowScan *scan, int n);

/*
 * row_scan_next returns the next row in the order of the key, NULL after the
 * last. row_scan_lock_found locks it FOR NO KEY UPDATE, waiting for whoever
 * holds it, and returns its last version; NULL if it was deleted meanwhile.
 * ERROR 40001 at REPEATABLE READ if the row was changed since. With
 * skip_locked it waits for nobody: of a row that another transaction has locked
 * is_busy is set, and what it returns is the row as it was found.
 * row_scan_next_locked is both, and passes over what was deleted.
 */
extern TupleTableSlot *row_scan_next(RowScan *scan);
extern TupleTableSlot *row_scan_lock_found(RowScan *scan);
extern TupleTableSlot *row_scan_next_locked(RowScan *scan);

/* row_scan_unpin lets go of the page of the row that was found last: it is not to be looked at any
 * more. A page that is pinned cannot be pruned. */
extern void row_scan_unpin(RowScan *scan);

/*
 * row_scan_get_text returns the one row whose column, the whole key of the index, is that; NULL if
 * there is none. It looks first at *place, where it was when it was asked for the last time, and
 * sets it; a place that was never set is all zeros.
 */
extern TupleTableSlot *row_scan_get_text(RowScan *scan, int column, const char *key,
										 ItemPointerData *place);

typedef enum RowLocked
{
	ROW_LOCKED,
	ROW_BUSY,    /* another transaction has locked it; only with LockWaitSkip */
	ROW_CHANGED, /* there is a later version; nothing is locked */
	ROW_GONE
} RowLocked;

/*
 * row_scan_lock locks the row that was found last, FOR NO KEY UPDATE. Follow: its last version,
 * whatever has become of it (not at REPEATABLE READ); else that one version or nothing, so that
 * what was read of it is what is locked.
 */
extern RowLocked row_scan_lock(RowScan *scan, LockWaitPolicy wait, bool follow);

/* row_serialization_failure raises ERROR 40001. */
extern void row_serialization_failure(Relation table);

/*
 * Columns of a slot; text is palloc'd, and NULL if null. Of row_int64 and row_bool a null is
 * if_null, and so is a column that the table does not have before ALTER EXTENSION UPDATE.
 */
extern Datum row_get(TupleTableSlot *slot, int column, bool *is_null);
extern Datum row_column(TupleTableSlot *slot, int column);
extern int64 row_int64(TupleTableSlot *slot, int column, int64 if_null);
extern bool  row_bool(TupleTableSlot *slot, int column, bool if_null);
extern char *row_text(TupleTableSlot *slot, int column);

#define ROW_UPDATE_COLUMNS_MAX 8

/* Updates of rows, which this transaction has locked but for row_try_replace. */
typedef struct RowUpdate
{
	Relation        table;
	TupleTableSlot *slot;
	bool            is_checked; /* users have rules about it */
	BulkInsert     *indexes;    /* once an update is not HOT, or is_checked */
} RowUpdate;

/*
 * row_update replaces some columns, ROW_UPDATE_COLUMNS_MAX at most, of a row as it was found; no
 * trigger looks at it, and no CHECK but a user's (user_rules.h): the caller builds it right by
 * construction. ERROR 40001 if
 * someone has changed it since, which a lock prevents. row_update_end makes the
 * changes visible to later commands.
 */
extern void row_update_begin(RowUpdate *update, const char *table_name);
extern void row_update(RowUpdate *update, HeapTuple row, int ncolumns, int *columns, Datum *values,
					   bool *nulls);
extern void row_update_end(RowUpdate *update);

/* row_replace is row_update that returns the new row, palloc'd: after row_update_end it may be
 * changed again. */
extern HeapTuple row_replace(RowUpdate *update, HeapTuple row, int ncolumns, int *columns,
							 Datum *values, bool *nulls);

/* row_try_replace is row_replace of a row that need not be locked: NULL, and nothing done, if
 * another transaction has locked it or changed it since it was found. */
extern HeapTuple row_try_replace(RowUpdate *update, HeapTuple row, int ncolumns, int *columns,
								 Datum *values, bool *nulls);

#endif /* OA_ROWS_H */
