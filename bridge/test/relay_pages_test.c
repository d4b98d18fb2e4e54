/*
 * relay_pages_test.c
 *		Pages on their way to the broker: what is published, what the broker says of it, what is
 *sent again, and when a page is done.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/config.h"
#include "link/statements.h"
#include "relay_fake.h"

#define FOUR                                                                                       \
	(const char *const[])                                                                          \
	{                                                                                              \
		"other.1", "other.2", "other.3", "other.4"                                                 \
	}

static void
add_page(Relay *relay, PGresult *rows)
{
	assert_true(relay_add_page(relay, rows, false));
}

static const BrokerHeader *
header_of(const FakeSent *sent, const char *name)
{
	for (int i = 0; i < sent->nheaders; i++)
	{
		if (strcmp(sent->headers[i].name, name) == 0)
			return &sent->headers[i];
	}
	fail_msg("no header %s", name);
	return NULL;
}

static void
an_event_is_published_as_it_is(void **state)
{
	Relay    *relay = fake_relay();
	FakeEvent events[] = {
		{.event_id = 7,
		 .routing_key = "a.b",
		 .mandatory = true,
		 .payload = "{\"x\": 1}",
		 .created_at_us = 1700000001999999,
		 .headers =
			 "{\"text\": \"ä\", \"none\": null, \"whole\": -5, \"most\": 9223372036854775807, "
			 "\"real\": 1.5, \"list\": [], \"yes\": true, \"no\": false}"},
		{.event_id = 8,
		 .routing_key = "c",
		 .headers =
			 "{\"huge\": 100000000000000000000, \"text\": \"\\\\\\\"99999999999999999999 \\\\\", "
			 "\"most\": 9223372036854775807, \"more\": 9223372036854775808, \"less\": "
			 "-9223372036854775809, \"half\": 10000000000000000000.5, \"77777777777777777777\": "
			 "true}"},
		{.event_id = 9, .routing_key = "d"}};
	const FakeSent *sent = fake.sent;

	(void) state;
	add_page(relay, fake_rows(events, 3));
	assert_int_equal(fake.nsent, 3);
	assert_string_equal(sent[0].message_id, "m7");
	assert_string_equal(sent[0].routing_key, "orders a.b a.b");
	assert_string_equal(sent[0].body, "{\"x\": 1}");
	assert_int_equal(sent[0].body_bytes, 8);
	assert_int_equal(sent[0].timestamp, 1700000001);
	assert_true(sent[0].mandatory);
	assert_false(sent[1].mandatory);

	assert_int_equal(sent[0].nheaders, 6);
	assert_int_equal(header_of(sent, "text")->kind, AMQP_HEADER_TEXT);
	assert_string_equal(header_of(sent, "text")->text, "ä");
	assert_int_equal(header_of(sent, "whole")->kind, AMQP_HEADER_INTEGER);
	assert_int_equal(header_of(sent, "whole")->integer, -5);
	assert_true(header_of(sent, "most")->integer == INT64_MAX);
	assert_int_equal(header_of(sent, "real")->kind, AMQP_HEADER_REAL);
	assert_true(header_of(sent, "real")->real == 1.5);
	assert_int_equal(header_of(sent, "yes")->kind, AMQP_HEADER_BOOLEAN);
	assert_true(header_of(sent, "yes")->boolean);
	assert_false(header_of(sent, "no")->boolean);
	/* integers beyond 64 bits are reals, and nothing else is for that */
	assert_int_equal(sent[1].nheaders, 7);
	assert_true(header_of(&sent[1], "huge")->real == 1e20);
	assert_true(header_of(&sent[1], "more")->real == 0x1p63);
	assert_true(header_of(&sent[1], "less")->real == -0x1p63);
	assert_true(header_of(&sent[1], "half")->real == 1e19);
	assert_true(header_of(&sent[1], "most")->integer == INT64_MAX);
	assert_string_equal(header_of(&sent[1], "text")->text, "\\\"99999999999999999999 \\");
	assert_true(header_of(&sent[1], "77777777777777777777")->boolean);
	assert_int_equal(sent[2].nheaders, 0);
}

