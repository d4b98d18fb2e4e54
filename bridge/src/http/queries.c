/*
 * queries.c
 *		The HTTP requests that read, change or sync.
 *
 * A statement waits for somebody's lock only shortly, and the job then comes back
 * to the queue, behind the others: many that wait for one lock hold up nobody else.
 *
 * What only reads and waits together is answered together: a lone request goes at once, and while
 * one statement is in the database the jobs of the next one gather.
 */
#include "http/queries.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/stop.h"
#include "base/text.h"
#include "http/etag.h"
#include "http/problems.h"
#include "sync/sync.h"

#define LOCK_TIMEOUT_MS 1000 /* of what only reads */
#define LOCK_TIMEOUT_MS_MIN                                                                        \
	40 /* of what changes an order, the first time; then twice that, and so on */
#define LOCK_TIMEOUT_MS_MAX 320

/*
 * Runs the statement of one job or several. With DB_OK the result is the caller's; else it has been
 * seen to: *answered says how.
 */
static DbOutcome
run(Db *db, Job *jobs, int nparams, const char *const *params, PGresult **result,
	Answered *answered)
{
	DbOutcome outcome = db_query(db, jobs->query->doing, jobs->query->sql, nparams, params, result);

	*answered = ANSWERED;
	if (outcome == DB_OK)
		return outcome;
	if (outcome == DB_LOST)
		jobs->is_outcome_unknown |= jobs->idempotency_key != NULL;
	if (outcome == DB_LOST || db_is_passing(*result))
		*answered = ANSWER_LATER;
	else if (jobs->next != NULL)
		*answered = ANSWER_ALONE; /* it may be one of them that is at fault */
	else
		problem_reply(jobs, *result);
	PQclear(*result);
	return outcome;
}

static void
reply_not_found(Job *job)
{
	char detail[128];

	snprintf(detail, sizeof(detail), "there is no such %s", job->query->what);
	http_problem(job->exchange, 404, "Not Found", detail, NULL, NULL);
}

static void
reply_document(Job *job, const char *document)
{
	http_reply(job->exchange, 200, "application/json", strdup(document));
}

/* Runs the statement and replies to all with its one JSON value; no row: there is no such thing. */
static Answered
answer_with(Db *db, Job *jobs, int nparams, const char *const *params)
{
	PGresult *result;
	Answered  answered;

	if (run(db, jobs, nparams, params, &result, &answered) != DB_OK)
		return answered;
	for (Job *job = jobs; job != NULL; job = job->next)
	{
		if (PQntuples(result) == 0)
			reply_not_found(job);
		else
			reply_document(job, PQgetvalue(result, 0, 0));
	}
	PQclear(result);
	return answered;
}

Answered
query_all(Db *db, Job *jobs)
{
	return answer_with(db, jobs, 0, NULL);
}

Answered
query_one(Db *db, Job *jobs)
{
	const char *params[1] = {jobs->subject};

	return answer_with(db, jobs, 1, params);
}

/* ---------- many at a time ---------- */

/* The jobs' subjects, as an array; NULL if memory is short. */
static char *
subjects_of(const Job *jobs)
{
	int          count = 0;
	const char **subjects;
	char        *text;

	for (const Job *job = jobs; job != NULL; job = job->next)
		count++;
	subjects = malloc(sizeof(char *) * (size_t) count);
	if (subjects == NULL)
		return NULL;
	count = 0;
	for (const Job *job = jobs; job != NULL; job = job->next)
		subjects[count++] = job->subject;
	text = text_of_strings(subjects, count);
	free(subjects);
	return text;
}

Answered
query_subjects(Db *db, Job *jobs)
{
	char       *subjects = subjects_of(jobs);
	const char *params[1] = {subjects};
	PGresult   *result;
	Answered    answered;
	DbOutcome   outcome;
	int         row = 0;
	int         place = 0;

	if (subjects == NULL)
		return ANSWER_LATER;
	outcome = run(db, jobs, 1, params, &result, &answered);
	free(subjects);
	if (outcome != DB_OK)
		return answered;
	/* in the order of the array, without those that are not there */
	for (Job *job = jobs; job != NULL; job = job->next)
	{
		place++;
		if (row < PQntuples(result) && atoi(PQgetvalue(result, row, 0)) == place)
			reply_document(job, PQgetvalue(result, row++, 1));
		else
			reply_not_found(job);
	}
	PQclear(result);
	return answered;
}

/* ---------- orders ---------- */

static bool
is_order_id(const char *text)
{
	size_t length = strlen(text);

	return length > 0 && length <= 18 && strspn(text, "0123456789") == length;
}

static void
reply_no_order_id(Job *job)
{
	http_problem(job->exchange, 404, "Not Found", "there is no such order: an id is a whole number",
				 "id", NULL);
}

Answered
query_orders(Db *db, Job *jobs)
{
	if (is_order_id(jobs->subject))
		return query_subjects(db, jobs);
	reply_no_order_id(jobs); /* alone, see is_fit() */
	return ANSWERED;
}

Answered
query_change(Db *db, Job *jobs)
{
	int         lock_timeout_ms = LOCK_TIMEOUT_MS_MIN;
	char        lock_timeout[12];
	const char *params[4] = {jobs->subject, jobs->body, jobs->idempotency_key, lock_timeout};

	if (!is_order_id(jobs->subject))
	{
		reply_no_order_id(jobs);
		return ANSWERED;
	}
	for (int i = 0; i < jobs->tries && lock_timeout_ms < LOCK_TIMEOUT_MS_MAX; i++)
		lock_timeout_ms *= 2;
	snprintf(lock_timeout, sizeof(lock_timeout), "%d", lock_timeout_ms);
	return answer_with(db, jobs, 4, params);
}

