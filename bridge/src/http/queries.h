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
	ANSWER_LATER, /* it may succeed when it is tried again */
	ANSWER_APART  /* and one of several may be at fault: not together with the others */
} Answered;

/* Which jobs of one query that wait are answered by one statement. */
typedef enum QueryTogether
{
	QUERY_ALONE, /* none: it changes something */
	QUERY_SAME,  /* those that ask the same */
	QUERY_ANY    /* all */
} QueryTogether;

typedef enum QueryPlan
{
	PLAN_KEPT, /* made once a connection, as db_query_prepared() does */
	PLAN_EACH  /* made each time: how it is read best depends on what is asked for */
} QueryPlan;

/* What a route asks of the database. */
struct Query
{
	/* replies to the exchanges of all the jobs, unless they are to be tried again */
	Answered (*answer)(Db *db, Job *jobs);
	const char   *what;  /* it is asked for: "there is no such order" */
	const char   *doing; /* for the log */
	const char   *sql;   /* makes the answer, one JSON value; no row: there is no such thing */
	QueryTogether together;
	QueryPlan     plan;
};

/*
 * Ways to answer. With the statement's parameters of none, the subject; an order's id, the body,
 * the key and a lock timeout; a page of products; by pulling feeds. query_orders and query_subjects
 * answer any number: the statement takes all their subjects as an array, and returns a row (place
 * in it, JSON value) of each that there is.
 */
extern Answered query_all(Db *db, Job *jobs);
extern Answered query_one(Db *db, Job *jobs);
extern Answered query_change(Db *db, Job *jobs);
extern Answered query_products(Db *db, Job *jobs);
extern Answered query_sync(Db *db, Job *jobs);
extern Answered query_orders(Db *db, Job *jobs);
extern Answered query_subjects(Db *db, Job *jobs);

/*
 * A thread's work: a queue, how many jobs it takes from it at a time at most, and whether it takes
 * what has taken too long of late. One thread of a queue does; the others give up early, so that
 * they are soon free again.
 */
typedef struct QueryWorker
{
	Intake *intake;
	int     jobs_max;
	bool    takes_slow;
} QueryWorker;

/* queries_run answers jobs until the worker's intake is closed and empty. A thread's main function.
 */
extern void *queries_run(void *worker);

#endif /* BRIDGE_QUERIES_H */
