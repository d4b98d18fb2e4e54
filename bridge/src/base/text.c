/*
 * text.c
 *		Text: built up in memory through a stream, looked at, hashed.
 */
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

char *
text_finish(FILE *stream, char **text)
{
	if (fclose(stream) == 0)
		return *text;
	free(*text);
	return NULL;
}

char *
text_of_ids(const int64_t *ids, int count)
{
	char  *text = NULL;
	size_t size;
	FILE  *stream = open_memstream(&text, &size);

	if (stream == NULL)
		return NULL;
	fputc('{', stream);
	for (int i = 0; i < count; i++)
		fprintf(stream, "%s%" PRId64, i > 0 ? "," : "", ids[i]);
	fputc('}', stream);
	return text_finish(stream, &text);
}

static void
write_quoted(FILE *stream, const char *text)
{
	fputc('"', stream);
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			fputc('\\', stream);
		fputc(*text, stream);
	}
	fputc('"', stream);
}

char *
text_of_strings(const char *const *strings, int count)
{
	char  *text = NULL;
	size_t size;
	FILE  *stream = open_memstream(&text, &size);

	if (stream == NULL)
		return NULL;
	for (int i = 0; i < count; i++)
	{
		fputc(i == 0 ? '{' : ',', stream);
		if (strings[i] == NULL)
			fputs("NULL", stream);
		else
			write_quoted(stream, strings[i]);
	}
	fputs(count == 0 ? "{}" : "}", stream);
	return text_finish(stream, &text);
}

bool
text_has_nul(const char *text, size_t bytes)
{
	return bytes > 0 && memchr(text, '\0', bytes) != NULL;
}

bool
text_read_number(const char *text, long long minimum, long long maximum, long long *number)
{
	char *end;

	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *number >= minimum && *number <= maximum;
}

void
text_cut(char *text, size_t bytes)
{
	if (strlen(text) <= bytes)
		return;
	while (bytes > 0 && ((unsigned char) text[bytes] & 0xc0) == 0x80)
		bytes--;
	text[bytes] = '\0';
}

/*
 * Takes one character off the text, which has so many bytes at most; *code is -1 and the length 1
 * if the first byte begins none.
 */
static int
next_character(const unsigned char *text, size_t bytes, int *code)
{
	int length = *text < 0x80                    ? 1
				 : *text >= 0xc2 && *text < 0xe0 ? 2
				 : *text >= 0xe0 && *text < 0xf0 ? 3
				 : *text >= 0xf0 && *text < 0xf5 ? 4
												 : 0;

	*code = length == 1 ? *text : *text & (0x7f >> length);
	for (int i = 1; i < length; i++)
	{
		if ((size_t) i >= bytes || (text[i] & 0xc0) != 0x80)
			length = 0;
		else
			*code = *code << 6 | (text[i] & 0x3f);
	}
	if (length == 0 || (length == 3 && (*code < 0x800 || (*code >= 0xd800 && *code < 0xe000))) ||
		(length == 4 && (*code < 0x10000 || *code > 0x10ffff)))
	{
		*code = -1;
		return 1;
	}
	return length;
}

bool
text_is_utf8(const char *text, size_t bytes)
{
	for (size_t at = 0; at < bytes;)
	{
		int code = 0;

		if ((unsigned char) text[at] < 0x80)
			at++;
		else
			at += (size_t) next_character((const unsigned char *) text + at, bytes - at, &code);
		if (code < 0)
			return false;
	}
	return true;
}

/* What a reader does not see, or sees elsewhere than it stands. */
static bool
is_deceptive(int code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xad || code == 0x61c ||
		   (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
		   (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
		   (code >= 0xe0000 && code < 0xe0080);
}

void
text_escape(const char *text, char *escaped, size_t size)
{
	size_t used = 0;

	while (*text != '\0' && used + 1 < size)
	{
		char   piece[16];
		int    code;
		int    length;
		size_t plain = 0;

		/* nearly all of nearly every text */
		while (text[plain] >= ' ' && text[plain] < 0x7f && used + plain + 1 < size)
			plain++;
		memcpy(escaped + used, text, plain);
		used += plain;
		text += plain;
		if (*text == '\0' || used + 1 >= size)
			break;
		length = next_character((const unsigned char *) text, SIZE_MAX, &code);

		if (code < 0)
			snprintf(piece, sizeof(piece), "\\x%02x", (unsigned char) *text);
		else if (is_deceptive(code))
			snprintf(piece, sizeof(piece), "\\u{%x}", code);
		else
			snprintf(piece, sizeof(piece), "%.*s", length, text);
		if (used + strlen(piece) >= size)
			break;
		used = (size_t) (stpcpy(escaped + used, piece) - escaped);
		text += length;
	}
	escaped[used] = '\0';
}

uint64_t
text_hash(const char *text)
{
	uint64_t hash = 14695981039346656037ULL;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 1099511628211ULL;
	return hash;
}
