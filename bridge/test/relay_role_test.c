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
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "relay/relay.h"
#include "relay_role_fake.h"

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

static void
assert_begins(const char *text, const char *beginning)
{
	assert_int_equal(strncmp(text, beginning, strlen(beginning)), 0);
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

#define BEGINS                                                                                     \
	"connect; look back; lease 30000; lead?; open 12000; ping; declare; hark; acquire; verdict; "
#define ENDS "close; hang up; "

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
	assert_string_equal(run(3), "connect; look back; lease 30000; lead?; rests; ready; wait 1000; "
								"lead?; rests; ready; wait 1000; "
								"lead?; open 12000; ping; declare; hark; acquire; verdict; "
								"ready; drain; asleep; drain; checkpoint; misplaced; wait 3000; "
								"listen; awake; hang up; close; ");
	assert_int_equal(world.ended_trials, 1);
}

static void
one_that_stands_by_when_it_is_stopped_just_ends(void **state)
{
	(void) state;
	world.others_lead_for = 9;
	assert_string_equal(
		run(1), "connect; look back; lease 30000; lead?; rests; ready; wait 1000; hang up; ");
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
	const char *const steps[] = {"open 12000", "declare", "hark", "acquire", "verdict"};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
	{
		const char *then;
		char        expected[80];

		set_up(state);
		world.fails = steps[i];
		run(2);
		then = strstr(world.done, " fails; ");
		assert_non_null(then);
		/* a broker that cannot be used is closed at once, another one by the next attempt; another
		 * relay that can reach it finds the lock free meanwhile */
		snprintf(expected, sizeof(expected),
				 " fails; %shang up; wait %d; connect; look back; lease 30000; lead?; ",
				 i == 1 ? "close; " : "", i <= 1 ? 1500 : 77);
		assert_begins(then, expected);
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
	assert_begins(world.done, "connect; look back fails; hang up; wait 77; " BEGINS);
}

/* Who has the lock has the lease already: it may hang, or its machine go, while it looks for a
 * broker. */
static void
nobody_asks_for_the_lock_without_a_lease(void **state)
{
	(void) state;
	world.fails = "lease 30000";
	run(2);
	assert_begins(world.done, "connect; look back; lease 30000 fails; hang up; wait 77; " BEGINS);
}

static void
a_lock_that_cannot_be_asked_for_is_not_ours(void **state)
{
	(void) state;
	world.fails = "lead?";
	assert_string_equal(run(1), "connect; look back; lease 30000; lead? fails; rests; wait 1000; ");
}

static void
one_that_may_not_ask_is_not_ready(void **state)
{
	(void) state;
	world.fails = "lead?";
	world.is_refused = true;
	world.others_lead_for = 1;
	assert_string_equal(run(2), "connect; look back; lease 30000; lead? fails; rests; wait 1000; "
								"lead?; rests; ready; wait 1000; hang up; ");
}

static void
whoever_is_lost_while_it_leads_is_found_again(void **state)
{
	(void) state;
	world.fails = "drain";
	world.deferred_ms = world.now_ms + 700; /* is forgotten, too */
	run(2);
	assert_non_null(strstr(world.done, "ready; drain fails; hang up; wait 77; connect; look back; "
									   "lease 30000; lead?; close; open 12000; "));
	assert_int_equal(world.reconnects, 1);
	assert_int_equal(world.resets, 1);          /* of the second time */
	assert_int_equal(world.times_not_ready, 3); /* before it leads, then, and in the end */
}

/* Another relay would begin to look for it anew. */
static void
whoever_looks_for_the_culprit_keeps_the_lock(void **state)
{
	(void) state;
	for (int has_broker = 0; has_broker < 2; has_broker++)
	{
		set_up(state);
		world.fails = "drain";
		world.then = has_broker ? NULL : "open 12000";
		world.is_judging = true;
		run(3);
		assert_non_null(
			strstr(world.done, "ready; drain fails; wait 77; lead?; close; open 12000"));
		/* but not without a broker, which another one may reach */
		assert_int_equal(strstr(world.done, "open 12000 fails; hang up; wait 1500; connect; ") !=
							 NULL,
						 !has_broker);
		assert_int_equal(world.reconnects, has_broker ? 1 : 2);
	}
}

/* or the server would end the session that has the lock */
static void
whoever_keeps_the_lock_does_not_pause_for_a_lease(void **state)
{
	set_up(state);
	world.fails = "drain";
	world.is_judging = true;
	world.pause_ms = 10001;
	run(3);
	assert_non_null(strstr(world.done, "drain fails; wait 10000; lead?; "));
}

static void
whoever_connects_anew_by_itself_stays_ready(void **state)
{
	(void) state;
	world.fails = "drain";
	world.is_renewed = true;
	run(2);
	assert_non_null(strstr(world.done, "ready; drain fails; hang up; wait 77; connect; look back; "
									   "lease 30000; lead?; close; open 12000; "));
	assert_int_equal(world.times_not_ready, 2);
}

/* ---------- sleeping ---------- */

static void
it_goes_on_at_once_after_events_were_drained(void **state)
{
	(void) state;
	world.published[1] = 3; /* by the look after it had said that it sleeps */
	run(1);
	assert_string_equal(world.done + strlen(BEGINS),
						"ready; drain; asleep; drain; awake; checkpoint; misplaced; "
						"drain; asleep; drain; wait 3000; listen; awake; hang up; close; ");
}

/* The mark is taken off as something is published: nobody would ring. */
static void
it_does_not_wait_for_a_bell_after_deferred_events_were_sent(void **state)
{
	(void) state;
	world.published[1] = world.published[3] = -1;
	world.oldest = 7;
	world.next = 8;
	run(2);
	assert_non_null(strstr(world.done, "drain; asleep; drain; awake; checkpoint; misplaced; "
									   "drain; asleep; drain; awake; drain; asleep; drain; wait 2; "
									   "listen; drain; "));
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
what_is_on_trial_is_looked_at_often(void **state)
{
	(void) state;
	world.has_trials = true;
	run(3);
	assert_non_null(strstr(world.done, "wait 100; listen; wait 100; listen; wait 100; listen; "));
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
		assert_begins(then, " fails; hang up; wait 77; connect; look back; lease 30000; lead?; ");
		assert_int_equal(world.reconnects, 1);
	}
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
		TEST(nobody_asks_for_the_lock_without_a_lease),
		TEST(a_lock_that_cannot_be_asked_for_is_not_ours),
		TEST(one_that_may_not_ask_is_not_ready),
		TEST(whoever_is_lost_while_it_leads_is_found_again),
		TEST(whoever_looks_for_the_culprit_keeps_the_lock),
		TEST(whoever_keeps_the_lock_does_not_pause_for_a_lease),
		TEST(whoever_connects_anew_by_itself_stays_ready),
		TEST(it_goes_on_at_once_after_events_were_drained),
		TEST(it_does_not_wait_for_a_bell_after_deferred_events_were_sent),
		TEST(how_far_it_is_is_written_now_and_then),
		TEST(the_bell_wakes_it),
		TEST(a_bell_that_came_with_an_answer_is_heard),
		TEST(what_the_broker_has_said_is_read_without_waiting),
		TEST(it_only_naps_while_there_may_be_one_that_rang_no_bell),
		TEST(a_nap_does_not_outlast_the_sleep),
		TEST(what_a_nap_brings_ends_it),
		TEST(whoever_is_lost_in_a_nap_is_found_again),
		TEST(deferred_events_shorten_the_sleep),
		TEST(what_is_on_trial_is_looked_at_often),
		TEST(it_wakes_up_in_time_for_its_lease),
		TEST(whoever_is_lost_while_it_sleeps_is_found_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
