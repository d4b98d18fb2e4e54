/*
 * replies.c
 *		The replies role: vendors' answers, from RabbitMQ into the database.
 *
 * What has arrived is applied as one batch in one transaction and acknowledged
 * after its commit, so a crash in between delivers it again, and the database
 * finds duplicates. A batch that the database refuses is halved until the
 * message at fault is alone. What can never be applied goes to the dead queue,
 * with its reason in headers, before it is acknowledged: nothing is dropped, and
 * nothing blocks the queue (replies_publish.c). While the database is away we wait with what we
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
#include <string.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "replies/replies_state.h"

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

/* ---------- what the broker says ---------- */

void
replies_on_delivery(void *context, uint64_t tag, const BrokerMessage *message)
{
	Replies  *replies = context;
	bool      is_large = replies_is_too_large(message->body_bytes);
	Delivery *delivery;

	assert(replies->count < replies->room); /* the prefetch is the room */
	delivery = &replies->deliveries[replies->count];
	*delivery =
		(Delivery){.tag = tag, .bytes = message->body_bytes, .redeliveries = message->redeliveries};
	delivery->body = malloc(is_large ? 1 : message->body_bytes + 1);
	delivery->user_id = message->user_id ? strdup(message->user_id) : NULL;
	if (delivery->body == NULL || (message->user_id != NULL && delivery->user_id == NULL))
	{
		log_error("out of memory: a reply of %zu bytes goes back to its queue",
				  message->body_bytes);
		free_delivery(delivery);
		if (!broker_requeue(replies->broker, tag))
			log_warning("it will be delivered again");
		return;
	}
	snprintf(delivery->message_id, sizeof(delivery->message_id), "%s", message->message_id);
	memcpy(delivery->body, message->body, is_large ? 0 : message->body_bytes);
	delivery->body[is_large ? 0 : message->body_bytes] = '\0';
	if (is_large)
		replies_bury_large(replies, delivery, message);
	replies->count++;
}

/* ---------- acknowledging ---------- */

/* Is it applied, or with the broker elsewhere? */
static bool
is_settled(const Delivery *delivery)
{
	return delivery->is_done &&
		   (delivery->publish_tag != 0 ? delivery->is_published : !delivery->is_dead);
}

/* Acknowledges those of the first so many that are settled: all up to the first that is not in one
 * go.
 */
static bool
acknowledge(Replies *replies, int count)
{
	int  prefix = 0;
	bool ok = true;

	while (prefix < count && is_settled(&replies->deliveries[prefix]))
		prefix++;
	if (prefix > 0)
		ok = broker_ack(replies->broker, replies->deliveries[prefix - 1].tag, prefix);
	for (int i = prefix; ok && i < count; i++)
	{
		if (is_settled(&replies->deliveries[i]))
			ok = broker_ack(replies->broker, replies->deliveries[i].tag, 1);
	}
	return ok;
}

