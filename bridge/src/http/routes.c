/*
 * routes.c
 *		The HTTP API's routes.
 *
 * Runs on the server's thread and never waits: what needs the database is
 * deferred to a queue, or refused at once when that is full.
 */
#include "http/routes.h"

#include <string.h>

#include "base/config.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"
#include "http/callers.h"
#include "http/listeners.h"
#include "http/openapi.h"
#include "http/problems.h"
#include "http/reply_room.h"
#include "http/routes_state.h"
#include "link/statements.h"

#define PAGE_ROWS_MAX 10000

static ApiIntakes intakes;

void
api_init(const ApiIntakes *given)
{
	intakes = *given;
}

Intake *
routes_queue(ApiQueue queue)
{
	return intakes.queues[queue];
}

void
api_tick(void)
{
	for (ApiQueue queue = QUEUE_NONE + 1; queue < QUEUE_COUNT; queue++)
	{
		Job *jobs;

		while ((jobs = intake_take_overdue(routes_queue(queue))) != NULL)
		{
			while (jobs != NULL)
			{
				Job *job = jobs;

				jobs = job->next;
				problem_unavailable(job, "its turn has not come in time");
				job_free(job);
			}
		}
	}
}

/* ---------- handing over ---------- */

void
routes_unavailable(HttpExchange *exchange, const char *detail)
{
	http_set_header(exchange, "Retry-After", "1");
	http_problem(exchange, 503, "Service Unavailable", detail, NULL, NULL);
}

void
routes_hand_over(HttpExchange *exchange, const Route *route, Job *job)
{
	if (job == NULL)
	{
		routes_unavailable(exchange, "out of memory");
		return;
	}
	if (!reply_room_for(job))
	{
		routes_unavailable(exchange, REPLY_ROOM_SPENT);
		job_free(job);
		return;
	}
	job->deadline_ms = monotonic_ms() + config.request_timeout_s * 1000LL;
	http_defer(exchange);
	if (!intake_add(routes_queue(route->queue), job))
	{
		routes_unavailable(exchange, "too many requests are waiting");
		job_free(job);
	}
}

void
routes_bad_request(HttpExchange *exchange, const char *field, const char *detail)
{
	http_problem(exchange, 400, "Bad Request", detail, field, NULL);
}

/* ---------- the other routes ---------- */

/* What the path names, or all there is. */
static void
ask(HttpExchange *exchange, const Route *route, const char *parameter)
{
	Job *job = job_create(exchange, &route->query);

	if (job != NULL && *parameter != '\0' && (job->subject = strdup(parameter)) == NULL)
	{
		job_free(job);
		job = NULL;
	}
	routes_hand_over(exchange, route, job);
}

static void
get_products(HttpExchange *exchange, const Route *route, const char *parameter)
{
	const char *limit = http_query(exchange, "limit");
	const char *after = http_query(exchange, "after");
	long long   number = PAGE_ROWS_MAX;
	Job        *job;

	(void) route;
	(void) parameter;
	if (limit != NULL && !text_read_number(limit, 1, PAGE_ROWS_MAX, &number))
	{
		routes_bad_request(exchange, "limit", "limit must be a whole number from 1 to 10000");
		return;
	}
	job = job_create(exchange, &route->query);
	if (job != NULL)
	{
		job->limit = (int) number;
		job->after = strdup(after ? after : "");
	}
	if (job != NULL && job->after == NULL)
	{
		job_free(job);
		job = NULL;
	}
	routes_hand_over(exchange, route, job);
}

static void
get_healthz(HttpExchange *exchange, const Route *route, const char *parameter)
{
	(void) route;
	(void) parameter;
	http_reply(exchange, 200, "application/json", strdup("{\"status\": \"alive\"}"));
}

/* All roles, or the one that is asked for: a balancer has nothing to do with the others. */
static void
get_readyz(HttpExchange *exchange, const Route *route, const char *parameter)
{
	const char *name = http_query(exchange, "role");
	bool        is_leaving = stop_announced();
	bool        ready;
	Role        role;
	json_t     *roles;
	json_t     *body;

	(void) route;
	(void) parameter;
	if (name != NULL && !role_by_name(name, &role))
	{
		routes_bad_request(exchange, "role",
						   "role must be http, relay, replies, sync or housekeeping");
		return;
	}
	roles = roles_json(&ready);
	if (name != NULL)
		ready = role_is_ready(role);
	body = json_pack("{s:s, s:o}", "status",
					 is_leaving ? "stopping" : (ready ? "ready" : "not ready"), "roles", roles);
	http_reply(exchange, ready && !is_leaving ? 200 : 503, "application/json",
			   body != NULL ? json_dumps(body, JSON_COMPACT) : NULL);
	json_decref(body);
}

