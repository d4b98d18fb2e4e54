/*
 * pull.c
 *		Pulling vendors' feeds over HTTP, by one libcurl multi handle.
 *
 * A feed is taken apart as it arrives. Nothing of a vendor is trusted: its time
 * and size are limited, redirects are not followed unless asked for, and never
 * with a vendor's keys; only http and https are spoken, certificates verified.
 *
 * When the vendor counted is the time in the feed, else its Last-Modified, else
 * its Date, else when we asked; never later than that, and a clock that
 * is ahead of ours is set back by as much as its Date is. Too early a time costs a
 * sale at worst; too late a time would sell units twice.
 */
#include "sync/pull.h"

#include <curl/curl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/stop.h"
#include "sync/addresses.h"
#include "sync/feed_headers.h"
#include "sync/link_header.h"

#define LOOK_MS_MAX         250 /* so that no pull is late by more */
#define RETRY_AFTER_S_MAX   3600
#define ENCODING_BYTES_MAX  64
#define CHARSET_BYTES_MAX   64
#define HTTP_STATUS_OK      200
#define HTTP_STATUS_MANY    429
#define HTTP_STATUS_UNAVAIL 503

typedef struct Pull
{
	struct Pull       *next;
	PullResult        *result;
	CURL              *curl;
	struct curl_slist *headers;
	char              *mapping;
	long long          deadline_us; /* of monotonic_us() */
	double             date;
	double             received_at; /* the Date */
	size_t             bytes;
	char               encoding[ENCODING_BYTES_MAX]; /* Content-Encoding */
	bool               is_conditional; /* asked only if the feed is another than ours */
	bool               is_undecoded;   /* asked again, for Content-Encoding is none */
	bool               is_chunked;
	bool               has_next_page;
	bool               is_done;
	bool               is_address_refused;
	bool               has_connected; /* or tried to, at another address */
	char               reason[CURL_ERROR_SIZE];
} Pull;

struct Puller
{
	CURLM *multi;
	Pull  *pulls;
};

static double
wall_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

void
pull_result_free(PullResult *result)
{
	if (result == NULL)
		return;
	feed_free(result->feed);
	free(result->vendor_id);
	free(result);
}

static void
fail(PullResult *result, const char *why)
{
	result->status = PULL_FAILED;
	if (result->error[0] == '\0')
		snprintf(result->error, sizeof(result->error), "%s", why);
}

/* ---------- libcurl's callbacks ---------- */

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

static size_t
on_body(char *data, size_t size, size_t count, void *context)
{
	Pull       *pull = context;
	PullResult *result = pull->result;
	size_t      bytes = size * count;
	long        status = 0;

	(void) sched_yield(); /* what customers wait for goes first */
	pull->bytes += bytes;
	if (pull->bytes > (size_t) config.feed_bytes_max)
	{
		fail(result, "the feed is larger than FEED_BYTES_MAX");
		return CURL_WRITEFUNC_ERROR;
	}
	curl_easy_getinfo(pull->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != HTTP_STATUS_OK)
		return bytes; /* of no interest */
	if (result->feed == NULL)
		result->feed = begin_feed(pull);
	if (result->feed == NULL)
	{
		fail(result, "out of memory");
		return CURL_WRITEFUNC_ERROR;
	}
	if (feed_add(result->feed, data, bytes))
		return bytes;
	fail(result, feed_error(result->feed));
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
	while (*bytes > 0 && (line[*bytes - 1] == '\r' || line[*bytes - 1] == '\n'))
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

	if (coding != NULL && memmem(coding, bytes, "chunked", strlen("chunked")) != NULL)
		pull->is_chunked = true;
}

static void
see_pages(Pull *pull, const char *line, size_t bytes)
{
	const char *links = header_value(line, &bytes, "Link:");

	if (links != NULL && link_header_has_next(links, bytes))
		pull->has_next_page = true;
}

