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
consume_on(Broker *broker, amqp_channel_t channel)
{
	broker->consumer_due_ms = monotonic_ms() + CONSUMER_RENEW_MS;
	if (!broker_open_channel(broker, channel))
		return false;
	amqp_basic_qos(broker->connection, channel, 0, (uint16_t) broker->prefetch, 0);
	if (!broker_check_reply(broker, "setting the prefetch", amqp_get_rpc_reply(broker->connection)))
		return false;
	broker->consume_channel = channel;
	amqp_basic_consume(broker->connection, channel, amqp_cstring_bytes(broker->consumed),
					   amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	return broker_check_reply(broker, "consuming", amqp_get_rpc_reply(broker->connection));
}

bool
broker_consume(Broker *broker, const char *queue, int prefetch)
{
	broker->consumed = queue;
	broker->prefetch = prefetch;
	return consume_on(broker, CHANNEL_CONSUME);
}

/*
 * A consumer whose queue is deleted is told so, but not always: if the queue is
 * soon declared anew, the broker (3.10) goes on as if the consumer were there,
 * assigns messages to it and never sends them. So a consumer that has got nothing
 * for a while is replaced; with its channel what was assigned to it is given back.
 */
static bool
renew_consumer(Broker *broker)
{
	amqp_channel_t old = broker->consume_channel;

	if (broker->consumed == NULL || broker->unacked > 0 || monotonic_ms() < broker->consumer_due_ms)
		return true;
	return consume_on(broker, old == CHANNEL_CONSUME ? CHANNEL_CONSUME + 1 : CHANNEL_CONSUME) &&
		   broker_check_reply(broker, "closing a channel",
							  amqp_channel_close(broker->connection, old, AMQP_REPLY_SUCCESS));
}

bool
broker_ack(Broker *broker, uint64_t tag, int count)
{
	broker->unacked -= count;
	return !broker->is_lost &&
		   broker_check_status(
			   broker, "acknowledging",
			   amqp_basic_ack(broker->connection, broker->consume_channel, tag, count > 1));
}

bool
broker_requeue(Broker *broker, uint64_t tag)
{
	broker->unacked--;
	return !broker->is_lost &&
		   broker_check_status(
			   broker, "giving back",
			   amqp_basic_nack(broker->connection, broker->consume_channel, tag, 0, 1));
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
copy_user_id(const Broker *broker, char *to, size_t size, const amqp_basic_properties_t *properties)
{
	char original[SHORT_STRING_MAX + 1];

	broker_copy_bytes(to, size,
					  properties->_flags & AMQP_BASIC_USER_ID_FLAG ? properties->user_id
																   : amqp_empty_bytes);
	if (*to != '\0' && strcmp(to, broker->user) == 0 &&
		copy_header(original, sizeof(original), properties, HEADER_USER_ID))
		snprintf(to, size, "%s", original);
}

/* Reads the content that follows a deliver or a return; false if the connection is lost. */
static bool
read_content(Broker *broker, amqp_channel_t channel, amqp_message_t *content)
{
	return broker_check_reply(broker, "reading a message",
							  amqp_read_message(broker->connection, channel, content, 0));
}

static bool
on_deliver(Broker *broker, amqp_channel_t channel, const amqp_basic_deliver_t *deliver)
{
	uint64_t       tag = deliver->delivery_tag;
	char           message_id[SHORT_STRING_MAX + 1];
	char           routing_key[SHORT_STRING_MAX + 1];
	char           traceparent[64];
	char           user_id[SHORT_STRING_MAX + 1];
	amqp_message_t content;

	broker_copy_bytes(routing_key, sizeof(routing_key), deliver->routing_key);
	if (!read_content(broker, channel, &content))
		return false;
	if (channel != broker->consume_channel)
	{
		/* to a consumer that has been replaced: the broker has taken it back */
		amqp_destroy_message(&content);
		return true;
	}
	broker->consumer_due_ms = monotonic_ms() + CONSUMER_RENEW_MS;
	broker->unacked++;
	broker_copy_bytes(message_id, sizeof(message_id),
					  content.properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG
						  ? content.properties.message_id
						  : amqp_empty_bytes);
	(void) copy_header(traceparent, sizeof(traceparent), &content.properties, "traceparent");
	copy_user_id(broker, user_id, sizeof(user_id), &content.properties);
	if (broker->events.on_delivery != NULL)
		broker->events.on_delivery(
			broker->events.context, tag,
			&(BrokerMessage){.exchange = "",
							 .routing_key = routing_key,
							 .message_id = message_id,
							 .traceparent = *traceparent ? traceparent : NULL,
							 .user_id = *user_id ? user_id : NULL,
							 .redeliveries = number_header(&content.properties, HEADER_DELIVERIES),
							 .body = content.body.len > 0 ? content.body.bytes : "",
							 .body_bytes = content.body.len});
	amqp_destroy_message(&content);
	return true;
}

static bool
on_basic_return(Broker *broker, const amqp_basic_return_t *returned)
{
	int            reply_code = returned->reply_code;
	char           reply_text[SHORT_STRING_MAX + 1];
	char           message_id[SHORT_STRING_MAX + 1];
	amqp_message_t content;

	broker_copy_bytes(reply_text, sizeof(reply_text), returned->reply_text);
	if (!read_content(broker, CHANNEL, &content))
		return false;
	/* what the library has not decoded it has not initialised either */
	broker_copy_bytes(message_id, sizeof(message_id),
					  content.properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG
						  ? content.properties.message_id
						  : amqp_empty_bytes);
	if (broker->events.on_return != NULL)
		broker->events.on_return(broker->events.context, message_id, reply_code, reply_text);
	else
	{
		log_warning("message %s was returned: %d %s", message_id, reply_code, reply_text);
		broker->was_refused = true;
	}
	amqp_destroy_message(&content);
	return true;
}

/* Handles one method frame; false if the connection is lost. */
static bool
on_method(Broker *broker, amqp_channel_t channel, const amqp_method_t *method)
{
	switch (method->id)
	{
		case AMQP_BASIC_ACK_METHOD:
		{
			const amqp_basic_ack_t *ack = method->decoded;

			broker_on_answer(broker, ack->delivery_tag, ack->multiple, true);
			return true;
		}
		case AMQP_BASIC_NACK_METHOD:
		{
			const amqp_basic_nack_t *nack = method->decoded;

			broker_on_answer(broker, nack->delivery_tag, nack->multiple, false);
			return true;
		}
		case AMQP_BASIC_RETURN_METHOD:
			return on_basic_return(broker, method->decoded);
		case AMQP_BASIC_DELIVER_METHOD:
			return on_deliver(broker, channel, method->decoded);
		case AMQP_CONNECTION_BLOCKED_METHOD:
		{
			const amqp_connection_blocked_t *blocked = method->decoded;

			broker->is_blocked = true;
			log_warning("RabbitMQ blocks publishing: %.*s", (int) blocked->reason.len,
						(const char *) blocked->reason.bytes);
			return true;
		}
		case AMQP_CONNECTION_UNBLOCKED_METHOD:
			broker->is_blocked = false;
			log_info("RabbitMQ takes messages again");
			return true;
		case AMQP_BASIC_CANCEL_METHOD:
			log_warning("RabbitMQ cancelled our consumer: its queue was deleted or moved, or a "
						"message was held for longer than the broker's consumer_timeout");
			broker->is_lost = true;
			return false;
		default:
			broker_note_close(broker, "waiting for RabbitMQ", method);
			broker->is_lost = true;
			return false;
	}
}

/* Waits until there is something to read, or a stop is newly requested. */
static void
wait_for_data(Broker *broker, int timeout_ms)
{
	struct pollfd waits[2] = {{.fd = amqp_get_sockfd(broker->connection), .events = POLLIN},
							  {.fd = stop_requested() ? -1 : stop_descriptor(), .events = POLLIN}};

	if (timeout_ms > 0 && !broker->is_lost && !broker_has_frames(broker))
		poll(waits, 2, timeout_ms);
}

bool
broker_process(Broker *broker, int timeout_ms)
{
	struct timeval no_wait = {0};

	wait_for_data(broker, timeout_ms);
	while (!broker->is_lost)
	{
		amqp_frame_t frame;
		int          status;

		amqp_maybe_release_buffers(broker->connection);
		status = amqp_simple_wait_frame_noblock(broker->connection, &frame, &no_wait);
		if (status == AMQP_STATUS_TIMEOUT)
			return renew_consumer(broker);
		if (!broker_check_status(broker, "waiting for RabbitMQ", status))
			return false;
		if (frame.frame_type == AMQP_FRAME_METHOD &&
			!on_method(broker, frame.channel, &frame.payload.method))
			return false;
	}
	return false;
}

bool
broker_has_frames(Broker *broker)
{
	return amqp_frames_enqueued(broker->connection) || amqp_data_in_buffer(broker->connection);
}

bool
broker_is_blocked(const Broker *broker)
{
	return broker->is_blocked;
}

int
broker_descriptor(const Broker *broker)
{
	return amqp_get_sockfd(broker->connection);
}
