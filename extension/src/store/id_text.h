/*
 * id_text.h
 *		What a text must be to name something: so long, and without control characters.
 *
 * Pure C, without the server's headers: the bridge reads feeds by the same rule.
 */
#ifndef OA_ID_TEXT_H
#define OA_ID_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* id_text_has_control says whether one of the characters of the text is a control character; of
 * those beyond ASCII only what is UTF-8 is known. */
extern bool id_text_has_control(const char *text, size_t bytes, bool is_utf8);

/* id_text_chars returns how many characters a text in UTF-8 has. */
extern size_t id_text_chars(const char *text, size_t bytes);

#endif /* OA_ID_TEXT_H */
