/*
 * relay_silent.c
 *		The relay: queues that hang, and keys over which the broker closes the channel.
 *
 * A quorum queue without its majority confirms nothing, and RabbitMQ lets what is published to it
 * over a channel that has not met it before wait for over a minute: and with it all that comes
 * after it on that channel, whatever its key. Whose fault it is cannot be seen there. So when the
 * broker has owed us answers for a third of its time, one event of each key that waits is tried
 * over a connection of its own:
 *
 *		waits --answered, whatever the answer--> not at fault
 *		waits --none for a sixth of the time---> silent
 *
 * When all that wait were tried, what is of silent keys is deferred, and the others go on over a
 * new connection. Now and then one of its events is tried over a connection of its own again, and
 * may take all of the broker's time, for nobody waits for it; once one is answered soon the key is
 * like the others, and what was deferred, that event, too, is sent like theirs.
 *
 * A key over which the broker closes the channel (relay_closed.c) is treated alike: our channel is
 * closed over none of its events again, and one is tried now and then. What the broker takes of it
 * there has been sent. Until any other is taken it may be us whom it refuses: then what waits in
 * the window is put aside a few hundred events a second, no faster, so that what comes behind them
 * is reached and tells.
 *
 * A broker that does not even let us connect is waited for, as one that hangs.
 */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/stop.h"
#include "relay/relay_state.h"

#define TRIED_EVERY_MS   4000
#define DEFERRED_NEXT_MS 250
#define DOUBTED_MAX      250
#define DOUBTED_EVERY_MS 1000
#define SILENT_WORDS     "RabbitMQ does not answer for it: a queue hangs"
#define REFUSED_WORDS    "RabbitMQ closes the channel over it"

/* How long a trial may take while others wait for it. */
static int
trial_ms(void)
{
	return relay_broker_timeout_ms() / 6;
}

static SilentKey *
find_key(Relay *relay, const char *routing_key)
{
	for (int i = 0; i < relay->nsilent; i++)
	{
		if (strcmp(relay->silent[i].key, routing_key) == 0)
			return &relay->silent[i];
	}
	return NULL;
}

static bool
is_refused(const SilentKey *silent)
{
	return *silent->words != '\0';
}

/* One that hangs: of what is refused there is an answer. */
static SilentKey *
find_silent(Relay *relay, const char *routing_key)
{
	SilentKey *silent = find_key(relay, routing_key);

	return silent != NULL && !is_refused(silent) ? silent : NULL;
}

static void
forget_silent(Relay *relay, SilentKey *silent)
{
	*silent = relay->silent[--relay->nsilent];
}

/* ---------- trials ---------- */

static void
on_trial_confirm(void *context, uint64_t tag, bool is_ack)
{
	Trial *trial = context;

	(void) tag;
	trial->is_answered = true;
	trial->is_taken = is_ack && !trial->is_returned;
}

static void
on_trial_return(void *context, const char *message_id, int reply_code, const char *reply_text)
{
	Trial *trial = context;

	(void) message_id;
	(void) reply_code;
	(void) reply_text;
	trial->is_returned = true;
}

static void
end_trial(Trial *trial)
{
	broker_close(trial->broker);
	*trial = (Trial){0};
}

bool
relay_has_trials(const Relay *relay)
{
	for (int i = 0; i < 2 * TRIALS_MAX; i++)
	{
		if (relay->trials[i].broker != NULL)
			return true;
	}
	return false;
}

void
relay_end_trials(Relay *relay)
{
	for (int i = 0; i < 2 * TRIALS_MAX; i++)
		end_trial(&relay->trials[i]);
}

/* Those of silent keys, which may take long, leave room for the others. */
static Trial *
free_trial(Relay *relay, bool is_of_silent)
{
	int first = is_of_silent ? TRIALS_MAX : 0;

	for (int i = first; i < first + TRIALS_MAX; i++)
	{
		if (relay->trials[i].broker == NULL)
			return &relay->trials[i];
	}
	return NULL;
}

