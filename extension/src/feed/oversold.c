/*
 * oversold.c
 *		Offers of which more is held than the vendor says it has: told, noted, remembered.
 */
#include "postgres.h"

#include "feed/oversold.h"

#include "outbox/events.h"
#include "store/plans.h"
#include "utils/builtins.h"

#define OVERSOLD_NOTES_MAX 1000 /* products, in one event and in the history of a part */

/* An event tells of so many products at most, so that it stays small enough for the broker. */
void
oversold_add_event(FeedPart *part)
{
	Event *event;

	if (part->oversold_event.len == 0)
		return;
	event = event_batch_add(part->events);
	event->routing_key = psprintf("stock.oversold.%s", part->vendor_id);
	event->payload =
		psprintf("{\"vendorId\": \"%s\", \"asOf\": \"%s\", \"products\": [%s]}", part->vendor_id,
				 utc_timestamp(part->as_of), part->oversold_event.data);
	resetStringInfo(&part->oversold_event);
}

static void
append_oversold(StringInfo list, const StockRow *row, int64 on_hand)
{
	appendStringInfo(list, "%s{\"productId\": ", list->len > 0 ? ", " : "");
	json_append_string(list, row->product_id);
	appendStringInfo(list,
					 ", \"onHand\": " INT64_FORMAT ", \"held\": " INT64_FORMAT
					 ", \"short\": " INT64_FORMAT "}",
					 on_hand, row->reserved, row->reserved - on_hand);
}

void
oversold_note(FeedPart *part, const StockRow *row, int64 on_hand)
{
	if (part->noversold++ < OVERSOLD_NOTES_MAX)
		append_oversold(&part->oversold, row, on_hand);
	append_oversold(&part->oversold_event, row, on_hand);
	if (part->noversold % OVERSOLD_NOTES_MAX == 0)
		oversold_add_event(part);
}

/* Shortages of the part's products: those that there are now are noted, the others are over. */
void
oversold_note_shortages(const FeedPart *part, const StockRows *stock)
{
	const char **short_ids = palloc(sizeof(char *) * Max(stock->nrows, 1));
	const char **other_ids = palloc(sizeof(char *) * Max(stock->nrows, 1));
	int          nshort = 0;
	int          nothers = 0;
	Datum        values[2] = {CStringGetTextDatum(part->vendor_id)};

	for (int i = 0; i < stock->nrows; i++)
	{
		const StockRow *row = &stock->rows[i];

		if (strcmp(row->vendor_id, part->vendor_id) != 0)
			continue;
		if (row->free + row->buffer < 0)
			short_ids[nshort++] = row->product_id;
		else
			other_ids[nothers++] = row->product_id;
	}
	if (nothers > 0)
	{
		values[1] = text_array(other_ids, nothers);
		plan_execute(PLAN_END_SHORTAGES, values, NULL, SPI_OK_DELETE);
	}
	if (nshort > 0)
	{
		values[1] = text_array(short_ids, nshort);
		plan_execute(PLAN_NOTE_SHORTAGES, values, NULL, SPI_OK_INSERT);
	}
}
