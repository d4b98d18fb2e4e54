/*
 * relay.c
 *		The relay role: committed events, from the outbox to RabbitMQ.
 *
 *		standby --lock--> leading: drain -> idle -> (bell, poll) -> drain ...
 *		   ^                 |
 *		   +-- any connection lost, or fenced
 *
 * Draining. A checkpoint is a snapshot: all that it sees is with the broker. A
 * window is what a later snapshot sees and the checkpoint does not: events of
 * transactions from the checkpoint's xmax on, and of those below that it saw
 * running and that have ended since. It is read in pages by event id, each page
 * in a transaction of its own that has ended before anything is published.
 *
 * Where to begin reading: a transaction gets its id before its first event id.
 * So if first the head (the last event id given out) is read, and then the next
 * transaction id, all transactions from that id on have only events above that
 * head. Every transaction that had begun but not ended at the checkpoint is
 * remembered with the head of the checkpoint before it, which is below all of
 * its events. So a transaction that stays open for hours costs nothing until
 * it ends, and nothing is looked at twice. (A snapshot's xmax would not do in
 * place of the next id: it is one more than the last id that has ended.)
 *
 * Some pages are under way at once: the next is read and published while the
 * broker still confirms the ones before, because a queue may confirm late (a
 * classic one does so by a timer) and must not stop the rest. They are retired
 * in their order. The checkpoint moves only over events that the broker has
 * confirmed, or that are parked because no queue takes them. Whatever is lost on
 * the way there is published again under the same message_id.
 */
#include "relay.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "amqp.h"
#include "config.h"
#include "db.h"
#include "fault.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "snapshot.h"
#include "stop.h"
#include "text.h"

#define STANDBY_POLL_MS 1000
#define NAP_MS_MIN      2
#define NAP_MS_MAX      200
#define RESEND_MS_MIN   50
#define RESEND_MS_MAX   1000
#define STOP_MS_MAX     5000 /* for the broker's answers once a stop is requested */
#define HEADERS_MAX     32
#define PAGES_MAX       4
#define NOTE_MS         5000
#define BUSY_EVENTS_MIN 8 /* a round that brings so many is not one order's */

typedef enum EventState
{
	EVENT_TO_SEND,  /* not published yet, or nacked */
	EVENT_SENT,     /* published; the broker has not answered */
	EVENT_RETURNED, /* no queue takes it, and it is parked; its ack is still to come */
	EVENT_UNROUTED, /* no queue took it, though ours should have; its ack is still to come */
	EVENT_DONE      /* confirmed or parked */
} EventState;

/* One page of events on its way. */
typedef struct Page
{
	PGresult   *rows;
	int         count;
	EventState *states;
	int         unanswered; /* EVENT_SENT, EVENT_RETURNED and EVENT_UNROUTED */
	int         refused;    /* to be sent again: nacked, or unrouted */
	bool        declared;   /* what we declare was declared anew for this page */
	long long   due_ms;     /* when the broker must have answered for all of it */
} Page;

/* Which event a publish was. */
typedef struct Sent
{
	Page *page;
	int   event;
} Sent;

typedef struct Relay
{
	Db      db;
	Amqp   *amqp;
	Backoff backoff; /* between attempts to lead */
	Backoff resend;  /* between attempts to publish what the broker refused */
	char    holder[128];
	char    epoch[24];

	char     snapshot_text[65536]; /* the checkpoint */
	Snapshot snapshot;
	int64_t  head;              /* transactions not running at the checkpoint have events above it only */
	int64_t  low;               /* nothing is left to relay up to here */
	char     relayed_until[40]; /* what was committed before is with the broker; empty: not known yet */

	char     window_text[65536]; /* the window being drained; empty: none */
	Snapshot window;
	int64_t  window_head;
	char     window_opened[40]; /* the server's time then: what was committed before is in it, or was before */
	uint64_t next_xid;          /* when the last window was opened */
	int64_t  cursor;            /* all of the window up to here is done */

	Page      pages[PAGES_MAX]; /* those under way: npages from first_page on, round the array */
	int       first_page;
	int       npages;
	Sent      sent[AMQP_UNCONFIRMED_MAX]; /* by tag */
	long long note_due_ms;                /* when the checkpoint is to be written though no event came */
	long long stop_due_ms;                /* 0: no stop was requested yet */
	long long lease_due_ms;               /* when the database must hear of us again */
} Relay;

