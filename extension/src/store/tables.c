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

/* Tables that have been looked up since any table or schema of the database was changed. */
static struct
{
	char name[NAMEDATALEN];
	Oid  oid;
} known[KNOWN_MAX];
static int nknown = -1; /* nobody has asked yet */

static void
forget_known(Datum argument, int cache, uint32 hash)
{
	nknown = 0;
}

Oid
find_table(const char *table_name)
{
	return get_relname_relid(table_name, get_namespace_oid(OA_SCHEMA, false));
}

static Oid
look_up(const char *table_name)
{
	Oid oid;

	if (nknown < 0)
	{
		CacheRegisterSyscacheCallback(RELOID, forget_known, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_known, (Datum) 0);
		nknown = 0;
	}
	oid = find_table(table_name);
	if (!OidIsValid(oid))
		elog(ERROR, "table \"%s.%s\" does not exist", OA_SCHEMA, table_name);
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
	return get_attname(table_oid(table_name), (AttrNumber) column, true) != NULL;
}

void
require_column(const char *table_name, int column)
{
	if (!has_column(table_name, column))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the tables are those of an earlier version of order_aggregator"),
						errhint("Run ALTER EXTENSION order_aggregator UPDATE.")));
}
