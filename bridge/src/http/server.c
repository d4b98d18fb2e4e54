/*
 * server.c
 *		A small HTTP server on libmicrohttpd.
 *
 * One thread, ours, runs all connections: it waits at the library's epoll
 * descriptor and lets the library do what there is to do. The library's own loop
 * must not be used: when exactly as many events have come as it takes at a time
 * (128), it waits for more before it handles any, up to its whole time-out
 * (0.9.75 to 1.0.10; docs/architecture.md). Called with nothing to wait for, it does not.
 *
 * A deferred exchange is a suspended connection: it never times out by itself and
 * its client's disconnect goes unseen, so whoever took it over keeps a deadline.
 *
 * What the library lets through and the RFCs do not is refused here (head.c).
 */
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/stop.h"
#include "http/server_socket.h"
#include "http/server_state.h"
#include "http/server_tls.h"

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* ---------- waking the server's thread ---------- */

static void
wake(HttpServer *server)
{
	const uint64_t one = 1;

	if (!atomic_exchange(&server->is_woken, true) && write(server->wake, &one, sizeof(one)) < 0)
		log_error("cannot wake the HTTP server's thread: %s", strerror(errno));
}

/*
 * Lets a suspended connection go on. The library's own waking is not enough: it
 * may clear its signal after it has looked for connections to resume.
 */
void
server_resume(HttpServer *server, struct MHD_Connection *connection)
{
	MHD_resume_connection(connection);
	wake(server);
}

/* Called by the thread before it looks what is wanted. */
static void
take_wake(HttpServer *server)
{
	uint64_t count;

	if (read(server->wake, &count, sizeof(count)) == sizeof(count))
		atomic_store(&server->is_woken, false);
}

/* ---------- libmicrohttpd's callbacks ---------- */

/* The first that is heard of a request: its target as it came. The exchange becomes the request's
 * state. */
static void *
on_target(void *context, const char *target, struct MHD_Connection *connection)
{
	HttpServer                     *server = context;
	HttpExchange                   *exchange = calloc(1, sizeof(HttpExchange));
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	if (exchange == NULL)
		return NULL;
	if (target == NULL)
		target = "";
	exchange->target = strdup(target);
	if (exchange->target == NULL)
	{
		free(exchange);
		return NULL;
	}
	server_note_alive(server);
	atomic_fetch_add(&server->exchanges, 1);
	exchange->target_end = target + strlen(target);
	exchange->server = server;
	exchange->connection = connection;
	exchange->client = info != NULL ? info->socket_context : NULL;
	exchange->began_us = monotonic_us();
	server_expect_client(exchange, true);
	return exchange;
}

