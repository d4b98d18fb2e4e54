/*
 * replies_apply.c
 *		Replies applied to the database, a batch a transaction.
 */
#include <string.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"
#include "link/statements.h"
#include "replies/replies_state.h"
#include "replies/reply_text.h"

/* Keeps the broker's heartbeat between two pieces of work; false if the broker is lost. */
static bool
hear_broker(Replies *replies)
{
	if (monotonic_ms() < replies->hear_due_ms)
		return true;
	replies->hear_due_ms = monotonic_ms() + HEAR_EVERY_MS;
	return broker_process(replies->broker, 0);
}

/* Makes of each body what the database takes; what cannot be read is dead, and what there is no
 * memory for is tried again. False if the broker is lost. */
bool
replies_read_bodies(Replies *replies)
{
	for (int i = 0; i < replies->count; i++)
	{
		Delivery *delivery = &replies->deliveries[i];
		char      complaint[JSON_ERROR_TEXT_LENGTH + 64];

		if (!hear_broker(replies))
			return false;
		if (delivery->text != NULL || delivery->is_done)
			continue;
		delivery->text =
			reply_text_read(delivery->body, delivery->bytes, complaint, sizeof(complaint));
		if (delivery->text == NULL && *complaint == '\0')
		{
			log_error("out of memory: reply %s is left for later", delivery->message_id);
			replies_set_aside(delivery);
		}
		else if (delivery->text == NULL)
			replies_mark_dead(delivery, complaint);
	}
	return true;
}

/* Those that are to be tried, as a JSON array; which: their indexes. */
static char *
batch_text(const Replies *replies, const int *which, int count)
{
	Text text = {0};

	for (int i = 0; i < count; i++)
	{
		text_add_char(&text, i == 0 ? '[' : ',');
		text_add_string(&text, replies->deliveries[which[i]].text);
	}
	text_add_char(&text, ']');
	return text_finish(&text);
}

/* Who published each of them, as a PostgreSQL array. */
static char *
users_text(const Replies *replies, const int *which, int count)
{
	const char **users = calloc((size_t) count, sizeof(char *));
	char        *text;

	if (users == NULL)
		return NULL;
	for (int i = 0; i < count; i++)
		users[i] = replies->deliveries[which[i]].user_id;
	text = text_of_strings(users, count);
	free(users);
	return text;
}

static void
take_outcomes(Replies *replies, const int *which, int count, const PGresult *result)
{
	for (int i = 0; i < count; i++)
	{
		Delivery   *delivery = &replies->deliveries[which[i]];
		const char *outcome = PQgetvalue(result, i, 0);

		if (strcmp(outcome, "invalid") == 0)
			replies_mark_dead(delivery, PQgetvalue(result, i, 1));
		else if (strcmp(outcome, "busy") == 0)
		{
			replies_set_aside(delivery);
			replies->wary_until_ms = monotonic_ms() + WARY_MS;
			continue;
		}
		else if (strcmp(outcome, "applied") == 0)
			metric_add(METRIC_REPLIES_APPLIED, 1);
		else
		{
			log_info("reply %s: %s: %s", delivery->message_id, outcome, PQgetvalue(result, i, 1));
			metric_add(METRIC_REPLIES_WITHOUT_EFFECT, 1);
		}
		delivery->is_done = true;
	}
}

/* Waits for the database, keeping the broker's heartbeat; false if a stop is requested or the
 * broker is lost. */
bool
replies_wait_for_database(Replies *replies)
{
	long long began_ms = monotonic_ms();

	for (; !db_is_alive(&replies->db) && !db_connect(&replies->db); began_ms = monotonic_ms())
	{
		role_set_ready(ROLE_REPLIES, false);
		if (stop_requested() || !broker_process(replies->broker, 0))
			return false;
		stop_wait_ms(db_pause_ms(&replies->db, began_ms));
	}
	role_set_ready(ROLE_REPLIES, true);
	return true;
}

/* What is to be done after the database has refused a batch. */
typedef enum Refusal
{
	REFUSAL_OF_ONE, /* it is alone, and at fault */
	REFUSAL_HALVE,  /* one of them is at fault */
	REFUSAL_WARY,   /* somebody holds a lock: try again without waiting for any */
	REFUSAL_ASIDE,  /* it is alone, and may succeed later */
	REFUSAL_PASSES  /* try again after a while */
} Refusal;

