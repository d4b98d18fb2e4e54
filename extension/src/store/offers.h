/*
 * offers.h
 *		What can be taken of a product, and the strategies to choose among it.
 *
 * Pure C: sourcing.c is tested on its own.
 */
#ifndef OA_OFFERS_H
#define OA_OFFERS_H

#include <stdbool.h>
#include <stdint.h>

#define VENDORS_MAX 256 /* among which sets are looked for */

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
	int64_t price;       /* in 1/10000 of the currency's unit */
	int64_t available;   /* units free to take */
	int32_t vendor;      /* any number that names the vendor; breaks ties */
	int32_t priority;    /* the vendor's; lower is asked first */
	bool    excluded;    /* may not serve: it has refused this line already */
	bool    is_unpriced; /* nobody has told its price: it comes after all that have one */
} SourcingOffer;

/* sourcing_strategy_by_name sets *strategy; false if there is none of that name. */
extern bool sourcing_strategy_by_name(const char *name, SourcingStrategy *strategy);

extern const char *sourcing_strategy_name(SourcingStrategy strategy);

/* offer_compare is negative if the strategy prefers a to b; 0 only for one and the same vendor. */
extern int offer_compare(SourcingStrategy strategy, const SourcingOffer *a, const SourcingOffer *b);

#endif /* OA_OFFERS_H */
