/*
 * low_stock.c
 *		Products whose units have been brought down to their threshold.
 */
#include "postgres.h"

#include "outbox/low_stock.h"

int64 *
low_stock_before(const StockRows *stock)
{
	int64 *available = palloc(sizeof(int64) * Max(stock->nrows, 1));

	for (int i = 0; i < stock->nrows; i++)
		available[i] = stock->offers[i].available;
	return available;
}

void
low_stock_add_events(EventBatch *events, const StockRows *stock, const int64 *available_before)
{
	int first = 0;

	while (first < stock->nrows)
	{
		const char *product_id = stock->rows[first].product_id;
		int64       before = 0;
		int         count = 0;

		for (; first + count < stock->nrows &&
			   strcmp(stock->rows[first + count].product_id, product_id) == 0;
			 count++)
			before += available_before[first + count];
		if (!stock_is_busy(stock, product_id, NULL))
			event_stock_low(events, product_id, stock->rows[first].low_threshold, before,
							stock_available(stock, first, count));
		first += count;
	}
}
