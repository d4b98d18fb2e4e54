/*
 * id_text.c
 *		What a text must be to name something.
 */
#include "store/id_text.h"

bool
id_text_has_control(const char *text, size_t bytes, bool is_utf8)
{
	for (size_t i = 0; i < bytes; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c < 0x20 || c == 0x7f ||
			(is_utf8 && c == 0xc2 && i + 1 < bytes && (unsigned char) text[i + 1] < 0xa0))
			return true;
	}
	return false;
}

size_t
id_text_chars(const char *text, size_t bytes)
{
	size_t chars = 0;

	for (size_t i = 0; i < bytes; i++)
		chars += ((unsigned char) text[i] & 0xc0) != 0x80;
	return chars;
}
