/*
 * relay_memory.c
 *		What was sent lately, if the database has lost it since.
 *
 * An asynchronous fail-over loses the last transactions, a restore to an earlier point all since
 * then. Their events may be with the broker already, and their vendors may serve orders that are
 * nowhere any more. Who has sent them is the only one who knows: each event that was sent is looked
 * for once the database, its cluster or its timeline is another one. What was set back below its
 * cluster, to a snapshot of its disk, has the same timeline; it lacks what was sent last, which is
 * looked for with each new connection.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "link/statements.h"
#include "relay/relay_state.h"

#define EVENTS_MAX       65536 /* what is older is forgotten */
#define TRIES_MAX        10
#define LAST_EVENTS      16 /* looked for with each new connection */
#define MESSAGE_ID_BYTES 37
#define KEY_BYTES        80 /* of a longer one the beginning is kept */
#define TIMELINE_BYTES   64

typedef struct SentEvent
{
	int64_t event_id;
	int64_t order_id; /* 0: it is of no order */
	int64_t created_at_us;
	char    message_id[MESSAGE_ID_BYTES];
	char    key[KEY_BYTES];
} SentEvent;

/* A ring; the last count of them. */
struct RelayMemory
{
	char      timeline[TIMELINE_BYTES]; /* whose events these are; empty: not known yet */
	unsigned  next;
	int       count;
	int64_t   top;          /* the highest event id of them all, or of older ones */
	int       tries;        /* without an answer, since it was known what is missing */
	bool      has_left_ids; /* of the orders that this set-back has lost */
	SentEvent events[EVENTS_MAX];
};

/* The order that an event of ours is about: it is the first member. */
static int64_t
order_of(const char *payload)
{
	static const char first[] = "{\"orderId\": ";

	return strncmp(payload, first, strlen(first)) == 0 ? strtoll(payload + strlen(first), NULL, 10)
													   : 0;
}

/* The n-th oldest. */
static SentEvent *
nth_sent(RelayMemory *memory, int n)
{
	return &memory->events[(memory->next - (unsigned) memory->count + (unsigned) n) % EVENTS_MAX];
}

/* Was it sent before, not long ago? What was deferred may have been longer ago. */
static bool
is_remembered(RelayMemory *memory, const Page *page, int event)
{
	int64_t event_id = page_event_id(page, event);
	int     looked_at = (page->is_deferred ? 4 : 2) * config.relay_window;

	if (event_id > memory->top)
		return false;
	for (int n = memory->count - 1; n >= 0 && n >= memory->count - looked_at; n--)
	{
		const SentEvent *sent = nth_sent(memory, n);

		if (sent->event_id == event_id &&
			strcmp(sent->message_id, event_column(page, event, COLUMN_MESSAGE_ID)) == 0)
			return true;
	}
	return false;
}

void
relay_remember(Relay *relay, const Page *page, int event)
{
	RelayMemory *memory = relay->memory;
	SentEvent   *sent;

	if (memory == NULL || is_remembered(memory, page, event))
		return; /* or out of memory */
	sent = &memory->events[memory->next++ % EVENTS_MAX];
	if (memory->count < EVENTS_MAX)
		memory->count++;
	sent->event_id = page_event_id(page, event);
	memory->top = sent->event_id > memory->top ? sent->event_id : memory->top;
	sent->order_id = order_of(event_column(page, event, COLUMN_PAYLOAD));
	sent->created_at_us = strtoll(event_column(page, event, COLUMN_CREATED_AT_US), NULL, 10);
	snprintf(sent->message_id, sizeof(sent->message_id), "%s",
			 event_column(page, event, COLUMN_MESSAGE_ID));
	snprintf(sent->key, sizeof(sent->key), "%s", event_column(page, event, COLUMN_ROUTING_KEY));
}

void
relay_forget(Relay *relay)
{
	free(relay->memory);
	relay->memory = NULL;
}

/* Asks which of the last ones the database has never had, by their places among these; NULL if it
 * cannot be asked. */
static PGresult *
ask_for_missing(Relay *relay, int last)
{
	RelayMemory *memory = relay->memory;
	int          first = memory->count - last;
	size_t       count = (size_t) last;
	int64_t     *event_ids = calloc(count, sizeof(int64_t));
	int64_t     *created_at = calloc(count, sizeof(int64_t));
	const char **message_ids = calloc(count, sizeof(char *));
	char        *texts[3] = {NULL};
	PGresult    *result = NULL;

	for (int i = 0; i < last && event_ids && created_at && message_ids; i++)
	{
		event_ids[i] = nth_sent(memory, first + i)->event_id;
		created_at[i] = nth_sent(memory, first + i)->created_at_us;
		message_ids[i] = nth_sent(memory, first + i)->message_id;
	}
	if (event_ids != NULL && created_at != NULL && message_ids != NULL)
	{
		texts[0] = text_of_ids(event_ids, last);
		texts[1] = text_of_strings(message_ids, last);
		texts[2] = text_of_ids(created_at, last);
	}
	if (texts[0] != NULL && texts[1] != NULL && texts[2] != NULL &&
		db_query(&relay->db, "looking for events that were sent", SQL_RELAY_MISSING, 3,
				 (const char *const *) texts, &result) != DB_OK)
	{
		PQclear(result);
		result = NULL;
	}
	for (int i = 0; i < 3; i++)
		free(texts[i]);
	free(event_ids);
	free(created_at);
	free(message_ids);
	return result;
}

