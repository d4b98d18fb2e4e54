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
#include "base/text.h"
#include "sync/sync_state.h"

/* ---------- how it ended ---------- */

void
sync_tell(Syncer *syncer, const char *vendor_id, const char *status, const char *items,
		  const char *error)
{
	if (error != NULL)
	{
		log_warning("vendor %s: sync %s: %s", vendor_id, status, error);
		metric_add(METRIC_SYNC_FAILURES, 1);
	}
	else if (strcmp(status, "superseded") != 0)
		metric_add(METRIC_SYNCS, 1);
	if (syncer->results != NULL)
		json_array_append_new(
			syncer->results,
			json_pack("{s:s, s:s, s:o, s:s?}", "vendorId", vendor_id, "status", status, "items",
					  items ? json_integer(atoi(items)) : json_null(), "error", error));
}

/* Writes down a pull that brought nothing to sync_finish; sync_id: the feed that failed, NULL if
 * none was begun. */
void
sync_record(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *status,
			const char *error, double retry_after_s, const char *config_no)
{
	char        failures[12];
	char        open_s[12];
	char        short_error[PULL_ERROR_BYTES_MAX];
	char        retry_after[32];
	const char *params[8] = {vendor_id, sync_id, status,      error ? short_error : NULL,
							 failures,  open_s,  retry_after, config_no};
	PGresult   *result;

	if (error != NULL)
	{
		/* a message may quote what the vendor sent */
		snprintf(short_error, sizeof(short_error), "%s", error);
		text_cut(short_error, sizeof(short_error) - 4);
	}
	snprintf(failures, sizeof(failures), "%d", config.circuit_failures);
	snprintf(open_s, sizeof(open_s), "%d", config.circuit_open_s);
	snprintf(retry_after, sizeof(retry_after), "%.0f", retry_after_s);
	if (db_query(syncer->db, "recording a sync", SQL_RECORD_PULL, 8, params, &result) != DB_OK)
		log_warning("the result of syncing vendor %s is not recorded", vendor_id);
	PQclear(result);
	sync_tell(syncer, vendor_id, status, NULL, params[3]);
}

/* Gives up a feed that was begun, if one is given, and has the vendor due so many seconds later;
 * false if that could not be said. */
static bool
make_due(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *message,
		 const char *seconds)
{
	const char *params[4] = {vendor_id, sync_id, message, seconds};
	PGresult   *result;
	bool        ok =
		db_query(syncer->db, "postponing a feed", SQL_POSTPONE_FEED, 4, params, &result) == DB_OK;

	if (!ok)
		log_warning("vendor %s is due again only when its lease is over", vendor_id);
	PQclear(result);
	return ok;
}

/* The database could not apply the feed now: through no fault of the vendor's, so it is pulled
 * again soon. */
static void
postpone(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *message)
{
	(void) make_due(syncer, vendor_id, sync_id, message, POSTPONE_S);
	sync_tell(syncer, vendor_id, "failed", NULL, message);
}

static int
count_aside(const Syncer *syncer)
{
	int count = 0;

	for (const Applying *applying = syncer->applying; applying != NULL; applying = applying->next)
		count += applying->tries > 0;
	return count;
}

/*
 * True if a step of a feed that failed is to be tried again: it met somebody's lock,
 * or another passing trouble of the database's. Meanwhile the others go on.
 */
bool
sync_set_aside(Syncer *syncer, Applying *applying, DbOutcome outcome, const PGresult *result)
{
	long long now_us = monotonic_us();
	long long delay_us = ASIDE_US_MIN;

	if (outcome == DB_OK)
		applying->tries = 0;
	if (outcome == DB_ERROR && db_is_passing(result))
	{
		if (applying->tries == 0)
			applying->give_up_us = now_us + ASIDE_US_MAX;
		for (int i = 0; i < applying->tries && delay_us < ASIDE_US_STEP_MAX; i++)
			delay_us *= 2;
		applying->tries++;
		applying->resume_us = now_us + delay_us;
	}
	metric_set(METRIC_FEEDS_SET_ASIDE, count_aside(syncer));
	return outcome == DB_ERROR && db_is_passing(result) &&
		   now_us + delay_us < applying->give_up_us && !stop_requested();
}

