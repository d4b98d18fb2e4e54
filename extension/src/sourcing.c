/*
 * sourcing.c
 *		Choosing which vendors' stock serves an order.
 *
 * A line is served by the best offer that can serve it whole, else split over
 * the offers, best first; "best" is what a strategy says.
 *
 * fewest_vendors, and any strategy whose own choice needs more vendors than the
 * limit, looks at the whole order: it is the set cover problem, solved exactly
 * by trying all sets of vendors, up to EXACT_VENDORS_MAX of them. Of the sets
 * that serve the order (of a partial one, the most units) it takes the one with
 * the fewest vendors (fewest_vendors), the lowest sum of priority times units
 * (priority) or the most stock of the order's products (most_stock), then the
 * cheapest. Beyond that many vendors it goes greedily, always to the vendor that
 * can serve the most of what is left, which is at most ln(lines) + 1 times as many
 * (Chvatal 1979), and so may refuse an order that a longer search would serve.
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

/* The vendors that may serve an order; the first nfree of them are in it already. */
typedef struct VendorSet
{
	int32_t vendors[VENDORS_MAX];
	bool    chosen[VENDORS_MAX];
	int     nfree;
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

	if (strategy == SOURCING_SINGLE_VENDOR)
	{
		/* never split: the offer with the most units, if a part will do */
		offer = best_offer(SOURCING_MOST_STOCK, set, line, offers, 1, NULL);
		if (offer < 0)
			return left;
		picks[(*npicks)++] = (SourcingPick){line_index, offer, offers[offer].available};
		return left - offers[offer].available;
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
		int64_t left = serve_line(strategy, set, &lines[i], i, offers, picks, &npicks);

		if (left > 0 && !allow_partial)
			return -1 - i;
	}
	return npicks > 0 ? npicks : -1;
}

static void
collect_vendors(VendorSet *set, const SourcingLimit *limit, const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	set->nfree = limit->nused < VENDORS_MAX ? limit->nused : VENDORS_MAX;
	for (set->count = 0; set->count < set->nfree; set->count++)
	{
		set->vendors[set->count] = limit->used[set->count];
		set->chosen[set->count] = true;
	}
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

/* How well a set of vendors serves an order: more units first, then lower costs, then fewer vendors. */
typedef struct Score
{
	int64_t served;
	int64_t costs[3];
} Score;

static int64_t
saturating_add(int64_t sum, int64_t a, int64_t b)
{
	int64_t product;

	if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(sum, product, &sum))
		return INT64_MAX;
	return sum;
}

/* All that the set's vendors have of the order's products, saturating. */
static int64_t
stock_of(const VendorSet *set, const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	int64_t sum = 0;

	for (int i = 0; i < nlines; i++)
	{
		for (int o = lines[i].first_offer; o < lines[i].first_offer + lines[i].noffers; o++)
		{
			if (may_serve(&offers[o], set))
				sum = saturating_add(sum, offers[o].available, 1);
		}
	}
	return sum;
}

/* What the strategy is after: its own cost before the money, as the head of this file says. */
static Score
score_set(SourcingStrategy strategy, const VendorSet *set, int size, const SourcingLine *lines, int nlines,
		  const SourcingOffer *offers, SourcingPick *picks)
{
	SourcingStrategy picking = strategy == SOURCING_FEWEST_VENDORS ? SOURCING_CHEAPEST : strategy;
	int              npicks = serve_lines(picking, true, set, lines, nlines, offers, picks);
	Score            score = {.served = 0};
	int64_t          money = 0;
	int64_t          priority = 0;

	for (int p = 0; p < npicks; p++)
	{
		score.served += picks[p].quantity;
		money = saturating_add(money, picks[p].quantity, offers[picks[p].offer].price);
		priority = saturating_add(priority, picks[p].quantity, offers[picks[p].offer].priority);
	}
	if (strategy == SOURCING_FEWEST_VENDORS)
		score.costs[0] = size;
	else if (strategy == SOURCING_PRIORITY)
		score.costs[0] = priority;
	else if (strategy == SOURCING_MOST_STOCK)
		score.costs[0] = -stock_of(set, lines, nlines, offers);
	score.costs[1] = money;
	score.costs[2] = size;
	return score;
}

