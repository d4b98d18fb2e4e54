/*
 * user_rules.c
 *		What users have added to our tables: defaults, generated columns, constraints, indexes.
 */
#include "postgres.h"

#include "store/user_rules.h"

#include "access/amapi.h"
#include "access/transam.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "store/compat.h"
#include "store/search_path.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#define OWN_CHECKS_MAX 8

struct UserRules
{
	ResultRelInfo *result_rel;
	EState        *estate;
	int            ndefaults;
	AttrNumber    *default_columns;
	ExprState    **defaults;
	int            nnot_null;
	AttrNumber    *not_null;
	bool           has_generated;
	bool           has_checks;
	bool           has_code; /* a default is no constant */
};

/* Our own CHECK constraints of the tables that are written here, by name, as the relation cache
 * has them. */
static const struct
{
	const char *table;
	const char *checks[OWN_CHECKS_MAX];
} own[] = {
	{"orders", {"orders_check", "orders_status_check", "orders_total_amount_check"}},
	{"order_line", {"order_line_quantity_check"}},
	{"hold",
	 {"hold_attempt_check", "hold_check", "hold_quantity_check", "hold_status_check",
	  "hold_unit_price_check"}},
	{"stock",
	 {"stock_buffer_check", "stock_check", "stock_in_lanes_check", "stock_lanes_check",
	  "stock_low_threshold_check", "stock_on_hand_check", "stock_price_check",
	  "stock_reserved_check"}},
	{"stock_lane", {"stock_lane_free_check", "stock_lane_lane_check", "stock_lane_reserved_check"}},
};

static const char *const *
own_checks(Relation table)
{
	static const char *const none[1];

	for (int i = 0; i < lengthof(own); i++)
	{
		if (strcmp(own[i].table, RelationGetRelationName(table)) == 0)
			return own[i].checks;
	}
	return none;
}

/* Does the table have other CHECK constraints than ours? */
static bool
has_checks(Relation table)
{
	const TupleConstr *constr = RelationGetDescr(table)->constr;
	const char *const *checks = own_checks(table);
	int                count = constr != NULL ? constr->num_check : 0;
	int                nown = 0;

	while (nown < OWN_CHECKS_MAX && checks[nown] != NULL)
		nown++;
	if (count != nown)
		return count > 0;
	for (int i = 0; i < count; i++)
	{
		if (strcmp(constr->check[i].ccname, checks[i]) != 0)
			return true;
	}
	return false;
}

static bool
has_generated(Relation table)
{
	const TupleConstr *constr = RelationGetDescr(table)->constr;

	return constr != NULL && constr->has_generated_stored;
}

bool
user_rules_exist(Relation table)
{
	return has_generated(table) || has_checks(table) ||
		   compat_has_virtual_columns(RelationGetDescr(table));
}

void
user_rules_refuse_capture(Relation table)
{
	const TriggerDesc *triggers = table->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgenabled != TRIGGER_FIRES_ALWAYS || !TRIGGER_FOR_ROW(trigger->tgtype) ||
			!(TRIGGER_FOR_INSERT(trigger->tgtype) || TRIGGER_FOR_UPDATE(trigger->tgtype)) ||
			get_func_namespace(trigger->tgfoid) == RelationGetNamespace(table))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has a trigger \"%s\" that is to fire always, and is not told "
						"of what is written here",
						RelationGetRelationName(table), trigger->tgname),
				 errdetail("A copy that it makes would lack rows."),
				 errhint("Drop it; VACUUM FULL, CLUSTER and pg_squeeze do without, pg_repack does "
						 "not.")));
	}
}

bool
user_rules_run_code(const UserRules *rules)
{
	return rules->has_generated || rules->has_checks || rules->has_code;
}

/* The null of a domain, which may not be one; NULL of another type. */
static Node *
null_of_domain(const FormData_pg_attribute *attribute)
{
	int32 modifier = attribute->atttypmod;
	Oid   base = getBaseTypeAndTypmod(attribute->atttypid, &modifier);

	if (base == attribute->atttypid)
		return NULL;
	return coerce_to_domain((Node *) makeNullConst(base, modifier, attribute->attcollation), base,
							modifier, attribute->atttypid, COERCION_IMPLICIT, COERCE_IMPLICIT_CAST,
							-1, false);
}

