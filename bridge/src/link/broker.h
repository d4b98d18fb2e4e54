/*
 * broker.h
 *		One connection and channel to RabbitMQ, with publisher confirms.
 *
 * For one thread. The only room that knows rabbitmq-c.
 */
#ifndef BRIDGE_AMQP_CLIENT_H
#define BRIDGE_AMQP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tls_files.h"

#define EXCHANGE_ORDERS    "orders"
#define QUEUE_PLACED       "orders.placed"
#define QUEUE_PLACED_DEAD  "orders.placed.dead"
#define QUEUE_REPLIES      "orders.replies"
#define QUEUE_REPLIES_DEAD "orders.replies.dead"

/* Most publishes from the oldest that is not confirmed to the last; a power of 2. */
#define AMQP_UNCONFIRMED_MAX 32768

typedef struct Broker Broker;

typedef enum BrokerHeaderKind
{
	AMQP_HEADER_TEXT,
	AMQP_HEADER_INTEGER,
	AMQP_HEADER_REAL,
	AMQP_HEADER_BOOLEAN
} BrokerHeaderKind;

typedef struct BrokerHeader
{
	const char      *name;
	BrokerHeaderKind kind;
	const char      *text;
	int64_t          integer;
	double           real;
	bool             boolean;
} BrokerHeader;

/* A message to publish, or one delivered. Persistent, application/json. Strings are borrowed. */
typedef struct BrokerMessage
{
	const char *exchange; /* "" is the default exchange */
	const char *routing_key;
	bool        mandatory;
	const char *message_id;  /* may be NULL */
	const char *type;        /* may be NULL */
	uint64_t    timestamp;   /* seconds; 0: none */
	const char *traceparent; /* of a delivered message only; may be NULL */
	const char *user_id;  /* who published it, vouched for by the broker, or by us if we copied it;
							 NULL: nobody is */
	int64_t redeliveries; /* of a delivered message only: how often it came back before */
	bool    is_copy;      /* of a message that user_id, or nobody known, published */
	const BrokerHeader *headers;
	int                 nheaders;
	const void         *body; /* of a delivered message never NULL, be it empty */
	size_t              body_bytes;
} BrokerMessage;

/* What the broker tells, called from within broker_process(). Any may be NULL. */
typedef struct BrokerEvents
{
	void *context;
	/* an ack, or else a nack, of one publish; each publish gets one, in any order */
	void (*on_confirm)(void *context, uint64_t tag, bool is_ack);
	/* a mandatory message that no queue takes; its ack follows */
	void (*on_return)(void *context, const char *message_id, int reply_code,
					  const char *reply_text);
	void (*on_delivery)(void *context, uint64_t tag, const BrokerMessage *message);
} BrokerEvents;

/* Why the broker closed our channel or connection. */
typedef struct BrokerRefusal
{
	int  code; /* the broker's; 0: it said nothing, or has closed nothing */
	char text[256];
	bool is_of_publish; /* because of something published */
} BrokerRefusal;

/*
 * broker_set_tls is for main(), before anything connects: how amqps:// is spoken. The broker's
 * certificate and name are verified always. The texts are borrowed.
 * False, after saying on standard error all that is wrong with them.
 */
extern bool broker_set_tls(const TlsFiles *files) __attribute__((warn_unused_result));

/*
 * broker_set_placed_queue is for main(), too: false if every vendor has a queue of its own, and
 * QUEUE_PLACED, where nobody would take what is in it, is left out. True unless it is called.
 */
extern void broker_set_placed_queue(bool is_wanted);

/*
 * broker_open connects, logs in and opens a channel in confirm mode; NULL,
 * and a line in the log, if that fails. Each of its steps may take some seconds. A publish
 * that the broker does not take within publish_timeout_ms ends the connection.
 */
extern Broker *broker_open(const char *url, const char *name, int publish_timeout_ms,
						   const BrokerEvents *events);

/* broker_close closes politely if the connection still works. NULL is fine. */
extern void broker_close(Broker *broker);

/*
 * broker_declare declares the exchange and queues of the contract; a queue of placed orders that is
 * left out is unbound, if it is there. Where one exists with other arguments it logs the broker's
 * words about what differs and goes on with the one that is there. False if the connection is lost.
 * *limited, which may be NULL, is how many of the queues have not got our delivery limit from a
 * broker that drops messages without one: RabbitMQ 4, unless a policy says otherwise.
 */
extern bool broker_declare(Broker *broker, int *limited) __attribute__((warn_unused_result));

/*
 * broker_bind_again has the broker see to it that the queue of placed orders
 * is there and bound, before it looks at what is published next; does not wait.
 * If the queue is gone the broker closes the channel, and nothing published after
 * this has gone anywhere. Does nothing where the broker does not let us bind, or the queue is left
 * out.
 */
extern bool broker_bind_again(Broker *broker) __attribute__((warn_unused_result));

/* broker_bind_like does that over another connection, if the first one does it. */
extern bool broker_bind_like(const Broker *first, Broker *broker)
	__attribute__((warn_unused_result));

/* broker_refusal tells why the connection was lost, if the broker has closed it. */
extern const BrokerRefusal *broker_refusal(const Broker *broker);

/* broker_message_count returns how many messages wait in a queue, given to nobody; -1 if the
 * connection is lost or there is no such queue. */
extern int broker_message_count(Broker *broker, const char *queue);

/*
 * broker_publish returns the delivery tag, counting from 1 on each
 * connection; 0 if the connection is lost. May block while the socket is full,
 * until the publish timeout.
 */
extern uint64_t broker_publish(Broker *broker, const BrokerMessage *message)
	__attribute__((warn_unused_result));

/* broker_doubt: it owes us answers for long. Whoever connects next tries other nodes first. */
extern void broker_doubt(const Broker *broker);

/* broker_give_up: it has not answered in time. Whoever connects next tries other nodes first. */
extern void broker_give_up(Broker *broker);

/*
 * broker_wait_confirms waits until the broker has every message published
 * so far; false if it refused one, or none of ours handles its return, after timeout_ms, or if the
 * connection is lost. Handles what else arrives meanwhile.
 */
extern bool broker_wait_confirms(Broker *broker, int timeout_ms)
	__attribute__((warn_unused_result));

/*
 * broker_consume starts deliveries, at most "prefetch" of them not
 * acknowledged. The queue's name is kept, not copied. If the queue is deleted the
 * connection counts as lost.
 */
extern bool broker_consume(Broker *broker, const char *queue, int prefetch)
	__attribute__((warn_unused_result));

/* broker_ack acknowledges so many deliveries: that one, and, if more than one, all before it,
 * none of which was before. */
extern bool broker_ack(Broker *broker, uint64_t tag, int count) __attribute__((warn_unused_result));

/* broker_requeue gives a delivery back to its queue. */
extern bool broker_requeue(Broker *broker, uint64_t tag) __attribute__((warn_unused_result));

/*
 * broker_process waits up to timeout_ms for the broker and then handles
 * all that has arrived; false if the connection is lost. Serves heartbeats:
 * call it at least every few seconds.
 */
extern bool broker_process(Broker *broker, int timeout_ms) __attribute__((warn_unused_result));

/* True if frames have been read that broker_process would handle at once. */
extern bool broker_has_frames(Broker *broker);

/* True while the broker has told us to stop publishing (memory or disk alarm). */
extern bool broker_is_blocked(const Broker *broker);

extern int broker_descriptor(const Broker *broker);

#endif /* BRIDGE_AMQP_CLIENT_H */
