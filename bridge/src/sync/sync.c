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

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "link/statements.h"
#include "sync/pull.h"
#include "base/roles.h"
#include "base/stop.h"
#include "base/text.h"

#define PART_ITEMS     500
#define PAUSE_US_A_ROW 2
#define LOOK_EVERY_MS  500
#define PAUSE_US_MIN   1000
#define NICENESS       10
#define PULLS_MAX      50 /* under way */
#define STATEMENT_MS   10000
#define LOCK_TIMEOUT_MS   300
#define ASIDE_US_MIN      250000
#define ASIDE_US_STEP_MAX 2000000
#define ASIDE_US_MAX      10000000 /* then the feed is given up: it is due again when its lease is over */
#define POSTPONE_S     "5"
#define LEASE_S        60 /* beyond the time of the transfer: for applying it */
#define OID_INT4       23
#define OID_INT8       20
#define OID_TEXT       25
#define OID_INT4S      1007
#define OID_TEXTS      1009

typedef enum Stage
{
	STAGE_BEGIN, /* the database has not begun the feed yet */
	STAGE_PARTS, /* entered when it has */
	STAGE_FINISH /* entered when all parts are applied */
} Stage;

/* A feed that is being applied. */
typedef struct Applying
{
	struct Applying *next;
	PullResult      *pull;
	Stage            stage;
	char             sync_id[24]; /* from STAGE_PARTS on */
	size_t           done;        /* items */
	const char      *after;       /* the last SKU of the parts applied; NULL: none is */
	long long        pause_us;    /* to be made up for */
	long long        resume_us;   /* the next step is to wait until then */
	int              tries;       /* how often in a row it met somebody's lock */
	long long        give_up_us;  /* of those: when they are too many */
} Applying;

typedef struct Syncer
{
	Db       *db;
	Puller   *puller;
	Applying *applying;
	json_t   *results; /* NULL: nobody asks */
} Syncer;

/* ---------- how it ended ---------- */

static void
tell(Syncer *syncer, const char *vendor_id, const char *status, const char *items, const char *error)
{
	if (error != NULL)
	{
		log_warning("vendor %s: sync %s: %s", vendor_id, status, error);
		metric_add(METRIC_SYNC_FAILURES, 1);
	}
	else if (strcmp(status, "superseded") != 0)
		metric_add(METRIC_SYNCS, 1);
	if (syncer->results != NULL)
		json_array_append_new(syncer->results,
							  json_pack("{s:s, s:s, s:o, s:s?}", "vendorId", vendor_id, "status", status, "items",
										items ? json_integer(atoi(items)) : json_null(), "error", error));
}

/* Writes down a pull that brought nothing to finish; sync_id: the feed that failed, NULL if none was begun. */
static void
record(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *status, const char *error)
{
	char        failures[12];
	char        open_s[12];
	char        short_error[PULL_ERROR_BYTES_MAX];
	const char *params[6] = {vendor_id, sync_id, status, error ? short_error : NULL, failures, open_s};
	PGresult   *result;

	if (error != NULL)
	{
		/* a message may quote what the vendor sent */
		snprintf(short_error, sizeof(short_error), "%s", error);
		text_cut(short_error, sizeof(short_error) - 4);
	}
	snprintf(failures, sizeof(failures), "%d", config.circuit_failures);
	snprintf(open_s, sizeof(open_s), "%d", config.circuit_open_s);
	if (db_query(syncer->db, "recording a sync", SQL_RECORD_PULL, 6, params, &result) != DB_OK)
		log_warning("the result of syncing vendor %s is not recorded", vendor_id);
	PQclear(result);
	tell(syncer, vendor_id, status, NULL, params[3]);
}

/* The database could not apply the feed now: through no fault of the vendor's, so it is pulled again soon. */
static void
postpone(Syncer *syncer, const char *vendor_id, const char *sync_id, const char *message)
{
	const char *params[4] = {vendor_id, sync_id, message, POSTPONE_S};
	PGresult   *result;

	if (db_query(syncer->db, "postponing a feed", SQL_POSTPONE_FEED, 4, params, &result) != DB_OK)
		log_warning("vendor %s is due again only when its lease is over", vendor_id);
	PQclear(result);
	tell(syncer, vendor_id, "failed", NULL, message);
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
static bool
set_aside(Syncer *syncer, Applying *applying, DbOutcome outcome, const PGresult *result)
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
	return outcome == DB_ERROR && db_is_passing(result) && now_us + delay_us < applying->give_up_us && !stop_requested();
}

/* Judges a statement about a vendor's feed; if it failed, so has the feed. */
static bool
succeeded(Syncer *syncer, const char *vendor_id, const char *sync_id, DbOutcome outcome, const PGresult *result)
{
	const char *sqlstate = outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : "";
	const char *message = outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : "";

	if (outcome == DB_OK)
		return true;
	if (outcome == DB_LOST)
		tell(syncer, vendor_id, "failed", NULL, "the database is away");
	else if (strcmp(sqlstate, "OA004") == 0)
		tell(syncer, vendor_id, "superseded", NULL, NULL); /* whoever did so records what became of it */
	else if (db_is_passing(result))
		postpone(syncer, vendor_id, sync_id, message);
	else
		record(syncer, vendor_id, sync_id, "failed", message);
	return false;
}

