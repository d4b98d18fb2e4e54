/*
 * settlement.c
 *		The end of holds: confirm, release, source anew, return.
 *
 * Locks: order rows by order_id, then all stock rows that may change, in one
 * statement; the trigger that settles a closed order's holds finds its stock
 * rows locked already when it runs below settlement_write().
 */
#include "settlement.h"

#include "bulk.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "holds.h"
#include "miscadmin.h"
#include "plans.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(oa_settle_closed_orders);

/* Columns of "orders", as the table defines them. */
enum
{
	ORDERS_ORDER_ID = 1,
	ORDERS_CUSTOMER_ID,
	ORDERS_STATUS,
	ORDERS_TOTAL_AMOUNT,
	ORDERS_STRATEGY,
	ORDERS_ALLOW_PARTIAL,
	ORDERS_PLACED_AT,
	ORDERS_EXPIRES_AT,
	ORDERS_CLOSED_AT,
	ORDERS_CLOSE_REASON,
	ORDERS_TRACEPARENT
};

static const char *const hold_status_names[] = {
	[HOLD_OPEN] = "open",         [HOLD_CONFIRMED] = "confirmed", [HOLD_REJECTED] = "rejected",
	[HOLD_RELEASED] = "released", [HOLD_RETURNED] = "returned",
};

static HoldStatus
hold_status_by_name(const char *name)
{
	for (HoldStatus status = HOLD_OPEN; status <= HOLD_RETURNED; status++)
	{
		if (strcmp(name, hold_status_names[status]) == 0)
			return status;
	}
	elog(ERROR, "unknown hold status \"%s\"", name);
	return HOLD_UNCHANGED;
}

/* ---------- reading ---------- */

static Hold *
read_holds(const int64 *order_ids, int count, int *nholds)
{
	Datum values[1];
	Hold *holds;

	values[0] = int8_array(order_ids, count);
	plan_execute(PLAN_READ_HOLDS, values, NULL, SPI_OK_SELECT);
	*nholds = (int) SPI_processed;
	holds = palloc0(sizeof(Hold) * Max(*nholds, 1));
	for (int i = 0; i < *nholds; i++)
	{
		char *status = spi_string(i, 7);

		holds[i].order_id = spi_int64(i, 1);
		holds[i].line_no = (int) spi_int64(i, 2);
		holds[i].vendor_id = spi_string(i, 3);
		holds[i].attempt = (int) spi_int64(i, 4);
		holds[i].product_id = spi_string(i, 5);
		holds[i].quantity = spi_int64(i, 6);
		holds[i].status = hold_status_by_name(status);
		holds[i].reason = spi_string(i, 8);
		pfree(status);
	}
	SPI_freetuptable(SPI_tuptable);
	return holds;
}

Settlement *
settlement_lock(const int64 *order_ids, int count)
{
	Settlement *settlement = palloc0(sizeof(Settlement));
	Datum       values[1];
	int         hold = 0;

	values[0] = int8_array(order_ids, count);
	plan_execute(PLAN_LOCK_ORDERS, values, NULL, SPI_OK_SELECT);
	settlement->norders = (int) SPI_processed;
	settlement->orders = palloc0(sizeof(SettledOrder) * Max(settlement->norders, 1));
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder *order = &settlement->orders[i];
		bool          is_null;

		order->facts.order_id = spi_int64(i, 1);
		order->status = spi_string(i, 2);
		order->facts.customer_id = spi_string(i, 3);
		order->facts.placed_at = utc_timestamp(DatumGetTimestampTz(spi_datum(i, 4, &is_null)));
		order->facts.expires_at = utc_timestamp(DatumGetTimestampTz(spi_datum(i, 5, &is_null)));
		order->strategy = spi_string(i, 6);
		order->allow_partial = spi_bool(i, 7);
		order->facts.traceparent = spi_string(i, 8);
		order->close_reason = spi_string(i, 9);
	}
	SPI_freetuptable(SPI_tuptable);

	settlement->holds = read_holds(order_ids, count, &settlement->nholds);
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder *order = &settlement->orders[i];

		while (hold < settlement->nholds && settlement->holds[hold].order_id < order->facts.order_id)
			hold++;
		order->holds = &settlement->holds[hold];
		while (hold < settlement->nholds && settlement->holds[hold].order_id == order->facts.order_id)
		{
			order->nholds++;
			hold++;
		}
	}
	settlement->events = event_batch_create(settlement->norders);
	return settlement;
}

