/*
 * housekeeping.c
 *		The housekeeping role. Any number of bridges may do it side by side.
 *
 * Its tasks have nothing to do with one another: what stops one stops no other.
 * Each waits for somebody's lock only shortly, and then, where it can, does what it
 * can do without waiting. A task that fails for long is seen in readiness.
 */
#include "housekeeping/housekeeping.h"

#include "base/backoff.h"
#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "link/broker.h"
#include "link/db.h"
#include "link/statements.h"

#define BATCH               1000
#define BATCHES_MS          5000
#define PARTITIONS_EVERY_MS 5000
#define MEASURE_EVERY_MS    5000
#define RETENTION_EVERY_MS  60000
#define FAILED_AGAIN_MS     1000  /* and twice as long after each failure more (backoff.h) */
#define FAILED_AGAIN_MS_MAX 10000 /* and then, or when it is due; /readyz says no as long */
#define LOCK_TIMEOUT_MS     1000
#define TIMEOUT_MS          30000

typedef struct Task Task;

struct Task
{
	const char *doing;
	int (*every_ms)(void);
	bool (*run)(const Task *task, Db *db); /* false if it failed, and is to be tried again soon */
	const char *sql;
	const char *sql_skip_locked; /* NULL: there is no such way */
	const int  *argument;        /* of both; NULL: none */
	void (*done)(int count);     /* what it returned, if it was more than nothing */
};

/* ---------- running one ---------- */

/* Runs a statement that returns a count; -1 if it failed. *is_locked_out tells whether for
 * somebody's lock. */
static int
count(Db *db, const char *doing, const char *sql, const int *argument, bool *is_locked_out)
{
	char        text[12];
	const char *params[1] = {text};
	PGresult   *result;
	int         rows = -1;

	if (argument != NULL)
		snprintf(text, sizeof(text), "%d", *argument);
	if (db_query(db, doing, sql, argument != NULL, params, &result) == DB_OK)
		rows = atoi(PQgetvalue(result, 0, 0));
	*is_locked_out = db_is_locked_out(result);
	PQclear(result);
	return rows;
}

/* Runs a task's statement, in the way that waits for nobody if somebody's lock is in the other
 * one's. */
static bool
run_once(const Task *task, Db *db, int *rows, bool *is_locked_out)
{
	*rows = count(db, task->doing, task->sql, task->argument, is_locked_out);
	if (*is_locked_out && task->sql_skip_locked != NULL)
		*rows = count(db, task->doing, task->sql_skip_locked, task->argument, is_locked_out);
	if (*rows > 0 && task->done != NULL)
		task->done(*rows);
	return *rows >= 0;
}

static bool
run_statement(const Task *task, Db *db)
{
	int  rows;
	bool is_locked_out;

	return run_once(task, db, &rows, &is_locked_out);
}

/* Again and again as long as there are so many rows, or more, for a while: others wait for their
 * turn. */
static bool
run_while(const Task *task, Db *db, int size, bool *is_locked_out)
{
	long long until_ms = monotonic_ms() + BATCHES_MS;
	int       rows;

	do
	{
		if (!run_once(task, db, &rows, is_locked_out))
			return false;
	} while (rows >= size && !stop_requested() && monotonic_ms() < until_ms);
	return true;
}

static bool
run_batches(const Task *task, Db *db)
{
	bool is_locked_out;

	return run_while(task, db, BATCH, &is_locked_out);
}

/* One call drops few, for it has to read them. What somebody reads, be it for hours (pg_dump), is
 * dropped a minute or more later: nothing depends on it soon. The log tells of it each time. */
static bool
drop_partitions(const Task *task, Db *db)
{
	bool is_locked_out;

	return run_while(task, db, 1, &is_locked_out) || is_locked_out;
}

static int expired_at_once = BATCH;

/* What fails is half as large the next time: so many lines may be too much for their time. It grows
 * again as long as there is time for twice as many. */
static bool
expire(const Task *task, Db *db)
{
	long long began_ms = monotonic_ms();
	bool      is_locked_out;
	bool      ok = run_while(task, db, expired_at_once, &is_locked_out);

	if (!ok)
		expired_at_once = expired_at_once > 1 ? expired_at_once / 2 : 1;
	else if (monotonic_ms() - began_ms < BATCHES_MS)
		expired_at_once = expired_at_once < BATCH / 2 ? expired_at_once * 2 : BATCH;
	return ok;
}