static void
no_more_headers_than_there_is_room_for(void **state)
{
	Relay    *relay = fake_relay();
	char      headers[1024] = "{";
	FakeEvent event = {.event_id = 1, .routing_key = "a", .headers = headers};

	(void) state;
	for (int i = 0; i < 40; i++)
		snprintf(headers + strlen(headers), sizeof(headers) - strlen(headers), "%s\"h%d\": %d",
				 i > 0 ? ", " : "", i, i);
	strcat(headers, "}");
	add_page(relay, fake_rows(&event, 1));
	assert_int_equal(fake.sent[0].nheaders, 32);
	assert_string_equal(fake.sent[0].headers[31].name, "h31");
}

static void
a_page_is_done_once_all_of_it_is_answered(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(11, 4, FOUR));
	add_page(relay, fake_keys(15, 4, FOUR));
	assert_int_equal(relay->npages, 2);
	for (uint64_t tag = 8; tag > 1; tag--)
		fake_confirm(relay, tag, true);
	assert_int_equal(fake_take_answers(relay), 0); /* the first of the oldest page is missing */
	assert_int_equal(relay->npages, 2);
	fake_confirm(relay, 1, true);
	relay->losses = relay->unproven = 2; /* in a row, until any are taken */
	assert_int_equal(fake_take_answers(relay), 8);
	assert_int_equal(relay->losses + relay->unproven, 0);
	assert_int_equal(relay->npages, 0);
	assert_int_equal(relay->cursor, 18);
	assert_int_equal(fake.metrics[METRIC_EVENTS_PUBLISHED], 8);
	assert_int_equal(fake.nsent, 8);
	/* the pages go round */
	for (int i = 0; i < PAGES_MAX; i++)
	{
		add_page(relay, fake_keys(19 + 4 * i, 4, FOUR));
		for (int n = 0; n < 4; n++)
			fake_confirm(relay, (uint64_t) fake.nsent - (uint64_t) n, true);
		assert_int_equal(fake_take_answers(relay), 4);
	}
	assert_int_equal(relay->cursor, 34);
}

static void
what_is_refused_is_sent_again_after_a_while(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 4, FOUR));
	fake_confirm(relay, 2, false);
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(relay->pages[0].resend_ms, 0); /* not while others are unanswered */
	fake_confirm(relay, 1, true);
	fake_confirm(relay, 3, true);
	fake_confirm(relay, 4, true);
	assert_int_equal(fake.metrics[METRIC_EVENTS_NACKED], 1);
	for (int nack = 1; nack < 3; nack++)
	{
		int before = fake.nsent;

		assert_int_equal(fake_take_answers(relay), 0);
		fake.now_ms += nack == 1 ? 49 : 99;
		assert_int_equal(fake_take_answers(relay), 0);
		assert_int_equal(fake.nsent, before);
		fake.now_ms += 1;
		assert_int_equal(fake_take_answers(relay), 0);
		assert_int_equal(fake.nsent, before + 1);
		assert_string_equal(fake.sent[before].message_id, "m2");
		assert_int_equal(relay->pages[0].refused, 0);
		if (nack == 1)
			fake_confirm(relay, (uint64_t) fake.nsent, false);
	}
	assert_int_equal(fake.declared, 1); /* once a page */
	fake_confirm(relay, (uint64_t) fake.nsent, true);
	assert_int_equal(fake_take_answers(relay), 4);
	assert_int_equal(fake.nqueries, 0);
}

