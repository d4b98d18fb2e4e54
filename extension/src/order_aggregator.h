/*
 * order_aggregator.h
 *		What all rooms of the extension share: error codes and settings.
 */
#ifndef ORDER_AGGREGATOR_H
#define ORDER_AGGREGATOR_H

#include "postgres.h"

#include "sourcing.h"

#define OA_SCHEMA "order_aggregator"

/*
 * Advisory locks of our own, in a space that pg_advisory_lock() cannot reach: what anyone may take, nobody must wait for.
 * In pg_locks: locktype advisory, classid 28513, objid the number, objsubid 3.
 */
typedef enum OwnLock
{
	OWN_LOCK_RELAY_LEADS = 1, /* by the session of the relay that is at work */
	OWN_LOCK_RELAY_SLEEPS,    /* by the same while it waits for the doorbell (outbox.c) */
	OWN_LOCK_SHORTAGES = 4    /* while shortages are settled (shortage.c) */
} OwnLock;

#define ERRCODE_OA_INSUFFICIENT_STOCK MAKE_SQLSTATE('O', 'A', '0', '0', '1')
#define ERRCODE_OA_UNKNOWN_PRODUCT    MAKE_SQLSTATE('O', 'A', '0', '0', '2')
#define ERRCODE_OA_KEY_REUSED         MAKE_SQLSTATE('O', 'A', '0', '0', '3')
#define ERRCODE_OA_STATE              MAKE_SQLSTATE('O', 'A', '0', '0', '4')
#define ERRCODE_OA_UNKNOWN_SUBJECT    MAKE_SQLSTATE('O', 'A', '0', '0', '5')

#define QUANTITY_MAX       INT64CONST(1000000000)
#define ON_HAND_MAX        INT64CONST(1000000000000)
#define BATCH_REQUESTS_MAX 10000
#define BATCH_LINES_MAX    200000
#define ID_CHARS_MAX       128
#define KEY_CHARS_MAX      255
#define REASON_CHARS_MAX   1000

/* settings, order_aggregator.* */
extern int   guc_hold_for_s;
extern int   guc_hold_for_max_s;
extern int   guc_strategy;
extern int   guc_max_lines;
extern int   guc_max_attempts;
extern int   guc_expiry_grace_s;
extern int   guc_max_vendors_per_order;
extern int   guc_low_stock;
extern char *guc_traceparent;

/*
 * try_own_lock takes one of our locks until the end of the transaction, or, for_session,
 * until release_own_lock or the end of the session; false if another session has it.
 * own_lock waits for it. someone_holds_own_lock waits for nobody and keeps nothing.
 */
extern bool try_own_lock(OwnLock lock, bool for_session);
extern void own_lock(OwnLock lock, bool for_session);
extern void release_own_lock(OwnLock lock);
extern bool someone_holds_own_lock(OwnLock lock);

/* table_oid returns the oid of one of the extension's own tables; ERROR if there is none. */
extern Oid table_oid(const char *table_name);

#endif /* ORDER_AGGREGATOR_H */
