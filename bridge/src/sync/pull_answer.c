/*
 * pull_answer.c
 *		What a vendor answers to a pull: its headers, its body, what comes of it.
 *
 * When the vendor counted is the time in the feed, else its Last-Modified, else
 * its Date, else when we asked; never later than that, and a clock that
 * is ahead of ours is set back by as much as its Date is. Too early a time costs a
 * sale at worst; too late a time would sell units twice.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/stop.h"
#include "base/text.h"
#include "sync/link_header.h"
#include "sync/pull_state.h"

#define RETRY_AFTER_S_MAX   3600
#define CHARSET_BYTES_MAX   64
#define SAME_SECOND_S       2 /* RFC 9110, 8.8.2.2, has 60 for clocks that are not one */
#define HTTP_STATUS_OK      200
#define HTTP_STATUS_MANY    429
#define HTTP_STATUS_UNAVAIL 503

void
pull_fail(PullResult *result, const char *why)
{
	result->status = PULL_FAILED;
	if (result->error[0] == '\0')
		text_escape(why, result->error, sizeof(result->error)); /* it may quote any bytes */
}

/* ---------- as it arrives ---------- */

/* The value of Content-Type's charset; false if it has none. */
static bool
find_charset(const char *type, char charset[CHARSET_BYTES_MAX])
{
	const char *at = strcasestr(type, "charset=");
	size_t      bytes;

	if (at == NULL)
		return false;
	at += strlen("charset=");
	at += *at == '"' || *at == '\'';
	bytes = strcspn(at, "\"'; \t");
	if (bytes == 0 || bytes >= CHARSET_BYTES_MAX)
		return false;
	memcpy(charset, at, bytes);
	charset[bytes] = '\0';
	return true;
}

/* A feed of what the answer says it is; NULL if memory is short. */
static Feed *
begin_feed(Pull *pull)
{
	const char *type = NULL;
	char        charset[CHARSET_BYTES_MAX];
	bool        has_charset;

	curl_easy_getinfo(pull->curl, CURLINFO_CONTENT_TYPE, &type);
	has_charset = type != NULL && find_charset(type, charset);
	return feed_create(pull->mapping,
					   type != NULL && strncasecmp(type, "text/csv", strlen("text/csv")) == 0,
					   has_charset ? charset : NULL, config.feed_items_max);
}

/* Takes the next piece of the feed's text. */
static bool
take_text(void *context, const char *text, size_t bytes)
{
	Pull       *pull = context;
	PullResult *result = pull->result;
	bool        is_feed = feed_add(result->feed, text, bytes);

	result->bytes += bytes;
	pull_hold(result, result->bytes + feed_items_bytes(result->feed));
	if (result->bytes > (size_t) config.feed_bytes_max)
		pull_fail(result, "the feed is larger than FEED_BYTES_MAX");
	else if (monotonic_us() >= pull->deadline_us)
		pull_fail(result, "the feed did not come whole within SYNC_TIMEOUT_S");
	else if (!is_feed)
		pull_fail(result, feed_error(result->feed));
	else
		return true;
	return false;
}

/* Is what a vendor names as Content-Encoding the encoding of its text, which is another thing? */
static bool
is_charset(const char *encoding)
{
	static const char *const names[] = {"utf",      "iso-8859", "latin",  "windows-",
										"us-ascii", "ascii",    "binary", "8bit",
										"7bit",     "text",     "none",   "identity"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strncasecmp(encoding, names[i], strlen(names[i])) == 0)
			return true;
	}
	return *encoding == '\0';
}

/* Makes ready for the body; false, with the result's error, if it cannot be taken. */
static bool
begin_body(Pull *pull)
{
	if (!is_charset(pull->encoding) && !inflate_knows(pull->encoding))
	{
		pull_fail(pull->result, "the feed's Content-Encoding is not known: gzip and deflate are");
		return false;
	}
	pull->result->feed = begin_feed(pull);
	if (inflate_knows(pull->encoding))
		pull->inflate = inflate_create(pull->encoding, take_text, pull);
	if (pull->result->feed != NULL && (pull->inflate != NULL || !inflate_knows(pull->encoding)))
		return true;
	pull_fail(pull->result, "out of memory");
	return false;
}

