/*
 * trigger.c
 *		What every trigger function of ours looks at before anything else.
 */
#include "postgres.h"

#include "store/trigger.h"

#include "catalog/partition.h"
#include "store/tables.h"

static bool
is_table_or_partition(Relation relation, Oid table)
{
	Oid id = RelationGetRelid(relation);

	return id == table ||
		   (relation->rd_rel->relispartition && get_partition_parent(id, true) == table);
}

TriggerData *
our_trigger(FunctionCallInfo fcinfo, const char *table_name, const char *trigger_name,
			TriggerEvent when, int what)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!is_table_or_partition(trigger->tg_relation, table_oid(table_name)) ||
		strcmp(trigger->tg_trigger->tgname, trigger_name) != 0 ||
		(trigger->tg_event & (TRIGGER_EVENT_TIMINGMASK | TRIGGER_EVENT_ROW)) != when ||
		!(what & (1 << (trigger->tg_event & TRIGGER_EVENT_OPMASK))))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("this function is for trigger \"%s\" on table \"%s.%s\" only",
							   trigger_name, OA_SCHEMA, table_name),
						errdetail("It was called by something else, or at another time.")));
	return trigger;
}