static void
forget(Syncer *syncer, Applying *applying)
{
	Applying **link = &syncer->applying;

	while (*link != applying)
		link = &(*link)->next;
	*link = applying->next;
	pull_result_free(applying->pull);
	free(applying);
}

/* ---------- parameters as arrays, in libpq's binary format ---------- */

static void
put_int32(FILE *stream, int32_t number)
{
	uint32_t bytes = htonl((uint32_t) number);

	fwrite(&bytes, sizeof(bytes), 1, stream);
}

static void
put_array_head(FILE *stream, int element_type, size_t count)
{
	put_int32(stream, count > 0); /* dimensions */
	put_int32(stream, 1);         /* there may be nulls */
	put_int32(stream, element_type);
	if (count == 0)
		return;
	put_int32(stream, (int32_t) count);
	put_int32(stream, 1); /* counted from 1 */
}

static void
put_indexes(FILE *stream, const FeedItem *items, size_t count)
{
	put_array_head(stream, OID_INT4, count);
	for (size_t i = 0; i < count; i++)
	{
		put_int32(stream, sizeof(int32_t));
		put_int32(stream, items[i].index);
	}
}

/* The texts at that offset in each item. */
static void
put_texts(FILE *stream, const FeedItem *items, size_t count, size_t offset)
{
	put_array_head(stream, OID_TEXT, count);
	for (size_t i = 0; i < count; i++)
	{
		const char *text = *(const char *const *) ((const char *) &items[i] + offset);

		put_int32(stream, text ? (int32_t) strlen(text) : -1);
		if (text != NULL)
			fwrite(text, strlen(text), 1, stream);
	}
}

/* ---------- applying ---------- */

/* How many items the next part has: all of one SKU stay together, and those without one go last. */
static size_t
part_size(const FeedItem *items, size_t left)
{
	size_t count = PART_ITEMS;

	if (left <= PART_ITEMS)
		return left;
	while (count < left && (items[count].sku == NULL || strcmp(items[count].sku, items[count - 1].sku) == 0))
		count++;
	return count;
}

static DbOutcome
send_part(Syncer *syncer, const Applying *applying, const FeedItem *items, size_t count, const char *upto, PGresult **result)
{
	static const size_t offsets[] = {offsetof(FeedItem, sku), offsetof(FeedItem, name), offsetof(FeedItem, quantity),
									 offsetof(FeedItem, price), offsetof(FeedItem, complaint)};
	static const Oid types[9] = {OID_INT8, OID_TEXT, OID_TEXT, OID_INT4S, OID_TEXTS, OID_TEXTS, OID_TEXTS, OID_TEXTS, OID_TEXTS};
	static const int formats[9] = {0, 0, 0, 1, 1, 1, 1, 1, 1};
	const char      *values[9] = {applying->sync_id, applying->after, upto};
	int              lengths[9] = {0};
	char            *text = NULL;
	size_t           bytes;
	size_t           starts[7];
	FILE            *stream = open_memstream(&text, &bytes);
	DbOutcome        outcome;

	*result = NULL;
	if (stream == NULL)
		return DB_LOST;
	starts[0] = 0;
	put_indexes(stream, items, count);
	for (size_t i = 0; i < 5; i++)
	{
		starts[i + 1] = (size_t) ftell(stream);
		put_texts(stream, items, count, offsets[i]);
	}
	starts[6] = (size_t) ftell(stream);
	if (text_finish(stream, &text) == NULL)
		return DB_LOST;
	for (size_t i = 0; i < 6; i++)
	{
		values[3 + i] = text + starts[i];
		lengths[3 + i] = (int) (starts[i + 1] - starts[i]);
	}
	outcome =
		db_query_typed(syncer->db, "applying a part of a feed", SQL_APPLY_FEED_PART, 9, types, values, lengths, formats, result);
	free(text);
	return outcome;
}

static void
finish(Syncer *syncer, Applying *applying)
{
	const PullResult *pull = applying->pull;
	const char       *params[3] = {applying->sync_id, *pull->etag ? pull->etag : NULL,
                             *pull->last_modified ? pull->last_modified : NULL};
	PGresult         *result;
	DbOutcome         outcome = db_query(syncer->db, "finishing a feed", SQL_FINISH_FEED, 3, params, &result);

	if (!set_aside(syncer, applying, outcome, result))
	{
		if (succeeded(syncer, pull->vendor_id, applying->sync_id, outcome, result))
			tell(syncer, pull->vendor_id, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1), NULL);
		forget(syncer, applying);
	}
	PQclear(result);
}

/*
 * What a feed writes to the log, the next commit has to wait for: so that orders
 * wait for little of it, a feed pauses after what it has written. The waits are
 * of milliseconds, so smaller ones are put together.
 */
static void
pause_feed(Applying *applying, long long written)
{
	applying->pause_us += written * PAUSE_US_A_ROW;
	if (applying->pause_us < PAUSE_US_MIN)
		return;
	applying->resume_us = monotonic_us() + applying->pause_us;
	applying->pause_us = 0;
}

