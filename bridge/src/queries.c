/*
 * queries.c
 *		The HTTP requests that read, cancel or sync.
 */
#include "queries.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "db.h"
#include "http.h"
#include "intake.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "stop.h"
#include "sync.h"
#include "text.h"

/* Frees the result and replies to a statement that did not succeed. */
static void
reply_failed(Job *job, DbOutcome outcome, PGresult *result)
{
	const char *sqlstate = outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : "";
	const char *message = outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : "";

	if (strcmp(sqlstate, "OA004") == 0)
		http_problem(job->exchange, 409, "Conflict", message, NULL, NULL);
	else if (strcmp(sqlstate, "OA005") == 0)
		http_problem(job->exchange, 404, "Not Found", message, NULL, NULL);
	else if (strncmp(sqlstate, "22", 2) == 0)
		http_problem(job->exchange, 400, "Bad Request", message, NULL, NULL);
	else if (outcome == DB_ERROR && strcmp(sqlstate, "57014") != 0)
		http_problem(job->exchange, 500, "Internal Server Error", "the database refused the request", NULL, NULL);
	else
	{
		http_set_header(job->exchange, "Retry-After", "1");
		http_problem(job->exchange, 503, "Service Unavailable", "the database is away, or too much is asked of it", NULL, NULL);
	}
	PQclear(result);
}

/* Replies with the one JSON value of the result, or 404. Frees the result. */
static void
reply_json(Job *job, PGresult *result, const char *what)
{
	char detail[128];

	if (PQntuples(result) == 0)
	{
		snprintf(detail, sizeof(detail), "there is no such %s", what);
		http_problem(job->exchange, 404, "Not Found", detail, NULL, NULL);
	}
	else
		http_reply(job->exchange, 200, "application/json", strdup(PQgetvalue(result, 0, 0)));
	PQclear(result);
}

/* True if the text is an order's id; replies 404 if not. */
static bool
is_order_id(Job *job)
{
	size_t length = strlen(job->key);

	if (length <= 18 && strspn(job->key, "0123456789") == length)
		return true;
	http_problem(job->exchange, 404, "Not Found", "there is no such order: an id is a whole number", "id", NULL);
	return false;
}

/* Runs a statement that makes the answer, one JSON value, and replies with it; no row: there is no such thing. */
static void
answer_with(Db *db, Job *job, const char *doing, const char *sql, int nparams, const char *const *params, const char *what)
{
	PGresult *result;
	DbOutcome outcome = db_query(db, doing, sql, nparams, params, &result);

	if (outcome == DB_OK)
		reply_json(job, result, what);
	else
		reply_failed(job, outcome, result);
}

static void
get_order(Db *db, Job *job)
{
	const char *params[1] = {job->key};

	if (is_order_id(job))
		answer_with(db, job, "reading an order", SQL_GET_ORDER, 1, params, "order");
}

static void
cancel_order(Db *db, Job *job)
{
	const char *params[2] = {job->key, job->text};
	PGresult   *result;
	DbOutcome   outcome;
	char       *body = NULL;

	if (!is_order_id(job))
		return;
	outcome = db_query(db, "cancelling an order", SQL_CANCEL_ORDER, 2, params, &result);
	if (outcome != DB_OK)
	{
		reply_failed(job, outcome, result);
		return;
	}
	PQclear(result);
	if (asprintf(&body, "{\"message\": \"Order cancelled\", \"orderId\": %s, \"status\": \"cancelled\"}", job->key) < 0)
		body = NULL;
	http_reply(job->exchange, 200, "application/json", body);
}

static void
return_order(Db *db, Job *job)
{
	const char *params[2] = {job->key, job->text};

	if (is_order_id(job))
		answer_with(db, job, "returning units of an order", SQL_RETURN_ORDER, 2, params, "order");
}

static void
get_syncs(Db *db, Job *job)
{
	const char *params[1] = {job->key};

	answer_with(db, job, "reading the syncs of a vendor", SQL_GET_SYNCS, 1, params, "vendor");
}

/* True if the tag is in the list, or the list is "*" (RFC 9110, 13.1.2; compared weakly). */
static bool
matches_etag(const char *list, const char *etag)
{
	return list != NULL && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}

/* Replies with the body and its ETag, or with 304 if the client has it already. Takes the body over. */
static void
reply_cacheable(Job *job, char *body)
{
	char etag[40];

	snprintf(etag, sizeof(etag), "\"%016" PRIx64 "-%zx\"", text_hash(body), strlen(body));
	http_set_header(job->exchange, "ETag", etag);
	http_set_header(job->exchange, "Cache-Control", "no-cache");
	if (matches_etag(http_header(job->exchange, "If-None-Match"), etag))
	{
		free(body);
		http_reply(job->exchange, 304, NULL, NULL);
	}
	else
		http_reply(job->exchange, 200, "application/json", body);
}

