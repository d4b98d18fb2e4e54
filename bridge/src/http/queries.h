/*
 * queries.h
 *		The HTTP requests that read, change or sync: each on a worker's own connection.
 */
#ifndef BRIDGE_QUERIES_H
#define BRIDGE_QUERIES_H

#include "http/intake.h"
#include "link/db.h"

/* What has become of a job. */
typedef enum Answered
{
	ANSWERED,
	ANSWER_LATER /* it may succeed when it is tried again */
} Answered;

/* What a route asks of the database. */
struct Query
{
	/* replies to the job's exchange, unless the job is to be tried again */
	Answered (*answer)(Db *db, Job *job);
	const char *what;  /* it is asked for: "there is no such order" */
	const char *doing; /* for the log */
	const char *sql;   /* makes the answer, one JSON value; no row: there is no such thing */
};

/* Ways to answer: with the statement's parameters of none, the subject, an order's id; an order's
 * id, the body, the key and a lock timeout; a page of products; by pulling feeds. */
extern Answered query_all(Db *db, Job *job);
extern Answered query_one(Db *db, Job *job);
extern Answered query_order(Db *db, Job *job);
extern Answered query_change(Db *db, Job *job);
extern Answered query_products(Db *db, Job *job);
extern Answered query_sync(Db *db, Job *job);

/* queries_run answers jobs until its intake is closed and empty. A thread's main function. */
extern void *queries_run(void *intake);

#endif /* BRIDGE_QUERIES_H */
