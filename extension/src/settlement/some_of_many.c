/*
 * some_of_many.c
 *		Settling orders of which one may be impossible to settle.
 *
 * An order whose stock somebody has changed by hand, or that a rule of the user's forbids to be
 * closed, would keep all others from being closed with it, each time.
 */
#include "postgres.h"

#include "settlement/some_of_many.h"

#include "miscadmin.h"
#include "store/subtransaction.h"

typedef struct Attempt
{
	const int64 *order_ids;
	int          count;
	bool         skip_locked;
	SettleOrders settle;
	void        *context;
	int          settled;
} Attempt;

static void
attempt_it(void *context)
{
	Attempt *attempt = context;

	attempt->settled =
		attempt->settle(attempt->context, attempt->order_ids, attempt->count, attempt->skip_locked);
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

int
settle_some_of(const int64 *order_ids, int count, bool skip_locked, SettleOrders settle,
			   void *context, Failures *failures)
{
	Attempt    attempt = {order_ids, count, skip_locked, settle, context, 0};
	ErrorData *error = subtransaction_run(attempt_it, &attempt);
	int        half = count / 2;

	if (error == NULL)
		return attempt.settled;
	if (is_nobodys_fault(error->sqlerrcode))
		ReThrowError(error);
	CHECK_FOR_INTERRUPTS();
	if (count > 1)
		return settle_some_of(order_ids, half, true, settle, context, failures) +
			   settle_some_of(order_ids + half, count - half, true, settle, context, failures);
	if (failures->count++ == 0)
	{
		failures->order_id = order_ids[0];
		failures->message = error->message;
	}
	return 0;
}

void
failures_warn(const Failures *failures, const char *done)
{
	if (failures->count > 0)
		ereport(WARNING,
				(errmsg_plural("%d order cannot be %s", "%d orders cannot be %s", failures->count,
							   failures->count, done),
				 errdetail("Order " INT64_FORMAT ": %s", failures->order_id, failures->message),
				 errhint("check_consistency() may say what is wrong with them.")));
}
