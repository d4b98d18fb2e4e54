/*
 * some_of_many.c
 *		Settling orders of which one may be impossible to settle.
 *
 * An order whose stock somebody has changed by hand, or that a rule of the user's forbids to be
 * closed, would keep all others from being closed with it, each time.
 */
#include "postgres.h"

#include "settlement/some_of_many.h"

#include "executor/spi.h"
#include "miscadmin.h"
#include "store/subtransaction.h"

#define FAILURES_MAX 32 /* of a call: each is some ten subtransactions */

typedef struct Attempt
{
	const int64 *order_ids;
	int          count;
	bool         skip_locked;
	SettleOrders settle;
	void        *context;
	int          settled;
} Attempt;

/* With a memory of its own, which is gone with it. */
static void
attempt_it(void *context)
{
	Attempt *attempt = context;

	SPI_connect();
	attempt->settled =
		attempt->settle(attempt->context, attempt->order_ids, attempt->count, attempt->skip_locked);
	SPI_finish();
}

/* Would it be so with any order, and may it be otherwise the next time? */
static bool
is_nobodys_fault(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TRANSACTION_ROLLBACK || category == ERRCODE_INSUFFICIENT_RESOURCES ||
		   category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		   category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_SYSTEM_ERROR;
}

bool
some_has_failed_often(const SomeSettled *some)
{
	return some->failed >= FAILURES_MAX;
}

static void
note_failure(SomeSettled *some, int64 order_id, const ErrorData *error)
{
	if (some->failed++ == 0)
	{
		some->first_failed = order_id;
		some->why = error->message;
	}
	some->last_failed = order_id;
}

void
settle_some_of(const int64 *order_ids, int count, bool skip_locked, SettleOrders settle,
			   void *context, SomeSettled *some)
{
	Attempt    attempt = {order_ids, count, skip_locked || some->has_locks, settle, context, 0};
	ErrorData *error;
	int        half = count / 2;

	if (count == 0 || some_has_failed_often(some))
		return;
	CHECK_FOR_INTERRUPTS();
	error = subtransaction_run(attempt_it, &attempt);
	some->settled += attempt.settled;
	if (error == NULL)
	{
		some->has_locks = true;
		return;
	}
	if (is_nobodys_fault(error->sqlerrcode))
		ReThrowError(error);
	if (count == 1)
	{
		note_failure(some, order_ids[0], error);
		return;
	}
	settle_some_of(order_ids, half, skip_locked, settle, context, some);
	settle_some_of(order_ids + half, count - half, skip_locked, settle, context, some);
}

void
some_warn_of_failures(const SomeSettled *some, const char *done)
{
	if (some->failed > 0)
		ereport(WARNING, (errmsg_plural("%d order cannot be %s", "%d orders cannot be %s",
										some->failed, some->failed, done),
						  errdetail("Order " INT64_FORMAT ": %s", some->first_failed, some->why),
						  errhint("check_consistency() may say what is wrong with them.")));
}
