/*
 * problems.c
 *		Errors of the database as answers over HTTP.
 */
#include "http/problems.h"

#include <string.h>

#include "base/metrics.h"
#include "link/db.h"

int
problem_of_sqlstate(const char *sqlstate, const char **title)
{
	/* the first that the SQLSTATE begins with */
	static const struct
	{
		const char *start;
		int         status;
		const char *title;
	} known[] = {
		{"OA001", 409, "Insufficient stock"},
		{"OA002", 404, "Unknown product"},
		{"OA003", 422, "Idempotency key reused"},
		{"OA004", 409, "Conflict"},
		{"OA005", 404, "Not Found"},
		{"22", 400, "Bad Request"},
		{"40", 503, "Service Unavailable"},
		{"53", 503, "Service Unavailable"},
		{"55P03", 503, "Service Unavailable"},
		{"57", 503, "Service Unavailable"},
		{"58", 503, "Service Unavailable"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
	{
		if (strncmp(sqlstate, known[i].start, strlen(known[i].start)) == 0)
		{
			*title = known[i].title;
			return known[i].status;
		}
	}
	*title = "Internal Server Error";
	return 500;
}

void
problem_reply(Job *job, const PGresult *result)
{
	const char *title;
	int         status = problem_of_sqlstate(db_sqlstate(result), &title);
	const char *message =
		result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;

	if (status == 503)
		problem_unavailable(job, "the database cannot do it now");
	else
		http_problem(job->exchange, status, title,
					 status == 500 || message == NULL ? "the database refused the request"
													  : message,
					 NULL, NULL);
}

void
problem_unavailable(Job *job, const char *why)
{
	char detail[2048];

	http_set_header(job->exchange, "Retry-After", "1");
	metric_add(METRIC_HTTP_REFUSED, 1);
	if (!job->is_outcome_unknown || job->idempotency_key == NULL)
	{
		snprintf(detail, sizeof(detail), "%s; nothing was changed", why);
		http_problem(job->exchange, 503, "Service Unavailable", detail, NULL, NULL);
		return;
	}
	snprintf(detail, sizeof(detail),
			 "the outcome is not known: repeat the request with the header Idempotency-Key: %s",
			 job->idempotency_key);
	http_set_header(job->exchange, "Idempotency-Key", job->idempotency_key);
	http_problem(job->exchange, 503, "Outcome unknown", detail, NULL, NULL);
}
