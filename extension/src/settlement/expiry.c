/*
 * expiry.c
 *		Orders that have run out: what they hold is for sale again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "settlement/settlement.h"
#include "settlement/some_of_many.h"
#include "store/check.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"

OA_FUNCTION(oa_expire_orders);
OA_FUNCTION(oa_expire_orders_skip_locked);

/*
 * Closes the orders among those ids that are free, and returns how many. With
 * skip_locked that may be fewer.
 */
static int
expire(void *unused, const int64 *order_ids, int count, bool skip_locked)
{
	Settlement *settlement = settlement_lock(order_ids, count, skip_locked);
	int         expired = 0;

	(void) unused;
	for (int i = 0; i < settlement->norders; i++)
	{
		settlement->orders[i].new_status = ORDER_EXPIRED;
		settlement->orders[i].new_reason = "not confirmed in time";
	}
	settlement_write(settlement);
	for (int i = 0; i < settlement->norders; i++)
		expired += !settlement->orders[i].is_busy;
	return expired;
}

/* Orders in the order of their expiry. */
typedef struct ExpiredOrders
{
	int64       *order_ids;
	TimestampTz *expire_at;
	int          count;
} ExpiredOrders;

/* Where the last call has stopped, if it had met some that cannot be closed and others may be left.
 */
static TimestampTz stopped_at = DT_NOBEGIN;
static int64       stopped_order_id;

/* Locks the next ones of those that have run out. */
static ExpiredOrders
lock_expired(int max_orders, TimestampTz after, int64 after_order_id)
{
	Datum values[4] = {Int64GetDatum(max_orders), TimestampTzGetDatum(GetCurrentTimestamp()),
					   TimestampTzGetDatum(after), Int64GetDatum(after_order_id)};
	ExpiredOrders expired;
	bool          is_null;

	plan_execute(PLAN_LOCK_EXPIRED, values, NULL, SPI_OK_SELECT);
	expired.count = (int) SPI_processed;
	expired.order_ids = palloc(sizeof(int64) * Max(expired.count, 1));
	expired.expire_at = palloc(sizeof(TimestampTz) * Max(expired.count, 1));
	for (int i = 0; i < expired.count; i++)
	{
		expired.order_ids[i] = spi_int64(i, 1);
		expired.expire_at[i] = DatumGetTimestampTz(spi_datum(i, 2, &is_null));
	}
	return expired;
}

/* The place of the last one that was tried. */
static int
last_tried(const ExpiredOrders *expired, const SomeSettled *some)
{
	int last = expired->count - 1;

	while (some_has_failed_often(some) && last > 0 && expired->order_ids[last] != some->last_failed)
		last--;
	return last;
}

/*
 * Closes up to max_orders orders that have run out, the oldest first. Those that cannot be closed
 * are passed over, and, with skip_locked, those whose stock is locked elsewhere, however many they
 * are: behind them others wait. The next call of the session goes on behind those that cannot.
 */
static int
expire_orders(int max_orders, bool skip_locked)
{
	TimestampTz after = stopped_at;
	int64       after_order_id = stopped_order_id;
	SomeSettled some = {0};
	bool        is_end;
	bool        stops_here;

	lock_for_writing("orders");
	do
	{
		int           wanted = max_orders - some.settled;
		ExpiredOrders expired = lock_expired(wanted, after, after_order_id);

		CHECK_FOR_INTERRUPTS();
		settle_some_of(expired.order_ids, expired.count, skip_locked, expire, NULL, &some);
		is_end = expired.count < wanted && !some_has_failed_often(&some);
		if (expired.count > 0)
		{
			int last = last_tried(&expired, &some);

			after = expired.expire_at[last];
			after_order_id = expired.order_ids[last];
		}
	} while ((skip_locked || some.failed > 0) && !is_end && !some_has_failed_often(&some) &&
			 some.settled < max_orders);
	stops_here = !is_end && (some.failed > 0 || stopped_order_id != 0);
	stopped_at = stops_here ? after : DT_NOBEGIN;
	stopped_order_id = stops_here ? after_order_id : 0;
	some_warn_of_failures(&some, "expired");
	return some.settled;
}

Datum
oa_expire_orders(PG_FUNCTION_ARGS)
{
	int32 expired;

	begin_writing("expire_orders()");
	SPI_connect();
	expired = expire_orders(count_argument(fcinfo, 0, "max_orders"), false);
	SPI_finish();
	PG_RETURN_INT32(expired);
}

Datum
oa_expire_orders_skip_locked(PG_FUNCTION_ARGS)
{
	int32 expired;

	begin_writing("expire_orders_skip_locked()");
	SPI_connect();
	expired = expire_orders(count_argument(fcinfo, 0, "max_orders"), true);
	SPI_finish();
	PG_RETURN_INT32(expired);
}
