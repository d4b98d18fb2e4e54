/*
 * reply_room.h
 *		Is there memory for one more answer that waits for its client?
 *
 * BODIES_BYTES_MAX bounds all of them together; it is asked before an answer is made, for what
 * has changed something must be told.
 */
#ifndef BRIDGE_REPLY_ROOM_H
#define BRIDGE_REPLY_ROOM_H

#include "http/intake.h"

#define REPLY_ROOM_SPENT "too much that was asked for waits for its clients"

/* reply_room_is_spent: as many bytes wait as may. */
extern bool reply_room_is_spent(void);

/* reply_room_is_short: half of them do. */
extern bool reply_room_is_short(void);

/* reply_room_for: may the job be done? An ordinary order has room always, as its body has. */
extern bool reply_room_for(const Job *job);

#endif /* BRIDGE_REPLY_ROOM_H */