static bool
is_better(const Score *a, const Score *b)
{
	if (a->served != b->served)
		return a->served > b->served;
	for (int i = 0; i < 3; i++)
	{
		if (a->costs[i] != b->costs[i])
			return a->costs[i] < b->costs[i];
	}
	return false;
}

/* Chooses the given vendors of the mask, and those that are used already. */
static void
choose_mask(VendorSet *set, unsigned mask)
{
	for (int v = 0; v < set->count; v++)
		set->chosen[v] = v < set->nfree || (mask >> (v - set->nfree)) & 1;
}

/* Chooses the best set of at most "room" vendors besides those used already. */
static void
choose_set_exactly(SourcingStrategy strategy, VendorSet *set, int room, const SourcingLine *lines, int nlines,
				   const SourcingOffer *offers, SourcingPick *picks)
{
	int64_t  all = servable_of_all(NULL, lines, nlines, offers);
	unsigned best = 0;
	Score    best_score = {.served = -1};

	for (unsigned mask = 0; mask < 1u << (set->count - set->nfree); mask++)
	{
		int   size = __builtin_popcount(mask);
		Score score;

		if (size > room || (strategy == SOURCING_FEWEST_VENDORS && best_score.served == all && size > best_score.costs[0]))
			continue;
		choose_mask(set, mask);
		if (servable_of_all(set, lines, nlines, offers) < best_score.served)
			continue;
		score = score_set(strategy, set, size, lines, nlines, offers, picks);
		if (is_better(&score, &best_score))
		{
			best = mask;
			best_score = score;
		}
	}
	choose_mask(set, best);
}

/* Always the vendor that serves the most of what is left, up to "room" of them. */
static void
choose_set_greedily(VendorSet *set, int room, const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	int64_t served = servable_of_all(set, lines, nlines, offers);

	for (; room > 0; room--)
	{
		int     best = -1;
		int64_t best_served = served;

		for (int v = set->nfree; v < set->count; v++)
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

/* How many vendors the picks need besides those used already. */
static int
count_new_vendors(const SourcingLimit *limit, const SourcingOffer *offers, const SourcingPick *picks, int npicks)
{
	int count = 0;

	for (int p = 0; p < npicks; p++)
	{
		int32_t vendor = offers[picks[p].offer].vendor;
		bool    is_known = false;

		for (int u = 0; u < limit->nused && !is_known; u++)
			is_known = limit->used[u] == vendor;
		for (int earlier = 0; earlier < p && !is_known; earlier++)
			is_known = offers[picks[earlier].offer].vendor == vendor;
		count += !is_known;
	}
	return count;
}

/* Serves the lines from the best set of at most "room" more vendors. */
static int
serve_from_set(SourcingStrategy strategy, bool allow_partial, const SourcingLimit *limit, int room, const SourcingLine *lines,
			   int nlines, const SourcingOffer *offers, SourcingPick *picks)
{
	VendorSet set;

	collect_vendors(&set, limit, lines, nlines, offers);
	if (set.count - set.nfree <= EXACT_VENDORS_MAX)
		choose_set_exactly(strategy, &set, room, lines, nlines, offers, picks);
	else
		choose_set_greedily(&set, room, lines, nlines, offers);
	return serve_lines(strategy == SOURCING_FEWEST_VENDORS ? SOURCING_CHEAPEST : strategy, allow_partial, &set, lines, nlines,
					   offers, picks);
}

int
sourcing_choose(SourcingStrategy strategy, bool allow_partial, const SourcingLimit *limit, const SourcingLine *lines, int nlines,
				const SourcingOffer *offers, SourcingPick *picks)
{
	bool is_fewest = strategy == SOURCING_FEWEST_VENDORS;
	int  room = limit->max_vendors > 0 ? limit->max_vendors - limit->nused : VENDORS_MAX;
	int  outcome = serve_lines(is_fewest ? SOURCING_CHEAPEST : strategy, allow_partial, NULL, lines, nlines, offers, picks);

	if (outcome < 0)
		return outcome; /* no set of vendors can do what all of them cannot */
	if (!is_fewest && (limit->max_vendors == 0 || count_new_vendors(limit, offers, picks, outcome) <= room))
		return outcome;
	outcome = serve_from_set(strategy, allow_partial, limit, room < 0 ? 0 : room, lines, nlines, offers, picks);
	return outcome < 0 ? SOURCING_TOO_MANY_VENDORS : outcome;
}
