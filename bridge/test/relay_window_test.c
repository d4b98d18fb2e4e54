/*
 * relay_window_test.c
 *		Windows of the outbox: where one begins and ends, what is read of it, and the checkpoints
 *that tell how far it is.
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

#define ROW(...)                                                                                   \
	fake_row(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),                          \
			 (const char *const[]){__VA_ARGS__})
#define TEXT(text) fake_texts(1, (const char *const[]){text})

/* A relay that leads, of a checkpoint that sees all below that snapshot's end. */
static Relay *
leading(const char *snapshot, const char *low)
{
	Relay *relay = fake_relay();

	snprintf(relay->holder, sizeof(relay->holder), "somebody");
	fake_answer(ROW("9", snapshot, low, NULL, NULL, "0"));
	assert_true(relay_acquire(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_ACQUIRE);
	assert_string_equal(fake.params[0], "somebody");
	fake.nqueries = 0;
	fake.acknowledges = true;
	return relay;
}

static void
answer_horizon(const char *head, const char *next_xid, const char *snapshot)
{
	fake_answer(TEXT(head));
	fake_answer(ROW(next_xid, "now"));
	fake_answer(TEXT(snapshot));
}

static void
answer_events(int64_t first, int count)
{
	const char *keys[200];

	for (int i = 0; i < count; i++)
		keys[i] = "a";
	fake_answer(fake_keys(first, count, keys));
}

static int
drain(Relay *relay)
{
	int published = -1;

	fake.nqueries = 0;
	assert_true(relay_drain(relay, &published));
	return published;
}

/* ---------- taking over ---------- */

static void
it_goes_on_where_the_last_one_was(void **state)
{
	Relay *relay = leading("10:20:12,15", "70");

	(void) state;
	assert_string_equal(relay->epoch, "9");
	assert_int_equal(relay->head, 70);
	assert_int_equal(relay->low, 70);
	assert_int_equal(relay->snapshot.nrunning, 2);
	assert_int_equal(relay->snapshot.running[1].xid, 15);
	assert_int_equal(relay->snapshot.running[1].low_event_id, 70);
	assert_string_equal(relay->window_text, "");

	/* in the middle of a window */
	fake_answer(ROW("10", "10:20:", "70", "30:30:", "75", "70"));
	fake_answer(TEXT("600000"));
	*fake.log = '\0';
	assert_true(relay_acquire(relay));
	assert_int_equal(relay->read_head, 600000);
	assert_string_equal(relay->window_text, "30:30:");
	assert_int_equal(relay->window_head, 70);
	assert_int_equal(relay->cursor, 75);
	assert_string_equal(fake.log, "");

	/* restored from another cluster: what is between is sent again */
	fake_answer(ROW("11", "10:20:", "70", NULL, NULL, "71"));
	assert_true(relay_acquire(relay));
	assert_non_null(strstr(fake.log, "events 71 to 71 are published, perhaps once more"));
	assert_string_equal(relay->window_text, "");

	fake_answer(ROW("12", "nonsense", "70", NULL, NULL, "0"));
	assert_false(relay_acquire(relay));
	fake_answer(ROW("12", "10:20:", "70", "nonsense", "70", "0"));
	assert_false(relay_acquire(relay));
	fake.outcome = DB_ERROR;
	assert_false(relay_acquire(relay));
}

static void
what_another_has_judged_since_is_forgotten(void **state)
{
	Relay *relay = leading("10:20:12,15", "70");

	(void) state;
	for (int skipped = 0; skipped < 2; skipped++)
	{
		relay->suspect = (Suspect){.event_id = 71, .verdict = VERDICT_DEFER};
		relay->careful_left = relay->losses = relay->unproven = relay->nset_aside = 2;
		fake_answer(ROW(skipped ? "12" : "10", "10:20:", "70", NULL, NULL, "0"));
		assert_true(relay_acquire(relay));
		assert_int_equal(relay->suspect.verdict, skipped ? VERDICT_NONE : VERDICT_DEFER);
		assert_int_equal(relay->careful_left + relay->losses + relay->unproven + relay->nset_aside,
						 skipped ? 0 : 8);
	}
}

static void
its_session_is_kept_while_nothing_else_is_asked(void **state)
{
	Relay *relay = leading("10:10:", "0");

	(void) state;
	assert_int_equal(relay_lease_ms(), 30000);
	relay->lease_due_ms = fake.now_ms + 1;
	assert_true(relay_keep_lease(relay));
	assert_int_equal(fake.nqueries, 0);
	fake.now_ms += 1;
	assert_true(relay_keep_lease(relay));
	assert_ptr_equal(fake.sql, SQL_PING);
	assert_int_equal(relay->lease_due_ms, fake.now_ms + 10000);
	fake.now_ms += 10000;
	fake.outcome = DB_LOST;
	assert_false(relay_keep_lease(relay));
}

/* ---------- checkpoints ---------- */

static void
a_checkpoint_says_where_it_is(void **state)
{
	Relay *relay = leading("10:20:12", "70");

	(void) state;
	fake_answer(TEXT("t"));
	assert_true(relay_write_checkpoint(relay, 3));
	assert_ptr_equal(fake.sql, SQL_RELAY_ADVANCE);
	assert_string_equal(fake.params[0], "9");
	assert_string_equal(fake.params[1], "10:20:12");
	assert_string_equal(fake.params[2], "70");
	assert_true(fake.are_null[3] && fake.are_null[4] && fake.are_null[6]);
	assert_string_equal(fake.params[5], "3");

	snprintf(relay->window_text, sizeof(relay->window_text), "30:30:");
	snprintf(relay->relayed_until, sizeof(relay->relayed_until), "noon");
	relay->cursor = 75;
	fake_answer(TEXT("t"));
	assert_true(relay_write_checkpoint(relay, 0));
	assert_string_equal(fake.params[3], "30:30:");
	assert_string_equal(fake.params[4], "75");
	assert_string_equal(fake.params[6], "noon");

	fake_answer(TEXT(NULL)); /* another one leads */
	assert_false(relay_write_checkpoint(relay, 0));
	assert_true(fake.is_disconnected);
	fake.is_disconnected = false;
	fake.outcome = DB_ERROR;
	assert_false(relay_write_checkpoint(relay, 0));
	assert_false(fake.is_disconnected);
}

static void
events_beyond_the_last_id_are_noticed(void **state)
{
	Relay *relay = leading("10:10:", "0");

	(void) state;
	fake_answer(TEXT("7"));
	fake_answer(TEXT("7"));
	assert_true(relay_look_for_misplaced(relay));
	assert_ptr_equal(fake.sql, SQL_OUTBOX_TOP_AND_HEAD);
	assert_int_equal(fake.metrics[METRIC_EVENTS_MISPLACED], 0);
	fake_answer(TEXT("8"));
	fake_answer(TEXT("7"));
	assert_true(relay_look_for_misplaced(relay));
	assert_int_equal(fake.metrics[METRIC_EVENTS_MISPLACED], 1);
	assert_non_null(strstr(fake.log, "up to 8 that"));
	assert_non_null(strstr(fake.log, "last one is 7)"));
	fake.outcome = DB_LOST;
	assert_false(relay_look_for_misplaced(relay));
}

/* ---------- draining ---------- */

static void
nothing_is_read_if_no_transaction_has_ended(void **state)
{
	Relay *relay = leading("10:10:", "70");

	(void) state;
	answer_horizon("70", "10", "10:10:");
	assert_int_equal(drain(relay), 0);
	assert_int_equal(fake.nqueries, 1);
	assert_ptr_equal(fake.sql, SQL_RELAY_HORIZON);
	assert_string_equal(relay->relayed_until, "now");
	assert_string_equal(relay->window_text, "");
	assert_int_equal(fake.rests, 1);
	/* deferred events are looked for all the same */
	relay->may_have_deferred = true;
	answer_horizon("70", "10", "10:10:");
	answer_events(60, 1);
	assert_int_equal(drain(relay), 0);
	assert_int_equal(fake.nsent, 1);
	assert_int_equal(fake.nqueries, 3);
	assert_ptr_equal(fake.asked[2], SQL_RELAY_DEFERRED_SENT);
	fake.outcome = DB_LOST;
	assert_false(relay_drain(relay, &(int){0}));
}

static void
a_window_is_read_from_the_checkpoint_to_its_end(void **state)
{
	Relay *relay = leading("10:20:12,15", "70");

	(void) state;
	relay->snapshot.running[0].low_event_id = 40;
	relay->snapshot.running[1].low_event_id = 50;
	answer_horizon("80", "33", "15:30:15,25");
	answer_events(71, 3);
	fake_answer(TEXT("t"));
	answer_horizon("80", "33", "15:30:15,25");
	assert_int_equal(drain(relay), 3);
	assert_int_equal(fake.nqueries, 4);
	assert_ptr_equal(fake.asked[1], SQL_RELAY_EVENTS);
	assert_ptr_equal(fake.asked[2], SQL_RELAY_ADVANCE);
	assert_ptr_equal(fake.asked[3], SQL_RELAY_HORIZON);
	assert_int_equal(fake.nsent, 3);
	assert_int_equal(relay->cursor, 73);
	/* the window's end is the checkpoint: those that run go on from where they can have events */
	assert_string_equal(relay->snapshot_text, "15:30:15,25");
	assert_int_equal(relay->head, 80);
	assert_int_equal(relay->low, 50);
	assert_int_equal(relay->snapshot.nrunning, 5);
	assert_int_equal(relay->snapshot.running[0].low_event_id, 50);
	assert_int_equal(relay->snapshot.running[1].low_event_id, 70);
	assert_int_equal(relay->snapshot.running[4].xid, 32);
	assert_string_equal(fake.checkpoint[2], "50");
	assert_string_equal(fake.checkpoint[3], "");
	assert_int_equal(fake.waited_ms, 0);
	assert_int_equal(fake.begins, 1);
	assert_int_equal(fake.progresses, 1);
}

static void
what_is_asked_for_is_what_the_checkpoint_does_not_see(void **state)
{
	Relay *relay = leading("10:20:12,15", "70");

	(void) state;
	relay->snapshot.running[0].low_event_id = 40;
	answer_horizon("80", "30", "30:30:");
	answer_events(0, 0);
	assert_int_equal(drain(relay), 0);
	assert_int_equal(fake.nqueries, 2); /* nothing was sent: no checkpoint, and no other window */
	assert_string_equal(fake.params[0], "40");
	assert_string_equal(fake.params[1], "20");
	assert_string_equal(fake.params[2], "{12,15}");
	assert_string_equal(fake.params[3], "30:30:");
	assert_string_equal(fake.params[4], "100");
	assert_string_equal(fake.params[5], "1000");
}

static void
page_after_page(void **state)
{
	Relay *relay = leading("10:10:", "0");

	(void) state;
	answer_horizon("300", "20", "20:20:");
	answer_events(1, 100);
	fake_answer(TEXT("t"));
	answer_events(101, 100);
	fake_answer(TEXT("t"));
	answer_events(201, 100);
	fake_answer(TEXT("t"));
	answer_events(0, 0);
	answer_horizon("300", "20", "20:20:");
	assert_int_equal(drain(relay), 300);
	assert_int_equal(fake.nsent, 300);
	assert_string_equal(fake.sent[299].message_id, "m300");
	assert_int_equal(fake.ncheckpoints, 3);
	assert_int_equal(relay->low, 300);
	/* a full window is followed by the next one at once */
	assert_int_equal(fake.waited_ms, 7);
}

static void
one_statement_looks_at_so_many_events_only(void **state)
{
	Relay *relay = leading("10:10:", "0");

	(void) state;
	answer_horizon("600000", "20", "20:20:");
	answer_events(0, 0); /* the first 262 144 are others' */
	fake_answer(TEXT("t"));
	answer_events(300000, 2);
	fake_answer(TEXT("t"));
	answer_events(600001, 1); /* its id was given out since: the last statement has no bound */
	fake_answer(TEXT("t"));
	answer_horizon("600001", "20", "20:20:");
	assert_int_equal(drain(relay), 3);
	assert_ptr_equal(fake.asked[1], SQL_RELAY_EVENTS);
	assert_ptr_equal(fake.asked[2], SQL_RELAY_ADVANCE); /* they are not passed over again */
	assert_ptr_equal(fake.asked[3], SQL_RELAY_EVENTS);
	assert_ptr_equal(fake.asked[5], SQL_RELAY_EVENTS);
	assert_int_equal(fake.nsent, 3);
	assert_string_equal(relay->snapshot_text, "20:20:");
}

static void
a_window_that_was_begun_is_read_in_as_small_steps(void **state)
{
	Relay *relay = leading("10:10:", "0");
	int    published;

	(void) state;
	fake_answer(ROW("10", "10:10:", "0", "20:20:", "262144", "0"));
	fake_answer(TEXT("600000"));
	assert_true(relay_acquire(relay));
	answer_events(0, 0);
	fake_answer(TEXT("t"));
	fake.nqueries = fake.processed = 0;
	fake.fails_from = 3;
	assert_false(relay_drain(relay, &published));
	assert_ptr_equal(fake.asked[1], SQL_RELAY_ADVANCE);
	assert_string_equal(fake.checkpoint[4], "524288");
	assert_int_equal(fake.processed, 1); /* the broker hears of us meanwhile */
}

static void
one_by_one_the_window_goes_first(void **state)
{
	Relay *relay;
	int    published;

	(void) state;
	for (int careful = 0; careful < 2; careful++)
	{
		relay = leading("10:10:", "0");
		relay->may_have_deferred = true;
		relay->careful_left = careful;
		answer_horizon("2", "20", "20:20:");
		if (careful == 0)
			answer_events(40, 1); /* deferred */
		answer_events(1, 1);
		fake.nqueries = 0;
		fake.fails_from = 4;
		assert_false(relay_drain(relay, &published));
		assert_ptr_equal(fake.asked[1], careful ? SQL_RELAY_EVENTS : SQL_RELAY_DEFERRED);
		assert_string_equal(fake.sent[0].message_id, careful ? "m1" : "m40");
	}
}

static void
nothing_of_the_window_is_read_while_it_may_be_us_whom_the_broker_refuses(void **state)
{
	(void) state;
	for (int doubts = 0; doubts < 2; doubts++)
	{
		Relay    *relay = leading("10:10:", "0");
		long long began_ms = fake.now_ms;

		relay->ndoubted = doubts * 1000;
		relay->doubted_until_ms = began_ms + 250;
		answer_horizon("1", "20", "20:20:");
		answer_events(1, 1);
		fake_answer(TEXT("t"));
		answer_horizon("1", "20", "20:20:");
		fake.processed = 0;
		assert_int_equal(drain(relay), 1);
		assert_ptr_equal(fake.asked[1], SQL_RELAY_EVENTS);
		/* the broker and the database hear of us meanwhile */
		assert_int_equal(fake.processed, doubts ? 4 : 1);
		assert_true(doubts ? fake.now_ms >= began_ms + 250 : fake.now_ms < began_ms + 250);
	}
}

static void
checkpoints_within_a_window_tell_of_it(void **state)
{
	Relay *relay = leading("10:10:", "0");
	int    published;

	(void) state;
	answer_horizon("300", "20", "20:20:");
	answer_events(1, 100);
	fake_answer(TEXT("t"));
	fake.fails_from = 4;
	assert_false(relay_drain(relay, &published));
	assert_string_equal(fake.checkpoint[1], "10:10:");
	assert_string_equal(fake.checkpoint[2], "0");
	assert_string_equal(fake.checkpoint[3], "20:20:");
	assert_string_equal(fake.checkpoint[4], "100");
	assert_string_equal(fake.checkpoint[5], "100");
	assert_int_equal(relay->npages, 0);
}

static void
few_events_let_others_gather(void **state)
{
	static const struct
	{
		int count;
		int waited_ms;
	} cases[] = {{7, 0}, {8, 7}, {99, 7}};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Relay *relay = leading("10:10:", "0");

		answer_horizon("100", "20", "20:20:");
		answer_events(1, cases[i].count);
		fake_answer(TEXT("t"));
		answer_horizon("100", "20", "20:20:");
		assert_int_equal(drain(relay), cases[i].count);
		assert_int_equal(fake.waited_ms, cases[i].waited_ms);
	}
}

