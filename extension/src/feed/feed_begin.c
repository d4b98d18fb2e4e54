/*
 * feed_begin.c
 *		Whether a feed may begin: its time, how much of it is readable, what it lacks.
 *
 *		older than what was applied          stale; too often in a row: failed
 *		mostly unreadable                    failed
 *		lacks almost all that is offered     held, until one comes that offers no fewer, or
 *		                                     somebody has said that it is right (accept_feed)
 *		else                                 running
 *
 * A feed that does not begin changes no stock row: what it would do is known before anything
 * of it is applied. The history says what became of it.
 */
#include "postgres.h"

#include "feed/feed.h"
#include "outbox/events.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/plans.h"
#include "store/rows.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#define OVERTAKEN_US_MAX (10 * 60 * USECS_PER_SEC)
#define STALE_FEEDS_MAX  3  /* in a row: the one that makes it so many has failed */
#define UNREADABLE_ONE   1  /* a single bad item makes no feed a bad one */
#define DROP_FEW         10 /* offers: who has so few may change them all, but not offer none */

/* Columns of the result of PLAN_LOCK_VENDOR_FEEDS. */
enum
{
	VENDOR_IS_HELD = 1,
	VENDOR_DROP_ACCEPTED,
	VENDOR_DROP_LIMIT,
	VENDOR_LAST_ITEMS,
	VENDOR_TOLD,
	VENDOR_APPLIED_TOLD,
	VENDOR_PULLED_AT,
	VENDOR_STALE_FEEDS,
	VENDOR_DECIMAL,
	VENDOR_REPEATED,
	VENDOR_TOLD_AT,
	VENDOR_HELD_OFFERS,
	VENDOR_CONFIG_NO
};

typedef struct Verdict
{
	const char *status;
	const char *error;    /* NULL: none */
	bool        is_stale; /* its time is before that of the last feed */
} Verdict;

/* ---------- the vendor ---------- */

static int64
int64_or(int column, int64 if_null)
{
	bool is_null;

	(void) spi_datum(0, column, &is_null);
	return is_null ? if_null : spi_int64(0, column);
}

static TimestampTz
time_or_never(int column)
{
	bool  is_null;
	Datum time = spi_datum(0, column, &is_null);

	return is_null ? 0 : DatumGetTimestampTz(time);
}

static bool
is_true(int column)
{
	bool  is_null;
	Datum value = spi_datum(0, column, &is_null);

	return !is_null && DatumGetBool(value);
}

void
feed_unknown_vendor(const char *vendor_id)
{
	ereport(ERROR, (errcode(ERRCODE_OA_UNKNOWN_SUBJECT),
					errmsg("unknown vendor \"%s\"", excerpt(vendor_id)),
					errdetail("No vendor is registered under that id."),
					errhint("Call register_vendor() first.")));
}

