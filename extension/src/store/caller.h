/*
 * caller.h
 *		Who calls, where EXECUTE alone does not say what they may do.
 *
 * Functions of that kind are not SECURITY DEFINER: then nothing would tell who calls
 * them. What a role has set (SET ROLE) does not: a function of somebody's own may be
 * called by anybody. They become the owner themselves, once they know.
 */
#ifndef OA_CALLER_H
#define OA_CALLER_H

#include "postgres.h"

#include "fmgr.h"

typedef struct Caller
{
	Oid role;
	int security_context;
} Caller;

/*
 * caller_begin notes who calls and becomes the function's owner; caller_end goes back. An
 * error goes back by itself.
 */
extern Caller caller_begin(FunctionCallInfo fcinfo);
extern void   caller_end(const Caller *caller);

/*
 * require_answers_for raises 42501 unless the caller may answer for the vendor. A role
 * that is a member of order_aggregator_vendor, and of neither order_aggregator_admin nor
 * order_aggregator_bridge, may for the vendors that vendor_login gives it; NULL: for all
 * vendors, which such a role never may. Everybody else has been let in by a GRANT.
 * Returns whether the caller is held to its own vendors. SPI must be connected.
 */
extern bool require_answers_for(const Caller *caller, const char *vendor_id);

#endif /* OA_CALLER_H */
