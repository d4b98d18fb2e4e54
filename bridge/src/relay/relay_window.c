/*
 * relay_window.c
 *		The relay: from the outbox. Checkpoint, windows, pages of events.
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
 * All of this holds for ids that a sequence gives out in order. If it is set back
 * below what we know, everything is read from the beginning once: which events
 * are new is told by their transactions alone.
 *
 * Some pages are under way at once: the next is read and published while the
 * broker still confirms the ones before, because a queue may confirm late (a
 * classic one does so by a timer) and must not stop the rest. They are retired
 * in their order. The checkpoint moves only over events that the broker has
 * confirmed, or that are kept aside because it does not take them. Whatever is lost
 * on the way there is published again under the same message_id.
 */
#include <inttypes.h>
#include <string.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"
#include "link/statements.h"
#include "relay/relay_state.h"

#define BUSY_EVENTS_MIN 8               /* a round that brings so many is not one order's */
#define LOOKED_AT_MAX   INT64_C(262144) /* events, by one statement */
#define IN_DOUBT_MS     100

/* ---------- the lease ---------- */

int
relay_lease_ms(void)
{
	return config.relay_lease_s * 1000;
}

bool
relay_execute(Relay *relay, const char *doing, const char *sql)
{
	PGresult *result;
	bool      ok = db_query(&relay->db, doing, sql, 0, NULL, &result) == DB_OK;

	PQclear(result);
	return ok;
}

void
relay_renew_lease(Relay *relay)
{
	relay->lease_due_ms = monotonic_ms() + relay_lease_ms() / 3;
}

/* Keeps our session while there is nothing else to ask the database: an idle one is taken for a
 * relay that hangs. */
bool
relay_keep_lease(Relay *relay)
{
	if (monotonic_ms() < relay->lease_due_ms)
		return true;
	relay_renew_lease(relay);
	return relay_execute(relay, "keeping the relay's lease", SQL_PING);
}

/* ---------- sleep ---------- */

bool
relay_fall_asleep(Relay *relay)
{
	relay->is_asleep = relay_execute(relay, "falling asleep", SQL_RELAY_MARK_IDLE);
	return relay->is_asleep;
}

bool
relay_wake_up(Relay *relay)
{
	if (!relay->is_asleep)
		return true;
	relay->is_asleep = false;
	return relay_execute(relay, "waking up", SQL_RELAY_UNMARK_IDLE);
}

/* ---------- the checkpoint ---------- */

static bool
copy_snapshot(char *to, size_t size, const char *text, int64_t low_event_id, Snapshot *snapshot)
{
	snapshot_free(snapshot);
	if (snprintf(to, size, "%s", text) >= (int) size ||
		!snapshot_parse(text, low_event_id, snapshot))
	{
		log_error("cannot read snapshot %s", text);
		return false;
	}
	return true;
}

/* Up to where the events of a window can be that was opened before, perhaps by another relay. */
static bool
read_head(Relay *relay)
{
	PGresult *result;
	bool      ok = db_query(&relay->db, "reading the head of the events", SQL_OUTBOX_HEAD, 0, NULL,
							&result) == DB_OK;

	if (ok)
		relay->read_head = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	return ok;
}

bool
relay_acquire(Relay *relay)
{
	const char *params[1] = {relay->holder};
	PGresult   *result;
	bool        ok = false;

	if (db_query(&relay->db, "taking over the relay", SQL_RELAY_ACQUIRE, 1, params, &result) ==
		DB_OK)
	{
		/* another relay has led meanwhile, and judged by itself */
		if (strtoll(PQgetvalue(result, 0, 0), NULL, 10) != strtoll(relay->epoch, NULL, 10) + 1)
			relay_forget_verdicts(relay);
		snprintf(relay->epoch, sizeof(relay->epoch), "%s", PQgetvalue(result, 0, 0));
		/* which transactions had begun is not kept: begin reading at the low event id */
		relay->head = relay->low = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
		ok = copy_snapshot(relay->snapshot_text, sizeof(relay->snapshot_text),
						   PQgetvalue(result, 0, 1), relay->low, &relay->snapshot);
		relay->window_text[0] = '\0';
		if (ok && relay->low < strtoll(PQgetvalue(result, 0, 5), NULL, 10))
			log_warning("the database was restored from another cluster: events %" PRId64
						" to %s are published, perhaps once more",
						relay->low + 1, PQgetvalue(result, 0, 5));
		if (ok && !PQgetisnull(result, 0, 3))
		{
			relay->window_head = relay->low;
			relay->cursor = strtoll(PQgetvalue(result, 0, 4), NULL, 10);
			ok = copy_snapshot(relay->window_text, sizeof(relay->window_text),
							   PQgetvalue(result, 0, 3), relay->low, &relay->window);
		}
	}
	PQclear(result);
	return ok && (relay->window_text[0] == '\0' || read_head(relay));
}