VendorFeeds
feed_lock_vendor(const char *vendor_id)
{
	Datum       values[1] = {CStringGetTextDatum(vendor_id)};
	VendorFeeds vendor = {0};

	require_column("vendor", VENDOR_COLUMN_FEED_CONFIG_NO);
	lock_for_writing("vendor", "feed_sync", "stock");
	plan_execute(PLAN_LOCK_VENDOR_FEEDS, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		feed_unknown_vendor(vendor_id);
	vendor.pulled_at = time_or_never(VENDOR_PULLED_AT);
	vendor.told_at = time_or_never(VENDOR_TOLD_AT);
	vendor.held_offers = int64_or(VENDOR_HELD_OFFERS, 0);
	vendor.config_no = int64_or(VENDOR_CONFIG_NO, 0);
	vendor.told = spi_string(0, VENDOR_TOLD);
	vendor.applied_told = spi_string(0, VENDOR_APPLIED_TOLD);
	vendor.is_held = is_true(VENDOR_IS_HELD);
	vendor.drop_accepted = is_true(VENDOR_DROP_ACCEPTED);
	vendor.drop_limit = int64_or(VENDOR_DROP_LIMIT, 100);
	vendor.last_items = int64_or(VENDOR_LAST_ITEMS, -1);
	vendor.stale_feeds = int64_or(VENDOR_STALE_FEEDS, 0);
	vendor.values = value_rules(spi_string(0, VENDOR_DECIMAL), spi_string(0, VENDOR_REPEATED));
	plan_execute(PLAN_RUNNING_PULL, values, NULL, SPI_OK_SELECT);
	vendor.newest_pull_at = Max(vendor.pulled_at, SPI_processed > 0 ? time_or_never(1) : 0);
	return vendor;
}

/* ---------- its time ---------- */

static bool
is_same(const char *told, const char *other)
{
	return told != NULL && other != NULL && strcmp(told, other) == 0;
}

/* By the vendor's own clock, which may be set right by another second each time. */
static bool
is_stale(const VendorFeeds *vendor, const FeedFacts *facts)
{
	return vendor->told_at > facts->as_of && !is_same(facts->told, vendor->told);
}

/*
 * A header's time that stands still says nothing of when something was counted. A count that is
 * another than the last one was made after we had been given that: what was confirmed until then
 * is in it, and must not be subtracted again; one that is the same is as old as it was
 * (reconcile.c). What a feed itself tells is when it was counted, and is believed.
 */
static TimestampTz
previous_pull(const VendorFeeds *vendor, FeedFacts *facts)
{
	if (!is_same(facts->told, vendor->applied_told) || strcmp(facts->as_of_rule, "asOf") == 0 ||
		vendor->pulled_at == 0)
		return 0;
	facts->as_of_rule = "previous pull";
	return vendor->pulled_at;
}

TimestampTz
feed_counted_at(const FeedPart *part, const FeedItem *item, int64 last_count,
				TimestampTz last_as_of)
{
	if (part->previous_pull_at == 0)
		return part->as_of;
	if (last_count < 0)
		return last_as_of != 0 ? last_as_of : Min(part->as_of, part->previous_pull_at);
	return item->count == last_count ? last_as_of : part->previous_pull_at;
}

static Verdict
judge_stale(const VendorFeeds *vendor, const FeedFacts *facts)
{
	if (vendor->stale_feeds + 1 < STALE_FEEDS_MAX)
		return (Verdict){"stale", NULL, true};
	return (Verdict){"failed",
					 psprintf("the feed's time has gone back: it was counted at %s (%s), what was "
							  "applied at %s; " INT64_FORMAT " times in a row",
							  utc_timestamp(facts->as_of), facts->as_of_rule,
							  utc_timestamp(vendor->told_at), vendor->stale_feeds + 1),
					 true};
}

/* ---------- what it lacks ---------- */

static int64
count_known(const FeedFacts *facts, RowScan *offers)
{
	int64 count = 0;

	for (int i = 0; i < facts->nskus; i++)
	{
		TupleTableSlot *slot;
		bool            is_known = false;

		row_scan_find_texts(offers, facts->vendor_id, facts->skus[i]);
		while ((slot = row_scan_next(offers)) != NULL)
			is_known |= DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE));
		count += is_known;
	}
	return count;
}

static int64
count_active(const FeedFacts *facts, RowScan *offers)
{
	TupleTableSlot *slot;
	int64           count = 0;

	row_scan_find_text(offers, facts->vendor_id);
	while ((slot = row_scan_next(offers)) != NULL)
		count += DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE));
	return count;
}

/*
 * How many offers the vendor has, *active, and how many of them are in the feed: of a sample of its
 * SKUs as many as in the whole. An ordinary feed, of which enough is what it was the last
 * time, is not worth counting the offers for: *active is then 0.
 */
static int64
count_offers(const FeedFacts *facts, const VendorFeeds *vendor, int64 *active)
{
	RowScan offers;
	int64   known;

	rows_see_latest();
	row_scan_begin(&offers, "stock", "stock_vendor_sku_idx", AccessShareLock);
	known = count_known(facts, &offers);
	if (facts->nskus > 0)
		known = known * Max(facts->noffers, facts->nskus) / facts->nskus;
	*active = 0;
	if (vendor->last_items < 0 || known * 100 < vendor->last_items * (100 - vendor->drop_limit) ||
		facts->nunreadable == facts->items)
		*active = count_active(facts, &offers);
	row_scan_end(&offers);
	PopActiveSnapshot();
	return known;
}

static Verdict
judge_unreadable(const FeedFacts *facts)
{
	return (Verdict){"failed",
					 psprintf("%d of the feed's %d items say nothing of what there is (%s)",
							  facts->nunreadable, facts->items,
							  facts->complaint ? facts->complaint : "unknown why"),
					 false};
}

static Verdict
judge_drop(const VendorFeeds *vendor, FeedFacts *facts)
{
	int64 active;
	int64 known = count_offers(facts, vendor, &active);

	facts->nknown = known;
	/* a message in place of a feed */
	if (facts->items > 0 && facts->nunreadable == facts->items && known == 0)
		return judge_unreadable(facts);
	if (vendor->drop_accepted || vendor->drop_limit >= 100 ||
		(active - known) * 100 <= vendor->drop_limit * active ||
		(active - known < DROP_FEW && facts->noffers > 0) ||
		(vendor->is_held && known >= vendor->held_offers))
		return (Verdict){"running", NULL, false};
	return (Verdict){"held",
					 psprintf("held back: of " INT64_FORMAT " offers the feed has " INT64_FORMAT
							  "; applied if the next one lacks no more, or after accept_feed('%s')",
							  active, known, facts->vendor_id),
					 false};
}

