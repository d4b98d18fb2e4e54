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
 *
 * What we hold is bounded in bytes too: a reply that is too large is dead before it is
 * read, and never kept.
 *
 * A batch that waits for somebody's lock is applied again without waiting: what is
 * locked is set aside, and tried again after a while. If that comes to half of what
 * we may hold, it goes to the end of the queue, so that the replies behind it come.
 */
#include "replies/replies.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/broker.h"
#include "base/config.h"
#include "link/db.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "link/statements.h"
#include "replies/reply_text.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"

#define WAIT_MS           500
#define MEASURE_MS        5000
#define REASON_BYTES_MAX  1000
#define LOCK_TIMEOUT_MS   1000
#define TIMEOUT_MS        30000
#define WARY_MS           5000 /* after a lock was met, batches do not wait for any that long */
#define ASIDE_MS_MIN      100
#define ASIDE_MS_MAX      10000
#define PUT_BACK_EVERY_MS 1000
#define REFUSALS_MAX      3 /* of a batch, for reasons that are not the messages', before it is halved all the same */

/* One delivery, not acknowledged yet. */
typedef struct Delivery
{
	uint64_t  tag;
	char     *body; /* NUL-terminated */
	size_t    bytes;
	char      message_id[64];
	char     *user_id;     /* who published it, as the broker vouches; NULL: nobody */
	char     *text;        /* as the database takes it; NULL: not read yet, or dead */
	char     *dead_reason; /* NULL: not dead */
	bool      is_sent;     /* to the dead queue */
	bool      is_done;     /* applied, or dead: to be acknowledged */
	int       tries;       /* how often it was set aside */
	long long retry_ms;    /* 0: not set aside */
} Delivery;

typedef struct Replies
{
	Db        db;
	Amqp     *amqp;
	Backoff   backoff;
	Delivery *deliveries;
	int       count;
	int       room;
	int       refusals;       /* of the batch, for reasons that are not the messages' */
	long long wary_until_ms;  /* until then nobody is waited for */
	long long put_back_ms;    /* when deliveries were last put back */
	bool      has_progressed; /* since then */
	long long measure_due_ms;
} Replies;

/* ---------- deliveries ---------- */

static void
free_delivery(Delivery *delivery)
{
	free(delivery->body);
	free(delivery->user_id);
	free(delivery->text);
	free(delivery->dead_reason);
}

static void
forget_deliveries(Replies *replies)
{
	for (int i = 0; i < replies->count; i++)
		free_delivery(&replies->deliveries[i]);
	replies->count = 0;
}

/* ---------- dead letters ---------- */

/* The reason becomes a header, and headers must fit into one frame. */
static void
mark_dead(Delivery *delivery, const char *reason)
{
	if (delivery->dead_reason != NULL)
		return;
	delivery->dead_reason = strdup(reason);
	if (delivery->dead_reason != NULL)
		text_cut(delivery->dead_reason, REASON_BYTES_MAX);
	delivery->is_done = true;
	log_warning("reply %s can never be applied: %s", delivery->message_id, reason);
	metric_add(METRIC_REPLIES_DEAD, 1);
}

/* Publishes a copy of a delivery to a queue; for the dead one with the reason. */
static bool
publish_copy(Replies *replies, const Delivery *delivery, const char *queue, const void *body)
{
	const AmqpHeader headers[] = {{.name = "x-reason", .kind = AMQP_HEADER_TEXT, .text = delivery->dead_reason},
								  {.name = "x-original-queue", .kind = AMQP_HEADER_TEXT, .text = QUEUE_REPLIES}};

	return amqp_client_publish(replies->amqp, &(AmqpMessage){.exchange = "",
															 .routing_key = queue,
															 .mandatory = true,
															 .message_id = *delivery->message_id ? delivery->message_id : NULL,
															 .is_copy = true,
															 .user_id = delivery->user_id,
															 .headers = headers,
															 .nheaders = delivery->dead_reason != NULL ? 2 : 0,
															 .body = body,
															 .body_bytes = delivery->bytes}) != 0;
}

/* Publishes the dead ones of the first so many and waits until the broker has them all. */
static bool
publish_dead(Replies *replies, int count)
{
	for (int i = 0; i < count; i++)
	{
		Delivery *delivery = &replies->deliveries[i];

		if (!delivery->is_done || delivery->dead_reason == NULL || delivery->is_sent)
			continue;
		if (!publish_copy(replies, delivery, QUEUE_REPLIES_DEAD, delivery->body))
			return false;
		delivery->is_sent = true;
	}
	return amqp_client_wait_confirms(replies->amqp, config.broker_timeout_s * 1000);
}

/* ---------- what the broker says ---------- */

