/*
 * server_reply.c
 *		Replies: headers, bodies of their own or in common, problems.
 */
#include <jansson.h>
#include <string.h>

#include "base/stop.h"
#include "base/text.h"
#include "http/server.h"
#include "http/server_state.h"

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

static atomic_long waiting_bytes;

long
http_waiting_bytes(void)
{
	return atomic_load(&waiting_bytes);
}

void
server_note_waiting(long bytes)
{
	atomic_fetch_add(&waiting_bytes, bytes);
}

HttpText *
http_text_create(const char *text)
{
	size_t    bytes = strlen(text);
	HttpText *copy = malloc(sizeof(HttpText) + bytes + 1);

	if (copy == NULL)
		return NULL;
	atomic_init(&copy->holders, 1);
	copy->bytes = bytes;
	server_note_waiting((long) bytes);
	memcpy(copy->text, text, bytes + 1);
	return copy;
}

void
http_text_release(HttpText *text)
{
	if (text == NULL || atomic_fetch_sub(&text->holders, 1) > 1)
		return;
	server_note_waiting(-(long) text->bytes);
	free(text);
}

HttpText *
server_hold_text(HttpText *text)
{
	atomic_fetch_add(&text->holders, 1);
	return text;
}

static void
release(void *text)
{
	http_text_release(text);
}

void
server_add_headers(const HttpExchange *exchange, struct MHD_Response *response)
{
	for (int i = 0; i < exchange->nheaders; i++)
		MHD_add_response_header(response, exchange->headers[i].name, exchange->headers[i].value);
}

/* The response may be NULL: memory is short. */
static void
reply(HttpExchange *exchange, int status, const char *content_type, struct MHD_Response *response,
	  size_t bytes)
{
	if (response != NULL)
		server_add_headers(exchange, response);
	if (response != NULL && stop_announced())
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	if (response != NULL && content_type != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	exchange->status = status;
	exchange->reply_bytes = bytes;
	exchange->response = response;
	server_expect_client(exchange, true);
	if (exchange->server->limits.on_replied != NULL)
		exchange->server->limits.on_replied(exchange, status,
											(double) (monotonic_us() - exchange->began_us) / 1e6);
	if (exchange->deferred)
		server_resume(exchange->server,
					  exchange->connection); /* the exchange is the server's again from here */
}

void
http_reply(HttpExchange *exchange, int status, const char *content_type, char *body)
{
	size_t               bytes = body ? strlen(body) : 0;
	struct MHD_Response *response;

	/* of what only reads; whoever changes something has said that the outcome is unknown */
	if (body == NULL && content_type != NULL && status < 400)
		status = 503;
	server_note_waiting((long) bytes);
	exchange->waiting_bytes = bytes;
	response = MHD_create_response_from_buffer(bytes, body, MHD_RESPMEM_MUST_FREE);
	reply(exchange, status, body ? content_type : NULL, response, bytes);
	if (response == NULL)
		free(body);
}

void
http_reply_constant(HttpExchange *exchange, int status, const char *content_type, const char *body)
{
	size_t bytes = strlen(body);

	/* which only reads it */
	reply(exchange, status, content_type,
		  MHD_create_response_from_buffer(bytes, (void *) (uintptr_t) body, MHD_RESPMEM_PERSISTENT),
		  bytes);
}

void
http_reply_text(HttpExchange *exchange, int status, const char *content_type, HttpText *text)
{
	struct MHD_Response *response;

	response = MHD_create_response_from_buffer_with_free_callback_cls(text->bytes, text->text,
																	  release, text);
	if (response != NULL)
		(void) server_hold_text(text);
	reply(exchange, status, content_type, response, status != 304 ? text->bytes : 0);
}

void
http_problem(HttpExchange *exchange, int status, const char *title, const char *detail,
			 const char *field, const char *details_json)
{
	char    field_excerpt[TEXT_EXCERPT_BYTES];
	json_t *details = details_json ? json_loads(details_json, JSON_DECODE_ANY, NULL) : NULL;
	json_t *problem;
	char   *body;

	if (details == NULL)
		details = json_string(detail);
	problem = json_pack("{s:s, s:s, s:i, s:s, s:s, s:o}", "type", "about:blank", "title", title,
						"status", status, "detail", detail, "error", title, "details", details);
	if (field != NULL && problem != NULL)
	{
		text_excerpt(field, field_excerpt);
		json_object_set_new(problem, "field", json_string(field_excerpt));
	}
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
