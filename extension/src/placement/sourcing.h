/*
 * sourcing.h
 *		Choosing which vendors' stock serves an order.
 *
 * Pure C over arrays: no server headers, no allocation, no locks, so that it
 * is tested on its own. The caller has locked the offers and keeps their
 * "available" up to date from one order of a batch to the next.
 */
#ifndef OA_SOURCING_H
#define OA_SOURCING_H

#include <limits.h>

#include "store/offers.h"

/* One line of an order and the range of offers that could serve it. */
typedef struct SourcingLine
{
	int64_t quantity;
	int     first_offer;
	int     noffers;
} SourcingLine;

/* So many units of one offer for one line. */
typedef struct SourcingPick
{
	int     line;
	int     offer;
	int64_t quantity;
} SourcingPick;

/* How many vendors an order may have. */
typedef struct SourcingLimit
{
	int            max_vendors; /* 0: any number */
	const int32_t *used;        /* vendors that serve other parts of the order already, each once */
	int            nused;
	int64_t *
		effort; /* what is left of the batch's, see SOURCING_EFFORT_BATCH; NULL: an order's alone */
} SourcingLimit;

/*
 * Trying all sets of vendors costs sets times offers, choosing greedily rounds times
 * offers. An order may cost so much, a few milliseconds, and a batch of orders so much
 * together; what costs little is free.
 */
#define SOURCING_EFFORT_FREE  INT64_C(20000)
#define SOURCING_EFFORT_ORDER INT64_C(2000000)
#define SOURCING_EFFORT_BATCH INT64_C(20000000)

/* There is stock, but not at so few vendors. */
#define SOURCING_TOO_MANY_VENDORS INT_MIN

/* The same, but the batch had spent its effort: by itself the order might be served. */
#define SOURCING_NOT_NOW (INT_MIN + 1)

/*
 * sourcing_choose serves all lines of one order, or, where allow_partial, as
 * much of them as there is, from no more vendors than the limit.
 *
 * "picks" has room for one pick for each offer of each line. Returns the number
 * of picks, grouped by line, -1 - n if line n cannot be served,
 * SOURCING_TOO_MANY_VENDORS or SOURCING_NOT_NOW; nothing in "offers" is changed. With allow_partial
 * an order of which nothing at all can be served fails at line 0. Two lines must
 * not share offers: the caller has added up lines of one product.
 */
extern int sourcing_choose(SourcingStrategy strategy, bool allow_partial,
						   const SourcingLimit *limit, const SourcingLine *lines, int nlines,
						   const SourcingOffer *offers, SourcingPick *picks);

#endif /* OA_SOURCING_H */
