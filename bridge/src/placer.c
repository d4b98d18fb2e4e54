/*
 * placer.c
 *		Orders from HTTP: all that waits goes to the database as one batch.
 *
 * There is no timer: a lone order goes at once, and while one batch is in the
 * database the next one gathers. Every request has an idempotency key, made
 * here if the client gave none, so a batch whose outcome is unknown (the
 * connection was lost during the commit) is simply sent again.
 */
#include "placer.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "db.h"
#include "fault.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "stop.h"
#include "text.h"

static atomic_bool is_connected;

bool
placer_is_connected(void)
{
	return atomic_load(&is_connected);
}

/* ---------- answers ---------- */

static void
reply_placed(Job *job, const char *order_id, const char *document)
{
	char *body = NULL;
	char  location[64];

	if (asprintf(&body, "{\"message\": \"Order placed\", \"orderId\": %s, \"order\": %s}", order_id, document) < 0)
		body = NULL;
	snprintf(location, sizeof(location), "/order/%s", order_id);
	http_set_header(job->exchange, "Location", location);
	http_reply(job->exchange, 201, "application/json", body);
	metric_add(METRIC_ORDERS_PLACED, 1);
}

/* The status and title of an error of place_orders. */
static int
status_of_code(const char *code, const char **title)
{
	static const struct
	{
		const char *code;
		int         status;
		const char *title;
	} known[] = {
		{"22023", 400, "Bad Request"},
		{"OA001", 409, "Insufficient stock"},
		{"OA002", 404, "Unknown product"},
		{"OA003", 422, "Idempotency key reused"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (strcmp(code, known[i].code) == 0)
		{
			*title = known[i].title;
			return known[i].status;
		}
	}
	*title = "Internal Server Error";
	return 500;
}

static void
reply_refused(Job *job, const char *code, const char *error_text)
{
	json_t     *error = json_loads(error_text, 0, NULL);
	const char *message = json_string_value(json_object_get(error, "message"));
	json_t     *detail = json_object_get(error, "detail");
	char       *details = detail != NULL ? json_dumps(detail, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
	const char *title;
	int         status = status_of_code(code, &title);

	http_problem(job->exchange, status, title, message ? message : title, json_string_value(json_object_get(error, "field")),
				 details);
	free(details);
	json_decref(error);
	metric_add(METRIC_ORDERS_REFUSED, 1);
}

static void
reply_unavailable(Job *job, bool may_be_placed)
{
	char detail[2048];

	http_set_header(job->exchange, "Retry-After", "1");
	if (may_be_placed)
		snprintf(detail, sizeof(detail), "the outcome is not known: repeat the request with the header Idempotency-Key: %s",
				 job->key);
	else
		snprintf(detail, sizeof(detail), "the database is away; nothing was placed");
	if (may_be_placed)
		http_set_header(job->exchange, "Idempotency-Key", job->key);
	http_problem(job->exchange, 503, may_be_placed ? "Outcome unknown" : "Service Unavailable", detail, NULL, NULL);
	metric_add(METRIC_HTTP_REFUSED, 1);
}

/* ---------- batches ---------- */

/* Answers the jobs whose time is up and returns the others. */
static Job *
drop_overdue(Job *jobs, bool may_be_placed)
{
	Job      *kept = NULL;
	Job     **end = &kept;
	long long now = monotonic_ms();

	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		if (now < job->deadline_ms && !(stop_requested() && !placer_is_connected()))
		{
			*end = job;
			end = &job->next;
			continue;
		}
		reply_unavailable(job, may_be_placed);
		job_free(job);
	}
	*end = NULL;
	return kept;
}

static char *
batch_text(const Job *jobs)
{
	char  *text = NULL;
	size_t size;
	FILE  *stream = open_memstream(&text, &size);

	if (stream == NULL)
		return NULL;
	fputc('[', stream);
	for (const Job *job = jobs; job != NULL; job = job->next)
	{
		fputs(job->text, stream);
		if (job->next != NULL)
			fputc(',', stream);
	}
	fputc(']', stream);
	return text_finish(stream, &text);
}

static void
answer_batch(Job *jobs, const PGresult *result)
{
	int row = 0;

	while (jobs != NULL)
	{
		Job        *job = jobs;
		const char *order_id = db_value(result, row, 0);

		jobs = job->next;
		if (order_id != NULL)
			reply_placed(job, order_id, db_value(result, row, 1));
		else
			reply_refused(job, db_value(result, row, 2), db_value(result, row, 3));
		job_free(job);
		row++;
	}
}

static void
refuse_batch(Job *jobs, const char *sqlstate)
{
	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		/* class 22: the text itself, such as a NUL or an invalid character in it */
		if (strncmp(sqlstate, "22", 2) == 0)
			http_problem(job->exchange, 400, "Bad Request", "the body has text that the database cannot hold", "body", NULL);
		else
			http_problem(job->exchange, 500, "Internal Server Error", "the database refused the order", NULL, NULL);
		metric_add(METRIC_ORDERS_REFUSED, 1);
		job_free(job);
	}
}