/* The sequence of event ids stands below what it gave out before: somebody has set it back. */
static void
note_set_back(Relay *relay, int64_t head)
{
	log_error("event ids went back: the last one is %" PRId64 ", and events up to %" PRId64
			  " were relayed; all events are looked at again",
			  head, relay->low > relay->head ? relay->low : relay->head);
	metric_set(METRIC_EVENTS_MISPLACED, 1);
	relay->head = relay->low = 0;
	for (int i = 0; i < relay->snapshot.nrunning; i++)
		relay->snapshot.running[i].low_event_id = 0;
}

bool
relay_look_for_misplaced(Relay *relay)
{
	PGresult *results[2];
	int64_t   top;
	int64_t   head;
	bool ok = db_query_each(&relay->db, "looking for misplaced events", SQL_OUTBOX_TOP_AND_HEAD, 2,
							results) == DB_OK;

	if (ok)
	{
		top = strtoll(PQgetvalue(results[0], 0, 0), NULL, 10);
		head = strtoll(PQgetvalue(results[1], 0, 0), NULL, 10);
		if (top > head)
		{
			log_error("there are events up to %" PRId64
					  " that this database has not given out the ids of (its last one is %" PRId64
					  "): they are not relayed; see check_consistency()",
					  top, head);
			metric_set(METRIC_EVENTS_MISPLACED, 1);
		}
	}
	PQclear(results[0]);
	PQclear(results[1]);
	return ok;
}

/* Writes the checkpoint as it is now; false if the connection is lost, or another relay has taken
 * over. */
bool
relay_write_checkpoint(Relay *relay, int published)
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
	ok = db_query_prepared(&relay->db, "moving the checkpoint", SQL_RELAY_ADVANCE, 7, params,
						   &result) == DB_OK;
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
	PGresult *results[3];
	int64_t   head;
	bool      ok;

	relay->db.has_rung = false; /* whoever has rung until now has committed, and is seen */
	ok = db_query_each(&relay->db, "looking for events", SQL_RELAY_HORIZON, 3, results) == DB_OK;
	if (ok)
	{
		head = strtoll(PQgetvalue(results[0], 0, 0), NULL, 10);
		if (head < relay->head || head < relay->low)
			note_set_back(relay, head);
		relay->window_head = relay->read_head = head;
		relay->next_xid = strtoull(PQgetvalue(results[1], 0, 0), NULL, 10);
		snprintf(relay->window_opened, sizeof(relay->window_opened), "%s",
				 PQgetvalue(results[1], 0, 1));
		ok = copy_snapshot(relay->window_text, sizeof(relay->window_text),
						   PQgetvalue(results[2], 0, 0), relay->head, &relay->window) &&
			 snapshot_add_begun(&relay->window, relay->next_xid, relay->head);
	}
	for (int i = 0; i < 3; i++)
		PQclear(results[i]);
	if (ok)
		snapshot_inherit(&relay->window, &relay->snapshot);
	return ok;
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

/* The transactions that the checkpoint saw running and the window's end sees ended, as a PostgreSQL
 * array. */
static char *
finished_xids(const Relay *relay)
{
	Text        text = {0};
	const char *separator = "";

	text_add_char(&text, '{');
	for (int i = 0; i < relay->snapshot.nrunning; i++)
	{
		if (!snapshot_sees(&relay->window, relay->snapshot.running[i].xid))
			continue;
		text_add_format(&text, "%s%" PRIu64, separator, relay->snapshot.running[i].xid);
		separator = ",";
	}
	text_add_char(&text, '}');
	return text_finish(&text);
}

