/*
 * etag.c
 *		The tags of answers, so that what has not changed is not sent again.
 */
#include "http/etag.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

void
etag_of(const char *body, char etag[ETAG_BYTES_MAX])
{
	snprintf(etag, ETAG_BYTES_MAX, "\"%016" PRIx64 "-%zx\"", text_hash(body), strlen(body));
}

bool
etag_matches(const char *list, const char *etag)
{
	/* a tag has no quote inside, so that it cannot be found within another one */
	return list != NULL && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}
