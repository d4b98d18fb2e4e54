/*
 * sync.c
 *		The sync role: vendors' stock feeds, pulled over HTTP and applied.
 *
 * The database says which vendors are due, and leaves them to one bridge for a
 * while. All their feeds are pulled side by side (pull.c); each is applied as
 * soon as it is there, a part at a time and in turns, so that no vendor waits for
 * another, and no order for more than a part.
 */
#include "sync/sync.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "sync/sync_state.h"

void
sync_forget(Syncer *syncer, Applying *applying)
{
	Applying **link = &syncer->applying;

	while (*link != applying)
		link = &(*link)->next;
	*link = applying->next;
	pull_result_free(applying->pull);
	free(applying);
}

/* ---------- the loop ---------- */

static void
take_pull(Syncer *syncer, PullResult *pull)
{
	if (pull->status == PULL_BROUGHT)
	{
		Applying *applying = calloc(1, sizeof(Applying));

		if (applying != NULL)
		{
			*applying = (Applying){.next = syncer->applying, .pull = pull};
			syncer->applying = applying;
			return;
		}
		sync_record(syncer, pull->vendor_id, NULL, "failed", "out of memory", 0, NULL);
		pull_result_free(pull);
		return;
	}
	if (pull->status == PULL_UNCHANGED)
		sync_record(syncer, pull->vendor_id, NULL, "unchanged", NULL, 0, pull->config_no);
	else if (pull->is_excused)
		sync_postpone(syncer, pull->vendor_id, NULL, pull->error);
	else
		sync_record(syncer, pull->vendor_id, NULL, "failed", pull->error, pull->retry_after_s,
					pull->config_no);
	pull_result_free(pull);
}

/* How long nothing is to be done but to wait for transfers. */
static int
wait_ms(const Syncer *syncer)
{
	long long wait_us = LOOK_EVERY_MS * 1000LL;

	for (const Applying *applying = syncer->applying; applying != NULL; applying = applying->next)
	{
		long long left_us = applying->resume_us - monotonic_us();

		wait_us = left_us < wait_us ? left_us : wait_us;
	}
	return wait_us > 0 ? (int) ((wait_us + 999) / 1000) : 0;
}

/* The feed whose turn it is, put behind the others; NULL if all pause or there is none. */
static Applying *
next_turn(Syncer *syncer)
{
	for (Applying **link = &syncer->applying; *link != NULL; link = &(*link)->next)
	{
		Applying  *applying = *link;
		Applying **last = link;

		if (applying->resume_us > monotonic_us())
			continue;
		*link = applying->next;
		while (*last != NULL)
			last = &(*last)->next;
		applying->next = NULL;
		*last = applying;
		return applying;
	}
	return NULL;
}

static void
take_turn(Syncer *syncer, Applying *applying)
{
	switch (applying->stage)
	{
		case STAGE_BEGIN:
			sync_begin(syncer, applying);
			break;
		case STAGE_PARTS:
			sync_apply_part(syncer, applying);
			break;
		case STAGE_FINISH:
			sync_finish(syncer, applying);
			break;
	}
}

/*
 * Lets all transfers go on, and takes one feed a step further. Waits if there is
 * none. The time that the database takes is none that a vendor has for its feed.
 */
static void
step(Syncer *syncer)
{
	PullResult *pull = puller_take(syncer->puller, wait_ms(syncer), syncer->applying != NULL);
	long long   began_us = monotonic_us();
	Applying   *applying;

	if (pull != NULL)
		take_pull(syncer, pull);
	applying = next_turn(syncer);
	if (applying != NULL)
		take_turn(syncer, applying);
	puller_excuse(syncer->puller, monotonic_us() - began_us);
}

static bool
is_applying(const Syncer *syncer, const char *vendor_id)
{
	for (const Applying *applying = syncer->applying; applying != NULL; applying = applying->next)
	{
		if (strcmp(applying->pull->vendor_id, vendor_id) == 0)
			return true;
	}
	return false;
}

/* How many vendors may be pulled now. */
static int
free_pulls(const Syncer *syncer)
{
	return pull_has_room() ? PULLS_MAX - puller_count(syncer->puller) : 0;
}

/*
 * Begins to pull vendors of a result (id, URL, mapping, ETag, Last-Modified), from
 * that row on, as long as not too many are under way; returns the next row.
 */
static int
pull_vendors(Syncer *syncer, const PGresult *vendors, int row)
{
	for (; row < PQntuples(vendors) && free_pulls(syncer) > 0; row++)
	{
		const char *vendor_id = PQgetvalue(vendors, row, 0);

		if (puller_is_pulling(syncer->puller, vendor_id) || is_applying(syncer, vendor_id))
			continue;
		if (!puller_add(syncer->puller, vendor_id, PQgetvalue(vendors, row, 1),
						db_value(vendors, row, 2), db_value(vendors, row, 3),
						db_value(vendors, row, 4), PQgetvalue(vendors, row, 5)))
			sync_record(syncer, vendor_id, NULL, "failed", "out of memory", 0, NULL);
	}
	return row;
}

/* What customers wait for goes first: this thread takes what they leave of the processors. */
static void
yield_to_others(void)
{
	if (setpriority(PRIO_PROCESS, (id_t) gettid(), NICENESS) != 0)
		log_debug("the sync runs at the priority of the others: %s", strerror(errno));
}

static void
close_syncer(Syncer *syncer)
{
	while (syncer->applying != NULL)
		sync_forget(syncer, syncer->applying);
	puller_free(syncer->puller);
	json_decref(syncer->given_up);
}

