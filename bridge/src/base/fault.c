/*
 * fault.c
 *		Places where a test may have the program killed.
 */
#include "base/fault.h"

#ifdef FAULT_POINTS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void
fault_point(const char *name)
{
	static atomic_int passed;
	const char       *wanted = getenv("FAULT");
	size_t            length = strlen(name);

	if (wanted == NULL || strncmp(wanted, name, length) != 0 ||
		(wanted[length] != '\0' && wanted[length] != ':'))
		return;
	if (atomic_fetch_add(&passed, 1) + 1 == (wanted[length] == ':' ? atoi(wanted + length + 1) : 1))
		raise(SIGKILL);
}
#endif
