/*
 * relay_fake.c
 *		For unit tests of the relay: a broker, a database and a clock that do what they are told.
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
#include "base/log.h"
#include "base/roles.h"
#include "base/stop.h"
#include "link/statements.h"
#include "relay_fake.h"

#define COLUMNS 8

Fake   fake;
Config config;

static Relay *the_relay;

static void
forget_headers(void)
{
	for (int n = 0; n < fake.nsent; n++)
	{
		for (int i = 0; i < fake.sent[n].nheaders; i++)
		{
			free((char *) fake.sent[n].headers[i].name);
			free((char *) fake.sent[n].headers[i].text);
		}
	}
}

Relay *
fake_relay(void)
{
	if (the_relay != NULL)
	{
		relay_free_pages(the_relay);
		relay_forget(the_relay);
		snapshot_free(&the_relay->snapshot);
		snapshot_free(&the_relay->window);
		free(the_relay);
	}
	forget_headers();
	fake_forget_answers();
	memset(&fake, 0, sizeof(fake));
	fake.now_ms = 100000;
	config = (Config){.placed_queue = true,
					  .rabbitmq_url = "amqp://fake",
					  .relay_window = 400,
					  .relay_window_bytes = 4000,
					  .broker_timeout_s = 10,
					  .relay_lease_s = 30,
					  .relay_linger_ms = 7};
	the_relay = calloc(1, sizeof(Relay));
	the_relay->broker = (Broker *) &fake;
	the_relay->bind_due_ms = the_relay->lease_due_ms = fake.now_ms + 1000000;
	return the_relay;
}

/* ---------- rows ---------- */

static void
set_value(PGresult *rows, int row, int column, const char *text)
{
	PQsetvalue(rows, row, column, (char *) text, text != NULL ? (int) strlen(text) : -1);
}

static PGresult *
make_rows(int ncolumns)
{
	PGresult    *rows = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
	PGresAttDesc columns[COLUMNS];

	for (int i = 0; i < ncolumns; i++)
		columns[i] = (PGresAttDesc){.name = (char *) "column", .typlen = -1};
	PQsetResultAttrs(rows, ncolumns, columns);
	return rows;
}

PGresult *
fake_rows(const FakeEvent *events, int count)
{
	PGresult *rows = make_rows(COLUMNS);

	for (int i = 0; i < count; i++)
	{
		const FakeEvent *event = &events[i];
		char             text[32];

		snprintf(text, sizeof(text), "%lld", (long long) event->event_id);
		set_value(rows, i, COLUMN_EVENT_ID, text);
		snprintf(text, sizeof(text), "m%lld", (long long) event->event_id);
		set_value(rows, i, COLUMN_MESSAGE_ID, text);
		set_value(rows, i, COLUMN_ROUTING_KEY, event->routing_key);
		set_value(rows, i, COLUMN_MANDATORY, event->mandatory ? "t" : "f");
		set_value(rows, i, COLUMN_HEADERS, event->headers);
		set_value(rows, i, COLUMN_PAYLOAD, event->payload ? event->payload : "{}");
		snprintf(text, sizeof(text), "%lld", (long long) event->created_at_us);
		set_value(rows, i, COLUMN_CREATED_AT_US, text);
		set_value(rows, i, COLUMN_PLACED_AT, event->placed_at);
	}
	return rows;
}

PGresult *
fake_keys(int64_t first, int count, const char *const *routing_keys)
{
	FakeEvent *events = calloc((size_t) count, sizeof(FakeEvent));
	PGresult  *rows;

	for (int i = 0; i < count; i++)
		events[i] = (FakeEvent){.event_id = first + i, .routing_key = routing_keys[i]};
	rows = fake_rows(events, count);
	free(events);
	return rows;
}

PGresult *
fake_texts(int count, const char *const *texts)
{
	PGresult *rows = make_rows(1);

	for (int i = 0; i < count; i++)
		set_value(rows, i, 0, texts[i]);
	return rows;
}

PGresult *
fake_row(int count, const char *const *texts)
{
	PGresult *rows = make_rows(count);

	for (int i = 0; i < count; i++)
		set_value(rows, 0, i, texts[i]);
	return rows;
}

void
fake_answer(PGresult *result)
{
	fake.answers[fake.nanswers++] = result;
}

void
fake_forget_answers(void)
{
	while (fake.nanswers > 0)
		PQclear(fake.answers[--fake.nanswers]);
}

