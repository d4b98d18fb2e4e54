/*
 * link_header.h
 *		What a Link header says of the pages of a feed.
 */
#ifndef BRIDGE_LINK_HEADER_H
#define BRIDGE_LINK_HEADER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * link_header_has_next says whether one of the links in a header's value, which need not
 * end in a NUL, leads to a next page: has the relation "next" among its own (RFC 8288).
 */
extern bool link_header_has_next(const char *value, size_t bytes);

#endif /* BRIDGE_LINK_HEADER_H */
