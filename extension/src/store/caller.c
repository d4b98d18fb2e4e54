/*
 * caller.c
 *		Who calls, where EXECUTE alone does not say what they may do.
 *
 * PostgreSQL checks EXECUTE against the effective role, so that is the one that counts:
 * of a SECURITY DEFINER function in between it is that function's owner.
 */

#include "postgres.h"

#include "store/caller.h"

#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "store/check.h"
#include "store/plans.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#define ROLE_VENDOR "order_aggregator_vendor"
#define ROLE_BRIDGE "order_aggregator_bridge"
#define ROLE_ADMIN  "order_aggregator_admin"

static bool
is_member_of(Oid role, const char *group_name)
{
	Oid group = get_role_oid(group_name, true);

	return OidIsValid(group) && has_privs_of_role(role, group);
}

static Oid
owner_of(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid       owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	return owner;
}

Caller
caller_begin(FunctionCallInfo fcinfo)
{
	Caller caller;

	GetUserIdAndSecContext(&caller.role, &caller.security_context);
	SetUserIdAndSecContext(owner_of(fcinfo->flinfo->fn_oid),
						   caller.security_context | SECURITY_LOCAL_USERID_CHANGE);
	return caller;
}

void
caller_end(const Caller *caller)
{
	SetUserIdAndSecContext(caller->role, caller->security_context);
}

bool
require_answers_for(const Caller *caller, const char *vendor_id)
{
	Oid   role = caller->role;
	Datum values[2];

	/* a superuser is a member of every group */
	if (superuser_arg(role) || !is_member_of(role, ROLE_VENDOR) || is_member_of(role, ROLE_ADMIN) ||
		is_member_of(role, ROLE_BRIDGE))
		return false;
	if (vendor_id == NULL)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("role \"%s\" may not answer for all vendors",
							   GetUserNameFromId(role, false)),
						errdetail("It is a vendor's: a member of %s.", ROLE_VENDOR),
						errhint("Name the vendor.")));
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(role, false)));
	values[1] = CStringGetTextDatum(vendor_id);
	plan_execute(PLAN_VENDOR_LOGIN, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not answer for vendor \"%s\"",
						GetUserNameFromId(role, false), excerpt(vendor_id)),
				 errdetail("It is not among the vendor's logins."),
				 errhint("configure_vendor(vendor_id, logins => ...) says which roles may.")));
	return true;
}