static void
what_is_refused_over_and_over_is_deferred(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 2, (const char *const[]){"full", "full"}));
	fake_confirm(relay, 1, true);
	for (int nack = 1; nack <= 3; nack++)
	{
		fake_confirm(relay, (uint64_t) fake.nsent, false);
		assert_int_equal(fake_take_answers(relay), nack < 3 ? 0 : 2);
		fake.now_ms += 1000;
		if (nack < 3)
			assert_int_equal(fake_take_answers(relay), 0);
	}
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
	assert_string_equal(fake.params[0], "{2}");
	assert_string_equal(fake.params[2], "f");
	assert_int_equal(fake.metrics[METRIC_EVENTS_PUBLISHED], 1); /* the other one is still to come */
	assert_int_equal(relay->deferred_due_ms, fake.now_ms);      /* a second later */
	assert_true(relay->may_have_deferred);
	assert_int_equal(fake.metrics[METRIC_EVENTS_DEFERRED], 1);

	/* while the queue is full one refusal is enough; of another key it takes three */
	add_page(relay, fake_keys(3, 2, (const char *const[]){"full", "else"}));
	fake_confirm(relay, (uint64_t) fake.nsent - 1, false);
	fake_confirm(relay, (uint64_t) fake.nsent, false);
	assert_int_equal(fake_take_answers(relay), 0);
	assert_string_equal(fake.params[0], "{3}");
	assert_int_equal(fake.metrics[METRIC_EVENTS_DEFERRED], 2);
	assert_int_equal(relay->pages[relay->first_page].refused, 1);
	fake.outcome = DB_LOST; /* what cannot be deferred is not lost sight of */
	fake.now_ms += 50;
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(fake.nsent, 7); /* the one that was deferred is not sent again */
	assert_string_equal(fake.sent[6].message_id, "m4");
	for (int nack = 2; nack <= 3; nack++)
	{
		bool progressed = false;
		int  published = 0;

		fake_confirm(relay, (uint64_t) fake.nsent, false);
		assert_int_equal(relay_take_answers(relay, false, &published, &progressed), nack < 3);
		fake.now_ms += 100;
		assert_int_equal(relay_take_answers(relay, false, &published, &progressed), nack < 3);
	}
	assert_true(fake.is_disconnected);
}

static void
what_no_queue_takes_is_parked(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 4, FOUR));
	add_page(relay, fake_keys(5, 4, FOUR));
	fake_return(relay, "m99"); /* nobody's */
	fake_return(relay, "m6");
	assert_int_equal(fake.nqueries, 0); /* it may still be refused */
	for (uint64_t tag = 1; tag <= 8; tag++)
		fake_confirm(relay, tag, true);
	assert_int_equal(fake_take_answers(relay), 8);
	assert_ptr_equal(fake.sql, SQL_RELAY_PARK);
	assert_string_equal(fake.params[0], "6");
	assert_string_equal(fake.params[1], "312");
	assert_string_equal(fake.params[2], "NO_ROUTE");
	assert_int_equal(fake.metrics[METRIC_EVENTS_RETURNED], 1);
	assert_int_equal(fake.nsent, 8);
	assert_int_equal(fake.metrics[METRIC_EVENTS_PUBLISHED], 7);

	add_page(relay, fake_keys(9, 4, FOUR));
	fake_return(relay, "m9");
	for (uint64_t tag = 9; tag <= 12; tag++)
		fake_confirm(relay, tag, true);
	fake.outcome = DB_LOST;
	assert_false(relay_take_answers(relay, false, &(int){0}, &(bool){false}));
	assert_true(fake.is_disconnected); /* its page is not done, whatever is acknowledged */
	assert_int_equal(relay->npages, 1);
}

static void
somebody_s_lock_on_what_is_parked_keeps_no_page_from_being_sent(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 4, FOUR));
	fake_return(relay, "m2");
	fake_return(relay, "m3");
	for (uint64_t tag = 1; tag <= 4; tag++)
		fake_confirm(relay, tag, true);
	fake.outcome = DB_ERROR;
	fake.is_locked = true;
	fake.lock_ms = 200;
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(fake.nqueries, 1); /* the other one is not tried, nor any for a while */
	assert_int_equal(relay->aside_due_ms, fake.now_ms + 1000);
	assert_false(fake.is_disconnected);
	add_page(relay, fake_keys(5, 4, FOUR));
	assert_int_equal(fake.nsent, 8);
	for (uint64_t tag = 5; tag <= 8; tag++)
		fake_confirm(relay, tag, true);
	fake.now_ms += 999;
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(fake.nqueries, 1);
	fake.outcome = DB_OK;
	fake.now_ms += 1;
	assert_int_equal(fake_take_answers(relay), 8);
	assert_int_equal(fake.nqueries, 3);
	assert_int_equal(fake.metrics[METRIC_EVENTS_RETURNED], 2);
	assert_int_equal(fake.metrics[METRIC_EVENTS_PUBLISHED], 6);
}

