/*
 * relay_silent_test.c
 *		Queues that hang: who is tried, what a trial shows, and what becomes of a silent key.
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

#define THIRD_MS 20000
#define SIXTH_MS 10000

/* A relay with a minute for the broker's answers, which waits for those of events of these keys. */
static Relay *
relay_that_waits(int count, const char *const *keys)
{
	Relay *relay = fake_relay();

	config.broker_timeout_s = 60;
	assert_true(relay_add_page(relay, fake_keys(1, count, keys), false));
	assert_int_equal(fake.nsent, count);
	return relay;
}

static bool
goes_on(Relay *relay)
{
	int  published = 0;
	bool progressed = false;

	return relay_take_answers(relay, false, &published, &progressed);
}

static bool
goes_on_after(Relay *relay, int ms)
{
	fake.now_ms += ms;
	return goes_on(relay);
}

/* One that waits for events of the keys k0, k1, ... */
static Relay *
relay_that_waits_for_many(int count)
{
	const char *keys[12];
	char        names[12][8];

	assert_true(count >= 1 && count <= 12);
	for (int i = 0; i < count; i++)
	{
		snprintf(names[i], sizeof(names[i]), "k%d", i);
		keys[i] = names[i];
	}
	return relay_that_waits(count, keys);
}

/* The keys of those that wait are tried, and all of them but for the first are answered. */
static void
find_the_first_silent(Relay *relay)
{
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	for (int i = 1; i < fake.ntrials; i++)
		fake.trials[i].acks = true;
	assert_true(goes_on(relay));
	assert_false(goes_on_after(relay, SIXTH_MS));
	relay_note_loss(relay);
	relay_free_pages(relay);
	assert_int_equal(relay->nsilent, 1);
}

#define KEYS(...)                                                                                  \
	(const char *const[])                                                                          \
	{                                                                                              \
		__VA_ARGS__                                                                                \
	}

/* ---------- who is tried ---------- */

static void
one_event_of_each_key_that_waits_is_tried(void **state)
{
	Relay *relay = relay_that_waits(4, KEYS("a", "b", "a", "c"));

	(void) state;
	fake_confirm(relay, 4, true);
	assert_true(goes_on_after(relay, THIRD_MS));
	assert_int_equal(fake.ntrials, 0);
	assert_true(goes_on_after(relay, 1));
	assert_int_equal(fake.ntrials, 2); /* nobody waits for c */
	assert_string_equal(fake.trials[0].message_id, "m1");
	assert_string_equal(fake.trials[1].message_id, "m2");
	assert_int_equal(fake.nsent, 4); /* not over our own connection */
	assert_true(fake.doubts > 0);    /* nor to its node, if there are others */

	/* both answer, and are not tried again: what is under way is waited for */
	fake.trials[0].acks = fake.trials[1].nacks = true;
	assert_true(goes_on(relay));
	assert_true(fake.trials[0].is_closed && fake.trials[1].is_closed);
	assert_true(goes_on_after(relay, SIXTH_MS));
	assert_int_equal(fake.ntrials, 2);
	assert_int_equal(relay->nsilent, 0);
	assert_int_equal(relay->pages[0].unanswered, 3);
}

static void
there_are_so_many_trials_at_a_time(void **state)
{
	Relay *relay = relay_that_waits_for_many(10);

	(void) state;
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_int_equal(fake.ntrials, TRIALS_MAX);
	fake.trials[3].acks = true;
	assert_true(goes_on(relay));
	assert_int_equal(fake.ntrials, TRIALS_MAX + 1); /* whoever is answered makes room at once */
	assert_string_equal(fake.trials[8].message_id, "m9");
	assert_true(relay_has_trials(relay));
	relay_end_trials(relay);
	assert_false(relay_has_trials(relay));
	for (int i = 0; i <= TRIALS_MAX; i++)
		assert_true(fake.trials[i].is_closed);
}

