/*
 * routes.h
 *		The HTTP API's routes: checks a request and hands it to who can answer it.
 */
#ifndef BRIDGE_ROUTES_H
#define BRIDGE_ROUTES_H

#include "http/intake.h"
#include "http/routing.h"
#include "http/server.h"

/* By ApiQueue; QUEUE_NONE's is NULL. */
typedef struct ApiIntakes
{
	Intake *queues[QUEUE_COUNT];
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

#endif /* BRIDGE_ROUTES_H */
