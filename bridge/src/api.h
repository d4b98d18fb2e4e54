/*
 * api.h
 *		The HTTP API's routes: checks a request and hands it to who can answer it.
 */
#ifndef BRIDGE_API_H
#define BRIDGE_API_H

#include "http.h"
#include "intake.h"

/* api_init: orders, syncs, which may take long, and everything else that needs the database have a queue each. */
extern void api_init(Intake *orders, Intake *syncs, Intake *queries);

/* api_admit looks at the token before a body is taken: false after a reply of 401 or 403. */
extern bool api_admit(HttpExchange *exchange);

/* api_handle is the server's HttpHandler; api_admit has let the request in. */
extern void api_handle(HttpExchange *exchange);

#endif /* BRIDGE_API_H */
