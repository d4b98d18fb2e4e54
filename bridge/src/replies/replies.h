/*
 * replies.h
 *		The replies role: vendors' answers, from RabbitMQ into the database.
 */
#ifndef BRIDGE_REPLIES_H
#define BRIDGE_REPLIES_H

/* replies_run works until a stop is requested. A thread's main function. */
extern void *replies_run(void *unused);

/*
 * replies_redrive puts up to max messages of orders.replies.dead back into
 * orders.replies and returns how many; -1 if RabbitMQ cannot be reached.
 */
extern int replies_redrive(int max);

#endif /* BRIDGE_REPLIES_H */
