/*
 * stock_scan.h
 *		Stock rows and what is to be known of their vendors, read in order and locked or not.
 */
#ifndef OA_STOCK_SCAN_H
#define OA_STOCK_SCAN_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "store/rows.h"
#include "store/stock.h"

/* The rows that one call reads and locks. */
typedef struct Locking
{
	RowScan              stock;
	RowScan              vendor;
	struct vendors_hash *vendors; /* by their ids */
	StockRows           *rows;
	int                  room;
	int                  busy_room;
	bool                 skip_locked;
	int64                waited_us; /* for rows of others' */
	TimestampTz          now;
} Locking;

extern void       locking_begin(Locking *locking, int expected, bool skip_locked);
extern StockRows *locking_end(Locking *locking);

/* locking_see_latest: from now on it sees what has been committed while it waited. */
extern void locking_see_latest(Locking *locking);

/* locking_add_row adds what the slot has as the next row; the tuple is for changing it. */
extern void locking_add_row(Locking *locking, TupleTableSlot *slot, HeapTuple tuple);
extern void locking_add_busy(Locking *locking, const char *product_id, const char *vendor_id);

/* locking_lock_row locks the row that was found and adds it; true if another transaction had it. */
extern bool locking_lock_row(Locking *locking);

#endif /* OA_STOCK_SCAN_H */
