/*
 * offers.c
 *		The strategies: their names, and what each prefers.
 */
#include "store/offers.h"

#include <string.h>

static const char *const strategy_names[] = {
	[SOURCING_CHEAPEST] = "cheapest",
	[SOURCING_SINGLE_VENDOR] = "single_vendor",
	[SOURCING_PRIORITY] = "priority",
	[SOURCING_MOST_STOCK] = "most_stock",
	[SOURCING_FEWEST_VENDORS] = "fewest_vendors",
};

bool
sourcing_strategy_by_name(const char *name, SourcingStrategy *strategy)
{
	for (unsigned i = 0; i < sizeof(strategy_names) / sizeof(strategy_names[0]); i++)
	{
		if (strcmp(name, strategy_names[i]) == 0)
		{
			*strategy = (SourcingStrategy) i;
			return true;
		}
	}
	return false;
}

const char *
sourcing_strategy_name(SourcingStrategy strategy)
{
	return strategy_names[strategy];
}

static inline int
compare_int64(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

int
offer_compare(SourcingStrategy strategy, const SourcingOffer *a, const SourcingOffer *b)
{
	int order = a->is_unpriced - b->is_unpriced;

	if (order != 0)
		return order;
	if (strategy == SOURCING_PRIORITY)
		order = compare_int64(a->priority, b->priority);
	else if (strategy == SOURCING_MOST_STOCK)
		order = compare_int64(b->available, a->available);
	if (order == 0)
		order = compare_int64(a->price, b->price);
	if (order == 0)
		order = compare_int64(a->priority, b->priority);
	if (order == 0)
		order = compare_int64(a->vendor, b->vendor);
	return order;
}
