/*
 * intake.c
 *		Bounded queues of HTTP exchanges.
 */
#include "http/intake.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/stop.h"

#define LATER_MS_MIN 10
#define LATER_MS_MAX 500
#define NEW_IN_A_ROW 4 /* takes of new jobs, while one is due that is to be tried again */

typedef struct JobList
{
	Job   *first;
	Job  **end;
	int    count;
	size_t bytes; /* of bodies */
} JobList;

struct Intake
{
	pthread_mutex_t mutex;
	pthread_cond_t  not_empty;
	JobList         fresh;
	JobList         later; /* to be tried again */
	int             max;
	size_t          bytes_max;
	int             fresh_takes; /* in a row */
	bool            closed;
};

/* ---------- lists ---------- */

static void
list_init(JobList *list)
{
	list->first = NULL;
	list->end = &list->first;
	list->count = 0;
	list->bytes = 0;
}

static void
list_append(JobList *list, Job *job)
{
	job->next = NULL;
	*list->end = job;
	list->end = &job->next;
	list->count++;
	list->bytes += job->body_bytes;
}

/* Which jobs are to be taken, and how many. */
typedef struct Wanted
{
	bool (*is_time)(const Job *job, long long now);
	int                max;
	size_t             bytes_max;
	const IntakeTaker *taker; /* NULL: one that takes any */
} Wanted;

static bool
may_take(const IntakeTaker *taker, const Job *job)
{
	return taker == NULL || taker->may_take == NULL || taker->may_take(job);
}

static bool
is_wanted(const Wanted *wanted, const Job *first, const Job *job, long long now)
{
	return wanted->is_time(job, now) && may_take(wanted->taker, job) &&
		   (first == NULL || wanted->taker == NULL || wanted->taker->are_together(first, job));
}

/* Takes what is wanted out of a list. */
static Job *
list_take(JobList *list, Wanted wanted, int *count)
{
	long long now = monotonic_ms();
	JobList   taken;
	Job     **link = &list->first;

	list_init(&taken);
	while (*link != NULL && taken.count < wanted.max && taken.bytes < wanted.bytes_max)
	{
		Job *job = *link;

		if (!is_wanted(&wanted, taken.first, job, now))
		{
			link = &job->next;
			continue;
		}
		*link = job->next;
		list->count--;
		list->bytes -= job->body_bytes;
		list_append(&taken, job);
	}
	if (*link == NULL)
		list->end = link;
	*count = taken.count;
	return taken.first;
}

static bool
is_any(const Job *job, long long now)
{
	(void) job;
	(void) now;
	return true;
}

static bool
is_due(const Job *job, long long now)
{
	return job->not_before_ms <= now;
}

static bool
is_overdue(const Job *job, long long now)
{
	return job->deadline_ms <= now;
}

/* ---------- the queue ---------- */

Intake *
intake_create(int max, size_t bytes_max)
{
	Intake            *intake = calloc(1, sizeof(Intake));
	pthread_condattr_t attributes;

	if (intake == NULL)
		return NULL;
	pthread_mutex_init(&intake->mutex, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&intake->not_empty, &attributes);
	pthread_condattr_destroy(&attributes);
	list_init(&intake->fresh);
	list_init(&intake->later);
	intake->max = max;
	intake->bytes_max = bytes_max;
	return intake;
}

static bool
add(Intake *intake, bool is_new, Job *job)
{
	bool   taken;
	size_t bytes;

	job->body_bytes = job->body != NULL ? strlen(job->body) : 0;
	pthread_mutex_lock(&intake->mutex);
	bytes = intake->fresh.bytes + intake->later.bytes;
	/* one that is alone may be as large as a body can be */
	taken = !intake->closed && intake->fresh.count + intake->later.count < intake->max &&
			(bytes == 0 || bytes + job->body_bytes <= intake->bytes_max);
	if (taken)
	{
		list_append(is_new ? &intake->fresh : &intake->later, job);
		/* all of them: one may not take it */
		pthread_cond_broadcast(&intake->not_empty);
	}
	pthread_mutex_unlock(&intake->mutex);
	return taken;
}

bool
intake_add(Intake *intake, Job *job)
{
	return add(intake, true, job);
}

bool
intake_add_later(Intake *intake, Job *job)
{
	long long delay = LATER_MS_MIN;

	for (int i = 0; i < job->tries && delay < LATER_MS_MAX; i++)
		delay *= 2;
	job->tries++;
	job->not_before_ms = monotonic_ms() + (delay < LATER_MS_MAX ? delay : LATER_MS_MAX);
	return add(intake, false, job);
}

