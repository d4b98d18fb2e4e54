/*
 * placer.c
 *		Orders from HTTP: all that waits goes to the database as one batch.
 *
 * There is no timer: a lone order goes at once, and while one batch is in the
 * database the next one gathers. Every request has an idempotency key, made
 * here if the client gave none, so a batch whose outcome is unknown (the
 * connection was lost during the commit) is simply sent again.
 *
 * A batch waits for others' locks only shortly. Then it is placed without waiting:
 * those that need what is locked go to the second lane, where they are tried
 * again and again until their time is up, and the others are answered. A batch of which
 * one order may be what takes too long, or ends the server process, goes there too, and each
 * order is tried by itself.
 */
#include "http/placer.h"

#include <poll.h>
#include <string.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"
#include "http/problems.h"
#include "http/reply_room.h"
#include "link/db.h"
#include "link/sqlstate.h"
#include "link/statements.h"

#define LOCK_TIMEOUT_MS 250
#define ALONE_MS        1000 /* for an order by itself, the first time: others wait behind it */
#define APART_MS        500  /* for such orders, before others have their turn */
#define WARY_MS         2000 /* after a lock was met, batches do not wait for any that long */
#define PASSING_MS_MAX  2000 /* a full disk and the like are waited for, then orders are refused */
#define CHECK_MS        1000 /* an idle connection is looked at that often */

/* so many bytes have fewer lines than the database takes at a time (200000) */
#define BATCH_BYTES_MAX ((size_t) 4 << 20)

typedef struct Placer
{
	const PlacerLane *lane;
	Db                db;
	long long         wary_until_ms;
	int               timeout_ms; /* of a statement, at most */
	Backoff           pause;      /* while the database refuses what may pass */
} Placer;

/* It tells whether orders can be placed; the second one has nothing to do most of the time. */
static bool
is_first_lane(const Placer *placer)
{
	return placer->lane->aside != placer->lane->orders;
}

/* Does it wait for nobody's lock? The second lane never does. */
static bool
is_wary(const Placer *placer)
{
	return !is_first_lane(placer) || monotonic_ms() < placer->wary_until_ms;
}

/* ---------- answers ---------- */

static void
reply_placed(Job *job, const char *order_id, const char *document)
{
	char *body = NULL;
	char  location[64];

	metric_add(METRIC_ORDERS_PLACED, 1);
	/* both are JSON of the database's making: to take them apart and put them together again would
	 * cost a tenth of an order */
	if (asprintf(&body, "{\"message\": \"Order placed\", \"orderId\": %s, \"order\": %s}", order_id,
				 document) < 0)
	{
		problem_no_memory(job);
		return;
	}
	snprintf(location, sizeof(location), "/order/%s", order_id);
	http_set_header(job->exchange, "Location", location);
	http_reply(job->exchange, 201, "application/json", body);
}

static void
reply_refused(Job *job, const char *code, const char *error_text)
{
	json_t     *error = json_loads(error_text, 0, NULL);
	const char *message = json_string_value(json_object_get(error, "message"));
	json_t     *detail = json_object_get(error, "detail");
	char *details = detail != NULL ? json_dumps(detail, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
	const Sqlstate *sqlstate = sqlstate_find(code);

	http_problem(job->exchange, sqlstate->http_status, sqlstate->title,
				 message ? message : sqlstate->title,
				 json_string_value(json_object_get(error, "field")), details);
	free(details);
	json_decref(error);
	metric_add(METRIC_ORDERS_REFUSED, 1);
}

/* ---------- lists ---------- */

/* Answers those without time or room and returns the others. A lane may not have connected yet. */
static Job *
drop_overdue(Placer *placer, Job *jobs)
{
	Job      *kept = NULL;
	Job     **end = &kept;
	long long now = monotonic_ms();
	bool is_over = stop_requested() && !db_is_connected(&placer->db) && !db_connect(&placer->db);

	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		if (now < job->deadline_ms && !is_over && reply_room_for(job))
		{
			*end = job;
			end = &job->next;
			continue;
		}
		problem_give_up(job);
	}
	*end = NULL;
	return kept;
}

static char *
batch_text(const Job *jobs)
{
	Text text = {0};

	text_add_char(&text, '[');
	for (const Job *job = jobs; job != NULL; job = job->next)
	{
		text_add_string(&text, job->body);
		if (job->next != NULL)
			text_add_char(&text, ',');
	}
	text_add_char(&text, ']');
	return text_finish(&text);
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

static void
add_all_later(Intake *intake, Job *jobs)
{
	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		job->next = NULL;
		if (!intake_add_later(intake, job))
			problem_give_up(job);
	}
}

/* Has them tried again later, on the second lane. */
static void
set_all_aside(Placer *placer, Job *jobs)
{
	add_all_later(placer->lane->aside, jobs);
}

/* Has each of them tried by itself there. */
static void
set_all_apart(Placer *placer, Job *jobs)
{
	for (Job *job = jobs; job != NULL; job = job->next)
		job->times_apart++;
	set_all_aside(placer, jobs);
}

