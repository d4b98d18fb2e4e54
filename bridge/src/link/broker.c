/*
 * broker.c
 *		One connection and channel to RabbitMQ, with publisher confirms.
 *
 * rabbitmq-c, 0.11 and later. What must be kept in mind: it serves heartbeats only while
 * it is called; frames may lie in its buffers when the socket is quiet; what
 * a frame points to dies with amqp_maybe_release_buffers().
 */
#include "link/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "base/text.h"
#include "link/broker_state.h"

/* 3.10 takes no larger one for endless: -1 would drop a message at its first redelivery there. */
#define DELIVERY_LIMIT   1000000
#define MAJOR_THAT_DROPS 4

/* ---------- errors ---------- */

void
broker_copy_bytes(char *to, size_t size, amqp_bytes_t from)
{
	size_t length = from.len < size - 1 ? from.len : size - 1;

	if (length > 0)
		memcpy(to, from.bytes, length);
	to[length] = '\0';
}

const amqp_field_value_t *
broker_find_value(const amqp_table_t *table, const char *name)
{
	for (int i = 0; i < table->num_entries; i++)
	{
		const amqp_table_entry_t *entry = &table->entries[i];

		if (entry->key.len == strlen(name) && memcmp(entry->key.bytes, name, entry->key.len) == 0)
			return &entry->value;
	}
	return NULL;
}

static void
note_refusal(Broker *broker, int code, amqp_bytes_t text, int class_id, int method_id)
{
	char words[SHORT_STRING_MAX + 1];

	/* RabbitMQ quotes what we have sent, and cuts it anywhere: inside a character, too */
	broker_copy_bytes(words, sizeof(words), text);
	text_escape(words, broker->refusal.text, sizeof(broker->refusal.text));
	broker->refusal.code = code;
	broker->refusal.is_of_publish = class_id == CLASS_BASIC && method_id == METHOD_PUBLISH;
}

/* Logs, and takes down, why the broker has closed what we had open. */
void
broker_note_close(Broker *broker, const char *doing, const amqp_method_t *method)
{
	if (method->id == AMQP_CONNECTION_CLOSE_METHOD)
	{
		const amqp_connection_close_t *close = method->decoded;

		note_refusal(broker, close->reply_code, close->reply_text, close->class_id,
					 close->method_id);
		log_warning("%s: RabbitMQ closed the connection: %d %s", doing, broker->refusal.code,
					broker->refusal.text);
	}
	else if (method->id == AMQP_CHANNEL_CLOSE_METHOD)
	{
		const amqp_channel_close_t *close = method->decoded;

		note_refusal(broker, close->reply_code, close->reply_text, close->class_id,
					 close->method_id);
		log_warning("%s: RabbitMQ closed the channel: %d %s", doing, broker->refusal.code,
					broker->refusal.text);
	}
	else
		log_warning("%s: unexpected method 0x%08X from RabbitMQ", doing, method->id);
}

const BrokerRefusal *
broker_refusal(const Broker *broker)
{
	return &broker->refusal;
}

/* Logs what went wrong with a call that waits for an answer; true if nothing did. */
bool
broker_check_reply(Broker *broker, const char *doing, amqp_rpc_reply_t reply)
{
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return true;
	if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
		broker_note_close(broker, doing, &reply.reply);
	else
		log_warning("%s: %s", doing, amqp_error_string2(reply.library_error));
	broker->is_lost = true;
	return false;
}

bool
broker_check_status(Broker *broker, const char *doing, int status)
{
	if (status == AMQP_STATUS_OK)
		return true;
	log_warning("%s: %s", doing, amqp_error_string2(status));
	broker->is_lost = true;
	return false;
}

/* ---------- connecting ---------- */

