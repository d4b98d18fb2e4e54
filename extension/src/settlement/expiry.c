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
#include "store/tables.h"

PG_FUNCTION_INFO_V1(oa_expire_orders);
PG_FUNCTION_INFO_V1(oa_expire_orders_skip_locked);

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

/*
 * Closes up to max_orders orders that have run out, the oldest first. Those that cannot be closed
 * are passed over, and, with skip_locked, those whose stock is locked elsewhere, however many they
 * are: behind them others wait.
 */
static int
expire_orders(int max_orders, bool skip_locked)
{
	Datum    values[4] = {Int64GetDatum(max_orders), TimestampTzGetDatum(GetCurrentTimestamp()),
						  TimestampTzGetDatum(DT_NOBEGIN), Int64GetDatum(0)};
	Failures failures = {0};
	int      expired = 0;
	uint64   nrows;

	lock_for_writing("orders");
	do
	{
		int64      *order_ids;
		TimestampTz last_expiry;
		bool        is_null;

		CHECK_FOR_INTERRUPTS();
		plan_execute(PLAN_LOCK_EXPIRED, values, NULL, SPI_OK_SELECT);
		nrows = SPI_processed;
		if (nrows == 0)
			break;
		order_ids = palloc(sizeof(int64) * nrows);
		for (uint64 i = 0; i < nrows; i++)
			order_ids[i] = spi_int64(i, 1);
		last_expiry = DatumGetTimestampTz(spi_datum(nrows - 1, 2, &is_null));
		values[2] = TimestampTzGetDatum(last_expiry);
		values[3] = Int64GetDatum(order_ids[nrows - 1]);
		expired += settle_some_of(order_ids, (int) nrows, skip_locked, expire, NULL, &failures);
		values[0] = Int64GetDatum(max_orders - expired);
		/* the rows of the first ones are locked: nobody is waited for from then on */
		skip_locked |= failures.count > 0;
	} while (skip_locked && expired < max_orders);
	failures_warn(&failures, "expired");
	return expired;
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
