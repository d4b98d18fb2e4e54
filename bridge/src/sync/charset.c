/*
 * charset.c
 *		A feed's bytes to UTF-8, as they arrive, by iconv.
 *
 * Which encoding it is, its first bytes say or somebody has said. Those are kept until
 * there are enough of them to tell.
 */
#include "sync/charset.h"

#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_BYTES    4
#define NAME_SIZE     64
#define CARRY_BYTES   16 /* of a character that is not whole yet */
#define DECODED_BYTES 16384
#define REPLACEMENT   "\xef\xbf\xbd"

struct Charset
{
	CharsetSink sink;
	void       *context;
	char        said[NAME_SIZE];
	bool        is_unknown;
	bool        has_begun; /* the head has been looked at */
	char        head[HEAD_BYTES];
	size_t      nhead;
	iconv_t     iconv; /* (iconv_t) -1: the text is UTF-8 */
	size_t      unit;  /* bytes to pass over where there is no character */
	char        carry[CARRY_BYTES];
	size_t      ncarry;
};

static const struct
{
	const char *bytes;
	size_t      count;
	const char *name;
} marks[] = {{"\xff\xfe\0\0", 4, "UTF-32LE"},
			 {"\0\0\xfe\xff", 4, "UTF-32BE"},
			 {"\xff\xfe", 2, "UTF-16LE"},
			 {"\xfe\xff", 2, "UTF-16BE"},
			 {"\xef\xbb\xbf", 3, "UTF-8"}};

/* What is said, and what is meant by it. */
static const struct
{
	const char *said;
	const char *meant;
} aliases[] = {{"utf8", "UTF-8"},          {"us-ascii", "UTF-8"},
			   {"ascii", "UTF-8"},         {"iso-8859-1", "WINDOWS-1252"},
			   {"latin1", "WINDOWS-1252"}, {"latin-1", "WINDOWS-1252"},
			   {"cp1252", "WINDOWS-1252"}, {"ansi", "WINDOWS-1252"}};

Charset *
charset_create(const char *said, CharsetSink sink, void *context)
{
	Charset *charset = calloc(1, sizeof(Charset));

	if (charset == NULL)
		return NULL;
	charset->sink = sink;
	charset->context = context;
	charset->iconv = (iconv_t) -1;
	snprintf(charset->said, sizeof(charset->said), "%s", said != NULL ? said : "");
	return charset;
}

void
charset_free(Charset *charset)
{
	if (charset == NULL)
		return;
	if (charset->iconv != (iconv_t) -1)
		iconv_close(charset->iconv);
	free(charset);
}

const char *
charset_unknown(const Charset *charset)
{
	return charset->is_unknown ? charset->said : NULL;
}

static bool
is_name(const char *name)
{
	return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") ==
		   strlen(name);
}

/* Opens the encoding of that name; false if there is none. */
static bool
open_encoding(Charset *charset, const char *name)
{
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
	{
		if (strcasecmp(name, aliases[i].said) == 0)
			name = aliases[i].meant;
	}
	if (*name == '\0' || strcasecmp(name, "UTF-8") == 0)
		return true;
	charset->unit = strncasecmp(name, "UTF-16", 6) == 0 || strncasecmp(name, "UCS-2", 5) == 0 ? 2
					: strncasecmp(name, "UTF-32", 6) == 0                                     ? 4
																							  : 1;
	if (is_name(name))
		charset->iconv = iconv_open("UTF-8", name);
	if (charset->iconv != (iconv_t) -1)
		return true;
	charset->is_unknown = !is_name(name) || errno == EINVAL;
	return false;
}

/* The encoding that the first bytes show, and how many of them are its mark; NULL: none. */
static const char *
encoding_of_head(const Charset *charset, size_t *mark_bytes)
{
	*mark_bytes = 0;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
	{
		if (charset->nhead >= marks[i].count &&
			memcmp(charset->head, marks[i].bytes, marks[i].count) == 0)
		{
			*mark_bytes = marks[i].count;
			return marks[i].name;
		}
	}
	/* every text of ours begins with two characters of ASCII: so "utf-16", too, has its order */
	if ((*charset->said == '\0' || strcasecmp(charset->said, "UTF-16") == 0) &&
		charset->nhead >= 2 && (charset->head[0] == '\0') != (charset->head[1] == '\0'))
		return charset->head[0] == '\0' ? "UTF-16BE" : "UTF-16LE";
	return NULL;
}

/* Passes over what is no character, and puts a replacement in its place. */
static bool
replace(Charset *charset, char **in, size_t *left)
{
	size_t skipped = charset->unit < *left ? charset->unit : *left;

	*in += skipped;
	*left -= skipped;
	return charset->sink(charset->context, REPLACEMENT, strlen(REPLACEMENT));
}

/* Decodes all of it but the beginning of a character, which stays in *in. */
static bool
decode(Charset *charset, char **in, size_t *left)
{
	char decoded[DECODED_BYTES];

	while (*left > 0)
	{
		char  *out = decoded;
		size_t room = sizeof(decoded);
		size_t result = iconv(charset->iconv, in, left, &out, &room);
		int    problem = result == (size_t) -1 ? errno : 0;

		if (out > decoded && !charset->sink(charset->context, decoded, (size_t) (out - decoded)))
			return false;
		if (problem == EINVAL)
			return true;
		if (problem == EILSEQ && !replace(charset, in, left))
			return false;
	}
	return true;
}

static bool
pass_on(Charset *charset, const char *data, size_t bytes)
{
	if (bytes == 0)
		return true;
	if (charset->iconv == (iconv_t) -1)
		return charset->sink(charset->context, data, bytes);

	/* the rest of a character that the last piece began, a byte at a time until it is whole */
	while (charset->ncarry > 0 && bytes > 0)
	{
		char  *in = charset->carry;
		size_t left;

		charset->carry[charset->ncarry++] = *data++;
		bytes--;
		left = charset->ncarry;
		if (!decode(charset, &in, &left))
			return false;
		if (left == CARRY_BYTES && !replace(charset, &in, &left))
			return false;
		memmove(charset->carry, in, left);
		charset->ncarry = left;
	}
	if (bytes > 0)
	{
		char  *in = (char *) data;
		size_t left = bytes;

		if (!decode(charset, &in, &left))
			return false;
		charset->ncarry = left < CARRY_BYTES ? left : CARRY_BYTES - 1;
		memcpy(charset->carry, in, charset->ncarry);
	}
	return true;
}

static bool
begin(Charset *charset)
{
	size_t      mark_bytes;
	const char *name = encoding_of_head(charset, &mark_bytes);

	charset->has_begun = true;
	return open_encoding(charset, name != NULL ? name : charset->said) &&
		   pass_on(charset, charset->head + mark_bytes, charset->nhead - mark_bytes);
}

bool
charset_add(Charset *charset, const char *data, size_t bytes)
{
	while (!charset->has_begun && bytes > 0)
	{
		charset->head[charset->nhead++] = *data++;
		bytes--;
		if (charset->nhead == HEAD_BYTES && !begin(charset))
			return false;
	}
	return pass_on(charset, data, bytes);
}

bool
charset_finish(Charset *charset)
{
	if (!charset->has_begun && !begin(charset))
		return false;
	return charset->ncarry == 0 ||
		   charset->sink(charset->context, REPLACEMENT, strlen(REPLACEMENT));
}