static void
get_metrics(HttpExchange *exchange, const Route *route, const char *parameter)
{
	(void) route;
	(void) parameter;
	if (reply_room_is_spent())
	{
		routes_unavailable(exchange, REPLY_ROOM_SPENT);
		return;
	}
	metric_set(METRIC_INTAKE_DEPTH, intake_depth(routes_queue(QUEUE_ORDERS)));
	http_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", metrics_text());
}

static void
get_openapi(HttpExchange *exchange, const Route *route, const char *parameter)
{
	(void) route;
	(void) parameter;
	http_reply_constant(exchange, 200, "application/json", openapi_json);
}

static void
get_events(HttpExchange *exchange, const Route *route, const char *parameter)
{
	const char *last = http_header(exchange, "Last-Event-ID");
	long long   number = -1;

	(void) parameter;
	if (last != NULL && !text_read_number(last, 0, INT64_MAX, &number))
	{
		routes_bad_request(exchange, "Last-Event-ID", "Last-Event-ID must be the id of an event");
		return;
	}
	if (strcmp(http_method(exchange), "HEAD") == 0)
		http_reply(exchange, 200, "text/event-stream", strdup(""));
	else
		listeners_add(exchange, route->scope, number);
}

/* an entry's parts, a line each */
/* clang-format off */
static const Route routes[] = {
	{"POST", "/order", SCOPE_ORDER, ROUTE_BODY, routes_post_order, QUEUE_ORDERS,
	 {0},
	 "400 404 409 422", "placeOrder", "Place an order"},
	{"GET", "/order/%", SCOPE_READ, ROUTE_SAFE, ask, QUEUE_READS,
	 {query_orders, "order", "reading orders", SQL_GET_ORDERS, QUERY_ANY, PLAN_KEPT},
	 "404", "getOrder", "An order with its lines, holds, returns and history"},
	{"POST", "/order/%/cancel", SCOPE_ORDER, ROUTE_BODY, routes_post_cancel, QUEUE_CHANGES,
	 {query_change, "order", "cancelling an order", SQL_CANCEL_ORDER, QUERY_ALONE, PLAN_KEPT},
	 "400 404 409 422", "cancelOrder", "Cancel a pending order"},
	{"POST", "/order/%/return", SCOPE_ORDER, ROUTE_BODY, routes_post_return, QUEUE_CHANGES,
	 {query_change, "order", "returning units of an order", SQL_RETURN_ORDER, QUERY_ALONE,
	  PLAN_KEPT},
	 "400 404 409 422", "returnOrder", "Take units of a confirmed order back"},
	{"GET", "/products", SCOPE_READ, ROUTE_SAFE, get_products, QUEUE_LISTS,
	 {query_products, "products", "listing products", SQL_GET_PRODUCTS, QUERY_SAME, PLAN_EACH},
	 "400", "listProducts", "Every vendor's offers, a page at a time"},
	{"GET", "/products/%", SCOPE_READ, ROUTE_SAFE, ask, QUEUE_PRODUCTS,
	 {query_subjects, "product", "reading products", SQL_GET_PRODUCT_DOCUMENTS, QUERY_ANY,
	  PLAN_KEPT},
	 "404", "getProduct", "One product, its offers added up"},
	{"GET", "/vendorSync", SCOPE_ADMIN, ROUTE_OLDER, ask, QUEUE_SYNCS,
	 {query_sync, "vendor", "syncing vendors", NULL, QUERY_ALONE, PLAN_KEPT},
	 "404", "syncAllVendorsOlder", "Pull all vendors' feeds now"},
	{"POST", "/vendors/sync", SCOPE_ADMIN, 0, ask, QUEUE_SYNCS,
	 {query_sync, "vendor", "syncing vendors", NULL, QUERY_ALONE, PLAN_KEPT},
	 "", "syncAllVendors", "Pull all vendors' feeds now"},
	{"POST", "/vendors/%/sync", SCOPE_ADMIN, 0, ask, QUEUE_SYNCS,
	 {query_sync, "vendor", "syncing a vendor", NULL, QUERY_ALONE, PLAN_KEPT},
	 "404", "syncVendor", "Pull one vendor's feed now"},
	{"GET", "/vendors", SCOPE_READ, ROUTE_SAFE, ask, QUEUE_LISTS,
	 {query_all, "vendors", "reading vendors", SQL_GET_VENDORS, QUERY_SAME, PLAN_KEPT},
	 "", "listVendors", "Vendors with their last sync"},
	{"GET", "/vendors/%/syncs", SCOPE_READ, ROUTE_SAFE, ask, QUEUE_LISTS,
	 {query_one, "vendor", "reading the syncs of a vendor", SQL_GET_SYNCS, QUERY_SAME, PLAN_KEPT},
	 "404", "listSyncs", "The history of a vendor's feeds, the latest first"},
	{"GET", "/events", SCOPE_READ, ROUTE_SAFE, get_events, QUEUE_NONE,
	 {0},
	 "400 503", "streamEvents", "Events as they are committed"},
	{"GET", "/healthz", SCOPE_NONE, ROUTE_SAFE, get_healthz, QUEUE_NONE,
	 {0},
	 "", "getHealth", "The process lives"},
	{"GET", "/readyz", SCOPE_NONE, ROUTE_SAFE, get_readyz, QUEUE_NONE,
	 {0},
	 "400 503", "getReadiness", "Every role that runs can do its work"},
	{"GET", "/metrics", SCOPE_READ, ROUTE_SAFE, get_metrics, QUEUE_NONE,
	 {0},
	 "", "getMetrics", "Prometheus text"},
	{"GET", "/openapi.json", SCOPE_NONE, ROUTE_SAFE, get_openapi, QUEUE_NONE,
	 {0},
	 "", "getDescription", "This description"},
};
/* clang-format on */