/* A connection for one event; false if there can be none. It is not to end the lease. */
static bool
connect_trial(Relay *relay, Trial *trial)
{
	BrokerEvents events = {
		.context = trial, .on_confirm = on_trial_confirm, .on_return = on_trial_return};

	if (monotonic_ms() < relay->trials_due_ms || stop_requested())
		return false;
	relay->lease_due_ms = 0; /* all of it is ahead of us */
	if (!relay_keep_lease(relay))
		return false;
	trial->broker = broker_open(config.rabbitmq_url, "order-bridge relay, a key that is silent",
								relay_publish_timeout_ms(), &events);
	if (trial->broker == NULL)
		relay->trials_due_ms = monotonic_ms() + relay_broker_timeout_ms();
	return trial->broker != NULL && relay_keep_lease(relay);
}

/* Publishes the event over a connection of its own; if that fails it shows there. It is bound like
 * ours: what is missing must not be missed by this event. False if there can be none now. */
static bool
begin_trial(Relay *relay, const Page *page, int event, bool is_of_silent)
{
	Trial *trial = free_trial(relay, is_of_silent);

	if (trial == NULL)
		return false;
	if (!connect_trial(relay, trial))
	{
		end_trial(trial);
		return false;
	}
	snprintf(trial->key, sizeof(trial->key), "%s", event_column(page, event, COLUMN_ROUTING_KEY));
	trial->event_id = page_event_id(page, event);
	trial->began_ms = monotonic_ms();
	trial->due_ms = trial->began_ms + (is_of_silent ? relay_broker_timeout_ms() : trial_ms());
	relay_remember(relay, page, event);
	if (broker_bind_like(relay->broker, trial->broker))
		relay_publish_to(trial->broker, page, event);
	return true;
}

/* ---------- who is at fault ---------- */

/* One event is tried, or is to be, for all of its key that wait. */
static void
set_tried(Relay *relay, const char *routing_key, bool is_tried)
{
	for (Waiting at = WAITING_FIRST; relay_next_waiting(relay, &at);)
	{
		if (strcmp(event_column(at.page, at.event, COLUMN_ROUTING_KEY), routing_key) == 0)
			at.page->events[at.event].is_tried = is_tried;
	}
}

/* Begins a trial for each key that waits, as long as there can be another. */
static void
try_those_that_wait(Relay *relay)
{
	for (Waiting at = WAITING_FIRST; relay_next_waiting(relay, &at);)
	{
		const char *routing_key = event_column(at.page, at.event, COLUMN_ROUTING_KEY);

		if (at.page->events[at.event].is_tried || find_silent(relay, routing_key) != NULL)
			continue;
		if (!begin_trial(relay, at.page, at.event, false))
			return;
		set_tried(relay, routing_key, true);
	}
}

bool
relay_waits_for_silent(Relay *relay)
{
	for (Waiting at = WAITING_FIRST; relay->nsilent > 0 && relay_next_waiting(relay, &at);)
	{
		if (find_silent(relay, event_column(at.page, at.event, COLUMN_ROUTING_KEY)) != NULL)
			return true;
	}
	return false;
}

bool
relay_suspect(Relay *relay)
{
	int trials = 0;

	broker_doubt(relay->broker); /* another node would tell more */
	try_those_that_wait(relay);
	for (int i = 0; i < TRIALS_MAX; i++)
		trials += relay->trials[i].broker != NULL;
	return trials > 0 || !relay_waits_for_silent(relay);
}

/* Is the event with the broker, and unanswered? */
static bool
is_waiting(Relay *relay, int64_t event_id)
{
	for (Waiting at = WAITING_FIRST; relay_next_waiting(relay, &at);)
	{
		if (page_event_id(at.page, at.event) == event_id)
			return true;
	}
	return false;
}

