/*
 * problems.c
 *		Errors of the database as answers over HTTP.
 */
#include "http/problems.h"

#include <stdio.h>
#include <string.h>

#include "http/queries.h"
#include "http/reply_room.h"
#include "link/db.h"
#include "link/sqlstate.h"

/* The field at fault as the HTTP API names it; NULL if none is. */
static const char *
field_of(const PGresult *result)
{
	const char *field = db_field(result);

	return field != NULL && strcmp(field, "idempotency_key") == 0 ? "idempotencyKey" : field;
}

void
problem_reply(Job *job, const PGresult *result)
{
	const Sqlstate *sqlstate = sqlstate_find(db_sqlstate(result));
	bool            is_ours = sqlstate->http_status < 500; /* else it is a column of a table */

	/* what is refused when it is repeated may have been done all the same */
	if (sqlstate->http_status == 503 || (sqlstate->http_status == 500 && job->is_outcome_unknown))
		problem_unavailable(job, "the database cannot do it now");
	else
		http_problem(job->exchange, sqlstate->http_status, sqlstate->title,
					 is_ours ? db_message(result) : "the database refused the request",
					 is_ours ? field_of(result) : NULL, NULL);
}

void
problem_reply_all(Job *jobs, const PGresult *result)
{
	for (Job *job = jobs; job != NULL; job = job->next)
		problem_reply(job, result);
}

void
problem_unavailable(Job *job, const char *why)
{
	char detail[2048];

	http_set_header(job->exchange, "Retry-After", "1");
	if (!job->is_outcome_unknown || job->idempotency_key == NULL)
	{
		snprintf(detail, sizeof(detail), "%s%s", why,
				 job->is_outcome_unknown ? "" : "; nothing was changed");
		http_problem(job->exchange, 503, "Service Unavailable", detail, NULL, NULL);
		return;
	}
	snprintf(detail, sizeof(detail),
			 "the outcome is not known: repeat the request with the header Idempotency-Key: %s",
			 job->idempotency_key);
	http_set_header(job->exchange, "Idempotency-Key", job->idempotency_key);
	http_problem(job->exchange, 503, "Outcome unknown", detail, NULL, NULL);
}

void
problem_unavailable_all(Job *jobs, const char *why)
{
	while (jobs != NULL)
	{
		Job *job = jobs;

		jobs = job->next;
		problem_unavailable(job, why);
		job_free(job);
	}
}

void
problem_give_up(Job *job)
{
	problem_unavailable(job, !reply_room_for(job)   ? REPLY_ROOM_SPENT
							 : job->times_apart > 0 ? "the database cannot do it now"
							 : job->tries > 0       ? "another transaction has locked what it needs"
													: "the database is away");
	job_free(job);
}

void
problem_not_found(Job *job)
{
	char detail[128];

	snprintf(detail, sizeof(detail), "there is no such %s", job->query->what);
	http_problem(job->exchange, 404, "Not Found", detail, NULL, NULL);
}

void
problem_no_order_id(Job *job)
{
	http_problem(job->exchange, 404, "Not Found", "there is no such order: an id is a whole number",
				 "id", NULL);
}

void
problem_no_memory(Job *job)
{
	job->is_outcome_unknown = true; /* to whoever asks */
	problem_unavailable(job, "memory is short");
}
