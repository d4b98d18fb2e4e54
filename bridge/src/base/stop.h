/*
 * stop.h
 *		The wish to stop, as every thread sees it.
 */
#ifndef BRIDGE_STOP_H
#define BRIDGE_STOP_H

#include <stdbool.h>

/* stop_init makes the descriptor; false if the system refuses. Call once, before any thread. */
extern bool stop_init(void) __attribute__((warn_unused_result));

/* stop_announce tells that a stop is near: everything goes on, but who can go elsewhere should. */
extern void stop_announce(void);
extern bool stop_announced(void);

/* stop_request asks all threads to finish; may be called from anywhere, more than once. */
extern void stop_request(void);

extern bool stop_requested(void);

/* stop_descriptor becomes readable when a stop is requested: for poll(). */
extern int stop_descriptor(void);

/* stop_wait_ms sleeps that long, or until a stop is requested. */
extern void stop_wait_ms(int milliseconds);

/* Milliseconds of a clock that never goes back. */
extern long long monotonic_ms(void);
extern long long monotonic_us(void);

/* rest_until_ms: when what began at that time, and has held up others until now, may be done again,
 * so that it holds them up for a tenth of the time, no more. */
static inline long long
rest_until_ms(long long began_ms)
{
	long long now = monotonic_ms();

	return now + 10 * (now - began_ms);
}

/* The time of day, in seconds since 1970; it may be set, and go back. */
extern double wall_clock_s(void);

#endif /* BRIDGE_STOP_H */
