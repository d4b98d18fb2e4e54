/*
 * sourcing.c
 *		Choosing which vendors' stock serves an order.
 *
 * A line is served by the best offer that can serve it whole, else split over
 * the offers, best first; "best" is what a strategy says. fewest_vendors looks
 * at the whole order: it is the set cover problem, solved exactly by trying all
 * sets of vendors, smallest first, up to EXACT_VENDORS_MAX of them, and beyond
 * that greedily (always the vendor that can serve the most of what is left),
 * which is at most ln(lines) + 1 times as many (Chvatal 1979).
 *
 * Never allocates, never calls the server.
 */
#include "sourcing.h"

#include <string.h>

#define EXACT_VENDORS_MAX 12
#define VENDORS_MAX       256

static const char *const strategy_names[] = {
	[SOURCING_CHEAPEST] = "cheapest",     [SOURCING_SINGLE_VENDOR] = "single_vendor",   [SOURCING_PRIORITY] = "priority",
	[SOURCING_MOST_STOCK] = "most_stock", [SOURCING_FEWEST_VENDORS] = "fewest_vendors",
};

/* The vendors that may serve an order under fewest_vendors. */
typedef struct VendorSet
{
	int32_t vendors[VENDORS_MAX];
	bool    chosen[VENDORS_MAX];
	int     count;
} VendorSet;

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