static void
what_cannot_be_deferred_for_a_lock_is_sent_again(void **state)
{
	static const int pauses_ms[] = {900, 900, 300, 400, 1000};
	Relay           *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 1, (const char *const[]){"full"}));
	fake.outcome = DB_ERROR;
	fake.is_locked = true;
	fake.lock_ms = 200;
	for (int nack = 1; nack <= 5; nack++)
	{
		fake_confirm(relay, (uint64_t) fake.nsent, false);
		assert_int_equal(fake_take_answers(relay), 0);
		/* once, and not again before its time */
		assert_int_equal(fake.nqueries, nack >= 3);
		fake.now_ms += pauses_ms[nack - 1];
		if (nack < 5)
			assert_int_equal(fake_take_answers(relay), 0);
		assert_int_equal(fake.nsent, nack < 5 ? nack + 1 : 5);
	}
	assert_false(fake.is_disconnected);
	fake.outcome = DB_OK;
	assert_int_equal(fake_take_answers(relay), 0);
	fake_confirm(relay, (uint64_t) fake.nsent, false);
	assert_int_equal(fake_take_answers(relay), 1);
	assert_ptr_equal(fake.sql, SQL_RELAY_DEFER);
}

static void
our_own_queue_is_declared_anew(void **state)
{
	static const char *const keys[] = {"order.placed.a", "order.placed.a.b", "order.placed",
									   "order.placed."};
	Relay                   *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 4, keys));
	for (int i = 0; i < 4; i++)
		fake_return(relay, (const char *const[]){"m1", "m2", "m3", "m4"}[i]);
	for (uint64_t tag = 1; tag <= 4; tag++)
		fake_confirm(relay, tag, true);
	assert_int_equal(relay->pages[0].refused, 2);
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(fake.nqueries, 2); /* the second and the third are nothing of ours */
	assert_int_equal(fake.declared, 0);
	fake.now_ms += 50;
	assert_int_equal(fake_take_answers(relay), 0);
	assert_int_equal(fake.declared, 1);
	assert_int_equal(fake.nsent, 6);
	assert_string_equal(fake.sent[4].message_id, "m1");
	/* once more, and it is parked as any other */
	fake_return(relay, "m1");
	fake_confirm(relay, 5, true);
	fake_confirm(relay, 6, true);
	assert_int_equal(fake_take_answers(relay), 4);
	assert_string_equal(fake.params[0], "1");
	assert_int_equal(fake.metrics[METRIC_EVENTS_NACKED], 0);
}

static void
a_broker_that_cannot_be_told_ends_it(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	fake.cannot_publish = true;
	assert_false(relay_add_page(relay, fake_keys(1, 4, FOUR), false));
	/* it was under way: if the broker has closed over it, it is known to be the one */
	assert_int_equal(relay->pages[0].events[0].state, EVENT_SENT);
	assert_int_equal(relay->pages[0].events[1].state, EVENT_TO_SEND);
	assert_int_equal(relay->pages[0].unanswered, 1);

	relay = fake_relay();
	add_page(relay, fake_keys(1, 1, FOUR));
	fake_confirm(relay, 1, false);
	assert_int_equal(fake_take_answers(relay), 0);
	fake.now_ms += 50;
	fake.is_lost = true;
	assert_false(relay_publish_again(relay, &relay->pages[0]));
	assert_int_equal(fake.nsent, 1);

	relay = fake_relay();
	relay->bind_due_ms = fake.now_ms;
	fake.is_lost = true;
	assert_false(relay_add_page(relay, fake_keys(1, 4, FOUR), false));
	assert_int_equal(fake.nsent, 0);
}

