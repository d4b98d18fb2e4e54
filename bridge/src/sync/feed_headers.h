/*
 * feed_headers.h
 *		HTTP headers that a vendor wants with a request for its feed: keys, tokens.
 */
#ifndef BRIDGE_FEED_HEADERS_H
#define BRIDGE_FEED_HEADERS_H

#include <stdbool.h>

/*
 * feed_headers_load reads a file of lines "vendor_id origin Name: value"; "#" begins a
 * comment line. The origin is whom the vendor's header is for: https://host, with a port
 * if need be; http:// if it must be; a host alone means https. False, and what was loaded
 * before stays, if the file cannot be read or a line is bad: the log says which.
 */
extern bool feed_headers_load(const char *path) __attribute__((warn_unused_result));

/*
 * feed_headers_each calls back with each header of the vendor that is for the origin of the
 * URL, as "Name: value"; returns how many, or -1 if the vendor has headers, but none for
 * that origin.
 */
extern int feed_headers_each(const char *vendor_id, const char                     *url,
							 void (*each)(void *context, const char *header), void *context);

/* feed_headers_origin returns "scheme://host:port" of a URL in its one form, malloc'd; NULL if it
 * is none of http or https. */
extern char *feed_headers_origin(const char *url);

#endif /* BRIDGE_FEED_HEADERS_H */
