/*
 * relay_role_test.c
 *		The relay's role: who leads, what it does before that, how it sleeps, and how it ends. What
 *		it drains, publishes and keeps are stand-ins that write down that they were called.
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
#include "relay/relay.h"
#include "relay/relay_state.h"

#define DRAINS_MAX 40

typedef struct World
{
	long long now_ms;
	char      done[4000]; /* what was done, a word each */
	int       waits;      /* until a stop is requested */
	bool      stop;

	const char *fails;  /* what fails, once */
	int         spares; /* so often it succeeds before */
	int         others_lead_for;
	bool        has_database, is_connected;
	long long   bell_ms;  /* when it rings; 0: never */
	bool        has_rung; /* and nobody has heard it */
	bool        has_frames;
	bool        is_new_leader; /* nothing is drained yet */
	int         drained;
	int         published[DRAINS_MAX]; /* of each drain; the next one's */
	uint64_t    oldest, next;          /* transactions that run, and the next one */
	long long   deferred_ms;           /* 0, or when deferred events are due */
	bool        has_told, is_ready, leads;
	int         resets, reconnects;
	bool        has_forgotten;
} World;

static World world;
Config       config;

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
		world.fails = NULL;
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

/* A world in which a stop is requested after so many waits; returns what the relay did. */
static const char *
run(int waits)
{
	world.waits = waits;
	assert_null(relay_run(NULL));
	assert_false(world.is_connected);
	assert_false(world.is_ready);
	assert_false(world.leads);
	assert_true(world.has_forgotten);
	return world.done;
}

static int
set_up(void **state)
{
	(void) state;
	memset(&world, 0, sizeof(world));
	world.now_ms = 1000000;
	config = (Config){.relay_poll_ms = 3000, .broker_timeout_s = 12};
	return 0;
}

/* ---------- who leads ---------- */

#define BEGINS "connect; look back; lead?; open 12000; declare; lease 30000; acquire; verdict; "
#define ENDS   "close; hang up; "

static void
a_relay_that_gets_the_lock_prepares_and_leads(void **state)
{
	(void) state;
	assert_string_equal(run(1),
						BEGINS "ready; drain; asleep; drain; checkpoint; misplaced; wait 3000; "
							   "listen; awake; hang up; close; ");
	assert_int_equal(world.reconnects, 0);
	assert_int_equal(world.resets, 1);
}

static void
one_that_does_not_get_it_stands_by(void **state)
{
	(void) state;
	world.others_lead_for = 2;
	assert_string_equal(run(3), "connect; look back; lead?; rests; ready; wait 1000; "
								"lead?; rests; ready; wait 1000; "
								"lead?; open 12000; declare; lease 30000; acquire; verdict; "
								"ready; drain; asleep; drain; checkpoint; misplaced; wait 3000; "
								"listen; awake; hang up; close; ");
}

static void
one_that_stands_by_when_it_is_stopped_just_ends(void **state)
{
	(void) state;
	world.others_lead_for = 9;
	assert_string_equal(run(1), "connect; look back; lead?; rests; ready; wait 1000; hang up; ");
}

static void
a_publish_may_block_for_two_thirds_of_the_lease(void **state)
{
	(void) state;
	config.broker_timeout_s = 21;
	world.fails = "open 20000";
	run(1);
	assert_non_null(strstr(world.done, "open 20000 fails; "));
}

static void
what_fails_before_it_leads_gives_the_lock_back(void **state)
{
	const char *const steps[] = {"open 12000", "declare", "lease 30000", "acquire", "verdict"};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
	{
		const char *then;
		char        expected[80];

		set_up(state);
		world.fails = steps[i];
		run(2);
		then = strstr(world.done, " fails; ");
		assert_non_null(then);
		/* a broker that cannot be used is closed at once, another one by the next attempt */
		snprintf(expected, sizeof(expected),
				 " fails; %shang up; wait 77; connect; look back; lead?; ",
				 i == 1 ? "close; " : "");
		assert_int_equal(strncmp(then, expected, strlen(expected)), 0);
		assert_int_equal(world.reconnects, 1);
		assert_non_null(strstr(then, i <= 1 ? "lead?; open" : "lead?; close; open"));
	}
}

