/*
 * arguments.h
 *		Arguments of the SQL functions: errors that name them, and text that is checked.
 */
#ifndef OA_ARGUMENTS_H
#define OA_ARGUMENTS_H

#include "postgres.h"

#include "fmgr.h"

/* argument_error raises 22023, "<name> <complaint>". */
extern void argument_error(const char *name, const char *complaint) pg_attribute_noreturn();

/* require_argument raises 22023 if the argument is null. */
extern void require_argument(FunctionCallInfo fcinfo, int argument, const char *name);

/* text_argument returns the text, palloc'd, or NULL if it is null. */
extern char *text_argument(FunctionCallInfo fcinfo, int argument);

/* id_argument is text_argument, and raises 22023 unless it is 1 to max_chars characters without control characters. */
extern char *id_argument(FunctionCallInfo fcinfo, int argument, const char *name, int max_chars);

/* count_argument returns how many a function may take at most, 1000 if it is null, and raises 22023 unless it is 1 to 100000. */
extern int32 count_argument(FunctionCallInfo fcinfo, int argument, const char *name);

/*
 * begin_writing must come first in every function that writes: what goes past
 * the executor goes past its checks too. Raises 25006 in a transaction that is read only,
 * or on a standby, as INSERT does.
 */
extern void begin_writing(const char *function);

#endif /* OA_ARGUMENTS_H */
