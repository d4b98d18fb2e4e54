/*
 * idempotency.h
 *		One outcome for one key.
 */
#ifndef OA_IDEMPOTENCY_H
#define OA_IDEMPOTENCY_H

#include "request.h"

/*
 * idempotency_claim claims the keys of all requests that have one. It gives
 * such a request its order_id; a request whose key was used before gets the
 * earlier outcome (is_replay with an order_id, or its error), or OA003 if it
 * was another request; one whose key an earlier request of the batch has gets
 * same_as. Blocks while another transaction holds one of the keys. Needs SPI,
 * and must come before any other lock.
 */
extern void idempotency_claim(RequestBatch *batch);

/* idempotency_record_errors keeps the errors of claimed keys as their outcome. Needs SPI. */
extern void idempotency_record_errors(RequestBatch *batch);

#endif /* OA_IDEMPOTENCY_H */
