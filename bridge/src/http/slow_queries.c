/*
 * slow_queries.c
 *		What has timed out by itself of late.
 */
#include "http/slow_queries.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/stop.h"
#include "base/text.h"

#define SLOW_MAX 32
#define SLOW_MS  60000

typedef struct Slow
{
	const Query *query;
	uint64_t     subject; /* its hash: another one's would only be asked for apart, too */
	long long    until_ms;
} Slow;

static pthread_mutex_t slow_mutex = PTHREAD_MUTEX_INITIALIZER;
static Slow            slow[SLOW_MAX];
static int             slow_next;
static atomic_llong    slow_until_ms; /* of all of them: mostly there is none */

static uint64_t
hash_of(const Job *job)
{
	return job->subject != NULL ? text_hash(job->subject) : 0;
}

void
slow_remember(const Job *job)
{
	long long until_ms = monotonic_ms() + SLOW_MS;

	pthread_mutex_lock(&slow_mutex);
	slow[slow_next] = (Slow){job->query, hash_of(job), until_ms};
	slow_next = (slow_next + 1) % SLOW_MAX;
	atomic_store(&slow_until_ms, until_ms);
	pthread_mutex_unlock(&slow_mutex);
}

bool
is_slow(const Job *job)
{
	long long now = monotonic_ms();
	uint64_t  subject;
	bool      found = false;

	if (atomic_load(&slow_until_ms) < now)
		return false;
	subject = hash_of(job);
	pthread_mutex_lock(&slow_mutex);
	for (int i = 0; i < SLOW_MAX && !found; i++)
		found = slow[i].query == job->query && slow[i].subject == subject && slow[i].until_ms > now;
	pthread_mutex_unlock(&slow_mutex);
	return found;
}