static void
trials_of_deferred_events_leave_room(void **state)
{
	Relay *relay = relay_that_waits(1, KEYS("waits"));

	(void) state;
	for (int i = 0; i <= TRIALS_MAX; i++)
		snprintf(relay->silent[relay->nsilent++].key, KEY_BYTES_MAX, "k%d", i);
	relay->may_have_deferred = true;
	fake_answer(fake_keys(11, 9, KEYS("k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8")));
	fake_answer(NULL);
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.ntrials, TRIALS_MAX);
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_int_equal(fake.ntrials, TRIALS_MAX + 1);
	assert_string_equal(fake.trials[TRIALS_MAX].message_id, "m1");
	assert_true(relay_has_trials(relay));
	assert_true(goes_on_after(relay, SIXTH_MS - 1));
	assert_false(fake.trials[TRIALS_MAX].is_closed);
	assert_false(goes_on_after(relay, 1)); /* nor are they waited for */
	assert_true(fake.trials[TRIALS_MAX].is_closed);
	assert_false(fake.trials[0].is_closed);
	assert_true(relay_has_trials(relay));
	relay_end_trials(relay);
	assert_true(fake.trials[0].is_closed);
}

static void
deferred_events_that_wait_are_tried_as_others(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	config.broker_timeout_s = 60;
	relay->may_have_deferred = true;
	fake_answer(fake_keys(5, 1, KEYS("a")));
	assert_true(relay_send_deferred(relay));
	assert_true(relay_add_page(relay, fake_keys(6, 1, KEYS("a")), false));
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_int_equal(fake.ntrials, 1);
	assert_false(goes_on_after(relay, SIXTH_MS));
	assert_int_equal(relay->nsilent, 1);
}

static void
nothing_is_tried_by_one_that_stops(void **state)
{
	Relay *relay = relay_that_waits(1, KEYS("a"));

	(void) state;
	fake.now_ms += THIRD_MS + 1;
	fake.stop = true;
	assert_true(goes_on(relay));
	assert_int_equal(fake.ntrials, 0);
}

static void
one_that_cannot_connect_tries_again_after_a_while(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	fake.now_ms += THIRD_MS + 1;
	fake.cannot_connect = true;
	assert_true(goes_on(relay));
	assert_int_equal(fake.refused, 1);
	fake.cannot_connect = false;
	relay_put_off(relay); /* it has answered something else */
	assert_true(goes_on_after(relay, 59999));
	assert_int_equal(fake.ntrials, 0);
	assert_true(goes_on_after(relay, 1));
	assert_int_equal(fake.ntrials, 2);
}

/* ---------- what a trial shows ---------- */

static void
a_key_that_does_not_answer_is_silent(void **state)
{
	Relay *relay = relay_that_waits(4, KEYS("a", "b", "a", "c"));

	(void) state;
	relay->losses = 2; /* one more, and all are sent one by one */
	find_the_first_silent(relay);
	assert_non_null(strstr(fake.log, "does not answer for key a"));
	assert_int_equal(relay->careful_left, 0); /* it is known who is at fault */
	assert_int_equal(relay->losses, 2);
	assert_int_equal(fake.given_up, 0); /* not the node */
	assert_int_equal(fake.nbackoffs, 1);

	/* over the next connection: its events are deferred, the others are sent */
	fake.nsent = fake.nqueries = 0;
	assert_true(relay_add_page(relay, fake_keys(1, 4, KEYS("a", "b", "a", "c")), false));
	assert_int_equal(fake.nqueries, 1);
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	assert_string_equal(fake.params[0], "{1,3}");
	assert_non_null(strstr(fake.params[1], "hangs"));
	assert_string_equal(fake.params[2], "f");
	assert_true(relay->may_have_deferred);
	assert_int_equal(fake.nsent, 2);
	assert_string_equal(fake.sent[0].message_id, "m2");
	assert_string_equal(fake.sent[1].message_id, "m4");
	assert_int_equal(fake.ntrials, 3); /* it is not time to try it again */
	fake_confirm(relay, 1, true);
	fake_confirm(relay, 2, true);
	assert_int_equal(fake_take_answers(relay), 4);
	assert_int_equal(relay->cursor, 4);
	assert_int_equal(fake.metrics[METRIC_EVENTS_PUBLISHED], 2);

	/* the next loss is one like any other */
	assert_true(relay_add_page(relay, fake_keys(5, 2, KEYS("b", "c")), false));
	relay_note_loss(relay);
	assert_int_equal(relay->losses, 1);
}

