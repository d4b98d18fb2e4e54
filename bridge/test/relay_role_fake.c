/*
 * relay_role_fake.c
 *		All that the relay's role calls: see relay_role_fake.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "link/statements.h"
#include "relay/relay_state.h"
#include "relay_role_fake.h"

World  world;
Config config;

static void
note(const char *format, ...)
{
	size_t  length = strlen(world.done);
	va_list words;

	va_start(words, format);
	vsnprintf(world.done + length, sizeof(world.done) - length, format, words);
	va_end(words);
}

/* Writes down that it is done; false if that is what fails. */
static bool
does(const char *what)
{
	bool fails = world.fails != NULL && strcmp(world.fails, what) == 0 && world.spares-- == 0;

	note("%s%s; ", what, fails ? " fails" : "");
	if (fails)
	{
		world.fails = world.then;
		world.then = NULL;
		world.spares = 0;
	}
	return !fails;
}

static void
time_passes(int milliseconds)
{
	note("wait %d; ", milliseconds);
	world.now_ms += milliseconds;
	if (--world.waits <= 0)
		world.stop = true;
}

/* ---------- the database ---------- */

void
db_init(Db *db, const char *url, const char *name, const char *session_sql)
{
	(void) url;
	assert_string_equal(name, "order-bridge relay");
	assert_ptr_equal(session_sql, SQL_RELAY_SESSION);
	memset(db, 0, sizeof(*db));
	world.has_database = true;
}

bool
db_is_connected(const Db *db)
{
	(void) db;
	return world.is_connected;
}

bool
db_connect_until_stopped(Db *db)
{
	assert_true(db->timeout_ms >= 1 && db->timeout_ms <= 20000);
	assert_true(world.has_database && world.has_told);
	if (world.stop)
		return false;
	world.is_connected = does("connect");
	return true;
}

void
db_close(Db *db)
{
	(void) db;
	if (world.is_connected)
		note("hang up; ");
	world.is_connected = false;
}

DbOutcome
db_query(Db *db, const char *doing, const char *sql, int nparams, const char *const *params,
		 PGresult **result)
{
	PGresAttDesc column = {.name = (char *) "column", .typlen = -1};
	char         lease[40];
	bool         ok;

	(void) db;
	(void) doing;
	*result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PQsetResultAttrs(*result, 1, &column);
	if (sql == SQL_RELAY_LEASE)
	{
		assert_int_equal(nparams, 1);
		snprintf(lease, sizeof(lease), "lease %s", params[0]);
		return does(lease) ? DB_OK : DB_ERROR;
	}
	assert_ptr_equal(sql, SQL_RELAY_TRY_LEAD);
	ok = does("lead?");
	if (!ok && world.is_refused)
		return DB_ERROR;
	if (ok)
		PQsetvalue(*result, 0, 0, (char *) (world.others_lead_for-- > 0 ? "f" : "t"), 1);
	else
		world.is_connected = false;
	return ok ? DB_OK : DB_LOST;
}

int
PQsocket(const PGconn *connection)
{
	(void) connection;
	return 41;
}

int
PQconsumeInput(PGconn *connection)
{
	(void) connection;
	if (world.bell_ms != 0 && world.bell_ms <= world.now_ms)
	{
		world.bell_ms = 0;
		world.has_rung = true;
	}
	if (world.fails != NULL && strcmp(world.fails, "input") == 0)
		return does("input");
	return 1;
}

char *
PQerrorMessage(const PGconn *connection)
{
	(void) connection;
	return (char *) "it is gone";
}

/* ---------- the broker ---------- */

Broker *
broker_open(const char *url, const char *name, int publish_timeout_ms, const BrokerEvents *events)
{
	char what[40];

	(void) url;
	(void) events;
	assert_string_equal(name, "order-bridge relay");
	snprintf(what, sizeof(what), "open %d", publish_timeout_ms);
	return does(what) ? (Broker *) &world : NULL;
}

void
broker_close(Broker *broker)
{
	if (broker != NULL)
		note("close; ");
}

bool
broker_declare(Broker *broker, int *limited)
{
	assert_non_null(broker);
	assert_null(limited);
	return does("declare");
}

int
broker_descriptor(const Broker *broker)
{
	assert_non_null(broker);
	return 42;
}

bool
broker_has_frames(Broker *broker)
{
	bool has_frames = world.has_frames;

	assert_non_null(broker);
	world.has_frames = false;
	return has_frames;
}

/* ---------- the rest of the relay ---------- */

int
relay_lease_ms(void)
{
	return 30000;
}

bool
relay_keep_lease(Relay *relay)
{
	(void) relay;
	return does("ping");
}

const BrokerEvents *
relay_broker_events(Relay *relay)
{
	(void) relay;
	return NULL;
}

bool
relay_execute(Relay *relay, const char *doing, const char *sql)
{
	(void) relay;
	(void) doing;
	assert_ptr_equal(sql, SQL_RELAY_LISTEN);
	return does("hark");
}

