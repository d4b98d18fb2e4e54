/*
 * shortage.c
 *		Vendors that turn out to have fewer units than are held of them.
 *
 * A feed notes the shortage (reconcile.c); what is done about it is the vendor's
 * on_shortage:
 *
 *		keep		nothing: the vendor may deliver all the same
 *		resource	the newest orders go to other vendors; what none can serve stays
 *		reject		the same, and an order that none can serve is rejected
 *
 * Not in the feed's own transaction: that has locked stock, and orders come
 * before stock. Locks: orders, stock, then rows of "shortage", as a feed does.
 * An order gives up its whole part at the vendor, because the message that takes
 * a part back names no lines.
 */

#include "postgres.h"

#include "settlement/settlement.h"
#include "settlement/some_of_many.h"
#include "store/check.h"
#include "store/locks.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_settle_shortages);
OA_FUNCTION(oa_settle_shortages_skip_locked);

#define SHORTAGES_MAX 100 /* in one call, which reads the pending orders once for all of them */
#define REASON_SHORT  "the vendor's count is below what is held"

typedef struct Shortage
{
	const char *vendor_id;
	const char *product_id;
	bool        rejects;
	int64       units;
} Shortage;

/* An order that is to lose a vendor. */
typedef struct AffectedOrder
{
	int64       order_id;
	const char *vendor_id;
	bool        rejects;
} AffectedOrder;

typedef struct AffectedOrders
{
	AffectedOrder *orders;
	int            count;
} AffectedOrders;

/* Reads the shortages that are due; those that are over have no units. Their rows are locked last
 * of all. */
static Shortage *
read_shortages(int *count)
{
	Datum     values[1] = {Int64GetDatum(SHORTAGES_MAX)};
	Shortage *shortages;

	plan_execute(PLAN_READ_SHORTAGES, values, NULL, SPI_OK_SELECT);
	*count = (int) SPI_processed;
	shortages = palloc(sizeof(Shortage) * Max(SPI_processed, 1));
	for (uint64 row = 0; row < SPI_processed; row++)
		shortages[row] = (Shortage){spi_string(row, 1), spi_string(row, 2),
									strcmp(spi_string(row, 3), "reject") == 0, spi_int64(row, 4)};
	return shortages;
}

/* The vendors and products of shortages, as two arrays. */
static void
set_offers(Datum *values, const Shortage *shortages, int count)
{
	const char **vendor_ids = palloc(sizeof(char *) * count);
	const char **product_ids = palloc(sizeof(char *) * count);

	for (int i = 0; i < count; i++)
	{
		vendor_ids[i] = shortages[i].vendor_id;
		product_ids[i] = shortages[i].product_id;
	}
	values[0] = text_array(vendor_ids, count);
	values[1] = text_array(product_ids, count);
}

/*
 * Finds the newest orders that together hold the units that are short, of as many shortages as
 * there is room for, and of the first one that has any in any case; returns how many shortages.
 */
static int
find_affected_orders(const Shortage *shortages, int count, AffectedOrders *affected, int max_orders)
{
	int64 *units = palloc(sizeof(int64) * count);
	Datum  values[4];
	int    ncomplete = count;
	bool   is_short = false;
	uint64 nrows;

	for (int i = 0; i < count; i++)
	{
		units[i] = shortages[i].units;
		is_short |= units[i] > 0;
	}
	if (!is_short)
		return count;
	set_offers(values, shortages, count);
	values[2] = int8_array(units, count);
	values[3] = Int64GetDatum((int64) max_orders + 1); /* one more says that there are more */
	plan_execute(PLAN_ORDERS_HOLDING, values, NULL, SPI_OK_SELECT);
	nrows = SPI_processed;
	if (nrows > (uint64) max_orders)
	{
		nrows = max_orders;
		ncomplete = (int) Max(spi_int64(nrows, 1) - 1, spi_int64(0, 1));
	}
	for (uint64 row = 0; row < nrows && spi_int64(row, 1) <= ncomplete; row++)
	{
		const Shortage *shortage = &shortages[spi_int64(row, 1) - 1];

		affected->orders[affected->count++] =
			(AffectedOrder){spi_int64(row, 2), shortage->vendor_id, shortage->rejects};
	}
	return ncomplete;
}

/* So that those about which nothing can be done now do not hold up the others. Those that are over
 * are forgotten a minute later.
 */
