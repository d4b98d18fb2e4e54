/*
 * resourcing.c
 *		Sourcing anew what a vendor has rejected, or what is taken from one that has too few.
 *
 * Each part of an order goes to a vendor that has not refused it. What is taken from a
 * vendor only because its feed fell below what it holds stays there if that turns out needless.
 */
#include "postgres.h"

#include "settlement/resourcing.h"

#include "placement/holds.h"
#include "placement/order_ids.h"
#include "store/settings.h"
#include "store/tables.h"
#include "store/trigger.h"

static bool
has_refused(const SettledOrder *order, int line_no, const char *vendor_id)
{
	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->line_no == line_no && strcmp(hold->vendor_id, vendor_id) == 0 &&
			(hold->status == HOLD_REJECTED || hold->new_status == HOLD_REJECTED))
			return true;
	}
	return false;
}

static int
last_attempt(const SettledOrder *order)
{
	int attempt = 0;

	for (int i = 0; i < order->nholds; i++)
		attempt = Max(attempt, order->holds[i].attempt);
	return attempt;
}

/* The attempt that is next; 0 if there have been enough. */
static int
next_attempt(Settlement *settlement, const SettledOrder *order)
{
	int last = last_attempt(order);

	if (attempt_number(last) >= guc_max_attempts)
		return 0;
	if (settlement->newest_order_id == 0)
		settlement->newest_order_id = newest_order_id();
	return attempt_after(last, order->facts.order_id, settlement->newest_order_id);
}

/* The vendors of the holds that the order keeps, each once; all their stock is locked. */
static SourcingLimit
vendor_limit(const SettledOrder *order, const StockRows *stock)
{
	int32_t *used = palloc(sizeof(int32_t) * Max(order->nholds, 1));
	int      nused = 0;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold     *hold = &order->holds[i];
		const StockRow *row =
			hold_is_kept(hold) ? stock_find(stock, hold->product_id, hold->vendor_id) : NULL;
		int32_t vendor;
		int     u = 0;

		if (row == NULL)
			continue;
		vendor = stock->offers[row - stock->rows].vendor;
		while (u < nused && used[u] != vendor)
			u++;
		if (u == nused)
			used[nused++] = vendor;
	}
	/* no effort to share: what an order becomes must not depend on the others of the batch */
	return (SourcingLimit){.max_vendors = guc_max_vendors_per_order, .used = used, .nused = nused};
}

/* The rejected units by line; returns how many lines. */
static int
rejected_lines(const SettledOrder *order, const StockRows *stock, SourcingLine *lines,
			   int *line_nos)
{
	int nlines = 0;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];
		int         l = 0;

		if (hold->new_status != HOLD_REJECTED)
			continue;
		while (l < nlines && line_nos[l] != hold->line_no)
			l++;
		if (l == nlines)
		{
			line_nos[nlines] = hold->line_no;
			lines[nlines].quantity = 0;
			stock_find_offers(stock, hold->product_id, &lines[nlines].first_offer,
							  &lines[nlines].noffers);
			nlines++;
		}
		lines[l].quantity += hold->quantity;
	}
	return nlines;
}

/* What the order costs with its new holds and without the rejected ones. */
static Numeric
new_total(const SettledOrder *order, const StockRows *stock, const SourcingPick *picks, int npicks)
{
	Amount total = {0};

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->new_status != HOLD_REJECTED && hold->status != HOLD_REJECTED)
			amount_add(&total, hold->price, hold->quantity);
	}
	for (int p = 0; p < npicks; p++)
		amount_add(&total, stock->rows[picks[p].offer].price, picks[p].quantity);
	return amount_to_numeric(total);
}

