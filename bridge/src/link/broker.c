/*
 * amqp.c
 *		One connection and channel to RabbitMQ, with publisher confirms.
 *
 * rabbitmq-c 0.11. What must be kept in mind: it serves heartbeats only while
 * it is called; frames may lie in its buffers when the socket is quiet; what
 * a frame points to dies with amqp_maybe_release_buffers().
 */
#include "link/broker.h"

#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link/broker_url.h"
#include "base/log.h"
#include "base/stop.h"
#include "link/watchdog.h"

#define PLACED_BINDING      "order.placed.*"
#define CHANNEL             1
#define CHANNEL_DECLARE     2 /* a refused declaration closes its channel: not the one with the publishes */
#define CHANNEL_CONSUME     3 /* this one and the next, by turns */
#define FRAME_BYTES_MAX     131072
#define HEADERS_MAX         32
#define SHORT_STRING_MAX    255
#define HEADER_USER_ID      "x-user-id"
#define CONSUMER_RENEW_MS   10000
#define RPC_TIMEOUT_S       20
#define CLASS_BASIC         60
#define METHOD_PUBLISH      40

struct Amqp
{
	amqp_connection_state_t connection;
	AmqpEvents              events;
	Watch                  *watch;
	uint64_t                published; /* tag of the last publish */
	uint64_t                confirmed; /* all tags up to it have been answered */
	int                     unconfirmed;
	bool                    answered[AMQP_UNCONFIRMED_MAX]; /* by tag, those above "confirmed": confirms may come out of order */
	bool                    was_refused;                    /* a nack since the last wait */
	const char             *consumed;                       /* queue; NULL: none */
	amqp_channel_t          consume_channel;
	int                     prefetch;
	long long               consumer_due_ms; /* then it is renewed, if nothing comes before */
	int                     unacked;         /* deliveries neither acknowledged nor given back */
	AmqpRefusal             refusal;
	char                   *user; /* whom we log in as */
	bool                    may_bind; /* the broker has let us bind the queue of placed orders */
	bool                    is_lost;
	bool                    is_blocked;
};

/* ---------- errors ---------- */

static void
copy_bytes(char *to, size_t size, amqp_bytes_t from)
{
	size_t length = from.len < size - 1 ? from.len : size - 1;

	if (length > 0)
		memcpy(to, from.bytes, length);
	to[length] = '\0';
}

static void
note_refusal(Amqp *amqp, int code, amqp_bytes_t text, int class_id, int method_id)
{
	amqp->refusal.code = code;
	copy_bytes(amqp->refusal.text, sizeof(amqp->refusal.text), text);
	amqp->refusal.is_of_publish = class_id == CLASS_BASIC && method_id == METHOD_PUBLISH;
}

/* Logs, and takes down, why the broker has closed what we had open. */
static void
note_close(Amqp *amqp, const char *doing, const amqp_method_t *method)
{
	if (method->id == AMQP_CONNECTION_CLOSE_METHOD)
	{
		const amqp_connection_close_t *close = method->decoded;

		note_refusal(amqp, close->reply_code, close->reply_text, close->class_id, close->method_id);
		log_warning("%s: RabbitMQ closed the connection: %d %s", doing, amqp->refusal.code, amqp->refusal.text);
	}
	else if (method->id == AMQP_CHANNEL_CLOSE_METHOD)
	{
		const amqp_channel_close_t *close = method->decoded;

		note_refusal(amqp, close->reply_code, close->reply_text, close->class_id, close->method_id);
		log_warning("%s: RabbitMQ closed the channel: %d %s", doing, amqp->refusal.code, amqp->refusal.text);
	}
	else
		log_warning("%s: unexpected method 0x%08X from RabbitMQ", doing, method->id);
}

const AmqpRefusal *
amqp_client_refusal(const Amqp *amqp)
{
	return &amqp->refusal;
}

/* Logs what went wrong with a call that waits for an answer; true if nothing did. */
static bool
check_reply(Amqp *amqp, const char *doing, amqp_rpc_reply_t reply)
{
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return true;
	if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
		note_close(amqp, doing, &reply.reply);
	else
		log_warning("%s: %s", doing, amqp_error_string2(reply.library_error));
	amqp->is_lost = true;
	return false;
}

static bool
check_status(Amqp *amqp, const char *doing, int status)
{
	if (status == AMQP_STATUS_OK)
		return true;
	log_warning("%s: %s", doing, amqp_error_string2(status));
	amqp->is_lost = true;
	return false;
}

