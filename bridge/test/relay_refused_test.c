/*
 * relay_refused_test.c
 *		What the broker does not take: deferred events, full queues, channels that it closes, and
 *how much may be under way.
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

#define TWO                                                                                        \
	(const char *const[])                                                                          \
	{                                                                                              \
		"a", "b"                                                                                   \
	}

/* ---------- deferred events ---------- */

static void
deferred_events_are_asked_for_when_they_are_due(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(relay_send_deferred(relay)); /* there are none */
	assert_int_equal(fake.nqueries, 0);
	relay->may_have_deferred = true;
	relay->deferred_due_ms = fake.now_ms + 1;
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.nqueries, 0);
	fake.now_ms += 1;
	relay->npages = PAGES_MAX; /* no room */
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.nqueries, 0);
	relay->npages = 0;
	fake_answer(fake_texts(0, NULL));
	fake_answer(fake_texts(1, (const char *const[]){"t"}));
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.nqueries, 2);
	assert_ptr_equal(fake.sql, SQL_RELAY_HAS_DEFERRED);
	assert_true(relay->may_have_deferred);
	assert_int_equal(relay->deferred_due_ms, fake.now_ms + 1000);
	fake.now_ms += 1000;
	fake_answer(fake_texts(0, NULL));
	fake_answer(fake_texts(1, (const char *const[]){"f"}));
	assert_true(relay_send_deferred(relay));
	assert_false(relay->may_have_deferred);

	relay->may_have_deferred = true;
	fake.now_ms += 1000;
	fake.outcome = DB_ERROR; /* somebody's lock on them holds up no others */
	fake.is_locked = true;
	fake.lock_ms = 2000;
	assert_true(relay_send_deferred(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFERRED);
	assert_string_equal(fake.params[0], "100");
	assert_string_equal(fake.params[1], "1000");
	fake.nqueries = 0;
	fake.now_ms += 19999;
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.nqueries, 0);
	fake.now_ms += 1001;
	fake.outcome = DB_LOST;
	assert_false(relay_send_deferred(relay));
}

static void
deferred_events_are_sent_and_written_down(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->may_have_deferred = true;
	relay->nset_aside = 1;
	relay->set_aside[0] = 5; /* whatever was set aside of the window is sent all the same */
	fake_answer(fake_keys(5, 2, TWO));
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.nsent, 2);
	assert_true(relay->pages[0].is_deferred);
	relay->cursor = 77;
	fake_confirm(relay, 1, true);
	fake_confirm(relay, 2, true);
	assert_int_equal(fake_take_answers(relay), 0); /* deferred ones are not the window's */
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFERRED_SENT);
	assert_string_equal(fake.params[0], "{5,6}");
	assert_int_equal(relay->deferred_due_ms, 0); /* perhaps there is room for more */
	assert_int_equal(relay->cursor, 77);
	assert_int_equal(fake.metrics[METRIC_EVENTS_PUBLISHED], 2);

	fake_answer(fake_keys(7, 1, TWO));
	assert_true(relay_send_deferred(relay));
	fake_confirm(relay, (uint64_t) fake.nsent, true);
	fake.outcome = DB_LOST;
	assert_false(relay_take_answers(relay, false, &(int){0}, &(bool){false}));
}

static void
what_is_refused_again_is_deferred_again(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->may_have_deferred = true;
	fake_answer(fake_keys(5, 2, TWO));
	assert_true(relay_send_deferred(relay));
	fake_confirm(relay, 1, true);
	fake_confirm(relay, 2, false);
	fake_answer(NULL); /* of the deferral */
	assert_int_equal(fake_take_answers(relay), 0);
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFERRED_SENT);
	assert_string_equal(fake.params[0], "{5}");
	/* soon, since the broker takes others */
	assert_int_equal(relay->deferred_due_ms, fake.now_ms + 100);
	assert_int_equal(fake.metrics[METRIC_EVENTS_DEFERRED], 1);

	fake.now_ms += 100;
	fake_answer(fake_keys(6, 1, TWO));
	assert_true(relay_send_deferred(relay));
	fake_confirm(relay, (uint64_t) fake.nsent, false);
	fake.nqueries = 0;
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(fake.nqueries, 1); /* nothing was sent that is to be written down */
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	assert_string_equal(fake.params[0], "{6}");
	assert_string_equal(fake.params[2], "f");
	assert_int_equal(relay->deferred_due_ms, fake.now_ms + 1000);
}

