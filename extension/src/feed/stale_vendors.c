/*
 * stale_vendors.c
 *		Vendors whose offers stopped selling because no feed has confirmed them: told once.
 *
 * That they are not sold needs nobody to do anything: whoever locks stock looks at the
 * vendor's stale_at (stock.c), and so do the views.
 */
#include "postgres.h"

#include "outbox/events.h"
#include "store/check.h"
#include "store/plans.h"
#include "store/symbols.h"

OA_FUNCTION(oa_tell_stale_vendors);

/* Columns of the result of PLAN_TELL_STALE. */
enum
{
	STALE_VENDOR_ID = 1,
	STALE_CONFIRMED_AT,
	STALE_STALE_AT
};

/* As JSON; no feed at all may have confirmed a vendor's offers. */
static const char *
time_or_null(uint64 row, int column)
{
	bool  is_null;
	Datum time = spi_datum(row, column, &is_null);

	return is_null ? "null" : psprintf("\"%s\"", utc_timestamp(DatumGetTimestampTz(time)));
}

static void
add_event(EventBatch *events, uint64 row)
{
	const char *vendor_id = spi_string(row, STALE_VENDOR_ID);
	Event      *event = event_batch_add(events);

	event->routing_key = psprintf("stock.stale.%s", vendor_id);
	event->payload =
		psprintf("{\"vendorId\": \"%s\", \"confirmedAt\": %s, \"staleAt\": %s}", vendor_id,
				 time_or_null(row, STALE_CONFIRMED_AT), time_or_null(row, STALE_STALE_AT));
}

Datum
oa_tell_stale_vendors(PG_FUNCTION_ARGS)
{
	EventBatch *events;
	uint64      count;

	begin_writing("tell_stale_vendors()");
	SPI_connect();
	plan_execute(PLAN_TELL_STALE, NULL, NULL, SPI_OK_UPDATE_RETURNING);
	count = SPI_processed;
	events = event_batch_create(Max(count, 1));
	for (uint64 row = 0; row < count; row++)
		add_event(events, row);
	if (count > 0)
		outbox_write(events);
	SPI_finish();
	PG_RETURN_INT64(count);
}
