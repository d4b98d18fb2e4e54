/*
 * relay.h
 *		The relay role: committed events, from the outbox to RabbitMQ.
 */
#ifndef BRIDGE_RELAY_H
#define BRIDGE_RELAY_H

/* relay_run works until a stop is requested. A thread's main function. */
extern void *relay_run(void *unused);

#endif /* BRIDGE_RELAY_H */
