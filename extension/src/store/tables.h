/*
 * tables.h
 *		The extension's own tables: their columns, counted from 1 as the install script
 *		defines them (extension/sql/tables.sql), and its advisory locks.
 */
#ifndef OA_TABLES_H
#define OA_TABLES_H

#include "postgres.h"

#include "access/tupdesc.h"

#define OA_SCHEMA "order_aggregator"

/* table_oid returns the oid of one of the extension's own tables or sequences; ERROR if there is
 * none. */
extern Oid table_oid(const char *table_name);

/* find_table is table_oid that looks anew, InvalidOid if there is none: a partition may not be made
 * yet, and what a later version has is not there before ALTER EXTENSION UPDATE. */
extern Oid find_table(const char *table_name);

/*
 * lock_for_writing(name, ...) locks tables that are about to be written, and must come before
 * anything in them is read: REINDEX keeps writers out of a table and then everybody out of its
 * indexes, and who has read by an index and writes then deadlocks with it.
 */
#define lock_for_writing(...) lock_tables_for_writing((const char *const[]){__VA_ARGS__, NULL})
extern void lock_tables_for_writing(const char *const *names);

/*
 * table_column returns the number of a column of ours. It is another than that of a fresh
 * installation if the table had columns of a user's before ALTER EXTENSION UPDATE added it, or
 * larger than any if it is not there yet.
 */
extern int table_columns_moved;
extern int table_moved_column(Oid row_type, int column);
static inline int
table_column(TupleDesc desc, int column)
{
	return table_columns_moved == 0 ? column : table_moved_column(desc->tdtypeid, column);
}

/* has_column: a table of an earlier version may lack columns until ALTER EXTENSION UPDATE. */
extern bool has_column(const char *table_name, int column);

/* require_column raises 55000 if the table has no such column: the library is newer than the
 * tables, as between installing a version and ALTER EXTENSION UPDATE. */
extern void require_column(const char *table_name, int column);

/* Advisory locks. In pg_locks: locktype advisory, classid 28513, objid the number, objsubid 3. */
#define OWN_LOCK_CLASS 28513

typedef enum OwnLock
{
	OWN_LOCK_RELAY_LEADS = 1, /* by the session of the relay that is at work */
	OWN_LOCK_RELAY_SLEEPS,    /* by the same while it waits for the doorbell (doorbell.c) */
	OWN_LOCK_SHORTAGES = 4,   /* while shortages are settled (shortage.c) */
	OWN_LOCK_TIMELINE         /* while order ids jump (order_ids.c) */
} OwnLock;

enum VendorColumn
{
	VENDOR_COLUMN_VENDOR_ID = 1,
	VENDOR_COLUMN_VENDOR_NO,
	VENDOR_COLUMN_PRIORITY = 5,
	VENDOR_COLUMN_IS_ACTIVE,
	VENDOR_COLUMN_BUFFER,
	VENDOR_COLUMN_STALE_AT = 23,
	VENDOR_COLUMN_CONFIRMED_AT = 25,
	VENDOR_COLUMN_FEED_CONFIG_NO = 35
};

enum ProductColumn
{
	PRODUCT_COLUMN_NAME = 2,
	PRODUCT_COLUMN_BUFFER = 4,
	PRODUCT_COLUMN_LOW_THRESHOLD,
	PRODUCT_COLUMN_LANES,
	PRODUCT_COLUMN_LANES_MAX
};

enum ProductMapColumn
{
	PRODUCT_MAP_COLUMN_VENDOR_SKU = 2,
	PRODUCT_MAP_COLUMN_PRODUCT_ID
};

