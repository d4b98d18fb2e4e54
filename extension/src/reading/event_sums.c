/*
 * event_sums.c
 *		Whether the events of many orders are those that there have to be, in constant memory.
 *
 * Events are not in the order of their orders, and there are too many to sort: for each order the
 * events that there have to be are added up as hashes, in one of many sums, and so are those that
 * are found. Sums that are equal had the same events (but for one chance in 2^64, which nobody can
 * bring about: the hashes begin with a number drawn anew each time).
 *
 * The newest partition is read first. An order's events are never older than the order, so those
 * of a recent one are found without reading what is kept of all that came before.
 */
#include "postgres.h"

#include "reading/event_sums.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "outbox/partitions.h"
#include "store/compat.h"
#include "store/rows.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SUMS_BITS      16
#define SUMS           (1 << SUMS_BITS)
#define AGAIN_HEADER   "\"x-again\""
#define EVENTS_A_RESET 1000

struct EventSums
{
	int64         first;
	int64         last;
	TimestampTz   since; /* events until then may be gone */
	bool          reads_all;
	uint64        seed;
	MemoryContext row_context;
	uint64        expected[SUMS];
	uint64        found[SUMS];
};

EventSums *
event_sums_make(int64 first_order_id, int64 last_order_id, TimestampTz since, bool reads_all)
{
	EventSums *sums = palloc0(sizeof(EventSums));

	sums->first = first_order_id;
	sums->last = last_order_id;
	sums->since = since;
	sums->reads_all = reads_all;
	sums->seed = pg_prng_uint64(&pg_global_prng_state);
	sums->row_context =
		AllocSetContextCreate(CurrentMemoryContext, "events", ALLOCSET_DEFAULT_SIZES);
	return sums;
}

uint64
event_sums_hash(const EventSums *sums, int64 order_id, const char *routing_key, size_t bytes)
{
	char buffer[sizeof(int64) + EVENT_KEY_BYTES_MAX];

	Assert(bytes <= EVENT_KEY_BYTES_MAX);
	memcpy(buffer, &order_id, sizeof(int64));
	memcpy(buffer + sizeof(int64), routing_key, bytes);
	return hash_bytes_extended((const unsigned char *) buffer, (int) (sizeof(int64) + bytes),
							   sums->seed);
}

static int
sum_of(int64 order_id)
{
	return (int) (((uint64) order_id * UINT64CONST(0x9E3779B97F4A7C15)) >> (64 - SUMS_BITS));
}

void
event_sums_expect(EventSums *sums, int64 order_id, uint64 hash)
{
	sums->expected[sum_of(order_id)] += hash;
}

bool
event_sums_differ(const EventSums *sums, int64 order_id)
{
	return sums->expected[sum_of(order_id)] != sums->found[sum_of(order_id)];
}

static bool
are_equal(const EventSums *sums)
{
	return memcmp(sums->expected, sums->found, sizeof(sums->expected)) == 0;
}

/* ---------- the events that there are ---------- */

/* Is it one that says what has become of an order, or of a part of it, for the first time? */
static bool
tells_of_state(TupleTableSlot *event, text *key)
{
	static const char *const closed[] = {"order.confirmed", "order.rejected", "order.cancelled",
										 "order.expired"};
	const char              *data = VARDATA_ANY(key);
	size_t                   bytes = VARSIZE_ANY_EXHDR(key);
	bool                     tells = bytes > EVENT_PLACED_BYTES && bytes <= EVENT_KEY_BYTES_MAX &&
				 memcmp(data, EVENT_PLACED_PREFIX, EVENT_PLACED_BYTES) == 0;
	char *headers;

	for (int i = 0; i < lengthof(closed) && !tells; i++)
		tells = bytes == strlen(closed[i]) && memcmp(data, closed[i], bytes) == 0;
	if (!tells)
		return false;
	headers = row_text(event, OUTBOX_COLUMN_HEADERS);
	return headers == NULL || strstr(headers, AGAIN_HEADER) == NULL;
}

static void
count_event(void *work, int64 order_id, TupleTableSlot *event)
{
	EventSums *sums = work;
	text      *key = DatumGetTextPP(row_column(event, OUTBOX_COLUMN_ROUTING_KEY));

	if (tells_of_state(event, key) &&
		DatumGetTimestampTz(row_column(event, OUTBOX_COLUMN_CREATED_AT)) > sums->since)
		sums->found[sum_of(order_id)] +=
			event_sums_hash(sums, order_id, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
}

static void
scan_partition(const EventSums *sums, Oid partition, SeeEvent see, void *work)
{
	Relation        table = table_open(partition, AccessShareLock);
	TableScanDesc   scan = table_beginscan(table, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *event = table_slot_create(table, NULL);
	int             count = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, event))
	{
		int64 order_id = row_int64(event, OUTBOX_COLUMN_ORDER_ID, 0);

		CHECK_FOR_INTERRUPTS();
		if (order_id >= sums->first && order_id <= sums->last && order_id != 0)
		{
			MemoryContext old_context = MemoryContextSwitchTo(sums->row_context);

			see(work, order_id, event);
			MemoryContextSwitchTo(old_context);
		}
		if (++count % EVENTS_A_RESET == 0)
			MemoryContextReset(sums->row_context);
	}
	ExecDropSingleTupleTableSlot(event);
	table_endscan(scan);
	table_close(table, AccessShareLock);
}

bool
event_sums_find(EventSums *sums)
{
	List     *partitions = outbox_partitions_newest_first(AccessShareLock);
	ListCell *cell;

	foreach (cell, partitions)
	{
		if (!sums->reads_all && are_equal(sums))
			break;
		scan_partition(sums, lfirst_oid(cell), count_event, sums);
	}
	return are_equal(sums);
}

void
event_sums_see_events(const EventSums *sums, SeeEvent see, void *work)
{
	List     *partitions = outbox_partitions_newest_first(AccessShareLock);
	ListCell *cell;

	foreach (cell, partitions)
		scan_partition(sums, lfirst_oid(cell), see, work);
}