/* ---------- the broker ---------- */

void
fake_confirm(Relay *relay, uint64_t tag, bool is_ack)
{
	relay_broker_events(relay)->on_confirm(relay, tag, is_ack);
}

void
fake_return(Relay *relay, const char *message_id)
{
	relay_broker_events(relay)->on_return(relay, message_id, 312, "NO_ROUTE");
}

int
fake_take_answers(Relay *relay)
{
	int  published = 0;
	bool progressed = false;

	assert_true(relay_take_answers(relay, false, &published, &progressed));
	assert_true(progressed || published == 0);
	return published;
}

/* What that broker is, if it is no relay's own. */
static FakeTrial *
trial_of(const Broker *broker)
{
	return (const void *) broker == &fake ? NULL : (FakeTrial *) broker;
}

Broker *
broker_open(const char *url, const char *name, int publish_timeout_ms, const BrokerEvents *events)
{
	FakeTrial *trial = &fake.trials[fake.ntrials];

	assert_string_equal(url, "amqp://fake");
	assert_non_null(strstr(name, "silent"));
	assert_int_equal(publish_timeout_ms, config.broker_timeout_s == 60 ? 20000 : 10000);
	if (fake.cannot_connect)
	{
		fake.refused++;
		return NULL;
	}
	assert_true(++fake.ntrials < FAKE_TRIALS_MAX);
	trial->events = *events;
	return (Broker *) trial;
}

void
broker_close(Broker *broker)
{
	if (broker != NULL)
		trial_of(broker)->is_closed = true;
}

static bool
process_trial(FakeTrial *trial)
{
	assert_false(trial->is_closed);
	if (trial->returns)
		trial->events.on_return(trial->events.context, trial->message_id, 312, "NO_ROUTE");
	if (trial->acks || trial->returns || trial->nacks)
		trial->events.on_confirm(trial->events.context, 1, !trial->nacks);
	return !trial->is_lost;
}

uint64_t
broker_publish(Broker *broker, const BrokerMessage *message)
{
	FakeSent *sent = &fake.sent[fake.nsent];

	if (fake.cannot_publish)
		return 0;
	if (trial_of(broker) != NULL)
	{
		assert_true(trial_of(broker)->is_bound);
		snprintf(trial_of(broker)->message_id, sizeof(sent->message_id), "%s", message->message_id);
		return 1;
	}
	fake.nsent++;
	snprintf(sent->message_id, sizeof(sent->message_id), "%s", message->message_id);
	snprintf(sent->routing_key, sizeof(sent->routing_key), "%s %s %s", message->exchange,
			 message->routing_key, message->type);
	snprintf(sent->body, sizeof(sent->body), "%s", (const char *) message->body);
	sent->body_bytes = message->body_bytes;
	sent->mandatory = message->mandatory;
	sent->timestamp = message->timestamp;
	sent->nheaders = message->nheaders;
	for (int i = 0; i < message->nheaders; i++)
	{
		BrokerHeader *header = &sent->headers[i];

		*header = message->headers[i];
		header->name = strdup(header->name);
		header->text = header->kind == AMQP_HEADER_TEXT ? strdup(header->text) : NULL;
	}
	return (uint64_t) fake.nsent;
}

bool
broker_process(Broker *broker, int timeout_ms)
{
	if (trial_of(broker) != NULL)
	{
		assert_int_equal(timeout_ms, 0);
		return process_trial(trial_of(broker));
	}
	fake.processed++;
	fake.now_ms += timeout_ms;
	while (fake.acknowledges && fake.nacknowledged < fake.nsent)
		fake_confirm(the_relay, (uint64_t) ++fake.nacknowledged, true);
	return !fake.is_lost;
}

void
broker_doubt(const Broker *broker)
{
	assert_null(trial_of(broker));
	fake.doubts++;
}

void
broker_give_up(Broker *broker)
{
	(void) broker;
	fake.given_up++;
}

bool
broker_is_blocked(const Broker *broker)
{
	if (trial_of(broker) != NULL)
		return trial_of(broker)->is_blocked;
	return fake.blocked_for > 0 && fake.blocked_for-- > 0;
}

bool
broker_declare(Broker *broker, int *limited)
{
	(void) broker;
	(void) limited;
	fake.declared++;
	return !fake.is_lost;
}

