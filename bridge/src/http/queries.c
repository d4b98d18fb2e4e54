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

#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "base/text.h"
#include "http/etag.h"
#include "http/problems.h"
#include "http/reply_room.h"
#include "http/slow_queries.h"
#include "http/standby.h"
#include "sync/sync.h"

#define WAIT_MS             1000
#define LOCK_TIMEOUT_MS     200 /* of what only reads */
#define TIMEOUT_DIVISOR     4   /* so much sooner do those give up who do not take what is slow */
#define LOCK_TIMEOUT_MS_MIN 40  /* of what changes an order, at first; then twice that, ... */
#define LOCK_TIMEOUT_MS_MAX 320

/* ---------- running ---------- */

/* How long a statement may take: two of them, at most, before nobody waits any more. */
static int
timeout_ms(void)
{
	return config.request_timeout_s * 1000 * 2 / 5;
}

/* Do all of the jobs ask the same? */
static bool
ask_the_same(const Job *jobs)
{
	for (const Job *job = jobs->next; job != NULL; job = job->next)
	{
		if (jobs->query->together == QUERY_ANY && strcmp(jobs->subject, job->subject) != 0)
			return false;
	}
	return true;
}

/*
 * Runs the statement of one job or several. With DB_OK the result is the caller's; else it has been
 * seen to: *answered says how. One of several may be what takes so long, or what brings the server
 * down: then each is tried by itself, and what alone takes too long is left to the worker that has
 * time for it.
 */
static DbOutcome
run(Db *db, Job *jobs, int nparams, const char *const *params, PGresult **result,
	Answered *answered)
{
	DbOutcome (*query)(Db *, const char *, const char *, int, const char *const *, PGresult **) =
		jobs->query->plan == PLAN_EACH ? db_query : db_query_prepared;
	DbOutcome outcome = query(db, jobs->query->doing, jobs->query->sql, nparams, params, result);
	bool      is_standby = strcmp(db->target, DB_TARGET_PRIMARY) != 0;
	/* what is wrong with a standby, such as a damaged page, need not be so with the primary */
	bool is_passing = outcome == DB_ERROR && !db_is_timed_out(db, *result) &&
					  (db_is_passing(*result) || (is_standby && !db_is_fault_of_input(*result)));

	*answered = ANSWERED;
	if (outcome == DB_OK)
		return outcome;
	if (outcome == DB_LOST)
		jobs->is_outcome_unknown |= jobs->idempotency_key != NULL;
	if (!ask_the_same(jobs) && !db_is_locked_out(*result)) /* what locks one out, locks out all */
		*answered = ANSWER_APART;
	else if (outcome == DB_LOST || is_passing)
		*answered = ANSWER_LATER;
	else
	{
		if (db_is_timed_out(db, *result))
			slow_remember(jobs);
		if (db_is_timed_out(db, *result) && db->timeout_ms < timeout_ms())
			*answered = ANSWER_LATER; /* by one who has more time */
		else
			problem_reply_all(jobs, *result);
	}
	PQclear(*result);
	return outcome;
}

static void
reply_document(Job *job, HttpText *document)
{
	if (document != NULL)
		http_reply_text(job->exchange, 200, "application/json", document);
	else
		problem_no_memory(job);
}

/* Runs the statement and replies to all with its one JSON value; no row: there is no such thing. */
static Answered
answer_with(Db *db, Job *jobs, int nparams, const char *const *params)
{
	PGresult *result;
	Answered  answered;
	HttpText *document = NULL;

	if (run(db, jobs, nparams, params, &result, &answered) != DB_OK)
		return answered;
	if (PQntuples(result) > 0)
		document = http_text_create(PQgetvalue(result, 0, 0));
	for (Job *job = jobs; job != NULL; job = job->next)
	{
		if (PQntuples(result) == 0)
			problem_not_found(job);
		else
			reply_document(job, document);
	}
	http_text_release(document);
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

static bool
is_same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* The different subjects of the jobs, as an array; NULL if memory is short. Each job is told the
 * place in it of its own, from 1. */
static char *
subjects_of(Job *jobs)
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
	for (Job *job = jobs; job != NULL; job = job->next)
	{
		int place = 0;

		while (place < count && strcmp(subjects[place], job->subject) != 0)
			place++;
		if (place == count)
			subjects[count++] = job->subject;
		job->place = place + 1;
	}
	text = text_of_strings(subjects, count);
	free(subjects);
	return text;
}

