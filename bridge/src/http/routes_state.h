/*
 * routes_state.h
 *		What the files of the routes share.
 */
#ifndef ROUTES_STATE_H
#define ROUTES_STATE_H

#include <jansson.h>

#include "http/routes.h"
#include "http/tokens.h"

/* the queues that api_init was given */
extern ApiIntakes routes_intakes;

extern void routes_unavailable(HttpExchange *exchange, const char *detail);
extern void routes_hand_over(Intake *intake, HttpExchange *exchange, Job *job);
extern void routes_bad_request(HttpExchange *exchange, const char *field, const char *detail);
extern bool routes_is_json(const char *type);
extern void routes_post_order(HttpExchange *exchange, const char *parameter);
extern void routes_post_cancel(HttpExchange *exchange, const char *parameter);
extern void routes_post_return(HttpExchange *exchange, const char *parameter);

#endif /* ROUTES_STATE_H */
