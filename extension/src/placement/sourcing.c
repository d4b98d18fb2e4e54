/*
 * sourcing.c
 *		Choosing which vendors' stock serves an order: exactly for few vendors, greedily beyond.
 *
 * How the lines are served from a set of vendors is serve_lines.c's.
 *
 * fewest_vendors, and any strategy whose own choice needs more vendors than the
 * limit, looks at the whole order: it is the set cover problem, solved exactly
 * by trying all sets of vendors, up to EXACT_VENDORS_MAX of them and to what that
 * may cost an order and a batch (SOURCING_EFFORT_...). Of the sets
 * that serve the order (of a partial one, the most units) it takes, after those that need the
 * fewest units whose price nobody has told, the one with
 * the fewest vendors (fewest_vendors), the lowest sum of priority times units
 * (priority) or the most stock of the order's products (most_stock), then the
 * cheapest. Beyond that it goes greedily, always to the vendor that
 * can serve the most of what is left, which is at most ln(lines) + 1 times as many
 * (Chvatal 1979), and so may refuse an order that a longer search would serve.
 *
 * Never allocates, never calls the server.
 */
#include "placement/sourcing.h"

#include <string.h>

#include "placement/serve_lines.h"

#define EXACT_VENDORS_MAX 12

/* ---------- sets of vendors ---------- */

static void
collect_vendors(VendorSet *set, const SourcingLimit *limit, const SourcingLine *lines, int nlines,
				const SourcingOffer *offers)
{
	memset(set, 0, sizeof(*set));
	for (int u = 0; u < limit->nused; u++)
		(void) vendor_set_add(set, limit->used[u], true);
	set->nfree = set->count;
	for (int i = 0; i < nlines; i++)
	{
		for (int o = lines[i].first_offer; o < lines[i].first_offer + lines[i].noffers; o++)
		{
			if (may_serve(&offers[o], NULL))
				(void) vendor_set_add(set, offers[o].vendor, false);
		}
	}
}

/* What the vendors of the set can serve of a line, at most what it asks for. */
static int64_t
servable(const VendorSet *set, const SourcingLine *line, const SourcingOffer *offers)
{
	int64_t sum = 0;

	for (int o = line->first_offer; o < line->first_offer + line->noffers && sum < line->quantity;
		 o++)
	{
		if (may_serve(&offers[o], set))
			sum += offers[o].available;
	}
	return sum < line->quantity ? sum : line->quantity;
}

static int64_t
servable_of_all(const VendorSet *set, const SourcingLine *lines, int nlines,
				const SourcingOffer *offers)
{
	int64_t sum = 0;

	for (int i = 0; i < nlines; i++)
		sum += servable(set, &lines[i], offers);
	return sum;
}

enum
{
	COST_UNPRICED, /* units whose price nobody has told */
	COST_OWN,      /* the strategy's */
	COST_MONEY,
	COST_VENDORS,
	COSTS
};

/* How well a set of vendors serves an order: more units first, then lower costs, the first before
 * the second. */
typedef struct Score
{
	int64_t served;
	int64_t costs[COSTS];
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
score_set(SourcingStrategy strategy, const VendorSet *set, int size, const SourcingLine *lines,
		  int nlines, const SourcingOffer *offers, SourcingPick *picks)
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
		if (offers[picks[p].offer].is_unpriced)
			score.costs[COST_UNPRICED] += picks[p].quantity;
	}
	if (strategy == SOURCING_FEWEST_VENDORS)
		score.costs[COST_OWN] = size;
	else if (strategy == SOURCING_PRIORITY)
		score.costs[COST_OWN] = priority;
	else if (strategy == SOURCING_MOST_STOCK)
		score.costs[COST_OWN] = -stock_of(set, lines, nlines, offers);
	score.costs[COST_MONEY] = money;
	score.costs[COST_VENDORS] = size;
	return score;
}

