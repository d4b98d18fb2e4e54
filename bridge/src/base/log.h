/*
 * log.h
 *		One line an event, to standard error: time, level, role, message, fields.
 */
#ifndef BRIDGE_LOG_H
#define BRIDGE_LOG_H

#include <stdbool.h>

typedef enum LogLevel
{
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR
} LogLevel;

/* log_set_level: lines below it are not written. */
extern void log_set_level(LogLevel level);

/* log_set_role names the calling thread, in its lines and for top -H. The string must live as long
 * as the thread. */
extern void log_set_role(const char *role);

/* log_hold_descriptors has what is opened later not be taken for standard input, output or error
 * because that was closed. Call first; false if the system refuses. */
extern bool log_hold_descriptors(void) __attribute__((warn_unused_result));

/* log_line writes one line; safe from any thread, and none waits long for whoever reads it. Never
 * give it a password. */
extern void log_line(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...)   log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif /* BRIDGE_LOG_H */
