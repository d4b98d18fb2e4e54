/*
 * text.h
 *		Text: built up in memory through a stream, looked at, hashed.
 */
#ifndef BRIDGE_TEXT_H
#define BRIDGE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * text_finish closes a stream of open_memstream() and returns what was written
 * to it, malloc'd; NULL if memory was short.
 */
extern char *text_finish(FILE *stream, char **text);

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

/* text_cut cuts the text, which is UTF-8, to at most so many bytes, between characters. */
extern void text_cut(char *text, size_t bytes);

/* text_is_utf8: a stranger's text may be any bytes. */
extern bool text_is_utf8(const char *text, size_t bytes);

/*
 * text_escape copies a text so that it cannot pretend to be another: control
 * characters, those that turn the direction of what follows, and invisible ones become
 * \u{...}, bytes that are no UTF-8 \x... . Cut to what there is room for.
 */
extern void text_escape(const char *text, char *escaped, size_t size);

/* text_hash is FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
extern uint64_t text_hash(const char *text);

#endif /* BRIDGE_TEXT_H */
