/*
 * listeners.h
 *		GET /events: server-sent events of what is committed, to any number of listeners.
 */
#ifndef BRIDGE_LISTENERS_H
#define BRIDGE_LISTENERS_H

#include "http/server.h"
#include "http/tokens.h"

/*
 * listeners_add replies to the exchange with the stream of all events from now
 * on, or from the one after last_event_id (-1: from now on); or with 503 if there
 * are too many listeners. Within the handler only. The stream lasts as long as its
 * token stands and has the scope.
 */
extern void listeners_add(HttpExchange *exchange, Scope scope, long long last_event_id);

/* The thread that reads the events and sends them; it ends, and ends all streams, when a stop is
 * requested. */
extern void *listeners_run(void *unused);

#endif /* BRIDGE_LISTENERS_H */