static void
what_was_answered_meanwhile_is_not_silent(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	fake_confirm(relay, 1, true);
	fake.trials[1].acks = true;
	assert_true(goes_on_after(relay, SIXTH_MS));
	assert_true(fake.trials[0].is_closed);
	assert_int_equal(relay->nsilent, 0);
}

static void
a_broken_or_blocked_connection_shows_nothing(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	fake.trials[0].is_lost = fake.trials[1].is_blocked = true;
	assert_true(goes_on(relay));
	assert_true(fake.trials[0].is_closed && fake.trials[1].is_closed);
	assert_int_equal(relay->nsilent, 0);
	assert_true(goes_on_after(relay, SIXTH_MS - 1));
	assert_int_equal(fake.ntrials, 2);
	assert_true(goes_on_after(relay, 1));
	assert_int_equal(fake.ntrials, 4); /* so they are tried again, a little later */
}

static void
all_that_wait_are_tried_before_the_connection_is_left(void **state)
{
	Relay *relay = relay_that_waits_for_many(12);

	(void) state;
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_true(goes_on_after(relay, SIXTH_MS));
	assert_int_equal(relay->nsilent, TRIALS_MAX);
	assert_int_equal(fake.ntrials, 12);
	fake.trials[11].acks = true;
	assert_true(goes_on(relay));
	assert_false(goes_on_after(relay, SIXTH_MS));
	assert_int_equal(relay->nsilent, 11);
	for (int i = 0; i < 12; i++)
		assert_true(fake.trials[i].is_closed);
}

static void
what_others_wait_for_does_not_end_the_connection(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	/* over the next one a's event is aside, b's is waited for, and its key not at fault */
	assert_true(relay_add_page(relay, fake_keys(1, 2, KEYS("a", "b")), false));
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_int_equal(fake.ntrials, 3);
	fake.trials[2].acks = true;
	for (int i = 0; i < 3; i++)
	{
		assert_true(goes_on_after(relay, SIXTH_MS));
	}
	assert_int_equal(fake.ntrials, 3);
	relay_note_loss(relay); /* which may be of anything */
	assert_int_equal(relay->suspect.event_id, 2);
}

static void
each_page_that_waits_is_looked_at(void **state)
{
	Relay *relay = relay_that_waits(1, KEYS("a"));

	(void) state;
	assert_true(relay_add_page(relay, fake_keys(2, 2, KEYS("b", "b")), false));
	fake_confirm(relay, 1, true);
	relay->pages[0].unanswered = 1; /* it is not done yet */
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_int_equal(fake.ntrials, 1);
	assert_string_equal(fake.trials[0].message_id, "m2");

	/* what is sent again waits anew */
	fake_confirm(relay, 2, true);
	assert_true(goes_on_after(relay, SIXTH_MS));
	assert_int_equal(relay->nsilent, 0);
	assert_int_equal(fake.ntrials, 2); /* m2 was answered after all, m3 is not */
	assert_string_equal(fake.trials[1].message_id, "m3");
	fake.trials[1].acks = true;
	assert_true(goes_on(relay));
	fake_confirm(relay, 3, false);
	assert_true(goes_on(relay));
	assert_true(goes_on_after(relay, 50));
	assert_int_equal(fake.nsent, 4); /* it was refused, and is sent again */
	assert_true(goes_on_after(relay, 1));
	assert_int_equal(fake.ntrials, 3);
}

static void
silent_keys_are_not_tried_for_others(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("b", "b"));

	(void) state;
	assert_true(relay_add_page(relay, fake_keys(3, 1, KEYS("a")), false));
	snprintf(relay->silent[relay->nsilent++].key, KEY_BYTES_MAX, "a"); /* it turned out since */
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_int_equal(fake.ntrials, 1);
	assert_string_equal(fake.trials[0].message_id, "m1");
	fake.trials[0].acks = true;
	assert_false(goes_on(relay)); /* a is waited for in vain */
	relay_note_loss(relay);
	assert_int_equal(relay->losses, 0);
}

