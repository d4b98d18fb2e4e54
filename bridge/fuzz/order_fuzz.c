/*
 * order_fuzz.c
 *		A stranger's request through the routes of routes.c, without a server.
 *
 * Input: the method, the target, the Idempotency-Key, the traceparent and the body,
 * each ended by a newline but the last. Whatever comes, each exchange must get
 * exactly one reply or one job, and the text of a job must be JSON that carries
 * its key.
 *
 * With libFuzzer (make fuzz) this is a target; without, fuzz_driver.c feeds it
 * the corpus and mutations of it (make check).
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/routes.h"
#include "base/config.h"
#include "link/db.h"
#include "http/server.h"
#include "http/head.h"
#include "http/intake.h"
#include "http/listeners.h"
#include "base/metrics.h"

Config config = {.request_timeout_s = 1,
				 .listeners_max = 0,
				 .http_hosts = "",
				 .http_origins = "",
				 .http_older_routes = true};

struct HttpExchange
{
	char       *fields[5]; /* method, target, key, traceparent, body */
	HttpTarget  target;
	size_t      body_bytes;
	int         replies;
	const void *note;
};

static Intake *intake; /* for all jobs */

static void
require(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "order_fuzz: %s\n", what);
	abort();
}

/* ---------- in place of server.c ---------- */

const char *
http_method(const HttpExchange *exchange)
{
	return exchange->fields[0];
}

int
http_segment_count(const HttpExchange *exchange)
{
	return exchange->target.nsegments;
}

const char *
http_segment(const HttpExchange *exchange, int number)
{
	return exchange->target.segments[number];
}

const char *
http_query(const HttpExchange *exchange, const char *name)
{
	return http_target_query(&exchange->target, name);
}

const char *
http_header(const HttpExchange *exchange, const char *name)
{
	if (strcmp(name, "Idempotency-Key") == 0 || strcmp(name, "Last-Event-ID") == 0)
		return *exchange->fields[2] ? exchange->fields[2] : NULL;
	if (strcmp(name, "Content-Type") == 0)
		return "application/json";
	return strcmp(name, "traceparent") == 0 && *exchange->fields[3] ? exchange->fields[3] : NULL;
}

const char *
http_host(const HttpExchange *exchange)
{
	return exchange->target.authority;
}

const char *
http_body(const HttpExchange *exchange, size_t *bytes)
{
	*bytes = exchange->body_bytes;
	return exchange->body_bytes > 0 ? exchange->fields[4] : NULL;
}

void
http_ignore_body(HttpExchange *exchange)
{
	exchange->body_bytes = 0;
}

void
http_set_note(HttpExchange *exchange, const void *note)
{
	exchange->note = note;
}

const void *
http_note(const HttpExchange *exchange)
{
	return exchange->note;
}

void
http_defer(HttpExchange *exchange)
{
	(void) exchange; /* whether it is replied to or handed over is counted */
}

void
http_set_header(HttpExchange *exchange, const char *name, const char *value)
{
	(void) exchange;
	require(strpbrk(name, "\r\n") == NULL && strpbrk(value, "\r\n") == NULL,
			"a header with a line break");
}

void
http_reply(HttpExchange *exchange, int status, const char *content_type, char *body)
{
	(void) content_type;
	require(status >= 200 && status < 600, "no such status");
	exchange->replies++;
	free(body);
}

void
http_reply_constant(HttpExchange *exchange, int status, const char *content_type, const char *body)
{
	http_reply(exchange, status, content_type, strdup(body));
}

long
http_waiting_bytes(void)
{
	return 0;
}

void
http_problem(HttpExchange *exchange, int status, const char *title, const char *detail,
			 const char *field, const char *details_json)
{
	(void) details_json;
	require(status >= 400 && *title && *detail && (field == NULL || *field || status == 400),
			"a problem without words");
	exchange->replies++;
}

const char *
db_sqlstate(const PGresult *result)
{
	(void) result;
	return "";
}

const char *
db_message(const PGresult *result)
{
	(void) result;
	return "refused";
}

const char *
db_field(const PGresult *result)
{
	(void) result;
	return NULL;
}

/* the ways to answer are not gone */
#define NEVER_ASKED(name)                                                                          \
	Answered name(Db *db, Job *jobs)                                                               \
	{                                                                                              \
		(void) db;                                                                                 \
		(void) jobs;                                                                               \
		return ANSWERED;                                                                           \
	}
NEVER_ASKED(query_all)
NEVER_ASKED(query_one)
NEVER_ASKED(query_orders)
NEVER_ASKED(query_subjects)
NEVER_ASKED(query_change)
NEVER_ASKED(query_products)
NEVER_ASKED(query_sync)

void
listeners_add(HttpExchange *exchange, Scope scope, long long last_event_id)
{
	require(scope == SCOPE_READ, "another scope than the route's");
	require(last_event_id >= -1, "no such event id");
	exchange->replies++;
}

/* ---------- the target ---------- */

static void
check_order(const Job *job)
{
	json_t *json = json_loads(job->body, JSON_DECODE_INT_AS_REAL, NULL);
	json_t *key = json_object_get(json, "idempotencyKey");

	require(json_is_object(json), "the request handed over is not a JSON object");
	require(key != NULL &&
				(!json_is_string(key) || strcmp(json_string_value(key), job->idempotency_key) == 0),
			"it does not carry its key");
	json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	HttpExchange exchange = {.replies = 0};
	char        *copy = malloc(bytes + 1);
	char        *rest = copy;
	char        *end = copy + bytes;
	const char  *complaint;
	int          jobs;

	if (intake == NULL)
	{
		ApiIntakes intakes = {{NULL}};

		intake = intake_create(1, SIZE_MAX);
		for (ApiQueue queue = QUEUE_NONE + 1; queue < QUEUE_COUNT; queue++)
			intakes.queues[queue] = intake;
		api_init(&intakes);
	}
	memcpy(copy, data, bytes);
	*end = '\0';
	for (int i = 0; i < 4; i++)
	{
		char *newline = memchr(rest, '\n', (size_t) (end - rest));

		exchange.fields[i] = rest;
		rest = newline != NULL ? newline + 1 : end;
		if (newline != NULL)
			*newline = '\0';
	}
	exchange.fields[4] = rest;
	exchange.body_bytes = (size_t) (end - rest);
	if (http_target_parse(&exchange.target, exchange.fields[1], &complaint) != 0)
		exchange.replies = 1; /* as the server does */
	else if (api_admit(&exchange))
		api_handle(&exchange);
	jobs = intake_depth(intake);
	require(exchange.replies + jobs == 1, "not exactly one reply or job");
	if (jobs > 0)
	{
		Job *job = intake_take(intake, 1, SIZE_MAX, &jobs);

		if (job->query == NULL)
			check_order(job);
		job_free(job);
	}
	http_target_free(&exchange.target);
	free(copy);
	return 0;
}