/* ---------- connecting ---------- */

static bool
open_socket(Amqp *amqp, const AmqpUrl *url)
{
	amqp_socket_t *socket = url->is_tls ? amqp_ssl_socket_new(amqp->connection) : amqp_tcp_socket_new(amqp->connection);
	struct timeval timeout = {.tv_sec = url->connect_timeout_ms / 1000, .tv_usec = url->connect_timeout_ms % 1000 * 1000L};
	int            status;

	if (socket == NULL)
	{
		log_error("cannot make a socket for RabbitMQ");
		return false;
	}
	amqp_set_handshake_timeout(amqp->connection, &timeout);
	amqp_set_rpc_timeout(amqp->connection, &(struct timeval){.tv_sec = RPC_TIMEOUT_S});
	status = amqp_socket_open_noblock(socket, url->host, url->port, &timeout);
	if (status != AMQP_STATUS_OK)
	{
		log_warning("cannot connect to RabbitMQ at %s:%d: %s", url->host, url->port, amqp_error_string2(status));
		return false;
	}
	return true;
}

static bool
open_channel(Amqp *amqp, amqp_channel_t channel)
{
	amqp_channel_open(amqp->connection, channel);
	return check_reply(amqp, "opening a channel", amqp_get_rpc_reply(amqp->connection));
}

