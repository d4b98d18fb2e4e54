/*
 * inflate.c
 *		A body that came compressed, as it arrives, by zlib.
 *
 * gzip, of which one may follow another; deflate with zlib's head, as the standard has it.
 */
#include "sync/inflate.h"

#include <stdlib.h>
#include <strings.h>
#include <zlib.h>

#define TEXT_BYTES  16384
#define EITHER_HEAD 32 /* added to the window: gzip's head or zlib's */
#define WINDOW_BITS 15
#define HEAD_BYTES  2

struct Inflate
{
	InflateSink sink;
	void       *context;
	z_stream    stream;
	bool        has_ended;
	bool        has_text;   /* some has come before */
	bool        may_be_raw; /* deflate, by those who leave its head out */
};

bool
inflate_knows(const char *encoding)
{
	return strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "x-gzip") == 0 ||
		   strcasecmp(encoding, "deflate") == 0;
}

Inflate *
inflate_create(const char *encoding, InflateSink sink, void *context)
{
	Inflate *inflate = calloc(1, sizeof(Inflate));

	if (inflate == NULL)
		return NULL;
	inflate->sink = sink;
	inflate->context = context;
	inflate->may_be_raw = strcasecmp(encoding, "deflate") == 0;
	if (inflateInit2(&inflate->stream, WINDOW_BITS + EITHER_HEAD) == Z_OK)
		return inflate;
	free(inflate);
	return NULL;
}

void
inflate_free(Inflate *inflate)
{
	if (inflate == NULL)
		return;
	inflateEnd(&inflate->stream);
	free(inflate);
}

/* Takes as much as fills the room once; Z_BUF_ERROR: it needs more. */
static int
step(Inflate *body, bool *is_wanted)
{
	char text[TEXT_BYTES];
	int  status;

	body->stream.next_out = (Bytef *) text;
	body->stream.avail_out = sizeof(text);
	status = inflate(&body->stream, Z_NO_FLUSH);
	*is_wanted = body->stream.avail_out == sizeof(text) ||
				 body->sink(body->context, text, sizeof(text) - body->stream.avail_out);
	return status;
}

bool
inflate_add(Inflate *inflate, const char *data, size_t bytes, const char **complaint)
{
	*complaint = NULL;
	inflate->stream.next_in = (Bytef *) data;
	inflate->stream.avail_in = (uInt) bytes;
	for (;; inflate->has_text |= inflate->stream.total_in > HEAD_BYTES)
	{
		bool is_wanted;
		int  status;

		/* some fill up with zeros what is written in blocks */
		while (inflate->has_ended && inflate->stream.avail_in > 0 && *inflate->stream.next_in == 0)
		{
			inflate->stream.next_in++;
			inflate->stream.avail_in--;
		}
		if (inflate->has_ended && inflate->stream.avail_in > 0)
		{
			(void) inflateReset(&inflate->stream);
			inflate->has_ended = false;
		}
		if (inflate->stream.avail_in == 0 && inflate->has_ended)
			return true;
		status = step(inflate, &is_wanted);
		if (!is_wanted)
			return false;
		if (status == Z_STREAM_END)
			inflate->has_ended = true;
		else if (status == Z_BUF_ERROR)
			return true;
		else if (status == Z_DATA_ERROR && inflate->may_be_raw && inflate->stream.total_out == 0 &&
				 inflate->stream.total_in <= HEAD_BYTES && !inflate->has_text)
		{
			/* deflate without the head that the standard wants */
			inflate->may_be_raw = false;
			(void) inflateReset2(&inflate->stream, -WINDOW_BITS);
			inflate->stream.next_in = (Bytef *) data;
			inflate->stream.avail_in = (uInt) bytes;
		}
		else if (status != Z_OK)
		{
			*complaint = status == Z_MEM_ERROR ? "out of memory"
											   : "the feed is not what its Content-Encoding says";
			return false;
		}
	}
}

bool
inflate_is_whole(const Inflate *inflate)
{
	return inflate->has_ended;
}
