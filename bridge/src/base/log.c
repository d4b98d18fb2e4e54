/*
 * log.c
 *		One line an event, to standard error.
 */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

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
	(void) pthread_setname_np(pthread_self(), role); /* of 15 bytes at most */
}

void
log_line(LogLevel level, const char *format, ...)
{
	static const char *const names[] = {"debug", "info", "warning", "error"};
	char                     line[LINE_BYTES_MAX];
	char                     escaped[2 * LINE_BYTES_MAX];
	struct timespec          now;
	struct tm                utc;
	size_t                   length;
	va_list                  args;

	if (level < minimum)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	length = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
	length += snprintf(line + length, sizeof(line) - length, ".%03ldZ %s %s ",
					   now.tv_nsec / 1000000, names[level], thread_role);
	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);

	/* one line, and what it says, whatever a server's message or a stranger's text holds; in one
	 * write */
	for (char *c = line; *c != '\0'; c++)
	{
		if (*c == '\n' || *c == '\r' || *c == '\t')
			*c = ' ';
	}
	text_escape(line, escaped, sizeof(escaped) - 1);
	length = strlen(escaped);
	while (length > 0 && escaped[length - 1] == ' ')
		length--;
	escaped[length++] = '\n';
	if (write(STDERR_FILENO, escaped, length) < 0)
		return; /* nowhere left to tell */
}