/* In place of the one whose turn is over longest, if there are too many. */
static SilentKey *
room_for_silent(Relay *relay)
{
	SilentKey *oldest = &relay->silent[0];

	if (relay->nsilent < SILENT_KEYS_MAX)
		return &relay->silent[relay->nsilent++];
	for (int i = 1; i < SILENT_KEYS_MAX; i++)
	{
		if (relay->silent[i].try_ms < oldest->try_ms)
			oldest = &relay->silent[i];
	}
	return oldest;
}

/* One that has just been tried. */
static SilentKey *
add_silent(Relay *relay, const char *routing_key)
{
	SilentKey *silent = room_for_silent(relay);

	*silent = (SilentKey){.try_ms = monotonic_ms() + TRIED_EVERY_MS};
	snprintf(silent->key, sizeof(silent->key), "%s", routing_key);
	return silent;
}

static void
note_silence(Relay *relay, const Trial *trial)
{
	SilentKey *silent = find_key(relay, trial->key);

	if (silent != NULL)
	{
		/* all of them get their turn */
		silent->try_ms = monotonic_ms() + TRIED_EVERY_MS +
						 (long long) relay->nsilent / TRIALS_MAX * relay_broker_timeout_ms();
		silent->losses = 0;
		return;
	}
	if (!is_waiting(relay, trial->event_id))
	{
		set_tried(relay, trial->key, false);
		return;
	}
	add_silent(relay, trial->key);
	backoff_reset(&relay->backoff);
	log_warning("RabbitMQ does not answer for key %s: a queue hangs; its events are sent again "
				"later, the others over a new connection",
				trial->key);
}

/* The broker does not refuse everything. */
static void
note_one_taken(Relay *relay)
{
	relay->ndoubted = 0;
	for (int i = 0; i < relay->nsilent; i++)
		relay->silent[i].others_are_taken = is_refused(&relay->silent[i]);
}

/* False if the database is lost. */
static bool
note_answer(Relay *relay, const Trial *trial)
{
	SilentKey *silent = find_key(relay, trial->key);
	bool       is_late = monotonic_ms() - trial->began_ms > trial_ms();
	bool       ok = true;

	if (trial->is_taken)
		note_one_taken(relay);
	if (silent == NULL)
		return true;
	if (trial->is_taken && (is_late || is_refused(silent)))
		ok = relay_deferred_sent(relay, &trial->event_id, 1) != ASIDE_FAILED;
	if (is_refused(silent) && !trial->is_answered)
	{
		silent->try_ms = monotonic_ms() + TRIED_EVERY_MS;
		return ok;
	}
	/* over our own connection all would wait so long */
	if (is_late)
	{
		silent->try_ms = monotonic_ms();
		silent->losses = 0;
		return ok;
	}
	log_info("RabbitMQ answers for key %s again", trial->key);
	forget_silent(relay, silent);
	for (int i = 0; i < relay->nsilent; i++)
		relay->silent[i].try_ms = 0; /* perhaps it was the same queue, or node */
	return ok;
}

/* The connection was lost, or the broker is blocked: that may be of anything, unless it is lost
 * each time. */
static void
note_nothing(Relay *relay, const Trial *trial, bool is_lost)
{
	SilentKey *silent = find_key(relay, trial->key);

	relay->trials_due_ms = monotonic_ms() + trial_ms();
	set_tried(relay, trial->key, false);
	if (silent != NULL && is_lost && ++silent->losses == LOSSES_MAX)
		forget_silent(relay, silent);
}

