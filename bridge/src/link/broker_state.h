/*
 * broker_state.h
 *		What the files of the broker share: rabbitmq-c is known to them alone.
 */
#ifndef BROKER_STATE_H
#define BROKER_STATE_H

#include "link/broker.h"
#include "link/broker_library.h"
#include "link/broker_nodes.h"
#include "link/watchdog.h"

#define PLACED_BINDING "order.placed.*"
#define CHANNEL        1
#define CHANNEL_DECLARE                                                                            \
	2 /* a refused declaration closes its channel: not the one with the publishes */
#define CHANNEL_CONSUME   3 /* this one and the next, by turns */
#define FRAME_BYTES_MAX   131072
#define HEADERS_MAX       32
#define SHORT_STRING_MAX  255
#define HEADER_USER_ID    "x-user-id"
#define HEADER_DELIVERIES "x-delivery-count"
#define CONSUMER_RENEW_MS 10000
#define RPC_TIMEOUT_S     20
#define CLOSE_TIMEOUT_S   1 /* one that hangs is not waited for */
#define CLASS_BASIC       60
#define METHOD_PUBLISH    40

struct Broker
{
	amqp_connection_state_t connection;
	BrokerEvents            events;
	Watch                  *watch;
	uint64_t                published; /* tag of the last publish */
	uint64_t                confirmed; /* all tags up to it have been answered */
	int                     unconfirmed;
	bool answered[AMQP_UNCONFIRMED_MAX]; /* by tag, those above "confirmed": confirms may come out
											of order */
	bool           was_refused;          /* a nack since the last wait */
	const char    *consumed;             /* queue; NULL: none */
	amqp_channel_t consume_channel;
	int            prefetch;
	long long      consumer_due_ms; /* then it is renewed, if nothing comes before */
	int            unacked;         /* deliveries neither acknowledged nor given back */
	BrokerRefusal  refusal;
	char          *user;     /* whom we log in as */
	uint64_t       node;     /* where */
	bool           may_bind; /* the broker has let us bind the queue of placed orders */
	bool           is_lost;
	bool           is_blocked;
};

/* A socket that trusts whom it should, and names us; NULL, and a line in the log, if it cannot. */
extern amqp_socket_t *broker_tls_socket(Broker *broker);

/* What may be the matter with a connection by TLS, where the library's words do not say. */
extern const char *broker_tls_hint(const BrokerUrl *url, int status);

/* The value of that name; NULL if there is none. */
extern const amqp_field_value_t *broker_find_value(const amqp_table_t *table, const char *name);

extern void broker_copy_bytes(char *to, size_t size, amqp_bytes_t from);
extern void broker_note_close(Broker *broker, const char *doing, const amqp_method_t *method);
extern bool broker_check_reply(Broker *broker, const char *doing, amqp_rpc_reply_t reply);
extern bool broker_check_status(Broker *broker, const char *doing, int status);
extern bool broker_open_channel(Broker *broker, amqp_channel_t channel);
extern void broker_on_answer(Broker *broker, uint64_t tag, bool multiple, bool is_ack);

#endif /* BROKER_STATE_H */
