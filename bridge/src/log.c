/*
 * log.c
 *		One line an event, to standard error.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 2048

static LogLevel             minimum = LOG_LEVEL_INFO;
static __thread const char *thread_role = "main";

void
log_set_level(LogLevel level)
{
	minimum = level;
}

void
log_set_role(const char *role)
{
	thread_role = role;
}

void
log_line(LogLevel level, const char *format, ...)
{
	static const char *const names[] = {"debug", "info", "warning", "error"};
	char                     line[LINE_BYTES_MAX];
	struct timespec          now;
	struct tm                utc;
	size_t                   length;
	va_list                  args;

	if (level < minimum)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	length = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
	length += snprintf(line + length, sizeof(line) - length, ".%03ldZ %s %s ", now.tv_nsec / 1000000, names[level], thread_role);
	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);

	/* one line whatever a server's message holds, in one write */
	length = strlen(line);
	for (size_t i = 0; i < length; i++)
	{
		if ((unsigned char) line[i] < 0x20)
			line[i] = ' ';
	}
	while (length > 0 && line[length - 1] == ' ')
		length--;
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, length) < 0)
		return; /* nowhere left to tell */
}
