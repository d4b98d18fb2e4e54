/*
 * reply_text.c
 *		A vendor's reply as it came, made into one that the database can read.
 *
 * A reply is an answer that will not be given again. So it is read with tolerance
 * wherever its meaning is clear, and not at all where it is not.
 */
#include "replies/reply_text.h"

#include <jansson.h>
#include <string.h>

#include "base/text.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static const char *const members[] = {"orderId", "vendorId", "attempt", "status", "reason"};

/* ---------- bytes ---------- */

/* How many bytes the character at the start has; 0 if it is none. */
static size_t
character_bytes(const char *text, size_t bytes)
{
	for (size_t length = 1; length <= 4 && length <= bytes; length++)
	{
		if (text_is_utf8(text, length))
			return length;
	}
	return 0;
}

/*
 * The body with a character for each byte that is none, and a blank for each control
 * character: outside a text that changes nothing, inside it is a line break at worst.
 */
static char *
mend_bytes(const char *body, size_t bytes)
{
	char *mended = malloc(bytes * strlen(REPLACEMENT) + 1);
	char *to = mended;

	for (size_t i = 0; mended != NULL && i < bytes;)
	{
		size_t length = character_bytes(body + i, bytes - i);

		if (length == 0)
			to = stpcpy(to, REPLACEMENT);
		else if (length == 1)
			*to++ = (unsigned char) body[i] < ' ' ? ' ' : body[i];
		else
			to = mempcpy(to, body + i, length);
		i += length > 0 ? length : 1;
	}
	if (mended != NULL)
		*to = '\0';
	return mended;
}

/* The code unit of a \\uXXXX at the start, or -1. */
static int
code_unit(const char *text)
{
	int unit = 0;

	if (text[0] != '\\' || text[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++)
	{
		int digit = text_hex_digit(text[i]);

		if (digit < 0)
			return -1;
		unit = unit * 16 + digit;
	}
	return unit;
}

/* Escapes of what no text can hold, a NUL and half a character, become the replacement character.
 */
static void
mend_escapes(char *text)
{
	char *p = text;

	while ((p = strchr(p, '\\')) != NULL)
	{
		int unit = code_unit(p);
		int next = unit >= 0 ? code_unit(p + 6) : -1;

		if (unit >= 0xd800 && unit <= 0xdbff && next >= 0xdc00 && next <= 0xdfff)
			p += 12;
		else if (unit >= 0)
		{
			if (unit == 0 || (unit >= 0xd800 && unit <= 0xdfff))
				memcpy(p + 2, "fffd", 4);
			p += 6;
		}
		else
			p += p[1] != '\0' ? 2 : 1; /* whatever is escaped begins no escape itself */
	}
}

/* ---------- members ---------- */

/* The reason as a text that is not too long. */
static json_t *
short_reason(const json_t *reason)
{
	char *dumped =
		json_is_string(reason) ? NULL : json_dumps(reason, JSON_COMPACT | JSON_ENCODE_ANY);
	char *text =
		dumped != NULL ? dumped : strdup(json_is_string(reason) ? json_string_value(reason) : "");
	json_t *result = NULL;

	if (text != NULL)
	{
		text_cut(text, REPLY_REASON_BYTES_MAX);
		result = json_string(text);
	}
	free(text);
	return result;
}

static char *
known_members(const json_t *reply)
{
	json_t *known = json_object();
	char   *text;

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
	{
		json_t *value = json_object_get(reply, members[i]);

		if (value == NULL || json_is_null(value))
			continue;
		if (strcmp(members[i], "reason") == 0)
			json_object_set_new(known, members[i], short_reason(value));
		else
			json_object_set(known, members[i], value);
	}
	text = json_dumps(known, JSON_COMPACT);
	json_decref(known);
	return text;
}

char *
reply_text_read(const char *body, size_t bytes, char *complaint, size_t complaint_size)
{
	static const char mark[] = "\xef\xbb\xbf";
	json_error_t      error;
	char             *mended;
	char             *readable = NULL;
	json_t           *reply = NULL;
	char             *text = NULL;

	*complaint = '\0';
	if (text_has_nul(body, bytes))
	{
		snprintf(complaint, complaint_size, "body is not JSON: it has a NUL character");
		return NULL;
	}
	if (bytes >= strlen(mark) && memcmp(body, mark, strlen(mark)) == 0)
	{
		body += strlen(mark);
		bytes -= strlen(mark);
	}
	mended = mend_bytes(body, bytes);
	if (mended != NULL)
	{
		mend_escapes(mended);
		reply = json_loads(mended, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	}
	if (reply == NULL && mended != NULL)
		readable = text_readable_numbers(mended, false);
	if (readable != NULL)
		reply = json_loads(readable, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (reply == NULL && readable != NULL)
		snprintf(complaint, complaint_size, "body is not JSON: %s", error.text);
	else if (reply != NULL && !json_is_object(reply))
		snprintf(complaint, complaint_size, "the reply must be an object");
	else if (reply != NULL)
		text = known_members(reply);
	free(readable);
	free(mended);
	json_decref(reply);
	return text;
}