static bool
begin_exchange(HttpExchange *exchange, const char *method, const char *version)
{
	const char *length;

	exchange->method = strdup(method);
	if (exchange->method == NULL)
		return false;
	if (exchange->client != NULL && exchange->client->is_surplus)
		server_complain(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "too many connections are open",
						NULL);
	server_check_head(exchange, version);
	length = http_header(exchange, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (length != NULL && strtoll(length, NULL, 10) > exchange->server->limits.body_bytes_max)
		server_complain(exchange, MHD_HTTP_CONTENT_TOO_LARGE, NULL, NULL);
	return true;
}

static enum MHD_Result
on_access(void *context, struct MHD_Connection *connection, const char *path, const char *method,
		  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
	HttpServer   *server = context;
	HttpExchange *exchange = *state;

	(void) connection;
	(void) path;
	if (exchange == NULL)
		return MHD_NO;
	if (exchange->method == NULL)
	{
		if (!begin_exchange(exchange, method, version))
			return MHD_NO;
		if (exchange->refused != 0)
		{
			/* said before its body comes */
			server_refuse(exchange);
			return server_send_response(exchange);
		}
		if (server->limits.admit != NULL && !server->limits.admit(exchange))
			return server_send_response(exchange);
		return MHD_YES;
	}
	if (*upload_bytes > 0)
	{
		server_receive(exchange, upload, *upload_bytes);
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (!exchange->handled)
	{
		exchange->handled = true;
		server_expect_client(exchange, false);
		if (exchange->refused != 0)
			server_refuse(exchange);
		else
			server->handler(exchange);
		server_drop_body(exchange);
		if (exchange->deferred)
			return MHD_YES; /* resumed when there is a reply, and called again */
	}
	return server_send_response(exchange);
}

/* A stranger's text as it may stand in a line of the log: without spaces, quotes and control
 * characters. */
static const char *
printable(const char *text, char *buffer, size_t size)
{
	size_t length = 0;

	for (; text != NULL && *text != '\0' && length + 4 < size; text++)
		length += (size_t) snprintf(buffer + length, size - length,
									*text > ' ' && *text < 0x7f && *text != '"' ? "%c" : "%%%02X",
									(unsigned char) *text);
	buffer[length] = '\0';
	return length > 0 ? buffer : "-";
}

static void
log_request(HttpExchange *exchange, bool is_complete)
{
	char address[INET6_ADDRSTRLEN];
	char method[32];
	char path[256];
	char trace[80];

	http_client_address(exchange, address, sizeof(address));
	log_info("request client=%s method=%s path=%s status=%d bytes=%zu us=%lld traceparent=%s%s",
			 address, printable(exchange->method, method, sizeof(method)),
			 printable(exchange->target, path, sizeof(path)), exchange->status,
			 exchange->reply_bytes, monotonic_us() - exchange->began_us,
			 printable(http_header(exchange, "traceparent"), trace, sizeof(trace)),
			 is_complete ? "" : " aborted=yes");
}

static void
on_completed(void *context, struct MHD_Connection *connection, void **state,
			 enum MHD_RequestTerminationCode code)
{
	HttpExchange *exchange = *state;

	(void) context;
	(void) connection;
	if (exchange == NULL)
		return;
	server_expect_client(exchange, true);
	if (exchange->server->limits.log_requests)
		log_request(exchange, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	if (exchange->response != NULL)
		MHD_destroy_response(exchange->response);
	for (int i = 0; i < exchange->nheaders; i++)
	{
		free(exchange->headers[i].name);
		free(exchange->headers[i].value);
	}
	free(exchange->method);
	free(exchange->target);
	http_target_free(&exchange->parsed);
	http_head_free(&exchange->head);
	server_drop_body(exchange);
	server_note_waiting(-(long) exchange->waiting_bytes);
	atomic_fetch_sub(&exchange->server->exchanges, 1);
	free(exchange);
	*state = NULL;
}

static void
on_log(void *context, const char *format, va_list args)
{
	char line[512];

	(void) context;
	vsnprintf(line, sizeof(line), format, args);
	log_debug("libmicrohttpd: %s", line);
}

/* ---------- starting and stopping ---------- */

/* Raises the soft limit of open files, as far as the hard one lets it; returns for how many
 * connections that is enough. */
static int
allow_descriptors(int connections)
{
	struct rlimit limit;
	rlim_t        wanted = (rlim_t) connections + DESCRIPTORS_SPARE;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return connections;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		(void) getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur >= wanted)
		return connections;
	log_warning("only %lu files may be open: not enough for %d connections",
				(unsigned long) limit.rlim_cur, connections);
	return limit.rlim_cur > 2UL * DESCRIPTORS_SPARE ? (int) limit.rlim_cur - DESCRIPTORS_SPARE
													: DESCRIPTORS_SPARE;
}

/* Waits until the library has something to do, or is wanted to do something; never longer than to
 * the next sweep. */
static void
wait_for_events(HttpServer *server, int epoll_descriptor)
{
	struct pollfd          waits[2] = {{.fd = epoll_descriptor, .events = POLLIN},
									   {.fd = server->wake, .events = POLLIN}};
	MHD_UNSIGNED_LONG_LONG timeout_ms;
	bool                   has_timeout = MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES;

	poll(waits, 2, has_timeout && timeout_ms < SWEEP_MS ? (int) timeout_ms : SWEEP_MS);
	if (waits[1].revents != 0)
		take_wake(server);
}

/* Those that have connected already, and wait to be accepted, would be cut off with the listener.
 */
static void
accept_the_last(HttpServer *server, MHD_socket listener)
{
	for (int i = 0; i < LAST_ACCEPTED_MAX; i++)
	{
		struct sockaddr_storage address = {0};
		socklen_t               length = sizeof(address);
		int                     descriptor =
			accept4(listener, (struct sockaddr *) &address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (descriptor < 0 && errno != ECONNABORTED && errno != EINTR)
			return;
		/* which closes it if there are too many */
		if (descriptor >= 0)
			MHD_add_connection(server->daemon, descriptor, (struct sockaddr *) &address, length);
	}
}

/* On the server's thread, or after its end. */
static void
quiesce(HttpServer *server)
{
	MHD_socket listener;

	if (atomic_load(&server->is_closed))
		return;
	listener = MHD_quiesce_daemon(server->daemon);
	server_forget(server->address);
	if (listener != MHD_INVALID_SOCKET)
	{
		if (!atomic_load(&server->is_stopping))
			accept_the_last(server, listener);
		close(listener);
	}
	atomic_store(&server->is_closed, true);
}

static void *
serve(void *context)
{
	HttpServer                 *server = context;
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

	log_set_role("http.server");
	while (!atomic_load(&server->is_stopping))
	{
		if (atomic_load(&server->is_quiesced))
			quiesce(server);
		server_sweep(server);
		MHD_run(server->daemon);
		wait_for_events(server, info->epoll_fd);
	}
	return NULL;
}

static struct MHD_Daemon *
start_daemon(HttpServer *server, int descriptor)
{
	const HttpLimits *limits = &server->limits;
	const unsigned    flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
						   MHD_USE_ITC | (limits->with_tls ? MHD_USE_TLS : 0) |
						   (http_address_is_ip6(server->address) ? MHD_USE_IPv6 : 0);
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_CERT_CALLBACK2, 0, (void *) server_tls_retrieve},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES},
		{MHD_OPTION_END, 0, NULL}};
	struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};

	return MHD_start_daemon(
		flags, 0, NULL, NULL, on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, descriptor, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned) server->connections_max, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned) limits->connections_per_address_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t) limits->header_bytes_max * 2, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned) limits->idle_timeout_s, MHD_OPTION_NOTIFY_CONNECTION, server_on_connection,
		server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_URI_LOG_CALLBACK,
		on_target, server, MHD_OPTION_ARRAY, limits->with_tls ? tls : none,
		LIBRARY_STRICTNESS MHD_OPTION_END);
}

