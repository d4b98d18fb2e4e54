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
#include <stdbool.h>
#include <stdint.h>

typedef enum SourcingStrategy
{
	SOURCING_CHEAPEST,      /* lowest price first */
	SOURCING_SINGLE_VENDOR, /* as cheapest, but a line is never split */
	SOURCING_PRIORITY,      /* lowest vendor priority number first */
	SOURCING_MOST_STOCK,    /* largest available first */
	SOURCING_FEWEST_VENDORS /* as few vendors as possible over the whole order */
} SourcingStrategy;

/* One vendor's offer of one product. */
typedef struct SourcingOffer
{
	int64_t price;     /* in 1/10000 of the currency's unit */
	int64_t available; /* units free to take */
	int32_t vendor;    /* any number that names the vendor; breaks ties */
	int32_t priority;  /* the vendor's; lower is asked first */
	bool    excluded;  /* may not serve: it has refused this line already */
} SourcingOffer;

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
	int64_t       *effort; /* what is left of the batch's, see SOURCING_EFFORT_BATCH; NULL: an order's alone */
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
extern int sourcing_choose(SourcingStrategy strategy, bool allow_partial, const SourcingLimit *limit, const SourcingLine *lines,
						   int nlines, const SourcingOffer *offers, SourcingPick *picks);

/* sourcing_strategy_by_name sets *strategy; false if there is none of that name. */
extern bool sourcing_strategy_by_name(const char *name, SourcingStrategy *strategy);

extern const char *sourcing_strategy_name(SourcingStrategy strategy);

#endif /* OA_SOURCING_H */
