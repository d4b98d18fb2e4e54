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
