/*
 * relay_refused.c
 *		The relay: what the broker does not take.
 *
 * RabbitMQ refuses in three ways. It returns what no queue takes: parked, with its
 * words, until it is redriven. It nacks what a queue has no room for: tried a few
 * times, then deferred, and sent again by itself after a while. And it closes the
 * channel over what it finds malformed, too large or not allowed: relay_closed.c.
 *
 * While something is in the way of what is to be written down, somebody's lock or a rule of
 * the user's, the events' pages wait, and with them the checkpoint; the broker is sent what
 * there is room for.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "base/text.h"
#include "link/statements.h"
#include "relay/relay_state.h"

#define FULL_MS           5000
#define YOUNG_MS          10000 /* a connection is so long */
#define RENEW_MS          500
#define RENEWALS_MAX      3
#define DEFERRED_EVERY_MS 1000
#define DEFERRED_SOON_MS  100
#define AGAIN_MS          1000
#define REFUSALS_MAX      30 /* then it may be of this session alone */

/* ---------- kept aside ---------- */

/* Writes down something of what is kept aside. */
static Aside
write_aside(Relay *relay, const char *doing, const char *sql, int nparams,
			const char *const *params)
{
	PGresult *result = NULL;
	DbOutcome outcome;
	bool      is_locked;

	if (monotonic_ms() < relay->aside_due_ms)
		return ASIDE_LATER;
	outcome = db_query(&relay->db, doing, sql, nparams, params, &result);
	is_locked = outcome == DB_ERROR && db_is_locked_out(result);
	PQclear(result);
	relay->aside_refusals = outcome == DB_ERROR && !is_locked ? relay->aside_refusals + 1 : 0;
	if (outcome == DB_OK)
		return ASIDE_WRITTEN;
	if (outcome == DB_ERROR && relay->aside_refusals < REFUSALS_MAX)
	{
		relay->aside_due_ms = monotonic_ms() + AGAIN_MS;
		return ASIDE_LATER;
	}
	relay->aside_refusals = 0;
	db_close(&relay->db);
	return ASIDE_FAILED;
}

Aside
relay_park(Relay *relay, int64_t event_id, int reply_code, const char *reply_text)
{
	char        id[24];
	char        code[12];
	const char *params[3] = {id, code, reply_text};

	snprintf(id, sizeof(id), "%" PRId64, event_id);
	snprintf(code, sizeof(code), "%d", reply_code);
	return write_aside(relay, "parking an event", SQL_RELAY_PARK, 3, params);
}

/* Runs a statement on the events of those ids, its first parameter. */
static Aside
execute_on_events(Relay *relay, const char *doing, const char *sql, const int64_t *event_ids,
				  int count, int nparams, const char *second, const char *third)
{
	char       *ids = text_of_ids(event_ids, count);
	const char *params[3] = {ids, second, third};
	Aside       written = ASIDE_FAILED;

	if (ids != NULL)
		written = write_aside(relay, doing, sql, nparams, params);
	else
		db_close(&relay->db);
	free(ids);
	return written;
}

Aside
relay_defer(Relay *relay, const int64_t *event_ids, int count, const char *why,
			bool others_were_taken)
{
	Aside written = execute_on_events(relay, "deferring events", SQL_RELAY_DEFER, event_ids, count,
									  3, why, others_were_taken ? "t" : "f");

	relay->may_have_deferred = true;
	relay->deferred_due_ms =
		monotonic_ms() + (others_were_taken ? DEFERRED_SOON_MS : DEFERRED_EVERY_MS);
	metric_add(METRIC_EVENTS_DEFERRED, written == ASIDE_WRITTEN ? count : 0);
	return written;
}

Aside
relay_deferred_sent(Relay *relay, const int64_t *event_ids, int count)
{
	Aside written = execute_on_events(relay, "ending the deferral of events",
									  SQL_RELAY_DEFERRED_SENT, event_ids, count, 1, NULL, NULL);

	if (written == ASIDE_WRITTEN)
		log_info("RabbitMQ has taken %d deferred events", count);
	return written;
}

static Aside
park_returned(Relay *relay, Page *page)
{
	for (int i = 0; i < page->count; i++)
	{
		PageEvent *event = &page->events[i];
		Aside      written;

		if (event->state != EVENT_TO_PARK)
			continue;
		written = relay_park(relay, page_event_id(page, i), event->reply_code, event->reply_text);
		if (written != ASIDE_WRITTEN)
			return written;
		FAULT_POINT("relay.after_park");
		event->state = EVENT_ASIDE;
		page->to_write--;
		metric_add(METRIC_EVENTS_RETURNED, 1);
	}
	return ASIDE_WRITTEN;
}

/* Is it an event that is to be deferred, and for the same reason? */
static bool
is_to_defer(Relay *relay, const Page *page, int event, const char *words)
{
	return page->events[event].state == EVENT_TO_DEFER &&
		   strcmp(relay_silent_words(relay, event_column(page, event, COLUMN_ROUTING_KEY)),
				  words) == 0;
}

