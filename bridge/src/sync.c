/*
 * sync.c
 *		The sync role: vendors' stock feeds, pulled over HTTP and applied.
 *
 * All feeds that are due are pulled side by side by one libcurl multi handle;
 * a slow or broken vendor delays no other. Nothing of a vendor is trusted: its
 * time and size are limited, redirects are not followed, only http and https
 * are spoken.
 */
#include "sync.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "backoff.h"
#include "config.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "stop.h"
#include "text.h"

#define VENDORS_MAX      1000
#define HEADER_BYTES_MAX 256
#define RETRY_MS_MIN     2000
#define RETRY_MS_MAX     600000
#define IDLE_MS_MAX      1000

/* One pull of one vendor's feed. */
typedef struct Pull
{
	char              *vendor_id;
	char              *url;
	char              *etag; /* of the last feed; may be NULL */
	char              *last_modified;
	CURL              *curl;
	struct curl_slist *headers;
	char              *body;
	size_t             body_bytes;
	size_t             body_room;
	char               new_etag[HEADER_BYTES_MAX];
	char               new_last_modified[HEADER_BYTES_MAX];
	double             began_at; /* seconds since 1970: the feed is at least that new */
	const char        *failure;  /* ours, where libcurl's words would mislead */
} Pull;

/* ---------- libcurl's callbacks ---------- */

static size_t
on_body(char *data, size_t size, size_t count, void *context)
{
	Pull  *pull = context;
	size_t bytes = size * count;

	if (pull->body_bytes + bytes > (size_t) config.feed_bytes_max)
	{
		pull->failure = "the feed is larger than FEED_BYTES_MAX";
		return 0;
	}
	if (pull->body_bytes + bytes + 1 > pull->body_room)
	{
		size_t room = pull->body_room ? pull->body_room : 16384;
		char  *body;

		while (room < pull->body_bytes + bytes + 1)
			room *= 2;
		body = realloc(pull->body, room);
		if (body == NULL)
			return 0;
		pull->body = body;
		pull->body_room = room;
	}
	memcpy(pull->body + pull->body_bytes, data, bytes);
	pull->body_bytes += bytes;
	pull->body[pull->body_bytes] = '\0';
	return bytes;
}

static void
copy_header(char *to, const char *line, size_t bytes, const char *name)
{
	size_t length = strlen(name);

	if (bytes <= length || strncasecmp(line, name, length) != 0)
		return;
	line += length;
	bytes -= length;
	while (bytes > 0 && (*line == ' ' || *line == '\t'))
	{
		line++;
		bytes--;
	}
	while (bytes > 0 && (line[bytes - 1] == '\r' || line[bytes - 1] == '\n'))
		bytes--;
	for (size_t i = 0; i < bytes; i++)
	{
		if (line[i] < ' ' || line[i] > '~') /* it would not go into the database */
			return;
	}
	if (bytes < HEADER_BYTES_MAX)
	{
		memcpy(to, line, bytes);
		to[bytes] = '\0';
	}
}

static size_t
on_header(char *data, size_t size, size_t count, void *context)
{
	Pull *pull = context;

	copy_header(pull->new_etag, data, size * count, "ETag:");
	copy_header(pull->new_last_modified, data, size * count, "Last-Modified:");
	return size * count;
}

/* ---------- one pull ---------- */

static double
wall_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void
add_condition(Pull *pull, const char *header, const char *value)
{
	char line[HEADER_BYTES_MAX + 64];

	if (value == NULL)
		return;
	snprintf(line, sizeof(line), "%s: %s", header, value);
	pull->headers = curl_slist_append(pull->headers, line);
}

