/*
 * sourcing_test.c
 *		Every strategy against a brute-force search over small cases, and by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "placement/sourcing.h"

#define OFFERS_MAX 8
#define CASES      20000

static const SourcingLimit no_limit = {.max_vendors = 0};

static int64_t
picked(const SourcingPick *picks, int npicks, int line)
{
	int64_t sum = 0;

	for (int p = 0; p < npicks; p++)
		sum += picks[p].line == line ? picks[p].quantity : 0;
	return sum;
}

static int
vendors_used(const SourcingOffer *offers, const SourcingPick *picks, int npicks)
{
	unsigned mask = 0;

	for (int p = 0; p < npicks; p++)
		mask |= 1u << offers[picks[p].offer].vendor;
	return __builtin_popcount(mask);
}

/* What any outcome must obey: no offer overdrawn or excluded, lines served exactly, offers
 * untouched. */
static void
check_picks(SourcingStrategy strategy, const SourcingLine *lines, int nlines,
			const SourcingOffer *offers, const SourcingPick *picks, int npicks)
{
	int64_t taken[2 * OFFERS_MAX] = {0};

	for (int p = 0; p < npicks; p++)
	{
		const SourcingLine *line = &lines[picks[p].line];

		assert_true(picks[p].quantity > 0);
		assert_true(picks[p].offer >= line->first_offer &&
					picks[p].offer < line->first_offer + line->noffers);
		assert_false(offers[picks[p].offer].excluded);
		taken[picks[p].offer] += picks[p].quantity;
		assert_true(taken[picks[p].offer] <= offers[picks[p].offer].available);
	}
	for (int i = 0; i < nlines; i++)
	{
		int splits = 0;

		assert_int_equal(picked(picks, npicks, i), lines[i].quantity);
		for (int p = 0; p < npicks; p++)
			splits += picks[p].line == i;
		if (strategy == SOURCING_SINGLE_VENDOR)
			assert_int_equal(splits, 1);
	}
}

static int
make_case(SourcingLine *lines, SourcingOffer *offers)
{
	int nlines = 1 + rand() % 2;
	int noffers = 0;

	memset(offers, 0, sizeof(SourcingOffer) * OFFERS_MAX);

	for (int i = 0; i < nlines; i++)
	{
		lines[i] = (SourcingLine){1 + rand() % 8, noffers, rand() % (OFFERS_MAX / 2 + 1)};
		for (int o = 0; o < lines[i].noffers; o++)
			offers[noffers++] = (SourcingOffer){.price = rand() % 4,
												.available = rand() % 7,
												.vendor = o,
												.priority = rand() % 3,
												.excluded = rand() % 8 == 0,
												.is_unpriced = rand() % 6 == 0};
	}
	return nlines;
}

static bool
usable(const SourcingOffer *offer, unsigned mask)
{
	return !offer->excluded && offer->available > 0 && (mask >> offer->vendor) & 1;
}

/* Can the vendors of the mask serve all lines, and how cheaply? */
static bool
feasible(const SourcingLine *lines, int nlines, const SourcingOffer *offers, unsigned mask)
{
	for (int i = 0; i < nlines; i++)
	{
		int64_t sum = 0;

		for (int o = lines[i].first_offer; o < lines[i].first_offer + lines[i].noffers; o++)
			sum += usable(&offers[o], mask) ? offers[o].available : 0;
		if (sum < lines[i].quantity)
			return false;
	}
	return true;
}

static bool
single_vendor_can(const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	for (int i = 0; i < nlines; i++)
	{
		bool can = false;

		for (int o = lines[i].first_offer; o < lines[i].first_offer + lines[i].noffers; o++)
			can |= usable(&offers[o], ~0u) && offers[o].available >= lines[i].quantity;
		if (!can)
			return false;
	}
	return true;
}

