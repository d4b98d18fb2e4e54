/*
 * replies_state.h
 *		What the files of the replies role share.
 */
#ifndef REPLIES_STATE_H
#define REPLIES_STATE_H

#include <stdint.h>

#include "base/backoff.h"
#include "link/broker.h"
#include "link/db.h"
#include "replies/replies.h"

#define WAIT_MS           500
#define MEASURE_MS        5000
#define REASON_BYTES_MAX  1000
#define LOCK_TIMEOUT_MS   1000
#define TIMEOUT_MS        8000 /* the broker hears nothing from us meanwhile: below its heartbeat */
#define WARY_MS           5000 /* after a lock was met, batches do not wait for any that long */
#define ASIDE_MS_MIN      100
#define ASIDE_MS_MAX      10000
#define PUT_BACK_EVERY_MS 1000
#define PUBLISH_AGAIN_MS  10000 /* after the broker has not taken what we publish */
#define REDELIVERIES_MAX  10    /* of the 20 after which a broker may drop a message */
#define REFUSALS_MAX                                                                               \
	3 /* of a batch, for reasons that are not the messages', before it is halved all the same */

/* One delivery, not acknowledged yet. */
typedef struct Delivery
{
	uint64_t  tag;
	char     *body; /* NUL-terminated */
	size_t    bytes;
	char      message_id[64];
	char     *user_id;     /* who published it, as the broker vouches; NULL: nobody */
	char     *text;        /* as the database takes it; NULL: not read yet, or dead */
	bool      is_dead;     /* can never be applied */
	char     *dead_reason; /* of one that is; NULL: memory was short */
	bool      is_sent;     /* to the dead queue */
	bool      is_buried;   /* there, as the broker has confirmed */
	bool      is_done;     /* applied, or dead: nothing is left to apply */
	int64_t   redeliveries;
	int       tries;    /* how often it was set aside */
	long long retry_ms; /* 0: not set aside */
} Delivery;

typedef struct Replies
{
	Db        db;
	Broker   *broker;
	Backoff   backoff;
	Delivery *deliveries;
	int       count;
	int       room;
	int       refusals;       /* of the batch, for reasons that are not the messages' */
	long long wary_until_ms;  /* until then nobody is waited for */
	long long put_back_ms;    /* when deliveries were last put back */
	bool      has_progressed; /* since then */
	long long publish_due_ms; /* until then nothing is published: the broker did not take it */
	long long measure_due_ms;
} Replies;

extern void replies_mark_dead(Delivery *delivery, const char *reason);
extern void replies_on_delivery(void *context, uint64_t tag, const BrokerMessage *message);
extern void replies_set_aside(Delivery *delivery);
extern bool replies_is_to_be_tried(const Delivery *delivery);
extern void replies_read_bodies(Replies *replies);
extern bool replies_wait_for_database(Replies *replies);
extern bool replies_apply_all(Replies *replies);

#endif /* REPLIES_STATE_H */
