/*
 * redrive.c
 *		Dead replies put back on their way.
 */
#include "base/config.h"
#include "replies/replies_state.h"

typedef struct Redrive
{
	Amqp *amqp;
	int   moved;
	int   max;
	bool  failed;
} Redrive;

/* Publishes the message to the live queue and only then takes it from the dead one. */
static void
on_dead_letter(void *context, uint64_t tag, const AmqpMessage *message)
{
	Redrive    *redrive = context;
	AmqpMessage copy = {.exchange = "",
						.routing_key = QUEUE_REPLIES,
						.mandatory = true,
						.message_id = *message->message_id ? message->message_id : NULL,
						.is_copy = true,
						.user_id = message->user_id,
						.body = message->body,
						.body_bytes = message->body_bytes};

	if (redrive->failed || redrive->moved == redrive->max)
		return; /* not acknowledged: it stays where it is */
	if (amqp_client_publish(redrive->amqp, &copy) == 0 ||
		!amqp_client_wait_confirms(redrive->amqp, config.broker_timeout_s * 1000) ||
		!amqp_client_ack(redrive->amqp, tag, 1))
		redrive->failed = true;
	else
		redrive->moved++;
}

int
replies_redrive(int max)
{
	Redrive          redrive = {.max = max};
	const AmqpEvents events = {.context = &redrive, .on_delivery = on_dead_letter};
	int              before = -1;
	int              waiting;

	redrive.amqp = amqp_client_open(config.rabbitmq_url, "order-bridge redrive",
									config.broker_timeout_s * 1000, &events);
	/* one at a time: a delivery must not arrive while another waits for its confirm */
	if (redrive.amqp == NULL || !amqp_client_declare(redrive.amqp, NULL) ||
		(waiting = amqp_client_message_count(redrive.amqp, QUEUE_REPLIES_DEAD)) < 0 ||
		!amqp_client_consume(redrive.amqp, QUEUE_REPLIES_DEAD, 1))
		redrive.failed = true;
	else
		redrive.max = waiting < max ? waiting : max; /* those that die again meanwhile are left */
	while (!redrive.failed && redrive.moved < redrive.max && redrive.moved > before)
	{
		before = redrive.moved;
		if (!amqp_client_process(redrive.amqp, 1000))
			redrive.failed = true;
	}
	amqp_client_close(redrive.amqp);
	return redrive.failed ? -1 : redrive.moved;
}