bool
broker_bind_again(Broker *broker)
{
	(void) broker;
	fake.bound++;
	return !fake.is_lost;
}

bool
broker_bind_like(const Broker *first, Broker *broker)
{
	assert_null(trial_of(first));
	trial_of(broker)->is_bound = true;
	return !trial_of(broker)->is_lost;
}

const BrokerRefusal *
broker_refusal(const Broker *broker)
{
	return trial_of(broker) != NULL ? &trial_of(broker)->refusal : &fake.refusal;
}

/* ---------- the database ---------- */

DbOutcome
db_query(Db *db, const char *doing, const char *sql, int nparams, const char *const *params,
		 PGresult **result)
{
	bool fails;

	(void) doing;
	if (fake.nqueries < 16)
		fake.asked[fake.nqueries] = sql;
	fake.nqueries++;
	fake.nlines = 0;
	fake.sql = sql;
	fails = fake.fails_from > 0 && fake.nqueries >= fake.fails_from;
	for (int i = 0; i < 7; i++)
	{
		fake.are_null[i] = i < nparams && params[i] == NULL;
		snprintf(fake.params[i], FAKE_TEXT_BYTES, "%s", i < nparams && params[i] ? params[i] : "");
	}
	if (sql == SQL_RELAY_ADVANCE)
	{
		fake.ncheckpoints++;
		memcpy(fake.checkpoint, fake.params, sizeof(fake.checkpoint));
	}
	*result = NULL;
	db->has_rung |= fake.rings;
	if (fake.outcome == DB_LOST)
		return DB_LOST;
	if (fake.outcome == DB_OK && !fails && fake.nanswers > 0)
	{
		*result = fake.answers[0];
		fake.nanswers--;
		for (int i = 0; i < fake.nanswers; i++)
			fake.answers[i] = fake.answers[i + 1];
	}
	if (*result == NULL)
		*result = fake_texts(0, NULL); /* there is always something to be cleared */
	if (fails || fake.outcome == DB_ERROR)
		fake.now_ms += fake.is_locked ? fake.lock_ms : 0;
	return fails ? DB_ERROR : fake.outcome;
}

bool
db_is_locked_out(const PGresult *result)
{
	(void) result;
	return fake.is_locked;
}

bool
db_is_connected(const Db *db)
{
	(void) db;
	return !fake.is_disconnected;
}

void
db_close(Db *db)
{
	(void) db;
	fake.is_disconnected = true;
}

DbOutcome
db_query_prepared(Db *db, const char *doing, const char *sql, int nparams,
				  const char *const *params, PGresult **result)
{
	return db_query(db, doing, sql, nparams, params, result);
}

DbOutcome
db_query_each(Db *db, const char *doing, const char *sql, int count, PGresult **results)
{
	DbOutcome outcome = DB_OK;

	for (int i = 0; i < count; i++)
	{
		fake.nqueries -= i > 0; /* it is one */
		outcome = db_query(db, doing, sql, 0, NULL, &results[i]);
	}
	return outcome;
}

/* ---------- the rest ---------- */

long long
monotonic_ms(void)
{
	return fake.now_ms;
}

bool
stop_requested(void)
{
	return fake.stop || (fake.stops_at > 0 && fake.nsent >= fake.stops_at);
}

void
backoff_reset(Backoff *backoff)
{
	(void) backoff;
	fake.nbackoffs++;
}

void
stop_wait_ms(int milliseconds)
{
	fake.waited_ms += milliseconds;
}

void
role_begins(Role role)
{
	(void) role;
	fake.begins++;
}

void
role_progresses(Role role)
{
	(void) role;
	fake.progresses++;
}

void
role_rests(Role role)
{
	(void) role;
	fake.rests++;
}

void
metric_set(Metric metric, int64_t value)
{
	fake.metrics[metric] = value;
}

void
metric_add(Metric metric, int64_t by)
{
	fake.metrics[metric] += by;
}

void
metric_observe(Histogram histogram, double value)
{
	fake.observed[histogram] = value;
	fake.nobserved[histogram]++;
}

void
log_line(LogLevel level, const char *format, ...)
{
	va_list words;

	va_start(words, format);
	vsnprintf(fake.log, sizeof(fake.log), format, words);
	va_end(words);
	if (level == LOG_LEVEL_ERROR && fake.nlines < 2)
		strcpy(fake.lines[fake.nlines++], fake.log);
}
