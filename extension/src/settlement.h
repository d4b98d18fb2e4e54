/*
 * settlement.h
 *		The end of holds: orders locked with their holds, and what becomes of them.
 */
#ifndef OA_SETTLEMENT_H
#define OA_SETTLEMENT_H

#include "events.h"
#include "order_aggregator.h"
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
	HoldStatus  status;
	HoldStatus  new_status; /* what the caller wants it to become */
	const char *reason;
} Hold;

/* A locked order with all its holds, by vendor, attempt and line. */
typedef struct SettledOrder
{
	OrderFacts facts;
	char      *status;
	char      *strategy;
	bool       allow_partial;
	char      *close_reason;
	Hold      *holds;
	int        nholds;
} SettledOrder;

typedef struct Settlement
{
	SettledOrder *orders; /* by order_id */
	int           norders;
	Hold         *holds;
	int           nholds;
	EventBatch   *events; /* written by settlement_write */
} Settlement;

/*
 * settlement_lock locks the orders, in the order of their ids, and reads their
 * holds; unknown ids are left out. Blocks. Needs SPI.
 */
extern Settlement *settlement_lock(const int64 *order_ids, int count);

/* settlement_find returns the order, or NULL. */
extern SettledOrder *settlement_find(const Settlement *settlement, int64 order_id);

/*
 * settlement_write carries out the holds' new_status: HOLD_CONFIRMED ships the
 * units, HOLD_REJECTED has them sourced anew from other vendors. Orders that
 * have all they wanted become confirmed, those that can no longer be served
 * rejected. Needs SPI.
 */
extern void settlement_write(Settlement *settlement);

/* settlement_close moves the orders to a terminal state; triggers settle their holds. */
extern void settlement_close(const int64 *order_ids, const char **statuses, const char **reasons, int count);

#endif /* OA_SETTLEMENT_H */