static bool
start_pull(Pull *pull, CURLM *multi)
{
	pull->curl = curl_easy_init();
	if (pull->curl == NULL)
		return false;
	pull->began_at = wall_clock();
	add_condition(pull, "If-None-Match", pull->etag);
	add_condition(pull, "If-Modified-Since", pull->last_modified);
	curl_easy_setopt(pull->curl, CURLOPT_URL, pull->url);
	curl_easy_setopt(pull->curl, CURLOPT_HTTPHEADER, pull->headers);
	curl_easy_setopt(pull->curl, CURLOPT_PRIVATE, pull);
	curl_easy_setopt(pull->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(pull->curl, CURLOPT_WRITEDATA, pull);
	curl_easy_setopt(pull->curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(pull->curl, CURLOPT_HEADERDATA, pull);
	curl_easy_setopt(pull->curl, CURLOPT_TIMEOUT, (long) config.sync_timeout_s);
	curl_easy_setopt(pull->curl, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(pull->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(pull->curl, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(pull->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(pull->curl, CURLOPT_USERAGENT, "order-bridge");
	return curl_multi_add_handle(multi, pull->curl) == CURLM_OK;
}

static void
finish_pull(Pull *pull, CURLM *multi)
{
	if (pull->curl != NULL)
	{
		curl_multi_remove_handle(multi, pull->curl);
		curl_easy_cleanup(pull->curl);
	}
	curl_slist_free_all(pull->headers);
	free(pull->vendor_id);
	free(pull->url);
	free(pull->etag);
	free(pull->last_modified);
	free(pull->body);
	*pull = (Pull){0};
}

/* Writes down how a pull went, and adds it to the results. */
static void
record(Db *db, const Pull *pull, const char *status, const char *items, const char *error, json_t *results)
{
	bool        good = strcmp(status, "applied") == 0;
	const char *params[6] = {pull->vendor_id,
							 status,
							 items,
							 error,
							 good && *pull->new_etag ? pull->new_etag : NULL,
							 good && *pull->new_last_modified ? pull->new_last_modified : NULL};
	PGresult   *result;

	if (db_query(db, "recording a sync", SQL_RECORD_SYNC, 6, params, &result) != DB_OK)
		log_warning("the result of syncing vendor %s is not recorded", pull->vendor_id);
	PQclear(result);
	if (error != NULL)
		log_warning("vendor %s: sync %s: %s", pull->vendor_id, status, error);
	metric_add(error != NULL ? METRIC_SYNC_FAILURES : METRIC_SYNCS, 1);
	json_array_append_new(results, json_pack("{s:s, s:s, s:o, s:s?}", "vendorId", pull->vendor_id, "status", status, "items",
											 items ? json_integer(atoi(items)) : json_null(), "error", error));
}

static void
apply(Db *db, const Pull *pull, json_t *results)
{
	char        as_of[32];
	const char *params[3] = {pull->vendor_id, pull->body ? pull->body : "", as_of};
	PGresult   *result;
	DbOutcome   outcome;

	snprintf(as_of, sizeof(as_of), "%.6f", pull->began_at);
	outcome = db_query(db, "applying a feed", SQL_SYNC_STOCK, 3, params, &result);
	if (outcome == DB_OK)
		record(db, pull, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1), NULL, results);
	else
		record(db, pull, "failed", NULL,
			   outcome == DB_ERROR ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : "the database is away", results);
	PQclear(result);
}

/* Applies what a finished transfer brought, or records why it brought nothing. */
static void
on_transfer_done(Db *db, const Pull *pull, CURLcode code, json_t *results)
{
	long status = 0;
	char error[64];

	curl_easy_getinfo(pull->curl, CURLINFO_RESPONSE_CODE, &status);
	if (code != CURLE_OK)
		record(db, pull, "failed", NULL, pull->failure ? pull->failure : curl_easy_strerror(code), results);
	else if (status == 304)
		record(db, pull, "unchanged", NULL, NULL, results);
	else if (status != 200)
	{
		snprintf(error, sizeof(error), "the vendor answered with status %ld", status);
		record(db, pull, "failed", NULL, error, results);
	}
	else if (text_has_nul(pull->body, pull->body_bytes))
		record(db, pull, "failed", NULL, "the feed is not JSON: it has a NUL character", results);
	else
		apply(db, pull, results);
}

/* Runs all pulls to their end. */
static void
run_pulls(Db *db, Pull *pulls, int count, json_t *results)
{
	CURLM *multi = curl_multi_init();
	int    running = 1;

	for (int i = 0; i < count; i++)
	{
		if (multi == NULL || !start_pull(&pulls[i], multi))
			record(db, &pulls[i], "failed", NULL, "out of memory", results);
	}
	while (running > 0 && multi != NULL)
	{
		CURLMsg *message;
		int      left;

		curl_multi_perform(multi, &running);
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
		{
			Pull *pull;

			if (message->msg != CURLMSG_DONE)
				continue;
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &pull);
			on_transfer_done(db, pull, message->data.result, results);
		}
		if (running > 0)
			curl_multi_poll(multi, NULL, 0, 200, NULL);
	}
	for (int i = 0; i < count; i++)
		finish_pull(&pulls[i], multi);
	curl_multi_cleanup(multi);
}

/* ---------- which vendors ---------- */

static char *
copy_value(const PGresult *result, int row, int column)
{
	const char *value = db_value(result, row, column);

	return value ? strdup(value) : NULL;
}

static void
prepare_pull(Pull *pull, const PGresult *vendors, int row)
{
	*pull = (Pull){.vendor_id = copy_value(vendors, row, 0),
				   .url = copy_value(vendors, row, 1),
				   .etag = copy_value(vendors, row, 3),
				   .last_modified = copy_value(vendors, row, 4)};
}

bool
sync_now(Db *db, const char *vendor_id, json_t *results)
{
	PGresult *vendors;
	Pull     *pulls;
	int       count = 0;
	bool      ok = db_query(db, "reading vendors", SQL_VENDOR_FEEDS, 0, NULL, &vendors) == DB_OK;

	pulls = ok ? calloc(PQntuples(vendors) + 1, sizeof(Pull)) : NULL;
	for (int row = 0; pulls != NULL && row < PQntuples(vendors); row++)
	{
		if (vendor_id == NULL || strcmp(vendor_id, PQgetvalue(vendors, row, 0)) == 0)
			prepare_pull(&pulls[count++], vendors, row);
	}
	if (pulls != NULL)
		run_pulls(db, pulls, count, results);
	free(pulls);
	PQclear(vendors);
	return ok;
}

/* ---------- the role ---------- */

/* When a vendor is next due. */
typedef struct Schedule
{
	char      vendor_id[65];
	long long due_ms;
	Backoff   backoff;
} Schedule;

static Schedule *
find_schedule(Schedule *schedules, int *count, const char *vendor_id)
{
	for (int i = 0; i < *count; i++)
	{
		if (strcmp(schedules[i].vendor_id, vendor_id) == 0)
			return &schedules[i];
	}
	if (*count == VENDORS_MAX)
		return NULL;
	schedules[*count] = (Schedule){.backoff = {.delay_ms_min = RETRY_MS_MIN, .delay_ms_max = RETRY_MS_MAX}};
	snprintf(schedules[*count].vendor_id, sizeof(schedules[*count].vendor_id), "%s", vendor_id);
	return &schedules[(*count)++];
}

static bool
has_failed(const json_t *results, const char *vendor_id)
{
	size_t  i;
	json_t *result;

	json_array_foreach(results, i, result)
	{
		if (strcmp(json_string_value(json_object_get(result, "vendorId")), vendor_id) == 0)
			return strcmp(json_string_value(json_object_get(result, "status")), "failed") == 0;
	}
	return true;
}

/* Pulls every feed that is due; false if the database cannot be reached. */
static bool
sync_due(Db *db, Schedule *schedules, int *nschedules)
{
	PGresult *vendors;
	Pull     *pulls;
	json_t   *results;
	int       count = 0;

	if (db_query(db, "reading vendors", SQL_VENDOR_FEEDS, 0, NULL, &vendors) != DB_OK)
	{
		PQclear(vendors);
		return false;
	}
	results = json_array();
	pulls = calloc(PQntuples(vendors) + 1, sizeof(Pull));
	for (int row = 0; pulls != NULL && row < PQntuples(vendors); row++)
	{
		Schedule *schedule = find_schedule(schedules, nschedules, PQgetvalue(vendors, row, 0));

		if (schedule == NULL)
			log_warning("more than %d vendors: %s is not synced", VENDORS_MAX, PQgetvalue(vendors, row, 0));
		else if (schedule->due_ms <= monotonic_ms())
			prepare_pull(&pulls[count++], vendors, row);
	}
	if (pulls != NULL && count > 0)
		run_pulls(db, pulls, count, results);
	for (int row = 0; row < PQntuples(vendors) && count > 0; row++)
	{
		Schedule *schedule = find_schedule(schedules, nschedules, PQgetvalue(vendors, row, 0));
		long long interval_ms = atoll(PQgetvalue(vendors, row, 2)) * 1000;

		if (schedule == NULL || schedule->due_ms > monotonic_ms())
			continue;
		if (has_failed(results, schedule->vendor_id))
		{
			/* sooner than the interval at first, much later in the end */
			schedule->due_ms = monotonic_ms() + backoff_next(&schedule->backoff);
			continue;
		}
		backoff_reset(&schedule->backoff);
		schedule->due_ms = monotonic_ms() + interval_ms;
	}
	free(pulls);
	json_decref(results);
	PQclear(vendors);
	return true;
}

void *
sync_run(void *unused)
{
	Schedule *schedules = calloc(VENDORS_MAX, sizeof(Schedule));
	int       nschedules = 0;
	Db        db;

	(void) unused;
	assert(schedules != NULL);
	log_set_role("sync");
	db_init(&db, config.database_url, "order-bridge sync", NULL);
	role_set_ready(ROLE_SYNC, false);
	while (db_connect_until_stopped(&db))
	{
		bool ok = sync_due(&db, schedules, &nschedules);

		role_set_ready(ROLE_SYNC, ok);
		stop_wait_ms(IDLE_MS_MAX);
	}
	free(schedules);
	db_close(&db);
	return NULL;
}
