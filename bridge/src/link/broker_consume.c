/*
 * broker_consume.c
 *		Consuming, and all that the broker sends.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/broker_state.h"

static bool
consume_on(Amqp *amqp, amqp_channel_t channel)
{
	amqp->consumer_due_ms = monotonic_ms() + CONSUMER_RENEW_MS;
	if (!broker_open_channel(amqp, channel))
		return false;
	amqp_basic_qos(amqp->connection, channel, 0, (uint16_t) amqp->prefetch, 0);
	if (!broker_check_reply(amqp, "setting the prefetch", amqp_get_rpc_reply(amqp->connection)))
		return false;
	amqp->consume_channel = channel;
	amqp_basic_consume(amqp->connection, channel, amqp_cstring_bytes(amqp->consumed),
					   amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	return broker_check_reply(amqp, "consuming", amqp_get_rpc_reply(amqp->connection));
}

bool
amqp_client_consume(Amqp *amqp, const char *queue, int prefetch)
{
	amqp->consumed = queue;
	amqp->prefetch = prefetch;
	return consume_on(amqp, CHANNEL_CONSUME);
}

/*
 * A consumer whose queue is deleted is told so, but not always: if the queue is
 * soon declared anew, the broker (3.10) goes on as if the consumer were there,
 * assigns messages to it and never sends them. So a consumer that has got nothing
 * for a while is replaced; with its channel what was assigned to it is given back.
 */
static bool
renew_consumer(Amqp *amqp)
{
	amqp_channel_t old = amqp->consume_channel;

	if (amqp->consumed == NULL || amqp->unacked > 0 || monotonic_ms() < amqp->consumer_due_ms)
		return true;
	return consume_on(amqp, old == CHANNEL_CONSUME ? CHANNEL_CONSUME + 1 : CHANNEL_CONSUME) &&
		   broker_check_reply(amqp, "closing a channel",
							  amqp_channel_close(amqp->connection, old, AMQP_REPLY_SUCCESS));
}

bool
amqp_client_ack(Amqp *amqp, uint64_t tag, int count)
{
	amqp->unacked -= count;
	return !amqp->is_lost &&
		   broker_check_status(
			   amqp, "acknowledging",
			   amqp_basic_ack(amqp->connection, amqp->consume_channel, tag, count > 1));
}

bool
amqp_client_requeue(Amqp *amqp, uint64_t tag)
{
	amqp->unacked--;
	return !amqp->is_lost &&
		   broker_check_status(amqp, "giving back",
							   amqp_basic_nack(amqp->connection, amqp->consume_channel, tag, 0, 1));
}

/* The value of a header; NULL if there is none of that name. */
static const amqp_field_value_t *
find_header(const amqp_basic_properties_t *properties, const char *name)
{
	return properties->_flags & AMQP_BASIC_HEADERS_FLAG
			   ? broker_find_value(&properties->headers, name)
			   : NULL;
}

/* A header that is text; false, and an empty one, if there is none of that name. */
static bool
copy_header(char *to, size_t size, const amqp_basic_properties_t *properties, const char *name)
{
	const amqp_field_value_t *value = find_header(properties, name);
	bool                      is_text = value != NULL && value->kind == AMQP_FIELD_KIND_UTF8;

	broker_copy_bytes(to, size, is_text ? value->value.bytes : amqp_empty_bytes);
	return is_text;
}

/* A header that is a whole number, of whatever size; 0 if there is none of that name. */
static int64_t
number_header(const amqp_basic_properties_t *properties, const char *name)
{
	const amqp_field_value_t *value = find_header(properties, name);

	switch (value != NULL ? value->kind : AMQP_FIELD_KIND_VOID)
	{
		case AMQP_FIELD_KIND_I8:
			return value->value.i8;
		case AMQP_FIELD_KIND_U8:
			return value->value.u8;
		case AMQP_FIELD_KIND_I16:
			return value->value.i16;
		case AMQP_FIELD_KIND_I32:
			return value->value.i32;
		case AMQP_FIELD_KIND_I64:
			return value->value.i64;
		default:
			return 0;
	}
}

/*
 * Who published a message: the broker sees to it that user_id is the publisher's own. A
 * copy of ours is ours to the broker, and says in a header whose message it was.
 */
static void
copy_user_id(const Amqp *amqp, char *to, size_t size, const amqp_basic_properties_t *properties)
{
	char original[SHORT_STRING_MAX + 1];

	broker_copy_bytes(to, size,
					  properties->_flags & AMQP_BASIC_USER_ID_FLAG ? properties->user_id
																   : amqp_empty_bytes);
	if (*to != '\0' && strcmp(to, amqp->user) == 0 &&
		copy_header(original, sizeof(original), properties, HEADER_USER_ID))
		snprintf(to, size, "%s", original);
}

/* Reads the content that follows a deliver or a return; false if the connection is lost. */
static bool
read_content(Amqp *amqp, amqp_channel_t channel, amqp_message_t *content)
{
	return broker_check_reply(amqp, "reading a message",
							  amqp_read_message(amqp->connection, channel, content, 0));
}