static int
lease_ms(void)
{
	return config.relay_lease_s * 1000;
}

static int
broker_timeout_ms(void)
{
	return config.broker_timeout_s * 1000;
}

/* A publish that blocks must not outlast the lease. */
static int
publish_timeout_ms(void)
{
	int two_thirds = lease_ms() / 3 * 2;

	return broker_timeout_ms() < two_thirds ? broker_timeout_ms() : two_thirds;
}

static int
page_events(void)
{
	return config.relay_window / PAGES_MAX;
}

enum EventColumn
{
	COLUMN_EVENT_ID,
	COLUMN_MESSAGE_ID,
	COLUMN_ROUTING_KEY,
	COLUMN_MANDATORY,
	COLUMN_HEADERS,
	COLUMN_PAYLOAD,
	COLUMN_CREATED_AT_US
};

/* ---------- what the broker says ---------- */

static Page *
page_under_way(Relay *relay, int n)
{
	return &relay->pages[(relay->first_page + n) % PAGES_MAX];
}

static void
on_confirm(void *context, uint64_t tag, bool is_ack)
{
	Relay      *relay = context;
	Sent       *sent = &relay->sent[tag % AMQP_UNCONFIRMED_MAX];
	Page       *page = sent->page;
	EventState *state = &page->states[sent->event];

	page->unanswered--;
	if (!is_ack || *state == EVENT_UNROUTED)
	{
		*state = EVENT_TO_SEND;
		page->refused++;
		metric_add(METRIC_EVENTS_NACKED, !is_ack);
	}
	else if (*state == EVENT_SENT)
		*state = EVENT_DONE;
	/* EVENT_RETURNED: the ack only says that the broker is through with it */
}

/* True for the keys that the queue orders.placed is bound to: if it is there, it takes them. */
static bool
is_for_our_queue(const char *routing_key)
{
	static const char prefix[] = "order.placed.";

	return strncmp(routing_key, prefix, strlen(prefix)) == 0 && strchr(routing_key + strlen(prefix), '.') == NULL;
}

/* The sent event of that message_id, if it is on the page; -1 if not. */
static int
find_sent(const Page *page, const char *message_id)
{
	for (int i = 0; i < page->count; i++)
	{
		if (page->states[i] == EVENT_SENT && strcmp(PQgetvalue(page->rows, i, COLUMN_MESSAGE_ID), message_id) == 0)
			return i;
	}
	return -1;
}

/* Keeps the event aside before the checkpoint can pass it; if that fails, its page is not done. */
static void
park(Relay *relay, Page *page, int event, int reply_code, const char *reply_text)
{
	char        code[12];
	const char *params[3] = {PQgetvalue(page->rows, event, COLUMN_EVENT_ID), code, reply_text};
	PGresult   *result;

	snprintf(code, sizeof(code), "%d", reply_code);
	log_warning("no queue takes event %s, key %s: %d %s; parked", params[0], PQgetvalue(page->rows, event, COLUMN_ROUTING_KEY),
				reply_code, reply_text);
	if (db_query(&relay->db, "parking an event", SQL_RELAY_PARK, 3, params, &result) == DB_OK)
		page->states[event] = EVENT_RETURNED;
	else
		db_close(&relay->db);
	FAULT_POINT("relay.after_park");
	PQclear(result);
	metric_add(METRIC_EVENTS_RETURNED, 1);
}

static void
on_return(void *context, const char *message_id, int reply_code, const char *reply_text)
{
	Relay *relay = context;

	for (int n = 0; n < relay->npages; n++)
	{
		Page *page = page_under_way(relay, n);
		int   event = find_sent(page, message_id);

		if (event < 0)
			continue;
		if (!page->declared && is_for_our_queue(PQgetvalue(page->rows, event, COLUMN_ROUTING_KEY)))
			page->states[event] = EVENT_UNROUTED;
		else
			park(relay, page, event, reply_code, reply_text);
		return;
	}
}

/* ---------- publishing a page ---------- */