enum StockColumn
{
	STOCK_COLUMN_PRODUCT_ID = 1,
	STOCK_COLUMN_VENDOR_ID,
	STOCK_COLUMN_VENDOR_SKU,
	STOCK_COLUMN_PRICE,
	STOCK_COLUMN_ON_HAND,
	STOCK_COLUMN_RESERVED,
	STOCK_COLUMN_BUFFER,
	STOCK_COLUMN_IS_ACTIVE,
	STOCK_COLUMN_AS_OF,
	STOCK_COLUMN_LOW_THRESHOLD,
	STOCK_COLUMN_LAST_SHIPPED_AT,
	STOCK_COLUMN_IS_PRICED,
	STOCK_COLUMN_COUNTED,
	STOCK_COLUMN_LANES,
	STOCK_COLUMN_LANES_MAX,
	STOCK_COLUMN_IN_LANES
};

enum StockLaneColumn
{
	STOCK_LANE_COLUMN_PRODUCT_ID = 1,
	STOCK_LANE_COLUMN_VENDOR_ID,
	STOCK_LANE_COLUMN_LANE,
	STOCK_LANE_COLUMN_FREE,
	STOCK_LANE_COLUMN_RESERVED
};

enum OrdersColumn
{
	ORDERS_COLUMN_ORDER_ID = 1,
	ORDERS_COLUMN_CUSTOMER_ID,
	ORDERS_COLUMN_STATUS,
	ORDERS_COLUMN_TOTAL_AMOUNT,
	ORDERS_COLUMN_STRATEGY,
	ORDERS_COLUMN_ALLOW_PARTIAL,
	ORDERS_COLUMN_PLACED_AT,
	ORDERS_COLUMN_EXPIRES_AT,
	ORDERS_COLUMN_CLOSED_AT,
	ORDERS_COLUMN_CLOSE_REASON,
	ORDERS_COLUMN_TRACEPARENT
};

enum OrderLineColumn
{
	ORDER_LINE_COLUMN_ORDER_ID = 1,
	ORDER_LINE_COLUMN_LINE_NO,
	ORDER_LINE_COLUMN_PRODUCT_ID,
	ORDER_LINE_COLUMN_QUANTITY
};

enum HoldColumn
{
	HOLD_COLUMN_ORDER_ID = 1,
	HOLD_COLUMN_LINE_NO,
	HOLD_COLUMN_VENDOR_ID,
	HOLD_COLUMN_ATTEMPT,
	HOLD_COLUMN_PRODUCT_ID,
	HOLD_COLUMN_QUANTITY,
	HOLD_COLUMN_UNIT_PRICE,
	HOLD_COLUMN_STATUS,
	HOLD_COLUMN_HELD_AT,
	HOLD_COLUMN_SETTLED_AT,
	HOLD_COLUMN_REASON
};

enum VendorRetryColumn
{
	VENDOR_RETRY_COLUMN_VENDOR_ID = 2,
	VENDOR_RETRY_COLUMN_ATTEMPT,
	VENDOR_RETRY_COLUMN_RETRIED_AT
};

enum OrderReturnColumn
{
	ORDER_RETURN_COLUMN_RETURN_ID = 1,
	ORDER_RETURN_COLUMN_LINE_NO = 3,
	ORDER_RETURN_COLUMN_VENDOR_ID,
	ORDER_RETURN_COLUMN_PRODUCT_ID = 6,
	ORDER_RETURN_COLUMN_QUANTITY,
	ORDER_RETURN_COLUMN_UNIT_PRICE,
	ORDER_RETURN_COLUMN_RESTOCKED,
	ORDER_RETURN_COLUMN_RETURNED_AT
};

enum OutboxColumn
{
	OUTBOX_COLUMN_EVENT_ID = 1,
	OUTBOX_COLUMN_TXID,
	OUTBOX_COLUMN_MESSAGE_ID,
	OUTBOX_COLUMN_ORDER_ID,
	OUTBOX_COLUMN_ROUTING_KEY,
	OUTBOX_COLUMN_MANDATORY,
	OUTBOX_COLUMN_HEADERS,
	OUTBOX_COLUMN_PAYLOAD,
	OUTBOX_COLUMN_CREATED_AT
};

#endif /* OA_TABLES_H */
