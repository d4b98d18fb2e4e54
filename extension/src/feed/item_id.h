/*
 * item_id.h
 *		What may be the id of a feed's item.
 *
 * Pure C, without the server's headers, as number.h.
 */
#ifndef OA_ITEM_ID_H
#define OA_ITEM_ID_H

#include <stdbool.h>

#define ITEM_ID_CHARS_MAX 128

/* item_id_is_text says whether the text, which is UTF-8, has 1 to ITEM_ID_CHARS_MAX characters, and
 * none of them is a control character. */
extern bool item_id_is_text(const char *text);

/* item_id_is_rounded says whether it is what spreadsheets make of a long number, 1.23457E+12: which
 * one it was nobody knows. */
extern bool item_id_is_rounded(const char *text);

#endif /* OA_ITEM_ID_H */