/* One that is too large goes to the dead queue at once, unread: we do not keep it in memory, many of them even less. */
static void
bury_large(Replies *replies, Delivery *delivery, const AmqpMessage *message)
{
	char reason[128];

	snprintf(reason, sizeof(reason), "the reply is %zu bytes long, more than REPLY_BYTES_MAX", message->body_bytes);
	mark_dead(delivery, reason);
	delivery->is_sent = publish_copy(replies, delivery, QUEUE_REPLIES_DEAD, message->body);
}

static void
on_delivery(void *context, uint64_t tag, const AmqpMessage *message)
{
	Replies  *replies = context;
	bool      is_large = message->body_bytes > (size_t) config.reply_bytes_max;
	Delivery *delivery;

	assert(replies->count < replies->room); /* the prefetch is the room */
	delivery = &replies->deliveries[replies->count];
	*delivery = (Delivery){.tag = tag, .bytes = message->body_bytes};
	delivery->body = malloc(is_large ? 1 : message->body_bytes + 1);
	delivery->user_id = message->user_id ? strdup(message->user_id) : NULL;
	if (delivery->body == NULL || (message->user_id != NULL && delivery->user_id == NULL))
	{
		log_error("out of memory: a reply of %zu bytes goes back to its queue", message->body_bytes);
		free_delivery(delivery);
		if (!amqp_client_requeue(replies->amqp, tag))
			log_warning("it will be delivered again");
		return;
	}
	snprintf(delivery->message_id, sizeof(delivery->message_id), "%s", message->message_id);
	memcpy(delivery->body, message->body, is_large ? 0 : message->body_bytes);
	delivery->body[is_large ? 0 : message->body_bytes] = '\0';
	if (is_large)
		bury_large(replies, delivery, message);
	replies->count++;
}

/* ---------- set aside ---------- */

static void
set_aside(Delivery *delivery)
{
	long long delay = ASIDE_MS_MIN;

	for (int i = 0; i < delivery->tries && delay < ASIDE_MS_MAX; i++)
		delay *= 2;
	delivery->tries++;
	delivery->retry_ms = monotonic_ms() + (delay < ASIDE_MS_MAX ? delay : ASIDE_MS_MAX);
}

static bool
is_to_be_tried(const Delivery *delivery)
{
	return !delivery->is_done && (delivery->retry_ms == 0 || delivery->retry_ms <= monotonic_ms());
}

static int
count_aside(const Replies *replies)
{
	int count = 0;

	for (int i = 0; i < replies->count; i++)
		count += replies->deliveries[i].retry_ms != 0 && !replies->deliveries[i].is_done;
	return count;
}

/*
 * If much of what we may hold is set aside, it goes to the end of the queue, and
 * others come. Not over and over again if there are no others.
 */
static bool
put_back(Replies *replies)
{
	int count = replies->count; /* more may come while we wait */

	if (count_aside(replies) < replies->room / 2 ||
		(!replies->has_progressed && monotonic_ms() < replies->put_back_ms + PUT_BACK_EVERY_MS))
		return true;
	replies->put_back_ms = monotonic_ms();
	replies->has_progressed = false;
	for (int i = 0; i < count; i++)
	{
		Delivery *delivery = &replies->deliveries[i];

		if (delivery->retry_ms == 0 || delivery->is_done)
			continue;
		if (!publish_copy(replies, delivery, QUEUE_REPLIES, delivery->body))
			return false;
		delivery->is_done = true;
	}
	return amqp_client_wait_confirms(replies->amqp, config.broker_timeout_s * 1000);
}

/* ---------- applying ---------- */

/* Makes of each body what the database takes; what cannot be read is dead. */
static void
read_bodies(Replies *replies)
{
	for (int i = 0; i < replies->count; i++)
	{
		Delivery *delivery = &replies->deliveries[i];
		char      complaint[JSON_ERROR_TEXT_LENGTH + 64];

		if (delivery->text != NULL || delivery->is_done)
			continue;
		delivery->text = reply_text_read(delivery->body, delivery->bytes, complaint, sizeof(complaint));
		if (delivery->text == NULL)
			mark_dead(delivery, complaint);
	}
}

/* Those that are to be tried, as a JSON array; which: their indexes. */
static char *
batch_text(const Replies *replies, const int *which, int count)
{
	char  *text = NULL;
	size_t size;
	FILE  *stream = open_memstream(&text, &size);

	if (stream == NULL)
		return NULL;
	for (int i = 0; i < count; i++)
		fprintf(stream, "%s%s", i == 0 ? "[" : ",", replies->deliveries[which[i]].text);
	fputc(']', stream);
	return text_finish(stream, &text);
}