/* ---------- full queues ---------- */

static void
a_full_key_is_full_for_a_while(void **state)
{
	Relay *relay = fake_relay();
	char   key[32];

	(void) state;
	relay_note_full(relay, "a");
	assert_true(relay_is_full(relay, "a"));
	assert_false(relay_is_full(relay, "b"));
	fake.now_ms += 4999;
	relay_note_full(relay, "b");
	assert_true(relay_is_full(relay, "a"));
	fake.now_ms += 1;
	assert_false(relay_is_full(relay, "a"));
	assert_true(relay_is_full(relay, "b"));
	relay_note_full(relay, "b"); /* longer */
	fake.now_ms += 4999;
	assert_true(relay_is_full(relay, "b"));

	/* of too many, the one that is over soonest is forgotten */
	relay = fake_relay();
	for (int i = 0; i <= FULL_KEYS_MAX; i++)
	{
		snprintf(key, sizeof(key), "key.%d", i);
		fake.now_ms += i == 3 ? -10 : 1;
		relay_note_full(relay, key);
		fake.now_ms += i == 3 ? 10 : 0;
	}
	for (int i = 0; i <= FULL_KEYS_MAX; i++)
	{
		snprintf(key, sizeof(key), "key.%d", i);
		assert_int_equal(relay_is_full(relay, key), i != 3);
	}
}

/* ---------- closed channels ---------- */

/* The channel closes, for that reason, while so many events are under way. */
static void
lose(Relay *relay, int count, int code, bool is_of_publish)
{
	fake.refusal = (BrokerRefusal){.code = code, .is_of_publish = is_of_publish};
	snprintf(fake.refusal.text, sizeof(fake.refusal.text), "words of %d", code);
	if (relay->npages == 0)
		assert_true(relay_add_page(relay, fake_keys(40, count, TWO), false));
	relay_note_loss(relay);
}

static void
what_the_broker_says_of_a_lone_event_decides(void **state)
{
	static const struct
	{
		int     code;
		bool    is_of_publish;
		int     losses;
		int     unproven;
		Verdict verdict;
	} cases[] = {
		{406, true, 1, 0, VERDICT_PARK},  {311, true, 1, 0, VERDICT_PARK},
		{501, true, 1, 9, VERDICT_PARK},  {540, true, 1, 0, VERDICT_PARK},
		{404, true, 1, 0, VERDICT_DEFER}, {403, true, 1, 4, VERDICT_DEFER},
		{403, true, 1, 5, VERDICT_DEFER}, {406, false, 1, 0, VERDICT_NONE},
		{406, false, 2, 0, VERDICT_NONE}, {406, false, 3, 0, VERDICT_DEFER},
		{0, false, 2, 0, VERDICT_NONE},   {0, false, 3, 4, VERDICT_DEFER},
		{0, false, 3, 5, VERDICT_DEFER},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Relay *relay = fake_relay();

		relay->unproven = cases[i].unproven;
		for (int n = 0; n < cases[i].losses; n++)
			lose(relay, 1, cases[i].code, cases[i].is_of_publish);
		assert_int_equal(relay->suspect.verdict, cases[i].verdict);
		assert_int_equal(relay->suspect.event_id, 40);
		assert_int_equal(relay->suspect.losses, cases[i].losses);
		assert_int_equal(relay->careful_left, 1);
		assert_string_equal(relay->suspect.text,
							cases[i].code == 0 ? "the connection was lost each time it was sent"
											   : fake.refusal.text);
	}
}

static void
another_lone_event_is_another_suspect(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->careful_left = 7;
	lose(relay, 1, 0, false);
	lose(relay, 1, 0, false);
	assert_int_equal(relay->careful_left, 7);
	relay_free_pages(relay);
	assert_true(relay_add_page(relay, fake_keys(41, 1, TWO), false));
	relay->suspect.verdict = VERDICT_PARK; /* on the one before */
	relay_note_loss(relay);
	assert_int_equal(relay->suspect.event_id, 41);
	assert_int_equal(relay->suspect.losses, 1);
	assert_int_equal(relay->suspect.verdict, VERDICT_NONE);
}

