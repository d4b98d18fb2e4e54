/*
 * intake.c
 *		Bounded queues of HTTP exchanges.
 */
#include "intake.h"

#include <pthread.h>
#include <stdlib.h>

struct Intake
{
	pthread_mutex_t mutex;
	pthread_cond_t  not_empty;
	Job            *first;
	Job            *last;
	int             count;
	int             max;
	bool            closed;
};

Intake *
intake_create(int max)
{
	Intake *intake = calloc(1, sizeof(Intake));

	if (intake == NULL)
		return NULL;
	pthread_mutex_init(&intake->mutex, NULL);
	pthread_cond_init(&intake->not_empty, NULL);
	intake->max = max;
	return intake;
}

bool
intake_add(Intake *intake, Job *job)
{
	bool taken;

	pthread_mutex_lock(&intake->mutex);
	taken = !intake->closed && intake->count < intake->max;
	if (taken)
	{
		job->next = NULL;
		if (intake->last != NULL)
			intake->last->next = job;
		else
			intake->first = job;
		intake->last = job;
		intake->count++;
		pthread_cond_signal(&intake->not_empty);
	}
	pthread_mutex_unlock(&intake->mutex);
	return taken;
}

Job *
intake_take(Intake *intake, int max, int *count)
{
	Job *first;
	Job *last;

	pthread_mutex_lock(&intake->mutex);
	while (intake->first == NULL && !intake->closed)
		pthread_cond_wait(&intake->not_empty, &intake->mutex);
	first = last = intake->first;
	*count = first != NULL;
	while (last != NULL && last->next != NULL && *count < max)
	{
		last = last->next;
		(*count)++;
	}
	if (last != NULL)
	{
		intake->first = last->next;
		if (intake->first == NULL)
			intake->last = NULL;
		last->next = NULL;
		intake->count -= *count;
	}
	pthread_mutex_unlock(&intake->mutex);
	return first;
}

int
intake_depth(Intake *intake)
{
	int count;

	pthread_mutex_lock(&intake->mutex);
	count = intake->count;
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
job_create(HttpExchange *exchange, JobKind kind)
{
	Job *job = calloc(1, sizeof(Job));

	if (job != NULL)
	{
		job->exchange = exchange;
		job->kind = kind;
	}
	return job;
}

void
job_free(Job *job)
{
	free(job->key);
	free(job->text);
	free(job);
}
