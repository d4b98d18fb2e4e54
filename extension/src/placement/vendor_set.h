/*
 * vendor_set.h
 *		Sets of vendors, of which an order may be served.
 *
 * Pure C, like sourcing.c, which alone uses it. A vendor is found by a table of its own.
 */
#ifndef OA_VENDOR_SET_H
#define OA_VENDOR_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "store/offers.h"

#define SLOTS 1024 /* of the table: a power of 2 */

/* The vendors that may serve an order; the first nfree of them are in it already. */
typedef struct VendorSet
{
	int32_t vendors[VENDORS_MAX];
	bool    chosen[VENDORS_MAX];
	int16_t places[SLOTS]; /* open addressing: 1 + a vendor's place above; 0: free */
	int     nfree;
	int     count;
} VendorSet;

/* vendor_set_place returns the vendor's place in the set, or -1. */
extern int vendor_set_place(const VendorSet *set, int32_t vendor);

/* vendor_set_add adds a vendor if there is room, else it is false; one that is there already stays
 * as it is. */
extern bool vendor_set_add(VendorSet *set, int32_t vendor, bool chosen);

/* vendor_set_allows: may the vendor serve? NULL: any may. */
extern bool vendor_set_allows(const VendorSet *set, int32_t vendor);

#endif /* OA_VENDOR_SET_H */