/* Fills headers from the event's JSON object; returns how many. The object owns the strings. */
static int
read_headers(const json_t *object, AmqpHeader *headers)
{
	const char *name;
	json_t     *value;
	int         count = 0;

	json_object_foreach((json_t *) object, name, value)
	{
		AmqpHeader *header = &headers[count];

		if (count == HEADERS_MAX)
			break;
		*header = (AmqpHeader){.name = name};
		if (json_is_string(value))
		{
			header->kind = AMQP_HEADER_TEXT;
			header->text = json_string_value(value);
		}
		else if (json_is_integer(value))
		{
			header->kind = AMQP_HEADER_INTEGER;
			header->integer = json_integer_value(value);
		}
		else if (json_is_real(value))
		{
			header->kind = AMQP_HEADER_REAL;
			header->real = json_real_value(value);
		}
		else if (json_is_boolean(value))
		{
			header->kind = AMQP_HEADER_BOOLEAN;
			header->boolean = json_is_true(value);
		}
		else
			continue;
		count++;
	}
	return count;
}

static bool
publish_event(Relay *relay, Page *page, int event)
{
	AmqpHeader  headers[HEADERS_MAX];
	json_t     *object = NULL;
	uint64_t    tag;
	AmqpMessage message = {
		.exchange = EXCHANGE_ORDERS,
		.routing_key = PQgetvalue(page->rows, event, COLUMN_ROUTING_KEY),
		.mandatory = *PQgetvalue(page->rows, event, COLUMN_MANDATORY) == 't',
		.message_id = PQgetvalue(page->rows, event, COLUMN_MESSAGE_ID),
		.type = PQgetvalue(page->rows, event, COLUMN_ROUTING_KEY),
		.timestamp = strtoull(PQgetvalue(page->rows, event, COLUMN_CREATED_AT_US), NULL, 10) / 1000000,
		.headers = headers,
		.body = PQgetvalue(page->rows, event, COLUMN_PAYLOAD),
		.body_bytes = PQgetlength(page->rows, event, COLUMN_PAYLOAD),
	};

	if (!PQgetisnull(page->rows, event, COLUMN_HEADERS))
	{
		object = json_loads(PQgetvalue(page->rows, event, COLUMN_HEADERS), 0, NULL);
		if (object == NULL) /* an integer beyond 64 bits */
			object = json_loads(PQgetvalue(page->rows, event, COLUMN_HEADERS), JSON_DECODE_INT_AS_REAL, NULL);
		message.nheaders = read_headers(object, headers);
	}
	tag = amqp_client_publish(relay->amqp, &message);
	json_decref(object);
	if (tag == 0)
		return false;
	relay->sent[tag % AMQP_UNCONFIRMED_MAX] = (Sent){page, event};
	page->states[event] = EVENT_SENT;
	page->unanswered++;
	return true;
}

static bool
execute(Relay *relay, const char *doing, const char *sql)
{
	PGresult *result;
	bool      ok = db_query(&relay->db, doing, sql, 0, NULL, &result) == DB_OK;

	PQclear(result);
	return ok;
}

static void
renew_lease(Relay *relay)
{
	relay->lease_due_ms = monotonic_ms() + lease_ms() / 3;
}

/* Keeps our session while there is nothing else to ask the database: an idle one is taken for a relay that hangs. */
static bool
keep_lease(Relay *relay)
{
	if (monotonic_ms() < relay->lease_due_ms)
		return true;
	renew_lease(relay);
	return execute(relay, "keeping the relay's lease", SQL_PING);
}

/* Handles what the broker says for up to timeout_ms; false if either connection is lost. */
static bool
listen_to_broker(Relay *relay, int timeout_ms)
{
	return amqp_client_process(relay->amqp, timeout_ms) && db_is_connected(&relay->db) && keep_lease(relay);
}