static void
so_many_keys_can_be_silent(void **state)
{
	Relay *relay = relay_that_waits(1, KEYS("one more"));

	(void) state;
	relay->nsilent = SILENT_KEYS_MAX;
	for (int i = 0; i < SILENT_KEYS_MAX; i++)
		relay->silent[i].try_ms = 500;
	relay->silent[200].try_ms = 499; /* it has had its turn, and there is nothing of it any more */
	assert_true(goes_on_after(relay, THIRD_MS + 1));
	assert_false(goes_on_after(relay, SIXTH_MS));
	assert_int_equal(relay->nsilent, SILENT_KEYS_MAX);
	assert_string_equal(relay->silent[200].key, "one more");
}

/* ---------- silent keys ---------- */

/* Its deferred events are due; whether it goes on. */
static bool
send_deferred(Relay *relay, int64_t first, int count, const char *const *keys)
{
	relay->may_have_deferred = true;
	relay->deferred_due_ms = 0;
	fake_answer(fake_keys(first, count, keys));
	fake_answer(NULL); /* of the deferral */
	return relay_send_deferred(relay);
}

static void
a_silent_key_is_tried_now_and_then(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	fake.nsent = 0;
	fake.now_ms += 3999;
	relay->lease_due_ms = fake.now_ms + 1;
	assert_true(send_deferred(relay, 1, 3, KEYS("a", "a", "b")));
	assert_int_equal(fake.ntrials, 2); /* those from before */
	assert_string_equal(fake.params[0], "{1,2}");
	assert_int_equal(fake.nsent, 1);
	fake_confirm(relay, 1, true);
	assert_true(goes_on(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFERRED_SENT);
	assert_string_equal(fake.params[0], "{3}");
	assert_int_equal(relay->deferred_due_ms, 0); /* all that could be were taken */

	fake.now_ms += 1;
	fake.nqueries = 0;
	assert_true(send_deferred(relay, 1, 2, KEYS("a", "a")));
	assert_ptr_equal(fake.asked[1], SQL_PING); /* connecting is not to end the lease */
	assert_int_equal(fake.ntrials, 3);
	assert_string_equal(fake.trials[2].message_id, "m1");
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	assert_string_equal(fake.params[0], "{1,2}");                /* if it comes to nothing */
	assert_int_equal(relay->deferred_due_ms, fake.now_ms + 250); /* others may be due behind it */
	assert_int_equal(fake.nsent, 1);
	assert_true(goes_on(relay));
	assert_int_equal(relay->npages, 0);

	/* still silent: that is no news, and nobody is held up by it */
	fake.now_ms += 59999;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_int_equal(fake.ntrials, 3); /* one at a time */
	assert_true(goes_on(relay));
	assert_false(fake.trials[2].is_closed);
	assert_true(goes_on_after(relay, 1));
	assert_true(fake.trials[2].is_closed);
	assert_int_equal(relay->nsilent, 1);
	assert_int_equal(fake.nbackoffs, 1);
	fake.now_ms += 3999;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_int_equal(fake.ntrials, 3);
	assert_true(goes_on(relay));
	fake.now_ms += 1;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_int_equal(fake.ntrials, 4);
}

static void
a_key_that_answers_again_is_like_all_others(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	snprintf(relay->silent[relay->nsilent].key, KEY_BYTES_MAX, "c");
	relay->silent[relay->nsilent++].try_ms = fake.now_ms + 30000;
	fake.now_ms += 4000;
	assert_true(relay_add_page(relay, fake_keys(9, 1, KEYS("a")), false)); /* a new one, too */
	assert_int_equal(fake.ntrials, 3);
	fake.trials[2].acks = true;
	assert_true(goes_on_after(relay, SIXTH_MS));
	assert_ptr_not_equal(fake.sql, SQL_RELAY_DEFERRED_SENT); /* it is sent with the others */
	assert_int_equal(relay->nsilent, 1);
	assert_true(fake.trials[2].is_closed);
	fake.nsent = 0;
	assert_true(send_deferred(relay, 1, 3, KEYS("a", "a", "c")));
	assert_int_equal(fake.nsent, 2);
	assert_int_equal(fake.ntrials, 4); /* another one is tried at once: it may be the same queue */
	assert_string_equal(fake.trials[3].message_id, "m3");
}

/* ---------- keys over which the channel is closed ---------- */

/* Adds a page of so many events of the key "a", of which none is sent. */
static void
add_refused(Relay *relay, int count, bool is_deferred)
{
	const char *keys[300];

	assert_true(count <= 300);
	for (int i = 0; i < count; i++)
		keys[i] = "a";
	fake.nsent = 0;
	assert_true(relay_add_page(relay, fake_keys(1000, count, keys), is_deferred));
	assert_int_equal(fake.nsent, 0);
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	relay_free_pages(relay);
}

static void
what_is_refused_is_put_aside_unsent(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay_note_refused_key(relay, "a", "not allowed");
	assert_true(relay_add_page(relay, fake_keys(3, 3, KEYS("a", "b", "a")), false));
	assert_int_equal(fake.nsent, 1);
	assert_string_equal(fake.sent[0].message_id, "m4");
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	assert_string_equal(fake.params[0], "{3,5}");
	assert_string_equal(fake.params[1], "not allowed");
	assert_int_equal(fake.ntrials, 0);           /* it has just been tried */
	assert_false(relay_waits_for_silent(relay)); /* there was an answer */
}

static void
it_is_put_aside_slowly_until_others_are_taken(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay_note_refused_key(relay, "a", "not allowed");
	add_refused(relay, 249, false);
	add_refused(relay, 300, true); /* these were put aside before */
	assert_false(relay_is_in_doubt(relay));
	fake.now_ms += 999;
	add_refused(relay, 1, false);
	assert_true(relay_is_in_doubt(relay));
	fake.now_ms += 1;
	assert_false(relay_is_in_doubt(relay));
	add_refused(relay, 250, false);
	fake.now_ms += 999;
	assert_true(relay_is_in_doubt(relay));
	fake.now_ms += 1;
	assert_false(relay_is_in_doubt(relay));

	add_refused(relay, 250, false);
	assert_true(relay_add_page(relay, fake_keys(1, 1, KEYS("b")), false));
	assert_true(relay_is_in_doubt(relay));
	fake_confirm(relay, 1, true);
	assert_int_equal(fake_take_answers(relay), 1);
	assert_false(relay_is_in_doubt(relay));
	add_refused(relay, 300, false); /* it is the key's fault */
	assert_false(relay_is_in_doubt(relay));
	relay_note_refused_key(relay, "c", "not allowed"); /* and that one's? */
	add_refused(relay, 300, false);
	assert_false(relay_is_in_doubt(relay));
}

static void
a_trial_that_is_taken_tells_of_all(void **state)
{
	(void) state;
	for (int is_taken = 0; is_taken < 2; is_taken++)
	{
		Relay *relay = fake_relay();

		relay_note_refused_key(relay, "a", "not allowed");
		relay_note_refused_key(relay, "b", "not allowed");
		fake.now_ms += 4000;
		assert_true(send_deferred(relay, 1, 1, KEYS("b")));
		relay_free_pages(relay);
		add_refused(relay, 250, false); /* one of them is tried, too */
		assert_int_equal(fake.ntrials, 2);
		assert_true(relay_is_in_doubt(relay));
		fake.trials[0].acks = is_taken;
		fake.trials[0].refusal = (BrokerRefusal){.code = 403, .is_of_publish = !is_taken};
		assert_true(goes_on(relay));
		assert_int_equal(relay_is_in_doubt(relay), !is_taken);
		assert_int_equal(relay->nsilent, is_taken ? 1 : 2);
	}
}

static void
one_for_which_there_is_no_room_is_tried_before_the_others(void **state)
{
	Relay      *relay = fake_relay();
	const char *keys[TRIALS_MAX + 1];
	char        names[TRIALS_MAX + 1][8];

	(void) state;
	for (int i = 0; i <= TRIALS_MAX; i++)
	{
		snprintf(names[i], sizeof(names[i]), "k%d", i);
		keys[i] = names[i];
		relay_note_refused_key(relay, keys[i], "not allowed");
	}
	fake.now_ms += 4000;
	assert_true(send_deferred(relay, 1, TRIALS_MAX + 1, keys));
	assert_int_equal(fake.ntrials, TRIALS_MAX);
	for (int i = 0; i < TRIALS_MAX; i++)
		fake.trials[i].refusal = (BrokerRefusal){.code = 403, .is_of_publish = true};
	assert_true(goes_on(relay));
	assert_true(send_deferred(relay, 1, TRIALS_MAX + 1, keys));
	assert_int_equal(fake.ntrials, TRIALS_MAX + 1);
	assert_string_equal(fake.trials[TRIALS_MAX].message_id, "m9");
}

static void
what_was_deferred_of_a_refused_key_is_tried_by_itself(void **state)
{
	Relay     *relay = relay_that_waits(2, KEYS("s", "b"));
	FakeTrial *trial;

	(void) state;
	find_the_first_silent(relay);
	trial = &fake.trials[fake.ntrials];
	relay_note_refused_key(relay, "a", "not allowed");
	fake.nqueries = 0;
	assert_true(send_deferred(relay, 1, 4, KEYS("a", "s", "a", "b")));
	assert_int_equal(relay->pages[relay->first_page].skipped, 3);
	assert_string_equal(fake.params[0], "{2}"); /* those that hang, for a reason of their own */
	relay_free_pages(relay);
	fake.nsent = 0;

	/* one closes its channel, and it stays so; the next one is taken, and was sent */
	for (int i = 0; i < 2; i++, trial++)
	{
		fake.now_ms += 4000;
		assert_true(send_deferred(relay, 1 + i, 2, KEYS("a", "a")));
		assert_ptr_equal(trial, &fake.trials[fake.ntrials - 1]);
		assert_int_equal(fake.nsent, 0);
		trial->acks = i == 1;
		trial->refusal = (BrokerRefusal){.code = 403, .is_of_publish = i == 0};
		assert_true(goes_on(relay));
		assert_true(trial->is_closed);
		assert_int_equal(relay->nsilent, i == 0 ? 2 : 1);
	}
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFERRED_SENT);
	assert_string_equal(fake.params[0], "{2}");
	assert_true(send_deferred(relay, 3, 1, KEYS("a")));
	assert_int_equal(fake.nsent, 1);
}

