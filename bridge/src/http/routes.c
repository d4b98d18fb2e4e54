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
#include "http/routes_state.h"

#define PAGE_ROWS_MAX 10000

typedef void (*RouteHandler)(HttpExchange *exchange, const char *parameter);

/* A route; "%" in the path stands for one segment, which is the handler's parameter. */
typedef struct Route
{
	const char  *method;
	const char  *path;
	Scope        scope; /* that a token must have, if tokens are asked for */
	RouteHandler handler;
	bool         is_safe;  /* changes nothing, so that HEAD may be answered like it */
	bool         is_older; /* of the older systems: HTTP_OLDER_ROUTES=no leaves it out */
} Route;

ApiIntakes routes_intakes;

void
api_init(const ApiIntakes *given)
{
	routes_intakes = *given;
}

void
api_tick(void)
{
	Intake *const all[] = {routes_intakes.orders, routes_intakes.aside, routes_intakes.changes,
						   routes_intakes.reads,  routes_intakes.lists, routes_intakes.syncs};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
	{
		Job *jobs;

		while ((jobs = intake_take_overdue(all[i])) != NULL)
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
	metric_add(METRIC_HTTP_REFUSED, 1);
}

/* Defers the exchange and queues the job, which it takes over; or answers 503. */
void
routes_hand_over(Intake *intake, HttpExchange *exchange, Job *job)
{
	if (job == NULL)
	{
		routes_unavailable(exchange, "out of memory");
		return;
	}
	job->deadline_ms = monotonic_ms() + config.request_timeout_s * 1000LL;
	http_defer(exchange);
	if (!intake_add(intake, job))
	{
		routes_unavailable(exchange, "too many requests are waiting");
		job_free(job);
	}
}

static void
hand_over_query(Intake *intake, HttpExchange *exchange, JobKind kind, const char *subject)
{
	Job *job = job_create(exchange, kind);

	if (job != NULL && subject != NULL)
		job->subject = strdup(subject);
	routes_hand_over(intake, exchange, job);
}

void
routes_bad_request(HttpExchange *exchange, const char *field, const char *detail)
{
	http_problem(exchange, 400, "Bad Request", detail, field, NULL);
}

/* ---------- the other routes ---------- */

static void
get_order(HttpExchange *exchange, const char *parameter)
{
	hand_over_query(routes_intakes.reads, exchange, JOB_GET_ORDER, parameter);
}

static void
get_syncs(HttpExchange *exchange, const char *parameter)
{
	hand_over_query(routes_intakes.lists, exchange, JOB_GET_SYNCS, parameter);
}

static void
get_products(HttpExchange *exchange, const char *parameter)
{
	const char *limit = http_query(exchange, "limit");
	const char *after = http_query(exchange, "after");
	long long   number = PAGE_ROWS_MAX;
	Job        *job;

	(void) parameter;
	if (limit != NULL && !text_read_number(limit, 1, PAGE_ROWS_MAX, &number))
	{
		routes_bad_request(exchange, "limit", "limit must be a whole number from 1 to 10000");
		return;
	}
	job = job_create(exchange, JOB_GET_PRODUCTS);
	if (job != NULL)
	{
		job->limit = (int) number;
		job->after = strdup(after ? after : "");
	}
	routes_hand_over(routes_intakes.lists, exchange, job);
}

static void
get_product(HttpExchange *exchange, const char *parameter)
{
	hand_over_query(routes_intakes.reads, exchange, JOB_GET_PRODUCT, parameter);
}

static void
get_vendors(HttpExchange *exchange, const char *parameter)
{
	(void) parameter;
	hand_over_query(routes_intakes.lists, exchange, JOB_GET_VENDORS, NULL);
}

static void
sync_all(HttpExchange *exchange, const char *parameter)
{
	(void) parameter;
	hand_over_query(routes_intakes.syncs, exchange, JOB_SYNC, NULL);
}

static void
sync_one(HttpExchange *exchange, const char *parameter)
{
	hand_over_query(routes_intakes.syncs, exchange, JOB_SYNC, parameter);
}

static void
get_healthz(HttpExchange *exchange, const char *parameter)
{
	(void) parameter;
	http_reply(exchange, 200, "application/json", strdup("{\"status\": \"alive\"}"));
}

static void
get_readyz(HttpExchange *exchange, const char *parameter)
{
	bool    ready;
	json_t *roles = roles_json(&ready);
	json_t *body = json_pack("{s:s, s:o}", "status", ready ? "ready" : "not ready", "roles", roles);

	(void) parameter;
	http_reply(exchange, ready ? 200 : 503, "application/json",
			   body != NULL ? json_dumps(body, JSON_COMPACT) : NULL);
	json_decref(body);
}

static void
get_metrics(HttpExchange *exchange, const char *parameter)
{
	(void) parameter;
	metric_set(METRIC_INTAKE_DEPTH, intake_depth(routes_intakes.orders));
	http_reply(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", metrics_text());
}

static void
get_openapi(HttpExchange *exchange, const char *parameter)
{
	(void) parameter;
	http_reply(exchange, 200, "application/json", strdup(openapi_json));
}

static void
get_events(HttpExchange *exchange, const char *parameter)
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
		http_reply(exchange, 200, "text/event-stream", NULL);
	else
		listeners_add(exchange, number);
}

static const Route routes[] = {
	{"POST", "/order", SCOPE_ORDER, routes_post_order, false, false},
	{"GET", "/order/%", SCOPE_READ, get_order, true, false},
	{"POST", "/order/%/cancel", SCOPE_ORDER, routes_post_cancel, false, false},
	{"GET", "/products", SCOPE_READ, get_products, true, false},
	{"GET", "/products/%", SCOPE_READ, get_product, true, false},
	{"GET", "/vendorSync", SCOPE_ADMIN, sync_all, false, true},
	{"POST", "/vendors/sync", SCOPE_ADMIN, sync_all, false, false},
	{"POST", "/vendors/%/sync", SCOPE_ADMIN, sync_one, false, false},
	{"GET", "/vendors", SCOPE_READ, get_vendors, true, false},
	{"GET", "/events", SCOPE_READ, get_events, true, false},
	{"POST", "/order/%/return", SCOPE_ORDER, routes_post_return, false, false},
	{"GET", "/vendors/%/syncs", SCOPE_READ, get_syncs, true, false},
	{"GET", "/healthz", SCOPE_NONE, get_healthz, true, false},
	{"GET", "/readyz", SCOPE_NONE, get_readyz, true, false},
	{"GET", "/metrics", SCOPE_READ, get_metrics, true, false},
	{"GET", "/openapi.json", SCOPE_NONE, get_openapi, true, false},
};

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

/* True if the path fits; *parameter is then the segment that "%" stands for. */
static bool
path_fits(const char *pattern, const HttpExchange *exchange, const char **parameter)
{
	int count = 0;

	while (*pattern == '/')
	{
		size_t      length = strcspn(++pattern, "/");
		const char *segment =
			count < http_segment_count(exchange) ? http_segment(exchange, count) : NULL;

		if (segment == NULL)
			return false;
		if (*pattern == '%')
			*parameter = segment;
		if (*pattern == '%' ? *segment == '\0'
							: strlen(segment) != length || memcmp(segment, pattern, length) != 0)
			return false;
		pattern += length;
		count++;
	}
	return count == http_segment_count(exchange);
}

static bool
is_served(const Route *route)
{
	return !route->is_older || config.http_older_routes;
}

/* The route of a request; NULL if there is none. HEAD is GET without the body, unless that would
 * change something. */
static const Route *
find_route(const HttpExchange *exchange, const char **parameter)
{
	bool        is_head = strcmp(http_method(exchange), "HEAD") == 0;
	const char *method = is_head ? "GET" : http_method(exchange);

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
	{
		if (strcmp(routes[i].method, method) == 0 && is_served(&routes[i]) &&
			path_fits(routes[i].path, exchange, parameter))
			return is_head && !routes[i].is_safe ? NULL : &routes[i];
	}
	return NULL;
}

/* Lists the methods that a path takes; an empty text if there is nothing at it. */
static void
list_methods(const HttpExchange *exchange, char *allow, size_t size)
{
	const char *parameter;

	*allow = '\0';
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
	{
		if (is_served(&routes[i]) && path_fits(routes[i].path, exchange, &parameter) &&
			strstr(allow, routes[i].method) == NULL)
			snprintf(allow + strlen(allow), size - strlen(allow), "%s%s%s", *allow ? ", " : "",
					 routes[i].method,
					 strcmp(routes[i].method, "GET") == 0 && routes[i].is_safe ? ", HEAD" : "");
	}
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
	const Route *route = find_route(exchange, &parameter);

	bool is_safe = route != NULL ? route->is_safe : is_safe_method(http_method(exchange));
	char methods[128] = "";

	metric_add(METRIC_HTTP_REQUESTS, 1);
	http_set_note(exchange, route);
	if (strcmp(http_method(exchange), "OPTIONS") == 0)
		list_methods(exchange, methods, sizeof(methods));
	if (!callers_admit(exchange, is_safe, route != NULL && route->scope == SCOPE_NONE, methods))
		return false;
	return route == NULL ||
		   (is_allowed(exchange, route->scope) && (is_safe || has_json_or_nothing(exchange)));
}

void
api_handle(HttpExchange *exchange)
{
	const Route *route = http_note(exchange);
	const char  *parameter = "";
	char         allow[128];

	if (route != NULL && path_fits(route->path, exchange, &parameter))
	{
		route->handler(exchange, parameter);
		return;
	}
	if (http_segment_count(exchange) == 0) /* "*", the server as a whole */
		snprintf(allow, sizeof(allow), "GET, HEAD, POST");
	else
		list_methods(exchange, allow, sizeof(allow));
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
