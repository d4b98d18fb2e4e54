/*
 * text.c
 *		Text: built up in memory through a stream, looked at, hashed.
 */
#include "text.h"

#include <inttypes.h>
#include <jansson.h>
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

bool
text_has_nul(const char *text, size_t bytes)
{
	return bytes > 0 && memchr(text, '\0', bytes) != NULL;
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

bool
text_is_utf8(const char *text, size_t bytes)
{
	size_t  ascii = 0;
	json_t *string;

	while (ascii < bytes && (unsigned char) text[ascii] < 0x80)
		ascii++;
	if (ascii == bytes)
		return true;
	string = json_stringn(text, bytes);
	json_decref(string);
	return string != NULL;
}

uint64_t
text_hash(const char *text)
{
	uint64_t hash = 14695981039346656037ULL;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 1099511628211ULL;
	return hash;
}