/* ---------- the whole ---------- */

static Verdict
judge(const VendorFeeds *vendor, FeedFacts *facts)
{
	/* it was pulled from another place, or is to be read otherwise */
	if (facts->config_no >= 0 && facts->config_no != vendor->config_no)
		return (Verdict){"superseded", NULL, false};
	/* what was asked for later has overtaken it; by more than minutes it is another bridge's clock
	 */
	if (facts->pulled_at != 0 && facts->pulled_at < vendor->newest_pull_at &&
		vendor->newest_pull_at - facts->pulled_at < OVERTAKEN_US_MAX)
		return (Verdict){"superseded", NULL, false};
	if (is_stale(vendor, facts))
		return judge_stale(vendor, facts);
	if (facts->items < 0)
		return (Verdict){"running", NULL, false};
	if (facts->nunreadable > UNREADABLE_ONE && facts->nunreadable > facts->items / 2)
		return judge_unreadable(facts);
	return judge_drop(vendor, facts);
}

static void
vendor_begins(const FeedFacts *facts)
{
	Datum values[3] = {CStringGetTextDatum(facts->vendor_id), TimestampTzGetDatum(facts->as_of),
					   facts->told ? CStringGetTextDatum(facts->told) : (Datum) 0};
	char  nulls[3] = {' ', ' ', facts->told ? ' ' : 'n'};

	plan_execute(PLAN_SUPERSEDE_FEED, values, NULL, SPI_OK_UPDATE);
	plan_execute(PLAN_VENDOR_BEGINS, values, nulls, SPI_OK_UPDATE);
}

static void
vendor_refused(const FeedFacts *facts, const Verdict *verdict)
{
	Datum values[5] = {CStringGetTextDatum(facts->vendor_id), CStringGetTextDatum(verdict->status),
					   verdict->error ? CStringGetTextDatum(verdict->error) : (Datum) 0,
					   BoolGetDatum(verdict->is_stale), Int32GetDatum(facts->nknown)};
	char  nulls[5] = {' ', ' ', verdict->error ? ' ' : 'n', ' ', ' '};

	plan_execute(PLAN_VENDOR_REFUSED, values, nulls, SPI_OK_UPDATE);
}

static void
write_history(const FeedFacts *facts, const Verdict *verdict, bool is_running,
			  TimestampTz previous_pull_at)
{
	Datum values[9] = {CStringGetTextDatum(facts->vendor_id),
					   TimestampTzGetDatum(facts->as_of),
					   CStringGetTextDatum(verdict->status),
					   verdict->error ? CStringGetTextDatum(verdict->error) : (Datum) 0,
					   CStringGetTextDatum(facts->as_of_rule),
					   Int32GetDatum(is_running ? 0 : Max(facts->items, 0)),
					   TimestampTzGetDatum(previous_pull_at),
					   facts->told ? CStringGetTextDatum(facts->told) : (Datum) 0,
					   TimestampTzGetDatum(facts->pulled_at)};
	char  nulls[9] = {' ',
					  ' ',
					  ' ',
                     verdict->error ? ' ' : 'n',
					  ' ',
					  ' ',
                     previous_pull_at ? ' ' : 'n',
                     facts->told ? ' ' : 'n',
                     facts->pulled_at ? ' ' : 'n'};

	plan_execute(PLAN_BEGIN_FEED, values, nulls, SPI_OK_INSERT_RETURNING);
}

FeedBeginning
feed_begin(const VendorFeeds *vendor, const FeedFacts *facts)
{
	FeedFacts   judged = *facts;
	Verdict     verdict = judge(vendor, &judged);
	TimestampTz previous_pull_at = previous_pull(vendor, &judged);
	bool        is_running = strcmp(verdict.status, "running") == 0;

	/* a time ahead of ours says no more today than when it was told first */
	if (is_same(facts->told, vendor->told) && strcmp(facts->as_of_rule, "asOf") != 0 &&
		vendor->told_at != 0)
		judged.as_of = Min(judged.as_of, vendor->told_at);
	if (is_running)
		vendor_begins(&judged);
	else if (strcmp(verdict.status, "superseded") != 0)
		vendor_refused(&judged, &verdict);
	write_history(&judged, &verdict, is_running, previous_pull_at);
	return (FeedBeginning){.sync_id = spi_int64(0, FEED_SYNC_ID),
						   .as_of = judged.as_of,
						   .previous_pull_at = previous_pull_at,
						   .is_running = is_running};
}
