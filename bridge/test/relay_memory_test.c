/*
 * relay_memory_test.c
 *		Which of the events that were sent the database has lost: when it is asked, and what is
 *said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "link/statements.h"
#include "relay_fake.h"

#define REMEMBERED_MAX 65536

/* Sends events of those ids, and has them answered. */
static void
send(Relay *relay, int64_t first, int count)
{
	for (int64_t id = first; id < first + count; id++)
	{
		FakeEvent event = {.event_id = id,
						   .routing_key = "order.placed.a",
						   .payload = id % 2 == 0 ? "{\"orderId\": 12, \"x\": 1}" : "{\"x\": 12}",
						   .created_at_us = 1000 + id};

		fake.nsent = 0;
		assert_true(relay_add_page(relay, fake_rows(&event, 1), false));
		fake_confirm(relay, 1, true);
		assert_int_equal(fake_take_answers(relay), 1);
	}
}

/* Connects to a database of that timeline, which lacks those of the events that it is asked for. */
static bool
look_back(Relay *relay, const char *timeline, int nmissing, const char *const *missing)
{
	fake.nqueries = 0;
	fake_forget_answers();
	fake_answer(fake_texts(1, &timeline));
	fake_answer(fake_texts(nmissing, missing));
	return relay_look_back(relay);
}

static void
nothing_is_looked_for_before_anything_was_sent(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	assert_ptr_equal(fake.sql, SQL_RELAY_TIMELINE);
	assert_true(look_back(relay, "A", 0, NULL));
	assert_int_equal(fake.nqueries, 1);
	assert_true(look_back(relay, "B", 0, NULL));
	assert_int_equal(fake.nqueries, 1);
}

static void
what_is_sent_again_is_remembered_once(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 5, 2);
	send(relay, 5, 3);
	send(relay, 4, 1);
	assert_true(look_back(relay, "B", 0, NULL));
	assert_string_equal(fake.params[0], "{5,6,7,4}");
	/* what another relay has deferred is sent by us for the first time */
	for (int times = 0; times < 2; times++)
	{
		relay->may_have_deferred = true;
		relay->deferred_due_ms = 0;
		fake_forget_answers();
		fake_answer(fake_keys(3, 3, (const char *const[]){"a", "a", "a"}));
		assert_true(relay_send_deferred(relay));
		relay_free_pages(relay);
	}
	assert_true(look_back(relay, "C", 0, NULL));
	assert_string_equal(fake.params[0], "{5,6,7,4,3}");
	/* another event has the id of one that is gone */
	assert_true(look_back(relay, "D", 1, (const char *const[]){"2"}));
	assert_true(look_back(relay, "E", 0, NULL));
	assert_string_equal(fake.params[0], "{5,7,4,3}");
}

static void
what_was_sent_two_windows_ago_is_remembered_again(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	config.relay_window = 2;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 5, 4);
	send(relay, 5, 1);
	send(relay, 9, 1);
	send(relay, 6, 1);
	send(relay, 5, 1);
	assert_true(look_back(relay, "B", 0, NULL));
	assert_string_equal(fake.params[0], "{5,6,7,8,9,5}");
}

static void
all_are_looked_for_in_another_database(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 2, 3);
	assert_true(look_back(relay, "B", 2, (const char *const[]){"2", "3"}));
	assert_ptr_equal(fake.sql, SQL_RELAY_MISSING);
	assert_int_equal(fake.nqueries, 2);
	assert_string_equal(fake.params[0], "{2,3,4}");
	assert_string_equal(fake.params[1], "{\"m2\",\"m3\",\"m4\"}");
	assert_string_equal(fake.params[2], "{1002,1003,1004}");
	assert_int_equal(fake.metrics[METRIC_EVENTS_LOST], 2);
	assert_non_null(strstr(fake.log, "of the last 3 events sent to the broker it lacks 2"));
	assert_null(strstr(fake.log, "older"));
	/* and never again; the one that is there may be lost by the next one */
	assert_true(look_back(relay, "B", 0, NULL));
	assert_string_equal(fake.params[0], "{2}");
	send(relay, 5, 1);
	assert_true(look_back(relay, "A", 1, (const char *const[]){"1"}));
	assert_string_equal(fake.params[0], "{2,5}");
	assert_non_null(strstr(fake.lines[0], "event 2 message_id=m2"));
	assert_int_equal(fake.metrics[METRIC_EVENTS_LOST], 3);
}

static void
each_that_is_lost_is_named(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 2, 3);
	assert_true(look_back(relay, "B", 1, (const char *const[]){"3"}));
	assert_string_equal(fake.lines[0], "event 4 message_id=m4 key=order.placed.a order=12 may be "
									   "with the broker, and the database has lost it");
	send(relay, 7, 1);
	assert_true(look_back(relay, "C", 1, (const char *const[]){"3"}));
	assert_non_null(strstr(fake.lines[0], "event 7 message_id=m7 key=order.placed.a order=0 may"));
	assert_null(strstr(fake.log, "older"));
}

