/*
 * replies.c
 *		The replies role: vendors' answers, from RabbitMQ into the database.
 *
 * What has arrived is applied as one batch in one transaction and acknowledged
 * after its commit, so a crash in between delivers it again, and the database
 * finds duplicates. A batch that the database refuses is halved until the
 * message at fault is alone. What can never be applied goes to the dead queue,
 * with its reason in headers, before it is acknowledged: nothing is dropped, and
 * nothing blocks the queue. While the database is away we wait with what we
 * hold, and the prefetch keeps the rest in the broker.
 */
#include "replies.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amqp.h"
#include "config.h"
#include "db.h"
#include "fault.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "stop.h"
#include "text.h"

#define WAIT_MS          500
#define MEASURE_MS       5000
#define REASON_BYTES_MAX 1000

/* One delivery, not acknowledged yet. */
typedef struct Delivery
{
	uint64_t tag;
	char    *body; /* NUL-terminated */
	size_t   bytes;
	char     message_id[64];
	char    *dead_reason; /* NULL: not dead */
} Delivery;

typedef struct Replies
{
	Db        db;
	Amqp     *amqp;
	Backoff   backoff;
	Delivery *deliveries;
	int       count;
	int       room;
	long long measure_due_ms;
} Replies;

/* ---------- what the broker says ---------- */

static void
on_delivery(void *context, uint64_t tag, const AmqpMessage *message)
{
	Replies  *replies = context;
	Delivery *delivery;

	assert(replies->count < replies->room); /* the prefetch is the room */
	delivery = &replies->deliveries[replies->count];
	*delivery = (Delivery){.tag = tag, .bytes = message->body_bytes};
	delivery->body = malloc(message->body_bytes + 1);
	if (delivery->body == NULL)
	{
		log_error("out of memory: a reply of %zu bytes goes back to its queue", message->body_bytes);
		if (!amqp_client_requeue(replies->amqp, tag))
			log_warning("it will be delivered again");
		return;
	}
	memcpy(delivery->body, message->body, message->body_bytes);
	delivery->body[message->body_bytes] = '\0';
	snprintf(delivery->message_id, sizeof(delivery->message_id), "%s", message->message_id);
	replies->count++;
}

/* ---------- dead letters ---------- */

/* The reason becomes a header, and headers must fit into one frame: it is cut, between characters. */
static void
mark_dead(Delivery *delivery, const char *reason)
{
	size_t length = strnlen(reason, REASON_BYTES_MAX);

	if (delivery->dead_reason != NULL)
		return;
	while (length == REASON_BYTES_MAX && length > 0 && (reason[length] & 0xc0) == 0x80)
		length--;
	delivery->dead_reason = strndup(reason, length);
	log_warning("reply %s can never be applied: %s", delivery->message_id, reason);
	metric_add(METRIC_REPLIES_DEAD, 1);
}

/* Publishes the dead ones and waits until the broker has them all. */
static bool
bury(Replies *replies)
{
	int count = replies->count;

	for (int i = 0; i < count; i++)
	{
		const Delivery  *delivery = &replies->deliveries[i];
		const AmqpHeader headers[] = {{.name = "x-reason", .kind = AMQP_HEADER_TEXT, .text = delivery->dead_reason},
									  {.name = "x-original-queue", .kind = AMQP_HEADER_TEXT, .text = QUEUE_REPLIES}};

		if (delivery->dead_reason == NULL)
			continue;
		if (amqp_client_publish(replies->amqp, &(AmqpMessage){.exchange = "",
															  .routing_key = QUEUE_REPLIES_DEAD,
															  .mandatory = true,
															  .message_id = *delivery->message_id ? delivery->message_id : NULL,
															  .headers = headers,
															  .nheaders = 2,
															  .body = delivery->body,
															  .body_bytes = delivery->bytes}) == 0)
			return false;
	}
	return amqp_client_wait_confirms(replies->amqp, config.broker_timeout_s * 1000);
}

/* ---------- applying ---------- */

/* Marks what is not a JSON object in UTF-8 as dead. */
static void
check_bodies(Replies *replies)
{
	for (int i = 0; i < replies->count; i++)
	{
		Delivery    *delivery = &replies->deliveries[i];
		json_error_t error;
		json_t      *json = json_loadb(delivery->body, delivery->bytes, JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &error);
		char         reason[JSON_ERROR_TEXT_LENGTH + 32];

		if (text_has_nul(delivery->body, delivery->bytes))
			mark_dead(delivery, "body is not JSON: it has a NUL character");
		else if (json == NULL)
		{
			snprintf(reason, sizeof(reason), "body is not JSON: %s", error.text);
			mark_dead(delivery, reason);
		}
		json_decref(json);
	}
}

