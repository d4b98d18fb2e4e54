/*
 * replies_publish.c
 *		Replies that go back to the broker: the dead to their queue, others to the end of theirs.
 *
 * Nobody waits until the broker has them: meanwhile what can be applied is, and what was published
 * is acknowledged once the broker has confirmed that. What the broker does not take, because a
 * queue is full, hangs or is gone, or of an alarm, ends the connection, and is not published again
 * for a while.
 */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "base/text.h"
#include "replies/replies_state.h"

/* ---------- publishing ---------- */

static bool
may_publish(const Replies *replies)
{
	return monotonic_ms() >= replies->publish_due_ms;
}

/* Publishes a copy of a delivery to a queue; for the dead one with the reason. */
static bool
publish_copy(Replies *replies, Delivery *delivery, const char *queue, const void *body)
{
	const BrokerHeader headers[] = {
		{.name = "x-reason",
		 .kind = AMQP_HEADER_TEXT,
		 .text = delivery->dead_reason ? delivery->dead_reason : "there was no memory to say why"},
		{.name = "x-original-queue", .kind = AMQP_HEADER_TEXT, .text = QUEUE_REPLIES}};

	delivery->publish_tag = broker_publish(
		replies->broker,
		&(BrokerMessage){.exchange = "",
						 .routing_key = queue,
						 .mandatory = true,
						 .message_id = *delivery->message_id ? delivery->message_id : NULL,
						 .is_copy = true,
						 .user_id = delivery->user_id,
						 .headers = headers,
						 .nheaders = delivery->is_dead ? 2 : 0,
						 .body = body,
						 .body_bytes = delivery->bytes});
	if (delivery->publish_tag == 0)
		return false;
	delivery->is_done = true;
	delivery->due_ms = monotonic_ms() + config.broker_timeout_s * 1000LL;
	return true;
}

static bool
is_unconfirmed(const Delivery *delivery)
{
	return delivery->publish_tag != 0 && !delivery->is_published;
}

/* Which of them was returned nobody says, and its ack follows: none counts any more. */
void
replies_on_return(void *context, const char *message_id, int reply_code, const char *reply_text)
{
	Replies *replies = context;

	log_warning("reply %s was returned: %d %s", message_id, reply_code, reply_text);
	replies->was_returned = true;
}

void
replies_on_confirm(void *context, uint64_t tag, bool is_ack)
{
	Replies *replies = context;

	replies->was_refused |= !is_ack;
	for (int i = 0; i < replies->count; i++)
	{
		if (replies->deliveries[i].publish_tag == tag)
			replies->deliveries[i].is_published = is_ack && !replies->was_returned;
	}
}

static bool
are_unconfirmed(const Replies *replies, bool with_dead)
{
	for (int i = 0; i < replies->count; i++)
	{
		const Delivery *delivery = &replies->deliveries[i];

		if (is_unconfirmed(delivery) && (with_dead || !delivery->is_dead))
			return true;
	}
	return false;
}

bool
replies_are_unconfirmed(const Replies *replies)
{
	return are_unconfirmed(replies, true);
}

bool
replies_publishing_is_well(Replies *replies)
{
	bool is_well = !replies->was_refused && !replies->was_returned;

	for (int i = 0; i < replies->count && is_well; i++)
	{
		const Delivery *delivery = &replies->deliveries[i];

		is_well = !is_unconfirmed(delivery) ||
				  (monotonic_ms() < delivery->due_ms && !broker_is_blocked(replies->broker));
		if (!is_well)
			broker_give_up(replies->broker);
	}
	if (!is_well)
		replies->publish_due_ms = monotonic_ms() + PUBLISH_AGAIN_MS;
	return is_well;
}

void
replies_note_loss(Replies *replies)
{
	if (replies_are_unconfirmed(replies))
		replies->publish_due_ms = monotonic_ms() + PUBLISH_AGAIN_MS;
	metric_set(METRIC_REPLIES_SET_ASIDE, 0); /* the broker has them */
}

/* ---------- the worn ---------- */

/* It becomes a new message at the end of the queue. */
static bool
publish_anew(Replies *replies, Delivery *delivery, const void *body)
{
	return publish_copy(replies, delivery, QUEUE_REPLIES, body);
}

static bool
is_worn(const Delivery *delivery)
{
	return delivery->redeliveries >= REDELIVERIES_MAX && delivery->publish_tag == 0;
}

