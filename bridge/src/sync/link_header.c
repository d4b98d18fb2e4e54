/*
 * link_header.c
 *		What a Link header says of the pages of a feed.
 */
#include "sync/link_header.h"

#include <string.h>
#include <strings.h>

typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void
skip_blanks(Reader *reader)
{
	while (reader->at < reader->end && is_blank(*reader->at))
		reader->at++;
}

/* Passes over a text up to one of these characters, which is left; its length. */
static size_t
skip_to(Reader *reader, const char *ends)
{
	const char *from = reader->at;

	while (reader->at < reader->end && strchr(ends, *reader->at) == NULL)
		reader->at++;
	return (size_t) (reader->at - from);
}

/* A parameter's value: what is in quotes, with its escapes as they are, or a token. */
static size_t
read_value(Reader *reader, const char **value)
{
	size_t bytes;

	skip_blanks(reader);
	if (reader->at == reader->end || *reader->at != '"')
	{
		*value = reader->at;
		return skip_to(reader, " \t;,");
	}
	*value = ++reader->at;
	while (reader->at < reader->end && *reader->at != '"')
		reader->at += *reader->at == '\\' && reader->at + 1 < reader->end ? 2 : 1;
	bytes = (size_t) (reader->at - *value);
	reader->at += reader->at < reader->end;
	return bytes;
}

/* Is "next" one of these relations, which blanks separate? */
static bool
has_next(const char *relations, size_t bytes)
{
	Reader reader = {relations, relations + bytes};

	while (reader.at < reader.end)
	{
		const char *word;
		size_t      length;

		skip_blanks(&reader);
		word = reader.at;
		length = skip_to(&reader, " \t");
		if (length == strlen("next") && strncasecmp(word, "next", length) == 0)
			return true;
	}
	return false;
}

bool
link_header_has_next(const char *value, size_t bytes)
{
	Reader reader = {value, value + bytes};
	bool   rel_seen = false; /* a second one of the same link counts for nothing */

	while (reader.at < reader.end)
	{
		const char *name;
		const char *text;
		size_t      name_bytes;
		size_t      text_bytes;
		char        c = *reader.at;

		if (c == '<')
		{
			(void) skip_to(&reader, ">");
			rel_seen = false;
		}
		if (c == '<' || c == '>' || c == ';' || c == ',' || is_blank(c))
		{
			reader.at += reader.at < reader.end;
			continue;
		}
		name = reader.at;
		name_bytes = skip_to(&reader, "= \t;,<");
		skip_blanks(&reader);
		if (reader.at == reader.end || *reader.at != '=')
			continue;
		reader.at++;
		text_bytes = read_value(&reader, &text);
		if (name_bytes != strlen("rel") || strncasecmp(name, "rel", name_bytes) != 0 || rel_seen)
			continue;
		rel_seen = true;
		if (has_next(text, text_bytes))
			return true;
	}
	return false;
}