SettledOrder *
settlement_find(const Settlement *settlement, int64 order_id)
{
	int low = 0;
	int high = settlement->norders - 1;

	while (low <= high)
	{
		int   middle = (low + high) / 2;
		int64 found = settlement->orders[middle].facts.order_id;

		if (found == order_id)
			return &settlement->orders[middle];
		if (found < order_id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

/* ---------- stock ---------- */

static bool
has_rejection(const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		if (order->holds[i].new_status == HOLD_REJECTED)
			return true;
	}
	return false;
}

/*
 * Every stock row the settlement may change: those of the holds that change,
 * and, where a vendor has rejected, all offers of all products of the order,
 * because it will be sourced anew or let go of all of them.
 */
static StockRows *
lock_stock(const Settlement *settlement)
{
	const char **product_ids = palloc(sizeof(char *) * Max(settlement->nholds, 1));
	const char **vendor_ids = palloc(sizeof(char *) * Max(settlement->nholds, 1));
	bool         sources_anew = false;
	int          count = 0;

	for (int i = 0; i < settlement->norders; i++)
	{
		const SettledOrder *order = &settlement->orders[i];
		bool                rejection = has_rejection(order);

		sources_anew |= rejection;
		for (int h = 0; h < order->nholds; h++)
		{
			if (order->holds[h].new_status == HOLD_UNCHANGED && !rejection)
				continue;
			product_ids[count] = order->holds[h].product_id;
			vendor_ids[count] = order->holds[h].vendor_id;
			count++;
		}
	}
	return sources_anew ? stock_lock_offers(product_ids, count) : stock_lock_rows(product_ids, vendor_ids, count);
}

static StockRow *
stock_of_hold(const StockRows *stock, const Hold *hold)
{
	StockRow *row = stock_find(stock, hold->product_id, hold->vendor_id);

	if (row == NULL)
		elog(ERROR, "no stock of product \"%s\" at vendor \"%s\", though order " INT64_FORMAT " holds it", hold->product_id,
			 hold->vendor_id, hold->order_id);
	return row;
}

static void
apply_to_stock(StockRows *stock, const Hold *hold)
{
	StockRow *row;

	if (hold->new_status == HOLD_UNCHANGED)
		return;
	row = stock_of_hold(stock, hold);
	if (hold->new_status == HOLD_CONFIRMED)
		stock_ship(row, hold->quantity);
	else if (hold->new_status == HOLD_RETURNED)
		stock_return(row, hold->quantity);
	else
		stock_release(stock, row, hold->quantity);
}

static void
write_hold_statuses(const Hold *holds, int nholds)
{
	int64       *order_ids = palloc(sizeof(int64) * Max(nholds, 1));
	int32       *line_nos = palloc(sizeof(int32) * Max(nholds, 1));
	const char **vendor_ids = palloc(sizeof(char *) * Max(nholds, 1));
	int32       *attempts = palloc(sizeof(int32) * Max(nholds, 1));
	const char **statuses = palloc(sizeof(char *) * Max(nholds, 1));
	const char **reasons = palloc(sizeof(char *) * Max(nholds, 1));
	int          count = 0;
	Datum        values[7];

	for (int i = 0; i < nholds; i++)
	{
		if (holds[i].new_status == HOLD_UNCHANGED)
			continue;
		order_ids[count] = holds[i].order_id;
		line_nos[count] = holds[i].line_no;
		vendor_ids[count] = holds[i].vendor_id;
		attempts[count] = holds[i].attempt;
		statuses[count] = hold_status_names[holds[i].new_status];
		reasons[count] = holds[i].reason;
		count++;
	}
	if (count == 0)
		return;
	values[0] = int8_array(order_ids, count);
	values[1] = int4_array(line_nos, count);
	values[2] = text_array(vendor_ids, count);
	values[3] = int4_array(attempts, count);
	values[4] = text_array(statuses, count);
	values[5] = text_array(reasons, count);
	/* the time after the locks: a feed applied later must find these units */
	values[6] = TimestampTzGetDatum(GetCurrentTimestamp());
	plan_execute(PLAN_SETTLE_HOLDS, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed != (uint64) count)
		elog(ERROR, "settled " UINT64_FORMAT " holds of %d", SPI_processed, count);
}

/* ---------- sourcing anew ---------- */

/* How an order that lost a hold goes on. */
typedef enum Resourced
{
	RESOURCED,      /* all its units are held again, or as many as a partial order needs */
	RESOURCE_FAILED /* it cannot be served any more */
} Resourced;

static bool
has_refused(const SettledOrder *order, int line_no, const char *vendor_id)
{
	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->line_no == line_no && strcmp(hold->vendor_id, vendor_id) == 0 &&
			(hold->status == HOLD_REJECTED || hold->new_status == HOLD_REJECTED))
			return true;
	}
	return false;
}

