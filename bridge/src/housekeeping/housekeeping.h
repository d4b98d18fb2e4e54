/*
 * housekeeping.h
 *		The housekeeping role: expiry, outbox partitions, idempotency retention.
 */
#ifndef BRIDGE_HOUSEKEEPING_H
#define BRIDGE_HOUSEKEEPING_H

/* housekeeping_run works until a stop is requested. A thread's main function. */
extern void *housekeeping_run(void *unused);

#endif /* BRIDGE_HOUSEKEEPING_H */