static size_t
on_header(char *data, size_t size, size_t count, void *context)
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
	(void) copy_header(pull->encoding, ENCODING_BYTES_MAX, data, bytes, "Content-Encoding:");
	if (copy_header(result->date, PULL_TAG_BYTES_MAX, data, bytes, "Date:"))
	{
		pull->date = (double) curl_getdate(result->date, NULL);
		pull->received_at = wall_clock();
	}
	return bytes;
}

/* ---------- one pull ---------- */

static void
add_header(void *context, const char *header)
{
	Pull              *pull = context;
	struct curl_slist *longer = curl_slist_append(pull->headers, header);

	if (longer != NULL)
		pull->headers = longer;
}

static void
add_condition(Pull *pull, const char *name, const char *value)
{
	char line[PULL_TAG_BYTES_MAX + 64];

	if (value == NULL)
		return;
	pull->is_conditional = true;
	snprintf(line, sizeof(line), "%s: %s", name, value);
	add_header(pull, line);
}

/* Every address that is about to be connected to, of redirects too, however the name came to have
 * it. */
static curl_socket_t
on_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
	Pull *pull = context;

	(void) purpose;
	if (addresses_may_connect(&address->addr))
	{
		pull->has_connected = true;
		return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	}
	pull->is_address_refused = true;
	return CURL_SOCKET_BAD;
}

/* False, with the result's error, if the feed is not to be pulled. */
static bool
set_options(Pull *pull, const char *url)
{
	CURL *curl = pull->curl;
	int   nkeys = feed_headers_each(pull->result->vendor_id, url, add_header, pull);

	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, pull->headers);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, pull);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, pull->reason);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, pull);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, pull);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION,
					 config.feed_redirects_max > 0 && nkeys == 0 ? 1L : 0L);
	curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long) config.feed_redirects_max);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	if (*config.feed_ca_file != '\0')
		curl_easy_setopt(curl, CURLOPT_CAINFO, config.feed_ca_file);
	curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* not to wait for a resolver that hangs */
	curl_easy_setopt(curl, CURLOPT_USERAGENT, "order-bridge");
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, pull);
	if (nkeys >= 0)
		return true;
	fail(pull->result,
		 "the vendor's keys are for another origin than its feed's URL: see FEED_HEADERS_FILE");
	return false;
}

static void
free_pull(Puller *puller, Pull *pull)
{
	if (pull->curl != NULL)
	{
		curl_multi_remove_handle(puller->multi, pull->curl);
		curl_easy_cleanup(pull->curl);
	}
	curl_slist_free_all(pull->headers);
	pull_result_free(pull->result);
	free(pull->mapping);
	free(pull);
}

bool
puller_add(Puller *puller, const char *vendor_id, const char *url, const char *mapping,
		   const char *etag, const char *last_modified)
{
	Pull *pull = calloc(1, sizeof(Pull));

	if (pull == NULL)
		return false;
	pull->result = calloc(1, sizeof(PullResult));
	pull->curl = curl_easy_init();
	if (pull->result != NULL)
		pull->result->vendor_id = strdup(vendor_id);
	pull->mapping = mapping ? strdup(mapping) : NULL;
	if (pull->result == NULL || pull->curl == NULL || pull->result->vendor_id == NULL ||
		(mapping != NULL && pull->mapping == NULL))
	{
		free_pull(puller, pull);
		return false;
	}
	pull->result->began_at = wall_clock();
	pull->deadline_us = monotonic_us() + config.sync_timeout_s * 1000000LL;
	add_condition(pull, "If-None-Match", etag);
	add_condition(pull, "If-Modified-Since", last_modified);
	pull->next = puller->pulls;
	puller->pulls = pull;
	if (!set_options(pull, url))
		pull->is_done = true;
	else if (curl_multi_add_handle(puller->multi, pull->curl) != CURLM_OK)
	{
		fail(pull->result, "the transfer cannot begin");
		pull->is_done = true;
	}
	return true;
}

