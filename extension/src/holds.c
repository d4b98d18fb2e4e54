/*
 * holds.c
 *		Making holds from sourcing's picks.
 */
#include "holds.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

void
hold_store(BulkInsert *bulk, int64 order_id, int line_no, int attempt, const StockRow *row, int64 quantity, TimestampTz held_at)
{
	TupleTableSlot *slot = bulk_next_row(bulk);
	Datum           values[] = {
				  Int64GetDatum(order_id),
				  Int32GetDatum(line_no),
				  CStringGetTextDatum(row->vendor_id),
				  Int32GetDatum(attempt),
				  CStringGetTextDatum(row->product_id),
				  Int64GetDatum(quantity),
				  NumericGetDatum(row->unit_price),
				  CStringGetTextDatum("open"),
				  TimestampTzGetDatum(held_at),
				  (Datum) 0, /* settled_at */
				  (Datum) 0  /* reason */
    };

	for (unsigned i = 0; i < lengthof(values); i++)
	{
		slot->tts_values[i] = values[i];
		slot->tts_isnull[i] = i >= lengthof(values) - 2;
	}
	bulk_store_row(bulk);
}

void
holds_add_placed_events(EventBatch *events, const OrderFacts *order, int attempt, const StockRows *stock,
						const SourcingPick *picks, int npicks)
{
	VendorLine *lines = palloc(sizeof(VendorLine) * npicks);
	bool       *told = palloc0(sizeof(bool) * npicks);

	for (int first = 0; first < npicks; first++)
	{
		int32 vendor = stock->offers[picks[first].offer].vendor;
		int   nlines = 0;

		if (told[first])
			continue;
		for (int p = first; p < npicks; p++)
		{
			const StockRow *row = &stock->rows[picks[p].offer];

			if (stock->offers[picks[p].offer].vendor != vendor)
				continue;
			told[p] = true;
			lines[nlines++] =
				(VendorLine){picks[p].line + 1, row->product_id, row->vendor_sku, picks[p].quantity, price_to_string(row->price)};
		}
		event_order_placed(events, order, stock->rows[picks[first].offer].vendor_id, attempt, lines, nlines);
	}
}