/* Puts the results, which came as the feeds did, in the order of the vendors. */
static void
sort_results(json_t *results, const PGresult *vendors)
{
	json_t *sorted = json_array();

	for (int row = 0; row < PQntuples(vendors); row++)
	{
		size_t  i;
		json_t *result;

		json_array_foreach(results, i, result)
		{
			if (strcmp(json_string_value(json_object_get(result, "vendorId")),
					   PQgetvalue(vendors, row, 0)) == 0)
				json_array_append(sorted, result);
		}
	}
	json_array_clear(results);
	json_array_extend(results, sorted);
	json_decref(sorted);
}

/* Is there a vendor from that row on, or a feed, that is not done with? */
static bool
has_more(const Syncer *syncer, const PGresult *vendors, int row)
{
	return row < PQntuples(vendors) || puller_count(syncer->puller) > 0 || syncer->applying != NULL;
}

/* Ends all that is under way. A database that was lost may come back as one that has given a feed's
 * id to another: there the next pull ends what was begun. */
static void
give_up(Syncer *syncer)
{
	PullResult *pull;

	while (syncer->applying != NULL)
	{
		Applying *applying = syncer->applying;
		bool      is_known = applying->stage != STAGE_BEGIN && db_is_connected(syncer->db);

		sync_note_given_up(syncer, applying->pull->vendor_id, is_known ? applying->sync_id : NULL);
		sync_forget(syncer, applying);
	}
	while ((pull = puller_give_up(syncer->puller)) != NULL)
	{
		sync_note_given_up(syncer, pull->vendor_id, NULL);
		pull_result_free(pull);
	}
}

/* Whoever goes on does not wait for the leases of what was given up, nor for a feed that is half
 * applied. A pull by hand has no lease, and says nothing of when its vendors are due. */
static void
hand_back(Syncer *syncer)
{
	bool has_leases = syncer->results == NULL;

	while (json_array_size(syncer->given_up) > 0 && db_is_connected(syncer->db))
	{
		const json_t *given_up = json_array_get(syncer->given_up, 0);
		const char   *vendor_id = json_string_value(json_array_get(given_up, 0));
		const char   *sync_id = json_string_value(json_array_get(given_up, 1));

		if ((sync_id != NULL || has_leases) &&
			!sync_make_due(syncer, vendor_id, sync_id, "the bridge was told to stop",
						   has_leases ? "0" : NULL) &&
			!db_is_connected(syncer->db))
			return; /* later */
		json_array_remove(syncer->given_up, 0);
	}
}

bool
sync_now(Db *db, const char *vendor_id, json_t *results)
{
	const char *params[1] = {vendor_id};
	Syncer      syncer = {
			 .db = db, .puller = puller_create(), .results = results, .given_up = json_array()};
	PGresult *vendors;
	int       next = 0;
	bool      ok;

	if (syncer.puller == NULL)
	{
		close_syncer(&syncer);
		return false;
	}
	yield_to_others();
	ok = db_query(db, "reading vendors", SQL_VENDOR_FEEDS, 1, params, &vendors) == DB_OK;
	while (ok && has_more(&syncer, vendors, next) && !stop_requested())
	{
		next = pull_vendors(&syncer, vendors, next);
		step(&syncer);
	}
	ok = ok && !has_more(&syncer, vendors, next);
	if (ok)
		sort_results(results, vendors);
	PQclear(vendors);
	if (!ok)
	{
		give_up(&syncer);
		hand_back(&syncer);
	}
	close_syncer(&syncer);
	return ok;
}

/* Begins to pull the vendors that are due; false if the database cannot be reached. */
static bool
pull_due(Syncer *syncer)
{
	char        lease[12];
	char        limit[12];
	const char *params[2] = {lease, limit};
	PGresult   *vendors;
	bool        ok;

	snprintf(lease, sizeof(lease), "%d", config.sync_timeout_s + LEASE_S);
	snprintf(limit, sizeof(limit), "%d", free_pulls(syncer));
	ok = db_query(syncer->db, "looking for vendors to sync", SQL_CLAIM_FEEDS, 2, params,
				  &vendors) == DB_OK;
	if (ok)
		(void) pull_vendors(syncer, vendors, 0);
	PQclear(vendors);
	return ok;
}

void *
sync_run(void *unused)
{
	Db        db;
	Syncer    syncer = {.db = &db, .puller = puller_create(), .given_up = json_array()};
	long long look_at = 0;

	(void) unused;
	assert(syncer.puller != NULL);
	log_set_role("sync");
	yield_to_others();
	db_init(&db, config.database_url, "order-bridge sync", NULL);
	db.timeout_ms = STATEMENT_MS;
	db.lock_timeout_ms = LOCK_TIMEOUT_MS;
	role_set_ready(ROLE_SYNC, false);
	while (db_connect_until_stopped(&db))
	{
		hand_back(&syncer); /* before they are claimed again */
		if (monotonic_ms() >= look_at)
		{
			role_set_ready(ROLE_SYNC, pull_due(&syncer));
			look_at = monotonic_ms() + LOOK_EVERY_MS;
		}
		step(&syncer);
		/* its last parts may be lost, and no vendor is to blame for transfers that nobody looks
		 * after meanwhile */
		if (!db_is_connected(&db))
			give_up(&syncer);
	}
	give_up(&syncer);
	hand_back(&syncer);
	close_syncer(&syncer);
	db_close(&db);
	return NULL;
}