static bool
open_socket(Broker *broker, const BrokerUrl *url)
{
	amqp_socket_t *socket =
		url->is_tls ? broker_tls_socket(broker) : amqp_tcp_socket_new(broker->connection);
	struct timeval timeout = {.tv_sec = url->connect_timeout_ms / 1000,
							  .tv_usec = url->connect_timeout_ms % 1000 * 1000L};
	int            status;

	if (socket == NULL)
		return false;
	amqp_set_handshake_timeout(broker->connection, &timeout);
	amqp_set_rpc_timeout(broker->connection, &(struct timeval){.tv_sec = RPC_TIMEOUT_S});
	status = amqp_socket_open_noblock(socket, url->host, url->port, &timeout);
	if (status != AMQP_STATUS_OK)
	{
		log_warning("cannot connect to RabbitMQ at %s:%d: %s%s", url->host, url->port,
					amqp_error_string2(status), broker_tls_hint(url, status));
		return false;
	}
	return true;
}

bool
broker_open_channel(Broker *broker, amqp_channel_t channel)
{
	amqp_channel_open(broker->connection, channel);
	return broker_check_reply(broker, "opening a channel", amqp_get_rpc_reply(broker->connection));
}

/* Announces that we understand connection.blocked, and who we are. */
static bool
log_in(Broker *broker, const BrokerUrl *url, const char *name)
{
	amqp_table_entry_t capabilities[] = {
		{amqp_cstring_bytes("connection.blocked"),
		 {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
		{amqp_cstring_bytes("consumer_cancel_notify"),
		 {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}},
	};
	amqp_table_entry_t properties[] = {
		{amqp_cstring_bytes("capabilities"),
		 {.kind = AMQP_FIELD_KIND_TABLE,
		  .value.table = {.num_entries = 2, .entries = capabilities}}},
		{amqp_cstring_bytes("connection_name"),
		 {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(name)}},
	};
	amqp_table_t table = {.num_entries = 2, .entries = properties};

	if (!broker_check_reply(broker, "logging in to RabbitMQ",
							amqp_login_with_properties(broker->connection, url->vhost, 0,
													   FRAME_BYTES_MAX, url->heartbeat_s, &table,
													   AMQP_SASL_METHOD_PLAIN, url->user,
													   url->password)))
		return false;
	if (!broker_open_channel(broker, CHANNEL))
		return false;
	amqp_confirm_select(broker->connection, CHANNEL);
	return broker_check_reply(broker, "asking for confirms",
							  amqp_get_rpc_reply(broker->connection));
}

/* Connects to one node; NULL if it cannot. */
static Broker *
connect_to(const BrokerUrl *url, const char *name, int publish_timeout_ms,
		   const BrokerEvents *events)
{
	Broker *broker = calloc(1, sizeof(Broker));

	if (broker == NULL)
		return NULL;
	if (events != NULL)
		broker->events = *events;
	broker->node = broker_node_id(url);
	broker->user = strdup(url->user);
	broker->connection = amqp_new_connection();
	if (broker->user == NULL || broker->connection == NULL || !open_socket(broker, url) ||
		!log_in(broker, url, name))
	{
		broker->is_lost = true;
		broker_close(broker);
		return NULL;
	}
	broker->watch = watchdog_watch(amqp_get_sockfd(broker->connection), publish_timeout_ms);
	log_info("connected to RabbitMQ host=%s port=%d", url->host, url->port);
	return broker;
}

Broker *
broker_open(const char *text, const char *name, int publish_timeout_ms, const BrokerEvents *events)
{
	BrokerNodes nodes;
	const char *wrong = broker_nodes_parse(&nodes, text);
	Broker     *broker = NULL;
	int         order[BROKER_NODES_MAX];

	if (wrong != NULL)
	{
		log_error("RABBITMQ_URL %s", wrong);
		return NULL;
	}
	broker_nodes_order(&nodes, order);
	for (int i = 0; i < nodes.count && broker == NULL && (i == 0 || !stop_requested()); i++)
		broker = connect_to(&nodes.urls[order[i]], name, publish_timeout_ms, events);
	broker_nodes_free(&nodes);
	return broker;
}

void
broker_close(Broker *broker)
{
	if (broker == NULL)
		return;
	watchdog_forget(broker->watch);
	if (broker->is_lost)
		broker_node_failed(broker->node);
	if (broker->connection != NULL)
	{
		/* one that owes us answers may not answer this either */
		if (!broker->is_lost && !broker->is_blocked && broker->unconfirmed == 0)
		{
			amqp_set_rpc_timeout(broker->connection, &(struct timeval){.tv_sec = CLOSE_TIMEOUT_S});
			amqp_connection_close(broker->connection, AMQP_REPLY_SUCCESS);
		}
		amqp_destroy_connection(broker->connection);
	}
	free(broker->user);
	free(broker);
}

/* ---------- declaring ---------- */

static bool has_placed_queue = true; /* or every vendor has a queue of its own */

void
broker_set_placed_queue(bool is_wanted)
{
	has_placed_queue = is_wanted;
}

/*
 * After a refused declaration its channel is closed: logs why and opens it anew.
 * False if the connection is lost. *refused may be NULL.
 */
static bool
survive_refusal(Broker *broker, const char *what, bool *refused)
{
	amqp_rpc_reply_t        reply = amqp_get_rpc_reply(broker->connection);
	amqp_channel_close_ok_t ok;

	if (refused != NULL)
		*refused = reply.reply_type != AMQP_RESPONSE_NORMAL;
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return true;
	if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION ||
		reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD)
		return broker_check_reply(broker, what, reply);
	broker_note_close(broker, what, &reply.reply);
	return broker_check_status(broker, what,
							   amqp_send_method(broker->connection, CHANNEL_DECLARE,
												AMQP_CHANNEL_CLOSE_OK_METHOD, &ok)) &&
		   broker_open_channel(broker, CHANNEL_DECLARE);
}

/* The major version of the broker; 0 if it does not say. */
static int
broker_major(Broker *broker)
{
	const amqp_table_t       *properties = amqp_get_server_properties(broker->connection);
	const amqp_field_value_t *value =
		properties != NULL ? broker_find_value(properties, "version") : NULL;
	char version[SHORT_STRING_MAX];

	if (value == NULL || value->kind != AMQP_FIELD_KIND_UTF8)
		return 0;
	broker_copy_bytes(version, sizeof(version), value->value.bytes);
	return atoi(version);
}

/* *refused may be NULL. False if the connection is lost. */
static bool
declare_quorum_queue(Broker *broker, const char *queue, bool with_limit, bool *refused)
{
	amqp_table_entry_t arguments[] = {
		{amqp_cstring_bytes("x-queue-type"),
		 {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("quorum")}},
		{amqp_cstring_bytes("x-delivery-limit"),
		 {.kind = AMQP_FIELD_KIND_I32, .value.i32 = DELIVERY_LIMIT}}};
	char what[SHORT_STRING_MAX];

	snprintf(what, sizeof(what), "declaring queue %s", queue);
	amqp_queue_declare(broker->connection, CHANNEL_DECLARE, amqp_cstring_bytes(queue), 0, 1, 0, 0,
					   (amqp_table_t){.num_entries = with_limit ? 2 : 1, .entries = arguments});
	return survive_refusal(broker, what, refused);
}

/*
 * Without a limit of its own a queue has the broker's: since RabbitMQ 4 a message that has come
 * back 20 times is dropped. A queue that is there without keeps what it has, for arguments cannot
 * be changed: *has_limit is then false.
 */
static bool
declare_with_limit(Broker *broker, const char *queue, bool *has_limit)
{
	bool refused;

	if (!declare_quorum_queue(broker, queue, true, &refused))
		return false;
	*has_limit = !refused;
	return !refused || declare_quorum_queue(broker, queue, false, NULL);
}

static bool
declare_queues(Broker *broker, int *limited)
{
	static const struct
	{
		const char *name;
		bool        is_of_placed;
	} queues[] = {{QUEUE_PLACED, true},
				  {QUEUE_PLACED_DEAD, true},
				  {QUEUE_REPLIES, false},
				  {QUEUE_REPLIES_DEAD, false}};
	bool drops = broker_major(broker) >= MAJOR_THAT_DROPS;

	*limited = 0;
	for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++)
	{
		const char *queue = queues[i].name;
		bool        has_limit;

		if (queues[i].is_of_placed && !has_placed_queue)
			continue;

		if (!declare_with_limit(broker, queue, &has_limit))
			return false;
		if (has_limit || !drops)
			continue;
		(*limited)++;
		log_warning("queue %s has no delivery limit of ours: unless a policy says otherwise, "
					"RabbitMQ drops a message that has come back 20 times (docs/operations.md, "
					"RabbitMQ 4)",
					queue);
	}
	return true;
}

