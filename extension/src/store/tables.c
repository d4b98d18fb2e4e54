/*
 * tables.c
 *		The extension's own tables, by name.
 */
#include "postgres.h"

#include "store/tables.h"

#include "catalog/namespace.h"
#include "utils/lsyscache.h"

Oid
table_oid(const char *table_name)
{
	Oid oid = get_relname_relid(table_name, get_namespace_oid(OA_SCHEMA, false));

	if (!OidIsValid(oid))
		elog(ERROR, "table \"%s.%s\" does not exist", OA_SCHEMA, table_name);
	return oid;
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
