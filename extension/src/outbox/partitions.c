/*
 * partitions.c
 *		The outbox's partitions: made ahead, dropped whole.
 *
 * Each has 2^20 event ids and is named outbox_<n>. They are ordinary tables of the
 * database, not members of the extension, so that pg_dump takes them along.
 */
#include "postgres.h"

#include "outbox/partitions.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "store/check.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define SCANS_MAX   10
#define DROPPED_MAX 4 /* in one call: each has to be read first */
#define READ_FOR_US (5 * USECS_PER_SEC)

OA_FUNCTION(oa_make_outbox_partitions);
OA_FUNCTION(oa_drop_outbox_partitions);
OA_FUNCTION(oa_outbox_dropped_until);

static char *
partition_name(int64 event_id)
{
	return psprintf("outbox_" INT64_FORMAT, event_id >> OUTBOX_PARTITION_BITS);
}

Oid
outbox_find_partition(int64 event_id)
{
	return find_table(partition_name(event_id));
}

void
outbox_require_partition(Oid partition)
{
	if (get_rel_relispartition(partition))
		return;
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("table \"%s.%s\" is no partition of the outbox", OA_SCHEMA,
						   get_rel_name(partition)),
					errdetail("Events are to be written into it, and nobody would see them there."),
					errhint("It was detached, or could not be attached when it was restored. "
							"Attach it again, or rename it.")));
}

/* Takes from all others what ALTER DEFAULT PRIVILEGES has given them. */
static void
close_partition(Oid partition, const char *name)
{
	Datum values[1] = {ObjectIdGetDatum(partition)};
	char *grantees;

	plan_execute(PLAN_GRANTEES, values, NULL, SPI_OK_SELECT);
	grantees = spi_string(0, 1);
	if (grantees != NULL)
		sql_execute(psprintf(SQL_CLOSE_PARTITION, name, grantees), SPI_OK_UTILITY);
}

/*
 * Attached rather than made in place: that locks the outbox against other such
 * changes only, not against the transactions that write to it.
 */
Oid
outbox_make_partition(int64 event_id)
{
	int64 lower = (event_id >> OUTBOX_PARTITION_BITS) << OUTBOX_PARTITION_BITS;
	char *name = partition_name(event_id);
	Oid   partition;

	LockRelationOid(table_oid("outbox"), ShareUpdateExclusiveLock);
	AcceptInvalidationMessages();
	partition = outbox_find_partition(event_id);
	if (OidIsValid(partition))
		return partition; /* someone else was faster */

	sql_execute(psprintf(SQL_CREATE_PARTITION, name), SPI_OK_UTILITY);
	sql_execute(psprintf(SQL_ATTACH_PARTITION, name, lower,
						 lower + (INT64CONST(1) << OUTBOX_PARTITION_BITS)),
				SPI_OK_UTILITY);
	partition = outbox_find_partition(event_id);
	close_partition(partition, name);
	return partition;
}

/* The number in a partition's name; false if it is none of ours. */
static bool
partition_number(const char *name, int64 *number)
{
	return sscanf(name, "outbox_" INT64_FORMAT, number) == 1;
}

static int
compare_partitions(const ListCell *a, const ListCell *b)
{
	int64 left = -1;
	int64 right = -1;

	(void) partition_number(get_rel_name(lfirst_oid(a)), &left);
	(void) partition_number(get_rel_name(lfirst_oid(b)), &right);
	return left > right ? -1 : left < right;
}

List *
outbox_partitions_newest_first(LOCKMODE mode)
{
	List *partitions = find_inheritance_children(table_oid("outbox"), mode);

	list_sort(partitions, compare_partitions);
	return partitions;
}

static int64
current_event_id(void)
{
	bool is_null;

	plan_execute(PLAN_OUTBOX_HEAD, NULL, NULL, SPI_OK_SELECT);
	return DatumGetInt64(spi_datum(0, 1, &is_null));
}

Datum
oa_make_outbox_partitions(PG_FUNCTION_ARGS)
{
	int   ahead = PG_ARGISNULL(0) ? 1 : PG_GETARG_INT32(0);
	int   made = 0;
	int64 next;

	begin_writing("make_outbox_partitions()");
	if (ahead < 0 || ahead > 100)
		argument_error("ahead", "must be from 0 to 100");
	SPI_connect();
	next = current_event_id() + 1;
	for (int i = 0; i <= ahead; i++)
	{
		int64 event_id = next + ((int64) i << OUTBOX_PARTITION_BITS);
		Oid   partition = outbox_find_partition(event_id);

		if (OidIsValid(partition))
			outbox_require_partition(partition);
		else
		{
			outbox_make_partition(event_id);
			made++;
		}
	}
	SPI_finish();
	PG_RETURN_INT32(made);
}

/* The created_at that a statement finds in a partition; false if it is empty. */
static bool
created_at_of(const char *sql, const char *name, TimestampTz *created_at)
{
	bool  is_null;
	Datum found;

	sql_execute(psprintf(sql, quote_identifier(name)), SPI_OK_SELECT);
	if (SPI_processed == 0)
		return false;
	found = spi_datum(0, 1, &is_null);
	*created_at = is_null ? 0 : DatumGetTimestampTz(found);
	return !is_null;
}

