/*
 * suspects.c
 *		Orders of which something does not add up: those that check_orders() looks at.
 *
 * Orders, lines and holds are read once, side by side, in the order of their keys, in constant
 * memory. Events are in no such order: event_sums.c says of which orders they are not what there
 * has to be.
 *
 * A suspicion is cheap and may be wrong; what is wrong is said by the SQL of check_orders().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "reading/event_sums.h"
#include "store/array.h"
#include "store/compat.h"
#include "store/money.h"
#include "store/rows.h"
#include "store/status.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

OA_FUNCTION(oa_suspect_orders);

#define SUSPECTS_MAX   10000 /* so many are a problem by themselves: check_orders() */
#define ORDERS_A_RESET 1000

/* Rows of a table in the order of their orders. */
typedef struct Stream
{
	RowScan         scan;
	TupleTableSlot *row;
	int64           order_id; /* PG_INT64_MAX after the last */
	int64           last;
} Stream;

/* A vendor that was asked for a part of an order, once an attempt. */
typedef struct Asked
{
	uint64 attempt; /* hash of vendor and attempt */
	uint64 event;
} Asked;

typedef struct Inspection
{
	int64         first;
	int64         last;
	TimestampTz   since;  /* events until then may be gone */
	TimestampTz   expiry; /* what has not been closed by then is late */
	EventSums    *sums;
	MemoryContext order_context;
	MemoryContext context;
	int64        *suspects;
	int           nsuspects;
	int           room;
} Inspection;

static void
suspect(Inspection *inspection, int64 order_id)
{
	MemoryContext old_context;

	if (inspection->nsuspects == SUSPECTS_MAX ||
		(inspection->nsuspects > 0 && inspection->suspects[inspection->nsuspects - 1] == order_id))
		return;
	old_context = MemoryContextSwitchTo(inspection->context);
	inspection->suspects = array_with_room(inspection->suspects, inspection->nsuspects,
										   &inspection->room, sizeof(int64));
	inspection->suspects[inspection->nsuspects++] = order_id;
	MemoryContextSwitchTo(old_context);
}

/* ---------- streams ---------- */

static void
stream_next(Stream *stream)
{
	stream->row = row_scan_next(&stream->scan);
	stream->order_id = stream->row ? DatumGetInt64(row_column(stream->row, 1)) : PG_INT64_MAX;
	if (stream->order_id > stream->last)
		stream->order_id = PG_INT64_MAX;
}

static void
stream_begin(Stream *stream, const char *table_name, const Inspection *inspection)
{
	ScanKeyData keys[1];

	row_scan_begin(&stream->scan, table_name, NULL, AccessShareLock);
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(inspection->first));
	row_scan_find(&stream->scan, keys, 1);
	stream->last = inspection->last;
	stream_next(stream);
}

/* ---------- the events that there have to be ---------- */

static Asked
ask_for(const Inspection *inspection, int64 order_id, TupleTableSlot *hold)
{
	text  *vendor = DatumGetTextPP(row_column(hold, HOLD_COLUMN_VENDOR_ID));
	size_t bytes = Min(VARSIZE_ANY_EXHDR(vendor), EVENT_KEY_BYTES_MAX - EVENT_PLACED_BYTES);
	char   key[EVENT_KEY_BYTES_MAX];
	uint64 event;

	memcpy(key, EVENT_PLACED_PREFIX, EVENT_PLACED_BYTES);
	memcpy(key + EVENT_PLACED_BYTES, VARDATA_ANY(vendor), bytes);
	event = event_sums_hash(inspection->sums, order_id, key, EVENT_PLACED_BYTES + bytes);
	return (Asked){hash_combine64(event, DatumGetInt32(row_column(hold, HOLD_COLUMN_ATTEMPT))),
				   event};
}

static int
compare_asked(const void *a, const void *b)
{
	uint64 left = ((const Asked *) a)->attempt;
	uint64 right = ((const Asked *) b)->attempt;

	return left < right ? -1 : left > right;
}

/* Vendors that were asked for several lines at once were asked by one event. */
static void
expect_asked(Inspection *inspection, int64 order_id, Asked *asked, int count)
{
	if (count > 1)
		qsort(asked, count, sizeof(Asked), compare_asked);
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || compare_asked(&asked[i - 1], &asked[i]) != 0)
			event_sums_expect(inspection->sums, order_id, asked[i].event);
	}
}

static void
expect_closed(Inspection *inspection, int64 order_id, const char *status)
{
	char key[32];
	int  bytes = snprintf(key, sizeof(key), "order.%s", status);

	event_sums_expect(inspection->sums, order_id,
					  event_sums_hash(inspection->sums, order_id, key, bytes));
}

