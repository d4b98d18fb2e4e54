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
 * The checkpoint moves only over events that the broker has confirmed, or that
 * are parked because no queue takes them. Whatever is lost on the way there is
 * published again under the same message_id.
 */
#include "relay.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "amqp.h"
#include "config.h"
#include "db.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "snapshot.h"
#include "stop.h"
#include "text.h"

#define STANDBY_POLL_MS    1000
#define NAP_MS_MIN         2
#define NAP_MS_MAX         200
#define CONFIRM_TIMEOUT_MS 30000
#define RESEND_MS_MIN      50
#define RESEND_MS_MAX      2000
#define HEADERS_MAX        32

typedef enum EventState
{
	EVENT_TO_SEND,  /* not published yet, or nacked */
	EVENT_SENT,     /* published; the broker has not answered */
	EVENT_RETURNED, /* no queue takes it; its ack is still to come */
	EVENT_DONE      /* confirmed or parked */
} EventState;

/* One page of events on its way. */
typedef struct Page
{
	PGresult   *rows;
	int         count;
	EventState *states;
	int        *by_tag;    /* event of each publish of this page */
	uint64_t    first_tag; /* tag of by_tag[0] */
	int         npublishes;
	int         unanswered; /* EVENT_SENT and EVENT_RETURNED */
	int         nacked;
} Page;

typedef struct Relay
{
	Db      db;
	Amqp   *amqp;
	Backoff backoff; /* between attempts to lead */
	char    holder[128];
	char    epoch[24];

	char     snapshot_text[65536]; /* the checkpoint */
	Snapshot snapshot;
	int64_t  head; /* transactions not running at the checkpoint have events above it only */
	int64_t  low;  /* nothing is left to relay up to here */

	char     window_text[65536]; /* the window being drained; empty: none */
	Snapshot window;
	int64_t  window_head;
	uint64_t next_xid; /* when the last window was opened */
	int64_t  cursor;   /* all of the window up to here is done */

	Page page;
} Relay;

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

static void
on_confirm(void *context, uint64_t tag, bool multiple, bool is_ack)
{
	Page *page = &((Relay *) context)->page;
	int   last = (int) (tag - page->first_tag);

	if (tag < page->first_tag || last >= page->npublishes)
		return;
	for (int i = multiple ? 0 : last; i <= last; i++)
	{
		int event = page->by_tag[i];

		if (event < 0)
			continue;
		page->by_tag[i] = -1;
		page->unanswered--;
		if (!is_ack)
		{
			page->states[event] = EVENT_TO_SEND;
			page->nacked++;
			metric_add(METRIC_EVENTS_NACKED, 1);
		}
		else if (page->states[event] == EVENT_SENT)
			page->states[event] = EVENT_DONE;
		/* EVENT_RETURNED: the ack only says that the broker is through with it */
	}
}