/* Deliveries first .. first + count - 1 that are not dead, as a JSON array. */
static char *
batch_text(const Replies *replies, int first, int count)
{
	char       *text = NULL;
	size_t      size;
	FILE       *stream = open_memstream(&text, &size);
	const char *separator = "";

	if (stream == NULL)
		return NULL;
	fputc('[', stream);
	for (int i = first; i < first + count; i++)
	{
		if (replies->deliveries[i].dead_reason != NULL)
			continue;
		fprintf(stream, "%s%s", separator, replies->deliveries[i].body);
		separator = ",";
	}
	fputc(']', stream);
	return text_finish(stream, &text);
}

static void
take_outcomes(Replies *replies, int first, int count, const PGresult *result)
{
	int row = 0;

	for (int i = first; i < first + count; i++)
	{
		const char *outcome;

		if (replies->deliveries[i].dead_reason != NULL)
			continue;
		outcome = PQgetvalue(result, row, 0);
		if (strcmp(outcome, "invalid") == 0)
			mark_dead(&replies->deliveries[i], PQgetvalue(result, row, 1));
		else if (strcmp(outcome, "applied") == 0)
			metric_add(METRIC_REPLIES_APPLIED, 1);
		else
		{
			log_info("reply %s: %s: %s", replies->deliveries[i].message_id, outcome, PQgetvalue(result, row, 1));
			metric_add(METRIC_REPLIES_WITHOUT_EFFECT, 1);
		}
		row++;
	}
}

/*
 * True if a message itself is at fault: its data, its size, what it would do to
 * the rows. All else (no extension, no privilege, no disk, a deadlock) may pass,
 * and is waited for like a database that is away.
 */
static bool
is_fault_of_message(const char *sqlstate)
{
	static const char *const classes[] = {"22", "23", "54", "OA", "P0"};

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
	{
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	}
	return false;
}

/* Waits for the database, keeping the broker's heartbeat; false if a stop is requested or the broker is lost. */
static bool
wait_for_database(Replies *replies)
{
	while (!db_is_connected(&replies->db) && !db_connect(&replies->db))
	{
		role_set_ready(ROLE_REPLIES, false);
		if (stop_requested() || !amqp_client_process(replies->amqp, 0))
			return false;
		stop_wait_ms(backoff_next(&replies->db.backoff));
	}
	role_set_ready(ROLE_REPLIES, true);
	return true;
}

