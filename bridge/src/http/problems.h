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

/*
 * problem_unavailable answers a job that could not be done in time: 503 with
 * Retry-After. If its outcome is not known it names the key to repeat it with. "why" is a sentence
 * without a full stop.
 */
extern void problem_unavailable(Job *job, const char *why);

/* problem_no_memory answers a job that was done, or looked up, and whose answer has no memory. */
extern void problem_no_memory(Job *job);

#endif /* BRIDGE_PROBLEMS_H */
