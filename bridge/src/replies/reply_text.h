/*
 * reply_text.h
 *		A vendor's reply as it came, made into one that the database can read.
 */
#ifndef BRIDGE_REPLY_TEXT_H
#define BRIDGE_REPLY_TEXT_H

#include <stddef.h>

#define REPLY_REASON_BYTES_MAX 1000

/*
 * reply_text_read returns the reply as a JSON object of orderId, vendorId, attempt,
 * status and reason, those it has, malloc'd. What does not touch its meaning is
 * mended: a byte order mark, bytes that are no UTF-8, line breaks in a text,
 * escapes that no text can hold, members that we do not know, a long reason. NULL if
 * it cannot be read; *complaint, of complaint_size bytes, then says why, or is empty if memory is
 * short.
 */
extern char *reply_text_read(const char *body, size_t bytes, char *complaint,
							 size_t complaint_size);

#endif /* BRIDGE_REPLY_TEXT_H */
