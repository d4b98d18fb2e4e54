/*
 * settlement.c
 *		The end of holds: confirm, release, source anew, return.
 *
 * Locks: order rows by order_id, then all stock rows that may change, in one go.
 * What becomes of orders, holds and stock is decided in memory, and each row is
 * then written once. An order that is closed by hand, with UPDATE, comes here by
 * its trigger.
 */
#include "settlement.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "bulk.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "guard.h"
#include "holds.h"
#include "miscadmin.h"
#include "rows.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
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

const char *
hold_status_name(HoldStatus status)
{
	return hold_status_names[status];
}

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

static int
compare_order_ids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

/* By vendor, attempt and line. */
static int
compare_holds(const void *a, const void *b)
{
	const Hold *left = a;
	const Hold *right = b;
	int         order = strcmp(left->vendor_id, right->vendor_id);

	if (order == 0)
		order = left->attempt - right->attempt;
	return order != 0 ? order : left->line_no - right->line_no;
}

static void
read_order(SettledOrder *order, TupleTableSlot *slot)
{
	order->facts.order_id = DatumGetInt64(row_column(slot, ORDERS_ORDER_ID));
	order->facts.customer_id = row_text(slot, ORDERS_CUSTOMER_ID);
	order->facts.placed_at = utc_timestamp(DatumGetTimestampTz(row_column(slot, ORDERS_PLACED_AT)));
	order->facts.expires_at = utc_timestamp(DatumGetTimestampTz(row_column(slot, ORDERS_EXPIRES_AT)));
	order->facts.traceparent = row_text(slot, ORDERS_TRACEPARENT);
	order->status = row_text(slot, ORDERS_STATUS);
	order->strategy = row_text(slot, ORDERS_STRATEGY);
	order->total = DatumGetNumericCopy(row_column(slot, ORDERS_TOTAL_AMOUNT));
	order->allow_partial = DatumGetBool(row_column(slot, ORDERS_ALLOW_PARTIAL));
	order->close_reason = row_text(slot, ORDERS_CLOSE_REASON);
	order->tuple = ExecCopySlotHeapTuple(slot);
}

static void
read_hold(Hold *hold, int64 order_id, TupleTableSlot *slot)
{
	char *status = row_text(slot, HOLD_STATUS);

	memset(hold, 0, sizeof(Hold));
	hold->order_id = order_id;
	hold->line_no = DatumGetInt32(row_column(slot, HOLD_LINE_NO));
	hold->vendor_id = row_text(slot, HOLD_VENDOR_ID);
	hold->attempt = DatumGetInt32(row_column(slot, HOLD_ATTEMPT));
	hold->product_id = row_text(slot, HOLD_PRODUCT_ID);
	hold->quantity = DatumGetInt64(row_column(slot, HOLD_QUANTITY));
	if (!price_from_numeric(DatumGetNumeric(row_column(slot, HOLD_UNIT_PRICE)), &hold->price))
		elog(ERROR, "price of a hold of order " INT64_FORMAT " is out of range", order_id);
	hold->status = hold_status_by_name(status);
	hold->reason = row_text(slot, HOLD_REASON);
	hold->tuple = ExecCopySlotHeapTuple(slot);
	pfree(status);
}

static void
lock_orders(Settlement *settlement, const int64 *order_ids, int count)
{
	RowScan scan;

	rows_see_latest();
	row_scan_begin(&scan, "orders", NULL, RowExclusiveLock);
	scan.skip_locked = settlement->skip_locked;
	for (int i = 0; i < count; i++)
	{
		TupleTableSlot *slot;

		if (i > 0 && order_ids[i - 1] == order_ids[i])
			continue;
		row_scan_find_int8(&scan, order_ids[i]);
		slot = row_scan_next_locked(&scan);
		if (slot != NULL && scan.is_busy)
			settlement->busy_order_ids[settlement->nbusy++] = order_ids[i];
		else if (slot != NULL)
			read_order(&settlement->orders[settlement->norders++], slot);
	}
	row_scan_end(&scan);
	PopActiveSnapshot();
}

