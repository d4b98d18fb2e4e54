/*
 * intake.h
 *		Bounded queues of HTTP exchanges, from the server's thread to those that
 *		talk to the database.
 */
#ifndef BRIDGE_INTAKE_H
#define BRIDGE_INTAKE_H

#include <stdbool.h>

#include "http.h"

typedef enum JobKind
{
	JOB_PLACE,        /* text: the request as JSON; key: its idempotency key */
	JOB_GET_ORDER,    /* key: the order's id */
	JOB_CANCEL_ORDER, /* key: the order's id; text: the reason or NULL */
	JOB_RETURN_ORDER, /* key: the order's id; text: {"lines", "restock", "idempotencyKey"} */
	JOB_GET_PRODUCTS, /* key: after; number: limit */
	JOB_GET_PRODUCT,  /* key: the product's id */
	JOB_GET_VENDORS,
	JOB_GET_SYNCS, /* key: the vendor's id */
	JOB_SYNC       /* key: the vendor's id, or NULL for all */
} JobKind;

/* A deferred exchange and what is to be done for it. */
typedef struct Job
{
	struct Job   *next;
	HttpExchange *exchange;
	JobKind       kind;
	char         *key;
	char         *text;
	int           number;
	long long     deadline_ms; /* of monotonic_ms() */
} Job;

typedef struct Intake Intake;

/* intake_create makes an empty queue for at most max jobs; NULL if memory is short. */
extern Intake *intake_create(int max);

/* intake_add gives the job to the queue; false, the job staying the caller's, if it is full or closed. */
extern bool intake_add(Intake *intake, Job *job) __attribute__((warn_unused_result));

/*
 * intake_take waits for jobs and takes up to max of them, as a list; *count
 * says how many. NULL when the queue is closed and empty.
 */
extern Job *intake_take(Intake *intake, int max, int *count);

extern int intake_depth(Intake *intake);

/* intake_close: nothing more is taken in; takers get what is left, then NULL. */
extern void intake_close(Intake *intake);

extern Job *job_create(HttpExchange *exchange, JobKind kind);
extern void job_free(Job *job);

#endif /* BRIDGE_INTAKE_H */
