/*
 * secret_file.c
 *		Files that hold tokens and keys.
 */
#include "base/secret_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

FILE *
secret_file_open(const char *setting, const char *path)
{
	FILE       *file = fopen(path, "re");
	struct stat status;

	if (file == NULL)
		log_error("%s: cannot read %s: %s", setting, path, strerror(errno));
	else if (fstat(fileno(file), &status) == 0 && (status.st_mode & (S_IRGRP | S_IROTH)) != 0)
		log_warning("%s: %s can be read by others than its owner: chmod 600", setting, path);
	return file;
}