/* Is there an offer of the line whose price is known? */
static bool
has_priced(const SourcingLine *line, const SourcingOffer *offers, unsigned mask)
{
	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		if (usable(&offers[o], mask) && !offers[o].is_unpriced)
			return true;
	}
	return false;
}

static bool
has_priced_whole(const SourcingLine *line, const SourcingOffer *offers)
{
	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		if (usable(&offers[o], ~0u) && !offers[o].is_unpriced &&
			offers[o].available >= line->quantity)
			return true;
	}
	return false;
}

/* The preferred value of a line served whole by one offer, by trying all of them: one without a
 * price only where there is none with one, or, if the line is not to be split, none that is
 * enough. */
static int64_t
best_whole(SourcingStrategy strategy, const SourcingLine *line, const SourcingOffer *offers)
{
	int64_t best = INT64_MAX;
	bool    wants_priced = strategy == SOURCING_SINGLE_VENDOR ? has_priced_whole(line, offers)
															  : has_priced(line, offers, ~0u);

	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		int64_t value = strategy == SOURCING_PRIORITY     ? offers[o].priority
						: strategy == SOURCING_MOST_STOCK ? -offers[o].available
														  : offers[o].price;

		if (usable(&offers[o], ~0u) && offers[o].available >= line->quantity && value < best &&
			!(wants_priced && offers[o].is_unpriced))
			best = value;
	}
	return best;
}

/* The preference of a strategy between two offers, by its words in docs/api.md. */
static bool
is_preferred(SourcingStrategy strategy, const SourcingOffer *a, const SourcingOffer *b)
{
	int64_t left[5] = {a->is_unpriced, 0, a->price, a->priority, a->vendor};
	int64_t right[5] = {b->is_unpriced, 0, b->price, b->priority, b->vendor};

	if (strategy == SOURCING_PRIORITY)
	{
		left[1] = a->priority;
		right[1] = b->priority;
	}
	if (strategy == SOURCING_MOST_STOCK)
	{
		left[1] = -a->available;
		right[1] = -b->available;
	}
	for (int i = 0; i < 5; i++)
	{
		if (left[i] != right[i])
			return left[i] < right[i];
	}
	return false;
}

/* What the vendors of the mask can do: units served, those of them without a price, the strategy's
 * own cost, money. */
typedef struct Outcome
{
	int64_t served;
	int64_t unpriced;
	int64_t own;
	int64_t money;
} Outcome;

static void
take(Outcome *outcome, SourcingStrategy strategy, const SourcingOffer *offer, int64_t units)
{
	outcome->served += units;
	outcome->unpriced += offer->is_unpriced ? units : 0;
	outcome->money += units * offer->price;
	outcome->own += strategy == SOURCING_PRIORITY ? units * offer->priority : 0;
}

/* One line by the rule: whole from the preferred offer that has it, else split, preferred first.
 * What has a price goes before what has none, even if the line is split for it. */
static void
serve_by_rule(SourcingStrategy strategy, const SourcingLine *line, const SourcingOffer *offers,
			  unsigned mask, Outcome *outcome)
{
	const SourcingOffer *sorted[OFFERS_MAX];
	const SourcingOffer *most = NULL;
	int                  count = 0;
	int64_t              left = line->quantity;

	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		int at = count;

		if (!usable(&offers[o], mask))
			continue;
		for (count++; at > 0 && is_preferred(strategy, &offers[o], sorted[at - 1]); at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = &offers[o];
	}
	for (int i = 0; i < count; i++)
	{
		if (sorted[i]->available >= left && (strategy == SOURCING_SINGLE_VENDOR ||
											 sorted[i]->is_unpriced == sorted[0]->is_unpriced))
		{
			take(outcome, strategy, sorted[i], left);
			return;
		}
		if (most == NULL ||
			(sorted[i]->available > most->available && sorted[i]->is_unpriced == most->is_unpriced))
			most = sorted[i];
	}
	if (strategy == SOURCING_SINGLE_VENDOR && most != NULL)
		take(outcome, strategy, most, most->available);
	for (int i = 0; i < count && left > 0 && strategy != SOURCING_SINGLE_VENDOR; i++)
	{
		int64_t units = sorted[i]->available < left ? sorted[i]->available : left;

		take(outcome, strategy, sorted[i], units);
		left -= units;
	}
}

