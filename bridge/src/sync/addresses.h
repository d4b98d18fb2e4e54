/*
 * addresses.h
 *		Which addresses a vendor's feed may be pulled from.
 *
 * A feed's URL is what somebody has registered, and it is pulled from within our own
 * network. By default only public addresses are connected to.
 */
#ifndef BRIDGE_ADDRESSES_H
#define BRIDGE_ADDRESSES_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * addresses_allow reads what is allowed beside the public ones, comma-separated: loopback,
 * private, link-local, any, or networks such as 10.1.0.0/16 and fd00::/8. NULL, or what
 * is wrong with it, as what follows the setting's name.
 */
extern const char *addresses_allow(const char *setting);

/* addresses_may_connect says whether that address may be connected to. */
extern bool addresses_may_connect(const struct sockaddr *address);

#endif /* BRIDGE_ADDRESSES_H */