/* ---------- one order ---------- */

/* What an order's holds come to. */
typedef struct HoldSums
{
	Amount amount;
	int    open;
	int    confirmed;
	int    given_back;
	bool   is_odd; /* a hold is none that there could be */
	Asked *asked;
	int    nasked;
	int    asked_room;
} HoldSums;

static void
add_hold(Inspection *inspection, int64 order_id, TupleTableSlot *hold, HoldSums *sums,
		 int64 *quantity)
{
	HoldStatus status = hold_status_by_name(row_text(hold, HOLD_COLUMN_STATUS));
	int64      units = DatumGetInt64(row_column(hold, HOLD_COLUMN_QUANTITY));
	Price      price;

	sums->open += status == HOLD_OPEN;
	sums->confirmed += status == HOLD_CONFIRMED;
	sums->given_back += status == HOLD_RELEASED || status == HOLD_RETURNED;
	sums->is_odd |= status == HOLD_UNCHANGED;
	if (status != HOLD_REJECTED)
	{
		*quantity += units;
		if (price_from_numeric(DatumGetNumeric(row_column(hold, HOLD_COLUMN_UNIT_PRICE)), &price))
			amount_add(&sums->amount, price, units);
		else
			sums->is_odd = true;
	}
	if (DatumGetTimestampTz(row_column(hold, HOLD_COLUMN_HELD_AT)) <= inspection->since)
		return;
	sums->asked = array_with_room(sums->asked, sums->nasked, &sums->asked_room, sizeof(Asked));
	sums->asked[sums->nasked++] = ask_for(inspection, order_id, hold);
}

static bool
same_text(Datum a, Datum b)
{
	text *left = DatumGetTextPP(a);
	text *right = DatumGetTextPP(b);

	return VARSIZE_ANY_EXHDR(left) == VARSIZE_ANY_EXHDR(right) &&
		   memcmp(VARDATA_ANY(left), VARDATA_ANY(right), VARSIZE_ANY_EXHDR(left)) == 0;
}

/* After the last line: one that an int cannot have. */
static int64
line_no_of(const Stream *stream, int64 order_id)
{
	return stream->order_id == order_id ? DatumGetInt32(row_column(stream->row, 2)) : PG_INT64_MAX;
}

/* Goes over the lines and holds of one order; true if they belong together. */
static bool
lines_add_up(Inspection *inspection, int64 order_id, Stream *lines, Stream *holds,
			 bool allow_partial, HoldSums *sums)
{
	bool ok = true;

	while (lines->order_id == order_id || holds->order_id == order_id)
	{
		int64 line_no = line_no_of(lines, order_id);
		int64 quantity = 0;

		if (line_no_of(holds, order_id) < line_no) /* of no line */
		{
			ok = false;
			line_no = line_no_of(holds, order_id);
		}
		while (line_no_of(holds, order_id) == line_no)
		{
			ok &= line_no_of(lines, order_id) != line_no ||
				  same_text(row_column(holds->row, HOLD_COLUMN_PRODUCT_ID),
							row_column(lines->row, ORDER_LINE_COLUMN_PRODUCT_ID));
			add_hold(inspection, order_id, holds->row, sums, &quantity);
			stream_next(holds);
		}
		if (line_no_of(lines, order_id) == line_no)
		{
			int64 wanted = DatumGetInt64(row_column(lines->row, ORDER_LINE_COLUMN_QUANTITY));

			ok &= allow_partial ? quantity <= wanted : quantity == wanted;
			stream_next(lines);
		}
	}
	return ok;
}

static bool
state_is_right(const Inspection *inspection, TupleTableSlot *order, const HoldSums *sums,
			   OrderStatus status)
{
	bool is_open;

	(void) row_get(order, ORDERS_COLUMN_CLOSED_AT, &is_open);
	if (sums->is_odd || (status == ORDER_PENDING) != is_open)
		return false;
	if (!amount_is(sums->amount, DatumGetNumeric(row_column(order, ORDERS_COLUMN_TOTAL_AMOUNT))))
		return false;
	switch (status)
	{
		case ORDER_PENDING:
			return sums->open > 0 && sums->given_back == 0 &&
				   DatumGetTimestampTz(row_column(order, ORDERS_COLUMN_EXPIRES_AT)) >=
					   inspection->expiry;
		case ORDER_CONFIRMED:
			return sums->confirmed > 0 && sums->open == 0 && sums->given_back == 0;
		case ORDER_REJECTED:
		case ORDER_CANCELLED:
		case ORDER_EXPIRED:
			return sums->open == 0 && sums->confirmed == 0;
		case ORDER_UNCHANGED:
			break;
	}
	return false;
}