static Refusal
judge_refusal(Replies *replies, DbOutcome outcome, const PGresult *result, int count)
{
	/* somebody else may have ended the connection; not each time */
	if (outcome == DB_LOST)
	{
		metric_add(METRIC_RECONNECTS, 1);
		if (++replies->refusals < REFUSALS_MAX)
			return REFUSAL_PASSES;
		return count == 1 ? REFUSAL_ASIDE : REFUSAL_HALVE;
	}
	if (db_is_locked_out(result) && monotonic_ms() >= replies->wary_until_ms)
		return REFUSAL_WARY;
	if (db_is_fault_of_input(result))
		return count == 1 ? REFUSAL_OF_ONE : REFUSAL_HALVE;
	/* because of one of them, or of how many they are */
	if (db_is_timed_out(&replies->db, result))
		return count == 1 ? REFUSAL_ASIDE : REFUSAL_HALVE;
	/* a lock that even a batch that waits for none meets is one of a whole table; a conflict each
	 * time may be one of them; a full disk is nobody's */
	if (result == NULL ||
		(db_is_passing(result) && !db_is_locked_out(result) && !db_is_conflict(result)) ||
		++replies->refusals < REFUSALS_MAX)
		return REFUSAL_PASSES;
	return count == 1 ? REFUSAL_ASIDE : REFUSAL_HALVE;
}

/* Waits a little, as long as nothing else is to be done; false if a stop is requested or the broker
 * is lost. */
static bool
wait_a_while(Replies *replies)
{
	stop_wait_ms(backoff_next(&replies->backoff));
	return !stop_requested() && broker_process(replies->broker, 0);
}

/* Applies deliveries, given by their indexes; false if a stop is requested or the broker is lost.
 */
static bool
apply(Replies *replies, const int *which, int count)
{
	while (replies_wait_for_database(replies))
	{
		bool        is_wary = monotonic_ms() < replies->wary_until_ms;
		char       *text = batch_text(replies, which, count);
		char       *users = users_text(replies, which, count);
		const char *params[2] = {text, users};
		PGresult   *result = NULL;
		DbOutcome   outcome;
		Refusal     refusal;

		if (text == NULL || users == NULL)
		{
			free(text);
			free(users);
			return false;
		}
		FAULT_POINT("replies.before_commit");
		outcome = db_query_prepared(&replies->db, "applying replies",
									is_wary ? SQL_APPLY_REPLIES_SKIP_LOCKED : SQL_APPLY_REPLIES, 2,
									params, &result);
		FAULT_POINT("replies.after_commit");
		free(text);
		free(users);
		if (outcome == DB_OK)
		{
			take_outcomes(replies, which, count, result);
			replies->refusals = 0;
			PQclear(result);
			return true;
		}
		refusal = judge_refusal(replies, outcome, result, count);
		if (refusal == REFUSAL_OF_ONE)
			replies_mark_dead(&replies->deliveries[which[0]], db_message(result));
		else if (refusal == REFUSAL_ASIDE)
			replies_set_aside(&replies->deliveries[which[0]]);
		else if (refusal == REFUSAL_WARY)
			replies->wary_until_ms = monotonic_ms() + WARY_MS;
		PQclear(result);
		if (refusal == REFUSAL_OF_ONE || refusal == REFUSAL_ASIDE)
			return true;
		if (refusal == REFUSAL_HALVE)
			return !stop_requested() && broker_process(replies->broker, 0) &&
				   apply(replies, which, count / 2) && !stop_requested() &&
				   broker_process(replies->broker, 0) &&
				   apply(replies, which + count / 2, count - count / 2);
		if (refusal == REFUSAL_PASSES && !wait_a_while(replies))
			return false;
	}
	return false;
}

/* Applies what is to be tried for the first time, or again, a batch after the other. */
static bool
apply_batches(Replies *replies, int *which, bool again)
{
	int  count = 0;
	bool ok = true;

	for (int i = 0; i < replies->count; i++)
	{
		const Delivery *delivery = &replies->deliveries[i];

		if (delivery->text != NULL && (delivery->tries > 0) == again &&
			replies_is_to_be_tried(delivery))
			which[count++] = i;
	}
	for (int first = 0; ok && first < count; first += config.replies_batch_max)
	{
		int left = count - first;

		ok = hear_broker(replies) &&
			 apply(replies, which + first,
				   left < config.replies_batch_max ? left : config.replies_batch_max);
	}
	return ok;
}

/* Applies what is to be tried: the new ones do not share a batch with those that have taken too
 * long. */
bool
replies_apply_all(Replies *replies)
{
	int *which = calloc((size_t) replies->room, sizeof(int));
	bool ok = which != NULL && apply_batches(replies, which, false) &&
			  apply_batches(replies, which, true);

	free(which);
	return ok;
}