static bool
on_deliver(Amqp *amqp, amqp_channel_t channel, const amqp_basic_deliver_t *deliver)
{
	uint64_t       tag = deliver->delivery_tag;
	char           message_id[SHORT_STRING_MAX + 1];
	char           routing_key[SHORT_STRING_MAX + 1];
	char           traceparent[64];
	char           user_id[SHORT_STRING_MAX + 1];
	amqp_message_t content;

	broker_copy_bytes(routing_key, sizeof(routing_key), deliver->routing_key);
	if (!read_content(amqp, channel, &content))
		return false;
	if (channel != amqp->consume_channel)
	{
		/* to a consumer that has been replaced: the broker has taken it back */
		amqp_destroy_message(&content);
		return true;
	}
	amqp->consumer_due_ms = monotonic_ms() + CONSUMER_RENEW_MS;
	amqp->unacked++;
	broker_copy_bytes(message_id, sizeof(message_id),
					  content.properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG
						  ? content.properties.message_id
						  : amqp_empty_bytes);
	(void) copy_header(traceparent, sizeof(traceparent), &content.properties, "traceparent");
	copy_user_id(amqp, user_id, sizeof(user_id), &content.properties);
	if (amqp->events.on_delivery != NULL)
		amqp->events.on_delivery(
			amqp->events.context, tag,
			&(AmqpMessage){.exchange = "",
						   .routing_key = routing_key,
						   .message_id = message_id,
						   .traceparent = *traceparent ? traceparent : NULL,
						   .user_id = *user_id ? user_id : NULL,
						   .redeliveries = number_header(&content.properties, HEADER_DELIVERIES),
						   .body = content.body.bytes,
						   .body_bytes = content.body.len});
	amqp_destroy_message(&content);
	return true;
}

static bool
on_basic_return(Amqp *amqp, const amqp_basic_return_t *returned)
{
	int            reply_code = returned->reply_code;
	char           reply_text[SHORT_STRING_MAX + 1];
	char           message_id[SHORT_STRING_MAX + 1];
	amqp_message_t content;

	broker_copy_bytes(reply_text, sizeof(reply_text), returned->reply_text);
	if (!read_content(amqp, CHANNEL, &content))
		return false;
	broker_copy_bytes(message_id, sizeof(message_id), content.properties.message_id);
	if (amqp->events.on_return != NULL)
		amqp->events.on_return(amqp->events.context, message_id, reply_code, reply_text);
	else
	{
		log_warning("message %s was returned: %d %s", message_id, reply_code, reply_text);
		amqp->was_refused = true;
	}
	amqp_destroy_message(&content);
	return true;
}

/* Handles one method frame; false if the connection is lost. */
static bool
on_method(Amqp *amqp, amqp_channel_t channel, const amqp_method_t *method)
{
	switch (method->id)
	{
		case AMQP_BASIC_ACK_METHOD:
		{
			const amqp_basic_ack_t *ack = method->decoded;

			broker_on_answer(amqp, ack->delivery_tag, ack->multiple, true);
			return true;
		}
		case AMQP_BASIC_NACK_METHOD:
		{
			const amqp_basic_nack_t *nack = method->decoded;

			broker_on_answer(amqp, nack->delivery_tag, nack->multiple, false);
			return true;
		}
		case AMQP_BASIC_RETURN_METHOD:
			return on_basic_return(amqp, method->decoded);
		case AMQP_BASIC_DELIVER_METHOD:
			return on_deliver(amqp, channel, method->decoded);
		case AMQP_CONNECTION_BLOCKED_METHOD:
		{
			const amqp_connection_blocked_t *blocked = method->decoded;

			amqp->is_blocked = true;
			log_warning("RabbitMQ blocks publishing: %.*s", (int) blocked->reason.len,
						(const char *) blocked->reason.bytes);
			return true;
		}
		case AMQP_CONNECTION_UNBLOCKED_METHOD:
			amqp->is_blocked = false;
			log_info("RabbitMQ takes messages again");
			return true;
		case AMQP_BASIC_CANCEL_METHOD:
			log_warning("RabbitMQ cancelled our consumer: its queue was deleted or moved, or a "
						"message was held for longer than the broker's consumer_timeout");
			amqp->is_lost = true;
			return false;
		default:
			broker_note_close(amqp, "waiting for RabbitMQ", method);
			amqp->is_lost = true;
			return false;
	}
}

/* Waits until there is something to read, or a stop is newly requested. */
static void
wait_for_data(Amqp *amqp, int timeout_ms)
{
	struct pollfd waits[2] = {{.fd = amqp_get_sockfd(amqp->connection), .events = POLLIN},
							  {.fd = stop_requested() ? -1 : stop_descriptor(), .events = POLLIN}};

	if (timeout_ms > 0 && !amqp->is_lost && !amqp_client_has_frames(amqp))
		poll(waits, 2, timeout_ms);
}

bool
amqp_client_process(Amqp *amqp, int timeout_ms)
{
	struct timeval no_wait = {0};

	wait_for_data(amqp, timeout_ms);
	while (!amqp->is_lost)
	{
		amqp_frame_t frame;
		int          status;

		amqp_maybe_release_buffers(amqp->connection);
		status = amqp_simple_wait_frame_noblock(amqp->connection, &frame, &no_wait);
		if (status == AMQP_STATUS_TIMEOUT)
			return renew_consumer(amqp);
		if (!broker_check_status(amqp, "waiting for RabbitMQ", status))
			return false;
		if (frame.frame_type == AMQP_FRAME_METHOD &&
			!on_method(amqp, frame.channel, &frame.payload.method))
			return false;
	}
	return false;
}

bool
amqp_client_has_frames(Amqp *amqp)
{
	return amqp_frames_enqueued(amqp->connection) || amqp_data_in_buffer(amqp->connection);
}

bool
amqp_client_is_blocked(const Amqp *amqp)
{
	return amqp->is_blocked;
}

int
amqp_client_descriptor(const Amqp *amqp)
{
	return amqp_get_sockfd(amqp->connection);
}