/* Announces that we understand connection.blocked, and who we are. */
static bool
log_in(Amqp *amqp, const AmqpUrl *url, const char *name)
{
	amqp_table_entry_t capabilities[] = {
		{amqp_cstring_bytes("connection.blocked"), {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
		{amqp_cstring_bytes("consumer_cancel_notify"), {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
	};
	amqp_table_entry_t properties[] = {
		{amqp_cstring_bytes("capabilities"),
		 {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {.num_entries = 2, .entries = capabilities}}},
		{amqp_cstring_bytes("connection_name"), {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(name)}},
	};
	amqp_table_t table = {.num_entries = 2, .entries = properties};

	if (!check_reply(amqp, "logging in to RabbitMQ",
					 amqp_login_with_properties(amqp->connection, url->vhost, 0, FRAME_BYTES_MAX, url->heartbeat_s, &table,
												AMQP_SASL_METHOD_PLAIN, url->user, url->password)))
		return false;
	if (!open_channel(amqp, CHANNEL))
		return false;
	amqp_confirm_select(amqp->connection, CHANNEL);
	return check_reply(amqp, "asking for confirms", amqp_get_rpc_reply(amqp->connection));
}

Amqp *
amqp_client_open(const char *text, const char *name, int publish_timeout_ms, const AmqpEvents *events)
{
	AmqpUrl     url;
	const char *wrong = amqp_url_parse(&url, text);
	Amqp       *amqp = calloc(1, sizeof(Amqp));

	if (amqp == NULL || wrong != NULL)
	{
		log_error("RABBITMQ_URL %s", wrong != NULL ? wrong : "cannot be used: out of memory");
		amqp_url_free(&url);
		free(amqp);
		return NULL;
	}
	if (events != NULL)
		amqp->events = *events;
	amqp->user = strdup(url.user);
	amqp->connection = amqp_new_connection();
	if (amqp->user == NULL || amqp->connection == NULL || !open_socket(amqp, &url) || !log_in(amqp, &url, name))
	{
		amqp->is_lost = true;
		amqp_client_close(amqp);
		amqp = NULL;
	}
	else
	{
		amqp->watch = watchdog_watch(amqp_get_sockfd(amqp->connection), publish_timeout_ms);
		log_info("connected to RabbitMQ host=%s port=%d", url.host, url.port);
	}
	amqp_url_free(&url);
	return amqp;
}

void
amqp_client_close(Amqp *amqp)
{
	if (amqp == NULL)
		return;
	watchdog_forget(amqp->watch);
	if (amqp->connection != NULL)
	{
		/* one that owes us answers may not answer this either */
		if (!amqp->is_lost && !amqp->is_blocked && amqp->unconfirmed == 0)
			amqp_connection_close(amqp->connection, AMQP_REPLY_SUCCESS);
		amqp_destroy_connection(amqp->connection);
	}
	free(amqp->user);
	free(amqp);
}

/* ---------- declaring ---------- */

/*
 * After a refused declaration its channel is closed: logs why and opens it anew.
 * False if the connection is lost. *refused may be NULL.
 */
static bool
survive_refusal(Amqp *amqp, const char *what, bool *refused)
{
	amqp_rpc_reply_t        reply = amqp_get_rpc_reply(amqp->connection);
	amqp_channel_close_ok_t ok;

	if (refused != NULL)
		*refused = reply.reply_type != AMQP_RESPONSE_NORMAL;
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return true;
	if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION || reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD)
		return check_reply(amqp, what, reply);
	note_close(amqp, what, &reply.reply);
	return check_status(amqp, what, amqp_send_method(amqp->connection, CHANNEL_DECLARE, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok)) &&
		   open_channel(amqp, CHANNEL_DECLARE);
}

static bool
declare_quorum_queue(Amqp *amqp, const char *queue)
{
	amqp_table_entry_t type = {amqp_cstring_bytes("x-queue-type"),
							   {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("quorum")}};
	char               what[SHORT_STRING_MAX];

	snprintf(what, sizeof(what), "declaring queue %s", queue);
	amqp_queue_declare(amqp->connection, CHANNEL_DECLARE, amqp_cstring_bytes(queue), 0, 1, 0, 0,
					   (amqp_table_t){.num_entries = 1, .entries = &type});
	return survive_refusal(amqp, what, NULL);
}

bool
amqp_client_declare(Amqp *amqp)
{
	static const char *const queues[] = {QUEUE_PLACED, QUEUE_PLACED_DEAD, QUEUE_REPLIES, QUEUE_REPLIES_DEAD};
	bool                     refused;

	if (!open_channel(amqp, CHANNEL_DECLARE))
		return false;
	amqp_exchange_declare(amqp->connection, CHANNEL_DECLARE, amqp_cstring_bytes(EXCHANGE_ORDERS), amqp_cstring_bytes("topic"), 0,
						  1, 0, 0, amqp_empty_table);
	if (!survive_refusal(amqp, "declaring exchange " EXCHANGE_ORDERS, NULL))
		return false;
	for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
	{
		if (!declare_quorum_queue(amqp, queues[i]))
			return false;
	}
	amqp_queue_bind(amqp->connection, CHANNEL_DECLARE, amqp_cstring_bytes(QUEUE_PLACED), amqp_cstring_bytes(EXCHANGE_ORDERS),
					amqp_cstring_bytes(PLACED_BINDING), amqp_empty_table);
	if (!survive_refusal(amqp, "binding queue " QUEUE_PLACED, &refused))
		return false;
	amqp->may_bind = !refused;
	amqp->refusal = (AmqpRefusal){0};
	return check_reply(amqp, "closing a channel", amqp_channel_close(amqp->connection, CHANNEL_DECLARE, AMQP_REPLY_SUCCESS));
}

bool
amqp_client_bind_again(Amqp *amqp)
{
	amqp_queue_bind_t bind = {.queue = amqp_cstring_bytes(QUEUE_PLACED),
							  .exchange = amqp_cstring_bytes(EXCHANGE_ORDERS),
							  .routing_key = amqp_cstring_bytes(PLACED_BINDING),
							  .nowait = 1};

	if (!amqp->may_bind || amqp->is_lost)
		return !amqp->is_lost;
	return check_status(amqp, "binding queue " QUEUE_PLACED,
						amqp_send_method(amqp->connection, CHANNEL, AMQP_QUEUE_BIND_METHOD, &bind));
}

int
amqp_client_message_count(Amqp *amqp, const char *queue)
{
	amqp_queue_declare_ok_t *ok =
		amqp_queue_declare(amqp->connection, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);

	if (!check_reply(amqp, "counting messages", amqp_get_rpc_reply(amqp->connection)) || ok == NULL)
		return -1;
	return (int) ok->message_count;
}

/* ---------- publishing ---------- */

static amqp_field_value_t
header_value(const AmqpHeader *header)
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

/* A message that the library cannot write is refused as the broker would; if the broker has hung up, it may have said why. */
static bool
check_publish(Amqp *amqp, int status)
{
	struct timeval no_wait = {0};
	amqp_frame_t   frame;

	if (check_status(amqp, "publishing", status))
		return true;
	if (status == AMQP_STATUS_TABLE_TOO_BIG || status == AMQP_STATUS_BAD_AMQP_DATA || status == AMQP_STATUS_INVALID_PARAMETER)
	{
		amqp->refusal = (AmqpRefusal){.code = AMQP_SYNTAX_ERROR, .is_of_publish = true};
		snprintf(amqp->refusal.text, sizeof(amqp->refusal.text), "%s", amqp_error_string2(status));
		return false;
	}
	while (amqp->refusal.code == 0 && amqp_simple_wait_frame_noblock(amqp->connection, &frame, &no_wait) == AMQP_STATUS_OK)
	{
		if (frame.frame_type == AMQP_FRAME_METHOD && (frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD ||
													  frame.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD))
			note_close(amqp, "publishing", &frame.payload.method);
	}
	return false;
}

uint64_t
amqp_client_publish(Amqp *amqp, const AmqpMessage *message)
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

	if (amqp->is_lost || amqp->published - amqp->confirmed == AMQP_UNCONFIRMED_MAX)
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
		const AmqpHeader user_id = {.kind = AMQP_HEADER_TEXT, .text = message->user_id ? message->user_id : ""};

		properties._flags |= AMQP_BASIC_USER_ID_FLAG;
		properties.user_id = amqp_cstring_bytes(amqp->user);
		entries[count++] = (amqp_table_entry_t){amqp_cstring_bytes(HEADER_USER_ID), header_value(&user_id)};
	}
	for (int i = 0; i < message->nheaders && count < HEADERS_MAX; i++)
		entries[count++] = (amqp_table_entry_t){amqp_cstring_bytes(message->headers[i].name), header_value(&message->headers[i])};
	if (count > 0)
	{
		properties._flags |= AMQP_BASIC_HEADERS_FLAG;
		properties.headers = (amqp_table_t){.num_entries = count, .entries = entries};
	}
	watchdog_enter(amqp->watch);
	status = amqp_basic_publish(amqp->connection, CHANNEL, amqp_cstring_bytes(message->exchange),
								amqp_cstring_bytes(message->routing_key), message->mandatory, 0, &properties, body);
	watchdog_leave(amqp->watch);
	if (!check_publish(amqp, status))
		return 0;
	amqp->published++;
	amqp->unconfirmed++;
	amqp->answered[amqp->published % AMQP_UNCONFIRMED_MAX] = false;
	return amqp->published;
}

static void
note_answer(Amqp *amqp, uint64_t tag, bool is_ack)
{
	bool *answered = &amqp->answered[tag % AMQP_UNCONFIRMED_MAX];

	if (tag <= amqp->confirmed || tag > amqp->published || *answered)
		return;
	*answered = true;
	amqp->unconfirmed--;
	if (amqp->events.on_confirm != NULL)
		amqp->events.on_confirm(amqp->events.context, tag, is_ack);
}

/* The broker's answer to one publish, or to all up to it. */
static void
on_answer(Amqp *amqp, uint64_t tag, bool multiple, bool is_ack)
{
	for (uint64_t t = multiple ? amqp->confirmed + 1 : tag; t <= tag && t <= amqp->published; t++)
		note_answer(amqp, t, is_ack);
	while (amqp->confirmed < amqp->published && amqp->answered[(amqp->confirmed + 1) % AMQP_UNCONFIRMED_MAX])
		amqp->confirmed++;
	amqp->was_refused |= !is_ack;
}

bool
amqp_client_wait_confirms(Amqp *amqp, int timeout_ms)
{
	long long deadline = monotonic_ms() + timeout_ms;
	bool      was_refused;

	while (amqp->unconfirmed > 0 && !amqp->was_refused && monotonic_ms() < deadline)
	{
		if (!amqp_client_process(amqp, 100))
			return false;
	}
	was_refused = amqp->was_refused;
	amqp->was_refused = false;
	return amqp->unconfirmed == 0 && !was_refused;
}

/* ---------- consuming ---------- */

static bool
consume_on(Amqp *amqp, amqp_channel_t channel)
{
	amqp->consumer_due_ms = monotonic_ms() + CONSUMER_RENEW_MS;
	if (!open_channel(amqp, channel))
		return false;
	amqp_basic_qos(amqp->connection, channel, 0, (uint16_t) amqp->prefetch, 0);
	if (!check_reply(amqp, "setting the prefetch", amqp_get_rpc_reply(amqp->connection)))
		return false;
	amqp->consume_channel = channel;
	amqp_basic_consume(amqp->connection, channel, amqp_cstring_bytes(amqp->consumed), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
	return check_reply(amqp, "consuming", amqp_get_rpc_reply(amqp->connection));
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
		   check_reply(amqp, "closing a channel", amqp_channel_close(amqp->connection, old, AMQP_REPLY_SUCCESS));
}

bool
amqp_client_ack(Amqp *amqp, uint64_t tag, int count)
{
	amqp->unacked -= count;
	return !amqp->is_lost && check_status(amqp, "acknowledging", amqp_basic_ack(amqp->connection, amqp->consume_channel, tag, count > 1));
}

bool
amqp_client_requeue(Amqp *amqp, uint64_t tag)
{
	amqp->unacked--;
	return !amqp->is_lost && check_status(amqp, "giving back", amqp_basic_nack(amqp->connection, amqp->consume_channel, tag, 0, 1));
}

/* A header that is text; false, and an empty one, if there is none of that name. */
static bool
copy_header(char *to, size_t size, const amqp_basic_properties_t *properties, const char *name)
{
	*to = '\0';
	if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG))
		return false;
	for (int i = 0; i < properties->headers.num_entries; i++)
	{
		const amqp_table_entry_t *entry = &properties->headers.entries[i];

		if (entry->value.kind == AMQP_FIELD_KIND_UTF8 && entry->key.len == strlen(name) &&
			memcmp(entry->key.bytes, name, entry->key.len) == 0)
		{
			copy_bytes(to, size, entry->value.value.bytes);
			return true;
		}
	}
	return false;
}