static int
last_attempt(const SettledOrder *order)
{
	int attempt = 0;

	for (int i = 0; i < order->nholds; i++)
		attempt = Max(attempt, order->holds[i].attempt);
	return attempt;
}

static bool
keeps_a_hold(const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->new_status == HOLD_CONFIRMED ||
			(hold->new_status == HOLD_UNCHANGED && (hold->status == HOLD_OPEN || hold->status == HOLD_CONFIRMED)))
			return true;
	}
	return false;
}

/* The rejected units by line; returns how many lines. */
static int
rejected_lines(const SettledOrder *order, const StockRows *stock, SourcingLine *lines, int *line_nos)
{
	int nlines = 0;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];
		int         l = 0;

		if (hold->new_status != HOLD_REJECTED)
			continue;
		while (l < nlines && line_nos[l] != hold->line_no)
			l++;
		if (l == nlines)
		{
			line_nos[nlines] = hold->line_no;
			lines[nlines].quantity = 0;
			stock_find_offers(stock, hold->product_id, &lines[nlines].first_offer, &lines[nlines].noffers);
			nlines++;
		}
		lines[l].quantity += hold->quantity;
	}
	return nlines;
}

/* Sources the rejected units of one order from vendors that have not refused them. */
static Resourced
source_anew(Settlement *settlement, SettledOrder *order, StockRows *stock, BulkInsert *new_holds)
{
	SourcingLine    *lines = palloc(sizeof(SourcingLine) * order->nholds);
	int             *line_nos = palloc(sizeof(int) * order->nholds);
	int              attempt = last_attempt(order) + 1;
	int              nlines = rejected_lines(order, stock, lines, line_nos);
	int              npicks = -1;
	SourcingPick    *picks;
	SourcingStrategy strategy;
	int              noffers = 0;

	for (int l = 0; l < nlines; l++)
		noffers += lines[l].noffers;
	picks = palloc(sizeof(SourcingPick) * Max(noffers, 1));

	if (attempt <= guc_max_attempts && sourcing_strategy_by_name(order->strategy, &strategy))
	{
		for (int l = 0; l < nlines; l++)
			for (int o = lines[l].first_offer; o < lines[l].first_offer + lines[l].noffers; o++)
				stock->offers[o].excluded = has_refused(order, line_nos[l], stock->rows[o].vendor_id);
		npicks = sourcing_choose(strategy, order->allow_partial, lines, nlines, stock->offers, picks);
		for (int l = 0; l < nlines; l++)
			for (int o = lines[l].first_offer; o < lines[l].first_offer + lines[l].noffers; o++)
				stock->offers[o].excluded = false;
	}
	if (npicks < 0)
		return order->allow_partial && keeps_a_hold(order) ? RESOURCED : RESOURCE_FAILED;

	for (int p = 0; p < npicks; p++)
	{
		picks[p].line = line_nos[picks[p].line] - 1;
		stock_reserve(stock, picks[p].offer, picks[p].quantity);
		hold_store(new_holds, order->facts.order_id, picks[p].line + 1, attempt, &stock->rows[picks[p].offer], picks[p].quantity,
				   GetCurrentTransactionStartTimestamp());
	}
	holds_add_placed_events(settlement->events, &order->facts, attempt, stock, picks, npicks);
	return RESOURCED;
}

/* Gives a failed order its reason, and its rejected holds the end of a closed order's. */
static char *
fail_order(SettledOrder *order)
{
	char *reason = NULL;

	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (hold->new_status != HOLD_REJECTED)
			continue;
		hold->new_status = HOLD_RELEASED;
		hold->reason = psprintf(VENDOR_REJECTED ": %s", hold->reason ? hold->reason : "no reason given");
		if (reason == NULL)
			reason = psprintf("%s: %s", hold->vendor_id, hold->reason);
	}
	return reason;
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
	return changed && keeps_a_hold(order);
}