static void
a_database_that_cannot_tell_what_it_has_lost_is_asked_again(void **state)
{
	(void) state;
	world.fails = "look back";
	run(2);
	assert_int_equal(strncmp(world.done, "connect; look back fails; hang up; wait 77; " BEGINS,
							 strlen("connect; look back fails; hang up; wait 77; " BEGINS)),
					 0);
}

static void
a_lock_that_cannot_be_asked_for_is_not_ours(void **state)
{
	(void) state;
	world.fails = "lead?";
	assert_string_equal(run(1), "connect; look back; lead? fails; rests; wait 1000; ");
}

static void
whoever_is_lost_while_it_leads_is_found_again(void **state)
{
	(void) state;
	world.fails = "drain";
	world.deferred_ms = world.now_ms + 700; /* is forgotten, too */
	run(2);
	assert_non_null(strstr(world.done, "ready; drain fails; hang up; wait 77; connect; look back; "
									   "lead?; close; open 12000; "));
	assert_int_equal(world.reconnects, 1);
	assert_int_equal(world.resets, 1); /* of the second time */
}

/* ---------- sleeping ---------- */

static void
it_goes_on_at_once_after_events_were_drained(void **state)
{
	(void) state;
	world.published[1] = 3; /* by the look after it had said that it sleeps */
	run(1);
	assert_string_equal(world.done + strlen(BEGINS),
						"ready; drain; asleep; drain; checkpoint; misplaced; awake; "
						"drain; asleep; drain; wait 3000; listen; awake; hang up; close; ");
}

static void
how_far_it_is_is_written_now_and_then(void **state)
{
	const char *at = NULL;
	int         count = 0;

	(void) state;
	config.relay_poll_ms = 2500;
	run(3); /* after 0, 2.5 and 5 s */
	for (at = world.done; (at = strstr(at, "checkpoint; misplaced; ")) != NULL; at++)
		count++;
	assert_int_equal(count, 2);
}

static void
the_bell_wakes_it(void **state)
{
	(void) state;
	world.bell_ms = world.now_ms + 500;
	run(2);
	assert_string_equal(
		world.done + strlen(BEGINS),
		"ready; drain; asleep; drain; checkpoint; misplaced; wait 500; listen; awake; "
		"drain; asleep; drain; wait 3000; listen; awake; hang up; close; ");
}

static void
a_bell_that_came_with_an_answer_is_heard(void **state)
{
	(void) state;
	world.has_rung = true;
	run(1);
	assert_string_equal(world.done + strlen(BEGINS),
						"ready; drain; asleep; drain; checkpoint; misplaced; listen; awake; "
						"drain; asleep; drain; wait 3000; listen; awake; hang up; close; ");
}

static void
what_the_broker_has_said_is_read_without_waiting(void **state)
{
	(void) state;
	world.has_frames = true;
	run(1);
	assert_string_equal(world.done + strlen(BEGINS),
						"ready; drain; asleep; drain; checkpoint; misplaced; listen; wait 3000; "
						"listen; awake; hang up; close; ");
}

static void
it_only_naps_while_there_may_be_one_that_rang_no_bell(void **state)
{
	(void) state;
	world.oldest = 7;
	world.next = 8;
	run(9);
	assert_non_null(strstr(world.done,
						   "misplaced; wait 2; listen; drain; wait 4; listen; drain; "
						   "wait 8; listen; drain; wait 16; listen; drain; wait 32; "
						   "listen; drain; wait 64; listen; drain; wait 128; listen; "
						   "drain; wait 200; listen; drain; wait 200; listen; drain; "));
	set_up(state);
	world.oldest = world.next = 8;
	run(1);
	assert_non_null(strstr(world.done, "misplaced; wait 3000; listen; awake; "));
}

static void
a_nap_does_not_outlast_the_sleep(void **state)
{
	(void) state;
	config.relay_poll_ms = 5;
	world.oldest = 7;
	world.next = 8;
	run(2);
	assert_non_null(strstr(world.done, "wait 2; listen; drain; wait 3; listen; drain; awake; "));
}

static void
what_a_nap_brings_ends_it(void **state)
{
	(void) state;
	world.oldest = 7;
	world.next = 8;
	world.published[2] = 1;
	run(2);
	assert_non_null(strstr(world.done, "wait 2; listen; drain; awake; drain; asleep; "));
}

