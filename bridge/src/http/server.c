/*
 * http.c
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
 * What the library lets through and the RFCs do not is refused here (http_head.c).
 */
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/head.h"
#include "base/log.h"
#include "base/stop.h"

#define TARGET_BYTES_MAX  4096
#define REPLY_HEADERS_MAX 16
#define BODY_BYTES_FIRST  1024
#define FINISH_MS_MAX     5000 /* for replies to be sent at the end */
#define SWEEP_MS          250
#define STREAM_BLOCK      16384
#define DESCRIPTORS_SPARE 200

/* An open connection, in the server's list, which only its thread touches. */
typedef struct Connection
{
	struct Connection *next;
	struct Connection *previous;
	int                descriptor;
	bool               is_surplus; /* one more than there may be */
	_Atomic long long  since_ms;   /* since when the client has been due to send or to take; 0: it waits for us */
} Connection;

struct HttpServer
{
	struct MHD_Daemon *daemon;
	HttpLimits         limits;
	HttpHandler        handler;
	atomic_int         exchanges; /* begun and not completed */
	atomic_long        bodies_bytes;
	Connection        *connections;
	int                nconnections;
	pthread_t          thread;
	int                wake; /* an eventfd: something is wanted of the thread */
	atomic_bool        is_woken;
	long long          sweep_due_ms;
	atomic_bool        is_quiesced; /* wanted; the thread does it */
	atomic_bool        is_stopping;
};

struct HttpExchange
{
	HttpServer            *server;
	struct MHD_Connection *connection;
	Connection            *client; /* NULL if memory was short */
	char                  *method; /* NULL: the head is not there yet */
	char                  *target; /* as it came */
	const char            *target_end; /* in the library's memory: where it ended */
	HttpHead               head;
	HttpTarget             parsed;
	char                  *body;
	size_t                 body_bytes;
	size_t                 body_room;
	int                    refused; /* status to answer with; 0: none */
	const char            *complaint; /* why, where the status alone does not say so */
	const char            *complaint_field;
	bool                   handled; /* given to the handler */
	bool                   deferred;
	struct MHD_Response   *response; /* set by http_reply */
	int                    status;
	struct
	{
		char *name;
		char *value;
	} headers[REPLY_HEADERS_MAX];
	int         nheaders;
	size_t      reply_bytes;
	long long   began_us;
	const void *note;
};

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
static void
resume(HttpServer *server, struct MHD_Connection *connection)
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

/* ---------- slow clients ---------- */

/*
 * libmicrohttpd's own timeout begins anew with every byte, so a client that
 * sends one a second would be waited for as long as it likes. Here the whole
 * request, and then the whole reply, must be over in time.
 */
static void
expect_client(HttpExchange *exchange, bool expected)
{
	if (exchange->client != NULL)
		atomic_store(&exchange->client->since_ms, expected ? monotonic_ms() : 0);
}

/* Shuts the overdue connections down; the library then closes them. */
static void
sweep(HttpServer *server)
{
	long long now = monotonic_ms();
	int       closed = 0;

	if (now < server->sweep_due_ms)
		return;
	server->sweep_due_ms = now + SWEEP_MS;
	if (server->limits.tick != NULL)
		server->limits.tick();
	for (Connection *client = server->connections; client != NULL; client = client->next)
	{
		long long since = atomic_load(&client->since_ms);

		if (since == 0 || now - since < server->limits.idle_timeout_s * 1000LL)
			continue;
		/* unless its request has just become whole */
		if (!atomic_compare_exchange_strong(&client->since_ms, &since, 0))
			continue;
		shutdown(client->descriptor, SHUT_RDWR);
		closed++;
	}
	if (closed > 0)
		log_debug("%d slow connections closed", closed);
}

static void
on_connection(void *context, struct MHD_Connection *connection, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	HttpServer                     *server = context;
	Connection                     *client = *socket_context;
	const union MHD_ConnectionInfo *info;

	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		*socket_context = client = calloc(1, sizeof(Connection));
		if (client == NULL || info == NULL)
			return;
		client->descriptor = info->connect_fd;
		atomic_store(&client->since_ms, monotonic_ms());
			client->next = server->connections;
		if (client->next != NULL)
			client->next->previous = client;
		server->connections = client;
		client->is_surplus = ++server->nconnections > server->limits.connections_max;
			return;
	}
	if (client == NULL)
		return;
	if (client->previous != NULL)
		client->previous->next = client->next;
	else
		server->connections = client->next;
	if (client->next != NULL)
		client->next->previous = client->previous;
	server->nconnections--;
	free(client);
	*socket_context = NULL;
}