/* ---------- what they do ---------- */

static int
every_expire_interval(void)
{
	return config.expire_interval_ms;
}

static int
every_5s(void)
{
	return PARTITIONS_EVERY_MS;
}

static int
every_minute(void)
{
	return RETENTION_EVERY_MS;
}

/* Often enough that no question is late by more than a tenth. */
static int
every_tenth_of_silence(void)
{
	int tenth = config.ask_again_s > 600 ? 60000 : config.ask_again_s * 100;

	return tenth < 1000 ? 1000 : tenth;
}

static void
tell_expired(int rows)
{
	log_info("%d orders expired", rows);
	metric_add(METRIC_ORDERS_EXPIRED, rows);
}

static void
tell_shortages(int rows)
{
	log_warning("%d orders lost a vendor whose feed has fewer units than they hold", rows);
}

static void
tell_asked(int rows)
{
	log_info("%d questions repeated to vendors that were silent for %d s", rows,
			 config.ask_again_s);
	metric_add(METRIC_VENDORS_ASKED_AGAIN, rows);
}

static void
tell_stale(int rows)
{
	log_warning("%d vendors' offers are not sold any more: no feed has confirmed them", rows);
}

static void
tell_partitions(int rows)
{
	log_info("%d outbox partitions made", rows);
}

static void
tell_dropped(int rows)
{
	log_info("retention: %d dropped", rows);
}

/*
 * As long as questions wait in the queue, unread, vendors are not silent but
 * behind, and more questions would not help. Vendors' own queues are theirs: we need not be
 * allowed to look. -1: the broker cannot be asked.
 */
static int
questions_waiting(void)
{
	Broker *broker;
	int     waiting;

	if (!config.placed_queue)
		return 0;
	broker = broker_open(config.rabbitmq_url, "order-bridge housekeeping",
						 config.broker_timeout_s * 1000, NULL);
	waiting = broker != NULL ? broker_message_count(broker, QUEUE_PLACED) : -1;
	broker_close(broker);
	return waiting;
}

static bool
ask_again(const Task *task, Db *db)
{
	static long long broker_due_ms;
	long long        began_ms = monotonic_ms();
	bool             is_locked_out;
	int              silent;
	int              waiting;

	if (config.ask_again_s == 0 || began_ms < broker_due_ms)
		return true;
	silent =
		count(db, "looking for silent vendors", SQL_HAS_SILENT, task->argument, &is_locked_out);
	if (silent <= 0)
		return silent == 0;
	waiting = questions_waiting();
	if (waiting == 0)
		return run_statement(task, db);
	if (waiting < 0) /* the other tasks wait for one that hangs */
		broker_due_ms = rest_until_ms(began_ms);
	log_debug("no vendor is asked again: %d questions wait unread (-1: the broker does not say)",
			  waiting);
	return true;
}

static bool
measure(const Task *task, Db *db)
{
	static const Metric gauges[] = {METRIC_OUTBOX_BACKLOG_EVENTS,
									METRIC_OUTBOX_BACKLOG_SECONDS,
									METRIC_PARKED_EVENTS,
									METRIC_DEFERRED_EVENTS,
									METRIC_CIRCUITS_OPEN,
									METRIC_VENDORS_STALE,
									METRIC_FEEDS_HELD};
	PGresult           *result;
	bool                ok = db_query(db, task->doing, task->sql, 0, NULL, &result) == DB_OK;

	for (size_t i = 0; ok && i < sizeof(gauges) / sizeof(gauges[0]); i++)
		metric_set(gauges[i], strtoll(PQgetvalue(result, 0, (int) i), NULL, 10));
	PQclear(result);
	return ok;
}

static const int batch = BATCH;

static const Task tasks[] = {
	{"expiring orders", every_expire_interval, expire, SQL_EXPIRE, SQL_EXPIRE_SKIP_LOCKED,
	 &expired_at_once, tell_expired},
	{"settling shortages", every_expire_interval, run_statement, SQL_SETTLE_SHORTAGES,
	 SQL_SETTLE_SHORTAGES_SKIP_LOCKED, &batch, tell_shortages},
	{"asking silent vendors again", every_tenth_of_silence, ask_again, SQL_ASK_SILENT, NULL,
	 &config.ask_again_s, tell_asked},
	{"making outbox partitions", every_5s, run_statement, SQL_MAKE_PARTITIONS, NULL, NULL,
	 tell_partitions},
	{"telling of stale vendors", every_5s, run_statement, SQL_TELL_STALE_VENDORS, NULL, NULL,
	 tell_stale},
	{"measuring the backlog", every_5s, measure, SQL_BACKLOG, NULL, NULL, NULL},
	{"forgetting idempotency keys", every_minute, run_batches, SQL_FORGET_KEYS, NULL,
	 &config.idempotency_retention_hours, tell_dropped},
	{"forgetting the history of feeds", every_minute, run_batches, SQL_FORGET_SYNCS, NULL,
	 &config.sync_retention_hours, tell_dropped},
	{"dropping outbox partitions", every_minute, drop_partitions, SQL_DROP_PARTITIONS, NULL,
	 &config.outbox_retention_hours, tell_dropped},
};