static void
on_return(void *context, const char *message_id, int reply_code, const char *reply_text)
{
	Relay *relay = context;
	Page  *page = &relay->page;

	for (int i = 0; i < page->count; i++)
	{
		char        code[12];
		const char *params[3] = {PQgetvalue(page->rows, i, COLUMN_EVENT_ID), code, reply_text};
		PGresult   *result;

		if (page->states[i] != EVENT_SENT || strcmp(PQgetvalue(page->rows, i, COLUMN_MESSAGE_ID), message_id) != 0)
			continue;
		snprintf(code, sizeof(code), "%d", reply_code);
		log_warning("no queue takes event %s, key %s: %d %s; parked", params[0], PQgetvalue(page->rows, i, COLUMN_ROUTING_KEY),
					reply_code, reply_text);
		/* parked before the checkpoint can pass it; if this fails, the page is not done */
		if (db_query(&relay->db, "parking an event", SQL_RELAY_PARK, 3, params, &result) == DB_OK)
			page->states[i] = EVENT_RETURNED;
		else
			db_close(&relay->db);
		PQclear(result);
		metric_add(METRIC_EVENTS_RETURNED, 1);
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
publish_event(Relay *relay, int event)
{
	Page       *page = &relay->page;
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
	if (page->npublishes == 0)
		page->first_tag = tag;
	assert(tag == page->first_tag + page->npublishes);
	page->by_tag[page->npublishes++] = event;
	page->states[event] = EVENT_SENT;
	page->unanswered++;
	return true;
}

/* Publishes what is to be sent and waits until the broker has answered for all of it. */
static bool
send_once(Relay *relay)
{
	Page     *page = &relay->page;
	long long deadline = monotonic_ms() + CONFIRM_TIMEOUT_MS;

	page->npublishes = 0;
	page->nacked = 0;
	for (int i = 0; i < page->count; i++)
	{
		if (page->states[i] != EVENT_TO_SEND)
			continue;
		while (amqp_client_is_blocked(relay->amqp) && !stop_requested())
		{
			if (!amqp_client_process(relay->amqp, 100))
				return false;
			deadline = monotonic_ms() + CONFIRM_TIMEOUT_MS;
		}
		if (amqp_client_is_blocked(relay->amqp) || !publish_event(relay, i))
			return false;
		if (i % 64 == 63 && !amqp_client_process(relay->amqp, 0))
			return false;
	}
	while (page->unanswered > 0)
	{
		if (!amqp_client_process(relay->amqp, 100))
			return false;
		if (stop_requested() && amqp_client_is_blocked(relay->amqp))
			return false;
		if (monotonic_ms() > deadline && !amqp_client_is_blocked(relay->amqp))
		{
			log_warning("RabbitMQ has not confirmed %d events for %d ms", page->unanswered, CONFIRM_TIMEOUT_MS);
			return false;
		}
	}
	return db_is_connected(&relay->db);
}

static bool
publish_page(Relay *relay)
{
	Page   *page = &relay->page;
	Backoff resend = {.delay_ms_min = RESEND_MS_MIN, .delay_ms_max = RESEND_MS_MAX};

	page->states = calloc(page->count, sizeof(EventState));
	page->by_tag = calloc(page->count, sizeof(int));
	if (page->states == NULL || page->by_tag == NULL)
		return false;
	while (send_once(relay))
	{
		if (page->nacked == 0)
		{
			metric_add(METRIC_EVENTS_PUBLISHED, page->count);
			return true;
		}
		log_warning("RabbitMQ refused %d events; they are published again", page->nacked);
		stop_wait_ms(backoff_next(&resend));
		if (stop_requested())
			return false;
	}
	return false;
}

static void
free_page(Page *page)
{
	PQclear(page->rows);
	free(page->states);
	free(page->by_tag);
	*page = (Page){0};
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
	const char *params[6] = {
		relay->epoch, relay->snapshot_text, low, in_window ? relay->window_text : NULL, in_window ? cursor : NULL, count};
	PGresult *result;
	bool      ok;

	snprintf(low, sizeof(low), "%" PRId64, relay->low);
	snprintf(cursor, sizeof(cursor), "%" PRId64, relay->cursor);
	snprintf(count, sizeof(count), "%d", published);
	ok = db_query(&relay->db, "moving the checkpoint", SQL_RELAY_ADVANCE, 6, params, &result) == DB_OK;
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
			relay->next_xid = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
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

/* Sends the query for the page after "after"; its result is fetched by receive_page. */
static bool
request_page(Relay *relay, const char *finished, int64_t after)
{
	char        after_text[24];
	char        from_xid[24];
	char        limit[12];
	const char *params[5] = {after_text, from_xid, finished, relay->window_text, limit};

	snprintf(after_text, sizeof(after_text), "%" PRId64, after);
	snprintf(from_xid, sizeof(from_xid), "%" PRIu64, relay->snapshot.xmax);
	snprintf(limit, sizeof(limit), "%d", config.relay_page);
	if (db_is_connected(&relay->db) && PQsendQueryParams(relay->db.connection, SQL_RELAY_EVENTS, 5, NULL, params, NULL, NULL, 0))
		return true;
	db_close(&relay->db);
	return false;
}

static bool
receive_page(Relay *relay)
{
	PGresult *extra;

	relay->page.rows = PQgetResult(relay->db.connection);
	while ((extra = PQgetResult(relay->db.connection)) != NULL)
		PQclear(extra);
	if (db_outcome(&relay->db, "reading events", relay->page.rows) != DB_OK)
		return false;
	relay->page.count = PQntuples(relay->page.rows);
	return true;
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
	relay->head = relay->window_head;
	relay->low = snapshot_low_event_id(&relay->snapshot, relay->head);
}

/*
 * Publishes one page after another until the window is done. *published counts
 * its events. False if a connection is lost or a stop is requested; what is done
 * is then in the checkpoint, up to the page.
 */
static bool
drain_window(Relay *relay, int *published)
{
	char *finished = finished_xids(relay);
	bool  ok = finished != NULL;
	bool  more = true;

	*published = 0;
	while (ok && more)
	{
		ok = !stop_requested() && request_page(relay, finished, relay->cursor) && receive_page(relay);
		if (ok && relay->page.count > 0)
		{
			int     count = relay->page.count;
			int64_t last = strtoll(PQgetvalue(relay->page.rows, count - 1, COLUMN_EVENT_ID), NULL, 10);

			more = count == config.relay_page;
			ok = publish_page(relay);
			if (ok)
			{
				relay->cursor = last;
				*published += count;
				if (!more)
					close_window(relay);
				ok = write_checkpoint(relay, count);
			}
		}
		else if (ok)
		{
			more = false;
			close_window(relay);
		}
		free_page(&relay->page);
	}
	free(finished);
	return ok;
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
				return true; /* no transaction has begun or ended since */
			}
			relay->cursor = window_start(relay);
		}
		if (!drain_window(relay, &count))
			return false;
		*published += count;
	} while (count > 0 && !stop_requested());
	return true;
}

/* ---------- idling ---------- */

static bool
execute(Relay *relay, const char *doing, const char *sql)
{
	PGresult *result;
	bool      ok = db_query(&relay->db, doing, sql, 0, NULL, &result) == DB_OK;

	PQclear(result);
	return ok;
}

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
	if (!amqp_client_process(relay->amqp, 0))
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
	unrung_below = relay->next_xid;
	while (!rung && published == 0 && !stop_requested() && monotonic_ms() < until)
	{
		bool      may_be_unrung = relay->snapshot.xmin < unrung_below;
		long long left = until - monotonic_ms();

		if (!wait_for_bell(relay, may_be_unrung && nap_ms < left ? nap_ms : (int) left, &rung))
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
	relay->amqp = amqp_client_open(config.rabbitmq_url, "order-bridge relay", &events);
	if (relay->amqp != NULL && amqp_client_declare(relay->amqp))
		return true;
	amqp_client_close(relay->amqp);
	relay->amqp = NULL;
	return false;
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
		if (connect_broker(relay) && acquire_checkpoint(relay))
			lead(relay);
		role_set_ready(ROLE_RELAY, false);
		db_close(&relay->db); /* gives back the lock */
		if (!stop_requested())
		{
			metric_add(METRIC_RECONNECTS, 1);
			stop_wait_ms(backoff_next(&relay->backoff));
		}
	}
	free_page(&relay->page);
	amqp_client_close(relay->amqp);
	db_close(&relay->db);
	snapshot_free(&relay->snapshot);
	snapshot_free(&relay->window);
	free(relay);
	return NULL;
}
