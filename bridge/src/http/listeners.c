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
 * In each round a page is read for those who have most, and one for whoever has
 * least, so that one who catches up with a long history holds up nobody. Who does
 * not take what it was sent is fed no more, and let go after a while. Whose token is
 * not there any more when the tokens are read again is sent nothing from then on.
 */
#include "http/listeners.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "http/event_page.h"
#include "http/reply_room.h"
#include "http/tokens.h"
#include "link/db.h"
#include "link/statements.h"

#define LOOK_MS 50
#define HEARTBEAT_MS                                                                               \
	5000 /* also finds out who is gone: a suspended connection does not show it                    \
		  */
#define PAGE_EVENTS       "500"
#define WAITING_BYTES_MAX 262144 /* with more waiting than that, a client is fed no more */
#define TIMEOUT_MS        6000   /* of a statement: nobody has a word meanwhile, for 15 s at most */
#define GRACE_MS          2000
#define CONNECT_TIMEOUT_S "2"
#define STUCK_MS          30000 /* and let go if that lasts: it may come back for the rest */

#define CLIENT_BYTES_MAX 48

typedef struct Listener
{
	struct Listener *next;
	HttpStream      *stream;
	char             address[CLIENT_BYTES_MAX];
	char            *authorization; /* as it came, if tokens are asked for */
	Scope            scope;         /* that its token must have */
	unsigned         generation;    /* of the tokens that it was held against last */
	int64_t   after;      /* has all events up to this one; -1: begins with the next settled head */
	bool      is_greeted; /* told where it begins */
	bool      is_gone;
	long long behind_ms;  /* since when too much has been waiting; 0: it is not */
	long long stuck_ms;   /* since when it has hardly taken of that */
	size_t    stuck_with; /* how much it was then */
} Listener;

typedef struct Horizon
{
	int64_t  settled;  /* no event up to this one is still to come; -1: not known */
	int64_t  seen;     /* the last head that was read */
	int64_t  head;     /* will be settled when ... */
	uint64_t next_xid; /* ... no older transaction runs; 0: none is waited for */
} Horizon;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Listener       *joined;     /* not seen by the thread yet */
static json_t         *by_address; /* how many listen from each */
static int             nlisteners;

static int
listening_from(const char *address)
{
	return (int) json_integer_value(json_object_get(by_address, address));
}

static void
count_address(const char *address, int change)
{
	int count = listening_from(address) + change;

	if (by_address == NULL)
		by_address = json_object();
	if (count > 0)
		json_object_set_new(by_address, address, json_integer(count));
	else
		json_object_del(by_address, address);
}

static bool
may_join_from(HttpExchange *exchange, Listener *listener)
{
	http_client_address(exchange, listener->address, sizeof(listener->address));
	/* all that come by a socket of the file system are without one */
	return strcmp(listener->address, "-") == 0 ||
		   listening_from(listener->address) < config.listeners_per_address_max;
}

/* Its token was held against the tokens as they were then: they may be others by now. */
static void
note_token(HttpExchange *exchange, Listener *listener, Scope scope)
{
	const char *authorization = http_header(exchange, "Authorization");

	listener->scope = scope;
	if (tokens_are_required() && authorization != NULL)
		listener->authorization = strdup(authorization);
}

static bool
is_revoked(Listener *listener)
{
	unsigned generation = tokens_generation();

	if (listener->generation == generation)
		return false;
	listener->generation = generation;
	return tokens_check(listener->authorization, listener->scope) != TOKEN_ACCEPTED;
}

static void
free_listener(Listener *listener)
{
	if (listener != NULL)
		free(listener->authorization);
	free(listener);
}

void
listeners_add(HttpExchange *exchange, Scope scope, long long last_event_id)
{
	Listener *listener = calloc(1, sizeof(Listener));
	bool      may_join;

	pthread_mutex_lock(&mutex);
	may_join = listener != NULL && nlisteners < config.listeners_max && !stop_requested() &&
			   may_join_from(exchange, listener);
	if (may_join)
		listener->stream = http_stream_begin(exchange, "text/event-stream");
	may_join = may_join && listener->stream != NULL;
	if (may_join)
	{
		note_token(exchange, listener, scope);
		listener->after = last_event_id;
		listener->next = joined;
		joined = listener;
		count_address(listener->address, 1);
		metric_set(METRIC_LISTENERS, ++nlisteners);
	}
	pthread_mutex_unlock(&mutex);
	if (may_join)
		return;
	free_listener(listener);
	http_set_header(exchange, "Retry-After", "5");
	http_problem(exchange, 503, "Service Unavailable", "there are too many listeners", NULL, NULL);
}

