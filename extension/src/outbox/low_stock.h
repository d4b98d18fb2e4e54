/*
 * low_stock.h
 *		Products whose units have been brought down to their threshold.
 */
#ifndef OA_LOW_STOCK_H
#define OA_LOW_STOCK_H

#include "outbox/events.h"
#include "store/stock.h"

/* low_stock_before returns what is available of each locked row, before anything is changed. */
extern int64 *low_stock_before(const StockRows *stock);

/* low_stock_add_events tells of the products that have fallen to their threshold since. All offers
 * of each that units are taken of are locked, but of those that somebody else has locked, of which
 * nothing is told. */
extern void low_stock_add_events(EventBatch *events, const StockRows *stock,
								 const int64 *available_before);

#endif /* OA_LOW_STOCK_H */