size_t
pull_on_body(char *data, size_t size, size_t count, void *context)
{
	Pull       *pull = context;
	size_t      bytes = size * count;
	long        status = 0;
	const char *complaint = NULL;

	(void) sched_yield(); /* what customers wait for goes first */
	curl_easy_getinfo(pull->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == HTTP_STATUS_OK && !puller_lets_on(pull))
	{
		pull->waits_us = monotonic_us();
		pull->has_waited = true;
		return CURL_WRITEFUNC_PAUSE; /* and comes again */
	}
	pull->raw_bytes += bytes;
	if (pull->raw_bytes > (size_t) config.feed_bytes_max)
	{
		pull_fail(pull->result, "the feed is larger than FEED_BYTES_MAX");
		return CURL_WRITEFUNC_ERROR;
	}
	if (status != HTTP_STATUS_OK)
		return bytes; /* of no interest */
	if (pull->result->feed == NULL && !begin_body(pull))
		return CURL_WRITEFUNC_ERROR;
	if (pull->inflate == NULL ? take_text(pull, data, bytes)
							  : inflate_add(pull->inflate, data, bytes, &complaint))
		return bytes;
	if (complaint != NULL)
		pull_fail(pull->result, complaint);
	return CURL_WRITEFUNC_ERROR;
}

/* A header line's value and its length if the line has that name, else NULL. */
static const char *
header_value(const char *line, size_t *bytes, const char *name)
{
	size_t length = strlen(name);

	if (*bytes <= length || strncasecmp(line, name, length) != 0)
		return NULL;
	line += length;
	*bytes -= length;
	while (*bytes > 0 && (*line == ' ' || *line == '\t'))
	{
		line++;
		(*bytes)--;
	}
	while (*bytes > 0 && strchr(" \t\r\n", line[*bytes - 1]) != NULL)
		(*bytes)--;
	return line;
}

/* Copies a header's value if it has that name; values that would not go into the database are left
 * out. */
static bool
copy_header(char *to, size_t room, const char *line, size_t bytes, const char *name)
{
	const char *value = header_value(line, &bytes, name);

	if (value == NULL)
		return false;
	for (size_t i = 0; i < bytes; i++)
	{
		if (value[i] < ' ' || value[i] > '~')
			return false;
	}
	if (bytes >= room)
		return false;
	memcpy(to, value, bytes);
	to[bytes] = '\0';
	return true;
}

/* Another answer begins: the one before was a redirect. */
static void
forget_answer(Pull *pull)
{
	PullResult *result = pull->result;

	pull->has_connected = pull->is_address_refused = false;
	*result->etag = *result->last_modified = *result->date = *pull->encoding = '\0';
	pull->date = pull->received_at = 0;
	pull->has_next_page = pull->is_chunked = false;
}

static void
see_length(Pull *pull, const char *line, size_t bytes)
{
	const char *coding = header_value(line, &bytes, "Transfer-Encoding:");

	if (coding != NULL && bytes >= strlen("chunked") &&
		strncasecmp(coding + bytes - strlen("chunked"), "chunked", strlen("chunked")) == 0)
		pull->is_chunked = true;
}

static void
see_pages(Pull *pull, const char *line, size_t bytes)
{
	const char *links = header_value(line, &bytes, "Link:");

	if (links != NULL && link_header_has_next(links, bytes))
		pull->has_next_page = true;
}

size_t
pull_on_header(char *data, size_t size, size_t count, void *context)
{
	Pull       *pull = context;
	PullResult *result = pull->result;
	size_t      bytes = size * count;

	if (bytes >= strlen("HTTP/") && memcmp(data, "HTTP/", strlen("HTTP/")) == 0)
		forget_answer(pull);
	see_pages(pull, data, bytes);
	see_length(pull, data, bytes);
	(void) copy_header(result->etag, PULL_TAG_BYTES_MAX, data, bytes, "ETag:");
	(void) copy_header(result->last_modified, PULL_TAG_BYTES_MAX, data, bytes, "Last-Modified:");
	/* what names a charset takes nothing away from what names a coding */
	if (!inflate_knows(pull->encoding))
		(void) copy_header(pull->encoding, ENCODING_BYTES_MAX, data, bytes, "Content-Encoding:");
	if (copy_header(result->date, PULL_TAG_BYTES_MAX, data, bytes, "Date:"))
	{
		pull->date = (double) curl_getdate(result->date, NULL);
		pull->received_at = wall_clock_s();
	}
	return bytes;
}

/* ---------- when it is there ---------- */

/* Is the tag one of nginx's or Apache's, "mtime-size" in hexadecimal? */
static bool
is_made_of_time(const char *etag)
{
	const char *tag = etag + strspn(etag, "W/\"");
	size_t      length = strspn(tag, "-0123456789abcdefABCDEF");

	return tag[length] == '"' && *tag != '-' && memchr(tag, '-', length) != NULL;
}