/* When the vendor counted, as far as its headers and our clock tell. */
static void
set_times(Pull *pull)
{
	PullResult *result = pull->result;
	double      modified =
        *result->last_modified ? (double) curl_getdate(result->last_modified, NULL) : -1;
	double header = modified > 0 ? modified : pull->date;

	result->clock_ahead = pull->date > pull->received_at ? pull->date - pull->received_at : 0;
	result->as_of_latest = result->began_at;
	result->as_of_rule = "request";
	result->told = NULL;
	if (header <= 0)
		return;
	result->told = modified > 0 ? result->last_modified : result->date;
	if (header - result->clock_ahead >= result->began_at)
		return;
	result->as_of_latest = header - result->clock_ahead;
	result->as_of_rule = modified > 0 ? "Last-Modified" : "Date";
}

/* Is what a vendor names as Content-Encoding the encoding of its text, which is another thing? */
static bool
is_charset(const char *encoding)
{
	static const char *const names[] = {"utf", "iso-8859", "latin", "windows-", "us-ascii",
										"ascii", "binary", "8bit", "7bit", "text", "none"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		if (strncasecmp(encoding, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}

/* Asks again for what could not be decoded, and needs not be; false if it is no such answer. */
static bool
ask_for_undecoded(Puller *puller, Pull *pull, CURLcode code)
{
	if (code != CURLE_BAD_CONTENT_ENCODING || pull->is_undecoded || !is_charset(pull->encoding))
		return false;
	pull->is_undecoded = true;
	pull->bytes = 0;
	*pull->reason = '\0';
	feed_free(pull->result->feed);
	pull->result->feed = NULL;
	curl_multi_remove_handle(puller->multi, pull->curl);
	curl_easy_setopt(pull->curl, CURLOPT_ACCEPT_ENCODING, NULL);
	curl_easy_setopt(pull->curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	return curl_multi_add_handle(puller->multi, pull->curl) == CURLM_OK;
}

static void
fail_with_status(Pull *pull, long status)
{
	curl_off_t retry_after_s = 0;
	char       why[128];
	int        length =
		snprintf(why, sizeof(why), "the vendor answered with status %ld", status);

	if (status == HTTP_STATUS_MANY || status == HTTP_STATUS_UNAVAIL)
		curl_easy_getinfo(pull->curl, CURLINFO_RETRY_AFTER, &retry_after_s);
	if (retry_after_s > 0)
	{
		pull->result->retry_after_s =
			retry_after_s < RETRY_AFTER_S_MAX ? (double) retry_after_s : RETRY_AFTER_S_MAX;
		snprintf(why + length, sizeof(why) - (size_t) length,
				 " and wants to be left alone for %ld s", (long) retry_after_s);
	}
	fail(pull->result, why);
}

/* Could it have been cut at the end of a line, and nobody know? */
static bool
has_open_end(const Pull *pull)
{
	curl_off_t length = -1;
	long       version = 0;

	curl_easy_getinfo(pull->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(pull->curl, CURLINFO_HTTP_VERSION, &version);
	return feed_is_csv(pull->result->feed) && length < 0 && !pull->is_chunked &&
		   version < CURL_HTTP_VERSION_2_0;
}

static void
finish_pull(Pull *pull, CURLcode code)
{
	PullResult *result = pull->result;
	long        status = 0;

	pull->is_done = true;
	curl_easy_getinfo(pull->curl, CURLINFO_RESPONSE_CODE, &status);
	set_times(pull);
	if (code != CURLE_OK && pull->is_address_refused && !pull->has_connected)
		fail(result,
			 "the feed's host has an address that is not allowed: see FEED_ALLOW_ADDRESSES");
	else if (code != CURLE_OK)
		fail(result, pull->reason[0] != '\0' ? pull->reason : curl_easy_strerror(code));
	else if (status == 304 && !pull->is_conditional)
		fail(result, "the vendor answered with status 304 to a question without a condition");
	else if (status == 304)
		result->status = PULL_UNCHANGED;
	else if (status != HTTP_STATUS_OK)
		fail_with_status(pull, status);
	else if (pull->has_next_page)
		fail(result, "the feed goes on in a next page (Link: rel=next): pages are not followed");
	else if (result->feed == NULL)
		fail(result, "the feed is empty");
	else if (has_open_end(pull))
		fail(result, "the CSV ends with its connection: without Content-Length or chunks nobody "
					 "knows whether it is whole");
	else if (!feed_finish(result->feed))
		fail(result, feed_error(result->feed));
	else
		result->status = PULL_BROUGHT;
}

/* ---------- many pulls ---------- */

Puller *
puller_create(void)
{
	Puller *puller = calloc(1, sizeof(Puller));

	if (puller != NULL)
		puller->multi = curl_multi_init();
	if (puller != NULL && puller->multi == NULL)
	{
		free(puller);
		return NULL;
	}
	return puller;
}

void
puller_free(Puller *puller)
{
	if (puller == NULL)
		return;
	while (puller->pulls != NULL)
	{
		Pull *next = puller->pulls->next;

		free_pull(puller, puller->pulls);
		puller->pulls = next;
	}
	curl_multi_cleanup(puller->multi);
	free(puller);
}

int
puller_count(const Puller *puller)
{
	int count = 0;

	for (const Pull *pull = puller->pulls; pull != NULL; pull = pull->next)
		count++;
	return count;
}

bool
puller_is_pulling(const Puller *puller, const char *vendor_id)
{
	for (const Pull *pull = puller->pulls; pull != NULL; pull = pull->next)
	{
		if (strcmp(pull->result->vendor_id, vendor_id) == 0)
			return true;
	}
	return false;
}

void
puller_excuse(Puller *puller, long long microseconds)
{
	for (Pull *pull = puller->pulls; pull != NULL; pull = pull->next)
		pull->deadline_us += microseconds;
}

/* Ends the pulls whose time is over. */
static void
give_up_overdue(Puller *puller)
{
	for (Pull *pull = puller->pulls; pull != NULL; pull = pull->next)
	{
		if (pull->is_done || monotonic_us() < pull->deadline_us)
			continue;
		pull->is_done = true;
		set_times(pull);
		fail(pull->result, "the feed did not come whole within SYNC_TIMEOUT_S");
	}
}

static void
perform(Puller *puller)
{
	CURLMsg *message;
	int      running;
	int      left;

	curl_multi_perform(puller->multi, &running);
	while ((message = curl_multi_info_read(puller->multi, &left)) != NULL)
	{
		Pull *pull;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &pull);
		if (!pull->is_done && !ask_for_undecoded(puller, pull, message->data.result))
			finish_pull(pull, message->data.result);
	}
	give_up_overdue(puller);
}

static PullResult *
take_done(Puller *puller)
{
	for (Pull **link = &puller->pulls; *link != NULL; link = &(*link)->next)
	{
		Pull       *pull = *link;
		PullResult *result = pull->result;

		if (!pull->is_done)
			continue;
		*link = pull->next;
		pull->result = NULL;
		free_pull(puller, pull);
		return result;
	}
	return NULL;
}

PullResult *
puller_take(Puller *puller, int wait_ms)
{
	struct curl_waitfd stop = {.fd = stop_descriptor(), .events = CURL_WAIT_POLLIN};
	PullResult        *result;

	perform(puller);
	result = take_done(puller);
	if (result != NULL || wait_ms == 0)
		return result;
	curl_multi_poll(puller->multi, &stop, stop_requested() ? 0 : 1,
					wait_ms < LOOK_MS_MAX ? wait_ms : LOOK_MS_MAX, NULL);
	perform(puller);
	return take_done(puller);
}