static void
a_refused_key_that_is_taken_is_like_all_others(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(relay_add_page(relay, fake_keys(1, 1, KEYS("a")), false));
	relay_note_refused_key(relay, "a", "");
	assert_string_equal(relay_silent_words(relay, "a"), "RabbitMQ closes the channel over it");
	fake_confirm(relay, 1, true);
	assert_int_equal(fake_take_answers(relay), 1);
	assert_int_equal(relay->nsilent, 0);
}

static void
one_that_answers_late_stays_by_itself(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	fake.now_ms += 4000;
	assert_true(send_deferred(relay, 1, 2, KEYS("a", "a")));
	fake.trials[2].acks = true;
	assert_true(goes_on_after(relay, SIXTH_MS + 1));
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFERRED_SENT);
	assert_string_equal(fake.params[0], "{1}");
	assert_int_equal(relay->nsilent, 1);
	fake.nsent = 0;
	assert_true(send_deferred(relay, 2, 1, KEYS("a")));
	assert_int_equal(fake.nsent, 0);
	assert_int_equal(fake.ntrials, 4);
	fake.trials[3].returns = true;
	assert_true(goes_on_after(relay, SIXTH_MS + 1));
	assert_ptr_not_equal(fake.sql, SQL_RELAY_DEFERRED_SENT); /* the broker does not have it */
	assert_true(send_deferred(relay, 2, 1, KEYS("a")));
	fake.trials[4].nacks = true;
	assert_true(goes_on_after(relay, SIXTH_MS + 1));
	assert_ptr_not_equal(fake.sql, SQL_RELAY_DEFERRED_SENT);
}

