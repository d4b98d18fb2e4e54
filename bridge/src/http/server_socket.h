/*
 * server_socket.h
 *		Where the server listens: an address of IPv4 or IPv6, or a socket in the file system.
 */
#ifndef SERVER_SOCKET_H
#define SERVER_SOCKET_H

#include <stdbool.h>

/* http_address_complaint returns what is wrong with an address to listen at, or NULL. */
extern const char *http_address_complaint(const char *address);

/* http_address_is_local: is it one that only this machine can reach? */
extern bool http_address_is_local(const char *address);

extern bool http_address_is_ip6(const char *address);

/*
 * server_listen returns a listening socket; -1, and a line in the log, if there can be none.
 * shares_port: others of the same user that say so may listen there too. "unix:/path" makes a
 * socket that owner and group may use, in place of one that nobody listens at any more.
 */
extern int server_listen(const char *address, int port, bool shares_port);

/* server_forget removes what server_listen has left in the file system. To be called once, before
 * the descriptor is closed: then the next server may have its socket there. */
extern void server_forget(const char *address);

#endif /* SERVER_SOCKET_H */
