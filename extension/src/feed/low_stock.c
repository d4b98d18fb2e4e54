/*
 * low_stock.c
 *		Products whose units a feed has brought down to their threshold.
 */
#include "postgres.h"

#include "feed/low_stock.h"

#include "outbox/events.h"

int64 *
low_stock_before(const StockRows *stock)
{
	int64 *available = palloc(sizeof(int64) * Max(stock->nrows, 1));

	for (int i = 0; i < stock->nrows; i++)
		available[i] = stock->offers[i].available;
	return available;
}

void
low_stock_add_events(FeedPart *part, const StockRows *stock, const int64 *available_before)
{
	int first = 0;

	while (first < stock->nrows)
	{
		int64 before = 0;
		int   count = 0;

		for (; first + count < stock->nrows &&
			   strcmp(stock->rows[first + count].product_id, stock->rows[first].product_id) == 0;
			 count++)
			before += available_before[first + count];
		event_stock_low(part->events, stock->rows[first].product_id,
						stock->rows[first].low_threshold, before,
						stock_available(stock, first, count));
		first += count;
	}
}
