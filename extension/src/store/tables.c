/*
 * tables.c
 *		The extension's own tables, by name.
 */
#include "postgres.h"

#include "store/tables.h"

#include "catalog/namespace.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define KNOWN_MAX 32
#define NO_COLUMN PG_INT16_MAX

/* Tables that have been looked up since any table or schema of the database was changed. */
static struct
{
	char name[NAMEDATALEN];
	Oid  oid;
} known[KNOWN_MAX];
static int    nknown = -1; /* nobody has asked yet */
static uint64 nforgotten;  /* how often they were forgotten */

/* Columns that were added by a later version than 1.0. */
static struct
{
	const char *table;
	int         column;
	const char *name;
	Oid         row_type; /* of the table, when it was looked up last */
	int         number;
} added[] = {
	{"vendor", VENDOR_COLUMN_STALE_AT, "stale_at"},
	{"vendor", VENDOR_COLUMN_CONFIRMED_AT, "confirmed_at"},
	{"vendor", VENDOR_COLUMN_FEED_CONFIG_NO, "feed_config_no"},
	{"product", PRODUCT_COLUMN_LANES, "lanes"},
	{"product", PRODUCT_COLUMN_LANES_MAX, "lanes_max"},
	{"stock", STOCK_COLUMN_IS_PRICED, "is_priced"},
	{"stock", STOCK_COLUMN_COUNTED, "counted"},
	{"stock", STOCK_COLUMN_LANES, "lanes"},
	{"stock", STOCK_COLUMN_LANES_MAX, "lanes_max"},
	{"stock", STOCK_COLUMN_IN_LANES, "in_lanes"},
};

int table_columns_moved = 0; /* how many of them are not where they are in a fresh installation */

static void
forget_known(Datum argument, int cache, uint32 hash)
{
	nknown = 0;
	nforgotten++;
}

Oid
find_table(const char *table_name)
{
	return get_relname_relid(table_name, get_namespace_oid(OA_SCHEMA, false));
}

/* Where the later columns of the table are. It is asked whenever anything may have changed. */
static void
locate_added(const char *table_name, Oid oid)
{
	int moved = 0;

	for (int i = 0; i < lengthof(added); i++)
	{
		if (strcmp(added[i].table, table_name) == 0)
		{
			AttrNumber number = get_attnum(oid, added[i].name);

			added[i].row_type = get_rel_type_id(oid);
			added[i].number = number != InvalidAttrNumber ? number : NO_COLUMN;
		}
		moved += OidIsValid(added[i].row_type) && added[i].number != added[i].column;
	}
	table_columns_moved = moved;
}

int
table_moved_column(Oid row_type, int column)
{
	for (int i = 0; i < lengthof(added); i++)
	{
		if (added[i].row_type == row_type && added[i].column == column)
			return added[i].number;
	}
	return column;
}

static Oid
look_up(const char *table_name)
{
	Oid    oid;
	uint64 begun;

	if (nknown < 0)
	{
		CacheRegisterSyscacheCallback(RELOID, forget_known, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_known, (Datum) 0);
		nknown = 0;
	}
	do /* until nothing has changed meanwhile */
	{
		begun = nforgotten;
		oid = find_table(table_name);
		if (!OidIsValid(oid))
			elog(ERROR, "table \"%s.%s\" does not exist", OA_SCHEMA, table_name);
		locate_added(table_name, oid);
	} while (nforgotten != begun);
	if (nknown < KNOWN_MAX && strlen(table_name) < NAMEDATALEN)
	{
		memcpy(known[nknown].name, table_name, strlen(table_name) + 1);
		known[nknown++].oid = oid;
	}
	return oid;
}

Oid
table_oid(const char *table_name)
{
	for (int i = 0; i < nknown; i++)
	{
		if (strcmp(known[i].name, table_name) == 0)
			return known[i].oid;
	}
	return look_up(table_name);
}

void
lock_tables_for_writing(const char *const *names)
{
	for (; *names != NULL; names++)
		LockRelationOid(table_oid(*names), RowExclusiveLock);
}

bool
has_column(const char *table_name, int column)
{
	return table_moved_column(get_rel_type_id(table_oid(table_name)), column) != NO_COLUMN;
}

void
require_column(const char *table_name, int column)
{
	if (!has_column(table_name, column))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables are those of an earlier version of order_aggregator"),
				 errdetail("Table \"%s.%s\" lacks a column that this version's library reads.",
						   OA_SCHEMA, table_name),
				 errhint("Run ALTER EXTENSION order_aggregator UPDATE.")));
}