static void
let_go(Listener *listener, bool abort)
{
	if (abort)
		http_stream_abort(listener->stream);
	else
		http_stream_release(listener->stream);
	pthread_mutex_lock(&mutex);
	count_address(listener->address, -1);
	free_listener(listener);
	metric_set(METRIC_LISTENERS, --nlisteners);
	pthread_mutex_unlock(&mutex);
}

static bool
is_fed(const Listener *listener)
{
	return listener->is_greeted && !listener->is_gone && listener->behind_ms == 0;
}

/* Sends a text to one, or finds it gone; NULL: memory is short. What was read after its token was
 * revoked is not sent. */
static void
say(Listener *listener, HttpText *text, size_t from)
{
	listener->is_gone |=
		is_revoked(listener) || text == NULL || !http_stream_send(listener->stream, text, from);
}

/* True if too much has been waiting for the listener for too long, and it has hardly taken of it,
 * or others need the memory. */
static bool
is_stuck(Listener *listener)
{
	size_t    waiting = http_stream_waiting(listener->stream);
	long long now = monotonic_ms();

	if (waiting <= WAITING_BYTES_MAX)
	{
		listener->behind_ms = 0;
		return false;
	}
	if (listener->behind_ms == 0 || waiting + WAITING_BYTES_MAX <= listener->stuck_with)
	{
		listener->stuck_ms = now;
		listener->stuck_with = waiting;
	}
	if (listener->behind_ms == 0)
		listener->behind_ms = now;
	return now - (reply_room_is_short() ? listener->behind_ms : listener->stuck_ms) > STUCK_MS;
}

/* Notes who does not read, and lets go of those who are gone or have not read for long. */
static void
sort_out(Listener **listeners, bool is_heartbeat_due)
{
	Listener **link = listeners;
	HttpText  *heartbeat = is_heartbeat_due ? http_text_create(":\n\n") : NULL;

	while (*link != NULL)
	{
		Listener *listener = *link;
		bool      stuck = is_stuck(listener);

		listener->is_gone |= is_revoked(listener);
		/* also to those who have not been told anything yet: an old transaction may hold that up */
		if (heartbeat != NULL && !listener->is_gone && listener->behind_ms == 0)
			say(listener, heartbeat, 0);
		if (stuck || listener->is_gone)
		{
			*link = listener->next;
			let_go(listener, true);
		}
		else
			link = &listener->next;
	}
	http_text_release(heartbeat);
}

/* Moves the horizon to the last event below which nothing is still to come; false if the database
 * is away. */
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
	if (!ok)
		return false;
	if (db_query(db, "reading the transactions", SQL_NEXT_AND_OLDEST_XID, 0, NULL, &result) !=
		DB_OK)
	{
		PQclear(result);
		return false;
	}
	next_xid = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
	oldest_xid = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
	PQclear(result);

	horizon->seen = head;
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

/*
 * Tells those who have joined where they begin: an id without an event, which
 * they will ask from again should they lose us before the first one. Those who ask
 * from where there is no history are told that there is a gap.
 */
static bool
greet(Db *db, Listener *listeners, const Horizon *horizon)
{
	for (Listener *listener = listeners; listener != NULL && horizon->settled >= 0;
		 listener = listener->next)
	{
		char      text[160];
		HttpText *greeting;
		bool      has_gap = false;
		PGresult *result;

		if (listener->is_greeted)
			continue;
		if (listener->after >= 0)
		{
			bool ok = db_query(db, "looking for the first event", SQL_OUTBOX_TAIL, 0, NULL,
							   &result) == DB_OK;

			has_gap = ok && (listener->after > horizon->seen ||
							 (!PQgetisnull(result, 0, 0) &&
							  strtoll(PQgetvalue(result, 0, 0), NULL, 10) > listener->after + 1));
			PQclear(result);
			if (!ok)
				return false;
		}
		if (listener->after < 0 || listener->after > horizon->seen)
			listener->after = horizon->settled;
		snprintf(text, sizeof(text), "id: %" PRId64 "\nretry: 1000\n%s\n", listener->after,
				 has_gap
					 ? "event: gap\ndata: {\"reason\": \"not all events since then are kept\"}\n"
					 : "");
		listener->is_greeted = true;
		greeting = http_text_create(text);
		say(listener, greeting, 0);
		http_text_release(greeting);
	}
	return true;
}

/* Reads the page after that event and sends it to those who have all up to there; false if the
 * database is away. */
