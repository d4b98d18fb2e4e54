/*
 * feed_headers.c
 *		HTTP headers that a vendor wants with a request for its feed.
 *
 * From a file, never from a table: who may read the vendors may not read their
 * keys.
 */
#include "feed_headers.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"

#define HEADERS_MAX 10000

typedef struct FeedHeader
{
	char *vendor_id;
	char *header; /* in the same memory */
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
		free(list->headers[i].vendor_id);
	free(list->headers);
	*list = (HeaderList){0};
}

/* A name of RFC 9110's token characters, a colon, a value without control characters. */
static bool
is_header(const char *text)
{
	size_t name = strspn(text, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	if (name == 0 || text[name] != ':')
		return false;
	for (const char *p = text; *p != '\0'; p++)
	{
		if (iscntrl((unsigned char) *p) && *p != '\t')
			return false;
	}
	return true;
}

static bool
parse_line(char *line, HeaderList *list)
{
	char *copy;
	char *space;

	line[strcspn(line, "\r\n")] = '\0';
	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return true;
	copy = strdup(line);
	space = copy ? strpbrk(copy, " \t") : NULL;
	if (space == NULL || list->count == HEADERS_MAX)
	{
		free(copy);
		return false;
	}
	*space++ = '\0';
	space += strspn(space, " \t");
	list->headers[list->count++] = (FeedHeader){copy, space};
	return is_header(space);
}

static void
warn_if_readable_by_all(FILE *file, const char *path)
{
	struct stat status;

	if (fstat(fileno(file), &status) == 0 && (status.st_mode & (S_IRGRP | S_IROTH)) != 0)
		log_warning("%s can be read by others than its owner: chmod 600", path);
}

bool
feed_headers_load(const char *path)
{
	FILE      *file = fopen(path, "r");
	HeaderList list = {.headers = calloc(HEADERS_MAX, sizeof(FeedHeader))};
	char      *line = NULL;
	size_t     size = 0;
	int        number = 0;
	bool       ok = true;

	if (file == NULL || list.headers == NULL)
	{
		log_error("cannot read FEED_HEADERS_FILE %s: %s", path, strerror(errno));
		ok = false;
	}
	if (ok)
		warn_if_readable_by_all(file, path);
	while (ok && getline(&line, &size, file) >= 0)
	{
		number++;
		ok = parse_line(line, &list);
		if (!ok)
			log_error("FEED_HEADERS_FILE %s, line %d: must be \"vendor_id Name: value\"", path, number);
	}
	free(line);
	if (file != NULL)
		fclose(file);
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
feed_headers_each(const char *vendor_id, void (*each)(void *context, const char *header), void *context)
{
	int count = 0;

	pthread_rwlock_rdlock(&lock);
	for (int i = 0; i < loaded.count; i++)
	{
		if (strcmp(loaded.headers[i].vendor_id, vendor_id) != 0)
			continue;
		each(context, loaded.headers[i].header);
		count++;
	}
	pthread_rwlock_unlock(&lock);
	return count;
}