static void
learn_default(UserRules *rules, Relation table, AttrNumber column)
{
	Node *expression = build_column_default(table, column);
	Expr *planned;

	if (expression == NULL)
		expression = null_of_domain(TupleDescAttr(RelationGetDescr(table), column - 1));
	if (expression == NULL)
		return;
	planned = expression_planner((Expr *) expression);
	rules->has_code |= !IsA(planned, Const);
	rules->default_columns[rules->ndefaults] = column;
	rules->defaults[rules->ndefaults++] = ExecInitExpr(planned, NULL);
}

UserRules *
user_rules_learn(ResultRelInfo *result_rel, EState *estate)
{
	Relation   table = result_rel->ri_RelationDesc;
	TupleDesc  desc = RelationGetDescr(table);
	UserRules *rules = palloc0(sizeof(UserRules));

	rules->result_rel = result_rel;
	rules->estate = estate;
	rules->default_columns = palloc0(sizeof(AttrNumber) * desc->natts);
	rules->defaults = palloc0(sizeof(ExprState *) * desc->natts);
	rules->not_null = palloc0(sizeof(AttrNumber) * desc->natts);
	rules->has_generated = has_generated(table);
	rules->has_checks = has_checks(table);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			continue;
		if (attribute->attnotnull && attribute->attgenerated != '\0')
			rules->has_checks = true; /* one that is computed where it is read is checked there */
		else if (attribute->attnotnull)
			rules->not_null[rules->nnot_null++] = (AttrNumber) (i + 1);
		if (attribute->attgenerated == '\0')
			learn_default(rules, table, (AttrNumber) (i + 1));
	}
	return rules;
}

void
user_rules_fill(const UserRules *rules, TupleTableSlot *slot)
{
	for (int i = 0; i < rules->ndefaults; i++)
	{
		int           column = rules->default_columns[i] - 1;
		MemoryContext old_context;
		int           nest_level;

		if (!slot->tts_isnull[column])
			continue;
		old_context = MemoryContextSwitchTo(GetPerTupleMemoryContext(rules->estate));
		nest_level = search_path_hide();
		slot->tts_values[column] = ExecEvalExpr(
			rules->defaults[i], GetPerTupleExprContext(rules->estate), &slot->tts_isnull[column]);
		search_path_show(nest_level);
		MemoryContextSwitchTo(old_context);
	}
}

static bool
is_null_not_allowed(const UserRules *rules, const TupleTableSlot *slot)
{
	for (int i = 0; i < rules->nnot_null; i++)
	{
		if (slot->tts_isnull[rules->not_null[i] - 1])
			return true;
	}
	return false;
}

void
user_rules_check(const UserRules *rules, TupleTableSlot *slot)
{
	int nest_level;

	slot_getallattrs(slot);
	if (!rules->has_generated && !rules->has_checks && !is_null_not_allowed(rules, slot))
		return;
	nest_level = search_path_hide();
	/* of an update, too: an insert computes all of them */
	if (rules->has_generated)
		ExecComputeStoredGenerated(rules->result_rel, rules->estate, slot, CMD_INSERT);
	ExecConstraints(rules->result_rel, slot, rules->estate);
	search_path_show(nest_level);
}

/* ---------- indexes ---------- */

static bool
is_foreign_function(Oid function, void *context)
{
	return function >= FirstGenbkiObjectId;
}

/* Does the expression call a function that did not come with the server? */
static bool
calls_foreign_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceToDomain)) /* whose constraints may be anything */
		return true;
	if (check_functions_in_node(node, is_foreign_function, context))
		return true;
	return expression_tree_walker(node, calls_foreign_function, context);
}

/* Does the index compare, or whatever else it does, by functions that did not come with the server?
 * Those of arrays and the like call what their elements bring along. */
static bool
is_of_foreign_class(Relation index)
{
	int count = IndexRelationGetNumberOfKeyAttributes(index) * index->rd_indam->amsupport;

	for (int i = 0; i < RelationGetDescr(index)->natts; i++)
	{
		if (TupleDescAttr(RelationGetDescr(index), i)->atttypid >= FirstGenbkiObjectId)
			return true;
	}
	for (int i = 0; i < count; i++)
	{
		if (is_foreign_function(index->rd_support[i], NULL))
			return true;
	}
	return false;
}

bool
user_rules_indexes_run_code(const ResultRelInfo *result_rel)
{
	for (int i = 0; i < result_rel->ri_NumIndices; i++)
	{
		const IndexInfo *info = result_rel->ri_IndexRelationInfo[i];

		if (calls_foreign_function((Node *) info->ii_Expressions, NULL) ||
			calls_foreign_function((Node *) info->ii_Predicate, NULL) ||
			is_of_foreign_class(result_rel->ri_IndexRelationDescs[i]))
			return true;
	}
	return false;
}
