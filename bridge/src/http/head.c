/*
 * head.c
 *		The head of a request, held against RFC 9110 and RFC 9112.
 */
#include "http/head.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define DIGITS "0123456789"

/* ---------- fields ---------- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* RFC 9110, 5.6.2 */
static bool
is_token_character(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		   (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_token(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
	{
		if (!is_token_character((unsigned char) text[i]))
			return false;
	}
	return bytes > 0;
}

/* RFC 9110, 5.5: no control characters but the tab */
static bool
is_field_value(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static bool
is_named(const HttpField *field, const char *name)
{
	return field->name_bytes == strlen(name) &&
		   strncasecmp(field->name, name, field->name_bytes) == 0;
}

static bool
is_value(const HttpField *field, const char *value)
{
	return field->value_bytes == strlen(value) &&
		   strncasecmp(field->value, value, field->value_bytes) == 0;
}

bool
http_head_add(HttpHead *head, const char *name, size_t name_bytes, const char *value,
			  size_t value_bytes)
{
	HttpField *field = &head->fields[head->nfields];

	if (head->nfields == HTTP_FIELDS_MAX)
		return false;
	while (value_bytes > 0 && is_blank(*value))
	{
		value++;
		value_bytes--;
	}
	*field = (HttpField){name, value, name_bytes, value_bytes, NULL};
	while (field->value_bytes > 0 && is_blank(value[field->value_bytes - 1]))
		field->value_bytes--;
	if (field->value_bytes < value_bytes)
	{
		field->value = field->copy = strndup(value, field->value_bytes);
		if (field->copy == NULL)
			return false;
	}
	head->nfields++;
	return true;
}

void
http_head_free(HttpHead *head)
{
	for (int i = 0; i < head->nfields; i++)
		free(head->fields[i].copy);
	head->nfields = 0;
}

const HttpField *
http_head_find(const HttpHead *head, const char *name)
{
	for (int i = 0; i < head->nfields; i++)
	{
		if (is_named(&head->fields[i], name))
			return &head->fields[i];
	}
	return NULL;
}

static int
refuse(int status, const char *why, const char *name, const char **complaint, const char **field)
{
	*complaint = why;
	*field = name;
	return status;
}

/* Fields of which there may be one: a second one would be read by one server and not by another. */
static const char *
repeated_field(const HttpHead *head)
{
	static const char *const names[] = {
		"Host",          "Content-Length",  "Transfer-Encoding", "Content-Type", "Content-Encoding",
		"Authorization", "Idempotency-Key", "Last-Event-ID",     "Origin",       "Expect",
		"traceparent"};

	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++)
	{
		int count = 0;

		for (int i = 0; i < head->nfields; i++)
			count += is_named(&head->fields[i], names[n]);
		if (count > 1)
			return names[n];
	}
	return NULL;
}

/* RFC 9112, 6: how long the body is must not be told in two ways, nor in one that we cannot undo.
 */
static int
check_framing(const HttpHead *head, const char **complaint, const char **field)
{
	const HttpField *coding = http_head_find(head, "Transfer-Encoding");
	const HttpField *length = http_head_find(head, "Content-Length");

	if (length != NULL &&
		(length->value_bytes == 0 || strspn(length->value, DIGITS) < length->value_bytes))
		return refuse(400, "Content-Length must be a whole number", "Content-Length", complaint,
					  field);
	if (coding == NULL)
		return 0;
	if (length != NULL)
		return refuse(400, "Content-Length and Transfer-Encoding must not come together",
					  "Transfer-Encoding", complaint, field);
	/* the library looks at the whole of it */
	if (coding->copy != NULL)
		return refuse(400, "Transfer-Encoding must have no blank behind it", "Transfer-Encoding",
					  complaint, field);
	if (head->is_http_1_0)
		return refuse(400, "HTTP/1.0 has no Transfer-Encoding", "Transfer-Encoding", complaint,
					  field);
	if (!is_value(coding, "chunked"))
		return refuse(501, "Transfer-Encoding must be chunked", "Transfer-Encoding", complaint,
					  field);
	return 0;
}

/* RFC 3986, 3.2.2, as far as it matters here: nothing in it that could end it for someone else. */
static bool
is_host(const HttpField *host)
{
	for (size_t i = 0; i < host->value_bytes; i++)
	{
		unsigned char c = (unsigned char) host->value[i];

		if (!is_token_character(c) && strchr("()[]:;,=", c) == NULL)
			return false;
	}
	return true;
}

int
http_head_check(const HttpHead *head, const char **complaint, const char **field)
{
	const HttpField *host = http_head_find(head, "Host");
	const HttpField *expected = http_head_find(head, "Expect");
	const HttpField *coding = http_head_find(head, "Content-Encoding");
	const char      *repeated;

	for (int i = 0; i < head->nfields; i++)
	{
		if (!is_token(head->fields[i].name, head->fields[i].name_bytes))
			return refuse(400, "the name of a header field is not a token", NULL, complaint, field);
		if (!is_field_value(head->fields[i].value, head->fields[i].value_bytes))
			return refuse(400, "the value of a header field has a control character", NULL,
						  complaint, field);
	}
	repeated = repeated_field(head);
	if (repeated != NULL)
		return refuse(400, "a header field is there twice", repeated, complaint, field);
	if ((host == NULL && !head->is_http_1_0) || (host != NULL && !is_host(host)))
		return refuse(400, "Host must name a host", "Host", complaint, field);
	if (expected != NULL && !is_value(expected, "100-continue"))
		return refuse(417, "Expect may only be 100-continue", "Expect", complaint, field);
	if (coding != NULL && coding->value_bytes > 0 && !is_value(coding, "identity"))
		return refuse(415, "a body must come without Content-Encoding", "Content-Encoding",
					  complaint, field);
	return check_framing(head, complaint, field);
}

/* ---------- the target ---------- */

/* Undoes the percent-encoding of a part in place; NULL, or what is wrong with it. */
static const char *
decode(char *part, bool is_query)
{
	char *to = part;

	for (const char *from = part; *from != '\0'; from++)
	{
		int high;
		int low;

		if (*from != '%')
		{
			*to++ = is_query && *from == '+' ? ' ' : *from;
			continue;
		}
		high = text_hex_digit(from[1]);
		low = high < 0 ? -1 : text_hex_digit(from[2]);
		if (low < 0)
			return "a percent sign must be followed by two hexadecimal digits";
		if (high == 0 && low == 0)
			return "%00 has no place in a target";
		*to++ = (char) (high * 16 + low);
		from += 2;
	}
	*to = '\0';
	return text_is_utf8(part, (size_t) (to - part)) ? NULL : "the target must be UTF-8 text";
}

static const char *
parse_segments(HttpTarget *target, char *path)
{
	const char *wrong = NULL;
	char       *rest = path;

	for (char *segment; wrong == NULL && (segment = strsep(&rest, "/")) != NULL;)
	{
		if (target->nsegments == HTTP_SEGMENTS_MAX)
		{
			target->nsegments++;
			return NULL;
		}
		wrong = decode(segment, false);
		target->segments[target->nsegments++] = segment;
	}
	return wrong;
}

static const char *
parse_query(HttpTarget *target, char *query)
{
	char *rest = query;

	for (char *pair; (pair = strsep(&rest, "&")) != NULL;)
	{
		char       *value = strchr(pair, '=');
		const char *wrong;

		if (*pair == '\0')
			continue;
		if (value != NULL)
			*value++ = '\0';
		else
			value = pair + strlen(pair);
		wrong = decode(pair, true);
		if (wrong == NULL)
			wrong = decode(value, true);
		if (wrong != NULL)
			return wrong;
		if (http_target_query(target, pair) != NULL)
			return "a query parameter is there twice";
		if (target->nquery == HTTP_QUERY_MAX)
			return "there are too many query parameters";
		target->query[target->nquery].name = pair;
		target->query[target->nquery++].value = value;
	}
	return NULL;
}

/* "http://host/path" is "/path" of that host, whatever the field Host says (RFC 9112, 3.2.2). NULL
 * if memory is short. */
static char *
skip_origin(HttpTarget *target)
{
	static const char *const schemes[] = {"http://", "https://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		char  *host = target->text + strlen(schemes[i]);
		size_t length;

		if (strncasecmp(target->text, schemes[i], strlen(schemes[i])) != 0)
			continue;
		length = strcspn(host, "/?#");
		target->authority = strndup(host, length);
		return target->authority != NULL ? host + length : NULL;
	}
	return target->text;
}

int
http_target_parse(HttpTarget *target, const char *text, const char **complaint)
{
	char *path;
	char *query;

	*target = (HttpTarget){.text = strdup(text)};
	*complaint = NULL;
	path = target->text != NULL ? skip_origin(target) : NULL;
	if (path == NULL)
	{
		*complaint = "out of memory";
		return 503;
	}
	if (strcmp(text, "*") == 0)
		return 0;
	query = strchr(path, '?');
	if (query != NULL)
		*query++ = '\0';
	for (const char *c = text; *c != '\0' && *complaint == NULL; c++)
	{
		if ((unsigned char) *c <= ' ' || *c == 0x7f || *c == '#')
			*complaint = "the target has a character that must be percent-encoded";
	}
	if (*complaint == NULL && *path != '/' && (path == target->text || *path != '\0'))
		*complaint = "the target must begin with a slash";
	if (*complaint == NULL && *path == '/')
		*complaint = parse_segments(target, path + 1);
	if (*complaint == NULL && query != NULL)
		*complaint = parse_query(target, query);
	return *complaint != NULL ? 400 : 0;
}

void
http_target_free(HttpTarget *target)
{
	free(target->text);
	free(target->authority);
	target->text = target->authority = NULL;
}

const char *
http_target_query(const HttpTarget *target, const char *name)
{
	for (int i = 0; i < target->nquery; i++)
	{
		if (strcmp(target->query[i].name, name) == 0)
			return target->query[i].value;
	}
	return NULL;
}
