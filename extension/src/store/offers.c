/*
 * offers.c
 *		The strategies' names.
 */
#include "store/offers.h"

#include <string.h>

static const char *const strategy_names[] = {
	[SOURCING_CHEAPEST] = "cheapest",     [SOURCING_SINGLE_VENDOR] = "single_vendor",   [SOURCING_PRIORITY] = "priority",
	[SOURCING_MOST_STOCK] = "most_stock", [SOURCING_FEWEST_VENDORS] = "fewest_vendors",
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