/* ---------- replying ---------- */

void
http_set_header(HttpExchange *exchange, const char *name, const char *value)
{
	char *name_copy = strdup(name);
	char *value_copy = strdup(value);

	if (exchange->nheaders == REPLY_HEADERS_MAX || name_copy == NULL || value_copy == NULL)
	{
		free(name_copy);
		free(value_copy);
		return;
	}
	exchange->headers[exchange->nheaders].name = name_copy;
	exchange->headers[exchange->nheaders].value = value_copy;
	exchange->nheaders++;
}

void
http_reply(HttpExchange *exchange, int status, const char *content_type, char *body)
{
	size_t               bytes = body ? strlen(body) : 0;
	struct MHD_Response *response = MHD_create_response_from_buffer(bytes, body, MHD_RESPMEM_MUST_FREE);

	for (int i = 0; response != NULL && i < exchange->nheaders; i++)
		MHD_add_response_header(response, exchange->headers[i].name, exchange->headers[i].value);
	if (response != NULL && body != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	exchange->status = status;
	exchange->reply_bytes = bytes;
	exchange->response = response;
	expect_client(exchange, true);
	if (exchange->server->limits.on_replied != NULL)
		exchange->server->limits.on_replied(status, (double) (monotonic_us() - exchange->began_us) / 1e6);
	if (exchange->deferred)
		resume(exchange->server, exchange->connection); /* the exchange is the server's again from here */
}

void
http_problem(HttpExchange *exchange, int status, const char *title, const char *detail, const char *field,
			 const char *details_json)
{
	json_t *details = details_json ? json_loads(details_json, JSON_DECODE_ANY, NULL) : NULL;
	json_t *problem;
	char   *body;

	if (details == NULL)
		details = json_string(detail);
	problem = json_pack("{s:s, s:s, s:i, s:s, s:s, s:o}", "type", "about:blank", "title", title, "status", status, "detail",
						detail, "error", title, "details", details);
	if (field != NULL && problem != NULL)
		json_object_set_new(problem, "field", json_string(field));
	body = problem != NULL ? json_dumps(problem, JSON_COMPACT) : NULL;
	json_decref(problem);
	http_reply(exchange, status, "application/problem+json", body);
}

void
http_defer(HttpExchange *exchange)
{
	exchange->deferred = true;
	MHD_suspend_connection(exchange->connection);
}

/* ---------- streaming ---------- */

struct HttpStream
{
	pthread_mutex_t        mutex;
	HttpServer            *server;
	struct MHD_Connection *connection;
	Connection            *client;  /* while has_client; NULL if memory was short */
	char                  *waiting; /* to be sent: bytes from start on */
	size_t                 start;
	size_t                 bytes;
	size_t                 room;
	bool                   is_suspended; /* until there is something to send */
	bool                   has_owner;
	bool                   has_client;
	bool                   is_aborted;
};

/* Frees the stream when neither its owner nor the server needs it. Called with the mutex locked. */
static void
unlock_stream(HttpStream *stream)
{
	bool is_needed = stream->has_owner || stream->has_client;

	pthread_mutex_unlock(&stream->mutex);
	if (is_needed)
		return;
	pthread_mutex_destroy(&stream->mutex);
	free(stream->waiting);
	free(stream);
}

/* The server wants up to max bytes. */
static ssize_t
on_stream_read(void *context, uint64_t position, char *buffer, size_t max)
{
	HttpStream *stream = context;
	ssize_t     result = 0;

	(void) position;
	pthread_mutex_lock(&stream->mutex);
	if (stream->bytes > 0)
	{
		size_t bytes = stream->bytes < max ? stream->bytes : max;

		memcpy(buffer, stream->waiting + stream->start, bytes);
		stream->start += bytes;
		stream->bytes -= bytes;
		result = (ssize_t) bytes;
	}
	else if (!stream->has_owner)
		result = stream->is_aborted ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
	else
	{
		stream->is_suspended = true;
		MHD_suspend_connection(stream->connection);
	}
	unlock_stream(stream);
	return result;
}

static void
on_stream_free(void *context)
{
	HttpStream *stream = context;

	pthread_mutex_lock(&stream->mutex);
	stream->has_client = false;
	unlock_stream(stream);
}

/* Called with the mutex locked. */
static void
resume_stream(HttpStream *stream)
{
	if (!stream->is_suspended)
		return;
	stream->is_suspended = false;
	resume(stream->server, stream->connection);
}

HttpStream *
http_stream_begin(HttpExchange *exchange, const char *content_type)
{
	HttpStream          *stream = calloc(1, sizeof(HttpStream));
	struct MHD_Response *response;

	if (stream == NULL)
		return NULL;
	pthread_mutex_init(&stream->mutex, NULL);
	stream->server = exchange->server;
	stream->connection = exchange->connection;
	stream->client = exchange->client;
	stream->has_owner = stream->has_client = true;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_stream_read, stream, on_stream_free);
	if (response == NULL)
	{
		stream->has_client = false;
		http_stream_release(stream);
		return NULL;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
	MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx would gather it */
	exchange->status = 200;
	exchange->response = response;
	return stream;
}

bool
http_stream_send(HttpStream *stream, const char *text, size_t bytes)
{
	bool ok;

	pthread_mutex_lock(&stream->mutex);
	ok = stream->has_client;
	if (ok && stream->start + stream->bytes + bytes > stream->room)
	{
		size_t room = (stream->bytes + bytes) * 2;
		char  *waiting = malloc(room);

		ok = waiting != NULL;
		if (ok)
		{
			if (stream->bytes > 0)
				memcpy(waiting, stream->waiting + stream->start, stream->bytes);
			free(stream->waiting);
			stream->waiting = waiting;
			stream->room = room;
			stream->start = 0;
		}
	}
	if (ok)
	{
		memcpy(stream->waiting + stream->start + stream->bytes, text, bytes);
		stream->bytes += bytes;
		resume_stream(stream);
	}
	unlock_stream(stream);
	return ok;
}

size_t
http_stream_waiting(HttpStream *stream)
{
	size_t bytes;

	pthread_mutex_lock(&stream->mutex);
	bytes = stream->has_client ? stream->bytes : 0;
	unlock_stream(stream);
	return bytes;
}

/* Ends the reply; from now on the client has as long as any other to take it. */
static void
end_stream(HttpStream *stream, bool abort)
{
	pthread_mutex_lock(&stream->mutex);
	stream->has_owner = false;
	stream->is_aborted = abort;
	if (abort)
		stream->bytes = 0;
	if (stream->has_client && stream->client != NULL)
		atomic_store(&stream->client->since_ms, monotonic_ms());
	if (stream->has_client)
		resume_stream(stream);
	unlock_stream(stream);
}

void
http_stream_release(HttpStream *stream)
{
	end_stream(stream, false);
}

void
http_stream_abort(HttpStream *stream)
{
	end_stream(stream, true);
}

static enum MHD_Result
send_response(HttpExchange *exchange)
{
	enum MHD_Result result = MHD_NO;

	if (exchange->response != NULL)
	{
		result = MHD_queue_response(exchange->connection, exchange->status, exchange->response);
		MHD_destroy_response(exchange->response);
		exchange->response = NULL;
	}
	return result;
}

/* ---------- the request ---------- */

const char *
http_method(const HttpExchange *exchange)
{
	return exchange->method;
}

int
http_segment_count(const HttpExchange *exchange)
{
	return exchange->parsed.nsegments;
}

const char *
http_segment(const HttpExchange *exchange, int number)
{
	return exchange->parsed.segments[number];
}

const char *
http_query(const HttpExchange *exchange, const char *name)
{
	return http_target_query(&exchange->parsed, name);
}

const char *
http_header(const HttpExchange *exchange, const char *name)
{
	const HttpField *field = http_head_find(&exchange->head, name);

	return field != NULL ? field->value : NULL;
}

const char *
http_host(const HttpExchange *exchange)
{
	return exchange->parsed.authority != NULL ? exchange->parsed.authority : http_header(exchange, "Host");
}

void
http_client_address(const HttpExchange *exchange, char *text, size_t size)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	snprintf(text, size, "-");
	if (info != NULL && info->client_addr->sa_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *) info->client_addr)->sin_addr, text, (socklen_t) size);
}

