/*
 * sync_apply.c
 *		A feed that was pulled, applied in parts to the database.
 */
#include <arpa/inet.h>
#include <string.h>

#include "base/stop.h"
#include "base/text.h"
#include "sync/sync_state.h"

/* ---------- parameters as arrays, in libpq's binary format ---------- */

static void
put_int32(Text *text, int32_t number)
{
	uint32_t bytes = htonl((uint32_t) number);

	text_add(text, (const char *) &bytes, sizeof(bytes));
}

static void
put_array_head(Text *text, int element_type, size_t count)
{
	put_int32(text, count > 0); /* dimensions */
	put_int32(text, 1);         /* there may be nulls */
	put_int32(text, element_type);
	if (count == 0)
		return;
	put_int32(text, (int32_t) count);
	put_int32(text, 1); /* counted from 1 */
}

static void
put_indexes(Text *text, const FeedItem *items, size_t count)
{
	put_array_head(text, OID_INT4, count);
	for (size_t i = 0; i < count; i++)
	{
		put_int32(text, sizeof(int32_t));
		put_int32(text, items[i].index);
	}
}

/* The texts at that offset in each item. */
static void
put_texts(Text *text, const FeedItem *items, size_t count, size_t offset)
{
	put_array_head(text, OID_TEXT, count);
	for (size_t i = 0; i < count; i++)
	{
		const char *value = *(const char *const *) ((const char *) &items[i] + offset);

		put_int32(text, value ? (int32_t) strlen(value) : -1);
		if (value != NULL)
			text_add_string(text, value);
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
	while (count < left &&
		   (items[count].sku == NULL || strcmp(items[count].sku, items[count - 1].sku) == 0))
		count++;
	return count;
}

static DbOutcome
send_part(Syncer *syncer, const Applying *applying, const FeedItem *items, size_t count,
		  const char *upto, PGresult **result)
{
	static const size_t offsets[] = {offsetof(FeedItem, sku), offsetof(FeedItem, name),
									 offsetof(FeedItem, quantity), offsetof(FeedItem, price),
									 offsetof(FeedItem, complaint)};
	static const Oid    types[9] = {OID_INT8,  OID_TEXT,  OID_TEXT,  OID_INT4S, OID_TEXTS,
									OID_TEXTS, OID_TEXTS, OID_TEXTS, OID_TEXTS};
	static const int    formats[9] = {0, 0, 0, 1, 1, 1, 1, 1, 1};
	const char         *values[9] = {applying->sync_id, applying->after, upto};
	int                 lengths[9] = {0};
	Text                text = {0};
	char               *arrays;
	size_t              starts[7];
	DbOutcome           outcome;

	*result = NULL;
	starts[0] = 0;
	put_indexes(&text, items, count);
	for (size_t i = 0; i < 5; i++)
	{
		starts[i + 1] = text.length;
		put_texts(&text, items, count, offsets[i]);
	}
	starts[6] = text.length;
	arrays = text_finish(&text);
	if (arrays == NULL)
		return DB_LOST;
	for (size_t i = 0; i < 6; i++)
	{
		values[3 + i] = arrays + starts[i];
		lengths[3 + i] = (int) (starts[i + 1] - starts[i]);
	}
	outcome = db_query_typed(syncer->db, "applying a part of a feed", SQL_APPLY_FEED_PART, 9, types,
							 values, lengths, formats, result);
	free(arrays);
	return outcome;
}

void
sync_finish(Syncer *syncer, Applying *applying)
{
	const PullResult *pull = applying->pull;
	const char       *params[3] = {
			  applying->sync_id, *pull->etag && !pull->tag_is_weak ? pull->etag : NULL,
        *pull->last_modified && !pull->time_is_weak ? pull->last_modified : NULL};
	PGresult *result;
	DbOutcome outcome =
		db_query(syncer->db, "finishing a feed", SQL_FINISH_FEED, 3, params, &result);

	if (!sync_set_aside(syncer, applying, outcome, result))
	{
		if (sync_succeeded(syncer, pull->vendor_id, applying->sync_id, outcome, result))
			sync_tell(syncer, pull->vendor_id, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1),
					  NULL);
		sync_forget(syncer, applying);
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

void
sync_apply_part(Syncer *syncer, Applying *applying)
{
	size_t          total;
	const FeedItem *items = feed_items(applying->pull->feed, &total) + applying->done;
	size_t          count = part_size(items, total - applying->done);
	bool            is_last = applying->done + count == total;
	const char     *upto = is_last ? NULL : items[count - 1].sku;
	PGresult       *result;
	DbOutcome       outcome = send_part(syncer, applying, items, count, upto, &result);

	if (sync_set_aside(syncer, applying, outcome, result))
	{
		PQclear(result);
		return;
	}
	if (!sync_succeeded(syncer, applying->pull->vendor_id, applying->sync_id, outcome, result))
		sync_forget(syncer, applying);
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

/* ---------- beginning ---------- */

/* The feed's SKUs, or a sample of them, as an array in libpq's binary format, malloc'd. */
static char *
sample_array(const Feed *feed, int *bytes)
{
	const char *skus[SAMPLE_SKUS];
	size_t      count = feed_sample(feed, skus, SAMPLE_SKUS);
	Text        text = {0};

	put_array_head(&text, OID_TEXT, count);
	for (size_t i = 0; i < count; i++)
	{
		put_int32(&text, (int32_t) strlen(skus[i]));
		text_add_string(&text, skus[i]);
	}
	*bytes = (int) text.length;
	return text_finish(&text);
}

#define BEGIN_PARAMS  15
#define BEGIN_SAMPLE  11 /* the one that is an array */
#define NUMBER_LENGTH 32

/* By how many seconds our clock is ahead of the database's, at most. */
static DbOutcome
compare_clocks(Syncer *syncer, double *ahead, PGresult **result)
{
	DbOutcome outcome = db_query(syncer->db, "comparing clocks", SQL_CLOCK, 0, NULL, result);

	if (outcome == DB_OK)
		*ahead = wall_clock_s() - strtod(PQgetvalue(*result, 0, 0), NULL);
	return outcome;
}

static DbOutcome
send_begin(Syncer *syncer, const PullResult *pull, double ahead, PGresult **result)
{
	static const Oid types[BEGIN_PARAMS] = {
		OID_TEXT, OID_FLOAT8, OID_TEXT, OID_FLOAT8, OID_FLOAT8, OID_TEXT, OID_TEXT,  OID_FLOAT8,
		OID_INT4, OID_INT4,   OID_INT4, OID_TEXTS,  OID_TEXT,   OID_INT4, OID_FLOAT8};
	static const int formats[BEGIN_PARAMS] = {[BEGIN_SAMPLE] = 1};
	int              lengths[BEGIN_PARAMS] = {0};
	char             numbers[BEGIN_PARAMS][NUMBER_LENGTH];
	size_t           items;
	size_t           unreadable;
	const char      *zone;
	const char      *told = feed_told(pull->feed);
	char            *sample = sample_array(pull->feed, &lengths[BEGIN_SAMPLE]);
	DbOutcome        outcome;

	*result = NULL;
	if (sample == NULL)
		return DB_LOST;
	(void) feed_items(pull->feed, &items);
	snprintf(numbers[1], NUMBER_LENGTH, "%lld", feed_as_of(pull->feed, &zone));
	snprintf(numbers[3], NUMBER_LENGTH, "%.6f", pull->clock_ahead);
	snprintf(numbers[4], NUMBER_LENGTH, "%.6f", pull->as_of_latest);
	snprintf(numbers[7], NUMBER_LENGTH, "%.6f", pull->began_at);
	snprintf(numbers[8], NUMBER_LENGTH, "%zu", items);
	snprintf(numbers[10], NUMBER_LENGTH, "%zu", feed_count_offers(pull->feed, &unreadable));
	snprintf(numbers[9], NUMBER_LENGTH, "%zu", unreadable);
	snprintf(numbers[14], NUMBER_LENGTH, "%.6f", ahead);
	outcome = db_query_typed(
		syncer->db, "beginning a feed", SQL_BEGIN_FEED, BEGIN_PARAMS, types,
		(const char *[]){pull->vendor_id, told ? numbers[1] : NULL, zone, numbers[3], numbers[4],
						 pull->as_of_rule, told ? told : pull->told, numbers[7], numbers[8],
						 numbers[9], numbers[10], sample, feed_main_complaint(pull->feed),
						 pull->config_no, numbers[14]},
		lengths, formats, result);
	free(sample);
	return outcome;
}

/* Columns of the result of SQL_BEGIN_FEED. */
enum
{
	FEED_BEGUN, /* null: it is not begun, for the reasons that the others tell */
	FEED_REFUSED_ID,
	FEED_REFUSED_STATUS,
	FEED_REFUSED_ERROR
};

/* Has the database begin the feed that a pull has brought. */
void
sync_begin(Syncer *syncer, Applying *applying)
{
	const PullResult *pull = applying->pull;
	PGresult         *result;
	double            ahead;
	DbOutcome         outcome = compare_clocks(syncer, &ahead, &result);

	if (outcome == DB_OK)
	{
		PQclear(result);
		outcome = send_begin(syncer, pull, ahead, &result);
	}
	if (sync_set_aside(syncer, applying, outcome, result))
	{
		PQclear(result);
		return;
	}
	if (!sync_succeeded(syncer, pull->vendor_id, NULL, outcome, result))
		sync_forget(syncer, applying);
	else if (PQgetisnull(result, 0, FEED_BEGUN))
	{
		sync_record(syncer, pull->vendor_id, PQgetvalue(result, 0, FEED_REFUSED_ID),
					PQgetvalue(result, 0, FEED_REFUSED_STATUS),
					db_value(result, 0, FEED_REFUSED_ERROR), 0, pull->config_no);
		sync_forget(syncer, applying);
	}
	else
	{
		snprintf(applying->sync_id, sizeof(applying->sync_id), "%s",
				 PQgetvalue(result, 0, FEED_BEGUN));
		applying->stage = STAGE_PARTS;
	}
	PQclear(result);
}
