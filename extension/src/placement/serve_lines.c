/*
 * serve_lines.c
 *		The lines of an order served from a given set of vendors.
 *
 * A line is served by the best offer that can serve it whole, else split over
 * the offers, best first; "best" is what a strategy says. Whatever it says, an offer whose
 * price nobody has told comes after those that have one.
 *
 * Never allocates, never calls the server.
 */
#include "placement/serve_lines.h"

/* The best offer of a line that has at least "quantity" units; -1 if there is none. */
static int
best_offer(SourcingStrategy strategy, const VendorSet *set, const SourcingLine *line,
		   const SourcingOffer *offers, int64_t quantity)
{
	int best = -1;

	for (int i = line->first_offer; i < line->first_offer + line->noffers; i++)
	{
		if (offers[i].available < quantity || !may_serve(&offers[i], set))
			continue;
		if (best < 0 || offer_compare(strategy, &offers[i], &offers[best]) < 0)
			best = i;
	}
	return best;
}

/* Moves the pick at "parent" of a heap down to where the strategy prefers it to none below it. */
static void
sift_down(SourcingStrategy strategy, const SourcingOffer *offers, SourcingPick *heap, int count,
		  int parent)
{
	for (int child; (child = 2 * parent + 1) < count; parent = child)
	{
		SourcingPick moved = heap[parent];

		if (child + 1 < count &&
			offer_compare(strategy, &offers[heap[child + 1].offer], &offers[heap[child].offer]) > 0)
			child++;
		if (offer_compare(strategy, &offers[moved.offer], &offers[heap[child].offer]) >= 0)
			break;
		heap[parent] = heap[child];
		heap[child] = moved;
	}
}

/* The best first (heapsort: qsort() has no place for the offers). */
static void
sort_by_preference(SourcingStrategy strategy, const SourcingOffer *offers, SourcingPick *picks,
				   int count)
{
	for (int parent = count / 2 - 1; parent >= 0; parent--)
		sift_down(strategy, offers, picks, count, parent);
	while (--count > 0)
	{
		SourcingPick last = picks[0];

		picks[0] = picks[count];
		picks[count] = last;
		sift_down(strategy, offers, picks, count, 0);
	}
}

/* Serves a line from as many offers as it takes, the best first; returns the units left unserved.
 */
static int64_t
split_line(SourcingStrategy strategy, const VendorSet *set, const SourcingLine *line,
		   int line_index, const SourcingOffer *offers, SourcingPick *picks, int *npicks)
{
	SourcingPick *split = &picks[*npicks];
	int64_t       left = line->quantity;
	int           count = 0;
	int           used;

	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		if (may_serve(&offers[o], set))
			split[count++] = (SourcingPick){line_index, o, offers[o].available};
	}
	sort_by_preference(strategy, offers, split, count);
	for (used = 0; used < count && left > 0; used++)
	{
		if (split[used].quantity > left)
			split[used].quantity = left;
		left -= split[used].quantity;
	}
	*npicks += used;
	return left;
}

static bool
has_priced_offer(const VendorSet *set, const SourcingLine *line, const SourcingOffer *offers)
{
	for (int o = line->first_offer; o < line->first_offer + line->noffers; o++)
	{
		if (!offers[o].is_unpriced && may_serve(&offers[o], set))
			return true;
	}
	return false;
}

/* Serves one line; returns the units left unserved and adds to *npicks. */
static int64_t
serve_line(SourcingStrategy strategy, const VendorSet *set, const SourcingLine *line,
		   int line_index, const SourcingOffer *offers, SourcingPick *picks, int *npicks)
{
	int64_t left = line->quantity;
	int     offer = best_offer(strategy, set, line, offers, left);
	bool    is_unpriced = offer >= 0 && offers[offer].is_unpriced;

	/* what others have a price for goes first, even if the line is split for it */
	if (is_unpriced && strategy != SOURCING_SINGLE_VENDOR && has_priced_offer(set, line, offers))
		offer = -1;
	if (offer >= 0)
	{
		picks[(*npicks)++] = (SourcingPick){line_index, offer, left};
		return 0;
	}

	if (strategy == SOURCING_SINGLE_VENDOR)
	{
		/* never split: the offer with the most units, if a part will do */
		offer = best_offer(SOURCING_MOST_STOCK, set, line, offers, 1);
		if (offer < 0)
			return left;
		picks[(*npicks)++] = (SourcingPick){line_index, offer, offers[offer].available};
		return left - offers[offer].available;
	}

	return split_line(strategy, set, line, line_index, offers, picks, npicks);
}

int
serve_lines(SourcingStrategy strategy, bool allow_partial, const VendorSet *set,
			const SourcingLine *lines, int nlines, const SourcingOffer *offers, SourcingPick *picks)
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