const char *
http_body(const HttpExchange *exchange, size_t *bytes)
{
	*bytes = exchange->body_bytes;
	return exchange->body;
}

void
http_set_note(HttpExchange *exchange, const void *note)
{
	exchange->note = note;
}

const void *
http_note(const HttpExchange *exchange)
{
	return exchange->note;
}

/* All bodies together have a limit too. */
static bool
may_grow(const HttpExchange *exchange, size_t room)
{
	if (room <= BODY_BYTES_FIRST)
		return true; /* an ordinary order always has room: connections are bounded too */
	return atomic_load(&exchange->server->bodies_bytes) + (long) (room - exchange->body_room) <=
		   exchange->server->limits.bodies_bytes_max;
}

/* Takes in a piece of the body, NUL-terminated as a whole; past the limit it is thrown away. */
static void
receive(HttpExchange *exchange, const char *data, size_t bytes)
{
	size_t needed = exchange->body_bytes + bytes + 1;

	if (exchange->refused != 0)
		return;
	if (needed > (size_t) exchange->server->limits.body_bytes_max + 1)
	{
		exchange->refused = MHD_HTTP_CONTENT_TOO_LARGE;
		return;
	}
	if (needed > exchange->body_room)
	{
		size_t room = exchange->body_room ? exchange->body_room : BODY_BYTES_FIRST;
		char  *body;

		while (room < needed)
			room *= 2;
		if (room > (size_t) exchange->server->limits.body_bytes_max + 1)
			room = (size_t) exchange->server->limits.body_bytes_max + 1;
		body = may_grow(exchange, room) ? realloc(exchange->body, room) : NULL;
		if (body == NULL)
		{
			exchange->refused = MHD_HTTP_SERVICE_UNAVAILABLE;
			return;
		}
		atomic_fetch_add(&exchange->server->bodies_bytes, (long) (room - exchange->body_room));
		exchange->body = body;
		exchange->body_room = room;
	}
	memcpy(exchange->body + exchange->body_bytes, data, bytes);
	exchange->body_bytes += bytes;
	exchange->body[exchange->body_bytes] = '\0';
}

