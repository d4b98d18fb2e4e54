/*
 * catalog.h
 *		Arguments of the functions that change what a shop says of its vendors and products.
 */
#ifndef OA_CATALOG_H
#define OA_CATALOG_H

#include "postgres.h"

#include "fmgr.h"

/* catalog_required_id returns an id argument; ERROR 22023 if it is null or malformed. */
extern char *catalog_required_id(FunctionCallInfo fcinfo, int argument, const char *name,
								 int max_chars);

/* catalog_pass_on sets a parameter of a plan to the function's argument, null or not. */
extern void catalog_pass_on(FunctionCallInfo fcinfo, int argument, Datum *value, char *null);

/* catalog_check_units raises 22023 unless the argument is null or from min to ON_HAND_MAX. */
extern void catalog_check_units(FunctionCallInfo fcinfo, int argument, const char *name, int64 min);

#endif /* OA_CATALOG_H */