static void
the_last_are_looked_for_in_the_same_database(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 1, 15);
	assert_true(look_back(relay, "A", 0, NULL));
	assert_string_equal(fake.params[0], "{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}");
	send(relay, 16, 5);
	assert_true(look_back(relay, "A", 0, NULL));
	assert_int_equal(fake.nqueries, 2);
	assert_string_equal(fake.params[0], "{5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20}");
	assert_int_equal(fake.metrics[METRIC_EVENTS_LOST], 0);
	/* it lacks one: it was set back, leaves the ids, and all are looked for */
	fake_forget_answers();
	fake_answer(fake_texts(1, (const char *const[]){"A"}));
	fake_answer(fake_texts(1, (const char *const[]){"16"}));
	fake_answer(NULL);
	fake_answer(fake_texts(1, (const char *const[]){"20"}));
	fake.nqueries = 0;
	assert_true(relay_look_back(relay));
	assert_int_equal(fake.nqueries, 4);
	assert_ptr_equal(fake.asked[2], SQL_LEAVE_ORDER_IDS);
	assert_string_equal(fake.params[0], "{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20}");
	assert_int_equal(fake.metrics[METRIC_EVENTS_LOST], 1);
	assert_true(look_back(relay, "A", 0, NULL));
	assert_string_equal(fake.params[0], "{4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19}");
}

static void
what_cannot_be_asked_is_asked_again(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	fake.outcome = DB_LOST;
	fake.is_disconnected = true;
	assert_false(relay_look_back(relay));
	fake.outcome = DB_ERROR;
	fake.is_disconnected = false;
	assert_false(relay_look_back(relay));
	fake.outcome = DB_OK;
	assert_true(look_back(relay, "A", 0, NULL));
	fake.is_disconnected = true;
	assert_false(look_back(relay, "A", 0, NULL));
	fake.is_disconnected = false;
	send(relay, 1, 2);
	for (int n = 0; n < 9; n++)
	{
		fake.fails_from = 2; /* the second query */
		fake.is_disconnected = n % 2 == 0;
		assert_false(look_back(relay, "B", 0, NULL));
		assert_int_equal(fake.nqueries, 2);
		fake.fails_from = 0;
		fake.is_disconnected = false;
	}
	/* what it was asked for is still known */
	assert_true(look_back(relay, "B", 1, (const char *const[]){"2"}));
	assert_int_equal(fake.metrics[METRIC_EVENTS_LOST], 1);
	/* a database that refuses to be asked is not asked for ever */
	send(relay, 3, 2);
	fake.fails_from = 2;
	for (int n = 0; n < 10; n++)
		assert_int_equal(look_back(relay, "C", 0, NULL), n == 9);
	assert_string_equal(fake.log, "which of the last 3 events sent to the broker the database "
								  "has lost is not known: it did not answer 10 times");
	fake.fails_from = 0;
	assert_true(look_back(relay, "C", 0, NULL));
	assert_int_equal(fake.nqueries, 1);
	/* nor one that cannot say whether it was set back */
	send(relay, 5, 2);
	fake.fails_from = 2;
	for (int n = 0; n < 10; n++)
		assert_int_equal(look_back(relay, "C", 0, NULL), n == 9);
	assert_int_equal(fake.metrics[METRIC_EVENTS_LOST], 1);
}

static void
a_set_back_has_the_ids_jump_once(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 1, 20);
	for (int n = 0; n < 10; n++)
	{
		fake.fails_from = n == 0 ? 4 : 3; /* the last ones are answered for; all are not */
		assert_int_equal(look_back(relay, "A", 1, (const char *const[]){"1"}), n == 9);
		assert_int_equal(fake.nqueries, n == 0 ? 4 : 3);
		assert_ptr_equal(fake.asked[2], n == 0 ? SQL_LEAVE_ORDER_IDS : SQL_RELAY_MISSING);
		fake.fails_from = 0;
	}
}

static void
ids_that_are_given_again_are_of_other_events(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 1, 2);
	relay->nset_aside = 1;
	relay->set_aside[0] = 2;
	relay->suspect = (Suspect){.event_id = 3, .verdict = VERDICT_PARK};
	assert_true(look_back(relay, "A", 0, NULL));
	assert_true(relay_is_set_aside(relay, 2));
	assert_true(look_back(relay, "B", 1, (const char *const[]){"2"}));
	assert_false(relay_is_set_aside(relay, 2));
	fake.nqueries = 0;
	assert_true(relay_execute_verdict(relay));
	assert_int_equal(fake.nqueries, 0);
}

static void
what_is_older_is_forgotten(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(look_back(relay, "A", 0, NULL));
	send(relay, 1, REMEMBERED_MAX - 1);
	assert_true(look_back(relay, "A", 0, NULL));
	assert_string_equal(strrchr(fake.params[0], ','), ",65535}");
	send(relay, REMEMBERED_MAX, 9);
	assert_true(look_back(relay, "B", 2, (const char *const[]){"1", "65536"}));
	assert_int_equal(strncmp(fake.params[0], "{9,10,11,", 9), 0);
	assert_string_equal(fake.lines[0] + strlen("event "),
						"9 message_id=m9 key=order.placed.a order=0 may be with the broker, and "
						"the database has lost it");
	assert_non_null(strstr(fake.lines[1], "event 65544 message_id=m65544"));
	assert_non_null(strstr(fake.log, "of the last 65536 events sent to the broker it lacks 2, and "
									 "perhaps older ones"));
	relay_forget(relay);
	assert_null(relay->memory);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_looked_for_before_anything_was_sent),
		cmocka_unit_test(what_is_sent_again_is_remembered_once),
		cmocka_unit_test(what_was_sent_two_windows_ago_is_remembered_again),
		cmocka_unit_test(all_are_looked_for_in_another_database),
		cmocka_unit_test(each_that_is_lost_is_named),
		cmocka_unit_test(the_last_are_looked_for_in_the_same_database),
		cmocka_unit_test(what_cannot_be_asked_is_asked_again),
		cmocka_unit_test(a_set_back_has_the_ids_jump_once),
		cmocka_unit_test(ids_that_are_given_again_are_of_other_events),
		cmocka_unit_test(what_is_older_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
