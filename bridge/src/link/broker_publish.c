/*
 * broker_publish.c
 *		Publishing, and what the broker confirms, refuses or returns.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/stop.h"
#include "link/broker_state.h"

static amqp_field_value_t
header_value(const BrokerHeader *header)
{
	amqp_field_value_t value = {0};

	switch (header->kind)
	{
		case AMQP_HEADER_TEXT:
			value.kind = AMQP_FIELD_KIND_UTF8;
			value.value.bytes = amqp_cstring_bytes(header->text);
			break;
		case AMQP_HEADER_INTEGER:
			value.kind = AMQP_FIELD_KIND_I64;
			value.value.i64 = header->integer;
			break;
		case AMQP_HEADER_REAL:
			value.kind = AMQP_FIELD_KIND_F64;
			value.value.f64 = header->real;
			break;
		case AMQP_HEADER_BOOLEAN:
			value.kind = AMQP_FIELD_KIND_BOOLEAN;
			value.value.boolean = header->boolean;
			break;
	}
	return value;
}

/* A message that the library cannot write is refused as the broker would; if the broker has hung
 * up, it may have said why. */
static bool
check_publish(Broker *broker, int status)
{
	struct timeval no_wait = {0};
	amqp_frame_t   frame;

	if (broker_check_status(broker, "publishing", status))
		return true;
	if (status == AMQP_STATUS_TABLE_TOO_BIG || status == AMQP_STATUS_BAD_AMQP_DATA ||
		status == AMQP_STATUS_INVALID_PARAMETER)
	{
		broker->refusal = (BrokerRefusal){.code = AMQP_SYNTAX_ERROR, .is_of_publish = true};
		snprintf(broker->refusal.text, sizeof(broker->refusal.text), "%s",
				 amqp_error_string2(status));
		return false;
	}
	if (status == AMQP_STATUS_NO_MEMORY) /* the library has lost its place in what has come */
		return false;
	while (broker->refusal.code == 0 &&
		   amqp_simple_wait_frame_noblock(broker->connection, &frame, &no_wait) == AMQP_STATUS_OK)
	{
		if (frame.frame_type == AMQP_FRAME_METHOD &&
			(frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD ||
			 frame.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD))
			broker_note_close(broker, "publishing", &frame.payload.method);
	}
	return false;
}

uint64_t
broker_publish(Broker *broker, const BrokerMessage *message)
{
	amqp_table_entry_t      entries[HEADERS_MAX];
	int                     count = 0;
	amqp_basic_properties_t properties = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
		.content_type = amqp_cstring_bytes("application/json"),
		.delivery_mode = AMQP_DELIVERY_PERSISTENT,
	};
	amqp_bytes_t body = {.len = message->body_bytes, .bytes = (void *) message->body};
	int          status;

	if (broker->is_lost || broker->published - broker->confirmed == AMQP_UNCONFIRMED_MAX)
		return 0;
	if (message->message_id != NULL)
	{
		properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
		properties.message_id = amqp_cstring_bytes(message->message_id);
	}
	if (message->type != NULL)
	{
		properties._flags |= AMQP_BASIC_TYPE_FLAG;
		properties.type = amqp_cstring_bytes(message->type);
	}
	if (message->timestamp != 0)
	{
		properties._flags |= AMQP_BASIC_TIMESTAMP_FLAG;
		properties.timestamp = message->timestamp;
	}
	if (message->is_copy)
	{
		const BrokerHeader user_id = {.kind = AMQP_HEADER_TEXT,
									  .text = message->user_id ? message->user_id : ""};

		properties._flags |= AMQP_BASIC_USER_ID_FLAG;
		properties.user_id = amqp_cstring_bytes(broker->user);
		entries[count++] =
			(amqp_table_entry_t){amqp_cstring_bytes(HEADER_USER_ID), header_value(&user_id)};
	}
	for (int i = 0; i < message->nheaders && count < HEADERS_MAX; i++)
		entries[count++] = (amqp_table_entry_t){amqp_cstring_bytes(message->headers[i].name),
												header_value(&message->headers[i])};
	if (count > 0)
	{
		properties._flags |= AMQP_BASIC_HEADERS_FLAG;
		properties.headers = (amqp_table_t){.num_entries = count, .entries = entries};
	}
	watchdog_enter(broker->watch);
	status = amqp_basic_publish(broker->connection, CHANNEL, amqp_cstring_bytes(message->exchange),
								amqp_cstring_bytes(message->routing_key), message->mandatory, 0,
								&properties, body);
	watchdog_leave(broker->watch);
	if (!check_publish(broker, status))
		return 0;
	broker->published++;
	broker->unconfirmed++;
	broker->answered[broker->published % AMQP_UNCONFIRMED_MAX] = false;
	return broker->published;
}

static void
note_answer(Broker *broker, uint64_t tag, bool is_ack)
{
	bool *answered = &broker->answered[tag % AMQP_UNCONFIRMED_MAX];

	if (tag <= broker->confirmed || tag > broker->published || *answered)
		return;
	*answered = true;
	broker->unconfirmed--;
	if (broker->events.on_confirm != NULL)
		broker->events.on_confirm(broker->events.context, tag, is_ack);
}

/* The broker's answer to one publish, or to all up to it. */
void
broker_on_answer(Broker *broker, uint64_t tag, bool multiple, bool is_ack)
{
	for (uint64_t t = multiple ? broker->confirmed + 1 : tag; t <= tag && t <= broker->published;
		 t++)
		note_answer(broker, t, is_ack);
	while (broker->confirmed < broker->published &&
		   broker->answered[(broker->confirmed + 1) % AMQP_UNCONFIRMED_MAX])
		broker->confirmed++;
	broker->was_refused |= !is_ack;
}

void
broker_doubt(const Broker *broker)
{
	broker_node_failed(broker->node);
}

void
broker_give_up(Broker *broker)
{
	broker->is_lost = true;
}

bool
broker_wait_confirms(Broker *broker, int timeout_ms)
{
	long long deadline = monotonic_ms() + timeout_ms;
	bool      was_refused;

	while (broker->unconfirmed > 0 && !broker->was_refused && !broker->is_blocked &&
		   monotonic_ms() < deadline)
	{
		if (!broker_process(broker, 100))
			return false;
	}
	was_refused = broker->was_refused;
	broker->was_refused = false;
	if (broker->unconfirmed > 0 && !was_refused)
		broker_give_up(broker);
	return broker->unconfirmed == 0 && !was_refused;
}
