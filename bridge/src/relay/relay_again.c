/*
 * relay_again.c
 *		What the broker has refused, or did not answer in time, published again.
 */
#include <jansson.h>

#include "base/config.h"
#include "base/log.h"
#include "base/stop.h"
#include "relay/relay_state.h"

#define RESEND_MS_MIN 50
#define RESEND_MS_MAX 1000
#define NACKS_MAX     3
#define STOP_MS_MAX   5000 /* for the broker's answers once a stop is requested */
#define FULL_WORDS    "RabbitMQ does not take it: a queue is full"

/* Which events of a page the broker goes on refusing. */
typedef struct Refused
{
	int     *events;
	int64_t *event_ids;
	int      count;
	bool     others_were_taken;
} Refused;

static void
find_refused(Relay *relay, const Page *page, Refused *refused)
{
	for (int i = 0; i < page->count; i++)
	{
		const char      *routing_key = event_column(page, i, COLUMN_ROUTING_KEY);
		const PageEvent *event = &page->events[i];

		refused->others_were_taken |=
			page->is_deferred && event->state == EVENT_DONE && event->nacks == 0;
		if (event->state != EVENT_TO_SEND || event->nacks == 0 ||
			(event->nacks < NACKS_MAX && !page->is_deferred && !relay_is_full(relay, routing_key)))
			continue;
		relay_note_full(relay, routing_key);
		refused->events[refused->count] = i;
		refused->event_ids[refused->count++] = page_event_id(page, i);
	}
}

static Aside
defer(Relay *relay, Page *page, const Refused *refused)
{
	Aside written;

	if (refused->count == 0)
		return ASIDE_WRITTEN;
	written = relay_defer(relay, refused->event_ids, refused->count, FULL_WORDS,
						  refused->others_were_taken);
	if (written == ASIDE_WRITTEN)
		log_warning(
			"RabbitMQ does not take %d events, because a queue is full; they are sent again later",
			refused->count);
	for (int i = 0; i < refused->count && written == ASIDE_WRITTEN; i++)
	{
		page->events[refused->events[i]].state = EVENT_ASIDE;
		page->refused--;
	}
	return written;
}

/* Keeps aside those that the broker goes on refusing, so that they hold up no others; those that
 * cannot be kept aside now are sent again with the rest. */
static bool
defer_refused(Relay *relay, Page *page)
{
	Refused refused = {.events = calloc((size_t) page->count, sizeof(int)),
					   .event_ids = calloc((size_t) page->count, sizeof(int64_t))};
	Aside   written = ASIDE_FAILED;

	if (refused.events != NULL && refused.event_ids != NULL)
	{
		find_refused(relay, page, &refused);
		written = defer(relay, page, &refused);
	}
	free(refused.events);
	free(refused.event_ids);
	return written != ASIDE_FAILED;
}

static int
resend_delay_ms(const Page *page)
{
	int nacks = 0;
	int delay = RESEND_MS_MIN;

	for (int i = 0; i < page->count; i++)
		nacks = page->events[i].nacks > nacks ? page->events[i].nacks : nacks;
	while (nacks-- > 1 && delay < RESEND_MS_MAX)
		delay *= 2;
	return delay;
}

/*
 * Sends again what was refused, after a little while; what could not be routed
 * the first time after our queue was declared anew.
 */
bool
relay_publish_again(Relay *relay, Page *page)
{
	if (page->resend_ms == 0)
	{
		if (!defer_refused(relay, page))
			return false;
		if (page->refused == 0)
			return true;
		page->resend_ms = monotonic_ms() + resend_delay_ms(page);
	}
	/* while it is blocked it may not even answer */
	if (monotonic_ms() < page->resend_ms || broker_is_blocked(relay->broker))
		return true;
	page->resend_ms = 0;
	log_warning("RabbitMQ did not take %d events; they are published again", page->refused);
	if (!page->declared)
	{
		page->declared = true;
		if (!broker_declare(relay->broker, NULL))
			return false;
	}
	return !stop_requested() && relay_publish_page(relay, page);
}

void
relay_put_off(Relay *relay)
{
	for (int n = 0; n < relay->npages; n++)
		page_under_way(relay, n)->due_ms = monotonic_ms() + relay_broker_timeout_ms();
}

/* True if the broker has had its time for a page, or for all of them since a stop was requested, or
 * what is under way is known to come to nothing. */
bool
relay_is_overdue(Relay *relay)
{
	long long now = monotonic_ms();
	int       time_ms = relay_broker_timeout_ms();

	if (stop_requested() && relay->stop_due_ms == 0)
		relay->stop_due_ms = now + STOP_MS_MAX;
	if (relay->stop_due_ms != 0 && now > relay->stop_due_ms)
		return true;
	if (broker_is_blocked(relay->broker))
		relay_put_off(relay);
	for (int n = 0; n < relay->npages; n++)
	{
		Page *page = page_under_way(relay, n);

		if (page->unanswered == 0)
			continue;
		if (now > page->due_ms - (time_ms - time_ms / 3) && !relay_suspect(relay))
			return true;
		if (now <= page->due_ms)
			continue;
		log_warning("RabbitMQ has not confirmed %d events for %d s", page->unanswered,
					config.broker_timeout_s);
		broker_give_up(relay->broker);
		return true;
	}
	return false;
}
