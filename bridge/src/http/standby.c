/*
 * standby.c
 *		Reading from a standby what was committed when it was asked for.
 */
#include "http/standby.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/config.h"
#include "base/log.h"
#include "base/stop.h"
#include "link/statements.h"

#define GRACE_MS       500
#define ASK_TIMEOUT_MS 200 /* for the question how far it is */
#define WAIT_MS        50  /* for it to get there */
#define LSN_BYTES      32
#define TIMELINE_BYTES 12  /* in hexadecimal */
#define LEAVE_MS_MIN   100 /* one that is behind is left alone */
#define LEAVE_MS_MAX   10000
#define BEHIND_MAX     4 /* times, and another host is tried */
#define WATCH_MS       500
#define CONNECT_MS_MAX 10000

static atomic_bool is_there;

void
standby_init(Standby *standby, int timeout_ms, int lock_timeout_ms)
{
	*standby = (Standby){.leave = {.delay_ms_min = LEAVE_MS_MIN, .delay_ms_max = LEAVE_MS_MAX}};
	db_init(&standby->db, config.read_database_url, "order-bridge queries", NULL);
	standby->db.target = DB_TARGET_STANDBY;
	standby->db.timeout_ms = timeout_ms;
	standby->db.lock_timeout_ms = lock_timeout_ms;
	standby->db.grace_ms = GRACE_MS;
}

void
standby_close(Standby *standby)
{
	db_close(&standby->db);
}

static bool
leave_alone(Standby *standby)
{
	standby->not_before_ms = monotonic_ms() + backoff_next(&standby->leave);
	if (standby->leave.attempt % BEHIND_MAX == 0 && standby->db.hosts.count > 1)
		db_leave(&standby->db);
	return false;
}

/* Connects anew, to the right database. */
static bool
connect_to(Standby *standby, Db *primary)
{
	if (!db_connect(&standby->db))
		return false;
	if (standby->db.is_pooled) /* what says how far it is need not be what is read then */
		log_error("READ_DATABASE_URL is behind a pooler: it is not read from");
	else if (db_is_same(&standby->db, primary, false))
		return true;
	else
		log_error("READ_DATABASE_URL is another database than DATABASE_URL, as far as it can be "
				  "told: it is not read from");
	db_leave(&standby->db);
	return false;
}

/* A place in the WAL. */
typedef struct Place
{
	char lsn[LSN_BYTES];
	char timeline[TIMELINE_BYTES];
} Place;

/* How far the primary is; false if it does not say. */
static bool
ask_primary(Db *primary, Place *place)
{
	PGresult *result;
	bool      ok = db_query_prepared(primary, "asking how far the primary is", SQL_LSN, 0, NULL,
									 &result) == DB_OK;

	if (ok)
	{
		snprintf(place->lsn, sizeof(place->lsn), "%s", PQgetvalue(result, 0, 0));
		snprintf(place->timeline, sizeof(place->timeline), "%s", PQgetvalue(result, 0, 1));
	}
	PQclear(result);
	return ok;
}

typedef enum Progress
{
	PROGRESS_THERE,
	PROGRESS_BEHIND,
	PROGRESS_NONE /* it cannot be read from */
} Progress;

static Progress
ask_standby(Standby *standby, const Place *place)
{
	const char *params[2] = {place->lsn, place->timeline};
	int         timeout_ms = standby->db.timeout_ms;
	PGresult   *result;
	Progress    progress = PROGRESS_NONE;

	standby->db.timeout_ms = ASK_TIMEOUT_MS;
	if (db_query_prepared(&standby->db, "asking how far the standby is", SQL_HAS_REPLAYED, 2,
						  params, &result) == DB_OK &&
		db_value(result, 0, 0) != NULL)
		progress = *db_value(result, 0, 0) == 't' ? PROGRESS_THERE : PROGRESS_BEHIND;
	standby->db.timeout_ms = timeout_ms;
	PQclear(result);
	return progress;
}

bool
standby_is_up_to_date(Standby *standby, Db *primary)
{
	Place     place;
	long long until_ms;
	Progress  progress;

	if (!atomic_load(&is_there) || monotonic_ms() < standby->not_before_ms)
		return false;
	if (!db_is_connected(&standby->db) && !connect_to(standby, primary))
		return leave_alone(standby);
	if (!ask_primary(primary, &place))
		return false;
	until_ms = monotonic_ms() + WAIT_MS;
	for (int pause_ms = 1; (progress = ask_standby(standby, &place)) == PROGRESS_BEHIND;
		 pause_ms *= 2)
	{
		if (monotonic_ms() + pause_ms > until_ms)
			return leave_alone(standby);
		stop_wait_ms(pause_ms);
	}
	if (progress == PROGRESS_NONE)
	{
		atomic_store(&is_there, false); /* until it is seen again */
		db_leave(&standby->db);
		return false;
	}
	return true;
}

void
standby_note(Standby *standby, bool has_answered)
{
	if (has_answered)
		backoff_reset(&standby->leave);
	else
		(void) leave_alone(standby);
}

/* Is it there, and a standby? */
static bool
look_at(Standby *standby)
{
	static const Place anywhere = {.lsn = "0/0"};

	if (!db_is_connected(&standby->db) && !db_connect(&standby->db))
		return false;
	if (ask_standby(standby, &anywhere) != PROGRESS_NONE)
		return true;
	db_leave(&standby->db);
	return false;
}

void *
standby_watch_run(void *unused)
{
	Standby standby;

	(void) unused;
	log_set_role("http.standby");
	standby_init(&standby, ASK_TIMEOUT_MS, ASK_TIMEOUT_MS);
	standby.db.backoff = (Backoff){.delay_ms_min = WATCH_MS, .delay_ms_max = CONNECT_MS_MAX};
	while (!stop_requested())
	{
		bool was_there = atomic_exchange(&is_there, look_at(&standby));

		if (was_there != atomic_load(&is_there))
			log_info("the standby is %s", was_there ? "away: the primary is read from" : "there");
		stop_wait_ms(atomic_load(&is_there) ? WATCH_MS : backoff_next(&standby.db.backoff));
	}
	standby_close(&standby);
	return NULL;
}
