/*
 * relay_message.c
 *		The relay: an event of the outbox as a message of RabbitMQ.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_memory.h"
#include "base/text.h"
#include "relay/relay_state.h"

#define HEADERS_MAX 32

/* The event's headers as they are stored, an object; NULL if jansson cannot read them. */
static json_t *
parse_headers(const char *json)
{
	json_t *object = json_loads(json, 0, NULL);
	char   *text;

	if (object != NULL)
		return object;
	text = text_readable_numbers(json, true);
	if (text == NULL) /* an event without its headers is another one */
		json_memory_give_up(strlen(json));
	object = json_loads(text, 0, NULL);
	free(text);
	return object;
}

/* Fills headers from the event's JSON object; returns how many. The object owns the strings. */
static int
read_headers(const json_t *object, BrokerHeader *headers)
{
	const char *name;
	json_t     *value;
	int         count = 0;

	json_object_foreach((json_t *) object, name, value)
	{
		BrokerHeader *header = &headers[count];

		if (count == HEADERS_MAX)
			break;
		*header = (BrokerHeader){.name = name};
		if (json_is_string(value))
		{
			header->kind = AMQP_HEADER_TEXT;
			header->text = json_string_value(value);
		}
		else if (json_is_integer(value))
		{
			header->kind = AMQP_HEADER_INTEGER;
			header->integer = json_integer_value(value);
		}
		else if (json_is_real(value))
		{
			header->kind = AMQP_HEADER_REAL;
			header->real = json_real_value(value);
		}
		else if (json_is_boolean(value))
		{
			header->kind = AMQP_HEADER_BOOLEAN;
			header->boolean = json_is_true(value);
		}
		else
			continue;
		count++;
	}
	return count;
}

uint64_t
relay_publish_to(Broker *broker, const Page *page, int event)
{
	BrokerHeader  headers[HEADERS_MAX];
	json_t       *object = NULL;
	uint64_t      tag;
	BrokerMessage message = {
		.exchange = EXCHANGE_ORDERS,
		.routing_key = event_column(page, event, COLUMN_ROUTING_KEY),
		.mandatory = *event_column(page, event, COLUMN_MANDATORY) == 't',
		.message_id = event_column(page, event, COLUMN_MESSAGE_ID),
		.type = event_column(page, event, COLUMN_ROUTING_KEY),
		.timestamp = strtoull(event_column(page, event, COLUMN_CREATED_AT_US), NULL, 10) / 1000000,
		.headers = headers,
		.body = event_column(page, event, COLUMN_PAYLOAD),
		.body_bytes = (size_t) PQgetlength(page->rows, event, COLUMN_PAYLOAD),
	};

	if (!PQgetisnull(page->rows, event, COLUMN_HEADERS))
	{
		object = parse_headers(event_column(page, event, COLUMN_HEADERS));
		message.nheaders = read_headers(object, headers);
	}
	tag = broker_publish(broker, &message);
	json_decref(object);
	return tag;
}