/* Binds the queue of placed orders; one that is left out, and there from before, gets no more. */
static bool
bind_placed_queue(Broker *broker)
{
	amqp_bytes_t queue = amqp_cstring_bytes(QUEUE_PLACED);
	amqp_bytes_t exchange = amqp_cstring_bytes(EXCHANGE_ORDERS);
	amqp_bytes_t key = amqp_cstring_bytes(PLACED_BINDING);
	bool         refused;

	if (has_placed_queue)
		amqp_queue_bind(broker->connection, CHANNEL_DECLARE, queue, exchange, key,
						amqp_empty_table);
	else
		amqp_queue_unbind(broker->connection, CHANNEL_DECLARE, queue, exchange, key,
						  amqp_empty_table);
	if (!survive_refusal(broker,
						 has_placed_queue ? "binding queue " QUEUE_PLACED
										  : "unbinding queue " QUEUE_PLACED,
						 &refused))
		return false;
	broker->may_bind = has_placed_queue && !refused;
	return true;
}

bool
broker_declare(Broker *broker, int *limited)
{
	int ignored;

	if (!broker_open_channel(broker, CHANNEL_DECLARE))
		return false;
	amqp_exchange_declare(broker->connection, CHANNEL_DECLARE, amqp_cstring_bytes(EXCHANGE_ORDERS),
						  amqp_cstring_bytes("topic"), 0, 1, 0, 0, amqp_empty_table);
	if (!survive_refusal(broker, "declaring exchange " EXCHANGE_ORDERS, NULL) ||
		!declare_queues(broker, limited != NULL ? limited : &ignored))
		return false;
	if (!bind_placed_queue(broker))
		return false;
	broker->refusal = (BrokerRefusal){0};
	return broker_check_reply(
		broker, "closing a channel",
		amqp_channel_close(broker->connection, CHANNEL_DECLARE, AMQP_REPLY_SUCCESS));
}

bool
broker_bind_again(Broker *broker)
{
	amqp_queue_bind_t bind = {.queue = amqp_cstring_bytes(QUEUE_PLACED),
							  .exchange = amqp_cstring_bytes(EXCHANGE_ORDERS),
							  .routing_key = amqp_cstring_bytes(PLACED_BINDING),
							  .nowait = 1};

	if (!broker->may_bind || broker->is_lost)
		return !broker->is_lost;
	return broker_check_status(
		broker, "binding queue " QUEUE_PLACED,
		amqp_send_method(broker->connection, CHANNEL, AMQP_QUEUE_BIND_METHOD, &bind));
}

bool
broker_bind_like(const Broker *first, Broker *broker)
{
	broker->may_bind = first->may_bind;
	return broker_bind_again(broker);
}

int
broker_message_count(Broker *broker, const char *queue)
{
	amqp_queue_declare_ok_t *ok = amqp_queue_declare(
		broker->connection, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);

	if (!broker_check_reply(broker, "counting messages", amqp_get_rpc_reply(broker->connection)) ||
		ok == NULL)
		return -1;
	return (int) ok->message_count;
}
