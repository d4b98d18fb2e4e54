/*
 * order_document.c
 *		order_documents(): orders as GET /order/{id} shows them.
 *
 * What the view order_summary shows, by index lookups: planning and running that view for one
 * order takes ten times as long.
 */
#include "postgres.h"

#include "funcapi.h"
#include "reading/documents.h"
#include "store/array.h"
#include "store/rows.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

OA_FUNCTION(oa_order_documents);

typedef struct OrderReader
{
	RowScan orders;
	RowScan lines;
	RowScan holds;
	RowScan returns;
	RowScan retries;
} OrderReader;

/* What became of an order, in the order it came; step: of what is of the same time. */
typedef struct Happening
{
	TimestampTz at;
	int         step;
	const char *event;
	const char *vendor_id; /* NULL: of the whole order */
	int         attempt;   /* 0: of none */
	const char *reason;
	int64       return_id; /* 0: of none */
} Happening;

enum HappeningStep
{
	STEP_PLACED = 1,
	STEP_HELD,
	STEP_ASKED_AGAIN,
	STEP_SETTLED,
	STEP_CLOSED,
	STEP_RETURNED
};

typedef struct History
{
	Happening *happenings;
	int        count;
	int        room;
} History;

/* ---------- history ---------- */

static void
add_happening(History *history, Happening happening)
{
	history->happenings =
		array_with_room(history->happenings, history->count, &history->room, sizeof(Happening));
	history->happenings[history->count++] = happening;
}

