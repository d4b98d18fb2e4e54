/*
 * outbox.h
 *		Events on their way into the outbox, in the transaction of their facts.
 */
#ifndef OA_OUTBOX_H
#define OA_OUTBOX_H

#include "postgres.h"

#include "utils/uuid.h"

/* An event not yet written. Strings are kept, not copied. */
typedef struct Event
{
	int64            order_id; /* 0: of no order */
	const char      *routing_key;
	bool             mandatory;
	const char      *headers;    /* JSON object or NULL */
	const char      *payload;    /* JSON */
	const pg_uuid_t *message_id; /* NULL: a new one */
} Event;

typedef struct EventBatch
{
	Event *events;
	int    count;
	int    size;
} EventBatch;

extern EventBatch *event_batch_create(int expected);

/* event_batch_add returns a zeroed event to fill in. */
extern Event *event_batch_add(EventBatch *batch);

/* event_batch_drop_order takes the events of an order out again. */
extern void event_batch_drop_order(EventBatch *batch, int64 order_id);

/*
 * outbox_write gives the events their ids, in order, writes them, and rings the
 * doorbell if the relay is idle. Returns the last id; 0 for an empty batch.
 * Makes a missing partition, for which it needs SPI.
 */
extern int64 outbox_write(EventBatch *batch);

/*
 * event_headers_again returns the headers of an event that goes out once more:
 * with "x-again" saying why, palloc'd. check_consistency() counts such an event
 * as none of a state change's own. headers may be NULL.
 */
extern char *event_headers_again(const char *headers, const char *why);

#endif /* OA_OUTBOX_H */