/* One that is dead is found so once more when it comes as a new message: until the queue of the
 * dead takes it, nobody else has it. */
static bool
renew(Replies *replies, Delivery *delivery, const void *body)
{
	free(delivery->dead_reason);
	delivery->dead_reason = NULL;
	delivery->is_dead = false;
	if (!publish_anew(replies, delivery, body))
		return false;
	metric_add(METRIC_REPLIES_RENEWED, 1);
	return true;
}

bool
replies_renew_worn(Replies *replies)
{
	/* those that can be applied go first */
	if (!may_publish(replies) || replies_are_unconfirmed(replies))
		return true;
	for (int i = 0; i < replies->count; i++)
	{
		Delivery *delivery = &replies->deliveries[i];

		/* one that is too large we do not have */
		if (!is_worn(delivery) || replies_is_too_large(delivery->bytes) ||
			(delivery->is_done && !delivery->is_dead))
			continue;
		if (!renew(replies, delivery, delivery->body))
			return false;
	}
	return true;
}

/* ---------- the dead ---------- */

/* The reason becomes a header, and headers must fit into one frame. */
void
replies_mark_dead(Delivery *delivery, const char *reason)
{
	if (delivery->is_dead)
		return;
	delivery->is_dead = true;
	delivery->dead_reason = strdup(reason);
	if (delivery->dead_reason != NULL)
		text_cut(delivery->dead_reason, REASON_BYTES_MAX);
	delivery->is_done = true;
	log_warning("reply %s can never be applied: %s", delivery->message_id, reason);
	metric_add(METRIC_REPLIES_DEAD, 1);
}

bool
replies_is_too_large(size_t bytes)
{
	return bytes > (size_t) config.reply_bytes_max;
}

void
replies_bury_large(Replies *replies, Delivery *delivery, const BrokerMessage *message)
{
	char reason[128];
	bool ok = true;

	snprintf(reason, sizeof(reason), "the reply is %zu bytes long, more than REPLY_BYTES_MAX",
			 message->body_bytes);
	replies_mark_dead(delivery, reason);
	if (may_publish(replies) && is_worn(delivery))
		ok = renew(replies, delivery, message->body);
	else if (may_publish(replies) && !are_unconfirmed(replies, false)) /* as in replies_bury() */
		ok = publish_copy(replies, delivery, QUEUE_REPLIES_DEAD, message->body);
	if (!ok)
		log_warning("it will be delivered again");
}

/* Not while others are on their way: if the dead ones are refused the connection ends, and copies
 * that are not confirmed by then come twice. */
bool
replies_bury(Replies *replies)
{
	bool are_others_first = are_unconfirmed(replies, false);
	bool is_well = true;

	for (int i = 0; i < replies->count && is_well; i++)
	{
		Delivery *delivery = &replies->deliveries[i];
		bool      is_too_large = replies_is_too_large(delivery->bytes);

		if (!delivery->is_dead || delivery->publish_tag != 0)
			continue;
		/* of one that is too large we have no body: it is delivered again with the next connection,
		 * once this one has brought to an end what it has under way */
		if (!may_publish(replies))
			delivery->due_ms = replies->publish_due_ms;
		else if (are_others_first || (is_too_large && replies_are_unconfirmed(replies)))
			delivery->due_ms = monotonic_ms() + WAIT_MS; /* unless a confirm comes before */
		else
			is_well = !is_too_large &&
					  publish_copy(replies, delivery, QUEUE_REPLIES_DEAD, delivery->body);
	}
	return is_well;
}

/* ---------- to the end of the queue ---------- */

int
replies_count_aside(const Replies *replies)
{
	int count = 0;

	for (int i = 0; i < replies->count; i++)
		count += replies->deliveries[i].due_ms != 0 && !replies->deliveries[i].is_done;
	return count;
}

bool
replies_put_back(Replies *replies)
{
	if (!may_publish(replies) || replies_are_unconfirmed(replies) ||
		replies_count_aside(replies) < replies->room / 2 ||
		(!replies->has_progressed && monotonic_ms() < replies->put_back_ms + PUT_BACK_EVERY_MS))
		return true;
	replies->put_back_ms = monotonic_ms();
	replies->has_progressed = false;
	for (int i = 0; i < replies->count; i++)
	{
		Delivery *delivery = &replies->deliveries[i];

		if (delivery->due_ms != 0 && !delivery->is_done &&
			!publish_anew(replies, delivery, delivery->body))
			return false;
	}
	return true;
}
