/*
 * text.c
 *		Text: built up in memory, looked at, hashed.
 */
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------- building ---------- */

#define TEXT_ROOM_MIN 256

/* Room for so many bytes more, and a NUL; false if there is none. */
static bool
make_room(Text *text, size_t count)
{
	size_t room = text->room > 0 ? text->room : TEXT_ROOM_MIN;
	char  *bytes;

	if (text->is_short)
		return false;
	while (room - text->length <= count)
		room *= 2;
	if (room == text->room)
		return true;
	bytes = realloc(text->bytes, room);
	if (bytes == NULL)
	{
		free(text->bytes);
		*text = (Text){.is_short = true};
		return false;
	}
	text->bytes = bytes;
	text->room = room;
	return true;
}

void
text_add(Text *text, const char *bytes, size_t count)
{
	if (!make_room(text, count))
		return;
	memcpy(text->bytes + text->length, bytes, count);
	text->length += count;
}

void
text_add_char(Text *text, char character)
{
	text_add(text, &character, 1);
}

void
text_add_string(Text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

void
text_add_format(Text *text, const char *format, ...)
{
	char    piece[512];
	va_list values;
	int     length;

	va_start(values, format);
	length = vsnprintf(piece, sizeof(piece), format, values);
	va_end(values);
	if (length < 0)
		text->is_short = true;
	else if (length < (int) sizeof(piece))
		text_add(text, piece, (size_t) length);
	else if (make_room(text, (size_t) length))
	{
		va_start(values, format);
		vsnprintf(text->bytes + text->length, (size_t) length + 1, format, values);
		va_end(values);
		text->length += (size_t) length;
	}
}

char *
text_finish(Text *text)
{
	if (!make_room(text, 0))
	{
		free(text->bytes);
		return NULL;
	}
	text->bytes[text->length] = '\0';
	return text->bytes;
}

char *
text_of_ids(const int64_t *ids, int count)
{
	Text text = {0};

	text_add_char(&text, '{');
	for (int i = 0; i < count; i++)
		text_add_format(&text, "%s%" PRId64, i > 0 ? "," : "", ids[i]);
	text_add_char(&text, '}');
	return text_finish(&text);
}

static void
add_quoted(Text *text, const char *string)
{
	text_add_char(text, '"');
	for (; *string != '\0'; string++)
	{
		if (*string == '"' || *string == '\\')
			text_add_char(text, '\\');
		text_add_char(text, *string);
	}
	text_add_char(text, '"');
}

char *
text_of_strings(const char *const *strings, int count)
{
	Text text = {0};

	for (int i = 0; i < count; i++)
	{
		text_add_char(&text, i == 0 ? '{' : ',');
		if (strings[i] == NULL)
			text_add_string(&text, "NULL");
		else
			add_quoted(&text, strings[i]);
	}
	text_add_string(&text, count == 0 ? "{}" : "}");
	return text_finish(&text);
}

/* ---------- looking ---------- */

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

void
text_excerpt(const char *text, char excerpt[TEXT_EXCERPT_BYTES])
{
	size_t length = strlen(text);
	size_t bytes = 0;
	int    code;

	for (int chars = 0; chars < TEXT_EXCERPT_CHARS && bytes < length; chars++)
		bytes +=
			(size_t) next_character((const unsigned char *) text + bytes, length - bytes, &code);
	snprintf(excerpt, TEXT_EXCERPT_BYTES, "%.*s%s", (int) bytes, text, bytes < length ? "..." : "");
}

/* ---------- digits and numbers ---------- */

int
text_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static void
add_readable_number(Text *text, const char *number, size_t bytes, bool as_reals)
{
	bool is_whole = strspn(number, "+-0123456789") == bytes;
	bool is_long;

	errno = 0;
	if (is_whole)
		(void) strtoll(number, NULL, 10);
	is_long = errno == ERANGE;
	if (isinf(strtod(number, NULL)) || (is_long && !as_reals))
		text_add_format(text, "\"%.*s\"", (int) bytes, number);
	else
		text_add_format(text, "%.*s%s", (int) bytes, number, is_long ? ".0" : "");
}

char *
text_readable_numbers(const char *json, bool as_reals)
{
	Text text = {0};
	bool is_inside = false; /* a string */

	while (*json != '\0')
	{
		size_t bytes = is_inside ? 0 : strspn(json, "+-.0123456789Ee");

		if (bytes > 0)
			add_readable_number(&text, json, bytes, as_reals);
		else
		{
			bytes = is_inside && json[0] == '\\' && json[1] != '\0' ? 2 : 1;
			is_inside ^= *json == '"';
			text_add(&text, json, bytes);
		}
		json += bytes;
	}
	return text_finish(&text);
}

/* ---------- what may stand in a log ---------- */

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