/* Defers an event, and those after it for the same reason. */
static Aside
defer_like(Relay *relay, Page *page, int first)
{
	const char *words = relay_silent_words(relay, event_column(page, first, COLUMN_ROUTING_KEY));
	int64_t    *event_ids = calloc((size_t) (page->count - first), sizeof(int64_t));
	int         count = 0;
	Aside       written;

	if (event_ids == NULL)
		return ASIDE_FAILED;
	for (int i = first; i < page->count; i++)
	{
		if (is_to_defer(relay, page, i, words))
			event_ids[count++] = page_event_id(page, i);
	}
	written = relay_defer(relay, event_ids, count, words, false);
	free(event_ids);
	for (int i = first; i < page->count && written == ASIDE_WRITTEN; i++)
	{
		if (is_to_defer(relay, page, i, words))
		{
			page->events[i].state = EVENT_ASIDE;
			page->to_write--;
		}
	}
	return written;
}

static Aside
defer_silent(Relay *relay, Page *page)
{
	Aside written = ASIDE_WRITTEN;

	for (int i = 0; i < page->count && written == ASIDE_WRITTEN; i++)
	{
		if (page->events[i].state == EVENT_TO_DEFER)
			written = defer_like(relay, page, i);
	}
	return written;
}

bool
relay_write_aside(Relay *relay, Page *page)
{
	Aside written = park_returned(relay, page);

	if (written == ASIDE_WRITTEN)
		written = defer_silent(relay, page);
	return written != ASIDE_FAILED;
}

/* Until it is written down that the broker has them they would be read, and sent, once more. */
static bool
is_deferred_under_way(Relay *relay)
{
	for (int n = 0; n < relay->npages; n++)
	{
		if (page_under_way(relay, n)->is_deferred)
			return true;
	}
	return false;
}

bool
relay_send_deferred(Relay *relay)
{
	size_t      max_bytes;
	int         max_events = relay_page_room(relay, &max_bytes);
	char        events[12];
	char        bytes[24];
	const char *params[2] = {events, bytes};
	PGresult   *rows;
	DbOutcome   outcome;
	long long   began_ms = monotonic_ms();

	if (!relay->may_have_deferred || max_events == 0 || began_ms < relay->deferred_due_ms ||
		is_deferred_under_way(relay))
		return true;
	relay->deferred_due_ms = began_ms + DEFERRED_EVERY_MS;
	snprintf(events, sizeof(events), "%d", max_events);
	snprintf(bytes, sizeof(bytes), "%zu", max_bytes);
	outcome = db_query(&relay->db, "reading deferred events", SQL_RELAY_DEFERRED, 2, params, &rows);
	if (outcome == DB_OK && PQntuples(rows) > 0)
		return relay_add_page(relay, rows, true);
	PQclear(rows);
	if (outcome == DB_ERROR) /* others wait for somebody's lock on them */
		relay->deferred_due_ms = rest_until_ms(began_ms);
	if (outcome != DB_OK)
		return outcome == DB_ERROR;
	outcome =
		db_query(&relay->db, "looking for deferred events", SQL_RELAY_HAS_DEFERRED, 0, NULL, &rows);
	if (outcome == DB_OK)
		relay->may_have_deferred = *PQgetvalue(rows, 0, 0) == 't';
	PQclear(rows);
	return outcome != DB_LOST;
}

/* ---------- connections that refuse from their beginning ---------- */

/*
 * RabbitMQ (3.10) refuses what is published to a quorum queue over a channel that first met it
 * when its leader had just died, for as long as that node is away, though there is another leader:
 * a new channel knows it. Nothing else tells that from a queue that is full, so a few times we
 * connect anew before we believe it.
 */
static void
note_refused(Relay *relay)
{
	if (relay->renew_ms == 0 && relay->renewals < RENEWALS_MAX &&
		monotonic_ms() < relay->connected_ms + YOUNG_MS)
		relay->renew_ms = monotonic_ms() + RENEW_MS;
}

void
relay_note_connected(Relay *relay)
{
	if (relay->renew_ms != 0)
		relay->renewals++;
	else if (monotonic_ms() >= relay->connected_ms + YOUNG_MS)
		relay->renewals = 0;
	relay->connected_ms = monotonic_ms();
	relay->renew_ms = 0;
}

bool
relay_is_to_renew(const Relay *relay)
{
	return relay->renew_ms != 0 && monotonic_ms() >= relay->renew_ms;
}

/* ---------- full queues ---------- */

static FullKey *
find_full(const Relay *relay, const char *routing_key)
{
	for (int i = 0; i < FULL_KEYS_MAX; i++)
	{
		const FullKey *full = &relay->full_keys[i];

		if (full->until_ms > monotonic_ms() && strcmp(full->key, routing_key) == 0)
			return (FullKey *) full;
	}
	return NULL;
}

bool
relay_is_full(const Relay *relay, const char *routing_key)
{
	return find_full(relay, routing_key) != NULL;
}

void
relay_note_full(Relay *relay, const char *routing_key)
{
	FullKey *full = find_full(relay, routing_key);

	if (full == NULL)
	{
		/* in place of the one that is over soonest */
		full = &relay->full_keys[0];
		for (int i = 1; i < FULL_KEYS_MAX; i++)
		{
			if (relay->full_keys[i].until_ms < full->until_ms)
				full = &relay->full_keys[i];
		}
		snprintf(full->key, sizeof(full->key), "%s", routing_key);
	}
	full->until_ms = monotonic_ms() + FULL_MS;
	note_refused(relay);
}
