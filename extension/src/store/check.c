/*
 * check.c
 *		Arguments of the SQL functions and values of documents: checked, with errors that name them.
 */
#include "postgres.h"

#include "store/check.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "store/id_text.h"
#include "utils/builtins.h"

#define NUMBER_CHARS_MAX  400
#define EXCERPT_CHARS_MAX 128

/* ---------- values ---------- */

char *
check_text_id(const char *text, int len, int max_chars)
{
	/* an older database, upgraded, may have another encoding */
	bool   is_utf8 = GetDatabaseEncoding() == PG_UTF8;
	size_t chars = is_utf8 ? id_text_chars(text, len) : pg_mbstrlen_with_len(text, len);

	if (id_text_has_control(text, len, is_utf8))
		return pstrdup("must not contain control characters");
	if (chars < 1 || chars > max_chars)
		return psprintf("must be 1 to %d characters long", max_chars);
	return NULL;
}

bool
is_vendor_id(const char *text, int len)
{
	if (len < 1 || len > 64)
		return false;
	for (int i = 0; i < len; i++)
	{
		char c = text[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			  c == '_' || c == '-'))
			return false;
	}
	return true;
}

bool
text_to_whole(const char *text, int64 min, int64 max, int64 *result)
{
	char *end;

	errno = 0;
	*result = strtoll(text, &end, 10);
	if (*end == '.')
		end += 1 + strspn(end + 1, "0");
	return errno == 0 && end != text && *end == '\0' && *result >= min && *result <= max;
}

char *
numeric_text(Numeric number)
{
	char  *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	size_t beyond = strlen(text);
	char  *beginning;

	if (beyond <= NUMBER_CHARS_MAX)
		return text;
	beyond -= NUMBER_CHARS_MAX;
	beginning = pnstrdup(text, NUMBER_CHARS_MAX);
	if (strspn(text + NUMBER_CHARS_MAX, "0.") < beyond && beginning[NUMBER_CHARS_MAX - 1] == '0')
		beginning[NUMBER_CHARS_MAX - 1] = '1'; /* no whole number is to become one */
	pfree(text);
	return beginning;
}

bool
numeric_to_whole(Numeric number, int64 min, int64 max, int64 *result)
{
	/* scientific notation has been expanded by numeric: 1e300 is long, not wrong */
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	bool  is_whole = text_to_whole(text, min, max, result);

	pfree(text);
	return is_whole;
}

const char *
excerpt(const char *text)
{
	int bytes = strlen(text);
	int kept = pg_mbcharcliplen(text, bytes, EXCERPT_CHARS_MAX);

	return kept < bytes ? psprintf("%.*s...", kept, text) : text;
}

/* ---------- arguments ---------- */

void
argument_error(const char *name, const char *complaint)
{
	name = excerpt(name);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s %s", name, complaint),
					errdetail_field(name), err_field(name)));
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
