/*
 * events.h
 *		The bodies of the events, as DESIGN fixes them, and the documents made of the same parts.
 */
#ifndef OA_EVENTS_H
#define OA_EVENTS_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "outbox/outbox.h"
#include "store/money.h"
#include "utils/timestamp.h"

/* What every event of an order says of it. Times are JSON strings without quotes. */
typedef struct OrderFacts
{
	int64       order_id;
	const char *customer_id; /* may be NULL */
	const char *placed_at;
	const char *expires_at;
	const char *traceparent; /* may be NULL */
} OrderFacts;

/* One hold as a vendor sees it. */
typedef struct VendorLine
{
	int         line_no;
	const char *product_id;
	const char *vendor_sku;
	int64       quantity;
	const char *unit_price;
} VendorLine;

/* utc_timestamp returns the time as "2026-11-22T22:33:59.123456Z", palloc'd. */
extern char *utc_timestamp(TimestampTz at);

/* json_append_string appends the text as a JSON string, or null. */
extern void json_append_string(StringInfo json, const char *text);

/* order.placed.<vendor_id>: one vendor's lines of one attempt; mandatory. Returns the event, for
 * more headers. */
extern Event *event_order_placed(EventBatch *batch, const OrderFacts *order, const char *vendor_id,
								 int attempt, const VendorLine *lines, int nlines);

/* order.confirmed, order.rejected, order.cancelled, order.expired */
extern void event_order_closed(EventBatch *batch, const OrderFacts *order, const char *status,
							   const char *total_amount, const char *reason);

/* order.returned: units that the customer sent back; lines are the elements of a JSON array. */
extern void event_order_returned(EventBatch *batch, const OrderFacts *order, int64 return_id,
								 bool restocked, const char *amount, const char *lines);

/*
 * stock.low.<product_id>, if a product's available units fell from above its
 * threshold to it or below; else, or without a threshold, no event.
 */
extern void event_stock_low(EventBatch *batch, const char *product_id, int64 threshold,
							int64 before, int64 after);

/* order.cancelled.<vendor_id>: the vendor's lines of that attempt are not wanted (any more). */
extern void event_vendor_cancelled(EventBatch *batch, const OrderFacts *order,
								   const char *vendor_id, int attempt, const char *reason);

#endif /* OA_EVENTS_H */
