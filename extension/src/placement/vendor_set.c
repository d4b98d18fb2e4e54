/*
 * vendor_set.c
 *		A set of vendors, in which one is found at once; the search is in sourcing.c.
 *
 * Never allocates, never calls the server.
 */
#include "placement/vendor_set.h"

#include <stddef.h>

/* Where the vendor is in the table, or the free slot where it would be. */
static unsigned
slot_of(const VendorSet *set, int32_t vendor)
{
	unsigned slot = (uint32_t) vendor * UINT32_C(2654435769) >> 22;

	while (set->places[slot] != 0 && set->vendors[set->places[slot] - 1] != vendor)
		slot = (slot + 1) % SLOTS;
	return slot;
}

/* The vendor's place in the set, or -1. */
int
vendor_set_place(const VendorSet *set, int32_t vendor)
{
	return set->places[slot_of(set, vendor)] - 1;
}

/* Adds a vendor if there is room, else it is false; one that is there already stays as it is. */
bool
vendor_set_add(VendorSet *set, int32_t vendor, bool chosen)
{
	unsigned slot = slot_of(set, vendor);

	if (set->places[slot] != 0)
		return true;
	if (set->count == VENDORS_MAX)
		return false;
	set->vendors[set->count] = vendor;
	set->chosen[set->count++] = chosen;
	set->places[slot] = (int16_t) set->count;
	return true;
}

bool
vendor_set_allows(const VendorSet *set, int32_t vendor)
{
	int place = set == NULL ? 0 : vendor_set_place(set, vendor);

	return set == NULL || (place >= 0 && set->chosen[place]);
}