/*
 * The orders are locked, so their holds stay as they are found here. At
 * REPEATABLE READ the snapshot may be older than the lock: then the holds are
 * locked too, which fails if one has changed since.
 */
static void
read_holds(Settlement *settlement)
{
	bool    may_be_stale = IsolationUsesXactSnapshot();
	RowScan scan;
	int     room = Max(settlement->norders * 2, 8);

	settlement->holds = palloc(sizeof(Hold) * room);
	rows_see_latest();
	row_scan_begin(&scan, "hold", NULL, RowExclusiveLock);
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder   *order = &settlement->orders[i];
		int             first = settlement->nholds;
		TupleTableSlot *slot;

		CHECK_FOR_INTERRUPTS();
		row_scan_find_int8(&scan, order->facts.order_id);
		while ((slot = may_be_stale ? row_scan_next_locked(&scan) : row_scan_next(&scan)) != NULL)
		{
			if (settlement->nholds == room)
			{
				room *= 2;
				settlement->holds = repalloc(settlement->holds, sizeof(Hold) * room);
			}
			read_hold(&settlement->holds[settlement->nholds++], order->facts.order_id, slot);
		}
		order->nholds = settlement->nholds - first;
		qsort(&settlement->holds[first], order->nholds, sizeof(Hold), compare_holds);
	}
	row_scan_end(&scan);
	PopActiveSnapshot();
}

Settlement *
settlement_lock(const int64 *order_ids, int count, bool skip_locked)
{
	Settlement *settlement = palloc0(sizeof(Settlement));
	int64      *sorted = palloc(sizeof(int64) * Max(count, 1));
	Hold       *holds;

	memcpy(sorted, order_ids, sizeof(int64) * count);
	qsort(sorted, count, sizeof(int64), compare_order_ids);
	settlement->skip_locked = skip_locked;
	settlement->orders = palloc0(sizeof(SettledOrder) * Max(count, 1));
	settlement->busy_order_ids = palloc(sizeof(int64) * Max(count, 1));
	lock_orders(settlement, sorted, count);
	read_holds(settlement);
	holds = settlement->holds;
	for (int i = 0; i < settlement->norders; i++)
	{
		settlement->orders[i].holds = holds;
		holds += settlement->orders[i].nholds;
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

bool
settlement_is_busy(const Settlement *settlement, int64 order_id)
{
	const SettledOrder *order = settlement_find(settlement, order_id);

	if (order != NULL)
		return order->is_busy;
	return bsearch(&order_id, settlement->busy_order_ids, settlement->nbusy, sizeof(int64), compare_order_ids) != NULL;
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
 * Every stock row the settlement may change: those of the holds that change, of
 * all holds of an order that is closed, and, where a vendor has rejected, all
 * offers of all products of the order, because it will be sourced anew or let
 * go of all of them.
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
			if (order->holds[h].new_status == HOLD_UNCHANGED && order->new_status == NULL && !rejection)
				continue;
			product_ids[count] = order->holds[h].product_id;
			vendor_ids[count] = order->holds[h].vendor_id;
			count++;
		}
	}
	return sources_anew ? stock_lock_offers(product_ids, count, settlement->skip_locked)
						: stock_lock_rows(product_ids, vendor_ids, count, settlement->skip_locked);
}

/* Would the settlement of the order change, or have to look at, stock that another transaction has locked? */
static bool
needs_busy_stock(const SettledOrder *order, const StockRows *stock)
{
	bool rejection = has_rejection(order);

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->new_status == HOLD_UNCHANGED && order->new_status == NULL && !rejection)
			continue;
		if (stock_is_busy(stock, hold->product_id, rejection ? NULL : hold->vendor_id))
			return true;
	}
	return false;
}

