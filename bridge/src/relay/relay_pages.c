/*
 * relay_pages.c
 *		The relay: to the broker. Pages under way, and what the broker says of them.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"
#include "relay/relay_state.h"

#define BIND_EVERY_MS   250
#define CAUTIOUS_EVENTS 64
#define CAUTIOUS_BYTES  ((size_t) 65536)

bool
relay_next_waiting(Relay *relay, Waiting *at)
{
	for (; at->n < relay->npages; at->n++)
	{
		at->page = page_under_way(relay, at->n);
		while (++at->event < at->page->count)
		{
			if (at->page->events[at->event].state == EVENT_SENT)
				return true;
		}
		at->event = -1;
	}
	return false;
}

int64_t
page_event_id(const Page *page, int event)
{
	return strtoll(event_column(page, event, COLUMN_EVENT_ID), NULL, 10);
}

int64_t
page_last_event_id(const Page *page)
{
	return page_event_id(page, page->count - 1);
}

/* Has the broker anything of them, or is it to have it again? What waits to be written down, or for
 * its turn, it has done with. */
static bool
is_under_way(Relay *relay)
{
	for (int n = 0; n < relay->npages; n++)
	{
		if (page_under_way(relay, n)->unanswered > 0 || page_under_way(relay, n)->refused > 0)
			return true;
	}
	return false;
}

size_t
relay_rows_bytes(const PGresult *rows)
{
	size_t bytes = 0;

	for (int i = 0; i < PQntuples(rows); i++)
		bytes += (size_t) PQgetlength(rows, i, COLUMN_PAYLOAD);
	return bytes;
}

static void
free_page(Page *page)
{
	PQclear(page->rows);
	free(page->events);
	*page = (Page){0};
}

void
relay_free_pages(Relay *relay)
{
	for (int i = 0; i < PAGES_MAX; i++)
		free_page(&relay->pages[i]);
	relay->first_page = relay->npages = 0;
}

int
relay_page_room(Relay *relay, size_t *bytes)
{
	size_t under_way = 0;
	int    events;

	for (int n = 0; n < relay->npages; n++)
		under_way += page_under_way(relay, n)->bytes;
	*bytes = (size_t) config.relay_window_bytes / PAGES_MAX;
	if (relay->npages == PAGES_MAX || under_way >= (size_t) config.relay_window_bytes)
		return 0;
	if (relay->careful_left > 0)
		return is_under_way(relay) ? 0 : 1;
	events = config.relay_window / PAGES_MAX;
	if (relay->cautious_left == 0)
		return events;
	*bytes = *bytes < CAUTIOUS_BYTES ? *bytes : CAUTIOUS_BYTES;
	if (is_under_way(relay))
		return 0;
	return events < CAUTIOUS_EVENTS ? events : CAUTIOUS_EVENTS;
}

/* ---------- what the broker says ---------- */

static void
on_confirm(void *context, uint64_t tag, bool is_ack)
{
	Relay     *relay = context;
	Sent      *sent = &relay->sent[tag % AMQP_UNCONFIRMED_MAX];
	Page      *page = sent->page;
	PageEvent *event = &page->events[sent->event];

	page->unanswered--;
	if (!is_ack || event->state == EVENT_UNROUTED)
	{
		event->state = EVENT_TO_SEND;
		event->nacks += !is_ack;
		page->refused++;
		metric_add(METRIC_EVENTS_NACKED, !is_ack);
	}
	else if (event->state == EVENT_RETURNED)
	{
		event->state = EVENT_TO_PARK;
		page->to_write++;
	}
	else
		event->state = EVENT_DONE;
}

/* Is a vendor asked by it? */
static bool
is_question(const char *routing_key)
{
	static const char prefix[] = "order.placed.";

	return strncmp(routing_key, prefix, strlen(prefix)) == 0 &&
		   strchr(routing_key + strlen(prefix), '.') == NULL;
}

/* The sent event of that message_id, if it is on the page; -1 if not. */
static int
find_sent(const Page *page, const char *message_id)
{
	for (int i = 0; i < page->count; i++)
	{
		if (page->events[i].state == EVENT_SENT &&
			strcmp(event_column(page, i, COLUMN_MESSAGE_ID), message_id) == 0)
			return i;
	}
	return -1;
}