void
settlement_close(const int64 *order_ids, const char **statuses, const char **reasons, int count)
{
	Datum values[3];

	if (count == 0)
		return;
	values[0] = int8_array(order_ids, count);
	values[1] = text_array(statuses, count);
	values[2] = text_array(reasons, count);
	plan_execute(PLAN_CLOSE_ORDERS, values, NULL, SPI_OK_UPDATE);
}

void
settlement_write(Settlement *settlement)
{
	StockRows   *stock = lock_stock(settlement);
	int64       *closed = palloc(sizeof(int64) * Max(settlement->norders, 1));
	const char **statuses = palloc(sizeof(char *) * Max(settlement->norders, 1));
	const char **reasons = palloc(sizeof(char *) * Max(settlement->norders, 1));
	int64       *resourced = palloc(sizeof(int64) * Max(settlement->norders, 1));
	int          nclosed = 0;
	int          nresourced = 0;
	BulkInsert  *new_holds;
	Datum        values[1];

	for (int i = 0; i < settlement->nholds; i++)
		apply_to_stock(stock, &settlement->holds[i]);

	new_holds = bulk_begin(table_oid("hold"));
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder *order = &settlement->orders[i];
		int           events_before = settlement->events->count;

		CHECK_FOR_INTERRUPTS();
		if (has_rejection(order))
		{
			if (source_anew(settlement, order, stock, new_holds) == RESOURCE_FAILED)
			{
				reasons[nclosed] = fail_order(order);
				statuses[nclosed] = "rejected";
				closed[nclosed++] = order->facts.order_id;
				continue;
			}
			resourced[nresourced++] = order->facts.order_id;
			if (settlement->events->count > events_before)
				continue; /* it holds new units, which are open */
		}
		if (is_complete(order))
		{
			reasons[nclosed] = NULL;
			statuses[nclosed] = "confirmed";
			closed[nclosed++] = order->facts.order_id;
		}
	}
	bulk_end(new_holds);
	stock_write_changes(stock);
	write_hold_statuses(settlement->holds, settlement->nholds);
	if (nresourced > 0)
	{
		values[0] = int8_array(resourced, nresourced);
		plan_execute(PLAN_SET_TOTALS, values, NULL, SPI_OK_UPDATE);
	}
	outbox_write(settlement->events);
	settlement_close(closed, statuses, reasons, nclosed);
}

/* ---------- the trigger ---------- */

/* An order that the triggering statement has closed. */
typedef struct ClosedOrder
{
	OrderFacts  facts;
	const char *status;
	const char *total_amount;
	const char *reason;
} ClosedOrder;