/*
 * Partitions, the oldest first, up to that event id and all from before that time; *last is the
 * latest created_at of theirs. It is not in the order of the ids: it is when a transaction began.
 * So a partition has to be read whole, but for one whose first or last event is too young. Once one
 * is found no more are read after READ_FOR_US: the caller's time may be bounded, and all would be
 * for nothing.
 */
static char **
old_partitions(int64 upto, TimestampTz oldest, int *count, TimestampTz *last)
{
	Datum       values[1] = {ObjectIdGetDatum(table_oid("outbox"))};
	char      **names;
	uint64      all;
	bool        is_null;
	TimestampTz began = GetCurrentTimestamp();

	plan_execute(PLAN_PARTITIONS, values, NULL, SPI_OK_SELECT);
	all = SPI_processed;
	names = palloc(sizeof(char *) * Max(all, 1));
	for (uint64 i = 0; i < all; i++)
		names[i] = pstrdup(NameStr(*DatumGetName(spi_datum(i, 1, &is_null))));
	*count = 0;
	for (uint64 i = 0; i < all && *count < DROPPED_MAX; i++)
	{
		int64       number;
		TimestampTz created_at;

		if (!partition_number(names[i], &number) || ((number + 1) << OUTBOX_PARTITION_BITS) > upto)
			continue;
		if (created_at_of(SQL_FIRST_CREATED_AT, names[i], &created_at))
		{
			if (*count > 0 && GetCurrentTimestamp() >= began + READ_FOR_US)
				break;
			if (created_at >= oldest ||
				(created_at_of(SQL_LAST_CREATED_AT, names[i], &created_at) &&
				 created_at >= oldest) ||
				(created_at_of(SQL_LATEST_CREATED_AT, names[i], &created_at) &&
				 created_at >= oldest))
				continue;
			*last = Max(*last, created_at);
		}
		names[(*count)++] = names[i];
	}
	return names;
}

Datum
oa_drop_outbox_partitions(PG_FUNCTION_ARGS)
{
	TimestampTz oldest;
	TimestampTz last = DT_NOBEGIN;
	int64       low;
	bool        is_null;
	Datum       values[1];
	char      **names;
	int         count;
	int         nest_level;

	begin_writing("drop_outbox_partitions()");
	if (PG_ARGISNULL(0))
		argument_error("older_than", "must not be null");
	oldest = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_mi_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(0)));
	SPI_connect();
	nest_level = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	lock_for_writing("parked_event");
	values[0] = TimestampTzGetDatum(oldest);
	plan_execute(PLAN_FORGET_PARKED, values, NULL, SPI_OK_DELETE);
	plan_execute(PLAN_RELAYED_UPTO, NULL, NULL, SPI_OK_SELECT);
	low = SPI_processed == 0 ? 0 : DatumGetInt64(spi_datum(0, 1, &is_null));
	names = old_partitions(low, oldest, &count, &last);
	/* from here on the checkpoint, and then the outbox, are locked: nothing that takes long */
	if (last != DT_NOBEGIN)
	{
		values[0] = TimestampTzGetDatum(last);
		plan_execute(PLAN_NOTE_DROPPED, values, NULL, SPI_OK_UPDATE);
	}
	for (int i = 0; i < count; i++)
		sql_execute(psprintf(SQL_DROP_PARTITION, quote_identifier(names[i])), SPI_OK_UTILITY);
	AtEOXact_GUC(true, nest_level);
	SPI_finish();
	PG_RETURN_INT32(count);
}

/* ---------- what is gone ---------- */

Datum
oa_outbox_dropped_until(PG_FUNCTION_ARGS)
{
	TimestampTz     until = DT_NOBEGIN;
	bool            is_found = false;
	Relation        table;
	TupleTableSlot *row;
	AttrNumber      column;

	/* whoever drops one has to wait for us, or is done and has said so */
	LockRelationOid(table_oid("outbox"), AccessShareLock);
	table = table_open(table_oid("relay_checkpoint"), AccessShareLock);
	column = get_attnum(RelationGetRelid(table), "dropped_until");
	row = table_slot_create(table, NULL);
	/* a row that is updated meanwhile may be seen neither as it was nor as it is */
	for (int i = 0; i < SCANS_MAX && !is_found; i++)
	{
		TableScanDesc scan = table_beginscan(table, SnapshotSelf, 0, NULL);

		while (table_scan_getnextslot(scan, ForwardScanDirection, row))
		{
			bool  is_null;
			Datum value = slot_getattr(row, column, &is_null);

			is_found = true;
			if (!is_null)
				until = Max(until, DatumGetTimestampTz(value));
		}
		table_endscan(scan);
	}
	ExecDropSingleTupleTableSlot(row);
	table_close(table, AccessShareLock);
	PG_RETURN_TIMESTAMPTZ(until);
}
