/*
 * routing.h
 *		Which route a request is for. All there is to say of a route stands in its one entry.
 */
#ifndef BRIDGE_ROUTING_H
#define BRIDGE_ROUTING_H

#include <stdbool.h>
#include <stddef.h>

#include "http/intake.h"
#include "http/queries.h"
#include "http/server.h"
#include "http/tokens.h"

typedef struct Route Route;

/* Replies, or hands the request over; parameter is the segment that "%" stands for, or "". */
typedef void (*RouteHandler)(HttpExchange *exchange, const Route *route, const char *parameter);

typedef enum RouteFlag
{
	ROUTE_SAFE = 1,  /* changes nothing, so that HEAD may be answered like it */
	ROUTE_OLDER = 2, /* of the older systems: HTTP_OLDER_ROUTES=no leaves it out */
	ROUTE_BODY = 4   /* has a use for a body */
} RouteFlag;

/* Queues for what needs the database: none waits for another kind of work. */
typedef enum ApiQueue
{
	QUEUE_NONE,     /* it is answered at once */
	QUEUE_ORDERS,   /* to be placed */
	QUEUE_ASIDE,    /* of those, the ones that somebody's lock holds up */
	QUEUE_CHANGES,  /* cancels and returns */
	QUEUE_READS,    /* of single orders */
	QUEUE_PRODUCTS, /* of single products */
	QUEUE_LISTS,    /* of many */
	QUEUE_SYNCS,    /* pulls of feeds */
	QUEUE_COUNT
} ApiQueue;

struct Route
{
	const char  *method;
	const char  *path;  /* "%" stands for one segment */
	Scope        scope; /* that a token must have, if tokens are asked for */
	unsigned     flags; /* of RouteFlag */
	RouteHandler handler;
	ApiQueue     queue;
	Query        query; /* what is asked of the database, but for orders to be placed */

	/* for openapi.json, which "make docs" and "make lint" hold against this */
	const char *errors; /* statuses of its own, beside those that any route of its kind may have */
	const char *operation;
	const char *summary;
};

typedef struct RouteTable
{
	const Route *routes;
	size_t       count;
	bool         with_older;
} RouteTable;

/* routing_fits: is the path one of the pattern? *parameter is then what "%" stands for, else it is
 * left alone. */
extern bool routing_fits(const char *pattern, const HttpExchange *exchange, const char **parameter);

/* routing_find returns the route of a request; NULL if there is none. HEAD is GET without the body,
 * unless that would change something. */
extern const Route *routing_find(const RouteTable *table, const HttpExchange *exchange,
								 const char **parameter);

/* routing_list_methods writes the methods that a path takes, "GET, HEAD, POST"; an empty text if
 * there is nothing at it. */
extern void routing_list_methods(const RouteTable *table, const HttpExchange *exchange, char *allow,
								 size_t size);

#endif /* BRIDGE_ROUTING_H */