/* ---------- products ---------- */

/* Replies with the body and its ETag, or with 304 if the client has it already. */
static void
reply_cacheable(Job *job, const char *body, const char *etag)
{
	http_set_header(job->exchange, "ETag", etag);
	http_set_header(job->exchange, "Cache-Control", "no-cache");
	if (etag_matches(http_header(job->exchange, "If-None-Match"), etag))
		http_reply(job->exchange, 304, NULL, NULL);
	else
		reply_document(job, body);
}

/* "product/vendor" goes on after that offer, "product" after all of its offers. */
Answered
query_products(Db *db, Job *jobs)
{
	char       *slash = strrchr(jobs->after, '/');
	char        limit[12];
	const char *params[3] = {jobs->after, slash ? slash + 1 : *jobs->after ? "~" : "", limit};
	char        etag[ETAG_BYTES_MAX];
	PGresult   *result;
	Answered    answered;

	if (slash != NULL)
		*slash = '\0';
	snprintf(limit, sizeof(limit), "%d", jobs->limit);
	if (run(db, jobs, 3, params, &result, &answered) == DB_OK)
	{
		etag_of(PQgetvalue(result, 0, 0), etag);
		for (Job *job = jobs; job != NULL; job = job->next)
			reply_cacheable(job, PQgetvalue(result, 0, 0), etag);
		PQclear(result);
	}
	if (slash != NULL)
		*slash = '/'; /* it may be tried again */
	return answered;
}

Answered
query_sync(Db *db, Job *jobs)
{
	json_t  *results = json_array();
	json_t  *answer;
	Answered answered = ANSWERED;

	if (!sync_now(db, jobs->subject, results))
		answered = ANSWER_LATER;
	else if (jobs->subject != NULL && json_array_size(results) == 0)
		http_problem(jobs->exchange, 404, "Not Found",
					 "there is no such active vendor with a stock URL", NULL, NULL);
	else
	{
		answer = json_pack("{s:s, s:O}", "message", "Vendor stock synced", "results", results);
		http_reply(jobs->exchange, 200, "application/json", json_dumps(answer, JSON_COMPACT));
		json_decref(answer);
	}
	json_decref(results);
	return answered;
}

/* ---------- the worker ---------- */

static bool
is_same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* May the job be answered with others of its query? One that the database would refuse would have
 * them all refused. */
static bool
is_fit(const Job *job)
{
	if (job->subject == NULL)
		return false;
	return job->query->answer == query_orders ? is_order_id(job->subject)
											  : text_is_utf8(job->subject, strlen(job->subject));
}

static bool
are_together(const Job *a, const Job *b)
{
	if (a->query != b->query)
		return false;
	switch (a->query->together)
	{
		case QUERY_ANY:
			return is_fit(a) && is_fit(b);
		case QUERY_SAME:
			return is_same_text(a->subject, b->subject) && is_same_text(a->after, b->after) &&
				   a->limit == b->limit;
		case QUERY_ALONE:
			break;
	}
	return false;
}

/* Takes the first job out of a list, and those that are answered together with it. */
static Job *
take_together(Job **jobs)
{
	Job  *first = *jobs;
	Job **end = &first->next;
	Job **link = jobs;

	*link = first->next;
	while (*link != NULL)
	{
		Job *job = *link;

		if (!are_together(first, job))
		{
			link = &job->next;
			continue;
		}
		*link = job->next;
		*end = job;
		end = &job->next;
	}
	*end = NULL;
	return first;
}

/* Sees to it that one comes again later, or is told that it cannot be done. */
static void
put_off(Intake *intake, Job *job, bool is_over)
{
	if (!is_over && intake_add_later(intake, job))
		return;
	problem_unavailable(job,
						"the database is away, or another transaction has locked what it needs");
	job_free(job);
}

/* Answers jobs that belong together; what cannot be answered now comes again later. */
static void
answer(Db *db, Intake *intake, Job *jobs)
{
	bool     is_away = !db_is_connected(db) && !db_connect(db);
	Answered answered = is_away ? ANSWER_LATER : jobs->query->answer(db, jobs);

	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		job->next = NULL;
		if (answered == ANSWERED)
			job_free(job);
		else if (answered == ANSWER_ALONE)
			answer(db, intake, job);
		else
			put_off(intake, job, false);
	}
}

/* Takes out of a list those that nobody waits for any more. */
static void
drop_overdue(Intake *intake, Job **jobs)
{
	Job **link = jobs;

	while (*link != NULL)
	{
		Job *job = *link;

		if (monotonic_ms() <= job->deadline_ms && !stop_requested())
		{
			link = &job->next;
			continue;
		}
		*link = job->next;
		put_off(intake, job, true);
	}
}

void *
queries_run(void *context)
{
	const QueryWorker *worker = context;
	Db                 db;
	Job               *jobs;
	int                count;

	log_set_role("http.queries");
	db_init(&db, config.database_url, "order-bridge queries", NULL);
	db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	db.timeout_ms = config.request_timeout_s * 1000 * 2 / 5;
	while ((jobs = intake_take(worker->intake, worker->jobs_max, SIZE_MAX, &count)) != NULL)
	{
		while (drop_overdue(worker->intake, &jobs), jobs != NULL)
			answer(&db, worker->intake, take_together(&jobs));
	}
	db_close(&db);
	return NULL;
}