static void
of_several_events_each_is_sent_alone(void **state)
{
	Relay *relay = fake_relay();
	size_t bytes;

	(void) state;
	lose(relay, 2, 406, true);
	assert_int_equal(relay->careful_left, 2);
	assert_int_equal(relay->losses, 0);
	assert_int_equal(relay->suspect.verdict, VERDICT_NONE);
	relay_free_pages(relay);
	assert_int_equal(relay_page_room(relay, &bytes), 1);
	relay_note_taken(relay, 1);
	assert_int_equal(relay->careful_left, 1);
	relay_note_taken(relay, 1);
	assert_int_equal(relay->careful_left, 0);

	/* what is skipped is read again, too, and counted then */
	relay = fake_relay();
	relay->set_aside[relay->nset_aside++] = 41;
	assert_true(
		relay_add_page(relay, fake_keys(40, 3, (const char *const[]){"a", "b", "c"}), false));
	assert_int_equal(fake.nsent, 2);
	fake.refusal = (BrokerRefusal){.code = 406, .is_of_publish = true};
	relay_note_loss(relay);
	assert_int_equal(relay->careful_left, 3);

	/* or if it is lost over and over with none taken in between */
	relay = fake_relay();
	lose(relay, 2, 0, false);
	lose(relay, 2, 0, false);
	assert_int_equal(relay->losses, 2);
	relay->unproven = 3;
	relay->careful_left = 2;
	relay_note_taken(relay, 5);
	assert_int_equal(relay->losses, 0);
	assert_int_equal(relay->unproven, 0);
	assert_int_equal(relay->careful_left, 0);
	for (int i = 0; i < 3; i++)
	{
		assert_int_equal(relay->careful_left, 0);
		lose(relay, 2, 0, false);
	}
	assert_int_equal(relay->careful_left, 2);
	assert_int_equal(relay->losses, 0);
}

static void
only_what_is_under_way_is_suspected(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(relay_add_page(relay, fake_keys(40, 2, TWO), false));
	assert_true(relay_add_page(relay, fake_keys(42, 2, TWO), false));
	for (uint64_t tag = 1; tag <= 4; tag++)
	{
		if (tag != 3)
			fake_confirm(relay, tag, true);
	}
	lose(relay, 0, 406, true);
	assert_int_equal(relay->suspect.event_id, 42);
	assert_int_equal(relay->suspect.verdict, VERDICT_PARK);

	for (int reason = 0; reason < 4; reason++)
	{
		relay = fake_relay();
		assert_true(relay_add_page(relay, fake_keys(40, 1, TWO), false));
		fake.stop = reason == 0;
		fake.is_disconnected = reason == 1; /* a database that is lost is no word of the broker's */
		if (reason == 2)
			fake_confirm(relay, 1, true);
		if (reason == 3)
			relay->broker = NULL;
		lose(relay, 1, 406, true);
		assert_int_equal(relay->suspect.verdict, VERDICT_NONE);
		assert_int_equal(relay->suspect.event_id, reason == 3 ? 40 : 0);
		assert_int_equal(relay->losses, 0);
	}
}