/*
 * Who published a message: the broker sees to it that user_id is the publisher's own. A
 * copy of ours is ours to the broker, and says in a header whose message it was.
 */
static void
copy_user_id(const Amqp *amqp, char *to, size_t size, const amqp_basic_properties_t *properties)
{
	char original[SHORT_STRING_MAX + 1];

	copy_bytes(to, size, properties->_flags & AMQP_BASIC_USER_ID_FLAG ? properties->user_id : amqp_empty_bytes);
	if (*to != '\0' && strcmp(to, amqp->user) == 0 && copy_header(original, sizeof(original), properties, HEADER_USER_ID))
		snprintf(to, size, "%s", original);
}

/* Reads the content that follows a deliver or a return; false if the connection is lost. */
static bool
read_content(Amqp *amqp, amqp_channel_t channel, amqp_message_t *content)
{
	return check_reply(amqp, "reading a message", amqp_read_message(amqp->connection, channel, content, 0));
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

	copy_bytes(routing_key, sizeof(routing_key), deliver->routing_key);
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
	copy_bytes(message_id, sizeof(message_id),
			   content.properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG ? content.properties.message_id : amqp_empty_bytes);
	(void) copy_header(traceparent, sizeof(traceparent), &content.properties, "traceparent");
	copy_user_id(amqp, user_id, sizeof(user_id), &content.properties);
	if (amqp->events.on_delivery != NULL)
		amqp->events.on_delivery(amqp->events.context, tag,
								 &(AmqpMessage){.exchange = "",
												.routing_key = routing_key,
												.message_id = message_id,
												.traceparent = *traceparent ? traceparent : NULL,
												.user_id = *user_id ? user_id : NULL,
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

	copy_bytes(reply_text, sizeof(reply_text), returned->reply_text);
	if (!read_content(amqp, CHANNEL, &content))
		return false;
	copy_bytes(message_id, sizeof(message_id), content.properties.message_id);
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

			on_answer(amqp, ack->delivery_tag, ack->multiple, true);
			return true;
		}
		case AMQP_BASIC_NACK_METHOD:
		{
			const amqp_basic_nack_t *nack = method->decoded;

			on_answer(amqp, nack->delivery_tag, nack->multiple, false);
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
			log_warning("RabbitMQ blocks publishing: %.*s", (int) blocked->reason.len, (const char *) blocked->reason.bytes);
			return true;
		}
		case AMQP_CONNECTION_UNBLOCKED_METHOD:
			amqp->is_blocked = false;
			log_info("RabbitMQ takes messages again");
			return true;
		case AMQP_BASIC_CANCEL_METHOD:
			log_warning("RabbitMQ cancelled our consumer: its queue was deleted or moved");
			amqp->is_lost = true;
			return false;
		default:
			note_close(amqp, "waiting for RabbitMQ", method);
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
		if (!check_status(amqp, "waiting for RabbitMQ", status))
			return false;
		if (frame.frame_type == AMQP_FRAME_METHOD && !on_method(amqp, frame.channel, &frame.payload.method))
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