/* Whoever handled the request has taken from its body what it needs. */
static void
drop_body(HttpExchange *exchange)
{
	free(exchange->body);
	atomic_fetch_sub(&exchange->server->bodies_bytes, (long) exchange->body_room);
	exchange->body = NULL;
	exchange->body_bytes = exchange->body_room = 0;
}

/* Replies to a request that is not to be served; the connection ends with it, because what follows may be read in two ways. */
static void
refuse(HttpExchange *exchange)
{
	static const struct
	{
		int         status;
		const char *title;
	} titles[] = {{400, "Bad Request"},
				  {413, "Content Too Large"},
				  {414, "URI Too Long"},
				  {415, "Unsupported Media Type"},
				  {417, "Expectation Failed"},
				  {431, "Request Header Fields Too Large"},
				  {501, "Not Implemented"}};
	const char *title = "Service Unavailable";
	char        detail[128];

	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
	{
		if (titles[i].status == exchange->refused)
			title = titles[i].title;
	}
	snprintf(detail, sizeof(detail), "body must be at most %d bytes long", exchange->server->limits.body_bytes_max);
	http_set_header(exchange, MHD_HTTP_HEADER_CONNECTION, "close");
	if (exchange->refused == MHD_HTTP_SERVICE_UNAVAILABLE)
		http_set_header(exchange, "Retry-After", "1");
	http_problem(exchange, exchange->refused, title,
				 exchange->refused == MHD_HTTP_CONTENT_TOO_LARGE ? detail
				 : exchange->complaint != NULL                   ? exchange->complaint
																 : "there is no room for the body",
				 exchange->refused == MHD_HTTP_CONTENT_TOO_LARGE ? "body" : exchange->complaint_field, NULL);
}

/* ---------- the head ---------- */

static void
complain(HttpExchange *exchange, int status, const char *complaint, const char *field)
{
	if (exchange->refused != 0)
		return;
	exchange->refused = status;
	exchange->complaint = complaint;
	exchange->complaint_field = field;
}

/*
 * Did the field end where the library says? Up to 0.9.75 it takes a NUL for the
 * end of a value, or of a target, and leaves out what follows; and of a value that
 * goes on in the next line it gives the first line. It cuts the head up in
 * place, so each field begins right after the end of the line before: behind its
 * value and a NUL in place of each of CR and LF. Later versions refuse both.
 */
static bool
follows(const char *end_of_line_before, const char *start)
{
#if MHD_VERSION < 0x01000000
	return end_of_line_before == NULL || start == end_of_line_before + 1 || start == end_of_line_before + 2;
#else
	(void) end_of_line_before;
	(void) start;
	return true;
#endif
}