static void
a_stop_ends_what_is_under_way(void **state)
{
	Relay *relay = leading("10:10:", "0");
	int    published;

	(void) state;
	fake.stop = true;
	answer_horizon("3", "20", "20:20:");
	assert_false(relay_drain(relay, &published));
	assert_int_equal(fake.nqueries, 1);
	assert_int_equal(published, 0);

	relay = leading("10:10:", "0");
	answer_horizon("3", "20", "20:20:");
	answer_events(1, 100);
	fake_answer(TEXT("t"));
	fake.stops_at = 100; /* events */
	assert_false(relay_drain(relay, &published));
	assert_int_equal(fake.nsent, 100);
	assert_int_equal(fake.ncheckpoints, 1);
	assert_string_equal(fake.checkpoint[4], "100");
}

static void
a_sequence_that_was_set_back_is_begun_anew(void **state)
{
	Relay *relay = leading("10:20:12", "70");

	(void) state;
	answer_horizon("70", "30", "30:30:");
	answer_events(0, 0);
	assert_int_equal(drain(relay), 0);
	assert_int_equal(fake.metrics[METRIC_EVENTS_MISPLACED], 0);
	answer_horizon("69", "40", "40:40:");
	answer_events(0, 0);
	assert_int_equal(drain(relay), 0);
	assert_int_equal(fake.metrics[METRIC_EVENTS_MISPLACED], 1);
	assert_non_null(strstr(fake.log, "the last one is 69, and events up to 70 were relayed"));
	assert_string_equal(fake.params[0], "0"); /* all are looked at */
	assert_int_equal(relay->head, 69);
}

