/*
 * callers.h
 *		Who may call over HTTP, as far as a browser tells: hosts and origins.
 *
 * A page from anywhere runs in browsers that can reach this server. What such a page
 * makes a browser send is refused, unless its origin is one of HTTP_ORIGINS.
 */
#ifndef BRIDGE_CALLERS_H
#define BRIDGE_CALLERS_H

#include <stdbool.h>

#include "http/server.h"

/*
 * callers_init reads HTTP_HOSTS and HTTP_ORIGINS, before the server starts. False, after
 * saying so, if one of them is not what it should be.
 */
extern bool callers_init(void) __attribute__((warn_unused_result));

/*
 * callers_admit returns false after a reply: 421 to a host that is not ours, 403 to
 * another site's page, 204 to a preflight. "is_safe" says that the request changes
 * nothing, "is_open" that it may be asked of any host: probes ask by names of their own. Where the
 * origin is one of HTTP_ORIGINS the reply gets what CORS needs.
 */
extern bool callers_admit(HttpExchange *exchange, bool is_safe, bool is_open,
						  const char *allowed_methods);

/*
 * callers_host_is_public: whether a host, with its port or without, is a name that a stranger
 * may own and have resolve to our address. Addresses, localhost, and names without a dot
 * are not. For the unit tests.
 */
extern bool callers_host_is_public(const char *host);

#endif /* BRIDGE_CALLERS_H */