static void
whoever_is_lost_in_a_nap_is_found_again(void **state)
{
	(void) state;
	world.oldest = 7;
	world.next = 8;
	world.fails = "drain";
	world.spares = 2;
	run(3);
	assert_non_null(strstr(world.done, "wait 2; listen; drain fails; hang up; wait 77; connect; "));
}

static void
deferred_events_shorten_the_sleep(void **state)
{
	(void) state;
	world.deferred_ms = world.now_ms + 700;
	run(1);
	assert_non_null(strstr(world.done, "misplaced; wait 700; listen; awake; "));
	set_up(state);
	world.deferred_ms = world.now_ms + 3700;
	run(1);
	assert_non_null(strstr(world.done, "misplaced; wait 3000; listen; awake; "));
}

static void
it_wakes_up_in_time_for_its_lease(void **state)
{
	(void) state;
	config.relay_poll_ms = 25000;
	run(3);
	assert_non_null(strstr(world.done, "misplaced; wait 10000; listen; wait 10000; listen; "
									   "wait 5000; listen; awake; "));
}

static void
whoever_is_lost_while_it_sleeps_is_found_again(void **state)
{
	const char *const steps[] = {"asleep", "checkpoint", "misplaced", "listen", "input", "awake"};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
	{
		const char *then;

		set_up(state);
		world.fails = steps[i];
		run(3);
		then = strstr(world.done, " fails; ");
		assert_non_null(then);
		assert_int_equal(strncmp(then, " fails; hang up; wait 77; connect; look back; lead?; ", 53),
						 0);
		assert_int_equal(world.reconnects, 1);
	}
}

/* ---------- stand-ins: the database ---------- */

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
	assert_in_range(db->timeout_ms, 1, 20000);
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

PGnotify *
PQnotifies(PGconn *connection)
{
	PGnotify *bell = NULL;

	(void) connection;
	if (world.has_rung)
	{
		world.has_rung = false;
		bell = calloc(1, sizeof(PGnotify));
	}
	return bell;
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

/* ---------- stand-ins: the broker ---------- */

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

/* ---------- stand-ins: the rest of the relay ---------- */

int
relay_lease_ms(void)
{
	return 30000;
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
	if (sql == SQL_RELAY_MARK_IDLE)
		return does("asleep");
	assert_ptr_equal(sql, SQL_RELAY_UNMARK_IDLE);
	return does("awake");
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
	assert_true(world.leads && world.is_ready);
	*published = world.published[world.drained % DRAINS_MAX];
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
	return does("drain");
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

/* ---------- stand-ins: the bridge ---------- */

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
	assert_in_range(backoff->delay_ms_min, 1, 1000);
	assert_in_range(backoff->delay_ms_max, 1000, 10000);
	return 77;
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

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, set_up)
	const struct CMUnitTest tests[] = {
		TEST(a_relay_that_gets_the_lock_prepares_and_leads),
		TEST(one_that_does_not_get_it_stands_by),
		TEST(one_that_stands_by_when_it_is_stopped_just_ends),
		TEST(a_publish_may_block_for_two_thirds_of_the_lease),
		TEST(what_fails_before_it_leads_gives_the_lock_back),
		TEST(a_database_that_cannot_tell_what_it_has_lost_is_asked_again),
		TEST(a_lock_that_cannot_be_asked_for_is_not_ours),
		TEST(whoever_is_lost_while_it_leads_is_found_again),
		TEST(it_goes_on_at_once_after_events_were_drained),
		TEST(how_far_it_is_is_written_now_and_then),
		TEST(the_bell_wakes_it),
		TEST(a_bell_that_came_with_an_answer_is_heard),
		TEST(what_the_broker_has_said_is_read_without_waiting),
		TEST(it_only_naps_while_there_may_be_one_that_rang_no_bell),
		TEST(a_nap_does_not_outlast_the_sleep),
		TEST(what_a_nap_brings_ends_it),
		TEST(whoever_is_lost_in_a_nap_is_found_again),
		TEST(deferred_events_shorten_the_sleep),
		TEST(it_wakes_up_in_time_for_its_lease),
		TEST(whoever_is_lost_while_it_sleeps_is_found_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
