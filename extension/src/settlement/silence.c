/*
 * silence.c
 *		Vendors that stay silent are asked again.
 *
 * The question is the same, so a vendor that did answer, and whose answer was
 * lost, finds the order and attempt it knows; the message is another, with a
 * message_id of its own, so that no one takes it for a redelivery and drops it.
 */

#include "postgres.h"

#include "outbox/events.h"
#include "store/check.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_ask_silent_vendors);

/* The questions to be repeated: one an order, vendor and attempt. */
typedef struct Questions
{
	int64       *order_ids;
	const char **vendor_ids;
	int64       *attempts;
	int          count;
} Questions;

static VendorLine
read_line(uint64 row)
{
	bool  is_null;
	Price price;

	if (!price_from_numeric(DatumGetNumeric(spi_datum(row, 12, &is_null)), &price))
		elog(ERROR, "price of a hold of order " INT64_FORMAT " is out of range", spi_int64(row, 1));
	return (VendorLine){(int) spi_int64(row, 8), spi_string(row, 9), spi_string(row, 10),
						spi_int64(row, 11), price_to_string(price)};
}

/* True if the row is of the same question as the one before. */
static bool
continues_question(const Questions *questions, uint64 row)
{
	int last = questions->count - 1;

	return last >= 0 && questions->order_ids[last] == spi_int64(row, 1) &&
		   questions->attempts[last] == spi_int64(row, 7) &&
		   strcmp(questions->vendor_ids[last], spi_string(row, 6)) == 0;
}

static void
add_question(EventBatch *events, const Questions *questions, uint64 row, const VendorLine *lines,
			 int nlines)
{
	bool       is_null;
	OrderFacts order = {
		.order_id = spi_int64(row, 1),
		.customer_id = spi_string(row, 2),
		.placed_at = utc_timestamp(DatumGetTimestampTz(spi_datum(row, 3, &is_null))),
		.expires_at = utc_timestamp(DatumGetTimestampTz(spi_datum(row, 4, &is_null))),
		.traceparent = spi_string(row, 5),
	};
	int    last = questions->count - 1;
	Event *event = event_order_placed(events, &order, questions->vendor_ids[last],
									  (int) questions->attempts[last], lines, nlines);

	event->headers = event_headers_again(event->headers, "silent");
}

/* Makes an event of each vendor's lines among the rows that SPI has read. */
static Questions
repeat_questions(EventBatch *events)
{
	uint64      nrows = SPI_processed;
	Questions   questions = {.count = 0};
	VendorLine *lines = palloc(sizeof(VendorLine) * Max(nrows, 1));
	int         nlines = 0;

	questions.order_ids = palloc(sizeof(int64) * Max(nrows, 1));
	questions.vendor_ids = palloc(sizeof(char *) * Max(nrows, 1));
	questions.attempts = palloc(sizeof(int64) * Max(nrows, 1));
	for (uint64 row = 0; row < nrows; row++)
	{
		if (!continues_question(&questions, row))
		{
			if (nlines > 0)
				add_question(events, &questions, row - 1, lines, nlines);
			nlines = 0;
			questions.order_ids[questions.count] = spi_int64(row, 1);
			questions.vendor_ids[questions.count] = spi_string(row, 6);
			questions.attempts[questions.count] = spi_int64(row, 7);
			questions.count++;
		}
		lines[nlines++] = read_line(row);
	}
	if (nlines > 0)
		add_question(events, &questions, nrows - 1, lines, nlines);
	return questions;
}

Datum
oa_ask_silent_vendors(PG_FUNCTION_ARGS)
{
	int32       max_orders = count_argument(fcinfo, 1, "max_orders");
	TimestampTz asked_before;
	Datum       values[3];
	int64      *order_ids;
	EventBatch *events;
	Questions   questions;

	begin_writing("ask_silent_vendors()");
	require_argument(fcinfo, 0, "silent_for");
	asked_before = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_mi_interval, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()),
		PG_GETARG_DATUM(0)));
	if (asked_before >= GetCurrentTransactionStartTimestamp())
		argument_error("silent_for", "must be longer than nothing");

	SPI_connect();
	lock_for_writing("vendor_retry");
	values[0] = Int64GetDatum(max_orders);
	values[1] = TimestampTzGetDatum(asked_before);
	values[2] = PG_GETARG_DATUM(0);
	plan_execute(PLAN_LOCK_SILENT, values, NULL, SPI_OK_SELECT);
	order_ids = palloc(sizeof(int64) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
		order_ids[i] = spi_int64(i, 1);

	values[0] = int8_array(order_ids, (int) SPI_processed);
	plan_execute(PLAN_READ_SILENT, values, NULL, SPI_OK_SELECT);
	events = event_batch_create((int) SPI_processed);
	questions = repeat_questions(events);

	values[0] = int8_array(questions.order_ids, questions.count);
	values[1] = text_array(questions.vendor_ids, questions.count);
	values[2] = int8_array(questions.attempts, questions.count);
	plan_execute(PLAN_RECORD_RETRIES, values, NULL, SPI_OK_INSERT);
	outbox_write(events);
	SPI_finish();
	PG_RETURN_INT32(questions.count);
}
