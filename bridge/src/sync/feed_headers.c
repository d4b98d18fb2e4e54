/*
 * feed_headers.c
 *		HTTP headers that a vendor wants with a request for its feed.
 *
 * From a file, never from a table: who may read the vendors may not read their
 * keys. And each is for one origin: who may change a vendor's URL cannot have its
 * keys sent to another.
 */
#include "sync/feed_headers.h"

#include <ctype.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret_file.h"

#define HEADERS_MAX      10000
#define ORIGIN_BYTES_MAX 512

typedef struct FeedHeader
{
	char *vendor_id;
	char *origin;
	char *header; /* in the memory of vendor_id */
} FeedHeader;

typedef struct HeaderList
{
	FeedHeader *headers;
	int         count;
} HeaderList;

static HeaderList       loaded;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static void
free_list(HeaderList *list)
{
	for (int i = 0; i < list->count; i++)
	{
		free(list->headers[i].vendor_id);
		free(list->headers[i].origin);
	}
	free(list->headers);
	*list = (HeaderList){0};
}

/* A name of RFC 9110's token characters, a colon, a value without control characters. */
static bool
is_header(const char *text)
{
	size_t name = strspn(
		text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	if (name == 0 || text[name] != ':')
		return false;
	for (const char *p = text; *p != '\0'; p++)
	{
		if (iscntrl((unsigned char) *p) && *p != '\t')
			return false;
	}
	return true;
}

char *
feed_headers_origin(const char *url)
{
	CURLU *parsed = curl_url();
	char  *scheme = NULL;
	char  *host = NULL;
	char  *port = NULL;
	char  *origin = NULL;

	if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(parsed, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		(strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0))
	{
		for (char *c = host; *c != '\0'; c++)
			*c = (char) tolower((unsigned char) *c);
		if (asprintf(&origin, "%s://%s:%s", scheme, host, port) < 0)
			origin = NULL;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parsed);
	return origin;
}

/* The origin that a line names: no path, no user, https unless it says otherwise. */
static char *
named_origin(const char *word)
{
	const char *host = strstr(word, "://");
	char        url[ORIGIN_BYTES_MAX];

	host = host != NULL ? host + strlen("://") : word;
	if (*host == '\0' || host[strlen(host) - 1] == ':' || strpbrk(host, "/?#@") != NULL ||
		strlen(word) + 10 > sizeof(url))
		return NULL;
	snprintf(url, sizeof(url), "%s%s", host == word ? "https://" : "", word);
	return feed_headers_origin(url);
}

/* Cuts off the first word of a text and returns what follows it; NULL if nothing does. */
static char *
cut_word(char *text)
{
	char *space = strpbrk(text, " \t");

	if (space == NULL)
		return NULL;
	*space++ = '\0';
	return space + strspn(space, " \t");
}

static bool
take_line(void *context, char *line)
{
	HeaderList *list = context;
	FeedHeader *header = &list->headers[list->count];
	char       *origin;

	line[strcspn(line, "\r\n")] = '\0';
	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return true;
	if (list->count == HEADERS_MAX)
		return false;
	list->count++;
	header->vendor_id = strdup(line);
	origin = header->vendor_id != NULL ? cut_word(header->vendor_id) : NULL;
	header->header = origin != NULL ? cut_word(origin) : NULL;
	if (header->header != NULL)
		header->origin = named_origin(origin);
	return header->header != NULL && header->origin != NULL && is_header(header->header);
}

bool
feed_headers_load(const char *path)
{
	HeaderList list = {.headers = calloc(HEADERS_MAX, sizeof(FeedHeader))};
	bool       ok = list.headers != NULL &&
			  secret_file_read_lines("FEED_HEADERS_FILE", path,
									 "\"vendor_id https://host Name: value\"", take_line, &list);

	if (ok)
	{
		HeaderList old;

		pthread_rwlock_wrlock(&lock);
		old = loaded;
		loaded = list;
		pthread_rwlock_unlock(&lock);
		list = old;
		log_info("headers for feeds: %d", loaded.count);
	}
	free_list(&list);
	return ok;
}

int
feed_headers_each(const char *vendor_id, const char                     *url,
				  void (*each)(void *context, const char *header), void *context)
{
	char *origin = feed_headers_origin(url);
	int   count = 0;
	bool  has_others = false;

	pthread_rwlock_rdlock(&lock);
	for (int i = 0; i < loaded.count; i++)
	{
		const FeedHeader *header = &loaded.headers[i];

		if (strcmp(header->vendor_id, vendor_id) != 0)
			continue;
		if (origin == NULL || strcmp(header->origin, origin) != 0)
		{
			has_others = true;
			continue;
		}
		each(context, header->header);
		count++;
	}
	pthread_rwlock_unlock(&lock);
	free(origin);
	return count == 0 && has_others ? -1 : count;
}
