/*
 * raw_publish.c
 *		The limit the relay is measured against: rabbitmq-c and nothing else.
 *
 *		raw_publish AMQP-URL ROUTING-KEY WINDOW FILE
 *
 * Publishes each line of the file as one persistent, mandatory message to the
 * exchange "orders", with as many properties as the relay sets, and lets at most
 * WINDOW of them be unconfirmed. Prints the seconds from the first publish to the
 * last confirm, and the longest time without a confirm in milliseconds.
 */
#include "link/broker_library.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static amqp_connection_state_t connection;
static uint64_t                published;
static uint64_t                confirmed;
static double                  confirmed_at; /* seconds, when a confirm came last */
static double                  longest_gap;

static void
require(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "raw_publish: %s failed\n", what);
	exit(1);
}

static void
open_connection(char *url)
{
	struct amqp_connection_info info;

	require(amqp_parse_url(url, &info) == AMQP_STATUS_OK, "reading the URL");
	connection = amqp_new_connection();
	require(amqp_socket_open(amqp_tcp_socket_new(connection), info.host, info.port) ==
				AMQP_STATUS_OK,
			"connecting");
	require(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user,
					   info.password)
					.reply_type == AMQP_RESPONSE_NORMAL,
			"logging in");
	amqp_channel_open(connection, 1);
	require(amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL, "opening a channel");
	amqp_confirm_select(connection, 1);
	require(amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL,
			"asking for confirms");
}

static double
now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (double) at.tv_sec + (double) at.tv_nsec / 1e9;
}

static void
note_confirm(void)
{
	double at = now();

	if (at - confirmed_at > longest_gap)
		longest_gap = at - confirmed_at;
	confirmed_at = at;
}

/* Reads what the broker has sent; waits for some of it if told to. */
static void
read_confirms(bool wait)
{
	struct timeval now = {0};
	amqp_frame_t   frame;
	int            status;

	amqp_maybe_release_buffers(connection);
	while ((status = amqp_simple_wait_frame_noblock(connection, &frame, wait ? NULL : &now)) ==
		   AMQP_STATUS_OK)
	{
		require(frame.frame_type == AMQP_FRAME_METHOD &&
					frame.payload.method.id == AMQP_BASIC_ACK_METHOD,
				"getting an ack");
		/* a confirm of a single message may overtake: counted, not looked up */
		if (((amqp_basic_ack_t *) frame.payload.method.decoded)->multiple)
			confirmed = ((amqp_basic_ack_t *) frame.payload.method.decoded)->delivery_tag;
		else
			confirmed++;
		note_confirm();
		wait = false;
	}
	require(status == AMQP_STATUS_TIMEOUT, "waiting for confirms");
}

static void
publish(const char *routing_key, const char *body, size_t bytes)
{
	char                    message_id[40];
	amqp_basic_properties_t properties = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
				  AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG,
		.content_type = amqp_cstring_bytes("application/json"),
		.delivery_mode = AMQP_DELIVERY_PERSISTENT,
		.timestamp = (uint64_t) time(NULL),
		.type = amqp_cstring_bytes(routing_key),
	};

	snprintf(message_id, sizeof(message_id), "%036lu", (unsigned long) published);
	properties.message_id = amqp_cstring_bytes(message_id);
	require(amqp_basic_publish(connection, 1, amqp_cstring_bytes("orders"),
							   amqp_cstring_bytes(routing_key), 1, 0, &properties,
							   (amqp_bytes_t){.len = bytes, .bytes = (void *) body}) ==
				AMQP_STATUS_OK,
			"publishing");
	published++;
}

int
main(int argc, char **argv)
{
	char    *line = NULL;
	size_t   room = 0;
	ssize_t  bytes;
	uint64_t window;
	FILE    *file;
	double   started;

	require(argc == 5, "reading AMQP-URL ROUTING-KEY WINDOW FILE");
	window = strtoull(argv[3], NULL, 10);
	file = fopen(argv[4], "r");
	require(file != NULL && window > 0, "opening the file");
	open_connection(argv[1]);
	started = confirmed_at = now();
	while ((bytes = getline(&line, &room, file)) > 0)
	{
		publish(argv[2], line, (size_t) bytes - 1);
		if (published % 64 == 0)
			read_confirms(false);
		while (published - confirmed >= window)
			read_confirms(true);
	}
	while (confirmed < published)
		read_confirms(true);
	printf("%.3f %.1f\n", now() - started, 1000 * longest_gap);
	amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
	amqp_destroy_connection(connection);
	free(line);
	fclose(file);
	return 0;
}