/* Its page is not done, and the checkpoint does not pass it, before it is parked. */
static void
note_returned(const Page *page, int number, int reply_code, const char *reply_text)
{
	PageEvent *event = &page->events[number];

	log_warning("no queue takes event %s, key %s: %d %s; parked",
				event_column(page, number, COLUMN_EVENT_ID),
				event_column(page, number, COLUMN_ROUTING_KEY), reply_code, reply_text);
	event->state = EVENT_RETURNED;
	event->reply_code = reply_code;
	text_escape(reply_text, event->reply_text, sizeof(event->reply_text));
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
		/* orders.placed takes it, if it is there */
		if (config.placed_queue && !page->declared &&
			is_question(event_column(page, event, COLUMN_ROUTING_KEY)))
			page->events[event].state = EVENT_UNROUTED;
		else
			note_returned(page, event, reply_code, reply_text);
		return;
	}
}

const BrokerEvents *
relay_broker_events(Relay *relay)
{
	static BrokerEvents events = {.on_confirm = on_confirm, .on_return = on_return};

	events.context = relay;
	return &events;
}

/* ---------- publishing a page ---------- */

static bool
publish_event(Relay *relay, Page *page, int event)
{
	uint64_t tag;

	/* whatever comes of it, it is under way from here: if the broker closes over it, it is known to
	 * be the one */
	page->events[event].state = EVENT_SENT;
	page->events[event].is_tried = false;
	page->unanswered++;
	relay_remember(relay, page, event);
	tag = relay_publish_to(relay->broker, page, event);
	if (tag == 0)
		return false;
	relay->sent[tag % AMQP_UNCONFIRMED_MAX] = (Sent){page, event};
	return true;
}

bool
relay_listen(Relay *relay, int timeout_ms)
{
	return broker_process(relay->broker, timeout_ms) && db_is_connected(&relay->db) &&
		   relay_keep_lease(relay) && relay_attend_trials(relay);
}

/* The queue of placed orders may have been deleted, or unbound, since, and nothing would come back
 * if another queue takes them. */
static bool
bind_again_if_due(Relay *relay)
{
	if (monotonic_ms() < relay->bind_due_ms)
		return true;
	relay->bind_due_ms = monotonic_ms() + BIND_EVERY_MS;
	return broker_bind_again(relay->broker);
}

/* Publishes what of the page is to be sent. */
bool
relay_publish_page(Relay *relay, Page *page)
{
	page->refused = 0;
	if (!bind_again_if_due(relay))
		return false;
	for (int i = 0; i < page->count; i++)
	{
		if (page->events[i].state != EVENT_TO_SEND)
			continue;
		while (broker_is_blocked(relay->broker) && !stop_requested())
		{
			if (!relay_listen(relay, 100))
				return false;
			relay_put_off(relay);
		}
		FAULT_POINT("relay.before_publish");
		if (broker_is_blocked(relay->broker) || !publish_event(relay, page, i))
			return false;
		if ((i % 64 == 63 || monotonic_ms() >= relay->lease_due_ms) && !relay_listen(relay, 0))
			return false;
	}
	page->due_ms = monotonic_ms() + relay_broker_timeout_ms();
	FAULT_POINT("relay.before_confirm");
	return true;
}

bool
relay_add_page(Relay *relay, PGresult *rows, bool is_deferred)
{
	Page *page = page_under_way(relay, relay->npages);

	assert(relay->npages < PAGES_MAX);
	*page = (Page){.rows = rows,
				   .count = PQntuples(rows),
				   .bytes = relay_rows_bytes(rows),
				   .is_deferred = is_deferred};
	page->events = calloc((size_t) page->count, sizeof(PageEvent));
	if (page->events == NULL)
	{
		free_page(page);
		return false;
	}
	for (int i = 0; i < page->count; i++)
	{
		if (!relay_is_judged(relay, page, i))
			continue;
		page->events[i].state = EVENT_ASIDE;
		page->skipped++;
	}
	relay->npages++;
	role_begins(ROLE_RELAY);
	/* the broker may take long, or raise an alarm; we look for more before we sleep again */
	return relay_wake_up(relay) && relay_defer_silent(relay, page) &&
		   relay_publish_page(relay, page);
}

/* ---------- what is done ---------- */