/* Sources the rejected units of one order from vendors that have not refused them. */
Resourced
resourcing_source_anew(Settlement *settlement, SettledOrder *order, StockRows *stock,
					   BulkInsert **new_holds)
{
	SourcingLine    *lines = palloc(sizeof(SourcingLine) * order->nholds);
	int             *line_nos = palloc(sizeof(int) * order->nholds);
	SourcingLimit    limit = vendor_limit(order, stock);
	bool             allow_partial = order->allow_partial && !order->stays_if_unserved;
	int              attempt = next_attempt(settlement, order);
	int              nlines = rejected_lines(order, stock, lines, line_nos);
	int              npicks = -1;
	SourcingPick    *picks;
	SourcingStrategy strategy;
	int              noffers = 0;

	for (int l = 0; l < nlines; l++)
		noffers += lines[l].noffers;
	picks = palloc(sizeof(SourcingPick) * Max(noffers, 1));

	if (attempt > 0 && sourcing_strategy_by_name(order->strategy, &strategy))
	{
		/* whoever has refused a line is not asked for it again; the next order has its own marks */
		for (int l = 0; l < nlines; l++)
			for (int o = lines[l].first_offer; o < lines[l].first_offer + lines[l].noffers; o++)
				stock->offers[o].excluded =
					has_refused(order, line_nos[l], stock->rows[o].vendor_id);
		npicks =
			sourcing_choose(strategy, allow_partial, &limit, lines, nlines, stock->offers, picks);
	}
	/* a partial order goes on with what it has, as long as that is something */
	if (npicks < 0 && !(allow_partial && order_keeps_a_hold(order)))
		return RESOURCE_FAILED;
	npicks = Max(npicks, 0);
	order->new_total = new_total(order, stock, picks, npicks);
	if (npicks > 0 && *new_holds == NULL)
		*new_holds = bulk_begin(table_oid("hold"));
	for (int p = 0; p < npicks; p++)
	{
		picks[p].line = line_nos[picks[p].line] - 1;
		stock_reserve(stock, picks[p].offer, picks[p].quantity);
		hold_store(*new_holds, order->facts.order_id, picks[p].line + 1, attempt,
				   &stock->rows[picks[p].offer], picks[p].quantity,
				   GetCurrentTransactionStartTimestamp());
	}
	if (npicks == 0)
		return RESOURCED_LESS;
	holds_add_placed_events(settlement->events, &order->facts, attempt, stock, picks, npicks);
	return RESOURCED;
}

/* Leaves with their vendors the holds that were to be taken from them. */
void
resourcing_undo_takes(SettledOrder *order)
{
	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (!hold->is_taken)
			continue;
		hold->new_status = HOLD_UNCHANGED;
		hold->reason = NULL;
		hold->is_taken = false;
	}
}

/* Is there still a vendor, of those from which the order's holds are to be taken, that has too few?
 * Counts down how many. */
static bool
takes_are_needed(const SettledOrder *order, const StockRows *stock, int64 *units_short)
{
	bool needed = false;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];
		int64      *left;

		if (!hold->is_taken)
			continue;
		left = &units_short[hold_stock(stock, hold) - stock->rows];
		needed |= *left > 0;
	}
	for (int i = 0; i < order->nholds && needed; i++)
	{
		const Hold *hold = &order->holds[i];

		if (hold->is_taken)
			units_short[hold_stock(stock, hold) - stock->rows] -= hold->quantity;
	}
	return needed;
}

/* Now that the stock is locked it is known whether it is still short: the newest orders lose their
 * vendor first. */
void
resourcing_undo_needless_takes(const Settlement *settlement, const StockRows *stock)
{
	int64 *units_short = palloc(sizeof(int64) * Max(stock->nrows, 1));

	for (int i = 0; i < stock->nrows; i++)
		units_short[i] = stock->rows[i].reserved - stock->rows[i].on_hand;
	for (int i = settlement->norders - 1; i >= 0; i--)
	{
		if (!takes_are_needed(&settlement->orders[i], stock, units_short))
			resourcing_undo_takes(&settlement->orders[i]);
	}
}

/* Tells the vendors from which holds were taken. Holds are by vendor and attempt. */
void
resourcing_tell_taken(const SettledOrder *order, EventBatch *events)
{
	const Hold *told = NULL;

	for (int i = 0; i < order->nholds; i++)
	{
		const Hold *hold = &order->holds[i];

		if (!hold->is_taken || (told != NULL && told->attempt == hold->attempt &&
								strcmp(told->vendor_id, hold->vendor_id) == 0))
			continue;
		event_vendor_cancelled(events, &order->facts, hold->vendor_id, hold->attempt, hold->reason);
		told = hold;
	}
}
