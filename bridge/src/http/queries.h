/*
 * queries.h
 *		The HTTP requests that read, change or sync: each on a worker's own connection.
 */
#ifndef BRIDGE_QUERIES_H
#define BRIDGE_QUERIES_H

/* queries_run answers jobs until its intake is closed and empty. A thread's main function. */
extern void *queries_run(void *intake);

#endif /* BRIDGE_QUERIES_H */
