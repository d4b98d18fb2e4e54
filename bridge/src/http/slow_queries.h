/*
 * slow_queries.h
 *		What has timed out by itself of late: it is asked for apart from all else, by
 *		the one worker of a queue that has time for it.
 */
#ifndef BRIDGE_SLOW_QUERIES_H
#define BRIDGE_SLOW_QUERIES_H

#include <stdbool.h>

#include "http/intake.h"

/* slow_remember: what the job asks for is slow for the next minute. Of very many the oldest are
 * forgotten. */
extern void slow_remember(const Job *job);

extern bool is_slow(const Job *job);

#endif /* BRIDGE_SLOW_QUERIES_H */
