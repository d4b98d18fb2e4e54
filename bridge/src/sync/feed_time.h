/*
 * feed_time.h
 *		When a vendor says that it counted, in the forms that suppliers' interfaces use.
 */
#ifndef BRIDGE_FEED_TIME_H
#define BRIDGE_FEED_TIME_H

#include <stdbool.h>

typedef struct FeedTime
{
	long long at_us;    /* microseconds since 1970 */
	bool      is_local; /* it names no zone: at_us is what it would be in UTC */
} FeedTime;

/*
 * feed_time_read reads ISO 8601 (2026-01-02T03:04:05.678+01:00, also with a blank, without
 * seconds, as 20260102T030405Z, a date alone), RFC 9110 (Fri, 02 Jan 2026 03:04:05 GMT), seconds
 * (10 digits), milliseconds (13) or microseconds (16) since 1970, and /Date(1767323045000)/. False
 * for all else: 02/01/2026 is in no form that says one day.
 */
extern bool feed_time_read(const char *text, FeedTime *time) __attribute__((warn_unused_result));

#endif /* BRIDGE_FEED_TIME_H */
