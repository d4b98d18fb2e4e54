/*
 * trace_context.c
 *		The W3C trace context of a request.
 */
#include "store/trace_context.h"

#include "store/settings.h"

bool
is_traceparent(const char *text, int len)
{
	static const char pattern[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";

	if (len != (int) strlen(pattern))
		return false;
	for (int i = 0; i < len; i++)
	{
		if (pattern[i] == '-'
				? text[i] != '-'
				: !((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
			return false;
	}
	return true;
}

char *
session_traceparent(void)
{
	if (guc_traceparent == NULL || !is_traceparent(guc_traceparent, strlen(guc_traceparent)))
		return NULL;
	return guc_traceparent;
}
