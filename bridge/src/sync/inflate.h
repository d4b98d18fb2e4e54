/*
 * inflate.h
 *		A body that came compressed, as it arrives; and whether all of it has come.
 *
 * libcurl can do the first, and does not tell the second: a compressed text that is cut
 * looks whole to it.
 */
#ifndef BRIDGE_INFLATE_H
#define BRIDGE_INFLATE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Inflate Inflate;

/* What takes the text; false: no more of it is wanted. */
typedef bool (*InflateSink)(void *context, const char *text, size_t bytes);

/* inflate_knows says whether a Content-Encoding is gzip or deflate. */
extern bool inflate_knows(const char *encoding);

/* inflate_create begins a body of that encoding; NULL if memory is short. */
extern Inflate *inflate_create(const char *encoding, InflateSink sink, void *context);
extern void     inflate_free(Inflate *inflate);

/* inflate_add takes the next bytes. False if they are no such text or memory is short (*complaint
 * says which, else it is NULL), or the sink wants no more. */
extern bool inflate_add(Inflate *inflate, const char *data, size_t bytes, const char **complaint)
	__attribute__((warn_unused_result));

/* inflate_is_whole: its end, with the check of it, has come. */
extern bool inflate_is_whole(const Inflate *inflate);

#endif /* BRIDGE_INFLATE_H */
