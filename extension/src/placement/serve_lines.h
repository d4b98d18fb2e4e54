/*
 * serve_lines.h
 *		The lines of an order served from a given set of vendors.
 *
 * Pure C, like sourcing.h.
 */
#ifndef OA_SERVE_LINES_H
#define OA_SERVE_LINES_H

#include "placement/sourcing.h"
#include "placement/vendor_set.h"

/* may_serve: is there anything of the offer to be had, from a vendor of the set (NULL: of any)? */
static inline bool
may_serve(const SourcingOffer *offer, const VendorSet *set)
{
	return !offer->excluded && offer->available > 0 && vendor_set_allows(set, offer->vendor);
}

/* serve_lines serves every line from the vendors of the set (NULL: all); the result is
 * sourcing_choose's. */
extern int serve_lines(SourcingStrategy strategy, bool allow_partial, const VendorSet *set,
					   const SourcingLine *lines, int nlines, const SourcingOffer *offers,
					   SourcingPick *picks);

#endif /* OA_SERVE_LINES_H */
