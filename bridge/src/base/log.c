/*
 * log.c
 *		One line an event, to standard error.
 *
 * Nobody waits long for whoever reads it: what cannot be written is dropped and counted. Standard
 * error may be shared with others, so it is not ours to make non-blocking; a pipe that can be
 * written to takes a line whole without blocking, since no line is longer than PIPE_BUF.
 */
#include "base/log.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

#define LINE_BYTES_MAX 2048
#define PATIENCE_MS    100 /* with the reader; none until it has read on */

static LogLevel             minimum = LOG_LEVEL_INFO;
static __thread const char *thread_role = "main";
static pthread_mutex_t      writing = PTHREAD_MUTEX_INITIALIZER; /* between poll() and write() */
static unsigned long        dropped;                             /* lines in a row */

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

bool
log_hold_descriptors(void)
{
	for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; descriptor++)
	{
		if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDWR) != descriptor)
			return false;
	}
	return true;
}

/* ---------- writing ---------- */

/* What is wrong with the descriptor shows when it is written to, and blocks nobody. */
static bool
can_write(int timeout_ms)
{
	struct pollfd wait = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&wait, 1, timeout_ms) != 0;
}

static void
write_or_drop(const char *line, size_t length, int patience_ms)
{
	if (can_write(patience_ms) && write(STDERR_FILENO, line, length) >= 0)
		dropped = 0;
	else
		dropped++;
}

static size_t
begin_line(LogLevel level, char *line, size_t size)
{
	static const char *const names[] = {"debug", "info", "warning", "error"};
	struct timespec          now;
	struct tm                utc;
	size_t                   length;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	length = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &utc);
	return length + snprintf(line + length, size - length, ".%03ldZ %s %s ", now.tv_nsec / 1000000,
							 names[level], thread_role);
}

/* Says first how many lines were dropped before. */
static void
tell_dropped(void)
{
	char          line[LINE_BYTES_MAX];
	unsigned long count = dropped;
	size_t        length;

	if (count == 0 || !can_write(0))
		return;
	length = begin_line(LOG_LEVEL_WARNING, line, sizeof(line));
	length += snprintf(line + length, sizeof(line) - length,
					   "%lu lines of the log were dropped: nobody read them\n", count);
	write_or_drop(line, length, 0);
}

/* ---------- lines ---------- */

void
log_line(LogLevel level, const char *format, ...)
{
	char    line[LINE_BYTES_MAX];
	char    escaped[2 * LINE_BYTES_MAX];
	size_t  length;
	int     patience_ms;
	va_list args;

	static_assert(sizeof(escaped) <= PIPE_BUF, "a line goes into a pipe whole");
	if (level < minimum)
		return;
	length = begin_line(level, line, sizeof(line));
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
	pthread_mutex_lock(&writing);
	patience_ms = dropped == 0 ? PATIENCE_MS : 0;
	tell_dropped();
	write_or_drop(escaped, length, patience_ms);
	pthread_mutex_unlock(&writing);
}