/* Who published each of them, as a PostgreSQL array. */
static char *
users_text(const Replies *replies, const int *which, int count)
{
	char  *text = NULL;
	size_t size;
	FILE  *stream = open_memstream(&text, &size);

	if (stream == NULL)
		return NULL;
	fputc('{', stream);
	for (int i = 0; i < count; i++)
	{
		const char *user = replies->deliveries[which[i]].user_id;

		fputs(i == 0 ? "" : ",", stream);
		text_array_element(stream, user);
	}
	fputc('}', stream);
	return text_finish(stream, &text);
}

static void
take_outcomes(Replies *replies, const int *which, int count, const PGresult *result)
{
	for (int i = 0; i < count; i++)
	{
		Delivery   *delivery = &replies->deliveries[which[i]];
		const char *outcome = PQgetvalue(result, i, 0);

		if (strcmp(outcome, "invalid") == 0)
			mark_dead(delivery, PQgetvalue(result, i, 1));
		else if (strcmp(outcome, "busy") == 0)
		{
			set_aside(delivery);
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

/* Waits for the database, keeping the broker's heartbeat; false if a stop is requested or the broker is lost. */
static bool
wait_for_database(Replies *replies)
{
	while (!db_is_alive(&replies->db) && !db_connect(&replies->db))
	{
		role_set_ready(ROLE_REPLIES, false);
		if (stop_requested() || !amqp_client_process(replies->amqp, 0))
			return false;
		stop_wait_ms(backoff_next(&replies->db.backoff));
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
judge_refusal(Replies *replies, const PGresult *result, int count)
{
	if (db_is_locked_out(result) && monotonic_ms() >= replies->wary_until_ms)
		return REFUSAL_WARY;
	if (db_is_fault_of_input(result) && strncmp(db_sqlstate(result), "XX", 2) != 0)
		return count == 1 ? REFUSAL_OF_ONE : REFUSAL_HALVE;
	/* a lock that even a batch that waits for none meets is one of a whole table */
	if (result == NULL || (db_is_passing(result) && !db_is_locked_out(result)) || ++replies->refusals < REFUSALS_MAX)
		return REFUSAL_PASSES;
	return count == 1 ? REFUSAL_ASIDE : REFUSAL_HALVE;
}

/* Waits a little, as long as nothing else is to be done; false if a stop is requested or the broker is lost. */
static bool
wait_a_while(Replies *replies)
{
	stop_wait_ms(backoff_next(&replies->backoff));
	return !stop_requested() && amqp_client_process(replies->amqp, 0);
}

/* Applies deliveries, given by their indexes; false if a stop is requested or the broker is lost. */
static bool
apply(Replies *replies, const int *which, int count)
{
	while (wait_for_database(replies))
	{
		bool        is_wary = monotonic_ms() < replies->wary_until_ms;
		char       *text = batch_text(replies, which, count);
		char       *users = users_text(replies, which, count);
		const char *params[2] = {text, users};
		PGresult   *result = NULL;
		DbOutcome   outcome;
		Refusal     refusal = REFUSAL_PASSES;

		if (text == NULL || users == NULL)
		{
			free(text);
			free(users);
			return false;
		}
		FAULT_POINT("replies.before_commit");
		outcome = db_query(&replies->db, "applying replies", is_wary ? SQL_APPLY_REPLIES_SKIP_LOCKED : SQL_APPLY_REPLIES, 2,
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
		if (outcome == DB_ERROR)
			refusal = judge_refusal(replies, result, count);
		if (refusal == REFUSAL_OF_ONE)
			mark_dead(&replies->deliveries[which[0]], PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
		else if (refusal == REFUSAL_ASIDE)
			set_aside(&replies->deliveries[which[0]]);
		else if (refusal == REFUSAL_WARY)
			replies->wary_until_ms = monotonic_ms() + WARY_MS;
		PQclear(result);
		if (refusal == REFUSAL_OF_ONE || refusal == REFUSAL_ASIDE)
			return true;
		if (refusal == REFUSAL_HALVE)
			return apply(replies, which, count / 2) && apply(replies, which + count / 2, count - count / 2);
		metric_add(METRIC_RECONNECTS, outcome == DB_LOST);
		if (refusal == REFUSAL_PASSES && !wait_a_while(replies))
			return false;
	}
	return false;
}

/* Applies what is to be tried, a batch after the other. */
static bool
apply_all(Replies *replies)
{
	int *which = calloc((size_t) replies->room, sizeof(int));
	int  count = 0;
	bool ok = which != NULL;

	for (int i = 0; ok && i < replies->count; i++)
	{
		if (is_to_be_tried(&replies->deliveries[i]))
			which[count++] = i;
	}
	for (int first = 0; ok && first < count; first += config.replies_batch_max)
	{
		int left = count - first;

		ok = apply(replies, which + first, left < config.replies_batch_max ? left : config.replies_batch_max);
	}
	free(which);
	return ok;
}

/* ---------- acknowledging ---------- */

/* Acknowledges those of the first so many that are done: all up to the first that is not in one go. */
static bool
acknowledge(Replies *replies, int count)
{
	int  prefix = 0;
	bool ok = true;

	while (prefix < count && replies->deliveries[prefix].is_done)
		prefix++;
	if (prefix > 0)
		ok = amqp_client_ack(replies->amqp, replies->deliveries[prefix - 1].tag, prefix);
	for (int i = prefix; ok && i < count; i++)
	{
		if (replies->deliveries[i].is_done)
			ok = amqp_client_ack(replies->amqp, replies->deliveries[i].tag, 1);
	}
	return ok;
}

static void
forget_done(Replies *replies, int count)
{
	int kept = 0;

	for (int i = 0; i < replies->count; i++)
	{
		if (i < count && replies->deliveries[i].is_done)
			free_delivery(&replies->deliveries[i]);
		else
			replies->deliveries[kept++] = replies->deliveries[i];
	}
	if (kept < replies->count)
	{
		role_progresses(ROLE_REPLIES);
		replies->has_progressed = true;
		backoff_reset(&replies->backoff);
	}
	replies->count = kept;
}

/* Applies all that has arrived and is to be tried; what is done goes to the dead queue, or is done, and is acknowledged. */
static bool
settle_deliveries(Replies *replies)
{
	int  count = replies->count; /* while waiting for confirms more may arrive: they are not part of this */
	int  aside;
	bool ok;

	if (count == 0)
		return true;
	role_begins(ROLE_REPLIES);
	read_bodies(replies);
	ok = apply_all(replies) && publish_dead(replies, count);
	FAULT_POINT("replies.before_ack");
	ok = ok && acknowledge(replies, count);
	FAULT_POINT("replies.after_ack");
	if (!ok)
		return false;
	forget_done(replies, count);
	count = replies->count;
	ok = put_back(replies) && acknowledge(replies, count);
	if (ok)
		forget_done(replies, count);
	aside = count_aside(replies);
	metric_set(METRIC_REPLIES_SET_ASIDE, aside);
	if (aside == replies->count)
		role_rests(ROLE_REPLIES); /* others' locks are not our standstill */
	return ok;
}

/* ---------- the role ---------- */

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

/* How long nothing is to be done but to wait for the broker. */
static int
wait_ms(const Replies *replies)
{
	long long wait = WAIT_MS;

	for (int i = 0; i < replies->count; i++)
	{
		long long left = replies->deliveries[i].retry_ms - monotonic_ms();

		wait = left < wait ? left : wait;
	}
	return wait > 0 ? (int) wait : 0;
}

static bool
connect_broker(Replies *replies)
{
	const AmqpEvents events = {.context = replies, .on_delivery = on_delivery};

	amqp_client_close(replies->amqp);
	forget_deliveries(replies); /* the broker delivers them again */
	replies->amqp = amqp_client_open(config.rabbitmq_url, "order-bridge replies", config.broker_timeout_s * 1000, &events);
	return replies->amqp != NULL && amqp_client_declare(replies->amqp) &&
		   amqp_client_consume(replies->amqp, QUEUE_REPLIES, replies->room);
}

void *
replies_run(void *unused)
{
	Replies replies = {.backoff = {.delay_ms_min = 100, .delay_ms_max = 5000}};

	(void) unused;
	log_set_role("replies");
	replies.room = config.replies_bytes_max / config.reply_bytes_max;
	if (replies.room > config.replies_prefetch)
		replies.room = config.replies_prefetch;
	if (replies.room < 1)
		replies.room = 1;
	replies.deliveries = calloc((size_t) replies.room, sizeof(Delivery));
	assert(replies.deliveries != NULL);
	db_init(&replies.db, config.database_url, "order-bridge replies", NULL);
	replies.db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	replies.db.timeout_ms = TIMEOUT_MS;
	role_set_ready(ROLE_REPLIES, false);

	while (db_connect_until_stopped(&replies.db))
	{
		if (!connect_broker(&replies))
		{
			role_set_ready(ROLE_REPLIES, false);
			stop_wait_ms(backoff_next(&replies.backoff));
			continue;
		}
		while (!stop_requested() && wait_for_database(&replies) && amqp_client_process(replies.amqp, wait_ms(&replies)) &&
			   settle_deliveries(&replies))
			measure(&replies);
		role_set_ready(ROLE_REPLIES, false);
		role_rests(ROLE_REPLIES);
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
						.is_copy = true,
						.user_id = message->user_id,
						.body = message->body,
						.body_bytes = message->body_bytes};

	if (redrive->failed || redrive->moved == redrive->max)
		return; /* not acknowledged: it stays where it is */
	if (amqp_client_publish(redrive->amqp, &copy) == 0 ||
		!amqp_client_wait_confirms(redrive->amqp, config.broker_timeout_s * 1000) || !amqp_client_ack(redrive->amqp, tag, 1))
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