/* Looks at the order with that id, or at what there is of it without one. */
static void
inspect(Inspection *inspection, int64 order_id, Stream *orders, Stream *lines, Stream *holds)
{
	MemoryContext   old_context = MemoryContextSwitchTo(inspection->order_context);
	TupleTableSlot *order = orders->order_id == order_id ? orders->row : NULL;
	HoldSums        sums = {.asked = NULL};
	bool            is_partial = order && row_bool(order, ORDERS_COLUMN_ALLOW_PARTIAL, false);
	bool            ok = lines_add_up(inspection, order_id, lines, holds, is_partial, &sums);

	expect_asked(inspection, order_id, sums.asked, sums.nasked);
	if (order != NULL)
	{
		const char *name = row_text(order, ORDERS_COLUMN_STATUS);
		OrderStatus status = order_status_by_name(name);

		ok &= state_is_right(inspection, order, &sums, status);
		if (status != ORDER_PENDING && status != ORDER_UNCHANGED &&
			row_int64(order, ORDERS_COLUMN_CLOSED_AT, PG_INT64_MAX) > inspection->since)
			expect_closed(inspection, order_id, name);
		stream_next(orders);
	}
	if (order == NULL || !ok)
		suspect(inspection, order_id);
	MemoryContextSwitchTo(old_context);
}

static void
inspect_orders(Inspection *inspection)
{
	Stream orders;
	Stream lines;
	Stream holds;
	int64  order_id;
	int    count = 0;

	stream_begin(&orders, "orders", inspection);
	stream_begin(&lines, "order_line", inspection);
	stream_begin(&holds, "hold", inspection);
	while ((order_id = Min(orders.order_id, Min(lines.order_id, holds.order_id))) != PG_INT64_MAX)
	{
		CHECK_FOR_INTERRUPTS();
		inspect(inspection, order_id, &orders, &lines, &holds);
		if (++count % ORDERS_A_RESET == 0)
			MemoryContextReset(inspection->order_context);
	}
	row_scan_end(&holds.scan);
	row_scan_end(&lines.scan);
	row_scan_end(&orders.scan);
}

/* ---------- events ---------- */

static void
suspect_by_sum(void *work, int64 order_id, TupleTableSlot *event)
{
	Inspection *inspection = work;

	if (event_sums_differ(inspection->sums, order_id))
		suspect(inspection, order_id);
}

/* Suspects all orders whose sum of events is not what it should be. */
static void
compare_events(Inspection *inspection)
{
	Stream orders;

	if (event_sums_find(inspection->sums))
		return;
	stream_begin(&orders, "orders", inspection);
	while (orders.order_id != PG_INT64_MAX)
	{
		CHECK_FOR_INTERRUPTS();
		suspect_by_sum(inspection, orders.order_id, NULL);
		stream_next(&orders);
	}
	row_scan_end(&orders.scan);
	event_sums_see_events(inspection->sums, suspect_by_sum, inspection);
}

/* ---------- the whole ---------- */

static ArrayType *
to_array(const Inspection *inspection)
{
	Datum *values = palloc(sizeof(Datum) * Max(inspection->nsuspects, 1));

	for (int i = 0; i < inspection->nsuspects; i++)
		values[i] = Int64GetDatum(inspection->suspects[i]);
	return construct_array(values, inspection->nsuspects, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						   TYPALIGN_DOUBLE);
}

Datum
oa_suspect_orders(PG_FUNCTION_ARGS)
{
	Inspection *inspection = palloc0(sizeof(Inspection));

	inspection->first = PG_ARGISNULL(0) ? PG_INT64_MIN : PG_GETARG_INT64(0);
	inspection->last = PG_ARGISNULL(1) ? PG_INT64_MAX - 1 : PG_GETARG_INT64(1);
	inspection->last = Min(inspection->last, PG_INT64_MAX - 1);
	inspection->since = PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2);
	inspection->expiry = PG_GETARG_TIMESTAMPTZ(3);
	inspection->sums =
		event_sums_make(inspection->first, inspection->last, inspection->since, PG_ARGISNULL(0));
	inspection->context = CurrentMemoryContext;
	inspection->order_context =
		AllocSetContextCreate(CurrentMemoryContext, "orders inspected", ALLOCSET_DEFAULT_SIZES);
	inspect_orders(inspection);
	compare_events(inspection);
	PG_RETURN_ARRAYTYPE_P(to_array(inspection));
}
