/*
 * item_id.c
 *		What may be the id of a feed's item.
 */
#include "feed/item_id.h"

#include <stddef.h>
#include <string.h>

#include "store/id_text.h"

bool
item_id_is_text(const char *text)
{
	size_t bytes = strlen(text);
	size_t chars = id_text_chars(text, bytes);

	return !id_text_has_control(text, bytes, true) && chars >= 1 && chars <= ITEM_ID_CHARS_MAX;
}

bool
item_id_is_rounded(const char *text)
{
	size_t whole = strspn(text, "0123456789");
	size_t decimals =
		text[whole] == '.' || text[whole] == ',' ? 1 + strspn(text + whole + 1, "0123456789") : 0;
	const char *exponent = text + whole + decimals;

	return whole == 1 && strncmp(exponent, "E+", 2) == 0 && exponent[2] != '\0' &&
		   exponent[2 + strspn(exponent + 2, "0123456789")] == '\0';
}
