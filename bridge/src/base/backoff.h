/*
 * backoff.h
 *		How long to wait before trying again: doubling, capped, with full jitter.
 */
#ifndef BRIDGE_BACKOFF_H
#define BRIDGE_BACKOFF_H

typedef struct Backoff
{
	int delay_ms_min;
	int delay_ms_max;
	int attempt; /* failures since the last success */
} Backoff;

/*
 * backoff_next returns the next delay in milliseconds, at random between half of
 * and the whole of min(max, min * 2^attempt), and counts the attempt.
 */
extern int backoff_next(Backoff *backoff);

/* backoff_reset: it worked. */
extern void backoff_reset(Backoff *backoff);

#endif /* BRIDGE_BACKOFF_H */
