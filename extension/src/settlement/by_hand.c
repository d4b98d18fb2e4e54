/*
 * by_hand.c
 *		What a shop, or a vendor that speaks SQL, does to an order: confirm, reject, cancel.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "placement/idempotency.h"
#include "settlement/settlement.h"
#include "store/caller.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_confirm_order);
OA_FUNCTION(oa_reject_order);
OA_FUNCTION(oa_cancel_order);
OA_FUNCTION(oa_cancel_order_once);

static char *
reason_argument(FunctionCallInfo fcinfo, int argument)
{
	char *reason;

	if (PG_ARGISNULL(argument))
		return NULL;
	reason = text_to_cstring(PG_GETARG_TEXT_PP(argument));
	if (strlen(reason) > REASON_CHARS_MAX)
		argument_error("reason", psprintf("must be at most %d bytes long", REASON_CHARS_MAX));
	return reason;
}

/* ERROR unless the one order is known and pending. */
static void
require_pending(const Settlement *settlement, int64 order_id, bool is_known)
{
	if (!is_known)
		settlement_unknown_order(order_id);
	if (settlement->orders[0].status != ORDER_PENDING)
		ereport(ERROR,
				(errcode(ERRCODE_OA_STATE),
				 errmsg("order " INT64_FORMAT " is %s", order_id,
						order_status_name(settlement->orders[0].status)),
				 errdetail("Only a pending order can be confirmed, rejected or cancelled.")));
}

static bool
is_part_of(const SettledOrder *order, const char *vendor_id)
{
	for (int i = 0; i < order->nholds; i++)
	{
		if (strcmp(order->holds[i].vendor_id, vendor_id) == 0)
			return true;
	}
	return false;
}

/* Gives all open holds of the vendor (NULL: of every vendor) their new status. */
static Datum
settle_by_hand(FunctionCallInfo fcinfo, const char *vendor_id, HoldStatus new_status,
			   const char *reason)
{
	int64         order_id = PG_GETARG_INT64(0);
	Caller        caller = caller_begin(fcinfo);
	Settlement   *settlement;
	SettledOrder *order;
	bool          is_vendor;
	int           matched = 0;
	const char   *status;

	SPI_connect();
	is_vendor = require_answers_for(&caller, vendor_id);
	settlement = settlement_lock(&order_id, 1, false);
	/* to a vendor's login an order that it was never asked for does not exist */
	require_pending(settlement, order_id,
					settlement->norders > 0 &&
						(!is_vendor || is_part_of(&settlement->orders[0], vendor_id)));
	order = &settlement->orders[0];
	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (hold->status != HOLD_OPEN ||
			(vendor_id != NULL && strcmp(hold->vendor_id, vendor_id) != 0))
			continue;
		hold->new_status = new_status;
		hold->reason = reason;
		matched++;
	}
	if (matched == 0)
		ereport(ERROR, (errcode(ERRCODE_OA_UNKNOWN_SUBJECT),
						errmsg("vendor \"%s\" holds nothing open of order " INT64_FORMAT,
							   vendor_id ? excerpt(vendor_id) : "", order_id),
						errdetail("It was not asked, or its part is decided already.")));
	settlement_write(settlement);
	status =
		order_status_name(order->new_status != ORDER_UNCHANGED ? order->new_status : ORDER_PENDING);
	SPI_finish();
	caller_end(&caller);
	PG_RETURN_TEXT_P(cstring_to_text(status));
}

Datum
oa_confirm_order(PG_FUNCTION_ARGS)
{
	begin_writing("confirm_order()");
	require_argument(fcinfo, 0, "order_id");
	return settle_by_hand(fcinfo, PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)),
						  HOLD_CONFIRMED, NULL);
}

Datum
oa_reject_order(PG_FUNCTION_ARGS)
{
	begin_writing("reject_order()");
	require_argument(fcinfo, 0, "order_id");
	require_argument(fcinfo, 1, "vendor_id");
	return settle_by_hand(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(1)), HOLD_REJECTED,
						  reason_argument(fcinfo, 2));
}

static void
cancel(int64 order_id, const char *reason)
{
	Settlement *settlement = settlement_lock(&order_id, 1, false);

	require_pending(settlement, order_id, settlement->norders > 0);
	settlement->orders[0].new_status = ORDER_CANCELLED;
	settlement->orders[0].new_reason = reason;
	settlement_write(settlement);
}

Datum
oa_cancel_order(PG_FUNCTION_ARGS)
{
	const char *reason = reason_argument(fcinfo, 1);

	begin_writing("cancel_order()");
	require_argument(fcinfo, 0, "order_id");
	SPI_connect();
	cancel(PG_GETARG_INT64(0), reason);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(order_status_name(ORDER_CANCELLED)));
}

Datum
oa_cancel_order_once(PG_FUNCTION_ARGS)
{
	const char *reason = reason_argument(fcinfo, 1);
	const char *key = id_argument(fcinfo, 2, "idempotency_key", KEY_CHARS_MAX);

	begin_writing("cancel_order_once()");
	require_argument(fcinfo, 0, "order_id");
	require_argument(fcinfo, 2, "idempotency_key");
	SPI_connect();
	if (idempotency_claim_action(key, "cancel", PG_GETARG_INT64(0), reason ? reason : ""))
		cancel(PG_GETARG_INT64(0), reason);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(order_status_name(ORDER_CANCELLED)));
}
