/*
 * mapping.h
 *		What a vendor's feed_mapping may say.
 */
#ifndef OA_MAPPING_H
#define OA_MAPPING_H

#include "postgres.h"

#include "utils/jsonb.h"

/* mapping_check raises 22023, naming the member, unless all of it is known and well-formed. */
extern void mapping_check(Jsonb *mapping);

#endif /* OA_MAPPING_H */
