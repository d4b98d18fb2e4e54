/*
 * head.h
 *		The head of a request, held against RFC 9110 and RFC 9112.
 *
 * A front proxy and this server must read the same request in the same bytes:
 * what can be read in two ways is refused. Knows nothing of the HTTP library.
 */
#ifndef BRIDGE_HTTP_HEAD_H
#define BRIDGE_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_FIELDS_MAX   100
#define HTTP_SEGMENTS_MAX 8
#define HTTP_QUERY_MAX    16

/* A header field; the value without the blanks around it, NUL-terminated. */
typedef struct HttpField
{
	const char *name;
	const char *value;
	size_t      name_bytes;
	size_t      value_bytes;
	char       *copy; /* of the value, where blanks had to be cut off its end; else NULL */
} HttpField;

typedef struct HttpHead
{
	bool      is_http_1_0;
	HttpField fields[HTTP_FIELDS_MAX];
	int       nfields;
} HttpHead;

/*
 * http_head_add takes a field in, as it came; the texts, which are NUL-terminated,
 * must live as long as the head. False if there are too many, or memory is short.
 */
extern bool http_head_add(HttpHead *head, const char *name, size_t name_bytes, const char *value,
						  size_t value_bytes);
extern void http_head_free(HttpHead *head);

/* http_head_find returns the first field of that name, whatever its case; NULL if there is none. */
extern const HttpField *http_head_find(const HttpHead *head, const char *name);

/*
 * http_head_check returns 0 if the head may be served, else the status to refuse
 * it with; *complaint then says why. "field" is the field at fault, or NULL.
 */
extern int http_head_check(const HttpHead *head, const char **complaint, const char **field);

/* A request's target taken apart: percent-encoding is undone within each segment, so "%2F" is part
 * of one. */
typedef struct HttpTarget
{
	char       *text;      /* malloc'd; what follows points into it, but for the authority */
	char       *authority; /* of "http://host/path", malloc'd; NULL: the target has none */
	const char *segments[HTTP_SEGMENTS_MAX];
	int         nsegments; /* HTTP_SEGMENTS_MAX + 1: more than that */
	struct
	{
		const char *name;
		const char *value;
	} query[HTTP_QUERY_MAX];
	int nquery;
} HttpTarget;

/*
 * http_target_parse takes a target apart: "/a/b?c=d", the same with
 * "http://host" before it, or "*". Returns 0, or the status to refuse it with;
 * *complaint then says why. http_target_free in either case.
 */
extern int  http_target_parse(HttpTarget *target, const char *text, const char **complaint);
extern void http_target_free(HttpTarget *target);

/* http_target_query returns the value of a query parameter, NULL if there is none. */
extern const char *http_target_query(const HttpTarget *target, const char *name);

#endif /* BRIDGE_HTTP_HEAD_H */
