/*
 * etag.h
 *		Whether a client has an answer already (RFC 9110, 8.8.3 and 13.1.2).
 */
#ifndef BRIDGE_ETAG_H
#define BRIDGE_ETAG_H

#include <stdbool.h>

#define ETAG_BYTES_MAX 40

/* etag_of makes the tag of a body, in its quotes. */
extern void etag_of(const char *body, char etag[ETAG_BYTES_MAX]);

/* etag_matches: is the tag in the list of an If-None-Match, which may be NULL? Compared weakly;
 * "*" is any. */
extern bool etag_matches(const char *list, const char *etag);

#endif /* BRIDGE_ETAG_H */
