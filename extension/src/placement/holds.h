/*
 * holds.h
 *		Making holds from sourcing's picks: used when an order is placed and
 *		when a vendor's rejection has it sourced anew.
 */
#ifndef OA_HOLDS_H
#define OA_HOLDS_H

#include "postgres.h"

#include "outbox/events.h"
#include "placement/sourcing.h"
#include "store/bulk.h"
#include "store/stock.h"

/* hold_store writes one open hold to a bulk insert into "hold". */
extern void hold_store(BulkInsert *bulk, int64 order_id, int line_no, int attempt,
					   const StockRow *row, int64 quantity, TimestampTz held_at);

/*
 * holds_add_placed_events adds order.placed.<vendor_id> for each vendor among
 * the picks; picks[].line counts from 0, picks[].offer is a row of the stock.
 */
extern void holds_add_placed_events(EventBatch *events, const OrderFacts *order, int attempt,
									const StockRows *stock, const SourcingPick *picks, int npicks);

#endif /* OA_HOLDS_H */