/* Takes back all that was decided of orders whose stock is locked elsewhere. */
static void
set_busy_aside(Settlement *settlement, const StockRows *stock)
{
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder *order = &settlement->orders[i];

		order->is_busy = needs_busy_stock(order, stock);
		if (!order->is_busy)
			continue;
		order->new_status = NULL;
		for (int h = 0; h < order->nholds; h++)
		{
			order->holds[h].new_status = HOLD_UNCHANGED;
			order->holds[h].is_taken = false;
		}
		event_batch_drop_order(settlement->events, order->facts.order_id);
	}
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

/* Moves the hold's units as its new status asks. */
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
		stock_return(stock, row, hold->quantity);
	else
		stock_release(stock, row, hold->quantity);
}

/* ---------- sourcing anew ---------- */

/* How an order that lost a hold goes on. */
typedef enum Resourced
{
	RESOURCED,      /* it holds new units, which are open */
	RESOURCED_LESS, /* a partial order goes on with what it has */
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
is_kept(const Hold *hold)
{
	HoldStatus status = hold_current_status(hold);

	return status == HOLD_OPEN || status == HOLD_CONFIRMED;
}

static bool
keeps_a_hold(const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		if (is_kept(&order->holds[i]))
			return true;
	}
	return false;
}

/* The vendors of the holds that the order keeps, each once; all their stock is locked. */
static SourcingLimit
vendor_limit(const SettledOrder *order, const StockRows *stock)
{
	int32_t *used = palloc(sizeof(int32_t) * Max(order->nholds, 1));
	int      nused = 0;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold     *hold = &order->holds[i];
		const StockRow *row = is_kept(hold) ? stock_find(stock, hold->product_id, hold->vendor_id) : NULL;
		int32_t         vendor;
		int             u = 0;

		if (row == NULL)
			continue;
		vendor = stock->offers[row - stock->rows].vendor;
		while (u < nused && used[u] != vendor)
			u++;
		if (u == nused)
			used[nused++] = vendor;
	}
	/* no effort to share: what an order becomes must not depend on the others of the batch */
	return (SourcingLimit){.max_vendors = guc_max_vendors_per_order, .used = used, .nused = nused};
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

/* What the order costs with its new holds and without the rejected ones. */
static Numeric
new_total(const SettledOrder *order, const StockRows *stock, const SourcingPick *picks, int npicks)
{
	Amount total = {0};

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->new_status != HOLD_REJECTED && hold->status != HOLD_REJECTED)
			amount_add(&total, hold->price, hold->quantity);
	}
	for (int p = 0; p < npicks; p++)
		amount_add(&total, stock->rows[picks[p].offer].price, picks[p].quantity);
	return amount_to_numeric(total);
}

/* Sources the rejected units of one order from vendors that have not refused them. */
static Resourced
source_anew(Settlement *settlement, SettledOrder *order, StockRows *stock, BulkInsert **new_holds)
{
	SourcingLine    *lines = palloc(sizeof(SourcingLine) * order->nholds);
	int             *line_nos = palloc(sizeof(int) * order->nholds);
	SourcingLimit    limit = vendor_limit(order, stock);
	bool             allow_partial = order->allow_partial && !order->keeps_unserved;
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
		npicks = sourcing_choose(strategy, allow_partial, &limit, lines, nlines, stock->offers, picks);
		for (int l = 0; l < nlines; l++)
			for (int o = lines[l].first_offer; o < lines[l].first_offer + lines[l].noffers; o++)
				stock->offers[o].excluded = false;
	}
	if (npicks < 0 && !(allow_partial && keeps_a_hold(order)))
		return RESOURCE_FAILED;
	npicks = Max(npicks, 0);
	order->new_total = new_total(order, stock, picks, npicks);
	if (npicks > 0 && *new_holds == NULL)
		*new_holds = bulk_begin(table_oid("hold"));
	for (int p = 0; p < npicks; p++)
	{
		picks[p].line = line_nos[picks[p].line] - 1;
		stock_reserve(stock, picks[p].offer, picks[p].quantity);
		hold_store(*new_holds, order->facts.order_id, picks[p].line + 1, attempt, &stock->rows[picks[p].offer], picks[p].quantity,
				   GetCurrentTransactionStartTimestamp());
	}
	if (npicks == 0)
		return RESOURCED_LESS;
	holds_add_placed_events(settlement->events, &order->facts, attempt, stock, picks, npicks);
	return RESOURCED;
}

