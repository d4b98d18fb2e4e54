/*
 * settlement.h
 *		The end of holds: orders locked with their holds, and what becomes of them.
 */
#ifndef OA_SETTLEMENT_H
#define OA_SETTLEMENT_H

#include "order_aggregator.h"

#include "access/htup.h"
#include "events.h"
#include "stock.h"

typedef enum HoldStatus
{
	HOLD_UNCHANGED, /* as a new status only */
	HOLD_OPEN,
	HOLD_CONFIRMED,
	HOLD_REJECTED,
	HOLD_RELEASED,
	HOLD_RETURNED
} HoldStatus;

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

extern const char *hold_status_name(HoldStatus status);

/* A locked order with all its holds, by vendor, attempt and line. */
typedef struct SettledOrder
{
	OrderFacts  facts;
	char       *status;
	char       *strategy;
	bool        allow_partial;
	char       *close_reason;
	const char *new_status; /* the end that the caller, or a settlement of all its holds, gives it; NULL: none */
	const char *new_reason;
	bool        keeps_unserved; /* what no other vendor can serve whole stays where it is */
	bool        is_busy;        /* set aside: another transaction has locked stock of it */
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
} Settlement;

/*
 * settlement_lock locks the orders, in the order of their ids, and reads their
 * holds; unknown ids are left out, and one may be given repeatedly. Blocks on what
 * other transactions have locked, and so does settlement_write, unless
 * skip_locked: then what they have locked is set aside.
 */
extern Settlement *settlement_lock(const int64 *order_ids, int count, bool skip_locked);

/* settlement_is_busy: was the order set aside, by settlement_lock or by settlement_write? */
extern bool settlement_is_busy(const Settlement *settlement, int64 order_id);

/* settlement_find returns the order, or NULL. */
extern SettledOrder *settlement_find(const Settlement *settlement, int64 order_id);

/*
 * settlement_write carries out what the caller has decided. The holds'
 * new_status: HOLD_CONFIRMED ships the units, HOLD_REJECTED has them sourced anew
 * from other vendors. The orders' new_status: their holds are settled as it asks.
 * Orders that have all they wanted become confirmed, those that can no longer be
 * served rejected. Writes their events. Orders that are set aside stay as they
 * were, and have is_busy. Needs SPI.
 */
extern void settlement_write(Settlement *settlement);

/*
 * settlement_touch_orders writes the order rows as they are, so that a
 * transaction with an older snapshot fails instead of missing what was written
 * about these orders elsewhere.
 */
extern void settlement_touch_orders(Settlement *settlement);

#endif /* OA_SETTLEMENT_H */
