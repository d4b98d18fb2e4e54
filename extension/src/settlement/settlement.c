/*
 * settlement.c
 *		The end of holds and orders: decided in memory, written once (confirm, release, close).
 *
 * Locks: order rows by order_id, then all stock rows that may change, in one go.
 * What becomes of orders, holds and stock is decided in memory, and each row is
 * then written once. An order that is closed by hand, with UPDATE, comes here by
 * its trigger.
 */
#include "postgres.h"

#include "settlement/settlement.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "outbox/low_stock.h"
#include "settlement/resourcing.h"
#include "store/array.h"
#include "store/rows.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "store/trigger.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_settle_closed_orders);

/* ---------- the stock of an order ---------- */

static void
apply_holds_to_stock(StockRows *stock, const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
		hold_apply_to_stock(stock, &order->holds[i]);
}

/* ---------- closing ---------- */

/* Gives a failed order its end and reason, and its rejected holds the end of a closed order's. */
static void
fail_order(SettledOrder *order)
{
	order->new_status = ORDER_REJECTED;

	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (hold->new_status != HOLD_REJECTED)
			continue;
		hold->new_status = HOLD_RELEASED;
		if (!hold->is_taken)
			hold->reason =
				psprintf(VENDOR_REJECTED ": %s", hold->reason ? hold->reason : "no reason given");
		if (order->new_reason == NULL)
			order->new_reason = psprintf("%s: %s", hold->vendor_id, hold->reason);
	}
}

/* What becomes of a hold whose order ends; false if it stays as it is. */
static bool
settle_hold_of_closed(const SettledOrder *order, Hold *hold)
{
	HoldStatus status = hold_current_status(hold);
	bool       confirmed = order->new_status == ORDER_CONFIRMED;

	if (status == HOLD_OPEN)
		hold->new_status = confirmed ? HOLD_CONFIRMED : HOLD_RELEASED;
	else if (status == HOLD_CONFIRMED && !confirmed)
		hold->new_status = HOLD_RETURNED;
	else
		return false;
	if (!confirmed)
		hold->reason = order->new_reason
						   ? order->new_reason
						   : psprintf("order %s", order_status_name(order->new_status));
	return true;
}

/* Settles what an order that has got its new_status still holds; tells the vendors who have to let
 * go. */
static void
close_order(SettledOrder *order, StockRows *stock, EventBatch *events)
{
	const Hold *told = NULL;

	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (!settle_hold_of_closed(order, hold))
			continue;
		hold_apply_to_stock(stock, hold);
		if (hold->new_status == HOLD_CONFIRMED || (told != NULL && told->attempt == hold->attempt &&
												   strcmp(told->vendor_id, hold->vendor_id) == 0))
			continue;
		event_vendor_cancelled(events, &order->facts, hold->vendor_id, hold->attempt, hold->reason);
		told = hold;
	}
}

/* ---------- writing ---------- */

static void
write_holds(const Settlement *settlement, TimestampTz settled_at)
{
	RowUpdate update;

	row_update_begin(&update, "hold");
	for (int i = 0; i < settlement->nholds; i++)
	{
		const Hold *hold = &settlement->holds[i];
		int         columns[3] = {HOLD_COLUMN_STATUS, HOLD_COLUMN_SETTLED_AT, HOLD_COLUMN_REASON};
		Datum       values[3] = {(Datum) 0, TimestampTzGetDatum(settled_at), (Datum) 0};
		bool        nulls[3] = {false, false, hold->reason == NULL};

		if (hold->new_status == HOLD_UNCHANGED)
			continue;
		values[0] = CStringGetTextDatum(hold_status_name(hold->new_status));
		if (hold->reason != NULL)
			values[2] = CStringGetTextDatum(hold->reason);
		row_update(&update, hold->tuple, 3, columns, values, nulls);
	}
	row_update_end(&update);
}

static void
write_order(RowUpdate *update, const SettledOrder *order)
{
	int   columns[4];
	Datum values[4];
	bool  nulls[4] = {false};
	int   count = 0;

	if (order->new_total != NULL)
	{
		columns[count] = ORDERS_COLUMN_TOTAL_AMOUNT;
		values[count++] = NumericGetDatum(order->new_total);
	}
	if (order->new_status != ORDER_UNCHANGED)
	{
		columns[count] = ORDERS_COLUMN_STATUS;
		values[count++] = CStringGetTextDatum(order_status_name(order->new_status));
		columns[count] = ORDERS_COLUMN_CLOSED_AT;
		values[count++] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
		columns[count] = ORDERS_COLUMN_CLOSE_REASON;
		nulls[count] = order->new_reason == NULL;
		values[count++] = order->new_reason ? CStringGetTextDatum(order->new_reason) : (Datum) 0;
	}
	if (count > 0)
		row_update(update, order->tuple, count, columns, values, nulls);
}

static void
write_orders(const Settlement *settlement)
{
	RowUpdate update;

	row_update_begin(&update, "orders");
	for (int i = 0; i < settlement->norders; i++)
		write_order(&update, &settlement->orders[i]);
	row_update_end(&update);
}

/* Each closed order's one closing event. */
static void
add_closing_events(const Settlement *settlement)
{
	for (int i = 0; i < settlement->norders; i++)
	{
		const SettledOrder *order = &settlement->orders[i];
		Numeric             total = order->new_total ? order->new_total : order->total;

		if (order->new_status != ORDER_UNCHANGED)
			event_order_closed(
				settlement->events, &order->facts, order_status_name(order->new_status),
				DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(total))),
				order->new_reason);
	}
}

/* ---------- the whole ---------- */