/* Applies a range of the deliveries; false if a stop is requested or the broker is lost. */
static bool
apply_range(Replies *replies, int first, int count)
{
	while (wait_for_database(replies))
	{
		char       *text = batch_text(replies, first, count);
		const char *params[1] = {text};
		PGresult   *result = NULL;
		DbOutcome   outcome;
		char        sqlstate[6] = "";

		if (text == NULL)
			return false;
		FAULT_POINT("replies.before_commit");
		outcome = db_query(&replies->db, "applying replies", SQL_APPLY_REPLIES, 1, params, &result);
		FAULT_POINT("replies.after_commit");
		free(text);
		if (outcome == DB_OK)
			take_outcomes(replies, first, count, result);
		else if (outcome == DB_ERROR)
			snprintf(sqlstate, sizeof(sqlstate), "%s", PQresultErrorField(result, PG_DIAG_SQLSTATE));
		if (is_fault_of_message(sqlstate) && count == 1)
			mark_dead(&replies->deliveries[first], PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
		PQclear(result);

		if (outcome == DB_OK || (is_fault_of_message(sqlstate) && count == 1))
			return true;
		if (is_fault_of_message(sqlstate))
			return apply_range(replies, first, count / 2) && apply_range(replies, first + count / 2, count - count / 2);
		metric_add(METRIC_RECONNECTS, outcome == DB_LOST);
		role_set_ready(ROLE_REPLIES, false);
		stop_wait_ms(backoff_next(&replies->backoff));
		if (stop_requested() || !amqp_client_process(replies->amqp, 0))
			return false;
	}
	return false;
}

/* For the metrics, now and then. */
static void
measure(Replies *replies)
{
	int waiting;

	if (monotonic_ms() < replies->measure_due_ms)
		return;
	replies->measure_due_ms = monotonic_ms() + MEASURE_MS;
	waiting = amqp_client_message_count(replies->amqp, QUEUE_REPLIES_DEAD);
	if (waiting >= 0)
		metric_set(METRIC_DEAD_LETTERS, waiting);
}

static void
forget_deliveries(Replies *replies)
{
	for (int i = 0; i < replies->count; i++)
	{
		free(replies->deliveries[i].body);
		free(replies->deliveries[i].dead_reason);
	}
	replies->count = 0;
}

/* Applies, buries and acknowledges all that has arrived. */
static bool
settle_deliveries(Replies *replies)
{
	int  count = replies->count;
	bool ok = true;

	if (count == 0)
		return true;
	check_bodies(replies);
	for (int first = 0; ok && first < count; first += config.replies_batch_max)
	{
		int left = count - first;

		ok = apply_range(replies, first, left < config.replies_batch_max ? left : config.replies_batch_max);
	}
	/* while waiting for confirms more may arrive: they are not part of this ack */
	ok = ok && bury(replies);
	FAULT_POINT("replies.before_ack");
	ok = ok && amqp_client_ack(replies->amqp, replies->deliveries[count - 1].tag, true);
	FAULT_POINT("replies.after_ack");
	if (!ok)
		return false;
	for (int i = 0; i < count; i++)
	{
		free(replies->deliveries[i].body);
		free(replies->deliveries[i].dead_reason);
	}
	memmove(replies->deliveries, replies->deliveries + count, sizeof(Delivery) * (replies->count - count));
	replies->count -= count;
	backoff_reset(&replies->backoff);
	return true;
}

/* ---------- the role ---------- */

static bool
connect_broker(Replies *replies)
{
	const AmqpEvents events = {.context = replies, .on_delivery = on_delivery};

	amqp_client_close(replies->amqp);
	forget_deliveries(replies); /* the broker delivers them again */
	replies->amqp = amqp_client_open(config.rabbitmq_url, "order-bridge replies", config.broker_timeout_s * 1000, &events);
	return replies->amqp != NULL && amqp_client_declare(replies->amqp) &&
		   amqp_client_consume(replies->amqp, QUEUE_REPLIES, config.replies_prefetch);
}

void *
replies_run(void *unused)
{
	Replies replies = {.backoff = {.delay_ms_min = 100, .delay_ms_max = 5000}};

	(void) unused;
	log_set_role("replies");
	replies.room = config.replies_prefetch;
	replies.deliveries = calloc(replies.room, sizeof(Delivery));
	assert(replies.deliveries != NULL);
	db_init(&replies.db, config.database_url, "order-bridge replies", NULL);
	role_set_ready(ROLE_REPLIES, false);

	while (db_connect_until_stopped(&replies.db))
	{
		if (!connect_broker(&replies))
		{
			stop_wait_ms(backoff_next(&replies.backoff));
			continue;
		}
		role_set_ready(ROLE_REPLIES, true);
		while (!stop_requested() && amqp_client_process(replies.amqp, replies.count > 0 ? 0 : WAIT_MS) &&
			   settle_deliveries(&replies))
			measure(&replies);
		role_set_ready(ROLE_REPLIES, false);
		if (!stop_requested())
		{
			metric_add(METRIC_RECONNECTS, 1);
			stop_wait_ms(backoff_next(&replies.backoff));
		}
	}
	forget_deliveries(&replies);
	free(replies.deliveries);
	amqp_client_close(replies.amqp);
	db_close(&replies.db);
	return NULL;
}

/* ---------- redriving ---------- */

typedef struct Redrive
{
	Amqp *amqp;
	int   moved;
	int   max;
	bool  failed;
} Redrive;

/* Publishes the message to the live queue and only then takes it from the dead one. */
static void
on_dead_letter(void *context, uint64_t tag, const AmqpMessage *message)
{
	Redrive    *redrive = context;
	AmqpMessage copy = {.exchange = "",
						.routing_key = QUEUE_REPLIES,
						.mandatory = true,
						.message_id = *message->message_id ? message->message_id : NULL,
						.body = message->body,
						.body_bytes = message->body_bytes};

	if (redrive->failed || redrive->moved == redrive->max)
		return; /* not acknowledged: it stays where it is */
	if (amqp_client_publish(redrive->amqp, &copy) == 0 ||
		!amqp_client_wait_confirms(redrive->amqp, config.broker_timeout_s * 1000) || !amqp_client_ack(redrive->amqp, tag, false))
		redrive->failed = true;
	else
		redrive->moved++;
}

int
replies_redrive(int max)
{
	Redrive          redrive = {.max = max};
	const AmqpEvents events = {.context = &redrive, .on_delivery = on_dead_letter};
	int              before = -1;
	int              waiting;

	redrive.amqp = amqp_client_open(config.rabbitmq_url, "order-bridge redrive", config.broker_timeout_s * 1000, &events);
	/* one at a time: a delivery must not arrive while another waits for its confirm */
	if (redrive.amqp == NULL || !amqp_client_declare(redrive.amqp) ||
		(waiting = amqp_client_message_count(redrive.amqp, QUEUE_REPLIES_DEAD)) < 0 ||
		!amqp_client_consume(redrive.amqp, QUEUE_REPLIES_DEAD, 1))
		redrive.failed = true;
	else
		redrive.max = waiting < max ? waiting : max; /* those that die again meanwhile are left */
	while (!redrive.failed && redrive.moved < redrive.max && redrive.moved > before)
	{
		before = redrive.moved;
		if (!amqp_client_process(redrive.amqp, 1000))
			redrive.failed = true;
	}
	amqp_client_close(redrive.amqp);
	return redrive.failed ? -1 : redrive.moved;
}