/* One of the silent key's events is tried, and that is what comes of it. */
static void
try_silent(Relay *relay, FakeTrial comes)
{
	FakeTrial *trial = &fake.trials[fake.ntrials];

	fake.now_ms += SIXTH_MS + 4000;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_ptr_equal(trial, &fake.trials[fake.ntrials - 1]);
	trial->is_lost = comes.is_lost;
	trial->is_blocked = comes.is_blocked;
	trial->acks = comes.acks;
	assert_true(goes_on_after(relay, comes.is_lost || comes.is_blocked ? 0 : 60000));
	assert_true(trial->is_closed);
}

static void
connections_lost_each_time_are_an_answer(void **state)
{
	const FakeTrial lost = {.is_lost = true};
	const FakeTrial others[] = {{.is_blocked = true}, {.acks = true}, {.is_lost = false}};

	(void) state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		Relay *relay = relay_that_waits(2, KEYS("a", "b"));

		find_the_first_silent(relay);
		try_silent(relay, lost);
		try_silent(relay, lost);
		try_silent(relay, others[i]);
		assert_int_equal(relay->nsilent, 1);
		try_silent(relay, lost);
		if (i > 0) /* others than an alarm begin the count anew */
		{
			assert_int_equal(relay->nsilent, 1);
			try_silent(relay, lost);
			assert_int_equal(relay->nsilent, 1);
			try_silent(relay, lost);
		}
		assert_int_equal(relay->nsilent, 0);
	}
}

