/*
 * server_state.h
 *		What the files of the server share: libmicrohttpd is known to them alone.
 */
#ifndef SERVER_STATE_H
#define SERVER_STATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/head.h"
#include "http/server.h"

/* ---------- what differs between versions of libmicrohttpd ---------- */

/* What 0.9.75 refuses by itself: since 0.9.77 values that go on in the next line, and blanks and
 * NULs in a target, are only refused if one asks for it. */
#if MHD_VERSION >= 0x00097701
#define LIBRARY_STRICTNESS MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#else
#define LIBRARY_STRICTNESS
#endif

/* Up to 0.9.75 it takes a NUL for the end of a value, or of a target, and leaves out what follows;
 * and of a value that goes on in the next line it gives the first line. Later versions refuse
 * both. */
#define LIBRARY_LEAVES_OUT (MHD_VERSION < 0x01000000)

/* ---------- limits ---------- */

#define TARGET_BYTES_MAX  4096
#define REPLY_HEADERS_MAX 16
#define BODY_BYTES_FIRST  1024
#define FINISH_MS_MAX     5000 /* for replies to be sent at the end */
#define LAST_ACCEPTED_MAX 4096 /* more does no system have waiting */
#define QUIET_MS          50   /* nobody has asked for anything for so long */
#define SWEEP_MS          250
#define ROUND_MS_MAX      20000 /* a thread that is seen nowhere for longer is stuck */
#define STREAM_BLOCK      16384
#define DESCRIPTORS_SPARE 200

/* An open connection, in the server's list, which only its thread touches. */
typedef struct Connection
{
	struct Connection *next;
	struct Connection *previous;
	int                descriptor;
	bool               is_surplus; /* one more than there may be */
	_Atomic long long
		since_ms; /* since when the client has been due to send or to take; 0: it waits for us */
} Connection;

struct HttpServer
{
	struct MHD_Daemon *daemon;
	const char        *address;
	HttpLimits         limits;
	HttpHandler        handler;
	atomic_int         exchanges; /* begun and not completed */
	atomic_long        bodies_bytes;
	Connection        *connections;
	int                nconnections;
	int                connections_max; /* accepted, be they surplus */
	pthread_t          thread;
	int                wake; /* an eventfd: something is wanted of the thread */
	atomic_bool        is_woken;
	long long          sweep_due_ms;
	_Atomic long long  alive_ms;    /* when the thread was last seen at work */
	atomic_bool        is_quiesced; /* wanted; the thread does it */
	atomic_bool        is_closed;   /* to new connections */
	atomic_bool        is_stopping;
};

struct HttpText
{
	atomic_int holders;
	size_t     bytes;
	char       text[];
};

/* server_hold_text: there is another holder, who releases it. */
extern HttpText *server_hold_text(HttpText *text);

struct HttpExchange
{
	HttpServer            *server;
	struct MHD_Connection *connection;
	Connection            *client;     /* NULL if memory was short */
	char                  *method;     /* NULL: the head is not there yet */
	char                  *target;     /* as it came */
	const char            *target_end; /* in the library's memory: where it ended */
	HttpHead               head;
	HttpTarget             parsed;
	char                  *body;
	bool                   ignores_body; /* nobody asks for it: it is counted and not kept */
	size_t                 body_bytes;
	size_t                 body_room;
	int                    refused;   /* status to answer with; 0: none */
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
	size_t      waiting_bytes; /* of the reply, if its body is nobody else's */
	long long   began_us;
	const void *note;
};

/* server_add_headers adds what http_set_header() was given. */
extern void server_add_headers(const HttpExchange *exchange, struct MHD_Response *response);

/* server_expect_client: from now on the client is due to send or to take something, or no more. */
extern void server_expect_client(HttpExchange *exchange, bool expected);

/* server_note_alive: the thread goes on, though a round of it may take long: a crowd's handshakes.
 */
extern void server_note_alive(HttpServer *server);

/* server_sweep shuts overdue connections down; server_on_connection is the library's callback. */
extern void server_sweep(HttpServer *server);
extern void server_on_connection(void *context, struct MHD_Connection *connection,
								 void **socket_context, enum MHD_ConnectionNotificationCode code);

/* server_note_waiting: so many bytes more, or fewer, wait for their clients. */
extern void server_note_waiting(long bytes);

extern void            server_resume(HttpServer *server, struct MHD_Connection *connection);
extern enum MHD_Result server_send_response(HttpExchange *exchange);
extern void            server_receive(HttpExchange *exchange, const char *data, size_t bytes);
extern void            server_drop_body(HttpExchange *exchange);
extern void            server_refuse(HttpExchange *exchange);
extern void            server_complain(HttpExchange *exchange, int status, const char *complaint,
									   const char *field);
extern void            server_check_head(HttpExchange *exchange, const char *version);

#endif /* SERVER_STATE_H */