/* Leaves with their vendors the holds that were to be taken from them. */
static void
undo_takes(SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (!hold->is_taken)
			continue;
		hold->new_status = HOLD_UNCHANGED;
		hold->reason = NULL;
		hold->is_taken = false;
	}
}

/* Is there still a vendor, of those from which the order's holds are to be taken, that has too few? Counts down how many. */
static bool
takes_are_needed(const SettledOrder *order, const StockRows *stock, int64 *units_short)
{
	bool needed = false;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];
		int64      *left;

		if (!hold->is_taken)
			continue;
		left = &units_short[stock_of_hold(stock, hold) - stock->rows];
		needed |= *left > 0;
	}
	for (int i = 0; i < order->nholds && needed; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->is_taken)
			units_short[stock_of_hold(stock, hold) - stock->rows] -= hold->quantity;
	}
	return needed;
}

/* Now that the stock is locked it is known whether it is still short: the newest orders lose their vendor first. */
static void
undo_needless_takes(const Settlement *settlement, const StockRows *stock)
{
	int64 *units_short = palloc(sizeof(int64) * Max(stock->nrows, 1));

	for (int i = 0; i < stock->nrows; i++)
		units_short[i] = stock->rows[i].reserved - stock->rows[i].on_hand;
	for (int i = settlement->norders - 1; i >= 0; i--)
	{
		if (!takes_are_needed(&settlement->orders[i], stock, units_short))
			undo_takes(&settlement->orders[i]);
	}
}

static void
apply_holds_to_stock(StockRows *stock, const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
		apply_to_stock(stock, &order->holds[i]);
}

/* Tells the vendors from which holds were taken. Holds are by vendor and attempt. */
static void
tell_taken(const SettledOrder *order, EventBatch *events)
{
	const Hold *told = NULL;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (!hold->is_taken || (told != NULL && told->attempt == hold->attempt && strcmp(told->vendor_id, hold->vendor_id) == 0))
			continue;
		event_vendor_cancelled(events, &order->facts, hold->vendor_id, hold->attempt, hold->reason);
		told = hold;
	}
}

/* Gives a failed order its end and reason, and its rejected holds the end of a closed order's. */
static void
fail_order(SettledOrder *order)
{
	order->new_status = "rejected";

	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (hold->new_status != HOLD_REJECTED)
			continue;
		hold->new_status = HOLD_RELEASED;
		if (!hold->is_taken)
			hold->reason = psprintf(VENDOR_REJECTED ": %s", hold->reason ? hold->reason : "no reason given");
		if (order->new_reason == NULL)
			order->new_reason = psprintf("%s: %s", hold->vendor_id, hold->reason);
	}
}

/* ---------- closing ---------- */

/* What becomes of a hold whose order ends; false if it stays as it is. */
static bool
settle_hold_of_closed(const SettledOrder *order, Hold *hold)
{
	HoldStatus status = hold_current_status(hold);
	bool       confirmed = strcmp(order->new_status, "confirmed") == 0;

	if (status == HOLD_OPEN)
		hold->new_status = confirmed ? HOLD_CONFIRMED : HOLD_RELEASED;
	else if (status == HOLD_CONFIRMED && !confirmed)
		hold->new_status = HOLD_RETURNED;
	else
		return false;
	if (!confirmed)
		hold->reason = order->new_reason ? order->new_reason : psprintf("order %s", order->new_status);
	return true;
}

