/*
 * server.h
 *		A small HTTP server: requests in, replies from any thread.
 *
 * The only room that knows libmicrohttpd.
 */
#ifndef BRIDGE_HTTP_H
#define BRIDGE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct HttpServer HttpServer;

/* One request and its reply. */
typedef struct HttpExchange HttpExchange;

/*
 * Called on a server thread with a whole request. It must either reply, or call
 * http_defer() and see to it that another thread replies, always.
 */
typedef void (*HttpHandler)(HttpExchange *exchange);

typedef struct HttpLimits
{
	int connections_max; /* beyond it a request is answered with 503, and beyond twice that none is
							accepted */
	int  connections_per_address_max;
	int  header_bytes_max;
	int  body_bytes_max;
	long bodies_bytes_max; /* of all bodies together; beyond it 503 */
	int idle_timeout_s; /* a request must be there within that, byte by byte or not, and so must its
						   reply be taken */
	bool log_requests;
	bool with_tls;    /* server_tls_load() has been called */
	bool shares_port; /* the next one may take the port over while this one still has it */
	/* called with a request's head, before its body is taken; false if it has replied to refuse it.
	 * May be NULL */
	bool (*admit)(HttpExchange *exchange);
	/* a reply was ready after that time; not called for streams. May be NULL */
	void (*on_replied)(const HttpExchange *exchange, int status, double seconds);
	/* called on the server's thread every quarter of a second; may reply to deferred exchanges. May
	 * be NULL */
	void (*tick)(void);
} HttpLimits;

/* http_start listens at an address of IPv4 or IPv6, or, without a port, at "unix:/path"; NULL, and
 * a line in the log, if it cannot. */
extern HttpServer *http_start(const char *address, int port, const HttpLimits *limits,
							  HttpHandler handler);

/* http_is_alive: has the server's thread gone round within the last seconds? */
extern bool http_is_alive(const HttpServer *server);

/* http_quiesce refuses new connections; what is under way goes on. */
extern void http_quiesce(HttpServer *server);

/* http_wait_until_quiet waits after http_quiesce(), max_ms at most, for what clients have begun to
 * ask to be answered. */
extern void http_wait_until_quiet(HttpServer *server, int max_ms);

/* http_stop ends the server; every deferred exchange must have been replied to. */
extern void http_stop(HttpServer *server);

/* http_client_address gives the client's address as text, "-" if it has none. */
extern void http_client_address(const HttpExchange *exchange, char *text, size_t size);

/* The request. Strings live as long as the exchange; NULL where there is none. */
extern const char *http_method(const HttpExchange *exchange);

/* The path's segments, percent-encoding undone: "/order/a%2Fb" has "order" and "a/b". */
extern int         http_segment_count(const HttpExchange *exchange);
extern const char *http_segment(const HttpExchange *exchange, int number);
extern const char *http_query(const HttpExchange *exchange, const char *name);
extern const char *http_header(const HttpExchange *exchange, const char *name);
extern const char *
http_host(const HttpExchange *exchange); /* whom the client thinks it asks: "host" or "host:port" */
extern const char *http_body(const HttpExchange *exchange, size_t *bytes);

/* http_ignore_body: nobody is going to ask for the body, and it is not to take memory. Before it is
 * taken, that is, by "admit". */
extern void http_ignore_body(HttpExchange *exchange);

/* A note that "admit" may leave for the handler; NULL if it left none. */
extern void        http_set_note(HttpExchange *exchange, const void *note);
extern const void *http_note(const HttpExchange *exchange);

/* http_defer: another thread will reply. Call it before that thread can. */
extern void http_defer(HttpExchange *exchange);

/* http_set_header adds a header to the reply; the value is copied. Before http_reply only. */
extern void http_set_header(HttpExchange *exchange, const char *name, const char *value);

/*
 * http_reply sends the reply; the body is malloc'd and taken over. NULL with a content type: memory
 * was short for it, and a success becomes 503; NULL without: there is none.
 * The exchange must not be touched afterwards, unless the handler is replying.
 */
extern void http_reply(HttpExchange *exchange, int status, const char *content_type, char *body);

/* http_reply_constant is http_reply with a body that is there for ever. */
extern void http_reply_constant(HttpExchange *exchange, int status, const char *content_type,
								const char *body);

/* http_waiting_bytes: what the bodies of all replies take, and of streams what was sent to them,
 * that wait for their clients. */
extern long http_waiting_bytes(void);

/*
 * A text that several replies have in common. http_text_create copies it and is its first holder;
 * http_reply_text is http_reply with it, for as long as it takes to send; the last one that
 * releases it frees it. NULL if memory is short: the reply is then 503.
 */
typedef struct HttpText HttpText;

extern HttpText *http_text_create(const char *text);
extern void      http_text_release(HttpText *text);
extern void      http_reply_text(HttpExchange *exchange, int status, const char *content_type,
								 HttpText *text);

/*
 * http_problem replies with application/problem+json (RFC 9457): type, title,
 * status, detail, and "error" and "details" for older clients. "details_json"
 * is JSON, or NULL for the detail as a string; "field" may be NULL, and a stranger's: its excerpt
 * is told.
 */
extern void http_problem(HttpExchange *exchange, int status, const char *title, const char *detail,
						 const char *field, const char *details_json);

/* A reply that goes on: any thread may send more of it. */
typedef struct HttpStream HttpStream;

/*
 * http_stream_begin replies 200 with a body that is yet to come; NULL, with
 * nothing replied, if memory is short. Within the handler only. The caller gets a
 * reference and gives it back with http_stream_release, which ends the reply.
 */
extern HttpStream *http_stream_begin(HttpExchange *exchange, const char *content_type);

/* http_stream_send sends the text from that byte on, and holds it meanwhile; false if the client is
 * gone or memory is short. */
extern bool http_stream_send(HttpStream *stream, HttpText *text, size_t from)
	__attribute__((warn_unused_result));

/* http_stream_waiting returns how many bytes the client has not taken yet. */
extern size_t http_stream_waiting(HttpStream *stream);

/* http_stream_release lets the client take what is waiting, within the limits; http_stream_abort
 * does not. */
extern void http_stream_release(HttpStream *stream);
extern void http_stream_abort(HttpStream *stream);

#endif /* BRIDGE_HTTP_H */
