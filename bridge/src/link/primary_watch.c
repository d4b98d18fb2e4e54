/*
 * primary_watch.c
 *		Looks for another primary beside the one there was.
 *
 * Whoever waits for a server that hangs finds out by a time-out, which is as long as a request may
 * take, and whoever asks then waits as long again. The other server may be primary long before.
 * And a primary that has been replaced, and does not know, may answer from its past for as long as
 * nobody tries to commit something there. So a connection of our own is made anew every five
 * seconds, every two once somebody has waited for one, beginning with the next host, also if the
 * one there was answers. When it comes to a later timeline, all that wait give up, and nobody asks
 * the earlier one any more (db_timeline.c).
 */
#include "link/primary_watch.h"

#include <stdatomic.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/db_state.h"

#define LOOK_MS      250
#define NOTED_MS     1000 /* for so long a note holds: while somebody waits there is always one */
#define ASK_MS       500
#define CONNECT_S    "2"   /* the least that libpq knows */
#define HOST_REST_MS 30000 /* for the one that hangs: it is another one that is looked for */
#define AGAIN_MS     2000  /* how long one that is there is stayed with, while somebody waits */
#define CALM_MS      5000  /* and while nobody does */

static _Atomic(long long) noted_at_ms = -NOTED_MS;

void
primary_watch_note(void)
{
	atomic_store(&noted_at_ms, monotonic_ms());
}

static bool
somebody_waits(void)
{
	return monotonic_ms() - atomic_load(&noted_at_ms) < NOTED_MS;
}

/* Connects anew, beginning with another host than before. */
static void
look(Db *db)
{
	db_leave(db);
	if (!db_connect(db))
		log_debug("none answers");
}

void *
primary_watch_run(void *url)
{
	Db        db;
	long long looked_ms;

	log_set_role("primary");
	db_init(&db, url, "order-bridge primary", NULL);
	db.timeout_ms = db.lock_timeout_ms = db.grace_ms = ASK_MS;
	db.connect_timeout_s = CONNECT_S;
	db.hosts.rest_ms = HOST_REST_MS;
	db.is_quiet = true;
	/* now, while all is well: which hosts there are, and which of them hangs later */
	look(&db);
	looked_ms = monotonic_ms();
	while (db.hosts.count != 1 && !stop_requested()) /* 0: that is not known yet */
	{
		bool is_urgent = somebody_waits();

		if (monotonic_ms() - looked_ms >= (is_urgent ? AGAIN_MS : CALM_MS) ||
			(is_urgent && !db_is_alive(&db)))
		{
			look(&db);
			looked_ms = monotonic_ms();
		}
		stop_wait_ms(LOOK_MS);
	}
	db_close(&db);
	return NULL;
}