/* The rows are in the order of the array, without those that are not there. */
static const char *
find_document(const PGresult *result, int place)
{
	int low = 0;
	int high = PQntuples(result);

	while (low < high)
	{
		int middle = (low + high) / 2;
		int found = atoi(PQgetvalue(result, middle, 0));

		if (found == place)
			return PQgetvalue(result, middle, 1);
		if (found < place)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Replies to the first of the jobs and all others of its place; the next one that has no reply. */
static Job *
reply_to_place(Job *jobs, const PGresult *result)
{
	const char *document = find_document(result, jobs->place);
	HttpText   *text = document != NULL ? http_text_create(document) : NULL;
	int         place = jobs->place;
	Job        *next = NULL;

	for (Job *job = jobs; job != NULL; job = job->next)
	{
		if (job->place == place)
		{
			if (document == NULL)
				problem_not_found(job);
			else
				reply_document(job, text);
			job->place = 0;
		}
		else if (next == NULL && job->place > 0)
			next = job;
	}
	http_text_release(text);
	return next;
}

Answered
query_subjects(Db *db, Job *jobs)
{
	char       *subjects = subjects_of(jobs);
	const char *params[1] = {subjects};
	PGresult   *result;
	Answered    answered;
	DbOutcome   outcome;

	if (subjects == NULL)
		return ANSWER_LATER;
	outcome = run(db, jobs, 1, params, &result, &answered);
	free(subjects);
	if (outcome != DB_OK)
		return answered;
	for (Job *job = jobs; job != NULL;)
		job = reply_to_place(job, result);
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

Answered
query_orders(Db *db, Job *jobs)
{
	if (is_order_id(jobs->subject))
		return query_subjects(db, jobs);
	problem_no_order_id(jobs); /* alone, see is_fit() */
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
		problem_no_order_id(jobs);
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
reply_cacheable(Job *job, HttpText *body, const char *etag)
{
	if (body != NULL)
	{
		http_set_header(job->exchange, "ETag", etag);
		http_set_header(job->exchange, "Cache-Control", "no-cache");
	}
	if (body != NULL && etag_matches(http_header(job->exchange, "If-None-Match"), etag))
		http_reply_text(job->exchange, 304, NULL, body); /* of which the length is told */
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
		HttpText *body = http_text_create(PQgetvalue(result, 0, 0));

		etag_of(PQgetvalue(result, 0, 0), etag);
		for (Job *job = jobs; job != NULL; job = job->next)
			reply_cacheable(job, body, etag);
		http_text_release(body);
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
	char    *body;
	Answered answered = ANSWERED;

	jobs->is_outcome_unknown = true; /* other vendors' feeds, or a part of one, may be applied */
	if (!sync_now(db, jobs->subject, results))
		answered = ANSWER_LATER;
	else if (jobs->subject != NULL && json_array_size(results) == 0)
		http_problem(jobs->exchange, 404, "Not Found",
					 "there is no such active vendor with a stock URL", NULL, NULL);
	else
	{
		answer = json_pack("{s:s, s:O}", "message", "Vendor stock synced", "results", results);
		body = json_dumps(answer, JSON_COMPACT);
		if (body != NULL)
			http_reply(jobs->exchange, 200, "application/json", body);
		else
			problem_no_memory(jobs);
		json_decref(answer);
	}
	json_decref(results);
	return answered;
}

/* ---------- the worker ---------- */

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
is_apart(const Job *job)
{
	return job->times_apart > 0 || is_slow(job);
}

static bool
are_together(const Job *a, const Job *b)
{
	if (a->query != b->query)
		return false;
	switch (a->query->together)
	{
		case QUERY_ANY:
			return is_fit(a) && is_fit(b) &&
				   (strcmp(a->subject, b->subject) == 0 || (!is_apart(a) && !is_apart(b)));
		case QUERY_SAME:
			return is_same_text(a->subject, b->subject) && is_same_text(a->after, b->after) &&
				   a->limit == b->limit;
		case QUERY_ALONE:
			break;
	}
	return false;
}

/* Sees to it that one comes again later, if anybody still waits for it then. */
static void
put_off(Intake *intake, Job *job)
{
	if (!stop_requested() && monotonic_ms() <= job->deadline_ms && intake_add_later(intake, job))
		return;
	problem_give_up(job);
}

/* Is a standby to be read from, and it only reads? */
static bool
is_for_standby(const Job *job)
{
	return *config.read_database_url != '\0' && job->query->together != QUERY_ALONE;
}

/* What only reads is asked there the first time; else, and if in doubt, the database itself. */
static Answered
ask(Db *db, Standby *standby, Job *jobs)
{
	Db      *chosen;
	Answered answered;

	/* see take() */
	if (!db_is_alive(db) && (!stop_requested() || !db_connect(db)))
		return ANSWER_LATER;
	chosen = is_for_standby(jobs) && jobs->tries == 0 && standby_is_up_to_date(standby, db)
				 ? &standby->db
				 : db;
	answered = jobs->query->answer(chosen, jobs);
	if (chosen != db)
		standby_note(standby, answered == ANSWERED);
	for (Job *job = jobs; job != NULL && answered == ANSWERED && is_for_standby(job);
		 job = job->next)
		metric_add(chosen != db ? METRIC_READS_ON_STANDBY : METRIC_READS_ON_PRIMARY, 1);
	return answered;
}

/* Answers jobs that belong together; what cannot be answered now comes again later. */
static void
answer(Db *db, Standby *standby, Intake *intake, Job *jobs)
{
	Answered answered = ask(db, standby, jobs);

	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		job->next = NULL;
		job->times_apart += answered == ANSWER_APART;
		if (answered == ANSWERED)
			job_free(job);
		else
			put_off(intake, job);
	}
}

static bool
is_not_slow(const Job *job)
{
	return !is_slow(job);
}

/* Takes the next jobs. Without a connection they stay where their time is looked after, for a host
 * that hangs takes seconds to tell. */
static Job *
take(Db *db, Intake *intake, const IntakeTaker *taker)
{
	while (!db_is_connected(db) && !stop_requested())
	{
		long long began_ms = monotonic_ms();

		if (intake_wait(intake, WAIT_MS) && !db_connect(db))
			stop_wait_ms(db_pause_ms(db, began_ms));
	}
	return intake_take_together(intake, taker);
}

void *
queries_run(void *context)
{
	const QueryWorker *worker = context;
	const IntakeTaker  taker = {worker->jobs_max, worker->takes_slow ? NULL : is_not_slow,
								are_together};
	Db                 db;
	Standby            standby;
	Job               *jobs;

	log_set_role("http.queries");
	db_init(&db, config.database_url, "order-bridge queries", NULL);
	db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	db.timeout_ms = worker->takes_slow ? timeout_ms() : timeout_ms() / TIMEOUT_DIVISOR;
	standby_init(&standby, timeout_ms() / TIMEOUT_DIVISOR, LOCK_TIMEOUT_MS);
	while ((jobs = take(&db, worker->intake, &taker)) != NULL)
		if (reply_room_for(jobs))
			answer(&db, &standby, worker->intake, jobs);
		else
			problem_unavailable_all(jobs, REPLY_ROOM_SPENT);
	standby_close(&standby);
	db_close(&db);
	return NULL;
}