/* ---------- batches ---------- */

static void
answer_batch(Placer *placer, Job *jobs, const PGresult *result)
{
	int row = 0;

	while (jobs != NULL)
	{
		Job        *job = jobs;
		const char *order_id = db_value(result, row, 0);
		const char *code = db_value(result, row, 2);

		jobs = job->next;
		if (order_id == NULL && sqlstate_find(code)->kind == SQLSTATE_LOCKED)
		{
			placer->wary_until_ms = monotonic_ms() + WARY_MS;
			job->next = NULL;
			set_all_aside(placer, job);
			row++;
			continue;
		}
		if (order_id != NULL)
			reply_placed(job, order_id, db_value(result, row, 1));
		else
			reply_refused(job, code, db_value(result, row, 3));
		job_free(job);
		row++;
	}
	if (is_first_lane(placer))
		role_progresses(ROLE_HTTP);
}

static void
refuse_all(Job *jobs, const PGresult *result)
{
	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		/* the text itself, such as a NUL or an invalid character in it */
		if (sqlstate_find(db_sqlstate(result))->http_status == 400)
			http_problem(job->exchange, 400, "Bad Request",
						 "the body has text that the database cannot hold", "body", NULL);
		else
			problem_reply(job, result);
		metric_add(METRIC_ORDERS_REFUSED, 1);
		job_free(job);
	}
}

static void place(Placer *placer, Job *jobs);

/*
 * Goes on after the database could not do it, which may pass. What takes too long, or conflicts,
 * may do so because of one of the orders: then each is tried by itself. A full disk is nobody's.
 */
static Job *
handle_passing(Placer *placer, Job *jobs, const PGresult *result, long long began_ms)
{
	bool are_many = jobs->next != NULL;
	bool is_timed_out = db_is_timed_out(&placer->db, result);

	if (is_timed_out && are_many)
	{
		placer->wary_until_ms = monotonic_ms() + WARY_MS; /* it may have been for locks */
		set_all_apart(placer, jobs);
		return NULL;
	}
	if (jobs->times_apart == 0 && monotonic_ms() - began_ms < PASSING_MS_MAX)
	{
		poll(NULL, 0, backoff_next(&placer->pause)); /* also while we stop */
		return jobs;
	}
	if (is_timed_out ? jobs->times_apart == 1 : are_many && db_is_conflict(result))
		set_all_apart(placer, jobs);
	else if (!is_timed_out && jobs->times_apart > 0)
		set_all_aside(placer, jobs);
	else
		problem_unavailable_all(jobs, "the database cannot do it now");
	return NULL;
}

/* Goes on after the database has refused the batch; returns what is to be tried again at once, NULL
 * if nothing is. */
static Job *
handle_refusal(Placer *placer, Job *jobs, const PGresult *result, long long began_ms, bool was_wary)
{
	if (db_is_locked_out(result))
	{
		if (!was_wary)
		{
			placer->wary_until_ms = monotonic_ms() + WARY_MS;
			return jobs;
		}
		/* without waiting, and still somebody's lock: of a whole table, or a key that somebody is
		 * just using */
		if (is_first_lane(placer) || jobs->next == NULL)
		{
			set_all_aside(placer, jobs);
			return NULL;
		}
	}
	else if (db_is_passing(result))
		return handle_passing(placer, jobs, result, began_ms);
	else if ((!db_is_fault_of_input(result) && !db_is_defect(result)) || jobs->next == NULL)
	{
		refuse_all(jobs, result);
		return NULL;
	}
	place(placer, split(jobs));
	return jobs;
}

/* Goes on after the connection was lost; returns what is to be tried again at once. Once may be
 * anything; again it may be one of them that brings the server down, and alone it is. */
static Job *
handle_loss(Placer *placer, Job *jobs)
{
	int losses = 0;

	for (Job *job = jobs; job != NULL; job = job->next)
	{
		job->is_outcome_unknown = true;
		losses = ++job->losses > losses ? job->losses : losses;
	}
	metric_add(METRIC_RECONNECTS, 1);
	if (losses == 1)
		return jobs;
	for (Job *job = jobs; job != NULL; job = job->next)
		job->losses = 0;
	if (is_first_lane(placer))
		set_all_aside(placer, jobs);
	else if (jobs->times_apart == 0)
		set_all_apart(placer, jobs);
	else
		problem_unavailable_all(jobs, "the connection to the database ends over it");
	return NULL;
}

static int
statement_ms(const Placer *placer, const Job *jobs)
{
	int some = placer->timeout_ms / 4 < ALONE_MS ? placer->timeout_ms / 4 : ALONE_MS;

	return jobs->times_apart == 1 ? some : placer->timeout_ms;
}

/*
 * Places one batch and sees to it that all its jobs are answered. A statement
 * that the server refuses is halved until the request at fault is alone.
 */