/* Negative if the strategy prefers a to b; 0 only for one and the same vendor. */
static int
compare_offers(SourcingStrategy strategy, const SourcingOffer *a, const SourcingOffer *b)
{
	int order = 0;

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

static bool
set_allows(const VendorSet *set, int32_t vendor)
{
	if (set == NULL)
		return true;
	for (int i = 0; i < set->count; i++)
	{
		if (set->vendors[i] == vendor)
			return set->chosen[i];
	}
	return false;
}

static inline bool
may_serve(const SourcingOffer *offer, const VendorSet *set)
{
	return !offer->excluded && offer->available > 0 && set_allows(set, offer->vendor);
}

/*
 * The best offer of a line that has at least "quantity" units and comes after
 * "after" (NULL: any) in the strategy's order; -1 if there is none.
 */
static int
best_offer(SourcingStrategy strategy, const VendorSet *set, const SourcingLine *line, const SourcingOffer *offers,
		   int64_t quantity, const SourcingOffer *after)
{
	int best = -1;

	for (int i = line->first_offer; i < line->first_offer + line->noffers; i++)
	{
		if (offers[i].available < quantity || !may_serve(&offers[i], set))
			continue;
		if (after != NULL && compare_offers(strategy, &offers[i], after) <= 0)
			continue;
		if (best < 0 || compare_offers(strategy, &offers[i], &offers[best]) < 0)
			best = i;
	}
	return best;
}

/* Serves one line; returns the units left unserved and adds to *npicks. */
static int64_t
serve_line(SourcingStrategy strategy, const VendorSet *set, const SourcingLine *line, int line_index, const SourcingOffer *offers,
		   SourcingPick *picks, int *npicks)
{
	int64_t left = line->quantity;
	int     offer = best_offer(strategy, set, line, offers, left, NULL);

	if (offer >= 0)
	{
		picks[(*npicks)++] = (SourcingPick){line_index, offer, left};
		return 0;
	}

	offer = best_offer(strategy, set, line, offers, 1, NULL);
	while (left > 0 && offer >= 0)
	{
		int64_t take = offers[offer].available < left ? offers[offer].available : left;

		picks[(*npicks)++] = (SourcingPick){line_index, offer, take};
		left -= take;
		offer = best_offer(strategy, set, line, offers, 1, &offers[offer]);
	}
	return left;
}

/* Serves every line from the vendors of the set; see sourcing_choose. */
static int
serve_lines(SourcingStrategy strategy, bool allow_partial, const VendorSet *set, const SourcingLine *lines, int nlines,
			const SourcingOffer *offers, SourcingPick *picks)
{
	int npicks = 0;

	for (int i = 0; i < nlines; i++)
	{
		int     before = npicks;
		int64_t left = serve_line(strategy, set, &lines[i], i, offers, picks, &npicks);

		if (strategy == SOURCING_SINGLE_VENDOR && npicks - before > 1)
		{
			/* never split: keep the best offer's share, if a part will do */
			int most = before;

			for (int p = before; p < npicks; p++)
			{
				if (picks[p].quantity > picks[most].quantity)
					most = p;
			}
			picks[before] = picks[most];
			npicks = before + 1;
			left = lines[i].quantity - picks[before].quantity;
		}
		if (left > 0 && !allow_partial)
			return -1 - i;
	}
	return npicks > 0 ? npicks : -1;
}

static void
collect_vendors(VendorSet *set, const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	set->count = 0;
	for (int i = 0; i < nlines; i++)
	{
		for (int o = lines[i].first_offer; o < lines[i].first_offer + lines[i].noffers; o++)
		{
			int v = 0;

			if (!may_serve(&offers[o], NULL))
				continue;
			while (v < set->count && set->vendors[v] != offers[o].vendor)
				v++;
			if (v == set->count && set->count < VENDORS_MAX)
			{
				set->vendors[v] = offers[o].vendor;
				set->chosen[v] = false;
				set->count++;
			}
		}
	}
}

/* What the vendors of the set can serve of a line, at most what it asks for. */
static int64_t
servable(const VendorSet *set, const SourcingLine *line, const SourcingOffer *offers)
{
	int64_t sum = 0;

	for (int o = line->first_offer; o < line->first_offer + line->noffers && sum < line->quantity; o++)
	{
		if (may_serve(&offers[o], set))
			sum += offers[o].available;
	}
	return sum < line->quantity ? sum : line->quantity;
}

static int64_t
servable_of_all(const VendorSet *set, const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	int64_t sum = 0;

	for (int i = 0; i < nlines; i++)
		sum += servable(set, &lines[i], offers);
	return sum;
}

/* What the set's picks cost, saturating. */
static int64_t
cost_of(const VendorSet *set, const SourcingLine *lines, int nlines, const SourcingOffer *offers, SourcingPick *picks)
{
	int     npicks = serve_lines(SOURCING_CHEAPEST, true, set, lines, nlines, offers, picks);
	int64_t cost = 0;

	for (int p = 0; p < npicks; p++)
	{
		int64_t amount;

		if (__builtin_mul_overflow(picks[p].quantity, offers[picks[p].offer].price, &amount) ||
			__builtin_add_overflow(cost, amount, &cost))
			return INT64_MAX;
	}
	return cost;
}

/* The smallest, then cheapest, set that serves "target" units. */
static void
choose_set_exactly(VendorSet *set, int64_t target, const SourcingLine *lines, int nlines, const SourcingOffer *offers,
				   SourcingPick *picks)
{
	unsigned best = (1u << set->count) - 1;
	int      best_size = set->count + 1;
	int64_t  best_cost = INT64_MAX;

	for (unsigned mask = 1; mask < 1u << set->count; mask++)
	{
		int     size = __builtin_popcount(mask);
		int64_t cost;

		if (size > best_size)
			continue;
		for (int v = 0; v < set->count; v++)
			set->chosen[v] = (mask >> v) & 1;
		if (servable_of_all(set, lines, nlines, offers) < target)
			continue;
		cost = cost_of(set, lines, nlines, offers, picks);
		if (size < best_size || cost < best_cost)
		{
			best = mask;
			best_size = size;
			best_cost = cost;
		}
	}
	for (int v = 0; v < set->count; v++)
		set->chosen[v] = (best >> v) & 1;
}

static void
choose_set_greedily(VendorSet *set, int64_t target, const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	int64_t served = 0;

	while (served < target)
	{
		int     best = -1;
		int64_t best_served = served;

		for (int v = 0; v < set->count; v++)
		{
			int64_t with;

			if (set->chosen[v])
				continue;
			set->chosen[v] = true;
			with = servable_of_all(set, lines, nlines, offers);
			set->chosen[v] = false;
			if (with > best_served)
			{
				best = v;
				best_served = with;
			}
		}
		if (best < 0)
			break;
		set->chosen[best] = true;
		served = best_served;
	}
}

int
sourcing_choose(SourcingStrategy strategy, bool allow_partial, const SourcingLine *lines, int nlines, const SourcingOffer *offers,
				SourcingPick *picks)
{
	VendorSet set;
	int64_t   target;

	if (strategy != SOURCING_FEWEST_VENDORS)
		return serve_lines(strategy, allow_partial, NULL, lines, nlines, offers, picks);

	if (!allow_partial)
	{
		int outcome = serve_lines(SOURCING_CHEAPEST, false, NULL, lines, nlines, offers, picks);

		if (outcome < 0)
			return outcome;
	}
	target = servable_of_all(NULL, lines, nlines, offers);
	collect_vendors(&set, lines, nlines, offers);
	if (set.count <= EXACT_VENDORS_MAX)
		choose_set_exactly(&set, target, lines, nlines, offers, picks);
	else
		choose_set_greedily(&set, target, lines, nlines, offers);
	return serve_lines(SOURCING_CHEAPEST, allow_partial, &set, lines, nlines, offers, picks);
}