static void
a_verdict_is_executed_once(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	assert_true(relay_execute_verdict(relay));
	assert_int_equal(fake.nqueries, 0);
	lose(relay, 1, 406, true);
	relay->careful_left = 3;
	assert_true(relay_execute_verdict(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_PARK);
	assert_string_equal(fake.params[0], "40");
	assert_string_equal(fake.params[1], "406");
	assert_string_equal(fake.params[2], "words of 406");
	assert_int_equal(fake.metrics[METRIC_EVENTS_REFUSED], 1);
	assert_int_equal(relay->careful_left, 3); /* it is read again */
	assert_int_equal(relay->unproven, 0);
	assert_int_equal(relay->suspect.event_id, 0);
	assert_int_equal(relay->suspect.losses, 0);
	assert_int_equal(fake.nbackoffs, 1);
	assert_true(relay_is_set_aside(relay, 40));
	assert_false(relay_is_set_aside(relay, 41));
	assert_true(relay_execute_verdict(relay));
	assert_int_equal(fake.nqueries, 1);
	/* it is not sent again with its window */
	relay_free_pages(relay);
	assert_true(
		relay_add_page(relay, fake_keys(39, 3, (const char *const[]){"a", "b", "c"}), false));
	assert_int_equal(fake.nsent, 3);
	assert_string_equal(fake.sent[2].message_id, "m41");

	relay = fake_relay();
	lose(relay, 1, 404, true);
	assert_true(relay_execute_verdict(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	assert_string_equal(fake.params[0], "{40}");
	assert_string_equal(fake.params[1], "words of 404");
	assert_string_equal(fake.params[2], "f");
	assert_int_equal(relay->unproven, 1);
	assert_int_equal(fake.metrics[METRIC_EVENTS_REFUSED], 0);
	assert_true(relay_is_set_aside(relay, 40));
	relay_free_pages(relay);
	assert_int_equal(relay->careful_left, 1);
	assert_true(relay_add_page(relay, fake_keys(40, 1, TWO), false));
	assert_int_equal(fake_take_answers(relay), 1);
	assert_int_equal(relay->careful_left, 0);
}

static void
a_verdict_that_cannot_be_written_holds_up_its_page_alone(void **state)
{
	Relay *relay = fake_relay();
	size_t bytes;

	(void) state;
	lose(relay, 1, 406, true);
	relay_free_pages(relay);
	fake.outcome = DB_ERROR;
	assert_true(relay_execute_verdict(relay));
	assert_int_equal(fake.metrics[METRIC_EVENTS_REFUSED], 0);
	assert_false(fake.is_disconnected);
	assert_int_equal(relay->suspect.verdict, VERDICT_NONE); /* another may be found guilty */

	fake.outcome = DB_OK;
	assert_true(
		relay_add_page(relay, fake_keys(39, 3, (const char *const[]){"a", "b", "c"}), false));
	assert_int_equal(fake.nsent, 3); /* it alone, and now the others */
	assert_string_equal(fake.sent[2].message_id, "m41");
	relay->careful_left = 2;
	assert_int_equal(relay_page_room(relay, &bytes), 0);
	fake_confirm(relay, 2, true);
	fake_confirm(relay, 3, true);
	assert_int_equal(relay_page_room(relay, &bytes), 1); /* what waits is not under way */
	assert_true(relay_add_page(relay, fake_keys(42, 1, TWO), false));
	fake_confirm(relay, 4, true);
	assert_int_equal(fake_take_answers(relay), 0);

	fake.outcome = DB_ERROR;
	fake.now_ms += 1000;
	fake.nqueries = 0;
	assert_true(relay_write_verdicts(relay));
	assert_true(relay_write_verdicts(relay));
	assert_int_equal(fake.nqueries, 1); /* not over and over */
	assert_int_equal(fake_take_answers(relay), 0);
	fake.outcome = DB_OK;
	fake.now_ms += 1000;
	assert_true(relay_write_verdicts(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_PARK);
	assert_string_equal(fake.params[0], "40");
	assert_string_equal(fake.params[2], "words of 406");
	assert_int_equal(fake.metrics[METRIC_EVENTS_REFUSED], 1);
	assert_int_equal(fake_take_answers(relay), 4);
	assert_true(relay_is_set_aside(relay, 40));
	fake.nqueries = 0;
	assert_true(relay_write_verdicts(relay));
	assert_int_equal(fake.nqueries, 0);
}

static void
a_verdict_on_a_deferred_event_that_waits_holds_up_nothing(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->may_have_deferred = true;
	fake_answer(fake_keys(40, 1, TWO));
	assert_true(relay_send_deferred(relay));
	lose(relay, 1, 403, true);
	relay_free_pages(relay);
	fake.outcome = DB_ERROR;
	fake.is_locked = true;
	assert_true(relay_execute_verdict(relay));
	fake.outcome = DB_OK;
	assert_true(relay_add_page(relay, fake_keys(40, 1, TWO), true));
	assert_int_equal(fake.nsent, 1); /* when it was found guilty */
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(relay->npages, 0);
	fake.outcome = DB_LOST;
	fake.now_ms += 1000;
	assert_false(relay_write_verdicts(relay));
	fake.outcome = DB_OK;
	assert_true(relay_write_verdicts(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	relay->nsilent = 0; /* the broker has taken its key since */
	assert_true(relay_add_page(relay, fake_keys(40, 1, TWO), true));
	assert_int_equal(fake.nsent, 2);

	/* more than there is room for are too many; what another relay judges is its own to write */
	fake.outcome = DB_ERROR;
	for (int i = 0; i <= UNWRITTEN_MAX; i++)
	{
		relay->suspect = (Suspect){.event_id = 50 + i, .verdict = VERDICT_PARK};
		assert_int_equal(relay_execute_verdict(relay), i < UNWRITTEN_MAX);
	}
	relay_forget_verdicts(relay);
	fake.nqueries = 0;
	assert_true(relay_write_verdicts(relay));
	assert_int_equal(fake.nqueries, 0);
}

static void
a_verdict_on_a_deferred_event_sets_nothing_aside(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->may_have_deferred = true;
	fake_answer(fake_keys(40, 1, TWO));
	assert_true(relay_send_deferred(relay));
	lose(relay, 1, 406, true);
	assert_true(relay_execute_verdict(relay));
	assert_int_equal(relay->nset_aside, 0);

	/* nor does it say anything of the window's events, however often it fares like that */
	for (int i = 0; i < 9; i++)
	{
		relay = fake_relay();
		relay->may_have_deferred = true;
		fake_answer(fake_keys(40, 1, TWO));
		assert_true(relay_send_deferred(relay));
		relay->unproven = i;
		lose(relay, 1, 403, true);
		assert_true(relay_execute_verdict(relay));
		assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
		assert_int_equal(relay->unproven, i);
	}
	for (int code = 404; code <= 406; code += 2)
	{
		relay = fake_relay();
		lose(relay, 1, code, true);
		fake.outcome = DB_LOST;
		assert_false(relay_execute_verdict(relay)); /* it is judged again when it is lost again */
		assert_int_equal(relay->nset_aside, 0);
		assert_true(fake.is_disconnected);
	}
}

static void
some_verdicts_in_a_row_slow_it_down(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	for (int i = 1; i <= 7; i++)
	{
		relay->suspect = (Suspect){.event_id = 100 + i, .verdict = VERDICT_DEFER};
		assert_true(relay_execute_verdict(relay));
		assert_int_equal(fake.nbackoffs, i < 5 ? i : 5);
	}
	/* what was set aside before and is only passed over proves nothing; what is taken does */
	assert_true(relay_add_page(relay, fake_keys(101, 2, TWO), false));
	assert_int_equal(fake_take_answers(relay), 2);
	assert_int_equal(relay->unproven, 7);
	assert_true(relay_add_page(relay, fake_keys(107, 2, TWO), false));
	fake_confirm(relay, 1, true);
	relay->careful_left = 3;
	assert_int_equal(fake_take_answers(relay), 2);
	assert_int_equal(relay->unproven, 0);
	assert_int_equal(relay->careful_left, 1);
}

static void
what_is_refused_is_not_sent_again_unless_it_was_the_exchange_s_fault(void **state)
{
	static const struct
	{
		int  code;
		bool is_of_publish;
		bool is_noted;
	} cases[] = {
		{403, true, true},
		{405, true, true},
		{404, true, false}, /* the exchange is declared anew as we connect */
		{0, false, false},  /* a connection that is lost each time says nothing of its key */
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Relay *relay = fake_relay();

		for (int n = 0; n < LOSSES_MAX; n++)
			lose(relay, 1, cases[i].code, cases[i].is_of_publish);
		assert_int_equal(relay->suspect.verdict, VERDICT_DEFER);
		assert_true(relay_execute_verdict(relay));
		assert_int_equal(relay->unproven, 1);
		assert_int_equal(relay->nsilent, cases[i].is_noted);
		relay_free_pages(relay);
		fake.nsent = 0;
		assert_true(relay_add_page(relay, fake_keys(41, 1, TWO), false));
		assert_int_equal(fake.nsent, !cases[i].is_noted);
	}
}

static void
what_is_refused_for_long_is_tried_in_another_session(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	for (int round = 0; round < 2; round++)
	{
		fake.outcome = DB_ERROR;
		for (int i = 1; i < 30; i++, fake.now_ms += 1000)
			assert_int_equal(relay_park(relay, 1, 312, "NO_ROUTE"), ASIDE_LATER);
		assert_false(fake.is_disconnected);
		fake.outcome = round == 0 ? DB_OK : DB_ERROR;
		assert_int_equal(relay_park(relay, 1, 312, "NO_ROUTE"),
						 round == 0 ? ASIDE_WRITTEN : ASIDE_FAILED);
		assert_int_equal(fake.is_disconnected, round == 1);
	}
	assert_int_equal(relay_park(relay, 1, 312, "NO_ROUTE"), ASIDE_LATER);

	/* somebody's lock is waited for, however long */
	relay = fake_relay();
	fake.outcome = DB_ERROR;
	fake.is_locked = true;
	for (int i = 0; i < 100; i++, fake.now_ms += 1000)
		assert_int_equal(relay_park(relay, 1, 312, "NO_ROUTE"), ASIDE_LATER);
	assert_false(fake.is_disconnected);
}

static void
whoever_looks_for_the_culprit_says_so(void **state)
{
	(void) state;
	for (int unproven = 5; unproven <= 6; unproven++)
	{
		for (int count = 0; count <= 2; count++)
		{
			Relay *relay = fake_relay();

			relay->unproven = unproven;
			if (count > 0)
				lose(relay, count, 0, false);
			else
				relay_note_loss(relay);
			assert_int_equal(relay->is_judging, count > 0 && unproven == 5);
		}
	}
}

static void
deferred_events_are_not_read_again_while_they_are_under_way(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->may_have_deferred = true;
	fake_answer(fake_keys(40, 2, TWO));
	assert_true(relay_send_deferred(relay));
	fake.now_ms += 60000;
	fake.nqueries = 0;
	assert_true(relay_send_deferred(relay));
	assert_int_equal(fake.nqueries, 0);
	assert_int_equal(fake.nsent, 2);
}

static void
the_last_that_were_set_aside_are_remembered(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	for (int i = 0; i <= SET_ASIDE_MAX; i++)
	{
		relay->suspect = (Suspect){.event_id = 100 + i, .verdict = VERDICT_PARK};
		assert_true(relay_execute_verdict(relay));
	}
	assert_false(relay_is_set_aside(relay, 100));
	for (int i = 1; i <= SET_ASIDE_MAX; i++)
		assert_true(relay_is_set_aside(relay, 100 + i));
}

/* ---------- room ---------- */

static void
as_much_is_under_way_as_is_allowed(void **state)
{
	Relay    *relay = fake_relay();
	size_t    bytes = 0;
	char      payload[2001];
	FakeEvent event = {.event_id = 1, .routing_key = "a", .payload = payload};

	(void) state;
	memset(payload, 'x', sizeof(payload) - 1);
	payload[sizeof(payload) - 1] = '\0';
	assert_int_equal(relay_page_room(relay, &bytes), 100);
	assert_int_equal(bytes, 1000);
	assert_true(relay_add_page(relay, fake_rows(&event, 1), false));
	assert_int_equal(relay->pages[0].bytes, 2000);
	assert_int_equal(relay_page_room(relay, &bytes), 100);
	relay->careful_left = 1; /* one by one: not while one is */
	assert_int_equal(relay_page_room(relay, &bytes), 0);
	relay->careful_left = 0;
	assert_true(relay_add_page(relay, fake_rows(&event, 1), false));
	assert_int_equal(relay_page_room(relay, &bytes), 0);
	config.relay_window_bytes = 4001;
	assert_int_equal(relay_page_room(relay, &bytes), 100);
	relay_free_pages(relay);
	assert_int_equal(relay->npages, 0);
	for (int i = 0; i < PAGES_MAX; i++)
	{
		assert_int_equal(relay_page_room(relay, &bytes), 100);
		assert_true(relay_add_page(relay, fake_keys(1, 1, TWO), false));
	}
	assert_int_equal(relay_page_room(relay, &bytes), 0);
}

static void
after_a_loss_a_few_are_sent_at_a_time(void **state)
{
	Relay *relay = fake_relay();
	size_t bytes;

	(void) state;
	config.relay_window_bytes = 4000000;
	assert_true(relay_add_page(relay, fake_keys(1, 2, TWO), false));
	relay_note_loss(relay);
	relay_free_pages(relay);
	assert_int_equal(relay->careful_left, 0);
	assert_int_equal(relay_page_room(relay, &bytes), 64);
	assert_int_equal(bytes, 65536);
	assert_true(relay_add_page(relay, fake_keys(1, 1, TWO), false));
	assert_int_equal(relay_page_room(relay, &bytes), 0);
	relay_free_pages(relay);
	relay_note_taken(relay, 1);
	assert_int_equal(relay_page_room(relay, &bytes), 64);
	relay_note_taken(relay, 1);
	assert_int_equal(relay_page_room(relay, &bytes), 100);
	assert_int_equal(bytes, 1000000);
	config.relay_window = 40; /* and no more than otherwise */
	config.relay_window_bytes = 4000;
	relay->cautious_left = 1;
	assert_int_equal(relay_page_room(relay, &bytes), 10);
	assert_int_equal(bytes, 1000);
	relay_forget_verdicts(relay);
	assert_int_equal(relay->cautious_left, 0);
}

static void
what_is_refused_from_the_beginning_is_tried_on_new_connections(void **state)
{
	Relay *relay = fake_relay();
	int    published;

	(void) state;
	for (int times = 0; times < 3; times++)
	{
		relay_note_connected(relay);
		assert_false(relay_is_to_renew(relay));
		fake.now_ms += 9999;
		relay_note_full(relay, "a");
		fake.now_ms += 499;
		relay_note_full(relay, "a"); /* not put off by that */
		assert_false(relay_is_to_renew(relay));
		fake.now_ms += 1;
		fake.given_up = 0;
		assert_false(relay_drain(relay, &published));
		assert_int_equal(fake.given_up, 1); /* another node is tried first */
		assert_int_equal(published, 0);
	}
	/* then it is believed */
	relay_note_connected(relay);
	relay_note_full(relay, "a");
	fake.now_ms += 501;
	assert_false(relay_is_to_renew(relay));
	/* and a connection that is older is not at fault */
	fake.now_ms += 10000;
	relay_note_full(relay, "a");
	fake.now_ms += 501;
	assert_false(relay_is_to_renew(relay));
	relay_note_connected(relay);
	relay_note_full(relay, "a");
	fake.now_ms += 501;
	assert_true(relay_is_to_renew(relay));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_loss_a_few_are_sent_at_a_time),
		cmocka_unit_test(what_is_refused_from_the_beginning_is_tried_on_new_connections),
		cmocka_unit_test(deferred_events_are_asked_for_when_they_are_due),
		cmocka_unit_test(deferred_events_are_sent_and_written_down),
		cmocka_unit_test(what_is_refused_again_is_deferred_again),
		cmocka_unit_test(a_full_key_is_full_for_a_while),
		cmocka_unit_test(what_the_broker_says_of_a_lone_event_decides),
		cmocka_unit_test(another_lone_event_is_another_suspect),
		cmocka_unit_test(of_several_events_each_is_sent_alone),
		cmocka_unit_test(only_what_is_under_way_is_suspected),
		cmocka_unit_test(a_verdict_is_executed_once),
		cmocka_unit_test(a_verdict_that_cannot_be_written_holds_up_its_page_alone),
		cmocka_unit_test(a_verdict_on_a_deferred_event_that_waits_holds_up_nothing),
		cmocka_unit_test(a_verdict_on_a_deferred_event_sets_nothing_aside),
		cmocka_unit_test(some_verdicts_in_a_row_slow_it_down),
		cmocka_unit_test(what_is_refused_is_not_sent_again_unless_it_was_the_exchange_s_fault),
		cmocka_unit_test(what_is_refused_for_long_is_tried_in_another_session),
		cmocka_unit_test(whoever_looks_for_the_culprit_says_so),
		cmocka_unit_test(deferred_events_are_not_read_again_while_they_are_under_way),
		cmocka_unit_test(the_last_that_were_set_aside_are_remembered),
		cmocka_unit_test(as_much_is_under_way_as_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