/* Publishes what of the page is to be sent. */
static bool
publish_page(Relay *relay, Page *page)
{
	page->refused = 0;
	for (int i = 0; i < page->count; i++)
	{
		if (page->states[i] != EVENT_TO_SEND)
			continue;
		while (amqp_client_is_blocked(relay->amqp) && !stop_requested())
		{
			if (!listen_to_broker(relay, 100))
				return false;
		}
		FAULT_POINT("relay.before_publish");
		if (amqp_client_is_blocked(relay->amqp) || !publish_event(relay, page, i))
			return false;
		if (i % 64 == 63 && !listen_to_broker(relay, 0))
			return false;
	}
	page->due_ms = monotonic_ms() + broker_timeout_ms();
	FAULT_POINT("relay.before_confirm");
	return true;
}

/* What was refused is sent again: the first time our queue is declared anew, in case it is gone, later after a little while. */
static bool
publish_again(Relay *relay, Page *page)
{
	log_warning("RabbitMQ did not take %d events; they are published again", page->refused);
	if (!page->declared)
	{
		page->declared = true;
		if (!amqp_client_declare(relay->amqp))
			return false;
	}
	else
		stop_wait_ms(backoff_next(&relay->resend));
	return !stop_requested() && publish_page(relay, page);
}

/* True if the broker has had its time for a page, or for all of them since a stop was requested. */
static bool
is_overdue(Relay *relay)
{
	long long now = monotonic_ms();

	if (stop_requested() && relay->stop_due_ms == 0)
		relay->stop_due_ms = now + STOP_MS_MAX;
	if (relay->stop_due_ms != 0 && now > relay->stop_due_ms)
		return true;
	for (int n = 0; n < relay->npages; n++)
	{
		Page *page = page_under_way(relay, n);

		if (amqp_client_is_blocked(relay->amqp))
			page->due_ms = now + broker_timeout_ms();
		if (page->unanswered == 0 || now <= page->due_ms)
			continue;
		log_warning("RabbitMQ has not confirmed %d events for %d s", page->unanswered, config.broker_timeout_s);
		return true;
	}
	return false;
}

/* Waits a little for the broker's answers; false if a connection is lost or the broker is overdue. */
static bool
wait_for_answers(Relay *relay)
{
	return listen_to_broker(relay, 100) && !is_overdue(relay);
}

static void
free_page(Page *page)
{
	PQclear(page->rows);
	free(page->states);
	*page = (Page){0};
}

static void
free_pages(Relay *relay)
{
	for (int i = 0; i < PAGES_MAX; i++)
		free_page(&relay->pages[i]);
	relay->first_page = relay->npages = 0;
}

/* ---------- the checkpoint ---------- */

static bool
copy_snapshot(char *to, size_t size, const char *text, int64_t low_event_id, Snapshot *snapshot)
{
	snapshot_free(snapshot);
	if (snprintf(to, size, "%s", text) >= (int) size || !snapshot_parse(text, low_event_id, snapshot))
	{
		log_error("cannot read snapshot %s", text);
		return false;
	}
	return true;
}

static bool
acquire_checkpoint(Relay *relay)
{
	const char *params[1] = {relay->holder};
	PGresult   *result;
	bool        ok = false;

	if (db_query(&relay->db, "taking over the relay", SQL_RELAY_ACQUIRE, 1, params, &result) == DB_OK)
	{
		snprintf(relay->epoch, sizeof(relay->epoch), "%s", PQgetvalue(result, 0, 0));
		/* which transactions had begun is not kept: begin reading at the low event id */
		relay->head = relay->low = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
		ok = copy_snapshot(relay->snapshot_text, sizeof(relay->snapshot_text), PQgetvalue(result, 0, 1), relay->low,
						   &relay->snapshot);
		relay->window_text[0] = '\0';
		if (ok && relay->low < strtoll(PQgetvalue(result, 0, 5), NULL, 10))
			log_warning("the database was restored from another cluster: events %" PRId64
						" to %s are published, perhaps once more",
						relay->low + 1, PQgetvalue(result, 0, 5));
		if (ok && !PQgetisnull(result, 0, 3))
		{
			relay->window_head = relay->low;
			relay->cursor = strtoll(PQgetvalue(result, 0, 4), NULL, 10);
			ok = copy_snapshot(relay->window_text, sizeof(relay->window_text), PQgetvalue(result, 0, 3), relay->low,
							   &relay->window);
		}
	}
	PQclear(result);
	return ok;
}