static Outcome
outcome_of(SourcingStrategy strategy, const SourcingLine *lines, int nlines,
		   const SourcingOffer *offers, unsigned mask)
{
	Outcome outcome = {0};

	for (int i = 0; i < nlines; i++)
	{
		serve_by_rule(strategy == SOURCING_FEWEST_VENDORS ? SOURCING_CHEAPEST : strategy, &lines[i],
					  offers, mask, &outcome);
		for (int o = lines[i].first_offer;
			 o < lines[i].first_offer + lines[i].noffers && strategy == SOURCING_MOST_STOCK; o++)
			outcome.own -= usable(&offers[o], mask) ? offers[o].available : 0;
	}
	if (strategy == SOURCING_FEWEST_VENDORS)
		outcome.own = __builtin_popcount(mask);
	return outcome;
}

static bool
beats(Outcome a, Outcome b)
{
	if (a.served != b.served)
		return a.served > b.served;
	if (a.unpriced != b.unpriced)
		return a.unpriced < b.unpriced;
	return a.own != b.own ? a.own < b.own : a.money < b.money;
}

/* How many vendors the best set has: as few units without a price as can be, then vendors. */
static int
fewest_of_all(const SourcingLine *lines, int nlines, const SourcingOffer *offers)
{
	Outcome best = {0};

	for (unsigned mask = 1; mask < 1u << (OFFERS_MAX / 2); mask++)
	{
		Outcome outcome = outcome_of(SOURCING_FEWEST_VENDORS, lines, nlines, offers, mask);

		if (beats(outcome, best))
			best = outcome;
	}
	return (int) best.own;
}

static void
agrees_with_brute_force(void **state)
{
	SourcingLine  lines[2];
	SourcingOffer offers[OFFERS_MAX];
	SourcingOffer before[OFFERS_MAX];
	SourcingPick  picks[2 * OFFERS_MAX];

	(void) state;
	srand(7);
	for (int n = 0; n < CASES; n++)
	{
		int  nlines = make_case(lines, offers);
		bool can = feasible(lines, nlines, offers, ~0u);

		memcpy(before, offers, sizeof(offers));
		for (SourcingStrategy s = SOURCING_CHEAPEST; s <= SOURCING_FEWEST_VENDORS; s++)
		{
			int npicks = sourcing_choose(s, false, &no_limit, lines, nlines, offers, picks);

			assert_memory_equal(before, offers, sizeof(offers));
			assert_int_equal(npicks > 0, s == SOURCING_SINGLE_VENDOR
											 ? single_vendor_can(lines, nlines, offers)
											 : can);
			if (npicks < 0)
				continue;
			check_picks(s, lines, nlines, offers, picks, npicks);
			for (int p = 0; p < npicks && s != SOURCING_FEWEST_VENDORS; p++)
			{
				const SourcingOffer *offer = &offers[picks[p].offer];
				int64_t              best = best_whole(s, &lines[picks[p].line], offers);

				if (best != INT64_MAX)
					assert_int_equal(s == SOURCING_PRIORITY     ? offer->priority
									 : s == SOURCING_MOST_STOCK ? -offer->available
																: offer->price,
									 best);
			}
			if (s == SOURCING_FEWEST_VENDORS)
				assert_int_equal(vendors_used(offers, picks, npicks),
								 fewest_of_all(lines, nlines, offers));
		}
	}
}

