/*
 * held_orders.c
 *		Orders locked and read with their holds, and with the stock that these hold.
 *
 * Locks: order rows by order_id, then all stock rows that may change, in one go.
 */
#include "postgres.h"

#include "settlement/held_orders.h"

#include "lib/qunique.h"
#include "miscadmin.h"
#include "store/array.h"
#include "store/errors.h"
#include "store/rows.h"
#include "store/tables.h"
#include "store/trace_context.h"
#include "store/trigger.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* ---------- reading ---------- */

static int
compare_order_ids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

int
order_ids_sort(int64 *order_ids, int count)
{
	qsort(order_ids, count, sizeof(int64), compare_order_ids);
	return (int) qunique(order_ids, count, sizeof(int64), compare_order_ids);
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
	order->facts.order_id = DatumGetInt64(row_column(slot, ORDERS_COLUMN_ORDER_ID));
	order->facts.customer_id = row_text(slot, ORDERS_COLUMN_CUSTOMER_ID);
	order->facts.placed_at =
		utc_timestamp(DatumGetTimestampTz(row_column(slot, ORDERS_COLUMN_PLACED_AT)));
	order->facts.expires_at =
		utc_timestamp(DatumGetTimestampTz(row_column(slot, ORDERS_COLUMN_EXPIRES_AT)));
	order->facts.traceparent = session_traceparent(); /* of whoever settles it */
	if (order->facts.traceparent == NULL)
		order->facts.traceparent = row_text(slot, ORDERS_COLUMN_TRACEPARENT);
	order->status = order_status_by_name(row_text(slot, ORDERS_COLUMN_STATUS));
	if (order->status == ORDER_UNCHANGED)
		elog(ERROR, "order " INT64_FORMAT " has a status that is not known", order->facts.order_id);
	order->strategy = row_text(slot, ORDERS_COLUMN_STRATEGY);
	order->total = DatumGetNumericCopy(row_column(slot, ORDERS_COLUMN_TOTAL_AMOUNT));
	order->allow_partial = DatumGetBool(row_column(slot, ORDERS_COLUMN_ALLOW_PARTIAL));
	order->close_reason = row_text(slot, ORDERS_COLUMN_CLOSE_REASON);
	order->tuple = ExecCopySlotHeapTuple(slot);
}

static void
read_hold(Hold *hold, int64 order_id, TupleTableSlot *slot)
{
	memset(hold, 0, sizeof(Hold));
	hold->order_id = order_id;
	hold->line_no = DatumGetInt32(row_column(slot, HOLD_COLUMN_LINE_NO));
	hold->vendor_id = row_text(slot, HOLD_COLUMN_VENDOR_ID);
	hold->attempt = DatumGetInt32(row_column(slot, HOLD_COLUMN_ATTEMPT));
	hold->product_id = row_text(slot, HOLD_COLUMN_PRODUCT_ID);
	hold->quantity = DatumGetInt64(row_column(slot, HOLD_COLUMN_QUANTITY));
	if (!price_from_numeric(DatumGetNumeric(row_column(slot, HOLD_COLUMN_UNIT_PRICE)),
							&hold->price))
		elog(ERROR, "price of a hold of order " INT64_FORMAT " is out of range", order_id);
	hold->status = hold_status_by_name(row_text(slot, HOLD_COLUMN_STATUS));
	if (hold->status == HOLD_UNCHANGED)
		elog(ERROR, "a hold of order " INT64_FORMAT " has a status that is not known", order_id);
	hold->reason = row_text(slot, HOLD_COLUMN_REASON);
	hold->tuple = ExecCopySlotHeapTuple(slot);
}

/* The ids are distinct and ascending. */
static void
lock_orders(Settlement *settlement, const int64 *order_ids, int count)
{
	Datum  *keys = palloc(sizeof(Datum) * Max(count, 1));
	RowScan scan;

	for (int i = 0; i < count; i++)
		keys[i] = Int64GetDatum(order_ids[i]);
	rows_see_latest();
	row_scan_begin(&scan, "orders", NULL, RowExclusiveLock);
	scan.skip_locked = settlement->skip_locked;
	row_scan_locate(&scan, keys, 1, count, F_INT8EQ);
	for (int i = 0; i < count; i++)
	{
		TupleTableSlot *slot;

		row_scan_find_located(&scan, i);
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
	Datum  *keys = palloc(sizeof(Datum) * Max(settlement->norders, 1));

	settlement->holds = palloc(sizeof(Hold) * room);
	for (int i = 0; i < settlement->norders; i++)
		keys[i] = Int64GetDatum(settlement->orders[i].facts.order_id);
	rows_see_latest();
	row_scan_begin(&scan, "hold", NULL, RowExclusiveLock);
	row_scan_locate(&scan, keys, 1, settlement->norders, F_INT8EQ);
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder   *order = &settlement->orders[i];
		int             first = settlement->nholds;
		TupleTableSlot *slot;

		CHECK_FOR_INTERRUPTS();
		row_scan_find_located(&scan, i);
		while ((slot = may_be_stale ? row_scan_next_locked(&scan) : row_scan_next(&scan)) != NULL)
		{
			settlement->holds =
				array_with_room(settlement->holds, settlement->nholds, &room, sizeof(Hold));
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
	count = order_ids_sort(sorted, count);
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

static int
compare_order_id(const void *key, const void *element)
{
	return compare_order_ids(key, &((const SettledOrder *) element)->facts.order_id);
}

void
settlement_unknown_order(int64 order_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OA_UNKNOWN_SUBJECT), errmsg("unknown order " INT64_FORMAT, order_id),
			 errdetail("No order has that id.")));
}