/* "product/vendor" goes on after that offer, "product" after all of its offers. */
static void
get_products(Db *db, Job *job)
{
	char       *slash = strrchr(job->key, '/');
	char        limit[12];
	const char *params[3] = {job->key, slash ? slash + 1 : *job->key ? "~" : "", limit};
	PGresult   *result;
	DbOutcome   outcome;
	json_t     *next;
	char       *next_text;
	char       *body = NULL;

	if (slash != NULL)
		*slash = '\0';
	snprintf(limit, sizeof(limit), "%d", job->number);
	outcome = db_query(db, "reading products", SQL_GET_PRODUCTS, 3, params, &result);
	if (outcome != DB_OK)
	{
		reply_failed(job, outcome, result);
		return;
	}
	next = atoi(PQgetvalue(result, 0, 1)) == job->number ? json_string(PQgetvalue(result, 0, 2)) : json_null();
	next_text = json_dumps(next, JSON_ENCODE_ANY);
	if (next_text == NULL ||
		asprintf(&body, "{\"isSuccess\": true, \"data\": %s, \"next\": %s}", PQgetvalue(result, 0, 0), next_text) < 0)
		body = NULL;
	if (body != NULL)
		reply_cacheable(job, body);
	else
		http_reply(job->exchange, 503, "application/json", NULL);
	free(next_text);
	json_decref(next);
	PQclear(result);
}

static void
get_product(Db *db, Job *job)
{
	const char *params[1] = {job->key};

	answer_with(db, job, "reading a product", SQL_GET_PRODUCT, 1, params, "product");
}

static void
get_vendors(Db *db, Job *job)
{
	answer_with(db, job, "reading vendors", SQL_GET_VENDORS, 0, NULL, "vendors");
}

static void
sync_vendors(Db *db, Job *job)
{
	json_t *results = json_array();
	json_t *answer;

	if (!sync_now(db, job->key, results))
		reply_failed(job, DB_LOST, NULL);
	else if (job->key != NULL && json_array_size(results) == 0)
		http_problem(job->exchange, 404, "Not Found", "there is no such active vendor with a stock URL", NULL, NULL);
	else
	{
		answer = json_pack("{s:s, s:O}", "message", "Vendor stock synced", "results", results);
		http_reply(job->exchange, 200, "application/json", json_dumps(answer, JSON_COMPACT));
		json_decref(answer);
	}
	json_decref(results);
}

static void
answer(Db *db, Job *job)
{
	switch (job->kind)
	{
		case JOB_GET_ORDER:
			get_order(db, job);
			break;
		case JOB_CANCEL_ORDER:
			cancel_order(db, job);
			break;
		case JOB_RETURN_ORDER:
			return_order(db, job);
			break;
		case JOB_GET_SYNCS:
			get_syncs(db, job);
			break;
		case JOB_GET_PRODUCTS:
			get_products(db, job);
			break;
		case JOB_GET_PRODUCT:
			get_product(db, job);
			break;
		case JOB_GET_VENDORS:
			get_vendors(db, job);
			break;
		case JOB_SYNC:
			sync_vendors(db, job);
			break;
		case JOB_PLACE:
			log_error("an order came to the wrong queue");
			reply_failed(job, DB_LOST, NULL);
			break;
	}
}

void *
queries_run(void *context)
{
	Intake *intake = context;
	Db      db;
	Job    *job;
	int     count;

	log_set_role("http.queries");
	db_init(&db, config.database_url, "order-bridge queries", NULL);
	db.statement_timeout_ms = config.request_timeout_s * 1000;
	while ((job = intake_take(intake, 1, &count)) != NULL)
	{
		PGresult *result = NULL;

		if (monotonic_ms() > job->deadline_ms || stop_requested())
		{
			reply_failed(job, DB_LOST, NULL);
			job_free(job);
			continue;
		}
		/* a connection that died while idle shows only when it is used */
		if (!db_is_connected(&db) || db_query(&db, "checking the connection", SQL_PING, 0, NULL, &result) != DB_OK)
		{
			if (db_connect(&db))
				log_debug("queries can be answered again");
		}
		PQclear(result);
		if (db_is_connected(&db))
			answer(&db, job);
		else
			reply_failed(job, DB_LOST, NULL);
		job_free(job);
	}
	db_close(&db);
	return NULL;
}
