/*
 * stop.c
 *		The wish to stop, as every thread sees it: an eventfd that is never read.
 */
#include "base/stop.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static atomic_bool announced;
static atomic_bool requested;
static int         descriptor = -1;

bool
stop_init(void)
{
	descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return descriptor >= 0;
}

void
stop_announce(void)
{
	atomic_store(&announced, true);
}

bool
stop_announced(void)
{
	return atomic_load(&announced);
}

void
stop_request(void)
{
	uint64_t one = 1;

	atomic_store(&requested, true);
	if (write(descriptor, &one, sizeof(one)) < 0)
		return; /* it is readable already */
}

bool
stop_requested(void)
{
	return atomic_load(&requested);
}

int
stop_descriptor(void)
{
	return descriptor;
}

void
stop_wait_ms(int milliseconds)
{
	struct pollfd wait = {.fd = descriptor, .events = POLLIN};

	poll(&wait, 1, milliseconds);
}

long long
monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

long long
monotonic_ms(void)
{
	return monotonic_us() / 1000;
}

double
wall_clock_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}