static void
a_trial_that_is_lost_is_not_repeated_at_once(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	fake.now_ms += 4000;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	fake.trials[2].is_lost = true;
	assert_true(goes_on(relay));
	relay->trials_due_ms = 0;
	fake.now_ms += 3999;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_int_equal(fake.ntrials, 3);
	assert_true(goes_on(relay));
	fake.now_ms += 1;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_int_equal(fake.ntrials, 4);
}

static void
what_is_of_a_silent_key_counts_for_nothing_taken(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	relay->unproven = relay->losses = 1;
	relay->careful_left = 3; /* so many were under way when the channel was closed, these first */
	relay->nset_aside = 1;
	relay->set_aside[0] = 1; /* parked before: it stays so */
	assert_true(relay_add_page(relay, fake_keys(1, 2, KEYS("a", "a")), false));
	assert_string_equal(fake.params[0], "{2}");
	assert_int_equal(fake_take_answers(relay), 2);
	assert_int_equal(relay->unproven + relay->losses, 2);
	assert_int_equal(relay->careful_left, 1);
	assert_true(send_deferred(relay, 1, 1, KEYS("a"))); /* others */
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(relay->careful_left, 1);
}

static void
many_silent_keys_take_turns(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	for (int i = 0; i < 2 * TRIALS_MAX; i++)
		snprintf(relay->silent[relay->nsilent++].key, KEY_BYTES_MAX, "k%d", i);
	fake.now_ms += 4000;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	assert_true(goes_on_after(relay, 60000));
	assert_int_equal(relay->silent[0].try_ms, fake.now_ms + 4000 + 2 * 60000);
}

static void
a_connection_that_cannot_be_had_is_not_asked_for_again_and_again(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	snprintf(relay->silent[relay->nsilent++].key, KEY_BYTES_MAX, "c");
	fake.now_ms += 4000;
	fake.cannot_connect = true;
	assert_true(send_deferred(relay, 1, 4, KEYS("a", "a", "c", "c")));
	assert_int_equal(fake.refused, 1);
	assert_string_equal(fake.params[0], "{1,2,3,4}");
}

static void
an_answer_may_be_that_it_does_not_take_it(void **state)
{
	enum
	{
		NACKED,
		RETURNED,
		CLOSED,
		ANSWERS
	};

	for (int answer = 0; answer < ANSWERS; answer++)
	{
		Relay *relay = relay_that_waits(2, KEYS("a", "b"));

		(void) state;
		find_the_first_silent(relay);
		fake.now_ms += 4000;
		assert_true(send_deferred(relay, 1, 1, KEYS("a")));
		fake.trials[2].nacks = answer == NACKED;
		fake.trials[2].returns = answer == RETURNED;
		fake.trials[2].is_lost = fake.trials[2].refusal.is_of_publish = answer == CLOSED;
		fake.nqueries = 0;
		assert_true(goes_on(relay));
		assert_int_equal(relay->nsilent, 0);
		assert_int_equal(fake.nqueries, 0); /* it stays deferred, and is sent like others */
	}
}

