/*
 * service.c
 *		What systemd is told of us, if it has started us.
 */
#include "base/service.h"

#include <limits.h>
#include <stdint.h>
#include <systemd/sd-daemon.h>

void
service_ready(void)
{
	(void) sd_notify(0, "READY=1");
}

void
service_stopping(void)
{
	(void) sd_notify(0, "STOPPING=1");
}

void
service_extend_stop(int seconds)
{
	(void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%lld", seconds * 1000000LL);
}

void
service_alive(void)
{
	(void) sd_notify(0, "WATCHDOG=1");
}

int
service_alive_ms(void)
{
	uint64_t watchdog_us;
	uint64_t interval_ms;

	if (sd_watchdog_enabled(0, &watchdog_us) <= 0)
		return 0;
	interval_ms = watchdog_us / 1000 / 3;
	return interval_ms > INT_MAX ? INT_MAX : interval_ms > 0 ? (int) interval_ms : 1;
}