bool
relay_attend_trials(Relay *relay)
{
	bool ok = true;

	for (int i = 0; i < 2 * TRIALS_MAX; i++)
	{
		Trial *trial = &relay->trials[i];
		bool   is_alive;

		if (trial->broker == NULL)
			continue;
		is_alive = broker_process(trial->broker, 0);
		/* a channel that is closed over it is an answer, too */
		if (trial->is_answered || broker_refusal(trial->broker)->is_of_publish)
			ok = note_answer(relay, trial) && ok;
		else if (!is_alive || broker_is_blocked(trial->broker))
			note_nothing(relay, trial, !is_alive);
		else if (monotonic_ms() < trial->due_ms)
			continue;
		else
			note_silence(relay, trial);
		end_trial(trial);
	}
	return ok;
}

/* ---------- silent keys ---------- */

void
relay_note_refused_key(Relay *relay, const char *routing_key, const char *words)
{
	SilentKey *silent = find_key(relay, routing_key);

	if (silent == NULL)
		silent = add_silent(relay, routing_key);
	silent->try_ms = monotonic_ms() + TRIED_EVERY_MS;
	snprintf(silent->words, sizeof(silent->words), "%s", *words != '\0' ? words : REFUSED_WORDS);
}

void
relay_note_taken_keys(Relay *relay, const Page *page)
{
	bool is_one_taken = false;

	for (int i = 0; i < page->count && relay->nsilent > 0; i++)
	{
		SilentKey *silent;

		if (page->events[i].state != EVENT_DONE)
			continue;
		silent = find_key(relay, event_column(page, i, COLUMN_ROUTING_KEY));
		if (silent != NULL && is_refused(silent))
			forget_silent(relay, silent);
		is_one_taken = true;
	}
	if (is_one_taken)
		note_one_taken(relay);
}

const char *
relay_silent_words(Relay *relay, const char *routing_key)
{
	const SilentKey *silent = find_key(relay, routing_key);

	return silent != NULL && is_refused(silent) ? silent->words : SILENT_WORDS;
}

static void
count_doubted(Relay *relay)
{
	if (monotonic_ms() >= relay->doubted_until_ms)
	{
		relay->doubted_until_ms = monotonic_ms() + DOUBTED_EVERY_MS;
		relay->ndoubted = 0;
	}
	relay->ndoubted++;
}

bool
relay_is_in_doubt(const Relay *relay)
{
	return relay->ndoubted >= DOUBTED_MAX && monotonic_ms() < relay->doubted_until_ms;
}

static bool
is_on_trial(const Relay *relay, const char *routing_key)
{
	for (int i = TRIALS_MAX; i < 2 * TRIALS_MAX; i++)
	{
		if (relay->trials[i].broker != NULL && strcmp(relay->trials[i].key, routing_key) == 0)
			return true;
	}
	return false;
}

/* Tries that event of the key, if it is time. */
static void
try_silent(Relay *relay, SilentKey *silent, const Page *page, int event)
{
	if (monotonic_ms() < silent->try_ms || is_on_trial(relay, silent->key))
		return;
	/* one for which there is no room now is tried before those that were tried just now */
	if (begin_trial(relay, page, event, true))
		silent->try_ms = monotonic_ms() + TRIED_EVERY_MS;
}

bool
relay_defer_silent(Relay *relay, Page *page)
{
	bool ok;

	if (relay->nsilent == 0)
		return true;
	for (int i = 0; i < page->count; i++)
	{
		SilentKey *silent = find_key(relay, event_column(page, i, COLUMN_ROUTING_KEY));

		if (page->events[i].state != EVENT_TO_SEND || silent == NULL)
			continue;
		if (is_refused(silent) && !silent->others_are_taken && !page->is_deferred)
			count_doubted(relay);
		page->events[i].state = EVENT_TO_DEFER;
		page->skipped++;
		page->to_write++;
		try_silent(relay, silent, page, i);
	}
	ok = db_is_connected(&relay->db) && relay_write_aside(relay, page);
	/* those of other keys may be due behind so many of them */
	if (page->is_deferred && page->skipped == page->count)
		relay->deferred_due_ms = monotonic_ms() + DEFERRED_NEXT_MS;
	return ok;
}