/* True if nothing but the end of the line, and of the head, follows. */
static bool
ends_head(const char *end_of_line)
{
#if MHD_VERSION < 0x01000000
	return end_of_line[1] == '\0';
#else
	(void) end_of_line;
	return true;
#endif
}

typedef struct Gathering
{
	HttpExchange *exchange;
	const char   *end_of_line_before; /* NULL: of the request line */
} Gathering;

static enum MHD_Result
on_field(void *context, enum MHD_ValueKind kind, const char *name, size_t name_bytes, const char *value, size_t value_bytes)
{
	Gathering    *gathering = context;
	HttpExchange *exchange = gathering->exchange;

	(void) kind;
	if (!follows(gathering->end_of_line_before, name))
		complain(exchange, MHD_HTTP_BAD_REQUEST, "a header field has a NUL character, or goes on in the next line", NULL);
	if (!http_head_add(&exchange->head, name, name_bytes, value ? value : "", value_bytes))
		complain(exchange, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many header fields", NULL);
	gathering->end_of_line_before = value ? value + value_bytes : NULL;
	return MHD_YES;
}

static void
check_head(HttpExchange *exchange, const char *version)
{
	Gathering   gathering = {.exchange = exchange};
	const char *complaint;
	const char *field = NULL;
	int         status;

	exchange->head.is_http_1_0 = strcmp(version, "HTTP/1.0") == 0;
	MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, on_field, &gathering);
	if (gathering.end_of_line_before != NULL && !ends_head(gathering.end_of_line_before))
		complain(exchange, MHD_HTTP_BAD_REQUEST, "a header field has a NUL character, or goes on in the next line", NULL);
	if (!follows(exchange->target_end, version))
		complain(exchange, MHD_HTTP_BAD_REQUEST, "the target has a NUL character or a blank", NULL);
	status = http_head_check(&exchange->head, &complaint, &field);
	if (status != 0)
		complain(exchange, status, complaint, field);
	if (strlen(exchange->target) > TARGET_BYTES_MAX)
		complain(exchange, MHD_HTTP_URI_TOO_LONG, "the target is too long", NULL);
	status = http_target_parse(&exchange->parsed, exchange->target, &complaint);
	if (status != 0)
		complain(exchange, status, complaint, NULL);
}

/* ---------- libmicrohttpd's callbacks ---------- */

/* The first that is heard of a request: its target as it came. The exchange becomes the request's state. */
static void *
on_target(void *context, const char *target, struct MHD_Connection *connection)
{
	HttpServer                     *server = context;
	HttpExchange                   *exchange = calloc(1, sizeof(HttpExchange));
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

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
	atomic_fetch_add(&server->exchanges, 1);
	exchange->target_end = target + strlen(target);
	exchange->server = server;
	exchange->connection = connection;
	exchange->client = info != NULL ? info->socket_context : NULL;
	exchange->began_us = monotonic_us();
	expect_client(exchange, true);
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
		complain(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "too many connections are open", NULL);
	check_head(exchange, version);
	length = http_header(exchange, MHD_HTTP_HEADER_CONTENT_LENGTH);
	if (length != NULL && strtoll(length, NULL, 10) > exchange->server->limits.body_bytes_max)
		complain(exchange, MHD_HTTP_CONTENT_TOO_LARGE, NULL, NULL);
	return true;
}

static enum MHD_Result
on_access(void *context, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
		  const char *upload, size_t *upload_bytes, void **state)
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
			refuse(exchange);
			return send_response(exchange);
		}
		if (server->limits.admit != NULL && !server->limits.admit(exchange))
			return send_response(exchange);
		return MHD_YES;
	}
	if (*upload_bytes > 0)
	{
		receive(exchange, upload, *upload_bytes);
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (!exchange->handled)
	{
		exchange->handled = true;
		expect_client(exchange, false);
		if (exchange->refused != 0)
			refuse(exchange);
		else
			server->handler(exchange);
		drop_body(exchange);
		if (exchange->deferred)
			return MHD_YES; /* resumed when there is a reply, and called again */
	}
	return send_response(exchange);
}

/* A stranger's text as it may stand in a line of the log: without spaces, quotes and control characters. */
static const char *
printable(const char *text, char *buffer, size_t size)
{
	size_t length = 0;

	for (; text != NULL && *text != '\0' && length + 4 < size; text++)
		length += (size_t) snprintf(buffer + length, size - length, *text > ' ' && *text < 0x7f && *text != '"' ? "%c" : "%%%02X",
									(unsigned char) *text);
	buffer[length] = '\0';
	return length > 0 ? buffer : "-";
}

