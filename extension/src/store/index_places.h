/*
 * index_places.h
 *		Where the rows of many keys begin, by walking along a btree once.
 */
#ifndef OA_INDEX_PLACES_H
#define OA_INDEX_PLACES_H

#include "postgres.h"

#include "storage/itemptr.h"
#include "utils/relcache.h"

/* Those of one key, in the order of the index. */
typedef struct KeyPlaces
{
	int first; /* in the array of all places */
	int count; /* PLACES_UNKNOWN: the key is to be looked up by a scan */
} KeyPlaces;

#define PLACES_UNKNOWN (-1)

/*
 * index_find_places returns one KeyPlaces a key, palloc'd, and all places, palloc'd too. Key n is
 * keys[n * ncolumns] and what follows it, of the leading columns of the index; keys are distinct
 * and ascending. The places are to be looked at with the snapshot that is active, or an earlier
 * one that is still kept: what is there is a row of the key, or none that it sees.
 */
extern KeyPlaces *index_find_places(Relation index, const Datum *keys, int ncolumns, int nkeys,
									ItemPointerData **places);

#endif /* OA_INDEX_PLACES_H */
