/*
 * server_request.c
 *		A request taken in, and looked at before anybody sees it.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/server_state.h"

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
	return exchange->parsed.authority != NULL ? exchange->parsed.authority
											  : http_header(exchange, "Host");
}

void
http_client_address(const HttpExchange *exchange, char *text, size_t size)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr_in6 *ip6;

	snprintf(text, size, "-");
	if (info == NULL || info->client_addr == NULL)
		return;
	if (info->client_addr->sa_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *) info->client_addr)->sin_addr, text,
				  (socklen_t) size);
	if (info->client_addr->sa_family != AF_INET6)
		return;
	ip6 = (struct sockaddr_in6 *) info->client_addr;
	/* one of IPv4 at a socket of both is shown as it is known */
	if (IN6_IS_ADDR_V4MAPPED(&ip6->sin6_addr))
		inet_ntop(AF_INET, ip6->sin6_addr.s6_addr + 12, text, (socklen_t) size);
	else
		inet_ntop(AF_INET6, &ip6->sin6_addr, text, (socklen_t) size);
}

const char *
http_body(const HttpExchange *exchange, size_t *bytes)
{
	*bytes = exchange->body_bytes;
	return exchange->body;
}

void
http_ignore_body(HttpExchange *exchange)
{
	exchange->ignores_body = true;
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

/* All bodies together have a limit too; one that is alone has that of a body. */
static bool
may_grow(const HttpExchange *exchange, size_t room)
{
	long others = atomic_load(&exchange->server->bodies_bytes) - (long) exchange->body_room;

	if (room <= BODY_BYTES_FIRST)
		return true; /* an ordinary order always has room: connections are bounded too */
	return others == 0 || others + (long) room <= exchange->server->limits.bodies_bytes_max;
}

/* What is refused takes no room while the rest of it arrives. */
static void
refuse_body(HttpExchange *exchange, int status)
{
	server_drop_body(exchange);
	exchange->refused = status;
}

/* Takes in a piece of the body, NUL-terminated as a whole; past the limit it is thrown away. */
void
server_receive(HttpExchange *exchange, const char *data, size_t bytes)
{
	size_t needed = exchange->body_bytes + bytes + 1;

	if (exchange->refused != 0)
		return;
	if (needed > (size_t) exchange->server->limits.body_bytes_max + 1)
	{
		refuse_body(exchange, MHD_HTTP_CONTENT_TOO_LARGE);
		return;
	}
	if (exchange->ignores_body)
	{
		exchange->body_bytes += bytes;
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
			refuse_body(exchange, MHD_HTTP_SERVICE_UNAVAILABLE);
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
void
server_drop_body(HttpExchange *exchange)
{
	free(exchange->body);
	atomic_fetch_sub(&exchange->server->bodies_bytes, (long) exchange->body_room);
	exchange->body = NULL;
	exchange->body_bytes = exchange->body_room = 0;
}

/* Replies to a request that is not to be served; the connection ends with it, because what follows
 * may be read in two ways. */
void
server_refuse(HttpExchange *exchange)
{
	static const struct
	{
		int         status;
		const char *title;
	} titles[] = {{400, "Bad Request"},        {413, "Content Too Large"},
				  {414, "URI Too Long"},       {415, "Unsupported Media Type"},
				  {417, "Expectation Failed"}, {431, "Request Header Fields Too Large"},
				  {501, "Not Implemented"}};
	const char *title = "Service Unavailable";
	char        detail[128];

	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
	{
		if (titles[i].status == exchange->refused)
			title = titles[i].title;
	}
	snprintf(detail, sizeof(detail), "body must be at most %d bytes long",
			 exchange->server->limits.body_bytes_max);
	http_set_header(exchange, MHD_HTTP_HEADER_CONNECTION, "close");
	if (exchange->refused == MHD_HTTP_SERVICE_UNAVAILABLE)
		http_set_header(exchange, "Retry-After", "1");
	http_problem(
		exchange, exchange->refused, title,
		exchange->refused == MHD_HTTP_CONTENT_TOO_LARGE ? detail
		: exchange->complaint != NULL                   ? exchange->complaint
														: "there is no room for the body",
		exchange->refused == MHD_HTTP_CONTENT_TOO_LARGE ? "body" : exchange->complaint_field, NULL);
}

/* ---------- the head ---------- */

void
server_complain(HttpExchange *exchange, int status, const char *complaint, const char *field)
{
	if (exchange->refused != 0)
		return;
	exchange->refused = status;
	exchange->complaint = complaint;
	exchange->complaint_field = field;
}

/*
 * Did the field end where the library says (LIBRARY_LEAVES_OUT)? It cuts the head up in
 * place, so each field begins right after the end of the line before: behind its
 * value and a NUL in place of each of CR and LF.
 */
static bool
follows(const char *end_of_line_before, const char *start)
{
	return !LIBRARY_LEAVES_OUT || end_of_line_before == NULL || start == end_of_line_before + 1 ||
		   start == end_of_line_before + 2;
}

/* True if nothing but the end of the line, and of the head, follows. */
static bool
ends_head(const char *end_of_line)
{
	return !LIBRARY_LEAVES_OUT || end_of_line[1] == '\0';
}

typedef struct Gathering
{
	HttpExchange *exchange;
	const char   *end_of_line_before; /* NULL: of the request line */
} Gathering;

static enum MHD_Result
on_field(void *context, enum MHD_ValueKind kind, const char *name, size_t name_bytes,
		 const char *value, size_t value_bytes)
{
	Gathering    *gathering = context;
	HttpExchange *exchange = gathering->exchange;

	(void) kind;
	if (!follows(gathering->end_of_line_before, name))
		server_complain(exchange, MHD_HTTP_BAD_REQUEST,
						"a header field has a NUL character, or goes on in the next line", NULL);
	if (!http_head_add(&exchange->head, name, name_bytes, value ? value : "", value_bytes))
		server_complain(exchange, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE,
						"there are too many header fields", NULL);
	gathering->end_of_line_before = value ? value + value_bytes : NULL;
	return MHD_YES;
}

/* The library gives it room for twice as much, for what else it keeps there. */
static size_t
head_bytes(const HttpExchange *exchange)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	return info != NULL ? info->header_size : 0;
}

void
server_check_head(HttpExchange *exchange, const char *version)
{
	Gathering   gathering = {.exchange = exchange};
	const char *complaint;
	const char *field = NULL;
	int         status;

	exchange->head.is_http_1_0 = strcmp(version, "HTTP/1.0") == 0;
	MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, on_field, &gathering);
	if (gathering.end_of_line_before != NULL && !ends_head(gathering.end_of_line_before))
		server_complain(exchange, MHD_HTTP_BAD_REQUEST,
						"a header field has a NUL character, or goes on in the next line", NULL);
	if (!follows(exchange->target_end, version))
		server_complain(exchange, MHD_HTTP_BAD_REQUEST, "the target has a NUL character or a blank",
						NULL);
	status = http_head_check(&exchange->head, &complaint, &field);
	if (status != 0)
		server_complain(exchange, status, complaint, field);
	if (head_bytes(exchange) > (size_t) exchange->server->limits.header_bytes_max)
		server_complain(exchange, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE,
						"the head is longer than HEADER_BYTES_MAX", NULL);
	if (strlen(exchange->target) > TARGET_BYTES_MAX)
		server_complain(exchange, MHD_HTTP_URI_TOO_LONG, "the target is too long", NULL);
	status = http_target_parse(&exchange->parsed, exchange->target, &complaint);
	if (status != 0)
		server_complain(exchange, status, complaint, NULL);
}