static void
place(Placer *placer, Job *jobs)
{
	long long began_ms = monotonic_ms();

	while ((jobs = drop_overdue(placer, jobs)) != NULL)
	{
		bool        was_wary = is_wary(placer);
		char       *text;
		const char *params[1];
		PGresult   *result;
		DbOutcome   outcome;
		long long   connect_ms = monotonic_ms();

		/* a host that hangs takes seconds to tell: meanwhile they are where their time is looked
		 * after */
		if (!db_is_alive(&placer->db) && !stop_requested())
		{
			add_all_later(placer->lane->orders, jobs);
			return;
		}
		if ((!db_is_connected(&placer->db) && !db_connect(&placer->db)) ||
			!db_set_timeout(&placer->db, statement_ms(placer, jobs)))
		{
			stop_wait_ms(db_pause_ms(&placer->db, connect_ms));
			continue;
		}
		params[0] = text = batch_text(jobs);
		if (text == NULL)
		{
			problem_unavailable_all(jobs, "out of memory");
			return;
		}
		outcome =
			db_query_prepared(&placer->db, "placing orders",
							  was_wary ? SQL_PLACE_SKIP_LOCKED : SQL_PLACE, 1, params, &result);
		FAULT_POINT("placer.after_commit");
		free(text);
		if (outcome == DB_OK)
		{
			answer_batch(placer, jobs, result);
			jobs = NULL;
			backoff_reset(&placer->pause);
		}
		else if (outcome == DB_LOST)
			jobs = handle_loss(placer, jobs);
		else
			jobs = handle_refusal(placer, jobs, result, began_ms, was_wary);
		PQclear(result);
	}
}

/* Places what has been taken: first what goes together, then the others one by one, for a while.
 * One of those waits meanwhile; the others are put back to where their time is looked after. */
static void
place_all(Placer *placer, Job *jobs)
{
	Job      *together = NULL;
	Job      *apart = NULL;
	Job     **end = &together;
	Job     **apart_end = &apart;
	long long until_ms;

	while (jobs != NULL)
	{
		Job ***last = jobs->times_apart > 0 ? &apart_end : &end;

		**last = jobs;
		*last = &jobs->next;
		jobs = jobs->next;
	}
	*end = *apart_end = NULL;
	if (together != NULL && apart != NULL && !stop_requested())
	{
		set_all_aside(placer, apart->next);
		apart->next = NULL;
	}
	place(placer, together);
	until_ms = monotonic_ms() + APART_MS;
	while (apart != NULL && (monotonic_ms() < until_ms || stop_requested()))
	{
		Job *job = apart;

		apart = job->next;
		job->next = NULL;
		place(placer, job);
	}
	set_all_aside(placer, apart);
}

static void
note_readiness(const Placer *placer)
{
	if (is_first_lane(placer))
		role_set_ready(ROLE_HTTP, db_is_connected(&placer->db));
}

/* Takes the next jobs, and meanwhile keeps the connection; NULL at the end. Without one they stay
 * where they are: see place(). */
static Job *
take(Placer *placer, int *count)
{
	bool is_waited_for;

	do
	{
		long long began_ms = monotonic_ms();

		is_waited_for = intake_depth(placer->lane->orders) > 0;
		/* those that waited have been answered, by whomever */
		if (is_first_lane(placer) && !is_waited_for)
			role_rests(ROLE_HTTP);
		metric_set(METRIC_ORDERS_SET_ASIDE, intake_depth(placer->lane->aside));
		if ((is_first_lane(placer) || is_waited_for) && !db_is_alive(&placer->db) &&
			!db_connect(&placer->db))
		{
			log_debug("orders wait for the database");
			if (is_waited_for)
				stop_wait_ms(db_pause_ms(&placer->db, began_ms));
		}
		note_readiness(placer);
		is_waited_for = intake_wait(placer->lane->orders, CHECK_MS);
	} while (!is_waited_for || (!db_is_alive(&placer->db) && !stop_requested()));
	return intake_take(placer->lane->orders, config.place_batch_max, BATCH_BYTES_MAX, count);
}

void *
placer_run(void *context)
{
	Placer    placer = {.lane = context, .pause = {.delay_ms_min = 50, .delay_ms_max = 1000}};
	bool      is_first = is_first_lane(&placer);
	long long began_us;
	Job      *jobs;
	int       count;

	log_set_role(is_first ? "http.placer" : "http.placer2");
	db_init(&placer.db, config.database_url,
			is_first ? "order-bridge placer" : "order-bridge placer 2", NULL);
	placer.db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	/* with its grace, and the time to connect anew, less than a request has */
	placer.db.timeout_ms = placer.timeout_ms = config.request_timeout_s * 1000 * 2 / 5;
	while ((jobs = take(&placer, &count)) != NULL)
	{
		began_us = monotonic_us();
		if (is_first)
			role_begins(ROLE_HTTP);
		place_all(&placer, jobs);
		note_readiness(&placer);
		metric_observe(HISTOGRAM_PLACE_BATCH, count);
		metric_observe(HISTOGRAM_PLACE_SECONDS, (double) (monotonic_us() - began_us) / 1e6);
	}
	db_close(&placer.db);
	return NULL;
}