#define TASKS (sizeof(tasks) / sizeof(tasks[0]))

/* ---------- the role ---------- */

/* When each task is due, since when it has failed (0: it has not), and how soon it is tried again.
 */
typedef struct Schedule
{
	long long due_ms[TASKS];
	long long failing_since_ms[TASKS];
	Backoff   again[TASKS];
} Schedule;

/* How long to wait for the next time. Soon after a failure, which a fail-over may have been; but
 * what failed after a long time keeps the others from theirs, and waits for twice as long, or for
 * FAILED_AGAIN_MS_MAX, even if it is due before. */
static int
pause_after(Schedule *schedule, size_t task, bool ok, long long took_ms)
{
	int every_ms = tasks[task].every_ms();
	int again_ms;

	if (ok)
	{
		backoff_reset(&schedule->again[task]);
		return every_ms;
	}
	again_ms = backoff_next(&schedule->again[task]);
	if (again_ms > every_ms)
		again_ms = every_ms;
	if (again_ms < 2 * took_ms)
		again_ms = 2 * took_ms < FAILED_AGAIN_MS_MAX ? (int) (2 * took_ms) : FAILED_AGAIN_MS_MAX;
	return again_ms;
}

static void
run_due(Schedule *schedule, Db *db)
{
	for (size_t i = 0; i < TASKS && !stop_requested() && db_is_connected(db); i++)
	{
		long long began_ms = monotonic_ms();
		bool      ok;

		if (began_ms < schedule->due_ms[i])
			continue;
		role_begins(ROLE_HOUSEKEEPING);
		ok = tasks[i].run(&tasks[i], db);
		role_progresses(ROLE_HOUSEKEEPING);
		schedule->due_ms[i] =
			monotonic_ms() + pause_after(schedule, i, ok, monotonic_ms() - began_ms);
		if (ok)
			schedule->failing_since_ms[i] = 0;
		else if (schedule->failing_since_ms[i] == 0)
			schedule->failing_since_ms[i] = monotonic_ms();
	}
	role_rests(ROLE_HOUSEKEEPING);
}

/* True unless a task has failed for too long. */
static bool
all_go_well(const Schedule *schedule)
{
	for (size_t i = 0; i < TASKS; i++)
	{
		if (schedule->failing_since_ms[i] != 0 &&
			monotonic_ms() - schedule->failing_since_ms[i] > config.stuck_after_s * 1000LL)
			return false;
	}
	return true;
}

static int
wait_ms(const Schedule *schedule)
{
	long long wait = RETENTION_EVERY_MS;

	for (size_t i = 0; i < TASKS; i++)
	{
		long long left = schedule->due_ms[i] - monotonic_ms();

		wait = left < wait ? left : wait;
	}
	return wait > 0 ? (int) wait : 0;
}

void *
housekeeping_run(void *unused)
{
	Db       db;
	Schedule schedule = {0};

	(void) unused;
	log_set_role("housekeeping");
	db_init(&db, config.database_url, "order-bridge housekeeping", NULL);
	db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	db.timeout_ms = TIMEOUT_MS;
	for (size_t i = 0; i < TASKS; i++)
		schedule.again[i] =
			(Backoff){.delay_ms_min = FAILED_AGAIN_MS, .delay_ms_max = FAILED_AGAIN_MS_MAX};
	role_set_ready(ROLE_HOUSEKEEPING, false);
	while (db_connect_until_stopped(&db))
	{
		run_due(&schedule, &db);
		role_set_ready(ROLE_HOUSEKEEPING, db_is_connected(&db) && all_go_well(&schedule));
		stop_wait_ms(wait_ms(&schedule));
	}
	db_close(&db);
	return NULL;
}
