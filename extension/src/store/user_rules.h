/*
 * user_rules.h
 *		What users have added to our tables: defaults, generated columns, constraints, indexes.
 *
 * Our own rows are right by construction, and none of our own constraints is looked at for them.
 * Who adds a constraint has all of its table looked at.
 */
#ifndef OA_USER_RULES_H
#define OA_USER_RULES_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "utils/relcache.h"

typedef struct UserRules UserRules;

/* user_rules_exist: must updates of the table be looked at? */
extern bool user_rules_exist(Relation table);

/*
 * user_rules_refuse_capture: ERROR 55000 if somebody follows the table by a trigger that fires
 * always (ENABLE ALWAYS), as pg_repack does, which copies a table meanwhile. No trigger fires for
 * what is written here, and the copy would lack it.
 */
extern void user_rules_refuse_capture(Relation table);

/* user_rules_learn reads those of the table, into the current memory context. */
extern UserRules *user_rules_learn(ResultRelInfo *result_rel, EState *estate);

/* user_rules_run_code: are they made of more than constants? */
extern bool user_rules_run_code(const UserRules *rules);

/* user_rules_fill gives the columns of a virtual row that are null their defaults; it comes before
 * ExecStoreVirtualTuple. */
extern void user_rules_fill(const UserRules *rules, TupleTableSlot *slot);

/* user_rules_check computes the generated columns of a row and looks at its constraints: ERROR
 * 23502, 23514. */
extern void user_rules_check(const UserRules *rules, TupleTableSlot *slot);

/* user_rules_indexes_run_code: does an index call functions of whoever made it? */
extern bool user_rules_indexes_run_code(const ResultRelInfo *result_rel);

#endif /* OA_USER_RULES_H */