static RouteTable
route_table(void)
{
	return (RouteTable){routes, sizeof(routes) / sizeof(routes[0]), config.http_older_routes};
}

/* True if the request's token allows it; replies 401 or 403 if not. */
static bool
is_allowed(HttpExchange *exchange, Scope scope)
{
	char challenge[128];
	char detail[128];

	switch (tokens_check(http_header(exchange, "Authorization"), scope))
	{
		case TOKEN_ACCEPTED:
			return true;
		case TOKEN_UNKNOWN:
			http_set_header(exchange, "WWW-Authenticate", "Bearer realm=\"order-bridge\"");
			http_problem(exchange, 401, "Unauthorized", "a valid bearer token is needed",
						 "Authorization", NULL);
			return false;
		case TOKEN_LACKS_SCOPE:
			break;
	}
	snprintf(challenge, sizeof(challenge),
			 "Bearer realm=\"order-bridge\", error=\"insufficient_scope\", scope=\"%s\"",
			 scope_name(scope));
	snprintf(detail, sizeof(detail), "the token lacks the scope %s", scope_name(scope));
	http_set_header(exchange, "WWW-Authenticate", challenge);
	http_problem(exchange, 403, "Forbidden", detail, "Authorization", NULL);
	return false;
}

/*
 * True if the body is JSON, or there is none; replies 415 if not. A page of another site
 * may send a form, or text, without asking; JSON it may not.
 */
static bool
has_json_or_nothing(HttpExchange *exchange)
{
	const char *type = http_header(exchange, "Content-Type");
	const char *length = http_header(exchange, "Content-Length");
	bool        has_body = http_header(exchange, "Transfer-Encoding") != NULL ||
					(length != NULL && strtoll(length, NULL, 10) > 0);

	if (type != NULL ? routes_is_json(type) : !has_body)
		return true;
	http_problem(exchange, 415, "Unsupported Media Type", "Content-Type must be application/json",
				 "Content-Type", NULL);
	return false;
}

static bool
is_safe_method(const char *method)
{
	return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
		   strcmp(method, "OPTIONS") == 0;
}

bool
api_admit(HttpExchange *exchange)
{
	const char  *parameter;
	RouteTable   table = route_table();
	const Route *route = routing_find(&table, exchange, &parameter);
	char         methods[128] = "";
	bool         is_safe =
        route != NULL ? (route->flags & ROUTE_SAFE) != 0 : is_safe_method(http_method(exchange));

	metric_add(METRIC_HTTP_REQUESTS, 1);
	http_set_note(exchange, route);
	/* of what is asked without a token, too */
	if (route == NULL || !(route->flags & ROUTE_BODY))
		http_ignore_body(exchange);
	if (strcmp(http_method(exchange), "OPTIONS") == 0)
		routing_list_methods(&table, exchange, methods, sizeof(methods));
	if (!callers_admit(exchange, is_safe, route != NULL && route->scope == SCOPE_NONE, methods))
		return false;
	return route == NULL ||
		   (is_allowed(exchange, route->scope) && (is_safe || has_json_or_nothing(exchange)));
}

void
api_handle(HttpExchange *exchange)
{
	const Route *route = http_note(exchange);
	RouteTable   table = route_table();
	const char  *parameter = "";
	char         allow[128];

	if (route != NULL && routing_fits(route->path, exchange, &parameter))
	{
		route->handler(exchange, route, parameter);
		return;
	}
	if (http_segment_count(exchange) == 0) /* "*", the server as a whole */
		snprintf(allow, sizeof(allow), "GET, HEAD, POST");
	else
		routing_list_methods(&table, exchange, allow, sizeof(allow));
	if (*allow == '\0')
	{
		http_problem(exchange, 404, "Not Found", "there is nothing at this path", NULL, NULL);
		return;
	}
	snprintf(allow + strlen(allow), sizeof(allow) - strlen(allow), ", OPTIONS");
	http_set_header(exchange, "Allow", allow);
	if (strcmp(http_method(exchange), "OPTIONS") == 0)
		http_reply(exchange, 204, NULL, NULL);
	else
		http_problem(exchange, 405, "Method Not Allowed", "this path does not take that method",
					 NULL, NULL);
}