static void
the_queue_is_bound_again_four_times_a_second(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->bind_due_ms = fake.now_ms + 1;
	add_page(relay, fake_keys(1, 4, FOUR));
	assert_int_equal(fake.bound, 0);
	fake.now_ms += 1;
	add_page(relay, fake_keys(5, 4, FOUR));
	assert_int_equal(fake.bound, 1);
	fake.now_ms += 249;
	add_page(relay, fake_keys(9, 4, FOUR));
	assert_int_equal(fake.bound, 1);
	fake.now_ms += 1;
	add_page(relay, fake_keys(13, 4, FOUR));
	assert_int_equal(fake.bound, 2);
}

static void
long_pages_listen_in_between(void **state)
{
	Relay      *relay = fake_relay();
	const char *keys[130];

	(void) state;
	for (int i = 0; i < 130; i++)
		keys[i] = "a";
	add_page(relay, fake_keys(1, 130, keys));
	assert_int_equal(fake.processed, 2);
	fake.is_disconnected = true;
	assert_false(relay_add_page(relay, fake_keys(131, 130, keys), false));
	assert_int_equal(fake.nsent, 130 + 64);
}

static void
a_blocked_broker_is_waited_for(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	fake.blocked_for = 3;
	add_page(relay, fake_keys(1, 4, FOUR));
	assert_int_equal(fake.processed, 3);
	assert_int_equal(fake.nsent, 4);
	assert_int_equal(relay->pages[0].due_ms, fake.now_ms + 10000);

	relay = fake_relay();
	fake.blocked_for = 3;
	fake.stop = true;
	assert_false(relay_add_page(relay, fake_keys(1, 4, FOUR), false));
	assert_int_equal(fake.nsent, 0);

	relay = fake_relay();
	fake.blocked_for = 3;
	fake.is_lost = true;
	assert_false(relay_add_page(relay, fake_keys(1, 4, FOUR), false));
	assert_int_equal(fake.processed, 1);
}

static void
a_broker_that_does_not_answer_is_overdue(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 4, FOUR));
	fake.now_ms += 1;
	add_page(relay, fake_keys(5, 4, FOUR));
	fake.now_ms += 9999;
	assert_false(relay_is_overdue(relay));
	assert_int_equal(fake.given_up, 0);
	fake.now_ms += 1;
	assert_true(relay_is_overdue(relay));
	assert_int_equal(fake.given_up, 1); /* another node is tried first */
	for (uint64_t tag = 1; tag <= 4; tag++)
		fake_confirm(relay, tag, true);
	assert_false(relay_is_overdue(relay));
	fake.now_ms += 1;
	fake.blocked_for = 1; /* its time begins anew */
	assert_false(relay_is_overdue(relay));
	fake.now_ms += 10000;
	assert_false(relay_is_overdue(relay));
	fake.now_ms += 1;
	assert_true(relay_is_overdue(relay));
}

static void
an_alarm_costs_the_pages_before_no_time(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	add_page(relay, fake_keys(1, 4, FOUR));
	fake.now_ms += 9999;
	fake.blocked_for = 1; /* while the next one is published */
	add_page(relay, fake_keys(5, 4, FOUR));
	fake.now_ms += 10000;
	assert_false(relay_is_overdue(relay));
	fake.now_ms += 1;
	assert_true(relay_is_overdue(relay));
}

static void
a_stop_waits_for_the_broker_for_a_while(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	config.broker_timeout_s = 60;
	add_page(relay, fake_keys(1, 4, FOUR));
	fake.stop = true;
	assert_false(relay_is_overdue(relay));
	fake.now_ms += 5000;
	assert_false(relay_is_overdue(relay));
	fake.now_ms += 1;
	assert_true(relay_is_overdue(relay));
}

