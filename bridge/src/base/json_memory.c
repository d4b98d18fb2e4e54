/*
 * json_memory.c
 *		jansson has the memory that it asks for, or the program ends.
 *
 * Where it has not it may leave a member out without a word, call a good text wrong, or write past
 * the end of what it has (2.14, the text of a long string): an order whose key is left out might be
 * placed twice. A program that has ended loses nothing.
 */
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>

#include "base/log.h"

#define TRIES    20
#define PAUSE_MS 10

static void *
allocate(size_t bytes)
{
	for (int tries = 0; tries < TRIES; tries++)
	{
		void *memory = malloc(bytes);

		if (memory != NULL)
			return memory;
		(void) poll(NULL, 0, PAUSE_MS);
	}
	log_error("out of memory: %zu bytes for JSON are not to be had", bytes);
	abort();
}

/* Before any thread is there. */
__attribute__((constructor)) static void
take_over(void)
{
	json_set_alloc_funcs(allocate, free);
}
