/*
 * server_socket.c
 *		Where the server listens: an address of IPv4 or IPv6, or a socket in the file system.
 */
#include "http/server_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stop.h"

#define UNIX_PREFIX    "unix:"
#define LISTEN_BACKLOG 4096
#define LOCK_MS_MAX    5000

typedef union Address
{
	struct sockaddr     any;
	struct sockaddr_in  ip4;
	struct sockaddr_in6 ip6;
	struct sockaddr_un  local;
} Address;

/* The path of a unix: address, or NULL. */
static const char *
unix_path(const char *address)
{
	return strncmp(address, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0 ? address + strlen(UNIX_PREFIX)
																   : NULL;
}

/* The address that a socket is to be bound to, and how long it is; 0 if the text is none. */
static socklen_t
parse(Address *parsed, const char *address, int port)
{
	const char *path = unix_path(address);

	memset(parsed, 0, sizeof(Address));
	if (path != NULL)
	{
		parsed->local.sun_family = AF_UNIX;
		if (*path != '/' || strlen(path) >= sizeof(parsed->local.sun_path))
			return 0;
		snprintf(parsed->local.sun_path, sizeof(parsed->local.sun_path), "%s", path);
		return sizeof(parsed->local);
	}
	if (inet_pton(AF_INET, address, &parsed->ip4.sin_addr) == 1)
	{
		parsed->ip4.sin_family = AF_INET;
		parsed->ip4.sin_port = htons((uint16_t) port);
		return sizeof(parsed->ip4);
	}
	if (inet_pton(AF_INET6, address, &parsed->ip6.sin6_addr) != 1)
		return 0;
	parsed->ip6.sin6_family = AF_INET6;
	parsed->ip6.sin6_port = htons((uint16_t) port);
	return sizeof(parsed->ip6);
}

const char *
http_address_complaint(const char *address)
{
	Address parsed;

	if (parse(&parsed, address, 0) != 0)
		return NULL;
	if (parsed.any.sa_family != AF_UNIX)
		return "must be an address of IPv4 or IPv6, or unix:/path";
	return *unix_path(address) != '/' ? "must be a path from the root after unix:"
									  : "must have a path of at most 107 bytes after unix:";
}

bool
http_address_is_local(const char *address)
{
	Address parsed;

	if (parse(&parsed, address, 0) == 0)
		return false;
	switch (parsed.any.sa_family)
	{
		case AF_INET:
			return ntohl(parsed.ip4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
		case AF_INET6:
			return IN6_IS_ADDR_LOOPBACK(&parsed.ip6.sin6_addr);
		default:
			return true;
	}
}

bool
http_address_is_ip6(const char *address)
{
	Address parsed;

	return parse(&parsed, address, 0) != 0 && parsed.any.sa_family == AF_INET6;
}

/* Nobody else takes over or gives up a socket in that folder until it is closed; -1: not to be
 * had in time. The folder is locked, because a file beside the socket would stay. */
static int
lock_folder(const char *path)
{
	char      folder[sizeof(((struct sockaddr_un *) NULL)->sun_path)];
	long long deadline_ms = monotonic_ms() + LOCK_MS_MAX;
	int       lock;

	snprintf(folder, sizeof(folder), "%.*s", (int) (strrchr(path, '/') + 1 - path), path);
	lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) != 0)
	{
		if (monotonic_ms() < deadline_ms)
		{
			poll(NULL, 0, 10);
			continue;
		}
		close(lock);
		errno = ETIMEDOUT;
		return -1;
	}
	return lock;
}

/* Removes a socket at which nobody listens; false if somebody does, or it is no socket. */
static bool
remove_stale(const Address *address)
{
	struct stat status;
	int         probe;
	bool        is_stale;

	if (lstat(address->local.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode))
	{
		errno = EADDRINUSE;
		return false;
	}
	probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	is_stale = probe >= 0 && connect(probe, &address->any, sizeof(address->local)) != 0 &&
			   errno == ECONNREFUSED;
	if (probe >= 0)
		close(probe);
	errno = EADDRINUSE;
	return is_stale && unlink(address->local.sun_path) == 0;
}

static bool
listen_locally(int descriptor, const Address *address)
{
	const char *path = address->local.sun_path;
	int         lock = lock_folder(path);
	bool        ok;

	if (lock < 0)
		return false;
	/* nobody else's until it is the group's */
	ok = fchmod(descriptor, 0600) == 0 &&
		 (bind(descriptor, &address->any, sizeof(address->local)) == 0 ||
		  (errno == EADDRINUSE && remove_stale(address) &&
		   bind(descriptor, &address->any, sizeof(address->local)) == 0)) &&
		 chmod(path, 0660) == 0 && listen(descriptor, LISTEN_BACKLOG) == 0;
	close(lock);
	return ok;
}

static bool
listen_at(int descriptor, const Address *address, socklen_t length, bool shares_port)
{
	const int yes = 1;
	const int no = 0;

	if (address->any.sa_family == AF_UNIX)
		return listen_locally(descriptor, address);
	if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
		(shares_port && setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)) != 0))
		return false;
	/* "::" is IPv4 too */
	if (address->any.sa_family == AF_INET6)
		(void) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
	return bind(descriptor, &address->any, length) == 0 && listen(descriptor, LISTEN_BACKLOG) == 0;
}

int
server_listen(const char *address, int port, bool shares_port)
{
	Address     parsed;
	socklen_t   length;
	int         descriptor;
	const char *complaint = http_address_complaint(address);

	if (complaint != NULL)
	{
		log_error("cannot listen: HTTP_LISTEN %s", complaint);
		return -1;
	}
	length = parse(&parsed, address, port);
	descriptor = socket(parsed.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (descriptor >= 0 && listen_at(descriptor, &parsed, length, shares_port))
		return descriptor;
	if (parsed.any.sa_family == AF_UNIX)
		log_error("cannot listen on %s: %s", address, strerror(errno));
	else
		log_error("cannot listen on %s port %d: %s", address, port, strerror(errno));
	if (descriptor >= 0)
		close(descriptor);
	return -1;
}

void
server_forget(const char *address)
{
	const char *path = unix_path(address);

	if (path != NULL)
		(void) unlink(path);
}
