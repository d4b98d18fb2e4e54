/*
 * redrive.c
 *		Dead replies put back on their way.
 */
#include "base/config.h"
#include "base/log.h"
#include "base/stop.h"
#include "replies/replies_state.h"

#define IDLE_MS_MAX 10000

typedef struct Redrive
{
	Broker   *broker;
	int       moved;
	int       max;
	bool      failed;
	long long until_ms; /* then it is given up, if nothing has moved until then */
} Redrive;

/* Publishes the message to the live queue and only then takes it from the dead one. */
static void
on_dead_letter(void *context, uint64_t tag, const BrokerMessage *message)
{
	Redrive      *redrive = context;
	BrokerMessage copy = {.exchange = "",
						  .routing_key = QUEUE_REPLIES,
						  .mandatory = true,
						  .message_id = *message->message_id ? message->message_id : NULL,
						  .is_copy = true,
						  .user_id = message->user_id,
						  .body = message->body,
						  .body_bytes = message->body_bytes};

	if (redrive->failed || redrive->moved == redrive->max)
		return; /* not acknowledged: it stays where it is */
	if (broker_publish(redrive->broker, &copy) == 0 ||
		!broker_wait_confirms(redrive->broker, config.broker_timeout_s * 1000) ||
		!broker_ack(redrive->broker, tag, 1))
		redrive->failed = true;
	else
	{
		redrive->moved++;
		redrive->until_ms = monotonic_ms() + IDLE_MS_MAX;
	}
}

int
replies_redrive(int max)
{
	Redrive            redrive = {.max = max};
	const BrokerEvents events = {.context = &redrive, .on_delivery = on_dead_letter};
	int                waiting;

	redrive.broker = broker_open(config.rabbitmq_url, "order-bridge redrive",
								 config.broker_timeout_s * 1000, &events);
	/* one at a time: a delivery must not arrive while another waits for its confirm */
	if (redrive.broker == NULL || !broker_declare(redrive.broker, NULL) ||
		(waiting = broker_message_count(redrive.broker, QUEUE_REPLIES_DEAD)) < 0 ||
		!broker_consume(redrive.broker, QUEUE_REPLIES_DEAD, 1))
		redrive.failed = true;
	else
		redrive.max = waiting < max ? waiting : max; /* those that die again meanwhile are left */
	redrive.until_ms = monotonic_ms() + IDLE_MS_MAX;
	while (!redrive.failed && redrive.moved < redrive.max)
	{
		if (!broker_process(redrive.broker, 100) || monotonic_ms() > redrive.until_ms)
			redrive.failed = true; /* or it is already */
		if (redrive.failed)
			log_error("%d of %d dead replies are on their way again, and no more come",
					  redrive.moved, redrive.max);
	}
	broker_close(redrive.broker);
	return redrive.failed ? -1 : redrive.moved;
}
