/*
 * full_disk.c
 *		Loaded before PostgreSQL (LD_PRELOAD): while the first byte of the file that FULL_DISK names
 *		is 1, no file on its disk grows.
 *
 * What is there already can be written to, as on a disk that is full. So can what goes by stdio
 * (the statistics' file, those of the relation cache): PostgreSQL does without these. And what goes
 * to the standard error: the log is on another disk, and tells what happens.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "preload.h"

static const volatile char *is_full;
static dev_t                disk; /* not that of shared memory */

__attribute__((constructor)) static void
open_control(void)
{
	struct stat status;

	is_full = map_control("FULL_DISK", 1, false);
	if (is_full != NULL && stat(getenv("FULL_DISK"), &status) == 0)
		disk = status.st_dev;
}

/* Would the file have to grow, and cannot? */
static bool
has_no_room(int file, off_t end)
{
	struct stat status;

	if (is_full == NULL || !*is_full || fstat(file, &status) != 0 || !S_ISREG(status.st_mode) ||
		status.st_dev != disk || end <= status.st_size)
		return false;
	errno = ENOSPC;
	return true;
}

static off_t
length_of(const struct iovec *parts, int count)
{
	off_t length = 0;

	for (int i = 0; i < count; i++)
		length += (off_t) parts[i].iov_len;
	return length;
}

/* The same by both of its names, which glibc has for 32-bit programs. */
#define DEFINE_PWRITE(name)                                                                        \
	ssize_t name(int file, const void *bytes, size_t count, off_t place)                           \
	{                                                                                              \
		return has_no_room(file, place + (off_t) count) ? -1                                       \
														: REAL(name)(file, bytes, count, place);   \
	}

#define DEFINE_PWRITEV(name)                                                                       \
	ssize_t name(int file, const struct iovec *parts, int count, off_t place)                      \
	{                                                                                              \
		return has_no_room(file, place + length_of(parts, count))                                  \
				   ? -1                                                                            \
				   : REAL(name)(file, parts, count, place);                                        \
	}

#define DEFINE_POSIX_FALLOCATE(name)                                                               \
	int name(int file, off_t place, off_t count)                                                   \
	{                                                                                              \
		return has_no_room(file, place + count) ? ENOSPC : REAL(name)(file, place, count);         \
	}

DEFINE_PWRITE(pwrite)
DEFINE_PWRITE(pwrite64)
DEFINE_PWRITEV(pwritev)
DEFINE_PWRITEV(pwritev64)
DEFINE_POSIX_FALLOCATE(posix_fallocate)
DEFINE_POSIX_FALLOCATE(posix_fallocate64)

ssize_t
write(int file, const void *bytes, size_t count)
{
	off_t place =
		is_full != NULL && *is_full && file != STDERR_FILENO ? lseek(file, 0, SEEK_CUR) : -1;

	return place >= 0 && has_no_room(file, place + (off_t) count) ? -1
																  : REAL(write)(file, bytes, count);
}
