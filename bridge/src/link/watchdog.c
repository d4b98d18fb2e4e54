/*
 * watchdog.c
 *		Breaks a connection whose owner has been inside one call for too long.
 */
#include "link/watchdog.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/stop.h"

#define WATCHES_MAX 64
#define LOOK_MS     250

struct Watch
{
	bool              in_use;
	int               descriptor;
	int               timeout_ms;
	_Atomic long long entered_ms; /* 0: not inside a call */
};

static Watch           watches[WATCHES_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* all but entered_ms */
static pthread_once_t  once = PTHREAD_ONCE_INIT;

static void
look(void)
{
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < WATCHES_MAX; i++)
	{
		Watch    *watch = &watches[i];
		long long entered = atomic_load(&watch->entered_ms);

		if (!watch->in_use || entered == 0 || monotonic_ms() - entered < watch->timeout_ms)
			continue;
		log_warning("RabbitMQ has taken nothing for %d ms: the connection is broken off",
					watch->timeout_ms);
		shutdown(watch->descriptor, SHUT_RDWR);
		atomic_store(&watch->entered_ms, 0);
	}
	pthread_mutex_unlock(&mutex);
}

/* Goes on while the process stops: what is under way then may block too. */
static void *
watch_all(void *unused)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};

	(void) unused;
	log_set_role("watchdog");
	for (;;)
	{
		nanosleep(&pause, NULL);
		look();
	}
	return NULL;
}

static void
start(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, watch_all, NULL) == 0)
		pthread_detach(thread);
	else
		log_error("cannot start the watchdog");
}

Watch *
watchdog_watch(int descriptor, int timeout_ms)
{
	Watch *free_watch = NULL;

	pthread_once(&once, start);
	pthread_mutex_lock(&mutex);
	for (int i = 0; i < WATCHES_MAX && free_watch == NULL; i++)
	{
		if (!watches[i].in_use)
			free_watch = &watches[i];
	}
	if (free_watch != NULL)
	{
		free_watch->in_use = true;
		free_watch->descriptor = descriptor;
		free_watch->timeout_ms = timeout_ms;
		atomic_store(&free_watch->entered_ms, 0);
	}
	pthread_mutex_unlock(&mutex);
	return free_watch;
}

void
watchdog_forget(Watch *watch)
{
	if (watch == NULL)
		return;
	pthread_mutex_lock(&mutex);
	watch->in_use = false;
	pthread_mutex_unlock(&mutex);
}

void
watchdog_enter(Watch *watch)
{
	if (watch != NULL)
		atomic_store_explicit(&watch->entered_ms, monotonic_ms(), memory_order_relaxed);
}

void
watchdog_leave(Watch *watch)
{
	if (watch != NULL)
		atomic_store_explicit(&watch->entered_ms, 0, memory_order_relaxed);
}
