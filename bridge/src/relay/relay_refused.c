/*
 * relay_refused.c
 *		The relay: what the broker does not take.
 *
 * RabbitMQ refuses in three ways. It returns what no queue takes: parked, with its
 * words, until it is redriven. It nacks what a queue has no room for: tried a few
 * times, then deferred, and sent again by itself after a while. And it closes the
 * channel over what it finds malformed, too large or not allowed, which takes
 * everything with it that was under way, and names no culprit:
 *
 *		all at once --the channel closed over a publish, or lost three times--> one by one
 *		one by one  --as many taken as were under way--> all at once
 *
 * One by one, the event that was under way when the channel closed is the one. If
 * the broker's words are of the message itself it is parked. If they may be of us
 * (no such exchange, not allowed), or there are none, it is deferred, and the next
 * one shows whose fault it is: if some in a row fare like that, we go on slowly, one
 * every few seconds, instead of putting everything aside at once.
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

#define UNPROVEN_MAX      5
#define FULL_MS           5000
#define YOUNG_MS          10000 /* a connection is so long */
#define RENEW_MS          500
#define RENEWALS_MAX      3
#define DEFERRED_EVERY_MS 1000
#define DEFERRED_SOON_MS  100
#define LOCKED_AGAIN_MS   1000
#define SILENT_WORDS      "RabbitMQ does not answer for it: a queue hangs"

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
		return ASIDE_LOCKED;
	outcome = db_query(&relay->db, doing, sql, nparams, params, &result);
	is_locked = outcome == DB_ERROR && db_is_locked_out(result);
	PQclear(result);
	if (outcome == DB_OK)
		return ASIDE_WRITTEN;
	if (is_locked)
		relay->aside_due_ms = monotonic_ms() + LOCKED_AGAIN_MS;
	else
		db_close(&relay->db);
	return is_locked ? ASIDE_LOCKED : ASIDE_FAILED;
}

static Aside
park(Relay *relay, int64_t event_id, int reply_code, const char *reply_text)
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
		written = park(relay, page_event_id(page, i), event->reply_code, event->reply_text);
		if (written != ASIDE_WRITTEN)
			return written;
		FAULT_POINT("relay.after_park");
		event->state = EVENT_ASIDE;
		page->to_write--;
		metric_add(METRIC_EVENTS_RETURNED, 1);
	}
	return ASIDE_WRITTEN;
}