SettledOrder *
settlement_find(const Settlement *settlement, int64 order_id)
{
	return bsearch(&order_id, settlement->orders, settlement->norders, sizeof(SettledOrder),
				   compare_order_id);
}

bool
settlement_is_busy(const Settlement *settlement, int64 order_id)
{
	const SettledOrder *order = settlement_find(settlement, order_id);

	if (order != NULL)
		return order->is_busy;
	return bsearch(&order_id, settlement->busy_order_ids, settlement->nbusy, sizeof(int64),
				   compare_order_ids) != NULL;
}

/* ---------- stock ---------- */

bool
order_has_rejection(const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		if (order->holds[i].new_status == HOLD_REJECTED)
			return true;
	}
	return false;
}

/* May the settlement change the stock of the hold? What was rejected or released before keeps
 * nothing that an order lets go of when it is closed. */
static bool
may_move_stock(const SettledOrder *order, const Hold *hold, bool rejection)
{
	return rejection || hold->new_status != HOLD_UNCHANGED ||
		   (order->new_status != ORDER_UNCHANGED && hold_is_kept(hold));
}

/*
 * Every stock row the settlement may change: those of the holds that change, of
 * all that an order keeps which is closed, and, where a vendor has rejected, all
 * offers of all products of the order, because it will be sourced anew or let
 * go of all of them.
 */
StockRows *
settlement_lock_stock(const Settlement *settlement, bool *has_all_offers)
{
	const char **product_ids = palloc(sizeof(char *) * Max(settlement->nholds, 1));
	const char **vendor_ids = palloc(sizeof(char *) * Max(settlement->nholds, 1));
	int64       *settled = palloc(sizeof(int64) * Max(settlement->nholds, 1));
	int          count = 0;

	*has_all_offers = false;
	for (int i = 0; i < settlement->norders; i++)
	{
		const SettledOrder *order = &settlement->orders[i];
		bool                rejection = order_has_rejection(order);

		*has_all_offers |= rejection;
		for (int h = 0; h < order->nholds; h++)
		{
			if (!may_move_stock(order, &order->holds[h], rejection))
				continue;
			product_ids[count] = order->holds[h].product_id;
			vendor_ids[count] = rejection ? NULL : order->holds[h].vendor_id;
			settled[count] = order->holds[h].status == HOLD_OPEN ? order->holds[h].quantity : 0;
			count++;
		}
	}
	return stock_lock_rows(product_ids, vendor_ids, settled, count, settlement->skip_locked);
}

/* Would the settlement of the order change, or have to look at, stock that another transaction has
 * locked? */
static bool
needs_busy_stock(const SettledOrder *order, const StockRows *stock)
{
	bool rejection = order_has_rejection(order);

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (!may_move_stock(order, hold, rejection))
			continue;
		if (stock_is_busy(stock, hold->product_id, rejection ? NULL : hold->vendor_id))
			return true;
	}
	return false;
}

/* Takes back all that was decided of orders whose stock is locked elsewhere. */
void
settlement_set_busy_aside(Settlement *settlement, const StockRows *stock)
{
	for (int i = 0; i < settlement->norders; i++)
	{
		SettledOrder *order = &settlement->orders[i];

		order->is_busy = needs_busy_stock(order, stock);
		if (!order->is_busy)
			continue;
		order->new_status = ORDER_UNCHANGED;
		for (int h = 0; h < order->nholds; h++)
		{
			order->holds[h].new_status = HOLD_UNCHANGED;
			order->holds[h].is_taken = false;
		}
		event_batch_drop_order(settlement->events, order->facts.order_id);
	}
}

StockRow *
hold_stock(const StockRows *stock, const Hold *hold)
{
	StockRow *row = stock_find(stock, hold->product_id, hold->vendor_id);

	if (row == NULL)
		elog(ERROR,
			 "no stock of product \"%s\" at vendor \"%s\", though order " INT64_FORMAT " holds it",
			 hold->product_id, hold->vendor_id, hold->order_id);
	return row;
}

/* Moves the hold's units as its new status asks. */
void
hold_apply_to_stock(StockRows *stock, const Hold *hold)
{
	StockRow *row;

	if (hold->new_status == HOLD_UNCHANGED)
		return;
	row = hold_stock(stock, hold);
	if (hold->new_status == HOLD_CONFIRMED)
		stock_ship(row, hold->quantity);
	else if (hold->new_status == HOLD_RETURNED)
		stock_return(stock, row, hold->quantity);
	else
		stock_release(stock, row, hold->quantity);
}

/* ---------- what is left of an order ---------- */

bool
hold_is_kept(const Hold *hold)
{
	HoldStatus status = hold_current_status(hold);

	return status == HOLD_OPEN || status == HOLD_CONFIRMED;
}

bool
order_keeps_a_hold(const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		if (hold_is_kept(&order->holds[i]))
			return true;
	}
	return false;
}