/* Writes the checkpoint as it is now; false if the connection is lost, or another relay has taken over. */
static bool
write_checkpoint(Relay *relay, int published)
{
	char        low[24];
	char        cursor[24];
	char        count[12];
	bool        in_window = relay->window_text[0] != '\0';
	const char *params[7] = {relay->epoch,
							 relay->snapshot_text,
							 low,
							 in_window ? relay->window_text : NULL,
							 in_window ? cursor : NULL,
							 count,
							 *relay->relayed_until ? relay->relayed_until : NULL};
	PGresult   *result;
	bool        ok;

	snprintf(low, sizeof(low), "%" PRId64, relay->low);
	snprintf(cursor, sizeof(cursor), "%" PRId64, relay->cursor);
	snprintf(count, sizeof(count), "%d", published);
	ok = db_query(&relay->db, "moving the checkpoint", SQL_RELAY_ADVANCE, 7, params, &result) == DB_OK;
	if (ok && PQgetisnull(result, 0, 0))
	{
		log_warning("another relay has taken over since epoch %s", relay->epoch);
		db_close(&relay->db);
		ok = false;
	}
	PQclear(result);
	return ok;
}

/* ---------- draining ---------- */

/*
 * Opens the next window, from the checkpoint to a new snapshot: the head, the
 * next transaction id and the snapshot, in this order, in one round trip.
 */
static bool
open_window(Relay *relay)
{
	PGresult *result;
	bool      ok = true;
	int       nresults = 0;

	if (!db_is_connected(&relay->db) || !PQsendQuery(relay->db.connection, SQL_RELAY_HORIZON))
	{
		db_close(&relay->db);
		return false;
	}
	while (db_is_connected(&relay->db) && (result = PQgetResult(relay->db.connection)) != NULL)
	{
		ok = ok && db_outcome(&relay->db, "looking for events", result) == DB_OK;
		if (ok && nresults == 0)
			relay->window_head = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
		else if (ok && nresults == 1)
		{
			relay->next_xid = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
			snprintf(relay->window_opened, sizeof(relay->window_opened), "%s", PQgetvalue(result, 0, 1));
		}
		else if (ok)
			ok = copy_snapshot(relay->window_text, sizeof(relay->window_text), PQgetvalue(result, 0, 0), relay->head,
							   &relay->window);
		nresults++;
		PQclear(result);
	}
	if (!ok || nresults != 3 || !db_is_connected(&relay->db) || !snapshot_add_begun(&relay->window, relay->next_xid, relay->head))
		return false;
	snapshot_inherit(&relay->window, &relay->snapshot);
	return true;
}

/* Where the window's events can begin: the cursor of a window before its first page. */
static int64_t
window_start(const Relay *relay)
{
	int64_t start = relay->head;

	for (int i = 0; i < relay->snapshot.nrunning; i++)
	{
		const RunningXid *running = &relay->snapshot.running[i];

		if (snapshot_sees(&relay->window, running->xid) && running->low_event_id < start)
			start = running->low_event_id;
	}
	return start;
}

/* The transactions that the checkpoint saw running and the window's end sees ended, as a PostgreSQL array. */
static char *
finished_xids(const Relay *relay)
{
	char       *text = NULL;
	size_t      size;
	FILE       *stream = open_memstream(&text, &size);
	const char *separator = "";

	if (stream == NULL)
		return NULL;
	fputc('{', stream);
	for (int i = 0; i < relay->snapshot.nrunning; i++)
	{
		if (!snapshot_sees(&relay->window, relay->snapshot.running[i].xid))
			continue;
		fprintf(stream, "%s%" PRIu64, separator, relay->snapshot.running[i].xid);
		separator = ",";
	}
	fputc('}', stream);
	return text_finish(stream, &text);
}

static bool
read_page(Relay *relay, Page *page, const char *finished, int64_t after)
{
	char        after_text[24];
	char        from_xid[24];
	char        limit[12];
	const char *params[5] = {after_text, from_xid, finished, relay->window_text, limit};

	snprintf(after_text, sizeof(after_text), "%" PRId64, after);
	snprintf(from_xid, sizeof(from_xid), "%" PRIu64, relay->snapshot.xmax);
	snprintf(limit, sizeof(limit), "%d", page_events());
	if (db_query(&relay->db, "reading events", SQL_RELAY_EVENTS, 5, params, &page->rows) != DB_OK)
		return false;
	renew_lease(relay);
	page->count = PQntuples(page->rows);
	page->states = calloc(page->count > 0 ? page->count : 1, sizeof(EventState));
	return page->states != NULL;
}

