/*
 * text.h
 *		Text: built up in memory, looked at, hashed.
 */
#ifndef BRIDGE_TEXT_H
#define BRIDGE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A text, or other bytes, that grow: zeros to begin with. Once memory was short it takes nothing
 * more, and text_finish says so. (open_memstream() forgets what it had no memory for.)
 */
typedef struct Text
{
	char  *bytes; /* malloc'd */
	size_t length;
	size_t room;
	bool   is_short;
} Text;

extern void text_add(Text *text, const char *bytes, size_t count);
extern void text_add_char(Text *text, char character);
extern void text_add_string(Text *text, const char *string);
extern void text_add_format(Text *text, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* text_finish returns what was added and a NUL, malloc'd; NULL if memory was short. */
extern char *text_finish(Text *text) __attribute__((warn_unused_result));

/* text_of_ids returns the numbers as a PostgreSQL array, "{1,2}", malloc'd; NULL if memory is
 * short. */
extern char *text_of_ids(const int64_t *ids, int count);

/* text_of_strings likewise, of texts, quoted; NULL is a null. */
extern char *text_of_strings(const char *const *strings, int count);

/*
 * text_has_nul: a stranger's text with a NUL character is not JSON, but jansson
 * and the database take the character for its end. text may be NULL if bytes is 0.
 */
extern bool text_has_nul(const char *text, size_t bytes);

/* text_read_number reads a text that is a whole number from minimum to maximum and nothing more;
 * false if it is not. */
extern bool text_read_number(const char *text, long long minimum, long long maximum,
							 long long *number);

/* text_hex_digit is what a hexadecimal digit stands for; -1: it is none. */
extern int text_hex_digit(char c);

/* text_cut cuts the text, which is UTF-8, to at most so many bytes, between characters. */
extern void text_cut(char *text, size_t bytes);

/* text_excerpt copies what of a stranger's text, which is UTF-8, goes into an answer: the text, or
 * its first 128 characters and "...". */
#define TEXT_EXCERPT_CHARS 128
#define TEXT_EXCERPT_BYTES ((size_t) TEXT_EXCERPT_CHARS * 4 + sizeof("..."))

extern void text_excerpt(const char *text, char excerpt[TEXT_EXCERPT_BYTES]);

/* text_is_utf8: a stranger's text may be any bytes. */
extern bool text_is_utf8(const char *text, size_t bytes);

/*
 * text_readable_numbers returns the JSON text with the numbers changed that jansson does not read,
 * malloc'd; NULL if memory is short: whole ones beyond 64 bits get a point, if "as_reals" and a
 * double holds them; the others are quoted.
 */
extern char *text_readable_numbers(const char *json, bool as_reals);

/*
 * text_escape copies a text so that it cannot pretend to be another: control
 * characters, those that turn the direction of what follows, and invisible ones become
 * \u{...}, bytes that are no UTF-8 \x... . Cut to what there is room for.
 */
extern void text_escape(const char *text, char *escaped, size_t size);

/* text_hash is FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
extern uint64_t text_hash(const char *text);

#endif /* BRIDGE_TEXT_H */
