/*
 * feed_headers.h
 *		HTTP headers that a vendor wants with a request for its feed: keys, tokens.
 */
#ifndef BRIDGE_FEED_HEADERS_H
#define BRIDGE_FEED_HEADERS_H

#include <stdbool.h>

/*
 * feed_headers_load reads a file of lines "vendor_id Name: value"; "#" begins a
 * comment line. False, and what was loaded before stays, if the file cannot be
 * read or a line is bad: the log says which.
 */
extern bool feed_headers_load(const char *path) __attribute__((warn_unused_result));

/* feed_headers_each calls back with each header of the vendor, as "Name: value"; returns how many. */
extern int feed_headers_each(const char *vendor_id, void (*each)(void *context, const char *header), void *context);

#endif /* BRIDGE_FEED_HEADERS_H */
