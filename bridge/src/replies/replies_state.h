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
#define HEAR_EVERY_MS     1000
#define LAST_MS           2000 /* at the end, for what is published to be confirmed */
#define LAST_STEP_MS      50
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
	char     *user_id;      /* who published it, as the broker vouches; NULL: nobody */
	char     *text;         /* as the database takes it; NULL: not read yet, or dead */
	bool      is_dead;      /* can never be applied */
	char     *dead_reason;  /* of one that is; NULL: memory was short */
	uint64_t  publish_tag;  /* of the copy that goes back to the broker; 0: there is none */
	bool      is_published; /* the broker has it */
	bool      is_done;      /* applied, dead or published: nothing is left to apply */
	int64_t   redeliveries;
	int       tries;  /* how often it was set aside */
	long long due_ms; /* when it is to be tried again, or may be published; of what is published,
						 when the broker must have confirmed it; 0: it was not put off */
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
	bool      was_refused;    /* something that was published over this connection */
	bool      was_returned;
	long long publish_due_ms; /* until then nothing is published: the broker did not take it */
	long long measure_due_ms;
	long long hear_due_ms; /* when the broker is to be listened to again, whatever else is to do */
} Replies;

/* ---------- replies.c ---------- */

extern void replies_on_delivery(void *context, uint64_t tag, const BrokerMessage *message);
extern void replies_set_aside(Delivery *delivery);
extern bool replies_is_to_be_tried(const Delivery *delivery);

/* ---------- replies_publish.c: false if the broker is to be connected to anew ---------- */

extern void replies_on_confirm(void *context, uint64_t tag, bool is_ack);
extern void replies_on_return(void *context, const char *message_id, int reply_code,
							  const char *reply_text);

/* replies_are_unconfirmed: has the broker still to confirm something? */
extern bool replies_are_unconfirmed(const Replies *replies);

/* replies_publishing_is_well: does the broker take what was published? */
extern bool replies_publishing_is_well(Replies *replies);

/* replies_note_loss: the connection is lost; what was published and not confirmed may be why. */
extern void replies_note_loss(Replies *replies);

extern bool replies_is_too_large(size_t bytes);
extern void replies_mark_dead(Delivery *delivery, const char *reason);

/* replies_bury sends those of the dead that are not yet on their way. */
extern bool replies_bury(Replies *replies);

/* replies_bury_large: one that is too large goes at once, unread: we do not keep it in memory, many
 * of them even less. */
extern void replies_bury_large(Replies *replies, Delivery *delivery, const BrokerMessage *message);

/* replies_count_aside: of those that are held, how many wait for somebody's lock, or longer? */
extern int replies_count_aside(const Replies *replies);

/* replies_renew_worn: what has come back often, because bridges died with it in their hands or the
 * queue of the dead does not take it, becomes a new message: the broker may drop one that comes
 * back too often, without a word. */
extern bool replies_renew_worn(Replies *replies);

/* replies_put_back: if much of what we may hold is set aside, it goes to the end of the queue, and
 * others come. Not over and over again if there are no others. */
extern bool replies_put_back(Replies *replies);

/* ---------- replies_apply.c: false if the broker is lost, or a stop is requested ---------- */

extern bool replies_read_bodies(Replies *replies);
extern bool replies_wait_for_database(Replies *replies);
extern bool replies_apply_all(Replies *replies);

#endif /* REPLIES_STATE_H */