static void
apply_part(Syncer *syncer, Applying *applying)
{
	size_t          total;
	const FeedItem *items = feed_items(applying->pull->feed, &total) + applying->done;
	size_t          count = part_size(items, total - applying->done);
	bool            is_last = applying->done + count == total;
	const char     *upto = is_last ? NULL : items[count - 1].sku;
	PGresult       *result;
	DbOutcome       outcome = send_part(syncer, applying, items, count, upto, &result);

	if (set_aside(syncer, applying, outcome, result))
	{
		PQclear(result);
		return;
	}
	if (!succeeded(syncer, applying->pull->vendor_id, applying->sync_id, outcome, result))
		forget(syncer, applying);
	else
	{
		applying->done += count;
		applying->after = upto;
		if (is_last)
			applying->stage = STAGE_FINISH;
		pause_feed(applying, atoll(PQgetvalue(result, 0, 0)));
	}
	PQclear(result);
}

/* Has the database begin the feed that a pull has brought. */
static void
begin(Syncer *syncer, Applying *applying)
{
	const PullResult *pull = applying->pull;
	char              as_of[32];
	char              ahead[32];
	const char       *params[4] = {pull->vendor_id, feed_as_of(pull->feed), ahead, as_of};
	PGresult         *result;
	DbOutcome         outcome;

	snprintf(ahead, sizeof(ahead), "%.6f", pull->clock_ahead);
	snprintf(as_of, sizeof(as_of), "%.6f", pull->as_of_latest);
	outcome = db_query(syncer->db, "beginning a feed", SQL_BEGIN_FEED, 4, params, &result);
	if (set_aside(syncer, applying, outcome, result))
	{
		PQclear(result);
		return;
	}
	if (!succeeded(syncer, pull->vendor_id, NULL, outcome, result))
		forget(syncer, applying);
	else if (PQgetisnull(result, 0, 0))
	{
		record(syncer, pull->vendor_id, NULL, "stale", NULL);
		forget(syncer, applying);
	}
	else
	{
		snprintf(applying->sync_id, sizeof(applying->sync_id), "%s", PQgetvalue(result, 0, 0));
		applying->stage = STAGE_PARTS;
	}
	PQclear(result);
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
		record(syncer, pull->vendor_id, NULL, "failed", "out of memory");
		pull_result_free(pull);
		return;
	}
	if (pull->status == PULL_UNCHANGED)
		record(syncer, pull->vendor_id, NULL, "unchanged", NULL);
	else
		record(syncer, pull->vendor_id, NULL, "failed", pull->error);
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
			begin(syncer, applying);
			break;
		case STAGE_PARTS:
			apply_part(syncer, applying);
			break;
		case STAGE_FINISH:
			finish(syncer, applying);
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

/*
 * Begins to pull vendors of a result (id, URL, mapping, ETag, Last-Modified), from
 * that row on, as long as not too many are under way; returns the next row.
 */
static int
pull_vendors(Syncer *syncer, const PGresult *vendors, int row)
{
	for (; row < PQntuples(vendors) && puller_count(syncer->puller) < PULLS_MAX; row++)
	{
		const char *vendor_id = PQgetvalue(vendors, row, 0);

		if (puller_is_pulling(syncer->puller, vendor_id) || is_applying(syncer, vendor_id))
			continue;
		if (!puller_add(syncer->puller, vendor_id, PQgetvalue(vendors, row, 1), db_value(vendors, row, 2),
						db_value(vendors, row, 3), db_value(vendors, row, 4)))
			record(syncer, vendor_id, NULL, "failed", "out of memory");
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
		forget(syncer, syncer->applying);
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
			if (strcmp(json_string_value(json_object_get(result, "vendorId")), PQgetvalue(vendors, row, 0)) == 0)
				json_array_append(sorted, result);
		}
	}
	json_array_clear(results);
	json_array_extend(results, sorted);
	json_decref(sorted);
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
	while (ok && !stop_requested() && (next < PQntuples(vendors) || puller_count(syncer.puller) > 0 || syncer.applying != NULL))
	{
		next = pull_vendors(&syncer, vendors, next);
		step(&syncer);
	}
	if (ok)
		sort_results(results, vendors);
	PQclear(vendors);
	close_syncer(&syncer);
	return ok;
}

/* Begins to pull the vendors that are due; false if the database cannot be reached. */
static bool
pull_due(Syncer *syncer)
{
	char        lease[12];
	char        free_pulls[12];
	const char *params[2] = {lease, free_pulls};
	PGresult   *vendors;
	bool        ok;

	snprintf(lease, sizeof(lease), "%d", config.sync_timeout_s + LEASE_S);
	snprintf(free_pulls, sizeof(free_pulls), "%d", PULLS_MAX - puller_count(syncer->puller));
	ok = db_query(syncer->db, "looking for vendors to sync", SQL_CLAIM_FEEDS, 2, params, &vendors) == DB_OK;
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
	close_syncer(&syncer);
	db_close(&db);
	return NULL;
}
