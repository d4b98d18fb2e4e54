/*
 * sync_outcome.c
 *		How a vendor's feed ended, and when the vendor is due again.
 */
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "base/text.h"
#include "sync/sync_state.h"

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

/* It is handed back once the database is there; sync_id: of a feed that was begun, or NULL. */
void
sync_note_given_up(Syncer *syncer, const char *vendor_id, const char *sync_id)
{
	if (json_array_append_new(syncer->given_up, json_pack("[s, s?]", vendor_id, sync_id)) != 0)
		log_warning("vendor %s is due again only when its lease is over", vendor_id);
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
	DbOutcome   outcome;

	/* a message may quote what the vendor sent: a name in its certificate, or a part of its feed */
	if (error != NULL)
		text_escape(error, short_error, sizeof(short_error));
	snprintf(failures, sizeof(failures), "%d", config.circuit_failures);
	snprintf(open_s, sizeof(open_s), "%d", config.circuit_open_s);
	snprintf(retry_after, sizeof(retry_after), "%.0f", retry_after_s);
	outcome = db_query(syncer->db, "recording a sync", SQL_RECORD_PULL, 8, params, &result);
	if (outcome != DB_OK)
		log_warning("the result of syncing vendor %s is not recorded", vendor_id);
	if (outcome == DB_LOST)
		sync_note_given_up(syncer, vendor_id, NULL);
	PQclear(result);
	sync_tell(syncer, vendor_id, status, NULL, params[3]);
}

/* Gives up a feed that was begun, if one is given, and has the vendor due so many seconds later;
 * false if that could not be said. */
bool
sync_make_due(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *message,
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
void
sync_postpone(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *message)
{
	(void) sync_make_due(syncer, vendor_id, sync_id, message, POSTPONE_S);
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
	(void) sync_make_due(syncer, vendor_id, NULL, NULL, "0");
	sync_tell(syncer, vendor_id, "superseded", NULL, NULL);
}

/* Judges a statement about a vendor's feed; if it failed, so has the feed. */
bool
sync_succeeded(Syncer *syncer, const char *vendor_id, const char *sync_id, DbOutcome outcome,
			   const PGresult *result)
{
	if (outcome == DB_OK)
		return true;
	if (outcome == DB_LOST)
	{
		sync_note_given_up(syncer, vendor_id, NULL);
		sync_tell(syncer, vendor_id, "failed", NULL, "the database is away");
	}
	else if (strcmp(db_sqlstate(result), "OA004") == 0)
		pull_again(syncer, vendor_id); /* whoever did so records what became of it */
	else if (db_is_passing(result))
		sync_postpone(syncer, vendor_id, sync_id, db_message(result));
	else
		sync_record(syncer, vendor_id, sync_id, "failed", db_message(result), 0, NULL);
	return false;
}