/* Reads the page after that event, looking at none behind "last"; NULL if the database is lost. */
static PGresult *
read_page(Relay *relay, const char *finished, int64_t after, int64_t last, int max_events,
		  size_t max_bytes)
{
	char        after_text[24];
	char        from_xid[24];
	char        events[12];
	char        bytes[24];
	char        last_text[24];
	const char *params[7] = {after_text, from_xid, finished, relay->window_text,
							 events,     bytes,    last_text};
	PGresult   *rows;

	snprintf(after_text, sizeof(after_text), "%" PRId64, after);
	snprintf(from_xid, sizeof(from_xid), "%" PRIu64, relay->snapshot.xmax);
	snprintf(events, sizeof(events), "%d", max_events);
	snprintf(bytes, sizeof(bytes), "%zu", max_bytes);
	snprintf(last_text, sizeof(last_text), "%" PRId64, last);
	if (db_query_prepared(&relay->db, "reading events", SQL_RELAY_EVENTS, 7, params, &rows) ==
		DB_OK)
	{
		relay_renew_lease(relay);
		return rows;
	}
	PQclear(rows);
	return NULL;
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

/* Nothing of the window is up to there: others' events, relayed long ago, are not to be passed over
 * again. */
static bool
note_passed_over(Relay *relay, int64_t event_id)
{
	if (relay->npages > 0)
		return true;
	relay->cursor = event_id;
	role_progresses(ROLE_RELAY);
	return relay_listen(relay, 0) && relay_write_checkpoint(relay, 0); /* with its heartbeat */
}

/* Reads the page after *after and publishes it, if there is room; *more tells whether another may
 * follow. What one statement looks at has a bound. */
static bool
send_next_page(Relay *relay, const char *finished, int64_t *after, bool *more)
{
	size_t    max_bytes;
	int       max_events = relay_page_room(relay, &max_bytes);
	int64_t   last = *after + LOOKED_AT_MAX < relay->read_head ? *after + LOOKED_AT_MAX : INT64_MAX;
	bool      is_full;
	int       count;
	PGresult *rows;

	if (max_events == 0)
		return true;
	rows = read_page(relay, finished, *after, last, max_events, max_bytes);
	if (rows == NULL)
		return false;
	count = PQntuples(rows);
	is_full = count == max_events || relay_rows_bytes(rows) >= max_bytes;
	*more = is_full || last < INT64_MAX;
	*after = is_full ? strtoll(PQgetvalue(rows, count - 1, COLUMN_EVENT_ID), NULL, 10) : last;
	if (count > 0)
		return relay_add_page(relay, rows, false);
	PQclear(rows);
	return !*more || note_passed_over(relay, last);
}

/* Sends what there is room for, and takes answers: waits for them only if nothing could be sent. */
static bool
send_and_listen(Relay *relay, const char *finished, int64_t *after, bool *more, int *retired)
{
	int  under_way = relay->npages;
	bool progressed = false;

	*retired = 0;
	if (!relay_write_verdicts(relay))
		return false;
	/* one by one: those of the window first, for the deferred ones may be what the broker closes
	 * over */
	if (!stop_requested() && relay->careful_left == 0 && !relay_send_deferred(relay))
		return false;
	if (!stop_requested() && *more && !relay_is_in_doubt(relay) &&
		!send_next_page(relay, finished, after, more))
		return false;
	if (!stop_requested() && relay->careful_left > 0 && !relay_send_deferred(relay))
		return false;
	if (relay->npages == 0)
		return !*more || !relay_is_in_doubt(relay) || relay_listen(relay, IN_DOUBT_MS);
	if (!relay_take_answers(relay, relay->npages == under_way, retired, &progressed))
		return false;
	if (progressed)
		role_progresses(ROLE_RELAY);
	return true;
}

/*
 * Publishes page after page until the window is done, and deferred events that
 * are due; without a window only those. *published counts the window's events.
 * False if a connection is lost or a stop is requested; what is done is then in
 * the checkpoint, up to the page.
 */
static bool
drain_window(Relay *relay, bool has_window, int *published)
{
	char   *finished = has_window ? finished_xids(relay) : NULL;
	bool    ok = finished != NULL || !has_window;
	bool    more = has_window;
	int64_t after = relay->cursor;
	int     retired;

	*published = 0;
	do
	{
		/* pages that are under way are brought to an end: a stop must not cost duplicates */
		if (stop_requested() && relay->npages == 0)
			break;
		ok = ok && send_and_listen(relay, finished, &after, &more, &retired);
		/* first the window's end, then the checkpoint that tells of it */
		if (ok && has_window && !more && relay->npages == 0)
			close_window(relay);
		if (ok && retired > 0)
		{
			*published += retired;
			FAULT_POINT("relay.before_checkpoint");
			ok = relay_write_checkpoint(relay, retired);
			FAULT_POINT("relay.after_checkpoint");
		}
	} while (ok && (more || relay->npages > 0));
	free(finished);
	if (!ok)
		relay_note_loss(relay);
	relay_free_pages(relay);
	return ok && !more;
}

bool
relay_drain(Relay *relay, int *published)
{
	int count;

	*published = 0;
	do
	{
		if (relay_is_to_renew(relay))
		{
			log_warning("RabbitMQ refuses events since it was connected to: connecting anew");
			broker_give_up(relay->broker); /* another node is tried first */
			relay->is_renewing = true;
			return false;
		}
		if (relay->window_text[0] == '\0')
		{
			if (!open_window(relay))
				return false;
			if (strcmp(relay->window_text, relay->snapshot_text) == 0)
			{
				/* no transaction has begun or ended since */
				relay->window_text[0] = '\0';
				memcpy(relay->relayed_until, relay->window_opened, sizeof(relay->relayed_until));
				role_rests(ROLE_RELAY);
				return !relay->may_have_deferred || drain_window(relay, false, &count);
			}
			relay->cursor = window_start(relay);
		}
		if (!drain_window(relay, true, &count))
			return false;
		*published += count;
		role_rests(ROLE_RELAY);
		/* under load, let a few more gather: each round costs the database the same, however many
		 * events it brings */
		if (count >= BUSY_EVENTS_MIN && count < config.relay_window)
			stop_wait_ms(config.relay_linger_ms);
	} while (count > 0 && !stop_requested());
	return true;
}
