/*
 * json_memory.h
 *		Memory for JSON, which is there or the program ends; jansson has it, and yajl is given it.
 */
#ifndef BRIDGE_JSON_MEMORY_H
#define BRIDGE_JSON_MEMORY_H

#include <stddef.h>

/* As malloc and realloc, and never NULL for one byte and more: they try for some 200 ms. */
extern void *json_memory_allocate(size_t bytes);
extern void *json_memory_reallocate(void *memory, size_t bytes);

/* Ends the program: there are no so many bytes. */
extern void json_memory_give_up(size_t bytes) __attribute__((noreturn));

#endif /* BRIDGE_JSON_MEMORY_H */
