/*
 * intake.h
 *		Bounded queues of HTTP exchanges, from the server's thread to those that
 *		talk to the database.
 *
 * A job that cannot be done yet comes back later without holding up the others.
 */
#ifndef BRIDGE_INTAKE_H
#define BRIDGE_INTAKE_H

#include <stdbool.h>

#include "http/server.h"

typedef struct Query Query; /* queries.h */

/* A deferred exchange and what is to be done for it. Texts are malloc'd. */
typedef struct Job
{
	struct Job   *next;
	HttpExchange *exchange;
	const Query  *query; /* what is asked of the database; NULL: to place an order */
	char  *subject; /* what the path names: an order, a product, a vendor; NULL: nothing, or all */
	char  *body;    /* JSON, as the database takes it; NULL: none */
	size_t body_bytes;       /* set by intake_add */
	char  *idempotency_key;  /* of what changes something; else NULL */
	char  *after;            /* of a page: it begins after that */
	int    limit;            /* and has so many rows */
	long long deadline_ms;   /* of monotonic_ms() */
	long long not_before_ms; /* it is not to be tried again before; 0: it is new */
	int       tries;
	int       place;       /* of its subject among those that are asked for together */
	int       times_apart; /* it is tried only by itself, or with those that ask the same: how
							  often that was found to be needed */
	int  losses;           /* of the connection while it was being placed, since it was set aside */
	bool is_outcome_unknown; /* a connection was lost, and it may have been done */
} Job;

typedef struct Intake Intake;

/* intake_create makes an empty queue for at most max jobs with so many bytes of bodies; NULL if
 * memory is short. */
extern Intake *intake_create(int max, size_t bytes_max);

/* intake_add gives a new job to the queue; false, the job staying the caller's, if it is full or
 * closed. */
extern bool intake_add(Intake *intake, Job *job) __attribute__((warn_unused_result));

/*
 * intake_add_later gives the queue a job that is to be tried again, a little later
 * each time. False, the job staying the caller's, if it is full or closed.
 */
extern bool intake_add_later(Intake *intake, Job *job) __attribute__((warn_unused_result));

/*
 * intake_take waits for jobs and takes up to max of them, or what comes to bytes_max bytes
 * of bodies, one at least, as a list; *count says how many. New ones come first, but one that is to
 * be tried again is not left waiting for ever. NULL when the queue is closed and empty.
 */
extern Job *intake_take(Intake *intake, int max, size_t bytes_max, int *count);

/*
 * intake_take_together is intake_take for a taker that takes not any job: the first that it may
 * take, and those that belong to it; the others stay.
 */
typedef struct IntakeTaker
{
	int max;
	bool (*may_take)(const Job *job); /* NULL: any */
	bool (*are_together)(const Job *first, const Job *job);
} IntakeTaker;

extern Job *intake_take_together(Intake *intake, const IntakeTaker *taker);

/* intake_wait waits at most that long until intake_take would not wait; true if it would not. */
extern bool intake_wait(Intake *intake, int ms);

/* intake_take_overdue takes those whose deadline has passed, as a list; waits for nothing. */
extern Job *intake_take_overdue(Intake *intake);

extern int intake_depth(Intake *intake);

/* intake_close: nothing more is taken in; takers get what is left, whether it is time or not, then
 * NULL. */
extern void intake_close(Intake *intake);

extern Job *job_create(HttpExchange *exchange, const Query *query);
extern void job_free(Job *job);

#endif /* BRIDGE_INTAKE_H */
