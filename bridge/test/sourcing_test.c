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

#include "../../extension/src/sourcing.h"

#define OFFERS_MAX 8
#define CASES      20000

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

/* What any outcome must obey: no offer overdrawn or excluded, lines served exactly, offers untouched. */
static void
check_picks(SourcingStrategy strategy, const SourcingLine *lines, int nlines, const SourcingOffer *offers,
			const SourcingPick *picks, int npicks)
{
	int64_t taken[2 * OFFERS_MAX] = {0};

	for (int p = 0; p < npicks; p++)
	{
		const SourcingLine *line = &lines[picks[p].line];

		assert_true(picks[p].quantity > 0);
		assert_true(picks[p].offer >= line->first_offer && picks[p].offer < line->first_offer + line->noffers);
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
			offers[noffers++] = (SourcingOffer){
				.price = rand() % 4, .available = rand() % 7, .vendor = o, .priority = rand() % 3, .excluded = rand() % 8 == 0};
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

/* The preferred value of a line served whole by one offer, by trying all of them. */
static int64_t
best_whole(SourcingStrategy strategy, const SourcingLine *line, const SourcingOffer *offers)
{
	int64_t best = INT64_MAX;

	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		int64_t value = strategy == SOURCING_PRIORITY     ? offers[o].priority
						: strategy == SOURCING_MOST_STOCK ? -offers[o].available
														  : offers[o].price;

		if (usable(&offers[o], ~0u) && offers[o].available >= line->quantity && value < best)
			best = value;
	}
	return best;
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
			int npicks = sourcing_choose(s, false, lines, nlines, offers, picks);

			assert_memory_equal(before, offers, sizeof(offers));
			assert_int_equal(npicks > 0, s == SOURCING_SINGLE_VENDOR ? single_vendor_can(lines, nlines, offers) : can);
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
			{
				int fewest = OFFERS_MAX + 1;

				for (unsigned mask = 1; mask < 1u << (OFFERS_MAX / 2); mask++)
					if (feasible(lines, nlines, offers, mask) && __builtin_popcount(mask) < fewest)
						fewest = __builtin_popcount(mask);
				assert_int_equal(vendors_used(offers, picks, npicks), fewest);
			}
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
		int     nlines = make_case(lines, offers);
		int     npicks = sourcing_choose(SOURCING_CHEAPEST, true, lines, nlines, offers, picks);
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
	SourcingOffer offers[] = {{.price = 1, .available = 5, .vendor = 1}, {.price = 1, .available = 1, .vendor = 1}};
	SourcingLine  lines[] = {{5, 0, 1}, {2, 1, 1}};
	SourcingPick  picks[2];

	(void) state;
	for (SourcingStrategy s = SOURCING_CHEAPEST; s <= SOURCING_FEWEST_VENDORS; s++)
		assert_int_equal(sourcing_choose(s, false, lines, 2, offers, picks), -2);
}

static void
many_vendors_are_chosen_greedily(void **state)
{
	SourcingOffer offers[40];
	SourcingLine  line = {100, 0, 40};
	SourcingPick  picks[40];

	(void) state;
	for (int i = 0; i < 40; i++)
		offers[i] = (SourcingOffer){.price = i, .available = i == 30 ? 60 : i == 35 ? 40 : 3, .vendor = i};
	assert_int_equal(sourcing_choose(SOURCING_FEWEST_VENDORS, false, &line, 1, offers, picks), 2);
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
		cmocka_unit_test(agrees_with_brute_force), cmocka_unit_test(partial_takes_all_there_is),
		cmocka_unit_test(says_which_line_fails),   cmocka_unit_test(many_vendors_are_chosen_greedily),
		cmocka_unit_test(strategies_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