/* Splits a list in two halves; returns the second. */
static Job *
split(Job *jobs)
{
	Job *slow = jobs;
	Job *second;

	for (Job *fast = jobs->next; fast != NULL && fast->next != NULL; fast = fast->next->next)
		slow = slow->next;
	second = slow->next;
	slow->next = NULL;
	return second;
}

/* True if the same statement may succeed when it is tried again. */
static bool
is_transient(const char *sqlstate)
{
	return strcmp(sqlstate, "40P01") == 0 || strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "55P03") == 0 ||
		   strcmp(sqlstate, "57014") == 0;
}

/*
 * Places one batch and answers all its jobs. A statement that the server
 * refuses is halved until the request at fault is alone.
 */
static void
place(Db *db, Job *jobs)
{
	bool may_be_placed = false;

	while ((jobs = drop_overdue(jobs, may_be_placed)) != NULL)
	{
		char       *text;
		const char *params[1];
		PGresult   *result;
		DbOutcome   outcome;
		char        sqlstate[6] = "";

		atomic_store(&is_connected, db_is_connected(db) || db_connect(db));
		if (!placer_is_connected())
		{
			stop_wait_ms(backoff_next(&db->backoff));
			continue;
		}
		params[0] = text = batch_text(jobs);
		if (text == NULL)
			continue;
		outcome = db_query(db, "placing orders", SQL_PLACE, 1, params, &result);
		FAULT_POINT("placer.after_commit");
		free(text);
		if (outcome == DB_OK)
		{
			answer_batch(jobs, result);
			PQclear(result);
			return;
		}
		if (outcome == DB_ERROR)
			snprintf(sqlstate, sizeof(sqlstate), "%s", PQresultErrorField(result, PG_DIAG_SQLSTATE));
		PQclear(result);
		if (outcome == DB_LOST)
		{
			may_be_placed = true;
			metric_add(METRIC_RECONNECTS, 1);
		}
		else if (!is_transient(sqlstate))
		{
			if (jobs->next == NULL)
			{
				refuse_batch(jobs, sqlstate);
				return;
			}
			place(db, split(jobs));
		}
	}
}

void *
placer_run(void *context)
{
	Intake *intake = context;
	Db      db;
	Job    *jobs;
	int     count;

	log_set_role("http.placer");
	db_init(&db, config.database_url, "order-bridge placer", NULL);
	db.statement_timeout_ms = config.request_timeout_s * 1000 / 2; /* a lock held by someone must not hold up all */
	if (db_connect(&db))
		atomic_store(&is_connected, true);
	while ((jobs = intake_take(intake, config.place_batch_max, &count)) != NULL)
	{
		long long began = monotonic_us();

		place(&db, jobs);
		metric_observe(HISTOGRAM_PLACE_BATCH, count);
		metric_observe(HISTOGRAM_PLACE_SECONDS, (double) (monotonic_us() - began) / 1e6);
	}
	db_close(&db);
	return NULL;
}