static void
delays_are_observed(void **state)
{
	Relay          *relay = fake_relay();
	struct timespec now;
	FakeEvent       events[] = {
			  {.event_id = 1, .routing_key = "order.placed.a"},
			  {.event_id = 2,
			   .routing_key = "order.confirmed",
			   .created_at_us = 1767225603500000,
			   .placed_at = "2026-01-01T00:00:01.250000Z"},
			  {.event_id = 3, .routing_key = "order.confirmed", .placed_at = "yesterday"},
			  {.event_id = 4, .routing_key = "order.rejected", .placed_at = "2026-01-01T00:00:01Z"}};

	(void) state;
	clock_gettime(CLOCK_REALTIME, &now);
	events[0].created_at_us = (now.tv_sec - 1000) * INT64_C(1000000);
	add_page(relay, fake_rows(events, 4));
	for (uint64_t tag = 1; tag <= 4; tag++)
		fake_confirm(relay, tag, true);
	assert_int_equal(fake_take_answers(relay), 4);
	assert_int_equal(fake.nobserved[HISTOGRAM_PUBLISHED_SECONDS], 1);
	assert_true(fake.observed[HISTOGRAM_PUBLISHED_SECONDS] >= 1000 &&
				fake.observed[HISTOGRAM_PUBLISHED_SECONDS] < 2000);
	assert_int_equal(fake.nobserved[HISTOGRAM_CONFIRMED_SECONDS], 1);
	assert_true(fake.observed[HISTOGRAM_CONFIRMED_SECONDS] == 2.25);
}

static void
nothing_is_published_while_others_think_that_we_sleep(void **state)
{
	Relay *relay = fake_relay();

	(void) state;
	relay->is_asleep = true;
	fake.outcome = DB_LOST;
	assert_false(relay_add_page(relay, fake_keys(1, 1, (const char *const[]){"a"}), false));
	assert_ptr_equal(fake.sql, SQL_RELAY_UNMARK_IDLE);
	assert_int_equal(fake.nsent, 0);

	relay = fake_relay();
	assert_true(relay_fall_asleep(relay));
	assert_ptr_equal(fake.sql, SQL_RELAY_MARK_IDLE);
	assert_true(relay_add_page(relay, fake_keys(1, 1, (const char *const[]){"a"}), false));
	assert_ptr_equal(fake.sql, SQL_RELAY_UNMARK_IDLE);
	assert_int_equal(fake.nsent, 1);
	assert_true(relay_add_page(relay, fake_keys(2, 1, (const char *const[]){"a"}), false));
	assert_int_equal(fake.nqueries, 2); /* once */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_is_published_as_it_is),
		cmocka_unit_test(no_more_headers_than_there_is_room_for),
		cmocka_unit_test(a_page_is_done_once_all_of_it_is_answered),
		cmocka_unit_test(what_is_refused_is_sent_again_after_a_while),
		cmocka_unit_test(what_is_refused_over_and_over_is_deferred),
		cmocka_unit_test(what_no_queue_takes_is_parked),
		cmocka_unit_test(somebody_s_lock_on_what_is_parked_keeps_no_page_from_being_sent),
		cmocka_unit_test(what_cannot_be_deferred_for_a_lock_is_sent_again),
		cmocka_unit_test(our_own_queue_is_declared_anew),
		cmocka_unit_test(a_broker_that_cannot_be_told_ends_it),
		cmocka_unit_test(the_queue_is_bound_again_four_times_a_second),
		cmocka_unit_test(long_pages_listen_in_between),
		cmocka_unit_test(a_blocked_broker_is_waited_for),
		cmocka_unit_test(a_broker_that_does_not_answer_is_overdue),
		cmocka_unit_test(an_alarm_costs_the_pages_before_no_time),
		cmocka_unit_test(a_stop_waits_for_the_broker_for_a_while),
		cmocka_unit_test(delays_are_observed),
		cmocka_unit_test(nothing_is_published_while_others_think_that_we_sleep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
