/*
 * array.h
 *		Arrays that grow.
 */
#ifndef OA_ARRAY_H
#define OA_ARRAY_H

#include "postgres.h"

/* array_with_room returns the array, NULL or palloc'd, with room for one element more than "count";
 * *room is how many it has room for. */
static inline void *
array_with_room(void *array, int count, int *room, Size element)
{
	if (count < *room)
		return array;
	*room = Max(*room * 2, 8);
	return array != NULL ? repalloc(array, element * *room) : palloc(element * *room);
}

#endif /* OA_ARRAY_H */
