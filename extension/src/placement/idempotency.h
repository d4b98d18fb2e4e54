/*
 * idempotency.h
 *		One outcome for one key.
 */
#ifndef OA_IDEMPOTENCY_H
#define OA_IDEMPOTENCY_H

#include "postgres.h"

#include "placement/request.h"

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

/*
 * idempotency_claim_action claims a key for something done to an order, or finds
 * that the same was asked for before and returns false: then nothing is to be done.
 * ERROR OA003 if the key was used with another request. Waits for a transaction that uses
 * the key. "request" is all that makes it this request, as text.
 */
extern bool idempotency_claim_action(const char *key, const char *action, int64 order_id,
									 const char *request);

/* idempotency_key_reused: ERROR OA003. */
pg_noreturn extern void idempotency_key_reused(const char *key);

#endif /* OA_IDEMPOTENCY_H */
