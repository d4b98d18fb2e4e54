/*
 * routes_state.h
 *		What the files of the routes share.
 */
#ifndef ROUTES_STATE_H
#define ROUTES_STATE_H

#include <jansson.h>

#include "http/routes.h"

/* the queue that api_init was given */
extern Intake *routes_queue(ApiQueue queue);

extern void routes_unavailable(HttpExchange *exchange, const char *detail);
extern void routes_bad_request(HttpExchange *exchange, const char *field, const char *detail);

/* routes_hand_over defers the exchange and queues the job, which it takes over; or answers 503. */
extern void routes_hand_over(HttpExchange *exchange, const Route *route, Job *job);

extern bool routes_is_json(const char *type);
extern void routes_post_order(HttpExchange *exchange, const Route *route, const char *parameter);
extern void routes_post_cancel(HttpExchange *exchange, const Route *route, const char *parameter);
extern void routes_post_return(HttpExchange *exchange, const Route *route, const char *parameter);

#endif /* ROUTES_STATE_H */
