/*
 * order_ids.c
 *		Where the ids of orders and their attempts come from, and that none is given twice.
 *
 * A standby that is promoted, a restore to an earlier point and a dump that is restored go on
 * from where they were, which may be before the last id that was given: its order is lost,
 * but a vendor's answer to it may be under way. The cluster's identifier, its timeline, the
 * database's own oid or that of the sequence of the ids (where a dump makes the extension
 * anew in the database that it is of) change with each of them. The sequence timeline_seq
 * keeps whose ids these are; who finds another one there first has the ids jump to one of the
 * next twenty thousand thousand millions, by chance: two that go on from the same point know
 * nothing of each other. A disk that was set back under its cluster, or rows that are
 * restored into the tables that they are of, do not tell: who knows of it, as a relay does
 * that misses what it has sent, calls leave_order_ids(). A database that has no order yet may
 * have lost its first ones: only if it is a copy beside the one that it was made of, by
 * CREATE DATABASE, does it begin with the first id. Orders that came by logical replication
 * have left their sequence behind.
 *
 * An order that is still there may have been sourced anew by a transaction that is gone, too. So
 * an order from before a jump is not only sourced for the nth time: its attempts have the number of
 * the jump's block before their own, three digits.
 *
 * All of it is in sequences, which keep what was set whatever becomes of the transaction, so that
 * nobody has to wait for a transaction that was first.
 */
#include "postgres.h"

#include "placement/order_ids.h"

#include "access/xlog.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "store/check.h"
#include "store/locks.h"
#include "store/plans.h"
#include "store/settings.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/fmgrprotos.h"

OA_FUNCTION(oa_begin_order_ids);
OA_FUNCTION(oa_leave_order_ids);

#define IDS_JUMP  INT64CONST(1000000000)
#define JUMPS_MAX 20000 /* 2^53, JSON's limit, is at 9 000 000 */

#define ATTEMPT_BLOCKS 2000000 /* with three digits more it is an int */

/* What a sequence has given last, or the last order's id; 0 if nothing yet. */
static int64
last_value(PlanId plan)
{
	plan_execute(plan, NULL, NULL, SPI_OK_SELECT);
	return SPI_processed == 1 ? spi_int64(0, 1) : 0;
}

/* Did the orders come here without their sequence? It is asked again, as others may be the first.
 */
static bool
has_orders_of_others(void)
{
	return last_value(PLAN_LAST_ORDER_ID) == 0 && last_value(PLAN_LAST_ORDER) != 0 &&
		   last_value(PLAN_LAST_ORDER_ID) == 0;
}

static void
set_last_value(const char *sequence, int64 value)
{
	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(table_oid(sequence)), Int64GetDatum(value));
}

/* What there is of an identity beside the database's oid. */
static uint64
identity_beside_database(TimeLineID timeline)
{
	/* spread, so that no difference of two oids makes up for that of two databases' */
	return GetSystemIdentifier() + timeline +
		   table_oid("order_id_seq") * UINT64CONST(0x9e3779b97f4a7c15);
}

/* As a value of a sequence: from 1. */
static int64
identity_of(TimeLineID timeline)
{
	uint64 identity = identity_beside_database(timeline) + ((uint64) MyDatabaseId << 16);

	return Max(1, (int64) (identity & PG_INT64_MAX));
}

/* Past the last id that the sequence has given, and past the last order. */
static void
jump(const char *why)
{
	int64 last = Max(last_value(PLAN_LAST_ORDER), last_value(PLAN_LAST_ORDER_ID));
	int64 blocks = (int64) pg_prng_uint64_range(&pg_global_prng_state, 1, JUMPS_MAX);
	int64 next = ((last + IDS_JUMP / 2) / IDS_JUMP + blocks) * IDS_JUMP;

	set_last_value("order_id_seq", next);
	ereport(LOG, (errmsg("order_aggregator: %s: order ids go on from " INT64_FORMAT, why, next)));
}

/* Are those the ids of a database of this cluster and timeline that ours may be a copy of, or that
 * is a copy of ours? */
static bool
is_of_this_cluster(int64 known, TimeLineID timeline)
{
	uint64 difference = ((uint64) known - identity_beside_database(timeline)) & PG_INT64_MAX;

	return difference % (UINT64CONST(1) << 16) == 0 && difference >> 16 <= PG_UINT32_MAX;
}

static void
follow(TimeLineID timeline)
{
	int64 identity = identity_of(timeline);
	int64 known;

	lock_for_writing("orders"); /* before it is read */
	own_lock(OWN_LOCK_TIMELINE, false);
	known = last_value(PLAN_LAST_TIMELINE);
	if (known != identity)
	{
		if (last_value(PLAN_LAST_ORDER_ID) != 0 || !is_of_this_cluster(known, timeline))
			jump("this is another cluster, timeline, database or extension than before");
		set_last_value("timeline_seq", identity);
	}
	if (has_orders_of_others())
		jump("there are orders that came without their sequence");
	release_own_lock(OWN_LOCK_TIMELINE, false);
}

Oid
order_id_sequence(void)
{
	static TimeLineID followed = 0;
	static Oid        followed_for = InvalidOid; /* an extension that is made anew has others */
	TimeLineID        timeline = GetWALInsertionTimeLine();
	Oid               sequence = table_oid("order_id_seq");

	/* before ALTER EXTENSION UPDATE there is no timeline_seq */
	if ((timeline != followed || sequence != followed_for) &&
		OidIsValid(find_table("timeline_seq")))
	{
		follow(timeline);
		followed = timeline;
		followed_for = sequence;
	}
	return sequence;
}

int64
newest_order_id(void)
{
	order_id_sequence(); /* jumps if need be */
	return last_value(PLAN_LAST_ORDER_ID);
}

int
attempt_number(int attempt)
{
	return (attempt - 1) % ATTEMPTS_MAX + 1;
}

int
attempt_after(int attempt, int64 order_id, int64 newest)
{
	int64 block = newest / IDS_JUMP;
	int   number = attempt_number(attempt) + 1;
	int   next = (int) (1 + block % ATTEMPT_BLOCKS) * ATTEMPTS_MAX + number;

	if (block == order_id / IDS_JUMP && attempt <= ATTEMPTS_MAX)
		return number;
	return Max(next, attempt + 1); /* ids may have gone back */
}

Datum
oa_begin_order_ids(PG_FUNCTION_ARGS)
{
	set_last_value("timeline_seq", identity_of(GetWALInsertionTimeLine()));
	PG_RETURN_VOID();
}

Datum
oa_leave_order_ids(PG_FUNCTION_ARGS)
{
	begin_writing("leave_order_ids()");
	SPI_connect();
	lock_for_writing("orders");
	own_lock(OWN_LOCK_TIMELINE, false);
	jump("the last ones may have been given to orders that are gone");
	release_own_lock(OWN_LOCK_TIMELINE, false);
	SPI_finish();
	PG_RETURN_VOID();
}
