/*
 * charset.h
 *		A feed's bytes to UTF-8: by its byte order mark, or what its charset is said to be.
 */
#ifndef BRIDGE_CHARSET_H
#define BRIDGE_CHARSET_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Charset Charset;

/* What takes the text as it comes; false: no more of it is wanted. */
typedef bool (*CharsetSink)(void *context, const char *text, size_t bytes);

/*
 * charset_create begins a text. said is the name of an encoding, or NULL; a byte order mark goes
 * before it, and without either the text is taken for UTF-8, whose bytes are passed on
 * as they are. NULL if memory is short.
 */
extern Charset *charset_create(const char *said, CharsetSink sink, void *context);
extern void     charset_free(Charset *charset);

/*
 * charset_add takes the next bytes, charset_finish their end. What is no character becomes U+FFFD.
 * False if the sink wants no more, memory is short, or the encoding is not known:
 * charset_unknown() is then its name.
 */
extern bool charset_add(Charset *charset, const char *data, size_t bytes)
	__attribute__((warn_unused_result));
extern bool        charset_finish(Charset *charset) __attribute__((warn_unused_result));
extern const char *charset_unknown(const Charset *charset);

#endif /* BRIDGE_CHARSET_H */
