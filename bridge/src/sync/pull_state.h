/*
 * pull_state.h
 *		What the files of a pull share.
 */
#ifndef PULL_STATE_H
#define PULL_STATE_H

#include <curl/curl.h>

#include "sync/inflate.h"
#include "sync/pull.h"

#define ENCODING_BYTES_MAX 64

typedef struct Pull
{
	struct Pull       *next; /* begun before */
	const Puller      *puller;
	PullResult        *result;
	CURL              *curl;
	struct curl_slist *headers;
	char              *mapping;
	long long          deadline_us; /* of monotonic_us() */
	long long          waits_us;    /* for memory, since then; 0: it does not */
	double             date;
	double             received_at;                  /* the Date */
	size_t             raw_bytes;                    /* as they came */
	Inflate           *inflate;                      /* NULL: it comes as it is */
	char               encoding[ENCODING_BYTES_MAX]; /* Content-Encoding */
	bool               is_conditional; /* asked only if the feed is another than ours */
	bool               is_chunked;
	bool               has_next_page;
	bool               has_waited; /* for memory */
	bool               is_done;
	bool               lacks_memory; /* for what it is to ask */
	bool               is_address_refused;
	bool               has_connected; /* or tried to, at another address */
	char               reason[CURL_ERROR_SIZE];
} Pull;

/* The first reason counts. */
extern void pull_fail(PullResult *result, const char *why);

/* puller_lets_on: may more of that feed be taken now? Where nothing else will free memory, of the
 * one that is furthest. */
extern bool puller_lets_on(const Pull *pull);

/* pull_hold: its feed takes that much memory by now. */
extern void pull_hold(PullResult *result, size_t bytes);

/* libcurl's callbacks; context is the Pull. */
extern size_t pull_on_header(char *data, size_t size, size_t count, void *context);
extern size_t pull_on_body(char *data, size_t size, size_t count, void *context);

/* When the vendor counted, as far as its headers and our clock tell. */
extern void pull_set_times(Pull *pull);

/* The transfer has ended, with that code: the result says what came of it. */
extern void pull_finish(Pull *pull, CURLcode code);

#endif /* PULL_STATE_H */
