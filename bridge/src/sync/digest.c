/*
 * digest.c
 *		A number that says whether a text that comes in pieces is the one that came before.
 *
 * Eight bytes at a time: a feed may have hundreds of megabytes.
 */
#include "sync/digest.h"

#include <string.h>

#define MULTIPLIER UINT64_C(0x9e3779b97f4a7c15) /* 2^64 over the golden ratio */

static uint64_t
mix(uint64_t state, uint64_t word)
{
	state = (state ^ word) * MULTIPLIER;
	return state ^ (state >> 29);
}

void
digest_add(Digest *digest, const char *data, size_t bytes)
{
	digest->bytes += bytes;
	while (bytes > 0)
	{
		if (digest->nword == 0 && bytes >= sizeof(uint64_t))
		{
			uint64_t word;

			memcpy(&word, data, sizeof(word));
			digest->state = mix(digest->state, word);
			data += sizeof(word);
			bytes -= sizeof(word);
			continue;
		}
		memcpy((char *) &digest->word + digest->nword++, data++, 1);
		bytes--;
		if (digest->nword < sizeof(uint64_t))
			continue;
		digest->state = mix(digest->state, digest->word);
		digest->word = 0;
		digest->nword = 0;
	}
}

int64_t
digest_value(const Digest *digest)
{
	uint64_t value = mix(mix(digest->state, digest->word), digest->bytes);

	return (int64_t) (value * MULTIPLIER);
}
