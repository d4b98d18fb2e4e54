/*
 * trigger.h
 *		What every trigger function of ours looks at before anything else.
 */
#ifndef OA_TRIGGER_H
#define OA_TRIGGER_H

#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"

/* what a trigger fires for; to be added up */
#define GUARD_INSERT (1 << TRIGGER_EVENT_INSERT)
#define GUARD_DELETE (1 << TRIGGER_EVENT_DELETE)
#define GUARD_UPDATE (1 << TRIGGER_EVENT_UPDATE)

/*
 * our_trigger returns the call's trigger data; ERROR unless the function is called by
 * that trigger on that table of ours, or on a partition of it, when (TRIGGER_EVENT_BEFORE
 * or _AFTER, with TRIGGER_EVENT_ROW or without) and for what (GUARD_...) it is made for.
 * Of any other table the columns would be read as if they were ours.
 */
extern TriggerData *our_trigger(FunctionCallInfo fcinfo, const char *table_name,
								const char *trigger_name, TriggerEvent when, int what);

#endif /* OA_TRIGGER_H */
