/*
 * relay_closed.c
 *		The relay: events over which the broker closes the channel.
 *
 * It takes everything with it that was under way, and names no culprit:
 *
 *		all at once --the channel closed over a publish, or lost three times--> one by one
 *		one by one  --as many taken, or passed over, as were under way--> all at once
 *
 * One by one, the event that was under way when the channel closed is the one. If
 * the broker's words are of the message itself it is parked. If they may be of us
 * (no such exchange, not allowed), or there are none, it is deferred, and if some
 * in a row fare like that we go on slowly, one every few seconds, instead of
 * putting everything aside at once. What else is of a key that is not allowed is
 * deferred unsent, as that of a key whose queue hangs: relay_silent.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "relay/relay_state.h"

#define UNPROVEN_MAX 5
#define NOT_FOUND    404 /* an exchange, which is declared anew as we connect */

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

/* Counts the events of the pages under way, what is to be skipped or written down included: so many
 * are read again. */
static int
count_to_repeat(Relay *relay)
{
	int count = 0;

	for (int n = 0; n < relay->npages; n++)
		count += page_under_way(relay, n)->count;
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
	if (suspect->verdict == VERDICT_DEFER && refusal->is_of_publish && refusal->code != NOT_FOUND)
		relay_note_refused_key(relay, event_column(page, event, COLUMN_ROUTING_KEY), suspect->text);
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
	relay->is_judging = relay->unproven <= UNPROVEN_MAX;
	if (count == 1)
	{
		judge_suspect(relay, page, event, refusal);
		relay->careful_left = relay->careful_left > 0 ? relay->careful_left : 1;
		return;
	}
	relay->losses++;
	relay->cautious_left = count_to_repeat(relay);
	if (refusal->is_of_publish || relay->losses >= LOSSES_MAX)
	{
		log_warning(
			"RabbitMQ has closed the channel over one of %d events: they are sent one by one",
			count);
		relay->careful_left = relay->cautious_left;
		relay->losses = 0;
	}
}

static Aside
write_verdict(Relay *relay, const Suspect *guilty)
{
	Aside written;

	if (guilty->verdict == VERDICT_DEFER)
		return relay_defer(relay, &guilty->event_id, 1, guilty->text, false);
	written = relay_park(relay, guilty->event_id, guilty->code, guilty->text);
	metric_add(METRIC_EVENTS_REFUSED, written == ASIDE_WRITTEN);
	return written;
}

static void
tell_verdict(const Suspect *guilty)
{
	if (guilty->verdict == VERDICT_PARK)
		log_error("RabbitMQ refuses event %" PRId64 ": %d %s; parked", guilty->event_id,
				  guilty->code, guilty->text);
	else
		log_warning("RabbitMQ does not take event %" PRId64 ": %d %s; deferred", guilty->event_id,
					guilty->code, guilty->text);
}

bool
relay_execute_verdict(Relay *relay)
{
	Suspect *suspect = &relay->suspect;
	Aside    written;

	if (suspect->verdict == VERDICT_NONE)
		return true;
	written = write_verdict(relay, suspect);
	if (written == ASIDE_FAILED || (written == ASIDE_LATER && relay->nunwritten == UNWRITTEN_MAX))
		return false;
	if (written == ASIDE_LATER)
		relay->unwritten[relay->nunwritten++] = *suspect;
	tell_verdict(suspect);
	relay->unproven += suspect->verdict == VERDICT_DEFER && !suspect->is_deferred;
	if (suspect->is_deferred)
		relay_note_passed(relay, 1);
	else /* it is read again with its window, and passed over then */
		relay->set_aside[relay->nset_aside++ % SET_ASIDE_MAX] = suspect->event_id;
	suspect->verdict = VERDICT_NONE;
	suspect->event_id = 0;
	suspect->losses = 0;
	if (relay->unproven <= UNPROVEN_MAX)
		backoff_reset(&relay->backoff);
	return true;
}

bool
relay_write_verdicts(Relay *relay)
{
	Aside written = ASIDE_WRITTEN;

	while (relay->nunwritten > 0 && written == ASIDE_WRITTEN)
	{
		written = write_verdict(relay, &relay->unwritten[relay->nunwritten - 1]);
		relay->nunwritten -= written == ASIDE_WRITTEN;
	}
	return written != ASIDE_FAILED;
}

static bool
is_unwritten(const Relay *relay, int64_t event_id)
{
	for (int i = 0; i < relay->nunwritten; i++)
	{
		if (relay->unwritten[i].event_id == event_id)
			return true;
	}
	return false;
}

bool
relay_waits_for_verdict(const Relay *relay, const Page *page)
{
	for (int i = 0; i < page->count && relay->nunwritten > 0 && !page->is_deferred; i++)
	{
		if (is_unwritten(relay, page_event_id(page, i)))
			return true;
	}
	return false;
}

bool
relay_is_judged(const Relay *relay, const Page *page, int event)
{
	if (relay->nset_aside == 0 && relay->nunwritten == 0)
		return false;
	return page->is_deferred ? is_unwritten(relay, page_event_id(page, event))
							 : relay_is_set_aside(relay, page_event_id(page, event));
}

void
relay_forget_verdicts(Relay *relay)
{
	relay->nset_aside = relay->nunwritten = relay->nsilent = relay->losses = relay->unproven = 0;
	relay->careful_left = relay->cautious_left = relay->ndoubted = 0;
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
relay_note_passed(Relay *relay, int count)
{
	relay->careful_left = relay->careful_left > count ? relay->careful_left - count : 0;
	relay->cautious_left = relay->cautious_left > count ? relay->cautious_left - count : 0;
}

void
relay_note_taken(Relay *relay, int count)
{
	relay->losses = relay->unproven = 0;
	relay_note_passed(relay, count);
}