static bool
is_complete(const SettledOrder *order)
{
	bool changed = false;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		changed |= hold->new_status != HOLD_UNCHANGED;
		if (hold->status == HOLD_OPEN && hold->new_status == HOLD_UNCHANGED)
			return false;
	}
	return changed && order_keeps_a_hold(order);
}

/* Decides what becomes of an order: nothing yet, its end, or new holds. */
static void
settle_order(Settlement *settlement, SettledOrder *order, StockRows *stock, BulkInsert **new_holds)
{
	if (order->new_status == ORDER_UNCHANGED && order_has_rejection(order))
	{
		Resourced resourced = resourcing_source_anew(settlement, order, stock, new_holds);

		/* better a vendor that may have too few than no order at all */
		if (resourced == RESOURCE_FAILED && order->stays_if_unserved)
		{
			resourcing_undo_takes(order);
			return;
		}
		/* only now is it certain that these units are given back: see settle() */
		if (order->stays_if_unserved)
			apply_holds_to_stock(stock, order);
		resourcing_tell_taken(order, settlement->events);
		if (resourced == RESOURCED)
			return;
		if (resourced == RESOURCE_FAILED)
			fail_order(order);
	}
	if (order->new_status == ORDER_UNCHANGED && is_complete(order))
		order->new_status = ORDER_CONFIRMED;
	if (order->new_status != ORDER_UNCHANGED)
		close_order(order, stock, settlement->events);
}

/* All but the order rows. */
static void
settle(Settlement *settlement)
{
	bool        has_all_offers;
	StockRows  *stock = settlement_lock_stock(settlement, &has_all_offers);
	int64      *available_before = has_all_offers ? low_stock_before(stock) : NULL;
	TimestampTz settled_at =
		GetCurrentTimestamp(); /* after the locks: a feed applied later must find these units */
	BulkInsert *new_holds = NULL;

	if (stock->nbusy > 0)
		settlement_set_busy_aside(settlement, stock);
	resourcing_undo_needless_takes(settlement, stock);
	for (int i = 0; i < settlement->norders; i++)
	{
		/* what may stay where it is was not given back: no other order may take it */
		if (!settlement->orders[i].stays_if_unserved)
			apply_holds_to_stock(stock, &settlement->orders[i]);
	}
	for (int i = 0; i < settlement->norders; i++)
	{
		CHECK_FOR_INTERRUPTS();
		settle_order(settlement, &settlement->orders[i], stock, &new_holds);
	}
	if (new_holds != NULL)
		bulk_end(new_holds);
	stock_write_changes(stock, settled_at);
	write_holds(settlement, settled_at);
	if (has_all_offers) /* of products whose rows are not all locked nothing is taken */
		low_stock_add_events(settlement->events, stock, available_before);
	add_closing_events(settlement);
	outbox_write(settlement->events);
}

void
settlement_write(Settlement *settlement)
{
	settle(settlement);
	write_orders(settlement);
}

void
settlement_touch_orders(Settlement *settlement)
{
	RowUpdate update;

	row_update_begin(&update, "orders");
	for (int i = 0; i < settlement->norders; i++)
	{
		int   column = ORDERS_COLUMN_TOTAL_AMOUNT;
		Datum total = NumericGetDatum(settlement->orders[i].total);
		bool  is_null = false;

		row_update(&update, settlement->orders[i].tuple, 1, &column, &total, &is_null);
	}
	row_update_end(&update);
}

/* ---------- the trigger ---------- */

static bool
is_pending(TupleTableSlot *order)
{
	char *status = row_text(order, ORDERS_COLUMN_STATUS);
	bool  pending = order_status_by_name(status) == ORDER_PENDING;

	pfree(status); /* the statement may have changed all orders that there are */
	return pending;
}

/* The ids of the orders that were pending before the statement and are not any more. */
static int64 *
closed_order_ids(TriggerData *trigger, int *count)
{
	TupleDesc       desc = RelationGetDescr(trigger->tg_relation);
	TupleTableSlot *old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int    room = 8;
	int64 *order_ids = palloc(sizeof(int64) * room);

	*count = 0;
	tuplestore_rescan(trigger->tg_oldtable);
	tuplestore_rescan(trigger->tg_newtable);
	while (tuplestore_gettupleslot(trigger->tg_oldtable, true, false, old) &&
		   tuplestore_gettupleslot(trigger->tg_newtable, true, false, new))
	{
		if (!is_pending(old) || is_pending(new))
			continue;
		order_ids = array_with_room(order_ids, *count, &room, sizeof(int64));
		order_ids[(*count)++] = DatumGetInt64(row_column(new, ORDERS_COLUMN_ORDER_ID));
	}
	ExecDropSingleTupleTableSlot(old);
	ExecDropSingleTupleTableSlot(new);
	return order_ids;
}

/*
 * oa_settle_closed_orders runs after any UPDATE of orders by hand: it settles
 * the holds of the orders that the statement has closed, tells their vendors,
 * and writes each order's one closing event.
 */
Datum
oa_settle_closed_orders(PG_FUNCTION_ARGS)
{
	TriggerData *trigger =
		our_trigger(fcinfo, "orders", "settle", TRIGGER_EVENT_AFTER, GUARD_UPDATE);
	int64 *order_ids;
	int    count;

	if (trigger->tg_oldtable == NULL || trigger->tg_newtable == NULL)
		elog(ERROR, "settle_closed_orders: the trigger has no transition tables");

	SPI_connect();
	order_ids = closed_order_ids(trigger, &count);
	if (count > 0)
	{
		Settlement *settlement = settlement_lock(order_ids, count, false);

		for (int i = 0; i < settlement->norders; i++)
		{
			settlement->orders[i].new_status = settlement->orders[i].status;
			settlement->orders[i].new_reason = settlement->orders[i].close_reason;
		}
		settle(settlement);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