static Aside
defer_silent(Relay *relay, Page *page)
{
	int64_t *event_ids = calloc((size_t) page->count, sizeof(int64_t));
	int      count = 0;
	Aside    written = event_ids == NULL ? ASIDE_FAILED : ASIDE_WRITTEN;

	for (int i = 0; event_ids != NULL && i < page->count; i++)
	{
		if (page->events[i].state == EVENT_TO_DEFER)
			event_ids[count++] = page_event_id(page, i);
	}
	if (count > 0)
		written = relay_defer(relay, event_ids, count, SILENT_WORDS, false);
	for (int i = 0; i < page->count && written == ASIDE_WRITTEN; i++)
	{
		if (page->events[i].state == EVENT_TO_DEFER)
			page->events[i].state = EVENT_ASIDE;
	}
	page->to_write -= written == ASIDE_WRITTEN ? count : 0;
	free(event_ids);
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

/* ---------- closed channels ---------- */

/* Is the message itself at fault, whoever sends it? */
static bool
is_fault_of_message(int code)
{
	/* content too large, precondition failed, malformed frame, syntax, invalid command, unexpected
	 * frame, not implemented */
	static const int codes[] = {311, 406, 501, 502, 503, 505, 540};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
	{
		if (codes[i] == code)
			return true;
	}
	return false;
}

/* Counts the events under way; *page and *event are the last of them. */
static int
count_under_way(Relay *relay, Page **page, int *event)
{
	int count = 0;

	for (Waiting at = WAITING_FIRST; relay_next_waiting(relay, &at); count++)
	{
		*page = at.page;
		*event = at.event;
	}
	return count;
}

/* It was alone under way: is it guilty? */
static void
judge_suspect(Relay *relay, const Page *page, int event, const BrokerRefusal *refusal)
{
	Suspect *suspect = &relay->suspect;
	int64_t  event_id = page_event_id(page, event);

	suspect->losses = suspect->event_id == event_id ? suspect->losses + 1 : 1;
	suspect->event_id = event_id;
	suspect->is_deferred = page->is_deferred;
	suspect->code = refusal->code;
	suspect->verdict = VERDICT_NONE;
	if (refusal->is_of_publish && is_fault_of_message(refusal->code))
		suspect->verdict = VERDICT_PARK;
	else if (refusal->is_of_publish || suspect->losses >= LOSSES_MAX)
		suspect->verdict = VERDICT_DEFER;
	snprintf(suspect->text, sizeof(suspect->text), "%s",
			 refusal->code != 0 ? refusal->text : "the connection was lost each time it was sent");
}

void
relay_note_loss(Relay *relay)
{
	const BrokerRefusal *refusal =
		relay->broker != NULL ? broker_refusal(relay->broker) : &(BrokerRefusal){0};
	Page *page = NULL;
	int   event = 0;
	int   count = count_under_way(relay, &page, &event);

	if (relay_waits_for_silent(relay)) /* nothing else is at fault */
		return;
	/* a database that is lost is no word of the broker's */
	if (count == 0 || stop_requested() || !db_is_connected(&relay->db))
		return;
	if (count == 1)
	{
		judge_suspect(relay, page, event, refusal);
		relay->careful_left = relay->careful_left > 0 ? relay->careful_left : 1;
		return;
	}
	relay->losses++;
	relay->cautious_left = count;
	if (refusal->is_of_publish || relay->losses >= LOSSES_MAX)
	{
		log_warning(
			"RabbitMQ has closed the channel over one of %d events: they are sent one by one",
			count);
		relay->careful_left = count;
		relay->losses = 0;
	}
}

bool
relay_execute_verdict(Relay *relay)
{
	Suspect *suspect = &relay->suspect;
	char     words[320];

	if (suspect->verdict == VERDICT_NONE)
		return true;
	snprintf(words, sizeof(words), "%s", suspect->text);
	if (suspect->verdict == VERDICT_PARK)
	{
		log_error("RabbitMQ refuses event %" PRId64 ": %d %s; parked", suspect->event_id,
				  suspect->code, words);
		if (park(relay, suspect->event_id, suspect->code, words) != ASIDE_WRITTEN)
			return false;
		metric_add(METRIC_EVENTS_REFUSED, 1);
	}
	else
	{
		log_warning("RabbitMQ does not take event %" PRId64 ": %d %s; deferred", suspect->event_id,
					suspect->code, words);
		if (relay_defer(relay, &suspect->event_id, 1, words, false) != ASIDE_WRITTEN)
			return false;
		relay->unproven += !suspect->is_deferred;
	}
	if (!suspect->is_deferred)
		relay->set_aside[relay->nset_aside++ % SET_ASIDE_MAX] = suspect->event_id;
	suspect->verdict = VERDICT_NONE;
	suspect->event_id = 0;
	suspect->losses = 0;
	if (relay->unproven <= UNPROVEN_MAX)
		backoff_reset(&relay->backoff);
	relay->careful_left = relay->careful_left > 1 ? relay->careful_left - 1 : 0;
	return true;
}

void
relay_forget_verdicts(Relay *relay)
{
	relay->nset_aside = relay->nsilent = relay->losses = relay->unproven = 0;
	relay->careful_left = relay->cautious_left = 0;
	memset(&relay->suspect, 0, sizeof(relay->suspect));
}

bool
relay_is_set_aside(const Relay *relay, int64_t event_id)
{
	for (int i = 0; i < SET_ASIDE_MAX && i < relay->nset_aside; i++)
	{
		if (relay->set_aside[i] == event_id)
			return true;
	}
	return false;
}

void
relay_note_taken(Relay *relay, int count)
{
	relay->losses = relay->unproven = 0;
	relay->careful_left = relay->careful_left > count ? relay->careful_left - count : 0;
	relay->cautious_left = relay->cautious_left > count ? relay->cautious_left - count : 0;
}