/* Settles what an order that has got its new_status still holds; tells the vendors who have to let go. */
static void
close_order(SettledOrder *order, StockRows *stock, EventBatch *events)
{
	const Hold *told = NULL;

	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (!settle_hold_of_closed(order, hold))
			continue;
		apply_to_stock(stock, hold);
		if (hold->new_status == HOLD_CONFIRMED ||
			(told != NULL && told->attempt == hold->attempt && strcmp(told->vendor_id, hold->vendor_id) == 0))
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
		int         columns[3] = {HOLD_STATUS, HOLD_SETTLED_AT, HOLD_REASON};
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
		columns[count] = ORDERS_TOTAL_AMOUNT;
		values[count++] = NumericGetDatum(order->new_total);
	}
	if (order->new_status != NULL)
	{
		columns[count] = ORDERS_STATUS;
		values[count++] = CStringGetTextDatum(order->new_status);
		columns[count] = ORDERS_CLOSED_AT;
		values[count++] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
		columns[count] = ORDERS_CLOSE_REASON;
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

		if (order->new_status != NULL)
			event_order_closed(settlement->events, &order->facts, order->new_status,
							   DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(total))), order->new_reason);
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
	return changed && keeps_a_hold(order);
}

/* Decides what becomes of an order: nothing yet, its end, or new holds. */
static void
settle_order(Settlement *settlement, SettledOrder *order, StockRows *stock, BulkInsert **new_holds)
{
	if (order->new_status == NULL && has_rejection(order))
	{
		Resourced resourced = source_anew(settlement, order, stock, new_holds);

		if (resourced == RESOURCE_FAILED && order->keeps_unserved)
		{
			undo_takes(order);
			return;
		}
		if (order->keeps_unserved)
			apply_holds_to_stock(stock, order);
		tell_taken(order, settlement->events);
		if (resourced == RESOURCED)
			return;
		if (resourced == RESOURCE_FAILED)
			fail_order(order);
	}
	if (order->new_status == NULL && is_complete(order))
		order->new_status = "confirmed";
	if (order->new_status != NULL)
		close_order(order, stock, settlement->events);
}

/* All but the order rows. */
static void
settle(Settlement *settlement)
{
	StockRows  *stock = lock_stock(settlement);
	TimestampTz settled_at = GetCurrentTimestamp(); /* after the locks: a feed applied later must find these units */
	BulkInsert *new_holds = NULL;

	if (stock->nbusy > 0)
		set_busy_aside(settlement, stock);
	undo_needless_takes(settlement, stock);
	for (int i = 0; i < settlement->norders; i++)
	{
		/* what may stay where it is was not given back: no other order may take it */
		if (!settlement->orders[i].keeps_unserved)
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
		int   column = ORDERS_TOTAL_AMOUNT;
		Datum total = NumericGetDatum(settlement->orders[i].total);
		bool  is_null = false;

		row_update(&update, settlement->orders[i].tuple, 1, &column, &total, &is_null);
	}
	row_update_end(&update);
}

/* ---------- the trigger ---------- */

/* The ids of the orders that were pending before the statement and are not any more. */
static int64 *
closed_order_ids(TriggerData *trigger, int *count)
{
	TupleDesc       desc = RelationGetDescr(trigger->tg_relation);
	TupleTableSlot *old = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	TupleTableSlot *new = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int64  nrows = tuplestore_tuple_count(trigger->tg_newtable);
	int64 *order_ids = palloc(sizeof(int64) * Max(nrows, 1));

	*count = 0;
	tuplestore_rescan(trigger->tg_oldtable);
	tuplestore_rescan(trigger->tg_newtable);
	while (tuplestore_gettupleslot(trigger->tg_oldtable, true, false, old) &&
		   tuplestore_gettupleslot(trigger->tg_newtable, true, false, new))
	{
		if (strcmp(row_text(old, ORDERS_STATUS), "pending") == 0 && strcmp(row_text(new, ORDERS_STATUS), "pending") != 0)
			order_ids[(*count)++] = DatumGetInt64(row_column(new, ORDERS_ORDER_ID));
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
	TriggerData *trigger = our_trigger(fcinfo, "orders", "settle", TRIGGER_EVENT_AFTER, GUARD_UPDATE);
	int64       *order_ids;
	int          count;

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
