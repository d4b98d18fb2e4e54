/*
 * json_memory.c
 *		Memory for JSON, which is there or the program ends.
 *
 * Where it is not, jansson may leave a member out without a word, call a good text wrong, or write
 * past the end of what it has (2.14, the text of a long string): an order whose key is left out
 * might be placed twice. yajl (2.1) looks at nothing that it is given. A program that has ended
 * loses nothing.
 */
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>

#include "base/json_memory.h"
#include "base/log.h"

#define TRIES    20
#define PAUSE_MS 10

void
json_memory_give_up(size_t bytes)
{
	log_error("out of memory: %zu bytes for JSON are not to be had", bytes);
	abort();
}

void *
json_memory_reallocate(void *memory, size_t bytes)
{
	for (int tries = 0; tries < TRIES; tries++)
	{
		void *larger = realloc(memory, bytes);

		if (larger != NULL || bytes == 0)
			return larger;
		(void) poll(NULL, 0, PAUSE_MS);
	}
	json_memory_give_up(bytes);
}

void *
json_memory_allocate(size_t bytes)
{
	return json_memory_reallocate(NULL, bytes);
}

/* Before any thread is there. */
__attribute__((constructor)) static void
take_over(void)
{
	json_set_alloc_funcs(json_memory_allocate, free);
}
