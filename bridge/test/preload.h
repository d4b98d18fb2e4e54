/*
 * preload.h
 *		What libraries that are loaded before a program (LD_PRELOAD) have in common.
 */
#ifndef TEST_PRELOAD_H
#define TEST_PRELOAD_H

#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The function that the library stands before. */
#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

/* The file that the environment's variable names, shared with whoever else has it; NULL: none. */
static inline void *
map_control(const char *variable, size_t bytes, bool is_written)
{
	const char *path = getenv(variable);
	int         file = path != NULL ? open(path, (is_written ? O_RDWR : O_RDONLY) | O_CLOEXEC) : -1;
	void       *memory;

	if (file < 0)
		return NULL;
	memory =
		mmap(NULL, bytes, is_written ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
	close(file);
	return memory == MAP_FAILED ? NULL : memory;
}

#endif /* TEST_PRELOAD_H */
