/*
 * digest.h
 *		A number that says whether a text that comes in pieces is the one that came before.
 */
#ifndef BRIDGE_DIGEST_H
#define BRIDGE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

/* Begin with zeros. The pieces may be cut anywhere. */
typedef struct Digest
{
	uint64_t state;
	uint64_t word; /* bytes that do not fill a word yet */
	unsigned nword;
	uint64_t bytes;
} Digest;

extern void digest_add(Digest *digest, const char *data, size_t bytes);

/* digest_value: not against forgery, but against mistaking one feed for another. */
extern int64_t digest_value(const Digest *digest);

#endif /* BRIDGE_DIGEST_H */
