/*
 * routes.h
 *		The HTTP API's routes: checks a request and hands it to who can answer it.
 */
#ifndef BRIDGE_API_H
#define BRIDGE_API_H

#include "http/server.h"
#include "http/intake.h"

/* Queues for what needs the database: none waits for another kind of work. */
typedef struct ApiIntakes
{
	Intake *orders;  /* to be placed */
	Intake *aside;   /* of those, the ones that somebody's lock holds up */
	Intake *changes; /* cancels and returns */
	Intake *reads;   /* of one thing */
	Intake *lists;   /* of many */
	Intake *syncs;   /* pulls of feeds */
} ApiIntakes;

/* api_init must come before the server starts. The intakes must live as long as it. */
extern void api_init(const ApiIntakes *intakes);

/* api_tick answers what has waited in the queues for longer than it may. On the server's thread,
 * now and then. */
extern void api_tick(void);

/* api_admit looks at who calls before a body is taken: false after a reply of 401, 403 or 421, or
 * to a preflight. */
extern bool api_admit(HttpExchange *exchange);

/* api_handle is the server's HttpHandler; api_admit has let the request in. */
extern void api_handle(HttpExchange *exchange);

#endif /* BRIDGE_API_H */
