/*
 * queries.c
 *		The HTTP requests that read, change or sync.
 *
 * A statement waits for somebody's lock only shortly, and the job then comes back
 * to the queue, behind the others: many that wait for one lock hold up nobody else.
 */
#include "http/queries.h"

#include <stdint.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/stop.h"
#include "http/etag.h"
#include "http/problems.h"
#include "sync/sync.h"

#define LOCK_TIMEOUT_MS 1000 /* of what only reads */
#define LOCK_TIMEOUT_MS_MIN                                                                        \
	40 /* of what changes an order, the first time; then twice that, and so on */
#define LOCK_TIMEOUT_MS_MAX 320

/*
 * Runs a job's statement. With DB_OK the result is the caller's; else it has been
 * seen to: *answered says how.
 */
static DbOutcome
run(Db *db, Job *job, int nparams, const char *const *params, PGresult **result, Answered *answered)
{
	DbOutcome outcome = db_query(db, job->query->doing, job->query->sql, nparams, params, result);

	*answered = ANSWERED;
	if (outcome == DB_OK)
		return outcome;
	if (outcome == DB_LOST)
		job->is_outcome_unknown |= job->idempotency_key != NULL;
	if (outcome == DB_LOST || db_is_passing(*result))
		*answered = ANSWER_LATER;
	else
		problem_reply(job, *result);
	PQclear(*result);
	return outcome;
}

/* Runs the job's statement and replies with its one JSON value; no row: there is no such thing. */
static Answered
answer_with(Db *db, Job *job, int nparams, const char *const *params)
{
	PGresult *result;
	Answered  answered;
	char      detail[128];

	if (run(db, job, nparams, params, &result, &answered) != DB_OK)
		return answered;
	if (PQntuples(result) == 0)
	{
		snprintf(detail, sizeof(detail), "there is no such %s", job->query->what);
		http_problem(job->exchange, 404, "Not Found", detail, NULL, NULL);
	}
	else
		http_reply(job->exchange, 200, "application/json", strdup(PQgetvalue(result, 0, 0)));
	PQclear(result);
	return answered;
}

Answered
query_all(Db *db, Job *job)
{
	return answer_with(db, job, 0, NULL);
}

Answered
query_one(Db *db, Job *job)
{
	const char *params[1] = {job->subject};

	return answer_with(db, job, 1, params);
}

/* True if the text is an order's id; replies 404 if not. */
static bool
is_order_id(Job *job)
{
	size_t length = strlen(job->subject);

	if (length <= 18 && strspn(job->subject, "0123456789") == length)
		return true;
	http_problem(job->exchange, 404, "Not Found", "there is no such order: an id is a whole number",
				 "id", NULL);
	return false;
}

Answered
query_order(Db *db, Job *job)
{
	return is_order_id(job) ? query_one(db, job) : ANSWERED;
}

Answered
query_change(Db *db, Job *job)
{
	int         lock_timeout_ms = LOCK_TIMEOUT_MS_MIN;
	char        lock_timeout[12];
	const char *params[4] = {job->subject, job->body, job->idempotency_key, lock_timeout};

	if (!is_order_id(job))
		return ANSWERED;
	for (int i = 0; i < job->tries && lock_timeout_ms < LOCK_TIMEOUT_MS_MAX; i++)
		lock_timeout_ms *= 2;
	snprintf(lock_timeout, sizeof(lock_timeout), "%d", lock_timeout_ms);
	return answer_with(db, job, 4, params);
}

/* Replies with the body and its ETag, or with 304 if the client has it already. */
static void
reply_cacheable(Job *job, const char *body)
{
	char etag[ETAG_BYTES_MAX];

	etag_of(body, etag);
	http_set_header(job->exchange, "ETag", etag);
	http_set_header(job->exchange, "Cache-Control", "no-cache");
	if (etag_matches(http_header(job->exchange, "If-None-Match"), etag))
		http_reply(job->exchange, 304, NULL, NULL);
	else
		http_reply(job->exchange, 200, "application/json", strdup(body));
}

/* "product/vendor" goes on after that offer, "product" after all of its offers. */
Answered
query_products(Db *db, Job *job)
{
	char       *slash = strrchr(job->after, '/');
	char        limit[12];
	const char *params[3] = {job->after, slash ? slash + 1 : *job->after ? "~" : "", limit};
	PGresult   *result;
	Answered    answered;

	if (slash != NULL)
		*slash = '\0';
	snprintf(limit, sizeof(limit), "%d", job->limit);
	if (run(db, job, 3, params, &result, &answered) == DB_OK)
	{
		reply_cacheable(job, PQgetvalue(result, 0, 0));
		PQclear(result);
	}
	if (slash != NULL)
		*slash = '/'; /* it may be tried again */
	return answered;
}

Answered
query_sync(Db *db, Job *job)
{
	json_t  *results = json_array();
	json_t  *answer;
	Answered answered = ANSWERED;

	if (!sync_now(db, job->subject, results))
		answered = ANSWER_LATER;
	else if (job->subject != NULL && json_array_size(results) == 0)
		http_problem(job->exchange, 404, "Not Found",
					 "there is no such active vendor with a stock URL", NULL, NULL);
	else
	{
		answer = json_pack("{s:s, s:O}", "message", "Vendor stock synced", "results", results);
		http_reply(job->exchange, 200, "application/json", json_dumps(answer, JSON_COMPACT));
		json_decref(answer);
	}
	json_decref(results);
	return answered;
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
	db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	db.timeout_ms = config.request_timeout_s * 1000 * 2 / 5;
	while ((job = intake_take(intake, 1, SIZE_MAX, &count)) != NULL)
	{
		bool     is_over = monotonic_ms() > job->deadline_ms || stop_requested();
		Answered answered = ANSWER_LATER;

		if (!is_over && (db_is_connected(&db) || db_connect(&db)))
			answered = job->query->answer(&db, job);
		if (answered == ANSWER_LATER && !is_over && intake_add_later(intake, job))
			continue;
		if (answered == ANSWER_LATER)
			problem_unavailable(
				job, "the database is away, or another transaction has locked what it needs");
		job_free(job);
	}
	db_close(&db);
	return NULL;
}