static void
what_cannot_be_written_down_is_not_passed_over(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	fake.outcome = DB_LOST;
	assert_false(relay_add_page(relay, fake_keys(1, 1, KEYS("a")), false));

	relay = relay_that_waits(2, KEYS("a", "b"));
	find_the_first_silent(relay);
	fake.now_ms += 4000;
	assert_true(send_deferred(relay, 1, 1, KEYS("a")));
	fake.trials[2].acks = true;
	fake.now_ms += SIXTH_MS + 1;
	relay->lease_due_ms = fake.now_ms + 1;
	fake.outcome = DB_LOST;
	assert_false(goes_on(relay));
	assert_true(fake.trials[2].is_closed);

	/* a lease that cannot be kept: nothing is tried, or sent */
	relay = relay_that_waits(2, KEYS("a", "b"));
	find_the_first_silent(relay);
	fake.now_ms += 4000;
	relay->lease_due_ms = fake.now_ms;
	fake.outcome = DB_LOST;
	assert_false(relay_add_page(relay, fake_keys(1, 1, KEYS("a")), false));
	assert_int_equal(fake.ntrials, 2);
}

static void
another_leader_finds_out_for_itself(void **state)
{
	Relay *relay = relay_that_waits(2, KEYS("a", "b"));

	(void) state;
	find_the_first_silent(relay);
	relay_forget_verdicts(relay);
	fake.nsent = 0;
	assert_true(relay_add_page(relay, fake_keys(1, 1, KEYS("a")), false));
	assert_int_equal(fake.nsent, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_event_of_each_key_that_waits_is_tried),
		cmocka_unit_test(there_are_so_many_trials_at_a_time),
		cmocka_unit_test(trials_of_deferred_events_leave_room),
		cmocka_unit_test(deferred_events_that_wait_are_tried_as_others),
		cmocka_unit_test(nothing_is_tried_by_one_that_stops),
		cmocka_unit_test(one_that_cannot_connect_tries_again_after_a_while),
		cmocka_unit_test(a_key_that_does_not_answer_is_silent),
		cmocka_unit_test(what_was_answered_meanwhile_is_not_silent),
		cmocka_unit_test(a_broken_or_blocked_connection_shows_nothing),
		cmocka_unit_test(all_that_wait_are_tried_before_the_connection_is_left),
		cmocka_unit_test(what_others_wait_for_does_not_end_the_connection),
		cmocka_unit_test(each_page_that_waits_is_looked_at),
		cmocka_unit_test(silent_keys_are_not_tried_for_others),
		cmocka_unit_test(so_many_keys_can_be_silent),
		cmocka_unit_test(a_silent_key_is_tried_now_and_then),
		cmocka_unit_test(a_key_that_answers_again_is_like_all_others),
		cmocka_unit_test(what_is_refused_is_put_aside_unsent),
		cmocka_unit_test(it_is_put_aside_slowly_until_others_are_taken),
		cmocka_unit_test(a_trial_that_is_taken_tells_of_all),
		cmocka_unit_test(one_for_which_there_is_no_room_is_tried_before_the_others),
		cmocka_unit_test(what_was_deferred_of_a_refused_key_is_tried_by_itself),
		cmocka_unit_test(a_refused_key_that_is_taken_is_like_all_others),
		cmocka_unit_test(one_that_answers_late_stays_by_itself),
		cmocka_unit_test(connections_lost_each_time_are_an_answer),
		cmocka_unit_test(a_trial_that_is_lost_is_not_repeated_at_once),
		cmocka_unit_test(what_is_of_a_silent_key_counts_for_nothing_taken),
		cmocka_unit_test(many_silent_keys_take_turns),
		cmocka_unit_test(a_connection_that_cannot_be_had_is_not_asked_for_again_and_again),
		cmocka_unit_test(an_answer_may_be_that_it_does_not_take_it),
		cmocka_unit_test(what_cannot_be_written_down_is_not_passed_over),
		cmocka_unit_test(another_leader_finds_out_for_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