/* Another feed goes before this one, or it is to be read otherwise: the vendor is due at once, also
 * if it was claimed meanwhile and not pulled, because this was under way. */
static void
pull_again(Syncer *syncer, const char *vendor_id)
{
	(void) make_due(syncer, vendor_id, NULL, NULL, "0");
	sync_tell(syncer, vendor_id, "superseded", NULL, NULL);
}

/* Judges a statement about a vendor's feed; if it failed, so has the feed. */
bool
sync_succeeded(Syncer *syncer, const char *vendor_id, const char *sync_id, DbOutcome outcome,
			   const PGresult *result)
{
	const char *sqlstate = outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : "";
	const char *message =
		outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : "";

	if (outcome == DB_OK)
		return true;
	if (outcome == DB_LOST)
		sync_tell(syncer, vendor_id, "failed", NULL, "the database is away");
	else if (strcmp(sqlstate, "OA004") == 0)
		pull_again(syncer, vendor_id); /* whoever did so records what became of it */
	else if (db_is_passing(result))
		postpone(syncer, vendor_id, sync_id, message);
	else
		sync_record(syncer, vendor_id, sync_id, "failed", message, 0, NULL);
	return false;
}

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
	PullResult *pull = puller_take(syncer->puller, wait_ms(syncer));
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

/* How many vendors may be pulled now. None while the feeds that wait to be applied fill what memory
 * there is for them. */
static int
free_pulls(const Syncer *syncer)
{
	size_t bytes = 0;

	for (const Applying *applying = syncer->applying; applying != NULL; applying = applying->next)
		bytes += applying->pull->bytes;
	return bytes < (size_t) config.feed_bytes_max * FEEDS_WAITING_MAX
			   ? PULLS_MAX - puller_count(syncer->puller)
			   : 0;
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

/* At the end: whoever goes on does not wait for our leases, nor for a feed that is half applied. A
 * pull by hand has no lease, and says nothing of when its vendors are due. */
static void
hand_back(Syncer *syncer)
{
	PullResult *pull;
	bool        has_leases = syncer->results == NULL;
	bool        ok = db_is_connected(syncer->db);

	for (const Applying *applying = syncer->applying; ok && applying != NULL;
		 applying = applying->next)
	{
		bool has_begun = applying->stage != STAGE_BEGIN;

		if (has_begun || has_leases)
			ok = make_due(syncer, applying->pull->vendor_id, has_begun ? applying->sync_id : NULL,
						  "the bridge was told to stop", has_leases ? "0" : NULL);
	}
	while (ok && has_leases && (pull = puller_give_up(syncer->puller)) != NULL)
	{
		ok = make_due(syncer, pull->vendor_id, NULL, NULL, "0");
		pull_result_free(pull);
	}
}

bool
sync_now(Db *db, const char *vendor_id, json_t *results)
{
	const char *params[1] = {vendor_id};
	Syncer      syncer = {.db = db, .puller = puller_create(), .results = results};
	PGresult   *vendors;
	int         next = 0;
	bool        ok;

	if (syncer.puller == NULL)
		return false;
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
		hand_back(&syncer);
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

/*
 * Gives up all that is under way. After the database was away: its last parts may
 * be lost if it crashed, and no vendor is to blame for transfers that nobody
 * looked after meanwhile. They are due again when their leases are over.
 */
static void
start_over(Syncer *syncer)
{
	close_syncer(syncer);
	syncer->puller = puller_create();
	assert(syncer->puller != NULL);
}

void *
sync_run(void *unused)
{
	Db        db;
	Syncer    syncer = {.db = &db, .puller = puller_create()};
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
		if (monotonic_ms() >= look_at)
		{
			role_set_ready(ROLE_SYNC, pull_due(&syncer));
			look_at = monotonic_ms() + LOOK_EVERY_MS;
		}
		step(&syncer);
		if (!db_is_connected(&db))
			start_over(&syncer);
	}
	hand_back(&syncer);
	close_syncer(&syncer);
	db_close(&db);
	return NULL;
}