static int64_t
last_event_id(const Page *page)
{
	return strtoll(PQgetvalue(page->rows, page->count - 1, COLUMN_EVENT_ID), NULL, 10);
}

/* The window is done: its end is the new checkpoint. */
static void
close_window(Relay *relay)
{
	snapshot_free(&relay->snapshot);
	relay->snapshot = relay->window;
	relay->window = (Snapshot){0};
	memcpy(relay->snapshot_text, relay->window_text, sizeof(relay->snapshot_text));
	relay->window_text[0] = '\0';
	memcpy(relay->relayed_until, relay->window_opened, sizeof(relay->relayed_until));
	relay->head = relay->window_head;
	relay->low = snapshot_low_event_id(&relay->snapshot, relay->head);
}

/* Reads the page after *after and publishes it; *more tells whether another follows. */
static bool
send_next_page(Relay *relay, const char *finished, int64_t *after, bool *more)
{
	Page *page = page_under_way(relay, relay->npages);

	if (!read_page(relay, page, finished, *after))
		return false;
	*more = page->count == page_events();
	if (page->count == 0)
	{
		free_page(page);
		return true;
	}
	*after = last_event_id(page);
	relay->npages++;
	return publish_page(relay, page);
}

/* The time in "placedAt", which order events have, as microseconds since 1970; 0 if there is none. */
static int64_t
placed_at_us(const char *payload)
{
	static const char name[] = "\"placedAt\": \"";
	const char       *text = strstr(payload, name);
	struct tm         tm = {0};
	const char       *rest;

	rest = text != NULL ? strptime(text + strlen(name), "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	return rest != NULL ? timegm(&tm) * INT64_C(1000000) + (*rest == '.' ? strtol(rest + 1, NULL, 10) : 0) : 0;
}

/* How long the orders of a page that the broker has confirmed took to get there, and to be confirmed by their vendors. */
static void
observe(const Page *page)
{
	struct timespec now;
	int64_t         now_us;

	clock_gettime(CLOCK_REALTIME, &now);
	now_us = now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
	for (int i = 0; i < page->count; i++)
	{
		const char *routing_key = PQgetvalue(page->rows, i, COLUMN_ROUTING_KEY);
		int64_t     created_us = strtoll(PQgetvalue(page->rows, i, COLUMN_CREATED_AT_US), NULL, 10);
		int64_t     placed_us;

		if (is_for_our_queue(routing_key))
			metric_observe(HISTOGRAM_PUBLISHED_SECONDS, (double) (now_us - created_us) / 1e6);
		else if (strcmp(routing_key, "order.confirmed") == 0 &&
				 (placed_us = placed_at_us(PQgetvalue(page->rows, i, COLUMN_PAYLOAD))) != 0)
			metric_observe(HISTOGRAM_CONFIRMED_SECONDS, (double) (created_us - placed_us) / 1e6);
	}
}

/* Moves the cursor over the first pages if they are done; sends again what was refused. Returns how many events, -1 on failure.
 */
static int
retire_pages(Relay *relay)
{
	int retired = 0;

	while (relay->npages > 0)
	{
		Page *page = page_under_way(relay, 0);

		if (page->unanswered > 0)
			break;
		if (page->refused > 0)
		{
			if (!publish_again(relay, page))
				return -1;
			break;
		}
		retired += page->count;
		observe(page);
		relay->cursor = last_event_id(page);
		free_page(page);
		relay->first_page = (relay->first_page + 1) % PAGES_MAX;
		relay->npages--;
	}
	if (retired > 0)
		backoff_reset(&relay->resend);
	metric_add(METRIC_EVENTS_PUBLISHED, retired);
	return retired;
}

/*
 * Publishes page after page until the window is done. *published counts its
 * events. False if a connection is lost or a stop is requested; what is done is
 * then in the checkpoint, up to the page.
 */
static bool
drain_window(Relay *relay, int *published)
{
	char   *finished = finished_xids(relay);
	bool    ok = finished != NULL;
	bool    more = true;
	int64_t after = relay->cursor;

	*published = 0;
	while (ok && (more || relay->npages > 0))
	{
		int retired = 0;

		if (stop_requested() && relay->npages == 0)
			break;
		if (more && relay->npages < PAGES_MAX && !stop_requested())
			ok = send_next_page(relay, finished, &after, &more);
		else
			ok = wait_for_answers(relay);
		if (ok)
			retired = retire_pages(relay);
		ok = ok && retired >= 0;
		if (ok && !more && relay->npages == 0)
			close_window(relay);
		if (ok && retired > 0)
		{
			*published += retired;
			FAULT_POINT("relay.before_checkpoint");
			ok = write_checkpoint(relay, retired);
			FAULT_POINT("relay.after_checkpoint");
		}
	}
	free(finished);
	free_pages(relay);
	return ok && !more;
}

/* Drains until nothing is left; *published counts the events. */
static bool
drain(Relay *relay, int *published)
{
	int count;

	*published = 0;
	do
	{
		if (relay->window_text[0] == '\0')
		{
			if (!open_window(relay))
				return false;
			if (strcmp(relay->window_text, relay->snapshot_text) == 0)
			{
				relay->window_text[0] = '\0';
				memcpy(relay->relayed_until, relay->window_opened, sizeof(relay->relayed_until));
				return true; /* no transaction has begun or ended since */
			}
			relay->cursor = window_start(relay);
		}
		if (!drain_window(relay, &count))
			return false;
		*published += count;
		/* under load, let a few more gather: each round costs the database the same, however many events it brings */
		if (count >= BUSY_EVENTS_MIN && count < config.relay_window)
			stop_wait_ms(config.relay_linger_ms);
	} while (count > 0 && !stop_requested());
	return true;
}

/* ---------- idling ---------- */

/* Waits for the bell, a stop, or the time; keeps the broker's heartbeat. False if a connection is lost. */
static bool
wait_for_bell(Relay *relay, int timeout_ms, bool *rung)
{
	struct pollfd waits[3] = {{.fd = PQsocket(relay->db.connection), .events = POLLIN},
							  {.fd = amqp_client_descriptor(relay->amqp), .events = POLLIN},
							  {.fd = stop_descriptor(), .events = POLLIN}};
	PGnotify     *bell;

	/* a bell may have come with the answer to an earlier query: then the socket is quiet */
	while ((bell = PQnotifies(relay->db.connection)) != NULL)
	{
		*rung = true;
		PQfreemem(bell);
	}
	if (!*rung && !amqp_client_has_frames(relay->amqp))
		poll(waits, 3, timeout_ms);
	if (!listen_to_broker(relay, 0))
		return false;
	if (!PQconsumeInput(relay->db.connection))
	{
		log_warning("lost PostgreSQL while idle: %s", PQerrorMessage(relay->db.connection));
		db_close(&relay->db);
		return false;
	}
	while ((bell = PQnotifies(relay->db.connection)) != NULL)
	{
		*rung = true;
		PQfreemem(bell);
	}
	return true;
}

/*
 * Says that we sleep, looks once more, and sleeps until the bell or the poll
 * interval. A transaction that looked for a sleeper before we said so rings no
 * bell; until all that ran then have ended we only nap.
 */
static bool
idle(Relay *relay)
{
	uint64_t  unrung_below;
	long long until = monotonic_ms() + config.relay_poll_ms;
	int       nap_ms = NAP_MS_MIN;
	bool      rung = false;
	int       published;

	if (!execute(relay, "falling asleep", SQL_RELAY_MARK_IDLE) || !drain(relay, &published))
		return false;
	/* tells how far we are also when nothing comes */
	if (monotonic_ms() >= relay->note_due_ms)
	{
		if (!write_checkpoint(relay, 0))
			return false;
		relay->note_due_ms = monotonic_ms() + NOTE_MS;
	}
	unrung_below = relay->next_xid;
	while (!rung && published == 0 && !stop_requested() && monotonic_ms() < until)
	{
		bool      may_be_unrung = relay->snapshot.xmin < unrung_below;
		long long left = until - monotonic_ms();
		int       wait_ms = left < lease_ms() / 3 ? (int) left : lease_ms() / 3;

		if (!wait_for_bell(relay, may_be_unrung && nap_ms < wait_ms ? nap_ms : wait_ms, &rung))
			return false;
		if (may_be_unrung && !rung)
		{
			nap_ms = nap_ms * 2 < NAP_MS_MAX ? nap_ms * 2 : NAP_MS_MAX;
			if (!drain(relay, &published))
				return false;
		}
	}
	return execute(relay, "waking up", SQL_RELAY_UNMARK_IDLE);
}

/* ---------- leading ---------- */

static bool
connect_broker(Relay *relay)
{
	const AmqpEvents events = {.context = relay, .on_confirm = on_confirm, .on_return = on_return};

	amqp_client_close(relay->amqp);
	relay->amqp = amqp_client_open(config.rabbitmq_url, "order-bridge relay", publish_timeout_ms(), &events);
	if (relay->amqp != NULL && amqp_client_declare(relay->amqp))
		return true;
	amqp_client_close(relay->amqp);
	relay->amqp = NULL;
	return false;
}

/* From now on the server ends our session, and gives back its lock, if it hears nothing of us. */
static bool
take_lease(Relay *relay)
{
	char        milliseconds[12];
	const char *params[1] = {milliseconds};
	PGresult   *result;
	bool        ok;

	snprintf(milliseconds, sizeof(milliseconds), "%d", lease_ms());
	ok = db_query(&relay->db, "taking the relay's lease", SQL_RELAY_LEASE, 1, params, &result) == DB_OK;
	PQclear(result);
	return ok;
}

/* True if the lock that makes a relay the leader is ours. */
static bool
try_to_lead(Relay *relay)
{
	PGresult *result;
	bool      leads;

	leads = db_query(&relay->db, "asking for the relay's lock", SQL_RELAY_TRY_LEAD, 0, NULL, &result) == DB_OK &&
			*PQgetvalue(result, 0, 0) == 't';
	PQclear(result);
	return leads;
}

/* Drains and idles until a connection is lost or a stop is requested. */
static void
lead(Relay *relay)
{
	int published;

	log_info("leading, epoch %s", relay->epoch);
	metric_set(METRIC_RELAY_LEADS, 1);
	role_set_ready(ROLE_RELAY, true);
	while (!stop_requested() && drain(relay, &published) && idle(relay))
		backoff_reset(&relay->backoff);
	metric_set(METRIC_RELAY_LEADS, 0);
}

void *
relay_run(void *unused)
{
	Relay *relay = calloc(1, sizeof(Relay));

	(void) unused;
	assert(relay != NULL);
	log_set_role("relay");
	gethostname(relay->holder, sizeof(relay->holder) - 16);
	snprintf(relay->holder + strlen(relay->holder), 16, " %d", (int) getpid());
	db_init(&relay->db, config.database_url, "order-bridge relay", SQL_RELAY_SESSION);
	relay->backoff = (Backoff){.delay_ms_min = 100, .delay_ms_max = 5000};
	relay->resend = (Backoff){.delay_ms_min = RESEND_MS_MIN, .delay_ms_max = RESEND_MS_MAX};
	role_set_ready(ROLE_RELAY, false);

	while (db_connect_until_stopped(&relay->db))
	{
		if (!try_to_lead(relay))
		{
			/* another relay works: we stand by, which is our work */
			role_set_ready(ROLE_RELAY, db_is_connected(&relay->db));
			stop_wait_ms(STANDBY_POLL_MS);
			continue;
		}
		if (connect_broker(relay) && take_lease(relay) && acquire_checkpoint(relay))
			lead(relay);
		role_set_ready(ROLE_RELAY, false);
		db_close(&relay->db); /* gives back the lock */
		if (!stop_requested())
		{
			metric_add(METRIC_RECONNECTS, 1);
			stop_wait_ms(backoff_next(&relay->backoff));
		}
	}
	free_pages(relay);
	amqp_client_close(relay->amqp);
	db_close(&relay->db);
	snapshot_free(&relay->snapshot);
	snapshot_free(&relay->window);
	free(relay);
	return NULL;
}