static char *
slot_string(TupleTableSlot *slot, int column)
{
	bool  is_null;
	Datum value = slot_getattr(slot, column, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

static void
read_closed_order(TupleTableSlot *slot, ClosedOrder *order)
{
	bool is_null;

	order->facts.order_id = DatumGetInt64(slot_getattr(slot, ORDERS_ORDER_ID, &is_null));
	order->facts.customer_id = slot_string(slot, ORDERS_CUSTOMER_ID);
	order->facts.placed_at = utc_timestamp(DatumGetTimestampTz(slot_getattr(slot, ORDERS_PLACED_AT, &is_null)));
	order->facts.expires_at = utc_timestamp(DatumGetTimestampTz(slot_getattr(slot, ORDERS_EXPIRES_AT, &is_null)));
	order->facts.traceparent = slot_string(slot, ORDERS_TRACEPARENT);
	order->status = slot_string(slot, ORDERS_STATUS);
	order->reason = slot_string(slot, ORDERS_CLOSE_REASON);
	order->total_amount = DatumGetCString(DirectFunctionCall1(numeric_out, slot_getattr(slot, ORDERS_TOTAL_AMOUNT, &is_null)));
}

/* The orders that were pending before the statement and are not any more. */
static ClosedOrder *
read_closed_orders(TriggerData *trigger, int *count)
{
	TupleDesc       desc = RelationGetDescr(trigger->tg_relation);
	TupleTableSlot *old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int64        nrows = tuplestore_tuple_count(trigger->tg_newtable);
	ClosedOrder *orders = palloc(sizeof(ClosedOrder) * Max(nrows, 1));

	*count = 0;
	tuplestore_rescan(trigger->tg_oldtable);
	tuplestore_rescan(trigger->tg_newtable);
	while (tuplestore_gettupleslot(trigger->tg_oldtable, true, false, old) &&
		   tuplestore_gettupleslot(trigger->tg_newtable, true, false, new))
	{
		if (strcmp(slot_string(old, ORDERS_STATUS), "pending") == 0 && strcmp(slot_string(new, ORDERS_STATUS), "pending") != 0)
			read_closed_order(new, &orders[(*count)++]);
	}
	ExecDropSingleTupleTableSlot(old);
	ExecDropSingleTupleTableSlot(new);
	return orders;
}

static int
compare_order_ids(const void *a, const void *b)
{
	int64 left = ((const ClosedOrder *) a)->facts.order_id;
	int64 right = ((const ClosedOrder *) b)->facts.order_id;

	return (left > right) - (left < right);
}

/* What becomes of the holds an order still has; tells their vendors. */
static void
settle_hold(const ClosedOrder *order, Hold *hold, const Hold *previous, EventBatch *events)
{
	if (strcmp(order->status, "confirmed") == 0)
	{
		if (hold->status == HOLD_OPEN)
			hold->new_status = HOLD_CONFIRMED;
		return;
	}
	if (hold->status != HOLD_OPEN && hold->status != HOLD_CONFIRMED)
		return;
	hold->new_status = hold->status == HOLD_OPEN ? HOLD_RELEASED : HOLD_RETURNED;
	hold->reason = order->reason ? order->reason : psprintf("order %s", order->status);
	if (previous == NULL || previous->new_status == HOLD_UNCHANGED || previous->order_id != hold->order_id ||
		previous->attempt != hold->attempt || strcmp(previous->vendor_id, hold->vendor_id) != 0)
		event_vendor_cancelled(events, &order->facts, hold->vendor_id, hold->attempt, hold->reason);
}

static void
settle_holds(const ClosedOrder *orders, int norders, EventBatch *events)
{
	int64       *order_ids = palloc(sizeof(int64) * norders);
	int          nholds;
	Hold        *holds;
	const char **product_ids;
	const char **vendor_ids;
	int          changed = 0;
	int          order = 0;
	StockRows   *stock;

	for (int i = 0; i < norders; i++)
		order_ids[i] = orders[i].facts.order_id;
	holds = read_holds(order_ids, norders, &nholds);
	product_ids = palloc(sizeof(char *) * Max(nholds, 1));
	vendor_ids = palloc(sizeof(char *) * Max(nholds, 1));
	for (int i = 0; i < nholds; i++)
	{
		while (orders[order].facts.order_id < holds[i].order_id)
			order++;
		settle_hold(&orders[order], &holds[i], i > 0 ? &holds[i - 1] : NULL, events);
		if (holds[i].new_status == HOLD_UNCHANGED)
			continue;
		product_ids[changed] = holds[i].product_id;
		vendor_ids[changed] = holds[i].vendor_id;
		changed++;
	}
	if (changed == 0)
		return;
	stock = stock_lock_rows(product_ids, vendor_ids, changed);
	for (int i = 0; i < nholds; i++)
		apply_to_stock(stock, &holds[i]);
	stock_write_changes(stock);
	write_hold_statuses(holds, nholds);
}

/*
 * oa_settle_closed_orders runs after any UPDATE of orders, by a function or by
 * hand: it settles the holds of the orders that the statement has closed, tells
 * their vendors, and writes each order's one closing event.
 */
Datum
oa_settle_closed_orders(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	ClosedOrder *orders;
	int          norders;
	EventBatch  *events;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		trigger->tg_oldtable == NULL || trigger->tg_newtable == NULL)
		elog(ERROR, "settle_closed_orders: must be called after UPDATE by a statement trigger with transition tables");

	SPI_connect();
	orders = read_closed_orders(trigger, &norders);
	if (norders > 0)
	{
		qsort(orders, norders, sizeof(ClosedOrder), compare_order_ids);
		events = event_batch_create(norders * 2);
		settle_holds(orders, norders, events);
		for (int i = 0; i < norders; i++)
			event_order_closed(events, &orders[i].facts, orders[i].status, orders[i].total_amount, orders[i].reason);
		outbox_write(events);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
