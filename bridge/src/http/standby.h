/*
 * standby.h
 *		Reading from a standby (READ_DATABASE_URL) what was committed when it was asked for.
 *
 * Whoever has placed an order, by whatever bridge or session, finds it: before a standby is read
 * from, the primary says how far it is, and the standby must have got there. One that is away, far
 * behind or no standby any more is left alone, and the primary answers. A thread of its own finds
 * out whether it is there: nobody else waits for one that is not.
 */
#ifndef BRIDGE_STANDBY_H
#define BRIDGE_STANDBY_H

#include "base/backoff.h"
#include "link/db.h"

typedef struct Standby
{
	Db        db;
	Backoff   leave; /* how long it is left alone after a failure */
	long long not_before_ms;
} Standby;

/* standby_init: a statement there is given up after timeout_ms. */
extern void standby_init(Standby *standby, int timeout_ms, int lock_timeout_ms);

/* standby_is_up_to_date: can standby->db be read from now, as the primary could? It waits a little
 * for that. */
extern bool standby_is_up_to_date(Standby *standby, Db *primary);

/* standby_note says what came of reading from it: who has not answered is left alone for a while.
 */
extern void standby_note(Standby *standby, bool has_answered);

extern void standby_close(Standby *standby);

/* standby_watch_run looks again and again whether the standby is there, until a stop is requested.
 * A thread's main function. */
extern void *standby_watch_run(void *unused);

#endif /* BRIDGE_STANDBY_H */