static void
log_request(HttpExchange *exchange, bool is_complete)
{
	char address[INET_ADDRSTRLEN];
	char method[32];
	char path[256];
	char trace[80];

	http_client_address(exchange, address, sizeof(address));
	log_info("request client=%s method=%s path=%s status=%d bytes=%zu us=%lld traceparent=%s%s", address,
			 printable(exchange->method, method, sizeof(method)), printable(exchange->target, path, sizeof(path)), exchange->status,
			 exchange->reply_bytes, monotonic_us() - exchange->began_us,
			 printable(http_header(exchange, "traceparent"), trace, sizeof(trace)), is_complete ? "" : " aborted=yes");
}

static void
on_completed(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	HttpExchange *exchange = *state;

	(void) context;
	(void) connection;
	if (exchange == NULL)
		return;
	expect_client(exchange, true);
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
	drop_body(exchange);
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

/* Raises the soft limit of open files, as far as the hard one lets it. */
static void
allow_descriptors(int connections)
{
	struct rlimit limit;
	rlim_t        wanted = (rlim_t) connections + DESCRIPTORS_SPARE;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
		log_warning("only %lu files may be open: not enough for %d connections", (unsigned long) limit.rlim_cur, connections);
}

/* Waits until the library has something to do, or is wanted to do something; never longer than to the next sweep. */
static void
wait_for_events(HttpServer *server, int epoll_descriptor)
{
	struct pollfd          waits[2] = {{.fd = epoll_descriptor, .events = POLLIN}, {.fd = server->wake, .events = POLLIN}};
	MHD_UNSIGNED_LONG_LONG timeout_ms;
	bool                   has_timeout = MHD_get_timeout(server->daemon, &timeout_ms) == MHD_YES;

	poll(waits, 2, has_timeout && timeout_ms < SWEEP_MS ? (int) timeout_ms : SWEEP_MS);
	if (waits[1].revents != 0)
		take_wake(server);
}

static void
quiesce(HttpServer *server)
{
	MHD_socket listener = MHD_quiesce_daemon(server->daemon);

	if (listener != MHD_INVALID_SOCKET)
		close(listener);
}

static void *
serve(void *context)
{
	HttpServer                  *server = context;
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	bool                         is_quiesced = false;

	log_set_role("http.server");
	while (!atomic_load(&server->is_stopping))
	{
		if (atomic_load(&server->is_quiesced) && !is_quiesced)
		{
			quiesce(server);
			is_quiesced = true;
		}
		sweep(server);
		MHD_run(server->daemon);
		wait_for_events(server, info->epoll_fd);
	}
	return NULL;
}

static struct MHD_Daemon *
start_daemon(HttpServer *server, struct sockaddr_in *address)
{
	const HttpLimits *limits = &server->limits;

	return MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_ITC, ntohs(address->sin_port), NULL, NULL,
		on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *) address,
		MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned) limits->connections_max * 2, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned) limits->connections_per_address_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) limits->header_bytes_max * 2,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) limits->idle_timeout_s, MHD_OPTION_NOTIFY_CONNECTION,
		on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_URI_LOG_CALLBACK, on_target, server,
		MHD_OPTION_END);
}

HttpServer *
http_start(const char *address, int port, const HttpLimits *limits, HttpHandler handler)
{
	HttpServer        *server = calloc(1, sizeof(HttpServer));
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};

	if (server == NULL || inet_pton(AF_INET, address, &in.sin_addr) != 1)
	{
		log_error("cannot listen on %s: it is not an IPv4 address", address);
		free(server);
		return NULL;
	}
	server->limits = *limits;
	server->handler = handler;
	server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	allow_descriptors(limits->connections_max * 2);
	if (server->wake >= 0)
		server->daemon = start_daemon(server, &in);
	if (server->daemon != NULL && pthread_create(&server->thread, NULL, serve, server) != 0)
	{
		MHD_stop_daemon(server->daemon);
		server->daemon = NULL;
	}
	if (server->daemon == NULL)
	{
		log_error("cannot listen on %s:%d", address, port);
		if (server->wake >= 0)
			close(server->wake);
		free(server);
		return NULL;
	}
	log_info("listening on http://%s:%d", address, port);
	return server;
}

void
http_quiesce(HttpServer *server)
{
	atomic_store(&server->is_quiesced, true);
	wake(server);
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
	MHD_stop_daemon(server->daemon);
	close(server->wake);
	free(server);
}
