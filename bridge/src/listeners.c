/*
 * listeners.c
 *		GET /events: server-sent events of what is committed, to any number of listeners.
 *
 * Events go out by their id, so that a client that comes back with Last-Event-ID
 * gets what it missed from the outbox's history. For that no event may go out
 * while a lower id can still be committed: the head of the ids is read, then the
 * next transaction id, and all ids up to that head are settled once the oldest
 * transaction running is not older than that. A transaction that stays open
 * therefore holds the stream up, unlike the relay.
 *
 * (The format: https://html.spec.whatwg.org/multipage/server-sent-events.html)
 */
#include "listeners.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "db.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "stop.h"

#define LOOK_MS          50
#define HEARTBEAT_MS 5000 /* also finds out who is gone: a suspended connection does not show it */
#define PAGE_EVENTS      "1000"
#define BEHIND_BYTES_MAX 4194304 /* one that does not read is let go; it may come back for the rest */

typedef struct Listener
{
	struct Listener *next;
	HttpStream      *stream;
	int64_t          after; /* has all events up to this one; -1: begins with the next settled head */
} Listener;

typedef struct Horizon
{
	int64_t  settled;  /* no event up to this one is still to come; -1: not known */
	int64_t  head;     /* will be settled when ... */
	uint64_t next_xid; /* ... no older transaction runs; 0: none is waited for */
} Horizon;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Listener       *joined; /* not seen by the thread yet */
static int             nlisteners;

void
listeners_add(HttpExchange *exchange, long long last_event_id)
{
	static const char hello[] = "retry: 1000\n\n";
	Listener         *listener = calloc(1, sizeof(Listener));
	bool              may_join;

	pthread_mutex_lock(&mutex);
	may_join = listener != NULL && nlisteners < config.listeners_max && !stop_requested();
	if (may_join)
		listener->stream = http_stream_begin(exchange, "text/event-stream");
	may_join = may_join && listener->stream != NULL;
	if (may_join)
	{
		listener->after = last_event_id;
		if (!http_stream_send(listener->stream, hello, strlen(hello), BEHIND_BYTES_MAX))
			log_debug("a listener had no memory for a hello");
		listener->next = joined;
		joined = listener;
		metric_set(METRIC_LISTENERS, ++nlisteners);
	}
	pthread_mutex_unlock(&mutex);
	if (may_join)
		return;
	free(listener);
	http_set_header(exchange, "Retry-After", "5");
	http_problem(exchange, 503, "Service Unavailable", "there are too many listeners", NULL, NULL);
}

static void
let_go(Listener *listener)
{
	http_stream_release(listener->stream);
	free(listener);
	pthread_mutex_lock(&mutex);
	metric_set(METRIC_LISTENERS, --nlisteners);
	pthread_mutex_unlock(&mutex);
}

/* Sends a text to the listeners that have not got the event yet (-1: to all), and lets go of those who cannot take it. */
static void
send_to_all(Listener **listeners, const char *text, int64_t event_id)
{
	Listener **link = listeners;

	while (*link != NULL)
	{
		Listener *listener = *link;

		if (event_id >= 0 && listener->after >= event_id)
			link = &listener->next;
		else if (http_stream_send(listener->stream, text, strlen(text), BEHIND_BYTES_MAX))
		{
			if (event_id >= 0)
				listener->after = event_id;
			link = &listener->next;
		}
		else
		{
			*link = listener->next;
			let_go(listener);
		}
	}
}

/* Moves the horizon to the last event below which nothing is still to come; false if the database is away. */
static bool
look(Db *db, Horizon *horizon)
{
	PGresult *result;
	int64_t   head = 0;
	uint64_t  next_xid = 0;
	uint64_t  oldest_xid = 0;
	bool      ok;

	/* in this order, each with a snapshot of its own */
	ok = db_query(db, "reading the head of the events", SQL_OUTBOX_HEAD, 0, NULL, &result) == DB_OK;
	if (ok)
		head = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	ok = ok && db_query(db, "reading the transactions", SQL_NEXT_AND_OLDEST_XID, 0, NULL, &result) == DB_OK;
	if (!ok)
		return false;
	next_xid = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	oldest_xid = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
	PQclear(result);

	if (horizon->next_xid == 0)
	{
		horizon->head = head;
		horizon->next_xid = next_xid;
	}
	if (oldest_xid >= horizon->next_xid)
	{
		horizon->settled = horizon->head;
		horizon->next_xid = 0;
	}
	return true;
}

/* Sends what is settled and some listener has not got, a page at most; false if the database is away. */
static bool
send_settled(Db *db, Listener **listeners, int64_t settled)
{
	int64_t     after = settled;
	char        after_text[24];
	char        settled_text[24];
	const char *params[3] = {after_text, settled_text, PAGE_EVENTS};
	PGresult   *result;
	bool        ok;

	for (Listener *listener = *listeners; listener != NULL; listener = listener->next)
	{
		if (listener->after < 0)
			listener->after = settled;
		after = listener->after < after ? listener->after : after;
	}
	if (after >= settled)
		return true;
	snprintf(after_text, sizeof(after_text), "%" PRId64, after);
	snprintf(settled_text, sizeof(settled_text), "%" PRId64, settled);
	ok = db_query(db, "reading events for listeners", SQL_SETTLED_EVENTS, 3, params, &result) == DB_OK;
	for (int i = 0; ok && i < PQntuples(result); i++)
	{
		char *text = NULL;

		if (asprintf(&text, "id: %s\nevent: %s\ndata: %s\n\n", PQgetvalue(result, i, 0), PQgetvalue(result, i, 1),
					 PQgetvalue(result, i, 2)) < 0)
			break;
		send_to_all(listeners, text, strtoll(PQgetvalue(result, i, 0), NULL, 10));
		free(text);
	}
	/* ids of transactions that were rolled back are passed over */
	if (ok && PQntuples(result) < atoi(PAGE_EVENTS))
	{
		for (Listener *listener = *listeners; listener != NULL; listener = listener->next)
			listener->after = settled > listener->after ? settled : listener->after;
	}
	PQclear(result);
	return ok;
}

/* Takes over those who have joined since. */
static void
take_joined(Listener **listeners)
{
	pthread_mutex_lock(&mutex);
	while (joined != NULL)
	{
		Listener *listener = joined;

		joined = listener->next;
		listener->next = *listeners;
		*listeners = listener;
	}
	pthread_mutex_unlock(&mutex);
}

void *
listeners_run(void *unused)
{
	Db        db;
	Listener *listeners = NULL;
	Horizon   horizon = {.settled = -1};
	long long heartbeat_due = 0;

	(void) unused;
	log_set_role("http.listeners");
	db_init(&db, config.database_url, "order-bridge listeners", NULL);
	while (!stop_requested())
	{
		take_joined(&listeners);
		if (listeners == NULL)
			horizon = (Horizon){.settled = -1}; /* the next listener must not begin with an old one */
		if (listeners != NULL && (db_is_connected(&db) || db_connect(&db)))
		{
			if (!look(&db, &horizon) || !send_settled(&db, &listeners, horizon.settled))
				stop_wait_ms(backoff_next(&db.backoff));
		}
		if (monotonic_ms() >= heartbeat_due)
		{
			send_to_all(&listeners, ":\n\n", -1);
			heartbeat_due = monotonic_ms() + HEARTBEAT_MS;
		}
		stop_wait_ms(LOOK_MS);
	}
	take_joined(&listeners);
	while (listeners != NULL)
	{
		Listener *listener = listeners;

		listeners = listener->next;
		let_go(listener);
	}
	db_close(&db);
	return NULL;
}