static void
tell_missing(RelayMemory *memory, const PGresult *missing)
{
	int  count = PQntuples(missing);
	bool has_oldest = count > 0 && atoi(PQgetvalue(missing, 0, 0)) == 1;

	for (int i = 0; i < count; i++)
	{
		const SentEvent *sent = nth_sent(memory, atoi(PQgetvalue(missing, i, 0)) - 1);

		log_error("event %" PRId64 " message_id=%s key=%s order=%" PRId64
				  " may be with the broker, and the database has lost it",
				  sent->event_id, sent->message_id, sent->key, sent->order_id);
	}
	metric_add(METRIC_EVENTS_LOST, count);
	log_warning("the database is another one than before, its timeline is, or it was set "
				"back: of the last %d events sent to the broker it lacks %d%s",
				memory->count, count,
				has_oldest && memory->count == EVENTS_MAX ? ", and perhaps older ones" : "");
}

/* The same, how often it takes: a server that was just promoted may have no time for it, and what
 * is not asked now nobody can tell any more. False: to be tried again, with another connection. */
static bool
find_missing(Relay *relay, int last, PGresult **missing)
{
	RelayMemory *memory = relay->memory;

	*missing = ask_for_missing(relay, last);
	if (*missing != NULL)
		return true;
	if (!db_is_connected(&relay->db) || ++memory->tries < TRIES_MAX)
		return false;
	log_error("which of the last %d events sent to the broker the database has lost is not known: "
			  "it did not answer %d times",
			  last, memory->tries);
	return true;
}

/* What is gone is told of once; what is still there a later set-back may lose. */
static void
forget_missing(RelayMemory *memory, const PGresult *missing)
{
	unsigned oldest = memory->next - (unsigned) memory->count;
	int      count = 0;
	int      row = 0;

	memory->top = 0;
	for (int n = 0; n < memory->count; n++)
	{
		const SentEvent *sent = nth_sent(memory, n);

		if (row < PQntuples(missing) && atoi(PQgetvalue(missing, row, 0)) - 1 == n)
		{
			row++;
			continue;
		}
		memory->top = sent->event_id > memory->top ? sent->event_id : memory->top;
		memory->events[(oldest + (unsigned) count++) % EVENTS_MAX] = *sent;
	}
	memory->count = count;
	memory->next = oldest + (unsigned) count;
}

/* Looks for all that was sent in a database that is now of that timeline. */
static bool
look_for_sent(Relay *relay, const char *timeline)
{
	RelayMemory *memory = relay->memory;
	PGresult    *missing = NULL;

	if (*memory->timeline != '\0')
	{
		if (memory->count > 0 && !find_missing(relay, memory->count, &missing))
			return false;
		if (missing != NULL)
		{
			tell_missing(memory, missing);
			forget_missing(memory, missing);
		}
		else
			memory->count = 0;
		PQclear(missing);
		relay_forget_verdicts(relay); /* ids that it gives from now on are of other events */
	}
	snprintf(memory->timeline, sizeof(memory->timeline), "%s", timeline);
	memory->tries = 0;
	memory->has_left_ids = false;
	return true;
}

/* Has a database of the timeline of before been set back? It lacks what was sent last. False: to be
 * tried again. */
static bool
find_set_back(Relay *relay, bool *is_set_back)
{
	int       count = relay->memory->count;
	int       last = count < LAST_EVENTS ? count : LAST_EVENTS;
	PGresult *missing = NULL;
	bool      ok = last == 0 || find_missing(relay, last, &missing);

	*is_set_back = missing != NULL && PQntuples(missing) > 0;
	if (ok && !*is_set_back)
		relay->memory->tries = 0;
	PQclear(missing);
	return ok;
}

/* Nothing tells the database: ids that it gives next may be those of orders that it has lost. */
static bool
leave_order_ids(Relay *relay)
{
	PGresult *result;

	if (!relay->memory->has_left_ids)
	{
		relay->memory->has_left_ids =
			db_query(&relay->db, "leaving the ids of orders that were lost", SQL_LEAVE_ORDER_IDS, 0,
					 NULL, &result) == DB_OK;
		PQclear(result);
	}
	return relay->memory->has_left_ids;
}

bool
relay_look_back(Relay *relay)
{
	PGresult *result;
	bool      is_set_back = false;
	bool      ok = true;

	if (relay->memory == NULL && (relay->memory = calloc(1, sizeof(RelayMemory))) == NULL)
		return true;
	if (db_query(&relay->db, "asking for the timeline", SQL_RELAY_TIMELINE, 0, NULL, &result) !=
		DB_OK)
		ok = false;
	else if (strcmp(PQgetvalue(result, 0, 0), relay->memory->timeline) != 0)
		ok = look_for_sent(relay, PQgetvalue(result, 0, 0));
	else
		ok = find_set_back(relay, &is_set_back) &&
			 (!is_set_back ||
			  (leave_order_ids(relay) && look_for_sent(relay, PQgetvalue(result, 0, 0))));
	PQclear(result);
	return ok && db_is_connected(&relay->db);
}
