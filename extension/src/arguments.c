/*
 * arguments.c
 *		Arguments of the SQL functions.
 */
#include "arguments.h"

#include "miscadmin.h"
#include "request.h"
#include "utils/builtins.h"

void
argument_error(const char *name, const char *complaint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s %s", name, complaint)));
}

void
require_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		argument_error(name, "must not be null");
}

char *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argument));
}

char *
id_argument(FunctionCallInfo fcinfo, int argument, const char *name, int max_chars)
{
	char *value = text_argument(fcinfo, argument);
	char *complaint = value ? check_text_id(value, strlen(value), max_chars) : NULL;

	if (complaint != NULL)
		argument_error(name, complaint);
	return value;
}

int32
count_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	int32 count = PG_ARGISNULL(argument) ? 1000 : PG_GETARG_INT32(argument);

	if (count < 1 || count > 100000)
		argument_error(name, "must be from 1 to 100000");
	return count;
}

void
begin_writing(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
}
