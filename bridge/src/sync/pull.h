/*
 * pull.h
 *		Pulling vendors' feeds over HTTP, many side by side.
 */
#ifndef BRIDGE_PULL_H
#define BRIDGE_PULL_H

#include <stdbool.h>

#include "sync/feed_reader.h"

/* Feeds in memory, under way or waiting to be applied: as many of FEED_BYTES_MAX; smaller ones are
 * more. */
#define PULL_FEEDS_MAX 4

typedef enum PullStatus
{
	PULL_BROUGHT,   /* a feed */
	PULL_UNCHANGED, /* the feed is the one we have */
	PULL_FAILED
} PullStatus;

#define PULL_TAG_BYTES_MAX   256
#define PULL_ERROR_BYTES_MAX 512

/* What became of a pull. */
typedef struct PullResult
{
	char       *vendor_id;
	PullStatus  status;
	char        error[PULL_ERROR_BYTES_MAX];
	Feed       *feed;          /* PULL_BROUGHT only */
	size_t      bytes;         /* of its text */
	size_t      held_bytes;    /* of memory: these, and the list of its items */
	double      as_of_latest;  /* seconds since 1970: the feed was counted then or before */
	const char *as_of_rule;    /* who says so: Last-Modified, Date, request */
	const char *told;          /* that time as the vendor wrote it; NULL: request */
	double      began_at;      /* when it was asked for */
	double      retry_after_s; /* how long the vendor wants to be left alone; 0: it does not say */
	double clock_ahead; /* seconds that the vendor's clock is ahead of ours, at least; to take off
						   its own as_of */
	char etag[PULL_TAG_BYTES_MAX];
	char last_modified[PULL_TAG_BYTES_MAX];
	bool tag_is_weak; /* these two: the next pull is not to ask by it */
	bool time_is_weak;
	char date[PULL_TAG_BYTES_MAX];
	char config_no[12]; /* of the vendor, as it was asked for */
	bool is_excused;    /* it broke off after it had to wait for memory of ours */
} PullResult;

extern void pull_result_free(PullResult *result);

/* pull_has_room: is there memory for more feeds, whoever pulls them? */
extern bool pull_has_room(void);

typedef struct Puller Puller;

extern Puller *puller_create(void);
extern void    puller_free(Puller *puller);

/*
 * puller_add begins a pull; mapping, etag and last_modified may be NULL; config_no comes back with
 * the result. A
 * failure to begin is a result like any other; false only if memory is short.
 */
extern bool puller_add(Puller *puller, const char *vendor_id, const char *url, const char *mapping,
					   const char *etag, const char *last_modified, const char *config_no)
	__attribute__((warn_unused_result));

/* puller_count: how many pulls are under way, or their results not taken yet. */
extern int puller_count(const Puller *puller);

/* puller_excuse adds to the time that the pulls under way have: it went by while nobody looked
 * after them. */
extern void puller_excuse(Puller *puller, long long microseconds);

/* puller_give_up ends a pull as it is and returns its result, which the caller frees; NULL if none
 * is under way. */
extern PullResult *puller_give_up(Puller *puller);

/* puller_is_pulling: is a pull of that vendor among them? */
extern bool puller_is_pulling(const Puller *puller, const char *vendor_id);

/*
 * puller_take lets the transfers go on, waits at most so long for one to end, and
 * returns its result, which the caller frees; NULL if none has ended. Do others that have ended
 * wait to be applied? When they are there will be memory again.
 */
extern PullResult *puller_take(Puller *puller, int wait_ms, bool others_wait);

#endif /* BRIDGE_PULL_H */