/* When the vendor counted, as far as its headers and our clock tell. */
void
pull_set_times(Pull *pull)
{
	PullResult *result = pull->result;
	double      modified =
        *result->last_modified ? (double) curl_getdate(result->last_modified, NULL) : -1;
	double header = modified > 0 ? modified : pull->date;

	result->clock_ahead = pull->date > pull->received_at ? pull->date - pull->received_at : 0;
	result->as_of_latest = result->began_at;
	result->as_of_rule = "request";
	result->told = NULL;
	/* what was changed in the very second may be changed once more in it: the same time, and a tag
	 * that is made of it, would stand for both */
	if (modified > 0 && (pull->date > 0 ? pull->date : wall_clock_s()) - modified < SAME_SECOND_S)
	{
		result->time_is_weak = true;
		result->tag_is_weak = is_made_of_time(result->etag);
	}
	if (header <= 0)
		return;
	result->told = modified > 0 ? result->last_modified : result->date;
	if (header - result->clock_ahead >= result->began_at)
		return;
	result->as_of_latest = header - result->clock_ahead;
	result->as_of_rule = modified > 0 ? "Last-Modified" : "Date";
}

static void
fail_with_status(Pull *pull, long status)
{
	curl_off_t retry_after_s = 0;
	char       why[128];
	int        length = snprintf(why, sizeof(why), "the vendor answered with status %ld", status);

	if (status == HTTP_STATUS_MANY || status == HTTP_STATUS_UNAVAIL)
		curl_easy_getinfo(pull->curl, CURLINFO_RETRY_AFTER, &retry_after_s);
	if (retry_after_s > 0)
	{
		pull->result->retry_after_s =
			retry_after_s < RETRY_AFTER_S_MAX ? (double) retry_after_s : RETRY_AFTER_S_MAX;
		snprintf(why + length, sizeof(why) - (size_t) length,
				 " and wants to be left alone for %ld s", (long) retry_after_s);
	}
	pull_fail(pull->result, why);
}

/* Does the body end with its connection, and nobody know whether it was all? */
static bool
has_open_end(const Pull *pull)
{
	curl_off_t length = -1;
	long       version = 0;

	curl_easy_getinfo(pull->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(pull->curl, CURLINFO_HTTP_VERSION, &version);
	return length < 0 && !pull->is_chunked && version < CURL_HTTP_VERSION_2_0;
}

void
pull_finish(Pull *pull, CURLcode code)
{
	PullResult *result = pull->result;
	long        status = 0;
	bool        broke_off = code != CURLE_OK && result->error[0] == '\0'; /* by itself */

	pull->is_done = true;
	if (result->error[0] != '\0' && code == CURLE_OK)
		code = CURLE_WRITE_ERROR;
	curl_easy_getinfo(pull->curl, CURLINFO_RESPONSE_CODE, &status);
	pull_set_times(pull);
	if (code != CURLE_OK && pull->is_address_refused && !pull->has_connected)
		pull_fail(result,
				  "the feed's host has an address that is not allowed: see FEED_ALLOW_ADDRESSES");
	else if (code != CURLE_OK)
		pull_fail(result, pull->reason[0] != '\0' ? pull->reason : curl_easy_strerror(code));
	else if (status == 304 && !pull->is_conditional)
		pull_fail(result, "the vendor answered with status 304 to a question without a condition");
	else if (status == 304)
		result->status = PULL_UNCHANGED;
	else if (status != HTTP_STATUS_OK)
		fail_with_status(pull, status);
	else if (pull->has_next_page)
		pull_fail(result, "the feed goes on in a next page (Link: rel=next): pages are not "
						  "followed");
	else if (result->feed == NULL)
		pull_fail(result, "the feed is empty");
	else if (pull->inflate != NULL && !inflate_is_whole(pull->inflate))
		pull_fail(result, "the feed is compressed, and its end is missing");
	/* it could have been cut at the end of a line */
	else if (feed_is_csv(result->feed) && pull->inflate == NULL && has_open_end(pull))
		pull_fail(result, "the CSV ends with its connection: without Content-Length or chunks "
						  "nobody knows whether it is whole");
	else if (!feed_finish(result->feed))
		pull_fail(result, feed_error(result->feed));
	else
		result->status = PULL_BROUGHT;
	result->is_excused =
		result->status == PULL_FAILED && pull->has_waited && (broke_off || has_open_end(pull));
}