/* Waits for a signal, or until the next job is due that is to be tried again and the taker may
 * take, or until then at the latest (0: never). */
static void
wait_for_jobs(Intake *intake, const IntakeTaker *taker, long long until_ms)
{
	long long       due = until_ms;
	struct timespec until;

	for (const Job *job = intake->later.first; job != NULL; job = job->next)
	{
		if (may_take(taker, job) && (due == 0 || job->not_before_ms < due))
			due = job->not_before_ms;
	}
	if (due == 0)
	{
		pthread_cond_wait(&intake->not_empty,
						  &intake->mutex); /* until intake_add or intake_close */
		return;
	}
	until = (struct timespec){.tv_sec = due / 1000, .tv_nsec = due % 1000 * 1000000L};
	pthread_cond_timedwait(&intake->not_empty, &intake->mutex, &until);
}

/* What is to be taken now; NULL if there is nothing. */
static Job *
take_now(Intake *intake, Wanted wanted, int *count)
{
	Job *jobs = NULL;

	*count = 0;
	if (intake->fresh.count == 0 || intake->fresh_takes >= NEW_IN_A_ROW)
	{
		wanted.is_time = intake->closed ? is_any : is_due;
		jobs = list_take(&intake->later, wanted, count);
		intake->fresh_takes = 0;
	}
	if (jobs == NULL && intake->fresh.count > 0)
	{
		wanted.is_time = is_any;
		jobs = list_take(&intake->fresh, wanted, count);
		intake->fresh_takes++;
	}
	return jobs;
}

/* Is there something to take now, or nothing any more? */
static bool
is_answerable(const Intake *intake)
{
	long long now = monotonic_ms();

	if (intake->closed || intake->fresh.count > 0)
		return true;
	for (const Job *job = intake->later.first; job != NULL; job = job->next)
	{
		if (is_due(job, now))
			return true;
	}
	return false;
}

bool
intake_wait(Intake *intake, int ms)
{
	long long until_ms = monotonic_ms() + ms;
	bool      is_ready;

	pthread_mutex_lock(&intake->mutex);
	while (!(is_ready = is_answerable(intake)) && monotonic_ms() < until_ms)
		wait_for_jobs(intake, NULL, until_ms);
	pthread_mutex_unlock(&intake->mutex);
	return is_ready;
}

static Job *
take(Intake *intake, Wanted wanted, int *count)
{
	Job *jobs;

	pthread_mutex_lock(&intake->mutex);
	while ((jobs = take_now(intake, wanted, count)) == NULL && !intake->closed)
		wait_for_jobs(intake, wanted.taker, 0);
	pthread_mutex_unlock(&intake->mutex);
	return jobs;
}

Job *
intake_take(Intake *intake, int max, size_t bytes_max, int *count)
{
	return take(intake, (Wanted){.max = max, .bytes_max = bytes_max}, count);
}

Job *
intake_take_together(Intake *intake, const IntakeTaker *taker)
{
	int count;

	return take(intake, (Wanted){.max = taker->max, .bytes_max = SIZE_MAX, .taker = taker}, &count);
}

Job *
intake_take_overdue(Intake *intake)
{
	Wanted overdue = {.is_time = is_overdue, .max = intake->max, .bytes_max = SIZE_MAX};
	Job   *jobs;
	int    count;

	pthread_mutex_lock(&intake->mutex);
	jobs = list_take(&intake->fresh, overdue, &count);
	if (jobs == NULL)
		jobs = list_take(&intake->later, overdue, &count);
	pthread_mutex_unlock(&intake->mutex);
	return jobs;
}

int
intake_depth(Intake *intake)
{
	int count;

	pthread_mutex_lock(&intake->mutex);
	count = intake->fresh.count + intake->later.count;
	pthread_mutex_unlock(&intake->mutex);
	return count;
}

void
intake_close(Intake *intake)
{
	pthread_mutex_lock(&intake->mutex);
	intake->closed = true;
	pthread_cond_broadcast(&intake->not_empty);
	pthread_mutex_unlock(&intake->mutex);
}

Job *
job_create(HttpExchange *exchange, const Query *query)
{
	Job *job = calloc(1, sizeof(Job));

	if (job != NULL)
	{
		job->exchange = exchange;
		job->query = query;
	}
	return job;
}

void
job_free(Job *job)
{
	free(job->subject);
	free(job->body);
	free(job->idempotency_key);
	free(job->after);
	free(job);
}
