/*
 * holds.c
 *		Making holds from sourcing's picks.
 */
#include "postgres.h"

#include "placement/holds.h"

#include "store/tables.h"
#include "store/status.h"

void
hold_store(BulkInsert *bulk, int64 order_id, int line_no, int attempt, const StockRow *row,
		   int64 quantity, TimestampTz held_at)
{
	TupleTableSlot *slot = bulk_next_row(bulk);

	bulk_set(slot, HOLD_COLUMN_ORDER_ID, Int64GetDatum(order_id));
	bulk_set(slot, HOLD_COLUMN_LINE_NO, Int32GetDatum(line_no));
	bulk_set_text(slot, HOLD_COLUMN_VENDOR_ID, row->vendor_id);
	bulk_set(slot, HOLD_COLUMN_ATTEMPT, Int32GetDatum(attempt));
	bulk_set_text(slot, HOLD_COLUMN_PRODUCT_ID, row->product_id);
	bulk_set(slot, HOLD_COLUMN_QUANTITY, Int64GetDatum(quantity));
	bulk_set(slot, HOLD_COLUMN_UNIT_PRICE, NumericGetDatum(row->unit_price));
	bulk_set_name(bulk, slot, HOLD_COLUMN_STATUS, hold_status_name(HOLD_OPEN));
	bulk_set(slot, HOLD_COLUMN_HELD_AT, TimestampTzGetDatum(held_at));
	bulk_store_row(bulk);
}

void
holds_add_placed_events(EventBatch *events, const OrderFacts *order, int attempt,
						const StockRows *stock, const SourcingPick *picks, int npicks)
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
			lines[nlines++] = (VendorLine){picks[p].line + 1, row->product_id, row->vendor_sku,
										   picks[p].quantity, price_to_string(row->price)};
		}
		event_order_placed(events, order, stock->rows[picks[first].offer].vendor_id, attempt, lines,
						   nlines);
	}
}
