/*
 * held_orders.h
 *		Orders locked and read with their holds, and with the stock that these hold.
 */
#ifndef OA_HELD_ORDERS_H
#define OA_HELD_ORDERS_H

#include "postgres.h"

#include "access/htup.h"
#include "outbox/events.h"
#include "store/compat.h"
#include "store/status.h"
#include "store/stock.h"

/* How the reason of a hold begins that was released because its own vendor rejected it. */
#define VENDOR_REJECTED "rejected by the vendor"

typedef struct Hold
{
	int64       order_id;
	int         line_no;
	char       *vendor_id;
	int         attempt;
	char       *product_id;
	int64       quantity;
	Price       price;
	HoldStatus  status;
	HoldStatus  new_status; /* what the caller wants it to become */
	const char *reason;
	bool        is_taken; /* with HOLD_REJECTED: we take it from the vendor, who must be told */
	HeapTuple   tuple;    /* as it was found */
} Hold;

/* What the hold is, with what this settlement will make of it. */
static inline HoldStatus
hold_current_status(const Hold *hold)
{
	return hold->new_status != HOLD_UNCHANGED ? hold->new_status : hold->status;
}

/* A locked order with all its holds, by vendor, attempt and line. */
typedef struct SettledOrder
{
	OrderFacts  facts;
	OrderStatus status;
	char       *strategy;
	bool        allow_partial;
	char       *close_reason;
	OrderStatus new_status; /* the end that the caller, or a settlement of all its holds, gives it
							 */
	const char *new_reason;
	bool        stays_if_unserved; /* what no other vendor can serve whole stays where it is */
	bool        is_busy;           /* set aside: another transaction has locked stock of it */
	Numeric     total;
	Numeric     new_total; /* NULL: unchanged */
	Hold       *holds;
	int         nholds;
	HeapTuple   tuple; /* as it was locked */
} SettledOrder;

typedef struct Settlement
{
	SettledOrder *orders; /* by order_id */
	int           norders;
	Hold         *holds;
	int           nholds;
	EventBatch   *events; /* written by settlement_write */
	bool          skip_locked;
	int64        *busy_order_ids; /* those that another transaction has locked */
	int           nbusy;
	int64         newest_order_id; /* 0: not read yet */
} Settlement;

/* order_ids_sort sorts them and leaves out what is there twice; returns how many are left. */
extern int order_ids_sort(int64 *order_ids, int count);

/*
 * settlement_lock locks the orders, in the order of their ids, and reads their
 * holds; unknown ids are left out, and one may be given repeatedly. Blocks on what
 * other transactions have locked, and so does settlement_write, unless
 * skip_locked: then what they have locked is set aside.
 */
extern Settlement *settlement_lock(const int64 *order_ids, int count, bool skip_locked);

/* settlement_is_busy: was the order set aside, by settlement_lock or by settlement_write? */
extern bool settlement_is_busy(const Settlement *settlement, int64 order_id);

/* settlement_unknown_order: ERROR OA005. */
pg_noreturn extern void settlement_unknown_order(int64 order_id);

/* settlement_find returns the order, or NULL. */
extern SettledOrder *settlement_find(const Settlement *settlement, int64 order_id);

/* order_has_rejection: has a vendor rejected a hold of it? order_keeps_a_hold, hold_is_kept: what
 * is open or confirmed, and stays so? */
extern bool order_has_rejection(const SettledOrder *order);
extern bool order_keeps_a_hold(const SettledOrder *order);
extern bool hold_is_kept(const Hold *hold);

/* settlement_lock_stock locks every stock row that the settlement may change; *has_all_offers: of
 * some products, which may be sourced anew, all rows. */
extern StockRows *settlement_lock_stock(const Settlement *settlement, bool *has_all_offers);

/* settlement_set_busy_aside sets aside the orders that need stock which another transaction has
 * locked. */
extern void settlement_set_busy_aside(Settlement *settlement, const StockRows *stock);

/* hold_stock returns the locked row that the hold is of; hold_apply_to_stock moves its units as its
 * new status asks. */
extern StockRow *hold_stock(const StockRows *stock, const Hold *hold);
extern void      hold_apply_to_stock(StockRows *stock, const Hold *hold);

#endif /* OA_HELD_ORDERS_H */
