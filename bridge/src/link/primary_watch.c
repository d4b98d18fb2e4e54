/*
 * primary_watch.c
 *		Looks for another primary while the one there was does not answer.
 *
 * Whoever waits for a server that hangs finds out by a time-out, which is as long as a request may
 * take, and whoever asks then waits as long again. The other server may be primary long before.
 * So once somebody has waited for a second, a connection of our own asks too, and goes on to the
 * other hosts if it gets no answer, and every two seconds if it gets one: a primary that has been
 * replaced may answer, and only commit nothing any more. When it comes to a later timeline, all
 * that wait give up (db_timeline.c).
 */
#include "link/primary_watch.h"

#include <stdatomic.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/db_state.h"
#include "link/statements.h"

#define LOOK_MS      250
#define NOTED_MS     1000 /* for so long a note holds: while somebody waits there is always one */
#define ASK_MS       500
#define CONNECT_S    "2"   /* the least that libpq knows */
#define HOST_REST_MS 30000 /* for the one that hangs: it is another one that is looked for */
#define AGAIN_MS     2000  /* how often one that answers is left for a look at the others */

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

/* Does the server that we are connected to answer? If not, the connection is given up. */
static bool
has_answer(Db *db)
{
	PGresult *result = NULL;
	bool ok = db_is_alive(db) && db_query(db, "asking whether PostgreSQL answers", SQL_BACKEND_PID,
										  0, NULL, &result) != DB_LOST;

	PQclear(result);
	return ok;
}

void *
primary_watch_run(void *url)
{
	Db        db;
	long long look_ms = 0;

	log_set_role("primary");
	db_init(&db, url, "order-bridge primary", NULL);
	db.timeout_ms = db.lock_timeout_ms = db.grace_ms = ASK_MS;
	db.connect_timeout_s = CONNECT_S;
	db.hosts.rest_ms = HOST_REST_MS;
	/* now, while all is well: which hosts there are, and which of them hangs later */
	if (!db_connect(&db))
		log_debug("none answers");
	while (db.hosts.count > 1 && !stop_requested())
	{
		if (somebody_waits() && (monotonic_ms() >= look_ms || !has_answer(&db)))
		{
			db_leave(&db);
			if (!db_connect(&db))
				log_debug("none answers");
			look_ms = monotonic_ms() + AGAIN_MS;
		}
		stop_wait_ms(LOOK_MS);
	}
	db_close(&db);
	return NULL;
}