bool
relay_fall_asleep(Relay *relay)
{
	assert_false(relay->is_asleep);
	relay->is_asleep = true;
	return does("asleep");
}

bool
relay_wake_up(Relay *relay)
{
	bool was_asleep = relay->is_asleep;

	relay->is_asleep = false;
	return !was_asleep || does("awake");
}

void
db_hear_bells(Db *db)
{
	db->has_rung |= world.has_rung;
	world.has_rung = false;
}

bool
relay_has_trials(const Relay *relay)
{
	(void) relay;
	return world.has_trials;
}

void
relay_end_trials(Relay *relay)
{
	(void) relay;
	world.ended_trials++;
}

void
relay_note_connected(Relay *relay)
{
	assert_non_null(relay->broker);
}

bool
relay_acquire(Relay *relay)
{
	assert_true(strchr(relay->holder, ' ') > relay->holder); /* the machine and the process */
	return does("acquire");
}

bool
relay_execute_verdict(Relay *relay)
{
	(void) relay;
	world.is_new_leader = true;
	return does("verdict");
}

bool
relay_look_back(Relay *relay)
{
	(void) relay;
	return does("look back");
}

bool
relay_look_for_misplaced(Relay *relay)
{
	(void) relay;
	return does("misplaced");
}

bool
relay_write_checkpoint(Relay *relay, int published)
{
	(void) relay;
	assert_int_equal(published, 0);
	return does("checkpoint");
}

bool
relay_drain(Relay *relay, int *published)
{
	int sent;

	assert_true(world.leads && world.is_ready);
	relay->db.has_rung = false; /* it looks for what has rung */
	sent = world.published[world.drained % DRAINS_MAX];
	*published = sent > 0 ? sent : 0;
	world.published[world.drained++ % DRAINS_MAX] = 0;
	snapshot_free(&relay->snapshot);
	snapshot_free(&relay->window);
	assert_true(snapshot_parse("1:9:3", 0, &relay->snapshot) &&
				snapshot_parse("1:9:3", 0, &relay->window));
	relay->snapshot.xmin = world.oldest;
	relay->next_xid = world.next;
	if (world.is_new_leader) /* deferred events are looked for first */
		assert_true(relay->may_have_deferred && relay->deferred_due_ms == 0);
	world.is_new_leader = false;
	relay->may_have_deferred = world.deferred_ms != 0;
	relay->deferred_due_ms = world.deferred_ms;
	if (does("drain"))
		return sent == 0 || relay_wake_up(relay);
	relay->is_renewing = world.is_renewed;
	relay->is_judging = world.is_judging;
	return false;
}

bool
relay_listen(Relay *relay, int timeout_ms)
{
	(void) relay;
	assert_int_equal(timeout_ms, 0);
	return does("listen");
}

void
relay_forget(Relay *relay)
{
	(void) relay;
	world.has_forgotten = true;
}

/* ---------- the bridge ---------- */

long long
monotonic_ms(void)
{
	return world.now_ms;
}

bool
stop_requested(void)
{
	return world.stop;
}

int
stop_descriptor(void)
{
	return 43;
}

void
stop_wait_ms(int milliseconds)
{
	time_passes(milliseconds);
}

/* Whichever comes first: the bell, or the time. */
int
poll(struct pollfd *fds, nfds_t nfds, int timeout)
{
	long long left = world.bell_ms - world.now_ms;

	assert_int_equal(nfds, 3);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(fds[i].fd, 41 + i);
		assert_int_equal(fds[i].events, POLLIN);
	}
	time_passes(world.bell_ms != 0 && left < timeout ? (int) left : timeout);
	return 0;
}

int
backoff_next(Backoff *backoff)
{
	assert_true(backoff->delay_ms_min >= 1 && backoff->delay_ms_min <= 1000);
	assert_true(backoff->delay_ms_max >= 1000 && backoff->delay_ms_max <= 10000);
	return world.pause_ms != 0 ? world.pause_ms : 77;
}

void
backoff_reset(Backoff *backoff)
{
	(void) backoff;
	world.resets++;
}

void
role_set_ready(Role role, bool ready)
{
	assert_int_equal(role, ROLE_RELAY);
	if (ready && !world.is_ready)
		note("ready; ");
	world.times_not_ready += !ready;
	world.is_ready = ready && world.leads;
	world.has_told = true;
}

void
role_rests(Role role)
{
	assert_int_equal(role, ROLE_RELAY);
	note("rests; ");
}

void
metric_set(Metric metric, int64_t value)
{
	assert_int_equal(metric, METRIC_RELAY_LEADS);
	world.leads = value == 1;
}

void
metric_add(Metric metric, int64_t by)
{
	assert_int_equal(metric, METRIC_RECONNECTS);
	world.reconnects += (int) by;
}

void
log_set_role(const char *role)
{
	assert_string_equal(role, "relay");
}

void
log_line(LogLevel level, const char *format, ...)
{
	(void) level;
	(void) format;
}