/* A time as the events have it, as microseconds since 1970; 0 if it is none. */
static int64_t
time_us(const char *text)
{
	struct tm   tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	return rest != NULL
			   ? timegm(&tm) * INT64_C(1000000) + (*rest == '.' ? strtol(rest + 1, NULL, 10) : 0)
			   : 0;
}

static void
observe_event(const Page *page, int event, int64_t now_us)
{
	const char *routing_key = event_column(page, event, COLUMN_ROUTING_KEY);
	int64_t     created_us = strtoll(event_column(page, event, COLUMN_CREATED_AT_US), NULL, 10);
	int64_t     placed_us;

	if (is_question(routing_key))
		metric_observe(HISTOGRAM_PUBLISHED_SECONDS, (double) (now_us - created_us) / 1e6);
	else if (strcmp(routing_key, "order.confirmed") == 0 &&
			 (placed_us = time_us(event_column(page, event, COLUMN_PLACED_AT))) != 0)
		metric_observe(HISTOGRAM_CONFIRMED_SECONDS, (double) (created_us - placed_us) / 1e6);
}

/* Counts what the broker has confirmed of a page, and how long its orders took to get there, and to
 * be confirmed by their vendors. */
static void
observe(const Page *page)
{
	struct timespec now;
	int64_t         now_us;

	clock_gettime(CLOCK_REALTIME, &now);
	now_us = now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
	for (int i = 0; i < page->count; i++)
	{
		if (page->events[i].state != EVENT_DONE)
			continue;
		metric_add(METRIC_EVENTS_PUBLISHED, 1);
		observe_event(page, i, now_us);
	}
}

/* Writes down that deferred events are with the broker now; those that were deferred once more are
 * not. */
static Aside
retire_deferred(Relay *relay, const Page *page)
{
	int64_t *event_ids = calloc((size_t) page->count, sizeof(int64_t));
	int      count = 0;
	Aside    written = ASIDE_WRITTEN;

	if (event_ids == NULL)
		return ASIDE_FAILED;
	for (int i = 0; i < page->count; i++)
	{
		if (page->events[i].state == EVENT_DONE)
			event_ids[count++] = page_event_id(page, i);
	}
	if (count > 0)
		written = relay_deferred_sent(relay, event_ids, count);
	if (written == ASIDE_WRITTEN && count > 0 && count == page->count - page->skipped)
		relay->deferred_due_ms = 0; /* all were taken: perhaps there is room for more */
	free(event_ids);
	return written;
}

static Aside
retire_page(Relay *relay, Page *page, int *published)
{
	Aside written = page->is_deferred ? retire_deferred(relay, page) : ASIDE_WRITTEN;

	if (written != ASIDE_WRITTEN)
		return written;
	if (page->count > page->skipped)
		relay_note_taken(relay, page->count - page->skipped);
	if (!page->is_deferred)
		relay_note_passed(relay, page->skipped);
	relay_note_taken_keys(relay, page);
	observe(page);
	if (!page->is_deferred)
	{
		*published += page->count;
		relay->cursor = page_last_event_id(page);
	}
	return ASIDE_WRITTEN;
}

bool
relay_take_answers(Relay *relay, bool wait, int *published, bool *progressed)
{
	if (!relay_listen(relay, wait ? 100 : 0) || relay_is_overdue(relay))
		return false;
	/* a page that waits for its turn, or to be sent again, holds up no other's sending */
	for (int n = 0; n < relay->npages; n++)
	{
		Page *page = page_under_way(relay, n);

		if (page->unanswered == 0 && page->refused > 0 && !relay_publish_again(relay, page))
			return false;
		if (page->to_write > 0 && !relay_write_aside(relay, page))
			return false;
	}
	while (relay->npages > 0)
	{
		Page *page = page_under_way(relay, 0);
		Aside written;

		if (page->unanswered > 0 || page->refused > 0 || page->to_write > 0 ||
			relay_waits_for_verdict(relay, page))
			break;
		written = retire_page(relay, page, published);
		if (written != ASIDE_WRITTEN)
			return written == ASIDE_LATER;
		*progressed = true;
		free_page(page);
		relay->first_page = (relay->first_page + 1) % PAGES_MAX;
		relay->npages--;
	}
	return true;
}