static void
partial_takes_all_there_is(void **state)
{
	SourcingLine  lines[2];
	SourcingOffer offers[OFFERS_MAX];
	SourcingPick  picks[2 * OFFERS_MAX];

	(void) state;
	srand(8);
	for (int n = 0; n < CASES; n++)
	{
		int nlines = make_case(lines, offers);
		int npicks =
			sourcing_choose(SOURCING_CHEAPEST, true, &no_limit, lines, nlines, offers, picks);
		int64_t all = 0;

		for (int i = 0; i < nlines; i++)
		{
			int64_t sum = 0;

			for (int o = lines[i].first_offer; o < lines[i].first_offer + lines[i].noffers; o++)
				sum += usable(&offers[o], ~0u) ? offers[o].available : 0;
			sum = sum < lines[i].quantity ? sum : lines[i].quantity;
			all += sum;
			assert_int_equal(npicks > 0 ? picked(picks, npicks, i) : 0, npicks > 0 ? sum : 0);
		}
		assert_int_equal(npicks > 0, all > 0);
	}
}

static void
says_which_line_fails(void **state)
{
	SourcingOffer offers[] = {{.price = 1, .available = 5, .vendor = 1},
							  {.price = 1, .available = 1, .vendor = 1}};
	SourcingLine  lines[] = {{5, 0, 1}, {2, 1, 1}};
	SourcingPick  picks[2];

	(void) state;
	for (SourcingStrategy s = SOURCING_CHEAPEST; s <= SOURCING_FEWEST_VENDORS; s++)
		assert_int_equal(sourcing_choose(s, false, &no_limit, lines, 2, offers, picks), -2);
}

/* ---------- at most so many vendors ---------- */

static void
a_limit_takes_the_best_set_of_vendors(void **state)
{
	SourcingLine  lines[2];
	SourcingOffer offers[OFFERS_MAX];
	SourcingPick  picks[2 * OFFERS_MAX];
	int           limited = 0;
	int           refused = 0;

	(void) state;
	srand(9);
	for (int n = 0; n < CASES; n++)
	{
		int           nlines = make_case(lines, offers);
		int32_t       used[1] = {rand() % (OFFERS_MAX / 2)};
		SourcingLimit limit = {.max_vendors = 1 + rand() % 3, .used = used, .nused = rand() % 2};
		unsigned      free_mask = limit.nused ? 1u << used[0] : 0;
		bool          partial = rand() % 2;
		int64_t       wanted = lines[0].quantity + (nlines > 1 ? lines[1].quantity : 0);

		for (SourcingStrategy s = SOURCING_CHEAPEST; s <= SOURCING_FEWEST_VENDORS; s++)
		{
			Outcome  best = {0};
			Outcome  got = {0};
			unsigned vendors = 0;
			int unlimited = sourcing_choose(s, partial, &no_limit, lines, nlines, offers, picks);
			int npicks;

			for (int p = 0; p < unlimited; p++)
			{
				vendors |= 1u << offers[picks[p].offer].vendor;
				take(&got, s, &offers[picks[p].offer], picks[p].quantity);
			}
			if (unlimited > 0)
				assert_int_equal(got.served, outcome_of(s, lines, nlines, offers, ~0u).served);
			got = (Outcome){0};
			if (unlimited > 0 && s != SOURCING_FEWEST_VENDORS &&
				__builtin_popcount(vendors & ~free_mask) <= limit.max_vendors - limit.nused)
			{
				SourcingPick same[2 * OFFERS_MAX];

				/* the limit changes nothing of a choice that keeps to it */
				assert_int_equal(sourcing_choose(s, partial, &limit, lines, nlines, offers, same),
								 unlimited);
				assert_memory_equal(same, picks, sizeof(SourcingPick) * unlimited);
				continue;
			}
			for (unsigned mask = 0; mask < 1u << (OFFERS_MAX / 2); mask++)
			{
				Outcome outcome;

				if ((mask & free_mask) ||
					__builtin_popcount(mask) > limit.max_vendors - limit.nused)
					continue;
				outcome = outcome_of(s, lines, nlines, offers, mask | free_mask);
				if (s == SOURCING_FEWEST_VENDORS)
					outcome.own = __builtin_popcount(mask);
				if (beats(outcome, best))
					best = outcome;
			}
			npicks = sourcing_choose(s, partial, &limit, lines, nlines, offers, picks);
			if (unlimited < 0)
			{
				assert_int_equal(npicks, unlimited);
				continue;
			}
			limited++;
			if (best.served == 0 || (!partial && best.served < wanted))
			{
				assert_int_equal(npicks, SOURCING_TOO_MANY_VENDORS);
				refused++;
				continue;
			}
			vendors = 0;
			for (int p = 0; p < npicks; p++)
			{
				vendors |= 1u << offers[picks[p].offer].vendor;
				take(&got, s, &offers[picks[p].offer], picks[p].quantity);
			}
			assert_true(npicks > 0);
			assert_true(__builtin_popcount(vendors & ~free_mask) <=
						limit.max_vendors - limit.nused);
			assert_int_equal(got.served, best.served);
			assert_int_equal(got.unpriced, best.unpriced);
			if (s == SOURCING_PRIORITY)
				assert_int_equal(got.own, best.own);
			if (s == SOURCING_FEWEST_VENDORS)
				assert_true(__builtin_popcount(vendors & ~free_mask) <= best.own);
			assert_int_equal(got.money, best.money);
		}
	}
	assert_true(limited > 1000 && refused > 100);
}

