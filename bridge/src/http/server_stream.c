/*
 * server_stream.c
 *		Replies that go on: any thread may send more of them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/stop.h"
#include "http/server_state.h"

/* A text, or the rest of one. */
typedef struct Piece
{
	struct Piece *next;
	HttpText     *text;
	size_t        at;
} Piece;

struct HttpStream
{
	pthread_mutex_t        mutex;
	HttpServer            *server;
	struct MHD_Connection *connection;
	Connection            *client; /* while has_client; NULL if memory was short */
	Piece                 *first;  /* to be sent */
	Piece                **end;
	size_t                 bytes;        /* of all pieces */
	bool                   is_suspended; /* until there is something to send */
	bool                   has_owner;
	bool                   has_client;
	bool                   is_aborted;
};

/* Called with the mutex locked. */
static void
drop_first_piece(HttpStream *stream)
{
	Piece *piece = stream->first;

	stream->first = piece->next;
	if (stream->first == NULL)
		stream->end = &stream->first;
	http_text_release(piece->text);
	free(piece);
}

static void
drop_pieces(HttpStream *stream)
{
	while (stream->first != NULL)
		drop_first_piece(stream);
	stream->bytes = 0;
}

/* Frees the stream when neither its owner nor the server needs it. Called with the mutex locked. */
static void
unlock_stream(HttpStream *stream)
{
	bool is_needed = stream->has_owner || stream->has_client;

	pthread_mutex_unlock(&stream->mutex);
	if (is_needed)
		return;
	pthread_mutex_destroy(&stream->mutex);
	drop_pieces(stream);
	free(stream);
}

/* Called with the mutex locked. */
static size_t
take_waiting(HttpStream *stream, char *buffer, size_t max)
{
	size_t taken = 0;

	while (stream->first != NULL && taken < max)
	{
		Piece *piece = stream->first;
		size_t bytes = piece->text->bytes - piece->at;

		if (bytes > max - taken)
			bytes = max - taken;
		memcpy(buffer + taken, piece->text->text + piece->at, bytes);
		piece->at += bytes;
		taken += bytes;
		if (piece->at == piece->text->bytes)
			drop_first_piece(stream);
	}
	stream->bytes -= taken;
	return taken;
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
		result = (ssize_t) take_waiting(stream, buffer, max);
	else if (!stream->has_owner)
		result = stream->is_aborted ? MHD_CONTENT_READER_END_WITH_ERROR
									: MHD_CONTENT_READER_END_OF_STREAM;
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
	server_resume(stream->server, stream->connection);
}

HttpStream *
http_stream_begin(HttpExchange *exchange, const char *content_type)
{
	HttpStream          *stream = calloc(1, sizeof(HttpStream));
	struct MHD_Response *response;

	if (stream == NULL)
		return NULL;
	pthread_mutex_init(&stream->mutex, NULL);
	stream->end = &stream->first;
	stream->server = exchange->server;
	stream->connection = exchange->connection;
	stream->client = exchange->client;
	stream->has_owner = stream->has_client = true;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_stream_read,
												 stream, on_stream_free);
	if (response == NULL)
	{
		stream->has_client = false;
		http_stream_release(stream);
		return NULL;
	}
	server_add_headers(exchange, response);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
	MHD_add_response_header(response, "X-Accel-Buffering", "no"); /* nginx would gather it */
	exchange->status = 200;
	exchange->response = response;
	return stream;
}

bool
http_stream_send(HttpStream *stream, HttpText *text, size_t from)
{
	Piece *piece = malloc(sizeof(Piece));
	bool   ok;

	pthread_mutex_lock(&stream->mutex);
	ok = stream->has_client && piece != NULL;
	if (ok)
	{
		*piece = (Piece){.text = server_hold_text(text), .at = from};
		*stream->end = piece;
		stream->end = &piece->next;
		stream->bytes += text->bytes - from;
		resume_stream(stream);
	}
	else
		free(piece);
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
		drop_pieces(stream);
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

enum MHD_Result
server_send_response(HttpExchange *exchange)
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