static bool
is_better(const Score *a, const Score *b)
{
	if (a->served != b->served)
		return a->served > b->served;
	for (int i = 0; i < COSTS; i++)
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
choose_set_exactly(SourcingStrategy strategy, VendorSet *set, int room, const SourcingLine *lines,
				   int nlines, const SourcingOffer *offers, SourcingPick *picks)
{
	int64_t  all = servable_of_all(NULL, lines, nlines, offers);
	unsigned best = 0;
	Score    best_score = {.served = -1};

	for (unsigned mask = 0; mask < 1u << (set->count - set->nfree); mask++)
	{
		int   size = __builtin_popcount(mask);
		Score score;

		if (size > room ||
			(strategy == SOURCING_FEWEST_VENDORS && best_score.served == all &&
			 best_score.costs[COST_UNPRICED] == 0 && size > best_score.costs[COST_OWN]))
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

static int64_t
count_offers(const SourcingLine *lines, int nlines)
{
	int64_t count = 0;

	for (int i = 0; i < nlines; i++)
		count += lines[i].noffers;
	return count;
}

/*
 * Adds up, for each vendor that is not chosen, what it could serve of what the chosen ones leave:
 * by offers that have a price, else by those that have none.
 */
static void
add_up_gains(const VendorSet *set, bool unpriced, const SourcingLine *lines, int nlines,
			 const SourcingOffer *offers, int64_t *gains)
{
	memset(gains, 0, sizeof(int64_t) * set->count);
	for (int i = 0; i < nlines; i++)
	{
		int64_t left = lines[i].quantity - servable(set, &lines[i], offers);

		for (int o = lines[i].first_offer; left > 0 && o < lines[i].first_offer + lines[i].noffers;
			 o++)
		{
			int v = offers[o].is_unpriced == unpriced && may_serve(&offers[o], NULL)
						? vendor_set_place(set, offers[o].vendor)
						: -1;

			if (v >= 0 && !set->chosen[v])
				gains[v] += offers[o].available < left ? offers[o].available : left;
		}
	}
}

/* The first of those with the largest gain; -1 if nobody would gain anything. */
static int
largest_gain(const VendorSet *set, const int64_t *gains)
{
	int best = -1;

	for (int v = 0; v < set->count; v++)
	{
		if (!set->chosen[v] && gains[v] > 0 && (best < 0 || gains[v] > gains[best]))
			best = v;
	}
	return best;
}

/*
 * Takes what something costs from what the order, and the batch, may spend; false if that
 * is too much. What costs little is free, so that no order depends on those before it.
 */
static bool
spend(int64_t cost, int64_t *order_effort, int64_t *batch_effort)
{
	if (cost <= SOURCING_EFFORT_FREE)
		return true;
	if (cost > *order_effort || (batch_effort != NULL && cost > *batch_effort))
		return false;
	*order_effort -= cost;
	if (batch_effort != NULL)
		*batch_effort -= cost;
	return true;
}

/*
 * Always the vendor that serves the most of what is left, up to "room" of them. When
 * nothing may be spent any more, the others come by what they would have served last.
 */
static void
choose_set_greedily(VendorSet *set, int room, const SourcingLimit *limit, const SourcingLine *lines,
					int nlines, const SourcingOffer *offers)
{
	int64_t gains[VENDORS_MAX];
	int64_t cost = count_offers(lines, nlines);
	int64_t effort = SOURCING_EFFORT_ORDER;
	bool    unpriced = false;
	int     best;

	add_up_gains(set, unpriced, lines, nlines, offers, gains);
	while (room > 0)
	{
		best = largest_gain(set, gains);
		if (best < 0 && unpriced)
			break;
		if (best < 0)
			unpriced = true;
		else
		{
			set->chosen[best] = true;
			room--;
		}
		/* the rounds of a small order are free one by one, and no more than there are vendors */
		if (best < 0 || spend(cost, &effort, limit->effort))
			add_up_gains(set, unpriced, lines, nlines, offers, gains);
	}
}

/* Whether all sets may be tried. */
static bool
may_try_all_sets(const VendorSet *set, const SourcingLimit *limit, const SourcingLine *lines,
				 int nlines)
{
	int     nopen = set->count - set->nfree;
	int64_t effort = SOURCING_EFFORT_ORDER;

	return nopen <= EXACT_VENDORS_MAX &&
		   spend(count_offers(lines, nlines) << nopen, &effort, limit->effort);
}

/* How many vendors the picks need besides those used already; more than VENDORS_MAX: too many. */
static int
count_new_vendors(const SourcingLimit *limit, const SourcingOffer *offers,
				  const SourcingPick *picks, int npicks)
{
	VendorSet known = {.count = 0};
	int       before;

	for (int u = 0; u < limit->nused; u++)
		(void) vendor_set_add(&known, limit->used[u], true);
	before = known.count;
	for (int p = 0; p < npicks; p++)
	{
		if (!vendor_set_add(&known, offers[picks[p].offer].vendor, true))
			return VENDORS_MAX + 1;
	}
	return known.count - before;
}

/* Would the order, alone, have been tried with all sets? */
static bool
is_held_back(const VendorSet *set, const SourcingLimit *limit, const SourcingLine *lines,
			 int nlines)
{
	const SourcingLimit alone = {.effort = NULL};

	return limit->effort != NULL && may_try_all_sets(set, &alone, lines, nlines);
}

/* Serves the lines from the best set of at most "room" more vendors. */
static int
serve_from_set(SourcingStrategy strategy, bool allow_partial, const SourcingLimit *limit, int room,
			   const SourcingLine *lines, int nlines, const SourcingOffer *offers,
			   SourcingPick *picks)
{
	VendorSet set;
	bool      is_exact;
	int       outcome;

	collect_vendors(&set, limit, lines, nlines, offers);
	is_exact = may_try_all_sets(&set, limit, lines, nlines);
	if (is_exact)
		choose_set_exactly(strategy, &set, room, lines, nlines, offers, picks);
	else
		choose_set_greedily(&set, room, limit, lines, nlines, offers);
	outcome = serve_lines(strategy == SOURCING_FEWEST_VENDORS ? SOURCING_CHEAPEST : strategy,
						  allow_partial, &set, lines, nlines, offers, picks);
	if (outcome >= 0)
		return outcome;
	return !is_exact && is_held_back(&set, limit, lines, nlines) ? SOURCING_NOT_NOW
																 : SOURCING_TOO_MANY_VENDORS;
}

static int64_t
units_of(const SourcingPick *picks, int npicks)
{
	int64_t units = 0;

	for (int p = 0; p < npicks; p++)
		units += picks[p].quantity;
	return units;
}

int
sourcing_choose(SourcingStrategy strategy, bool allow_partial, const SourcingLimit *limit,
				const SourcingLine *lines, int nlines, const SourcingOffer *offers,
				SourcingPick *picks)
{
	bool is_fewest = strategy == SOURCING_FEWEST_VENDORS;
	int  room = limit->max_vendors > 0 ? limit->max_vendors - limit->nused : VENDORS_MAX;
	int  outcome = serve_lines(is_fewest ? SOURCING_CHEAPEST : strategy, allow_partial, NULL, lines,
							  nlines, offers, picks);
	int64_t units;

	if (outcome < 0)
		return outcome; /* no set of vendors can do what all of them cannot */
	if (!is_fewest && limit->max_vendors == 0)
		return outcome;
	/* fewest: all of it from one vendor, the cheapest that can; no set is smaller */
	if (count_new_vendors(limit, offers, picks, outcome) <= (is_fewest ? 1 - limit->nused : room))
		return outcome;
	units = units_of(picks, outcome);
	outcome = serve_from_set(strategy, allow_partial, limit, room < 0 ? 0 : room, lines, nlines,
							 offers, picks);
	/* a set has no room for all vendors: where any number will do, nothing is refused for that */
	if (limit->max_vendors == 0 && outcome != SOURCING_NOT_NOW &&
		(outcome < 0 || units_of(picks, outcome) < units))
		outcome = serve_lines(SOURCING_CHEAPEST, allow_partial, NULL, lines, nlines, offers, picks);
	return outcome;
}