static void
what_is_still_running_then_is_looked_for_from_the_beginning_too(void **state)
{
	Relay *relay = leading("10:20:12", "70");

	(void) state;
	answer_horizon("90", "30", "12:30:12");
	answer_events(0, 0);
	assert_int_equal(drain(relay), 0);
	assert_int_equal(relay->head, 90);
	assert_int_equal(relay->low, 70); /* transaction 12 may have events from there on */
	answer_horizon("80", "40", "12:40:12");
	answer_events(0, 0);
	assert_int_equal(drain(relay), 0);
	assert_int_equal(fake.metrics[METRIC_EVENTS_MISPLACED], 1);
	assert_non_null(strstr(fake.log, "the last one is 80, and events up to 90 were relayed"));
	assert_int_equal(relay->head, 80);
	assert_int_equal(relay->low, 0);
}

static void
it_connects_anew_by_itself(void **state)
{
	Relay *relay = leading("10:10:", "0");
	int    published;

	(void) state;
	relay->renew_ms = fake.now_ms;
	assert_false(relay_drain(relay, &published));
	assert_true(relay->is_renewing);
	assert_int_equal(published, 0);
}

static void
what_rings_before_a_look_is_seen_by_it(void **state)
{
	Relay *relay = leading("10:10:", "0");

	(void) state;
	relay->db.has_rung = true;
	answer_horizon("0", "10", "10:10:");
	assert_int_equal(drain(relay), 0);
	assert_false(relay->db.has_rung);
	/* what rings meanwhile may come too late for it */
	fake.rings = true;
	answer_horizon("1", "11", "11:11:");
	answer_events(0, 0);
	assert_int_equal(drain(relay), 0);
	assert_true(relay->db.has_rung);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_goes_on_where_the_last_one_was),
		cmocka_unit_test(what_another_has_judged_since_is_forgotten),
		cmocka_unit_test(its_session_is_kept_while_nothing_else_is_asked),
		cmocka_unit_test(a_checkpoint_says_where_it_is),
		cmocka_unit_test(events_beyond_the_last_id_are_noticed),
		cmocka_unit_test(nothing_is_read_if_no_transaction_has_ended),
		cmocka_unit_test(a_window_is_read_from_the_checkpoint_to_its_end),
		cmocka_unit_test(what_is_asked_for_is_what_the_checkpoint_does_not_see),
		cmocka_unit_test(page_after_page),
		cmocka_unit_test(one_statement_looks_at_so_many_events_only),
		cmocka_unit_test(a_window_that_was_begun_is_read_in_as_small_steps),
		cmocka_unit_test(one_by_one_the_window_goes_first),
		cmocka_unit_test(nothing_of_the_window_is_read_while_it_may_be_us_whom_the_broker_refuses),
		cmocka_unit_test(checkpoints_within_a_window_tell_of_it),
		cmocka_unit_test(few_events_let_others_gather),
		cmocka_unit_test(a_stop_ends_what_is_under_way),
		cmocka_unit_test(a_sequence_that_was_set_back_is_begun_anew),
		cmocka_unit_test(what_is_still_running_then_is_looked_for_from_the_beginning_too),
		cmocka_unit_test(it_connects_anew_by_itself),
		cmocka_unit_test(what_rings_before_a_look_is_seen_by_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
