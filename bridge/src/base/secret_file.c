/*
 * secret_file.c
 *		Files that hold tokens and keys.
 */
#include "base/secret_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

#define LINE_BYTES_MAX 8192

/* One that systemd hands to us: nobody else can get at it, whatever its mode says. */
static bool
is_credential(const char *path)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY");

	return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

void
secret_file_warn(const char *setting, const char *path, FILE *file)
{
	struct stat status;

	if (!is_credential(path) && fstat(fileno(file), &status) == 0 &&
		(status.st_mode & (S_IRGRP | S_IROTH)) != 0)
		log_warning("%s: %s can be read by others than its owner: chmod 600", setting, path);
}

FILE *
secret_file_open(const char *setting, const char *path)
{
	FILE *file = fopen(path, "re");

	if (file == NULL)
		log_error("%s: cannot read %s: %s", setting, path, strerror(errno));
	else
		secret_file_warn(setting, path, file);
	return file;
}

bool
secret_file_read_lines(const char *setting, const char *path, const char *rule,
					   bool (*take)(void *context, char *line), void *context)
{
	FILE  *file = secret_file_open(setting, path);
	char  *line = NULL;
	size_t size = 0;
	bool   ok = file != NULL;

	for (int number = 1; ok && getline(&line, &size, file) >= 0; number++)
	{
		ok = take(context, line);
		if (!ok)
			log_error("%s: line %d of %s must be %s", setting, number, path, rule);
	}
	if (ok && !feof(file)) /* memory may be short, too */
	{
		log_error("%s: cannot read %s: %s", setting, path, strerror(errno));
		ok = false;
	}
	if (line != NULL)
		explicit_bzero(line, size);
	free(line);
	if (file != NULL)
		fclose(file);
	return ok;
}

char *
secret_file_read_line(const char *setting, const char *path)
{
	static const char blanks[] = " \t\r\n";
	FILE             *file = secret_file_open(setting, path);
	char              text[LINE_BYTES_MAX + 2]; /* so that one that is too long is seen to be */
	size_t            bytes;
	char             *line;

	if (file == NULL)
		return NULL;
	bytes = fread(text, 1, LINE_BYTES_MAX + 1, file);
	fclose(file);
	if (bytes > LINE_BYTES_MAX)
	{
		log_error("%s: %s is longer than %d bytes", setting, path, LINE_BYTES_MAX);
		return NULL;
	}
	while (bytes > 0 && strchr(blanks, text[bytes - 1]) != NULL)
		bytes--;
	text[bytes] = '\0';
	line = text + strspn(text, blanks);
	if (*line != '\0' && strlen(line) == bytes - (size_t) (line - text) &&
		strchr(line, '\n') == NULL)
		return strdup(line);
	log_error("%s: %s must hold one line of text", setting, path);
	return NULL;
}