static bool
send_page(Db *db, Listener *listeners, int64_t after, int64_t settled)
{
	char        after_text[24];
	char        settled_text[24];
	const char *params[3] = {after_text, settled_text, PAGE_EVENTS};
	EventPage   page = {0};
	PGresult   *result;
	bool        ok;
	bool        is_made;

	snprintf(after_text, sizeof(after_text), "%" PRId64, after);
	snprintf(settled_text, sizeof(settled_text), "%" PRId64, settled);
	ok = db_query(db, "reading events for listeners", SQL_SETTLED_EVENTS, 3, params, &result) ==
		 DB_OK;
	is_made = ok && event_page_make(&page, result); /* else it comes later */
	PQclear(result);
	for (Listener *listener = listeners; is_made && listener != NULL; listener = listener->next)
	{
		int first = 0;

		if (!is_fed(listener) || listener->after < after)
			continue;
		while (first < page.count && page.events[first].id <= listener->after)
			first++;
		if (first < page.count)
		{
			say(listener, page.text, page.events[first].start);
			listener->after = page.events[page.count - 1].id;
		}
		/* the ids up to there are of transactions that were rolled back */
		if (page.count == 0 && listener->after < settled)
			listener->after = settled;
	}
	event_page_free(&page);
	return ok;
}

/* What those who have most have of what is settled, if they lack something; else -1. */
static int64_t
most_of(const Listener *listeners, int64_t settled)
{
	int64_t most = -1;

	for (const Listener *listener = listeners; listener != NULL; listener = listener->next)
	{
		if (is_fed(listener) && listener->after < settled && listener->after > most)
			most = listener->after;
	}
	return most;
}

static int64_t
least_of(const Listener *listeners, int64_t settled)
{
	int64_t least = settled;

	for (const Listener *listener = listeners; listener != NULL; listener = listener->next)
	{
		if (is_fed(listener) && listener->after < least)
			least = listener->after;
	}
	return least;
}

/* A page for those who have most and still lack something, and one for who has least; none while
 * memory is short. *is_behind: a page was not enough for the first ones. */
static bool
send_settled(Db *db, Listener *listeners, int64_t settled, bool *is_behind)
{
	int64_t most = most_of(listeners, settled);
	int64_t least = least_of(listeners, settled);
	bool    ok;

	*is_behind = false;
	if (most < 0 || reply_room_is_short())
		return true;
	ok = send_page(db, listeners, most, settled) &&
		 (least == most || send_page(db, listeners, least, settled));
	*is_behind = ok && most_of(listeners, settled) > most;
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

/* Reads and sends what is new; false if the database is away. */
static bool
serve(Db *db, Listener *listeners, Horizon *horizon, bool *is_behind)
{
	if (!db_is_alive(db))
	{
		*horizon = (Horizon){.settled = -1};
		if (!db_connect(db))
			return false;
		/* it may be another database than before, with less in it */
		for (Listener *listener = listeners; listener != NULL; listener = listener->next)
			listener->is_greeted = false;
	}
	return look(db, horizon) && greet(db, listeners, horizon) &&
		   send_settled(db, listeners, horizon->settled, is_behind);
}

void *
listeners_run(void *unused)
{
	Db        db;
	Listener *listeners = NULL;
	Horizon   horizon = {.settled = -1};
	long long heartbeat_due = 0;
	long long serve_due = 0;

	(void) unused;
	log_set_role("http.listeners");
	db_init(&db, config.database_url, "order-bridge listeners", NULL);
	/* nobody hears anything, nor is let go, as long as it waits */
	db.timeout_ms = TIMEOUT_MS;
	db.grace_ms = GRACE_MS;
	db.connect_timeout_s = CONNECT_TIMEOUT_S;
	while (!stop_requested())
	{
		bool is_heartbeat_due = monotonic_ms() >= heartbeat_due;
		bool is_behind = false;

		take_joined(&listeners);
		sort_out(&listeners, is_heartbeat_due);
		if (is_heartbeat_due)
			heartbeat_due = monotonic_ms() + HEARTBEAT_MS;
		if (listeners == NULL)
			horizon =
				(Horizon){.settled = -1}; /* the next listener must not begin with an old one */
		else if (monotonic_ms() >= serve_due && !serve(&db, listeners, &horizon, &is_behind))
			serve_due = monotonic_ms() + backoff_next(&db.backoff);
		stop_wait_ms(is_behind ? 0 : LOOK_MS);
	}
	take_joined(&listeners);
	while (listeners != NULL)
	{
		Listener *listener = listeners;

		listeners = listener->next;
		let_go(listener, false);
	}
	db_close(&db);
	return NULL;
}
