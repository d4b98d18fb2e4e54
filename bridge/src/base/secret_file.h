/*
 * secret_file.h
 *		Files that hold tokens and keys.
 */
#ifndef BRIDGE_SECRET_FILE_H
#define BRIDGE_SECRET_FILE_H

#include <stdbool.h>
#include <stdio.h>

/*
 * secret_file_open opens the file that a setting names for reading; NULL, after a line in
 * the log, if it cannot. Warns if others than its owner may read it.
 */
extern FILE *secret_file_open(const char *setting, const char *path);

/* secret_file_warn says in the log if others than its owner may read the file, which has the
 * setting's value in it. */
extern void secret_file_warn(const char *setting, const char *path, FILE *file);

/*
 * secret_file_read_lines calls "take" for each line of such a file, which it may change, until that
 * has returned false; false then, or, after a line in the log, if the file cannot be read to its
 * end. "rule", for the log, says what a line must be.
 */
extern bool secret_file_read_lines(const char *setting, const char *path, const char *rule,
								   bool (*take)(void *context, char *line), void *context);

/*
 * secret_file_read_line returns the one line of such a file, malloc'd and without blanks around it;
 * NULL, after a line in the log, if there is none, or more.
 */
extern char *secret_file_read_line(const char *setting, const char *path);

#endif /* BRIDGE_SECRET_FILE_H */