static int
compare_texts(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

/* By time, then as they are shown; 0 if they are the same. */
static int
compare_happenings(const void *a, const void *b)
{
	const Happening *left = a;
	const Happening *right = b;
	int              order = (left->at > right->at) - (left->at < right->at);

	if (order == 0)
		order = left->step - right->step;
	if (order == 0)
		order = strcmp(left->event, right->event);
	if (order == 0)
		order = (left->return_id > right->return_id) - (left->return_id < right->return_id);
	if (order == 0)
		order = compare_texts(left->vendor_id, right->vendor_id);
	if (order == 0)
		order = left->attempt - right->attempt;
	return order != 0 ? order : compare_texts(left->reason, right->reason);
}

/* One line for what befell several holds of a vendor at once. */
static void
write_history(StringInfo json, History *history)
{
	bool is_first = true;

	qsort(history->happenings, history->count, sizeof(Happening), compare_happenings);
	for (int i = 0; i < history->count; i++)
	{
		const Happening *happening = &history->happenings[i];

		if (i > 0 && compare_happenings(&happening[-1], happening) == 0)
			continue;
		document_next(json, &is_first);
		document_time(json, "at", TimestampTzGetDatum(happening->at), false);
		document_string(json, "event", happening->event);
		document_string(json, "vendorId", happening->vendor_id);
		document_member(json, "attempt");
		if (happening->attempt == 0)
			appendStringInfoString(json, "null");
		else
			appendStringInfo(json, "%d", happening->attempt);
		document_string(json, "reason", happening->reason);
		appendStringInfoChar(json, '}');
	}
}

/* ---------- parts ---------- */

static void
write_lines(OrderReader *reader, int64 order_id, StringInfo json)
{
	TupleTableSlot *slot;
	bool            is_first = true;

	row_scan_find_int8(&reader->lines, order_id);
	while ((slot = row_scan_next(&reader->lines)) != NULL)
	{
		document_next(json, &is_first);
		document_int_column(json, "lineNo", slot, ORDER_LINE_COLUMN_LINE_NO);
		document_text_column(json, "productId", slot, ORDER_LINE_COLUMN_PRODUCT_ID);
		document_int64(json, "quantity",
					   DatumGetInt64(row_column(slot, ORDER_LINE_COLUMN_QUANTITY)));
		appendStringInfoChar(json, '}');
	}
}

typedef struct HoldText
{
	int         attempt;
	int         line_no;
	const char *vendor_id;
	const char *json;
} HoldText;

static int
compare_hold_texts(const void *a, const void *b)
{
	const HoldText *left = a;
	const HoldText *right = b;

	if (left->attempt != right->attempt)
		return left->attempt - right->attempt;
	if (left->line_no != right->line_no)
		return left->line_no - right->line_no;
	return strcmp(left->vendor_id, right->vendor_id);
}

static HoldText
read_hold(TupleTableSlot *slot, History *history)
{
	StringInfoData json;
	bool           is_open;
	HoldText       hold = {DatumGetInt32(row_column(slot, HOLD_COLUMN_ATTEMPT)),
						   DatumGetInt32(row_column(slot, HOLD_COLUMN_LINE_NO)),
						   row_text(slot, HOLD_COLUMN_VENDOR_ID)};
	Datum          settled_at = row_get(slot, HOLD_COLUMN_SETTLED_AT, &is_open);

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	document_int64(&json, "lineNo", hold.line_no);
	document_text_column(&json, "productId", slot, HOLD_COLUMN_PRODUCT_ID);
	document_string(&json, "vendorId", hold.vendor_id);
	document_int64(&json, "attempt", hold.attempt);
	document_int64(&json, "quantity", DatumGetInt64(row_column(slot, HOLD_COLUMN_QUANTITY)));
	document_decimal_column(&json, "unitPrice", slot, HOLD_COLUMN_UNIT_PRICE);
	document_text_column(&json, "status", slot, HOLD_COLUMN_STATUS);
	document_time_column(&json, "heldAt", slot, HOLD_COLUMN_HELD_AT);
	document_time(&json, "settledAt", settled_at, is_open);
	document_text_column(&json, "reason", slot, HOLD_COLUMN_REASON);
	appendStringInfoChar(&json, '}');
	hold.json = json.data;
	add_happening(history, (Happening){DatumGetTimestampTz(row_column(slot, HOLD_COLUMN_HELD_AT)),
									   STEP_HELD, "held", hold.vendor_id, hold.attempt});
	if (!is_open)
		add_happening(history, (Happening){DatumGetTimestampTz(settled_at), STEP_SETTLED,
										   row_text(slot, HOLD_COLUMN_STATUS), hold.vendor_id,
										   hold.attempt, row_text(slot, HOLD_COLUMN_REASON)});
	return hold;
}

static void
write_holds(OrderReader *reader, int64 order_id, StringInfo json, History *history)
{
	int             room = 0;
	int             count = 0;
	HoldText       *holds = NULL;
	TupleTableSlot *slot;

	row_scan_find_int8(&reader->holds, order_id);
	while ((slot = row_scan_next(&reader->holds)) != NULL)
	{
		holds = array_with_room(holds, count, &room, sizeof(HoldText));
		holds[count++] = read_hold(slot, history);
	}
	if (count > 1)
		qsort(holds, count, sizeof(HoldText), compare_hold_texts);
	for (int i = 0; i < count; i++)
		appendStringInfo(json, "%s%s", i == 0 ? "" : ", ", holds[i].json);
}

static void
read_retries(OrderReader *reader, int64 order_id, History *history)
{
	TupleTableSlot *slot;

	row_scan_find_int8(&reader->retries, order_id);
	while ((slot = row_scan_next(&reader->retries)) != NULL)
		add_happening(
			history,
			(Happening){DatumGetTimestampTz(row_column(slot, VENDOR_RETRY_COLUMN_RETRIED_AT)),
						STEP_ASKED_AGAIN, "asked again",
						row_text(slot, VENDOR_RETRY_COLUMN_VENDOR_ID),
						DatumGetInt32(row_column(slot, VENDOR_RETRY_COLUMN_ATTEMPT))});
}

/* ---------- returns ---------- */

/* A line of a return. */
typedef struct ReturnedLine
{
	int64       return_id;
	int         line_no;
	const char *vendor_id;
	int64       quantity;
	bool        is_restocked;
	TimestampTz returned_at;
	const char *json;
} ReturnedLine;

/* As they are shown. */
static int
compare_returned_lines(const void *a, const void *b)
{
	const ReturnedLine *left = a;
	const ReturnedLine *right = b;

	if (left->return_id != right->return_id)
		return left->return_id < right->return_id ? -1 : 1;
	if (left->line_no != right->line_no)
		return left->line_no - right->line_no;
	return strcmp(left->vendor_id, right->vendor_id);
}

static ReturnedLine
read_returned_line(TupleTableSlot *slot)
{
	StringInfoData json;
	ReturnedLine   line = {
		  DatumGetInt64(row_column(slot, ORDER_RETURN_COLUMN_RETURN_ID)),
		  DatumGetInt32(row_column(slot, ORDER_RETURN_COLUMN_LINE_NO)),
		  row_text(slot, ORDER_RETURN_COLUMN_VENDOR_ID),
		  DatumGetInt64(row_column(slot, ORDER_RETURN_COLUMN_QUANTITY)),
		  DatumGetBool(row_column(slot, ORDER_RETURN_COLUMN_RESTOCKED)),
		  DatumGetTimestampTz(row_column(slot, ORDER_RETURN_COLUMN_RETURNED_AT)),
    };

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	document_int64(&json, "returnId", line.return_id);
	document_int64(&json, "lineNo", line.line_no);
	document_text_column(&json, "productId", slot, ORDER_RETURN_COLUMN_PRODUCT_ID);
	document_string(&json, "vendorId", line.vendor_id);
	document_int64(&json, "quantity", line.quantity);
	document_decimal_column(&json, "unitPrice", slot, ORDER_RETURN_COLUMN_UNIT_PRICE);
	document_bool(&json, "restocked", line.is_restocked);
	document_time_column(&json, "returnedAt", slot, ORDER_RETURN_COLUMN_RETURNED_AT);
	appendStringInfoChar(&json, '}');
	line.json = json.data;
	return line;
}

static int
compare_parts(const void *a, const void *b)
{
	const ReturnedLine *left = a;
	const ReturnedLine *right = b;

	if (left->return_id != right->return_id)
		return left->return_id < right->return_id ? -1 : 1;
	return strcmp(left->vendor_id, right->vendor_id);
}

/* One line for all that a vendor's part of a return is; puts the lines into another order. */
static void
add_returns(History *history, ReturnedLine *lines, int count)
{
	int64 units = 0;

	if (count > 1)
		qsort(lines, count, sizeof(ReturnedLine), compare_parts);
	for (int i = 0; i < count; i++)
	{
		const ReturnedLine *line = &lines[i];

		units += line->quantity;
		if (i + 1 < count && compare_parts(line, line + 1) == 0)
			continue;
		add_happening(history,
					  (Happening){line->returned_at, STEP_RETURNED, "returned", line->vendor_id, 0,
								  psprintf(INT64_FORMAT " units sent back%s", units,
										   line->is_restocked ? ", for sale again" : ""),
								  line->return_id});
		units = 0;
	}
}

static void
write_returns(OrderReader *reader, int64 order_id, StringInfo json, History *history)
{
	int             room = 0;
	int             count = 0;
	ReturnedLine   *lines = NULL;
	TupleTableSlot *slot;

	row_scan_find_int8(&reader->returns, order_id);
	while ((slot = row_scan_next(&reader->returns)) != NULL)
	{
		lines = array_with_room(lines, count, &room, sizeof(ReturnedLine));
		lines[count++] = read_returned_line(slot);
	}
	if (count > 1)
		qsort(lines, count, sizeof(ReturnedLine), compare_returned_lines);
	for (int i = 0; i < count; i++)
		appendStringInfo(json, "%s%s", i == 0 ? "" : ", ", lines[i].json);
	add_returns(history, lines, count);
}

/* ---------- the whole ---------- */

static void
begin_history(TupleTableSlot *order, History *history)
{
	bool  is_pending;
	Datum closed_at = row_get(order, ORDERS_COLUMN_CLOSED_AT, &is_pending);

	add_happening(history,
				  (Happening){DatumGetTimestampTz(row_column(order, ORDERS_COLUMN_PLACED_AT)),
							  STEP_PLACED, "placed"});
	if (!is_pending)
		add_happening(history, (Happening){DatumGetTimestampTz(closed_at), STEP_CLOSED,
										   row_text(order, ORDERS_COLUMN_STATUS), NULL, 0,
										   row_text(order, ORDERS_COLUMN_CLOSE_REASON)});
}

static bool
write_order(void *work, Datum key, StringInfo json)
{
	OrderReader    *reader = work;
	int64           order_id = DatumGetInt64(key);
	History         history = {NULL};
	TupleTableSlot *order;

	row_scan_find_int8(&reader->orders, order_id);
	if ((order = row_scan_next(&reader->orders)) == NULL)
		return false;
	appendStringInfoChar(json, '{');
	document_int64(json, "id", order_id);
	document_text_column(json, "status", order, ORDERS_COLUMN_STATUS);
	document_decimal_column(json, "totalAmount", order, ORDERS_COLUMN_TOTAL_AMOUNT);
	document_text_column(json, "customerId", order, ORDERS_COLUMN_CUSTOMER_ID);
	document_time_column(json, "placedAt", order, ORDERS_COLUMN_PLACED_AT);
	document_time_column(json, "expiresAt", order, ORDERS_COLUMN_EXPIRES_AT);
	document_time_column(json, "closedAt", order, ORDERS_COLUMN_CLOSED_AT);
	document_text_column(json, "reason", order, ORDERS_COLUMN_CLOSE_REASON);
	begin_history(order, &history);
	appendStringInfoString(json, ", \"lines\": [");
	write_lines(reader, order_id, json);
	appendStringInfoString(json, "], \"holds\": [");
	write_holds(reader, order_id, json, &history);
	appendStringInfoString(json, "], \"returns\": [");
	write_returns(reader, order_id, json, &history);
	read_retries(reader, order_id, &history);
	appendStringInfoString(json, "], \"history\": [");
	write_history(json, &history);
	appendStringInfoString(json, "]}");
	return true;
}

Datum
oa_order_documents(PG_FUNCTION_ARGS)
{
	OrderReader reader;

	InitMaterializedSRF(fcinfo, 0);
	row_scan_begin(&reader.orders, "orders", NULL, AccessShareLock);
	row_scan_begin(&reader.lines, "order_line", NULL, AccessShareLock);
	row_scan_begin(&reader.holds, "hold", NULL, AccessShareLock);
	row_scan_begin(&reader.returns, "order_return", NULL, AccessShareLock);
	row_scan_begin(&reader.retries, "vendor_retry", NULL, AccessShareLock);
	documents_return(fcinfo, write_order, &reader);
	row_scan_end(&reader.retries);
	row_scan_end(&reader.returns);
	row_scan_end(&reader.holds);
	row_scan_end(&reader.lines);
	row_scan_end(&reader.orders);
	return (Datum) 0;
}