static void
note_tried(const Shortage *shortages, int count)
{
	Datum values[2];

	set_offers(values, shortages, count);
	plan_execute(PLAN_FORGET_SHORTAGES, NULL, NULL, SPI_OK_DELETE);
	plan_execute(PLAN_SHORTAGES_TRIED, values, NULL, SPI_OK_UPDATE);
}

static bool
is_taken(const SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		if (order->holds[i].is_taken)
			return true;
	}
	return false;
}

static void
take_from_vendor(Settlement *settlement, const AffectedOrder *affected_order)
{
	SettledOrder *order = settlement_find(settlement, affected_order->order_id);

	if (order == NULL || order->status != ORDER_PENDING)
		return;
	/* of two vendors the one whose shortage rejects decides */
	order->stays_if_unserved =
		!affected_order->rejects && (order->stays_if_unserved || !is_taken(order));
	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (hold->status != HOLD_OPEN || strcmp(hold->vendor_id, affected_order->vendor_id) != 0)
			continue;
		hold->new_status = HOLD_REJECTED;
		hold->reason = REASON_SHORT;
		hold->is_taken = true;
	}
}

/* How many of the orders lost a vendor, whatever came after. */
static int
count_taken(const Settlement *settlement)
{
	int count = 0;

	for (int i = 0; i < settlement->norders; i++)
		count += is_taken(&settlement->orders[i]);
	return count;
}

static int
settle_affected(void *context, const int64 *order_ids, int count, bool skip_locked)
{
	const AffectedOrders *affected = context;
	Settlement           *settlement = settlement_lock(order_ids, count, skip_locked);

	for (int i = 0; i < affected->count; i++)
		take_from_vendor(settlement, &affected->orders[i]);
	settlement_write(settlement);
	return count_taken(settlement);
}

/* Where the last call has stopped, because it had met as many that cannot be settled as it may. */
static int64 stopped_order_id;

/* Settles the orders, which are sorted: those behind where the last call has stopped go first. */
static SomeSettled
settle_all_affected(AffectedOrders *affected, const int64 *order_ids, int count, bool skip_locked)
{
	SomeSettled some = {0};
	int         first = 0;

	while (first < count && order_ids[first] <= stopped_order_id)
		first++;
	settle_some_of(order_ids + first, count - first, skip_locked, settle_affected, affected, &some);
	settle_some_of(order_ids, first, skip_locked, settle_affected, affected, &some);
	stopped_order_id = some_has_failed_often(&some) ? some.last_failed : 0;
	return some;
}

static int
settle_shortages(int max_orders, bool skip_locked)
{
	int            nshortages;
	int            ntried;
	Shortage      *shortages;
	AffectedOrders affected = {palloc(sizeof(AffectedOrder) * max_orders), 0};
	int64         *order_ids = palloc(sizeof(int64) * max_orders);
	SomeSettled    some;
	int            norders;

	/* only one session at a time */
	if (!try_own_lock(OWN_LOCK_SHORTAGES, false))
		return 0;
	lock_for_writing("shortage", "orders", "hold", "stock");
	shortages = read_shortages(&nshortages);
	if (nshortages == 0)
		return 0;
	ntried = find_affected_orders(shortages, nshortages, &affected, max_orders);
	for (int i = 0; i < affected.count; i++)
		order_ids[i] = affected.orders[i].order_id;
	norders = order_ids_sort(order_ids, affected.count); /* one may lose two vendors */
	some = settle_all_affected(&affected, order_ids, norders, skip_locked);
	some_warn_of_failures(&some, "sourced anew");
	note_tried(shortages, ntried);
	return some.settled;
}

Datum
oa_settle_shortages(PG_FUNCTION_ARGS)
{
	int count;

	begin_writing("settle_shortages()");
	SPI_connect();
	count = settle_shortages(count_argument(fcinfo, 0, "max_orders"), false);
	SPI_finish();
	PG_RETURN_INT32(count);
}

Datum
oa_settle_shortages_skip_locked(PG_FUNCTION_ARGS)
{
	int count;

	begin_writing("settle_shortages_skip_locked()");
	SPI_connect();
	count = settle_shortages(count_argument(fcinfo, 0, "max_orders"), true);
	SPI_finish();
	PG_RETURN_INT32(count);
}