static void
many_vendors_are_chosen_greedily(void **state)
{
	SourcingOffer offers[40];
	SourcingLine  line = {100, 0, 40};
	SourcingPick  picks[40];

	(void) state;
	for (int i = 0; i < 40; i++)
		offers[i] = (SourcingOffer){.price = i,
									.available = i == 30   ? 60
												 : i == 35 ? 40
														   : 3,
									.vendor = i};
	assert_int_equal(
		sourcing_choose(SOURCING_FEWEST_VENDORS, false, &no_limit, &line, 1, offers, picks), 2);
}

/* More vendors than are chosen among: where there is no limit, all of them may serve. */
static void
without_a_limit_nothing_is_refused_for_its_vendors(void **state)
{
	enum
	{
		VENDORS = 300
	};
	SourcingOffer offers[VENDORS];
	SourcingPick  picks[VENDORS];

	(void) state;
	for (int i = 0; i < VENDORS; i++)
		offers[i] = (SourcingOffer){.price = i, .available = 1, .vendor = i};
	for (int quantity = 255; quantity <= VENDORS + 1; quantity++)
	{
		SourcingLine line = {quantity, 0, VENDORS};
		int          expected = quantity <= VENDORS ? quantity : -1;

		assert_int_equal(
			sourcing_choose(SOURCING_FEWEST_VENDORS, false, &no_limit, &line, 1, offers, picks),
			expected);
		assert_int_equal(
			sourcing_choose(SOURCING_FEWEST_VENDORS, true, &no_limit, &line, 1, offers, picks),
			quantity <= VENDORS ? quantity : VENDORS);
	}
}

/* nlines lines, each offered by nvendors vendors: line i by vendor v with (i + v) % 7 units. */
static int
choose_of_many(int nlines, int nvendors, int64_t quantity, int64_t *effort)
{
	SourcingOffer *offers = malloc(sizeof(SourcingOffer) * nlines * nvendors);
	SourcingLine  *lines = malloc(sizeof(SourcingLine) * nlines);
	SourcingPick  *picks = malloc(sizeof(SourcingPick) * nlines * nvendors);
	SourcingLimit  limit = {.effort = effort};
	int            npicks;

	for (int i = 0; i < nlines; i++)
	{
		lines[i] = (SourcingLine){quantity, i * nvendors, nvendors};
		for (int v = 0; v < nvendors; v++)
			offers[i * nvendors + v] =
				(SourcingOffer){.price = 1 + v, .available = (i + v) % 7, .vendor = v};
	}
	npicks = sourcing_choose(SOURCING_FEWEST_VENDORS, false, &limit, lines, nlines, offers, picks);
	free(offers);
	free(lines);
	free(picks);
	return npicks;
}

