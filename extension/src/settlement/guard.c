/*
 * guard.c
 *		Triggers that refuse what must never happen, whoever asks for it.
 *
 *		orders:	pending -> confirmed | rejected | cancelled | expired
 *		hold:	open -> confirmed | rejected | released;  confirmed -> returned
 *		stock:	no negative counter
 *		vendor, product:	kept while stock refers to them
 *		outbox:	append-only
 *
 * The triggers' WHEN clauses let only rows through whose state changes, or
 * whose counter is negative. Nobody but the extension's owner may make a trigger
 * of these functions, and none of them works on another table than its own.
 */

#include "postgres.h"

#include "store/errors.h"
#include "store/plans.h"
#include "store/status.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "store/trigger.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

OA_FUNCTION(oa_guard_order);
OA_FUNCTION(oa_guard_hold);
OA_FUNCTION(oa_guard_stock);
OA_FUNCTION(oa_guard_reference);
OA_FUNCTION(oa_guard_outbox);

/* The column as text; "null" if it is. */
static char *
column(TriggerData *trigger, HeapTuple tuple, const char *name)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);
	char     *value = SPI_getvalue(tuple, desc, SPI_fnumber(desc, name));

	return value ? value : "null";
}

Datum
oa_guard_order(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = our_trigger(fcinfo, "orders", "guard_update",
									   TRIGGER_EVENT_BEFORE | TRIGGER_EVENT_ROW, GUARD_UPDATE);
	HeapTuple    tuple;
	TupleDesc    desc = RelationGetDescr(trigger->tg_relation);
	int          closed_at_column = SPI_fnumber(desc, "closed_at");
	Datum        now;
	bool         is_null = false;

	tuple = trigger->tg_newtuple;
	if (order_status_by_name(column(trigger, trigger->tg_trigtuple, "status")) != ORDER_PENDING)
		ereport(ERROR,
				(errcode(ERRCODE_OA_STATE),
				 errmsg("order %s is %s and cannot become %s", column(trigger, tuple, "order_id"),
						column(trigger, trigger->tg_trigtuple, "status"),
						column(trigger, tuple, "status")),
				 errdetail("Only a pending order can change its state, once.")));

	if (!heap_attisnull(tuple, closed_at_column, desc))
		return PointerGetDatum(tuple);
	now = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	return PointerGetDatum(
		heap_modify_tuple_by_cols(tuple, desc, 1, &closed_at_column, &now, &is_null));
}

static bool
hold_may_become(HoldStatus before, HoldStatus after)
{
	if (before == HOLD_OPEN)
		return after == HOLD_CONFIRMED || after == HOLD_REJECTED || after == HOLD_RELEASED;
	return before == HOLD_CONFIRMED && after == HOLD_RETURNED;
}

Datum
oa_guard_hold(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = our_trigger(fcinfo, "hold", "guard_update",
									   TRIGGER_EVENT_BEFORE | TRIGGER_EVENT_ROW, GUARD_UPDATE);
	const char  *before = column(trigger, trigger->tg_trigtuple, "status");
	const char  *after = column(trigger, trigger->tg_newtuple, "status");

	if (!hold_may_become(hold_status_by_name(before), hold_status_by_name(after)))
		ereport(ERROR,
				(errcode(ERRCODE_OA_STATE),
				 errmsg("a hold of order %s at vendor \"%s\" is %s and cannot become %s",
						column(trigger, trigger->tg_newtuple, "order_id"),
						column(trigger, trigger->tg_newtuple, "vendor_id"), before, after),
				 errdetail("An open hold ends once; only a confirmed one can be returned.")));
	return PointerGetDatum(trigger->tg_newtuple);
}

/*
 * oa_guard_reference keeps a vendor or a product that stock refers to. In place of
 * foreign keys, which a restore would check while their tables are still being loaded.
 */
Datum
oa_guard_reference(PG_FUNCTION_ARGS)
{
	bool is_vendor =
		CALLED_AS_TRIGGER(fcinfo) &&
		RelationGetRelid(((TriggerData *) fcinfo->context)->tg_relation) == table_oid("vendor");
	TriggerData *trigger =
		our_trigger(fcinfo, is_vendor ? "vendor" : "product", "guard_reference",
					TRIGGER_EVENT_BEFORE | TRIGGER_EVENT_ROW, GUARD_UPDATE | GUARD_DELETE);
	const char *key = is_vendor ? "vendor_id" : "product_id";
	char       *old = column(trigger, trigger->tg_trigtuple, key);
	HeapTuple   result =
        TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ? trigger->tg_trigtuple : trigger->tg_newtuple;
	Datum values[1] = {CStringGetTextDatum(old)};
	bool  is_null;

	if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event) &&
		strcmp(old, column(trigger, trigger->tg_newtuple, key)) == 0)
		return PointerGetDatum(result);
	SPI_connect();
	plan_execute(is_vendor ? PLAN_REFERS_TO_VENDOR : PLAN_REFERS_TO_PRODUCT, values, NULL,
				 SPI_OK_SELECT);
	if (DatumGetBool(spi_datum(0, 1, &is_null)))
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("%s \"%s\" cannot go: there is stock, or a mapping, feed or login, of it",
						is_vendor ? "vendor" : "product", old),
				 errdetail("Rows of stock, product_map, feed_sync or vendor_login name it."),
				 errhint("A vendor, or an offer, that is not active sells nothing.")));
	SPI_finish();
	return PointerGetDatum(result);
}

Datum
oa_guard_stock(PG_FUNCTION_ARGS)
{
	bool is_insert = CALLED_AS_TRIGGER(fcinfo) &&
					 TRIGGER_FIRED_BY_INSERT(((TriggerData *) fcinfo->context)->tg_event);
	TriggerData *trigger =
		our_trigger(fcinfo, "stock", is_insert ? "guard_insert" : "guard_update",
					TRIGGER_EVENT_BEFORE | TRIGGER_EVENT_ROW, GUARD_INSERT | GUARD_UPDATE);
	HeapTuple tuple = is_insert ? trigger->tg_trigtuple : trigger->tg_newtuple;

	ereport(ERROR,
			(errcode(ERRCODE_OA_STATE),
			 errmsg("stock of product \"%s\" at vendor \"%s\" cannot be negative",
					column(trigger, tuple, "product_id"), column(trigger, tuple, "vendor_id")),
			 errdetail("on_hand would be %s and reserved %s.", column(trigger, tuple, "on_hand"),
					   column(trigger, tuple, "reserved"))));
}

Datum
oa_guard_outbox(PG_FUNCTION_ARGS)
{
	our_trigger(fcinfo, "outbox", "guard_update", TRIGGER_EVENT_BEFORE | TRIGGER_EVENT_ROW,
				GUARD_UPDATE);
	ereport(ERROR, (errcode(ERRCODE_OA_STATE), errmsg("the outbox is append-only"),
					errdetail("An event is told as it was written.")));
}