static void
forget_settled(Replies *replies, int count)
{
	int kept = 0;

	for (int i = 0; i < replies->count; i++)
	{
		if (i < count && is_settled(&replies->deliveries[i]))
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

/* Acknowledges and forgets the settled ones of the first so many; *count is then how many there
 * are.
 */
static bool
let_go(Replies *replies, int *count)
{
	if (!acknowledge(replies, *count))
		return false;
	forget_settled(replies, *count);
	*count = replies->count;
	return true;
}

/* ---------- set aside ---------- */

void
replies_set_aside(Delivery *delivery)
{
	long long delay = ASIDE_MS_MIN;

	for (int i = 0; i < delivery->tries && delay < ASIDE_MS_MAX; i++)
		delay *= 2;
	delivery->tries++;
	delivery->due_ms = monotonic_ms() + (delay < ASIDE_MS_MAX ? delay : ASIDE_MS_MAX);
}

bool
replies_is_to_be_tried(const Delivery *delivery)
{
	return !delivery->is_done && (delivery->due_ms == 0 || delivery->due_ms <= monotonic_ms());
}

/* Somebody's lock, or a queue that hangs, is not our standstill. */
static bool
is_waiting_for_others(const Replies *replies)
{
	for (int i = 0; i < replies->count; i++)
	{
		if (replies->deliveries[i].due_ms == 0)
			return false;
	}
	return true;
}

/* Applies all that has arrived and is to be tried; what is done goes to the dead queue, or is done,
 * and is acknowledged. */
static bool
settle_deliveries(Replies *replies)
{
	int count = replies->count; /* more may arrive meanwhile: they are not part of this */

	if (!let_go(replies, &count) || !replies_publishing_is_well(replies))
		return false;
	if (count == 0)
		return true;
	role_begins(ROLE_REPLIES);
	if (!replies_renew_worn(replies) || !replies_read_bodies(replies) ||
		!replies_apply_all(replies))
		return false;
	FAULT_POINT("replies.before_ack");
	if (!let_go(replies, &count) || !replies_put_back(replies) || !replies_bury(replies))
		return false;
	FAULT_POINT("replies.after_ack");
	metric_set(METRIC_REPLIES_SET_ASIDE, replies_count_aside(replies));
	if (is_waiting_for_others(replies))
		role_rests(ROLE_REPLIES);
	return true;
}

/* ---------- the role ---------- */

/* For the metrics, now and then; not while the broker may not answer because of what we publish. */
static void
measure(Replies *replies)
{
	int waiting;

	if (monotonic_ms() < replies->measure_due_ms || replies_are_unconfirmed(replies) ||
		broker_is_blocked(replies->broker))
		return;
	replies->measure_due_ms = monotonic_ms() + MEASURE_MS;
	waiting = broker_message_count(replies->broker, QUEUE_REPLIES_DEAD);
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
		long long left = replies->deliveries[i].due_ms - monotonic_ms();

		wait = left < wait ? left : wait;
	}
	return wait > 0 ? (int) wait : 0;
}

static bool
connect_broker(Replies *replies)
{
	const BrokerEvents events = {.context = replies,
								 .on_delivery = replies_on_delivery,
								 .on_confirm = replies_on_confirm,
								 .on_return = replies_on_return};
	int                limited;

	broker_close(replies->broker);
	replies_note_loss(replies);
	forget_deliveries(replies); /* the broker delivers them again */
	replies->was_refused = replies->was_returned = false;
	replies->broker = broker_open(config.rabbitmq_url, "order-bridge replies",
								  config.broker_timeout_s * 1000, &events);
	if (replies->broker == NULL || !broker_declare(replies->broker, &limited))
		return false;
	metric_set(METRIC_QUEUES_LIMITED, limited);
	return broker_consume(replies->broker, QUEUE_REPLIES, replies->room);
}

/* What the broker has of what was published is not to be published again by whoever goes on. */
static void
let_go_the_last(Replies *replies)
{
	long long until_ms = monotonic_ms() + LAST_MS;
	bool      is_alive = replies->broker != NULL;

	while (is_alive && replies_are_unconfirmed(replies) && monotonic_ms() < until_ms)
	{
		int count;

		is_alive = broker_process(replies->broker, LAST_STEP_MS);
		count = replies->count;
		is_alive = is_alive && let_go(replies, &count);
	}
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
		while (!stop_requested() && replies_wait_for_database(&replies) &&
			   broker_process(replies.broker, wait_ms(&replies)) && settle_deliveries(&replies))
			measure(&replies);
		role_set_ready(ROLE_REPLIES, false);
		role_rests(ROLE_REPLIES);
		if (!stop_requested())
		{
			metric_add(METRIC_RECONNECTS, 1);
			stop_wait_ms(backoff_next(&replies.backoff));
		}
	}
	let_go_the_last(&replies);
	forget_deliveries(&replies);
	free(replies.deliveries);
	broker_close(replies.broker);
	db_close(&replies.db);
	return NULL;
}