static void
the_search_is_bounded(void **state)
{
	int64_t effort = SOURCING_EFFORT_BATCH;

	(void) state;
	/* a small order is searched through, and the batch pays for it */
	assert_true(choose_of_many(10, 12, 1, &effort) >= 10);
	assert_int_equal(effort, SOURCING_EFFORT_BATCH - (10 * 12 << 12));
	/* a large one goes greedily, and costs the batch nothing */
	effort = SOURCING_EFFORT_BATCH;
	assert_true(choose_of_many(1000, 12, 3, &effort) >= 1000);
	assert_int_equal(effort, SOURCING_EFFORT_BATCH);
	/* so does a small one when the batch has spent what it had */
	effort = 1000;
	assert_true(choose_of_many(10, 12, 1, &effort) >= 10);
	assert_int_equal(effort, 1000);
	/* and many vendors that have little each are not looked through again and again */
	assert_true(choose_of_many(1000, 256, 700, NULL) >= 1000 * 200);
}

/* Vendor 0 has the most, and is the cheapest, but only 1 and 2 need no third one. */
static int
vendors_of_the_best_set(int64_t effort)
{
	SourcingOffer offers[14] = {{.price = 1, .available = 6, .vendor = 0},
								{.price = 2, .available = 9, .vendor = 1},
								{.price = 2, .available = 1, .vendor = 2}};
	SourcingLine  lines[] = {{10, 0, 11}, {10, 11, 3}};
	SourcingLimit limit = {.effort = &effort};
	SourcingPick  picks[14];
	int           npicks;

	for (int o = 3; o < 11; o++)
		offers[o] = (SourcingOffer){.price = 3, .available = 1, .vendor = o};
	offers[11] = (SourcingOffer){.price = 1, .available = 6, .vendor = 0};
	offers[12] = (SourcingOffer){.price = 2, .available = 2, .vendor = 1};
	offers[13] = (SourcingOffer){.price = 2, .available = 8, .vendor = 2};
	npicks = sourcing_choose(SOURCING_FEWEST_VENDORS, false, &limit, lines, 2, offers, picks);
	assert_true(npicks > 0);
	return vendors_used(offers, picks, npicks);
}

static void
the_best_set_is_found_while_it_may_be_looked_for(void **state)
{
	(void) state;
	assert_int_equal(vendors_of_the_best_set(SOURCING_EFFORT_BATCH), 2);
	assert_int_equal(vendors_of_the_best_set(14 << 11), 2);
	assert_int_equal(vendors_of_the_best_set((14 << 11) - 1), 3);
}

static void
strategies_have_names(void **state)
{
	SourcingStrategy strategy;

	(void) state;
	for (SourcingStrategy s = SOURCING_CHEAPEST; s <= SOURCING_FEWEST_VENDORS; s++)
	{
		assert_true(sourcing_strategy_by_name(sourcing_strategy_name(s), &strategy));
		assert_int_equal(strategy, s);
	}
	assert_false(sourcing_strategy_by_name("dearest", &strategy));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_brute_force),
		cmocka_unit_test(partial_takes_all_there_is),
		cmocka_unit_test(says_which_line_fails),
		cmocka_unit_test(a_limit_takes_the_best_set_of_vendors),
		cmocka_unit_test(many_vendors_are_chosen_greedily),
		cmocka_unit_test(without_a_limit_nothing_is_refused_for_its_vendors),
		cmocka_unit_test(the_search_is_bounded),
		cmocka_unit_test(the_best_set_is_found_while_it_may_be_looked_for),
		cmocka_unit_test(strategies_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