/* Says where, once the server runs. */
static void
log_start(const HttpServer *server, int port)
{
	const char *scheme = server->limits.with_tls ? "https" : "http";

	if (strchr(server->address, '/') != NULL)
		log_info("listening on %s (%s)", server->address, scheme);
	else if (http_address_is_ip6(server->address))
		log_info("listening on %s://[%s]:%d", scheme, server->address, port);
	else
		log_info("listening on %s://%s:%d", scheme, server->address, port);
}

/* Listens, and starts the thread. */
static bool
start(HttpServer *server, int port)
{
	int descriptor =
		server->wake >= 0 ? server_listen(server->address, port, server->limits.shares_port) : -1;

	if (descriptor < 0)
		return false;
	server->daemon = start_daemon(server, descriptor);
	if (server->daemon != NULL && pthread_create(&server->thread, NULL, serve, server) == 0)
		return true;
	log_error("the HTTP server cannot be started");
	server_forget(server->address);
	/* one that does not start may have closed the descriptor or not: it ends with the process */
	if (server->daemon != NULL)
		MHD_stop_daemon(server->daemon);
	return false;
}

HttpServer *
http_start(const char *address, int port, const HttpLimits *limits, HttpHandler handler)
{
	HttpServer *server = calloc(1, sizeof(HttpServer));

	if (server == NULL)
		return NULL;
	server->address = address;
	server->limits = *limits;
	server->handler = handler;
	server_note_alive(server);
	server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	server->connections_max = allow_descriptors(limits->connections_max * 2);
	if (!start(server, port))
	{
		if (server->wake >= 0)
			close(server->wake);
		free(server);
		return NULL;
	}
	log_start(server, port);
	return server;
}

bool
http_is_alive(const HttpServer *server)
{
	return monotonic_ms() < atomic_load(&server->alive_ms) + ROUND_MS_MAX;
}

void
http_quiesce(HttpServer *server)
{
	atomic_store(&server->is_quiesced, true);
	wake(server);
}

void
http_wait_until_quiet(HttpServer *server, int max_ms)
{
	long long deadline = monotonic_ms() + max_ms;
	long long quiet_ms = monotonic_ms() + QUIET_MS;

	while (monotonic_ms() < quiet_ms && monotonic_ms() < deadline)
	{
		if (!atomic_load(&server->is_closed) || atomic_load(&server->exchanges) > 0)
			quiet_ms = monotonic_ms() + QUIET_MS;
		poll(NULL, 0, 5);
	}
}

void
http_stop(HttpServer *server)
{
	long long deadline = monotonic_ms() + FINISH_MS_MAX;

	/* stopping closes connections whose replies are not sent yet */
	while (atomic_load(&server->exchanges) > 0 && monotonic_ms() < deadline)
		poll(NULL, 0, 5);
	atomic_store(&server->is_stopping, true);
	wake(server);
	pthread_join(server->thread, NULL);
	quiesce(server); /* unless that has been done */
	MHD_stop_daemon(server->daemon);
	close(server->wake);
	free(server);
}
