/*
 * pull.c
 *		Pulling vendors' feeds over HTTP, by one libcurl multi handle.
 *
 * A feed is taken apart as it arrives. Nothing of a vendor is trusted: its time
 * and size are limited, redirects are not followed unless asked for, and never
 * with a vendor's keys; only http and https are spoken, certificates verified.
 */
#include "sync/pull.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/metrics.h"
#include "base/stop.h"
#include "sync/addresses.h"
#include "sync/feed_headers.h"
#include "sync/pull_state.h"

#define LOOK_MS_MAX 250 /* so that no pull is late by more */

struct Puller
{
	CURLM *multi;
	Pull  *pulls;
	bool   others_wait; /* feeds that were pulled, to be applied */
};

static _Atomic int64_t held_bytes; /* of all feeds there are, whoever has pulled them */

void
pull_hold(PullResult *result, size_t bytes)
{
	int64_t more = (int64_t) bytes - (int64_t) result->held_bytes;

	result->held_bytes = bytes;
	atomic_fetch_add(&held_bytes, more);
	metric_add(METRIC_FEED_BYTES, more);
}

void
pull_result_free(PullResult *result)
{
	if (result == NULL)
		return;
	pull_hold(result, 0);
	feed_free(result->feed);
	free(result->vendor_id);
	free(result);
}

/* ---------- memory ---------- */

bool
pull_has_room(void)
{
	return atomic_load(&held_bytes) < (int64_t) config.feed_bytes_max * PULL_FEEDS_MAX;
}

bool
puller_lets_on(const Pull *pull)
{
	bool is_last_hope = !pull->puller->others_wait;

	for (const Pull *other = pull->puller->pulls; other != NULL; other = other->next)
		is_last_hope &= !other->is_done && other->result->held_bytes <= pull->result->held_bytes;
	return is_last_hope || pull_has_room();
}

/* Those that have waited for memory go on, if there is some: it was none of their time. */
static void
go_on(Puller *puller)
{
	for (Pull *pull = puller->pulls; pull != NULL; pull = pull->next)
	{
		CURLcode code;

		if (pull->waits_us == 0 || pull->is_done || !puller_lets_on(pull))
			continue;
		pull->deadline_us += monotonic_us() - pull->waits_us;
		pull->waits_us = 0;
		code = curl_easy_pause(pull->curl, CURLPAUSE_CONT);
		/* what had come before is not taken, of which the transfer knows nothing */
		if (code != CURLE_OK)
			pull_finish(pull, code);
	}
}

/* ---------- one pull ---------- */

static void
add_header(void *context, const char *header)
{
	Pull              *pull = context;
	struct curl_slist *longer = curl_slist_append(pull->headers, header);

	if (longer != NULL)
		pull->headers = longer;
	else
		pull->lacks_memory = true;
}

static void
set_text(Pull *pull, CURLoption option, const char *text)
{
	pull->lacks_memory |= curl_easy_setopt(pull->curl, option, text) != CURLE_OK;
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

	add_header(pull, "Accept-Encoding: gzip, deflate");

	set_text(pull, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, pull->headers);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, pull);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, pull->reason);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, pull_on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, pull);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, pull_on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, pull);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION,
					 config.feed_redirects_max > 0 && nkeys == 0 ? 1L : 0L);
	curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long) config.feed_redirects_max);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	/* what was to come over a line that nobody can change is not to come over another */
	curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR,
					 strncasecmp(url, "https:", strlen("https:")) == 0 ? "https" : "http,https");
	if (*config.feed_ca_file != '\0')
		set_text(pull, CURLOPT_CAINFO, config.feed_ca_file);
	/* decoded by us, who see whether all of it has come */
	curl_easy_setopt(curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* not to wait for a resolver that hangs */
	set_text(pull, CURLOPT_USERAGENT, "order-bridge");
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, pull);
	if (nkeys >= 0)
		return true;
	pull_fail(
		pull->result,
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
	inflate_free(pull->inflate);
	pull_result_free(pull->result);
	free(pull->mapping);
	free(pull);
}

bool
puller_add(Puller *puller, const char *vendor_id, const char *url, const char *mapping,
		   const char *etag, const char *last_modified, const char *config_no)
{
	Pull *pull = calloc(1, sizeof(Pull));
	bool  may_begin;

	if (pull == NULL)
		return false;
	pull->result = calloc(1, sizeof(PullResult));
	pull->curl = curl_easy_init();
	if (pull->result != NULL)
	{
		pull->result->vendor_id = strdup(vendor_id);
		snprintf(pull->result->config_no, sizeof(pull->result->config_no), "%s", config_no);
	}
	pull->mapping = mapping ? strdup(mapping) : NULL;
	if (pull->result == NULL || pull->curl == NULL || pull->result->vendor_id == NULL ||
		(mapping != NULL && pull->mapping == NULL))
	{
		free_pull(puller, pull);
		return false;
	}
	pull->puller = puller;
	pull->result->began_at = wall_clock_s();
	pull->deadline_us = monotonic_us() + config.sync_timeout_s * 1000000LL;
	add_condition(pull, "If-None-Match", etag);
	add_condition(pull, "If-Modified-Since", last_modified);
	may_begin = set_options(pull, url);
	if (pull->lacks_memory)
	{
		free_pull(puller, pull);
		return false;
	}
	pull->next = puller->pulls;
	puller->pulls = pull;
	if (!may_begin)
		pull->is_done = true;
	else if (curl_multi_add_handle(puller->multi, pull->curl) != CURLM_OK)
	{
		pull_fail(pull->result, "the transfer cannot begin");
		pull->is_done = true;
	}
	return true;
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
		pull->deadline_us += pull->waits_us == 0 ? microseconds : 0;
}

/* Ends the pulls whose time is over. */
static void
give_up_overdue(Puller *puller)
{
	for (Pull *pull = puller->pulls; pull != NULL; pull = pull->next)
	{
		if (pull->is_done || pull->waits_us != 0 || monotonic_us() < pull->deadline_us)
			continue;
		pull->is_done = true;
		pull_set_times(pull);
		pull_fail(pull->result, "the feed did not come whole within SYNC_TIMEOUT_S");
	}
}

static void
perform(Puller *puller)
{
	CURLMsg *message;
	int      running;
	int      left;

	go_on(puller);
	curl_multi_perform(puller->multi, &running);
	while ((message = curl_multi_info_read(puller->multi, &left)) != NULL)
	{
		Pull *pull;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &pull);
		if (!pull->is_done)
			pull_finish(pull, message->data.result);
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
puller_give_up(Puller *puller)
{
	if (puller->pulls != NULL)
		puller->pulls->is_done = true;
	return take_done(puller);
}

PullResult *
puller_take(Puller *puller, int wait_ms, bool others_wait)
{
	struct curl_waitfd stop = {.fd = stop_descriptor(), .events = CURL_WAIT_POLLIN};
	PullResult        *result;

	puller->others_wait = others_wait;
	perform(puller);
	result = take_done(puller);
	if (result != NULL || wait_ms == 0)
		return result;
	curl_multi_poll(puller->multi, &stop, stop_requested() ? 0 : 1,
					wait_ms < LOOK_MS_MAX ? wait_ms : LOOK_MS_MAX, NULL);
	perform(puller);
	return take_done(puller);
}
