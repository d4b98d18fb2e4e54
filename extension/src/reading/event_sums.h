/*
 * event_sums.h
 *		Whether the events of many orders are those that there have to be, in constant memory.
 *
 * Usage: sums = event_sums_make(1, 1000, since, false); event_sums_expect(sums, 7,
 * event_sums_hash(sums, 7, "order.confirmed", 15)); if (!event_sums_find(sums)) and
 * event_sums_differ(sums, 7), there may be something wrong with the events of order 7.
 */
#ifndef OA_EVENT_SUMS_H
#define OA_EVENT_SUMS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#define EVENT_KEY_BYTES_MAX 255 /* of a routing key that tells of an order */
#define EVENT_PLACED_PREFIX "order.placed."
#define EVENT_PLACED_BYTES  (sizeof(EVENT_PLACED_PREFIX) - 1)

typedef struct EventSums EventSums;

/* Called with an event of one of the orders. */
typedef void (*SeeEvent)(void *work, int64 order_id, TupleTableSlot *event);

/*
 * event_sums_make returns sums for the events of these orders that were written after "since".
 * reads_all: event_sums_find reads all events that are kept, so that those are found as well of
 * which there are more than there have to be, wherever they are.
 */
extern EventSums *event_sums_make(int64 first_order_id, int64 last_order_id, TimestampTz since,
								  bool reads_all);

/* event_sums_hash returns what an event with that routing key adds to the sum of its order. */
extern uint64 event_sums_hash(const EventSums *sums, int64 order_id, const char *routing_key,
							  size_t bytes);

/* event_sums_expect takes down that there has to be such an event. */
extern void event_sums_expect(EventSums *sums, int64 order_id, uint64 hash);

/* event_sums_find reads the events; true if there are those that were expected and no others. */
extern bool event_sums_find(EventSums *sums);

/* event_sums_differ: is the order, or another with the same sum, one whose events differ? */
extern bool event_sums_differ(const EventSums *sums, int64 order_id);

/* event_sums_see_events calls "see" for each event of these orders that is kept. */
extern void event_sums_see_events(const EventSums *sums, SeeEvent see, void *work);

#endif /* OA_EVENT_SUMS_H */
