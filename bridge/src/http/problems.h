/*
 * problems.h
 *		Errors of the database as answers over HTTP.
 */
#ifndef BRIDGE_PROBLEMS_H
#define BRIDGE_PROBLEMS_H

#include <libpq-fe.h>

#include "http/intake.h"

/* problem_reply answers a job whose statement the database has refused. */
extern void problem_reply(Job *job, const PGresult *result);
extern void problem_reply_all(Job *jobs, const PGresult *result);

/*
 * problem_unavailable answers a job that could not be done in time: 503 with
 * Retry-After. If its outcome is not known it names the key to repeat it with. "why" is a sentence
 * without a full stop.
 */
extern void problem_unavailable(Job *job, const char *why);

/* problem_unavailable_all answers all of a list, which are done with then. */
extern void problem_unavailable_all(Job *jobs, const char *why);

/* problem_give_up answers one that is not tried any more what it was that kept it from being done;
 * it is done with then. */
extern void problem_give_up(Job *job);

/* problem_not_found answers a job whose query has found nothing. */
extern void problem_not_found(Job *job);
extern void problem_no_order_id(Job *job); /* its path names none */

/* problem_no_memory answers a job that was done, or looked up, and whose answer has no memory. */
extern void problem_no_memory(Job *job);

#endif /* BRIDGE_PROBLEMS_H */
