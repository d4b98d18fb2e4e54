/*
 * server_stream.c
 *		Replies that go on: any thread may send more of them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/stop.h"
#include "http/server_state.h"

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
