/*
 * reconcile.c
 *		A vendor's stock rows against its feed.
 *
 * A feed is the vendor's own count at the time as_of. Units held but not
 * confirmed stay in "reserved"; units confirmed after as_of are not in the count
 * yet and are subtracted from it. Rows the feed does not change are neither
 * locked nor written: whoever confirms units meanwhile lowers on_hand by just
 * what would be subtracted here, so a row that agrees goes on agreeing.
 *
 * A SKU that is another product's since it was mapped anew has the same units: what is held of it
 * as the former product, or was confirmed, is not for sale as the new one: it is found by that SKU,
 * which the former offer keeps as long (sku_change.c).
 *
 * Items and rows are merged in the order of the SKU, in one pass over an index.
 * Then the rows that change are locked, by (product_id, vendor_id), and written.
 */
#include "postgres.h"

#include "feed/item_product.h"
#include "feed/new_offers.h"
#include "feed/oversold.h"
#include "feed/sku_change.h"
#include "miscadmin.h"
#include "outbox/low_stock.h"
#include "placement/holds.h"
#include "store/array.h"
#include "store/rows.h"
#include "store/settings.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* The vendor's offer of another product under an item's SKU: the SKU was mapped anew, and orders
 * may still hold units of it. It also says when that was counted, if no feed has passed it over. */
typedef struct Elsewhere
{
	FeedItem   *item; /* NULL: the feed has none, so there is no count */
	const char *product_id;
	int64       counted; /* as it was found */
	TimestampTz as_of;
	bool        is_active;
} Elsewhere;

typedef struct Reconciliation
{
	FeedPart    *part;
	const char **missing; /* products that the vendor offers and the part lacks */
	int          nmissing;
	int          missing_room;
	Elsewhere   *elsewhere;
	int          nelsewhere;
	int          elsewhere_room;
	RowScan      confirmed;        /* holds, by vendor, product and time */
	bool         wants_all_offers; /* a product that changes has a low threshold */
	int          nrows;            /* read so far */
} Reconciliation;

/* ---------- comparing ---------- */

/* Units of the product that were confirmed after that time, as far as the active snapshot sees. */
static int64
confirmed_since(Reconciliation *work, const char *product_id, TimestampTz last_shipped_at,
				TimestampTz since)
{
	ScanKeyData keys[3];
	int64       units = 0;

	if (last_shipped_at <= since)
		return 0;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(work->part->vendor_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(product_id));
	ScanKeyInit(&keys[2], 3, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT, TimestampTzGetDatum(since));
	row_scan_find(&work->confirmed, keys, 3);
	while (row_scan_next(&work->confirmed) != NULL)
		units += DatumGetInt64(row_column(work->confirmed.found, HOLD_COLUMN_QUANTITY));
	return units;
}

/* The vendor's count less what was confirmed since it was made. */
static int64
on_hand_after(Reconciliation *work, const FeedItem *item, TimestampTz since,
			  TimestampTz last_shipped_at)
{
	return Max(0, item->count - confirmed_since(work, item->product_id, last_shipped_at, since));
}

static void
see_low_threshold(Reconciliation *work, TupleTableSlot *slot)
{
	if (row_int64(slot, STOCK_COLUMN_LOW_THRESHOLD, guc_low_stock) != LOW_THRESHOLD_NONE)
		work->wants_all_offers = true;
}

static void
compare_row(Reconciliation *work, FeedItem *item, TupleTableSlot *slot)
{
	int64       last_count = row_int64(slot, STOCK_COLUMN_COUNTED, -1);
	TimestampTz as_of = row_int64(slot, STOCK_COLUMN_AS_OF, 0);
	TimestampTz last_shipped_at = row_int64(slot, STOCK_COLUMN_LAST_SHIPPED_AT, 0);
	TimestampTz counted_at;
	Price       price;
	bool        was_priced;

	item->exists = true;
	if (item->is_bad)
		return;
	if (!price_from_numeric(DatumGetNumeric(row_column(slot, STOCK_COLUMN_PRICE)), &price))
		elog(ERROR, "price of product \"%s\" is out of range", item->product_id);
	was_priced = row_bool(slot, STOCK_COLUMN_IS_PRICED, true);
	item->is_priced = item->has_price || was_priced;
	if (!item->has_price)
		item->price = price;
	counted_at = feed_counted_at(work->part, item, last_count, as_of);
	/* what has shipped since it was counted last, and came back, must not be missing again: that
	 * all of it is counted now is a change, too */
	item->changes = !DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE)) ||
					item->price.amount != price.amount || item->is_priced != was_priced ||
					last_count != item->count ||
					(last_shipped_at > as_of && counted_at >= last_shipped_at) ||
					DatumGetInt64(row_column(slot, STOCK_COLUMN_ON_HAND)) !=
						on_hand_after(work, item, counted_at, last_shipped_at);
	if (item->changes)
		see_low_threshold(work, slot);
}

static void
add_missing(Reconciliation *work, TupleTableSlot *slot)
{
	if (!DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE)))
		return;
	work->missing =
		array_with_room(work->missing, work->nmissing, &work->missing_room, sizeof(char *));
	work->missing[work->nmissing++] = row_text(slot, STOCK_COLUMN_PRODUCT_ID);
	see_low_threshold(work, slot);
}

/* One that is not sold, of which nothing is held, and whose units the vendor has counted, is passed
 * over. */
static void
add_elsewhere(Reconciliation *work, FeedItem *item, TupleTableSlot *slot)
{
	bool        is_active = DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE));
	TimestampTz as_of = row_int64(slot, STOCK_COLUMN_AS_OF, 0);
	TimestampTz last_shipped_at = row_int64(slot, STOCK_COLUMN_LAST_SHIPPED_AT, 0);

	if (!is_active && row_int64(slot, STOCK_COLUMN_RESERVED, 0) == 0 &&
		row_int64(slot, STOCK_COLUMN_IN_LANES, 0) == 0 && work->part->previous_pull_at == 0 &&
		last_shipped_at <= Min(as_of, work->part->as_of))
		return;
	work->elsewhere = array_with_room(work->elsewhere, work->nelsewhere, &work->elsewhere_room,
									  sizeof(Elsewhere));
	if (item != NULL && item->nelsewhere++ == 0)
		item->first_elsewhere = work->nelsewhere;
	work->elsewhere[work->nelsewhere++] =
		(Elsewhere){.item = item,
					.product_id = row_text(slot, STOCK_COLUMN_PRODUCT_ID),
					.counted = row_int64(slot, STOCK_COLUMN_COUNTED, -1),
					.as_of = as_of,
					.is_active = is_active};
	if (is_active)
		see_low_threshold(work, slot);
}

/* Merges the vendor's rows of the range with the items. */
static void
compare_with_stock(Reconciliation *work, RowScan *stock)
{
	FeedPart       *part = work->part;
	TupleTableSlot *slot;
	int             next = 0;

	item_find_range(stock, part);
	while ((slot = row_scan_next(stock)) != NULL)
	{
		char     *sku = row_text(slot, STOCK_COLUMN_VENDOR_SKU);
		FeedItem *item = item_of_sku(part, &next, sku);
		char     *product_id;

		feed_yield(work->nrows++);
		pfree(sku);
		if (item == NULL)
		{
			add_missing(work, slot);
			if (!DatumGetBool(row_column(slot, STOCK_COLUMN_IS_ACTIVE)) &&
				row_int64(slot, STOCK_COLUMN_COUNTED, -1) >= 0)
				add_elsewhere(work, NULL, slot);
			continue;
		}
		product_id = row_text(slot, STOCK_COLUMN_PRODUCT_ID);
		if (item->product_id != NULL && strcmp(item->product_id, product_id) == 0)
			compare_row(work, item, slot);
		else
			add_elsewhere(work, item, slot); /* the SKU is not this product any more */
		pfree(product_id);
	}
}

static void
wait_with_sku(Reconciliation *work, FeedItem *item)
{
	feed_note(work->part, item, RULE_SKU_WAITS, NULL);
	item->is_bad = true;
}

/* Finds the rows of the remaining items: those that were offered under another SKU so far. */
static void
compare_by_product(Reconciliation *work, RowScan *stock)
{
	int        count;
	FeedItem **items = new_offers_items(work->part, &count);
	Datum *keys = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * Max(count * 2, 1));
	Datum  vendor_id = CStringGetTextDatum(work->part->vendor_id);
	SkuChanges changes;

	for (int i = 0; i < count; i++)
	{
		keys[i * 2] = CStringGetTextDatum(items[i]->product_id);
		keys[i * 2 + 1] = vendor_id;
	}
	row_scan_locate(stock, keys, 2, count, F_TEXTEQ);
	sku_changes_begin(&changes, work->part);
	for (int i = 0; i < count; i++)
	{
		feed_yield(i);
		row_scan_find_located(stock, i);
		if (row_scan_next(stock) == NULL)
			continue;
		items[i]->takes_sku = true;
		items[i]->settled_at = sku_change_settled_at(&changes, items[i], stock->found);
		/* what lanes have is mostly free; what is not is seen once the row is locked, and they are
		 * folded */
		if (!sku_change_is_settled(items[i], row_int64(stock->found, STOCK_COLUMN_RESERVED, 0),
								   row_int64(stock->found, STOCK_COLUMN_LAST_SHIPPED_AT, 0)))
			wait_with_sku(work, items[i]);
		compare_row(work, items[i], stock->found);
		items[i]->changes = !items[i]->is_bad;
		see_low_threshold(work, stock->found);
	}
	sku_changes_end(&changes);
}

static void
compare(Reconciliation *work)
{
	FeedPart *part = work->part;
	RowScan   by_sku;
	RowScan   by_product;

	/* one snapshot for a row's count and what was confirmed of it */
	rows_see_latest();
	row_scan_begin(&by_sku, "stock", "stock_vendor_sku_idx", RowExclusiveLock);
	row_scan_begin(&by_product, "stock", NULL, RowExclusiveLock);
	row_scan_begin(&work->confirmed, "hold", "hold_confirmed_idx", AccessShareLock);
	compare_with_stock(work, &by_sku);
	compare_by_product(work, &by_product);
	row_scan_end(&work->confirmed);
	row_scan_end(&by_product);
	row_scan_end(&by_sku);
	PopActiveSnapshot();
	for (int i = 0; i < work->nelsewhere; i++)
	{
		FeedItem *item = work->elsewhere[i].item;

		if (item != NULL)
			item->changes = item->exists && !item->is_bad;
	}
	for (int i = 0; i < part->nitems; i++)
	{
		FeedItem *item = &part->items[i];

		/* no offer begins with a price that nobody can read: it would be sold for nothing */
		if (!item->exists && !item->is_bad && item->price_is_bad && !item->has_price)
		{
			feed_note(part, item, RULE_OFFER_NOT_BEGUN, NULL);
			item->is_bad = true;
		}
		part->nchanged += item->exists && item->changes;
		part->nnew += !item->exists && !item->is_bad;
	}
}

/* ---------- changing rows ---------- */

/* Locks the rows that change; with all other offers of their products if someone wants to know when
 * those get low. */
static StockRows *
lock_changing(const Reconciliation *work)
{
	const FeedPart *part = work->part;
	int             room = Max(part->nchanged + work->nmissing + work->nelsewhere, 1);
	const char **product_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * room);
	const char **vendor_ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * room);
	int          count = 0;

	for (int i = 0; i < part->nitems; i++)
	{
		if (part->items[i].exists && part->items[i].changes)
			product_ids[count++] = part->items[i].product_id;
	}
	for (int i = 0; i < work->nmissing; i++)
		product_ids[count++] = work->missing[i];
	for (int i = 0; i < work->nelsewhere; i++)
		product_ids[count++] = work->elsewhere[i].product_id;
	for (int i = 0; i < count; i++)
		vendor_ids[i] = part->vendor_id;
	return work->wants_all_offers ? stock_lock_offers(product_ids, count, false)
								  : stock_lock_rows(product_ids, vendor_ids, NULL, count, false);
}

/* What the row has for sale from now on. */
static void
set_available(StockRows *stock, StockRow *row, int64 on_hand, bool is_active)
{
	row->free = on_hand - row->reserved - row->buffer;
	row->is_active = is_active && row->vendor_is_active;
	stock_set_offer(stock, row);
}

/* Units of the item's SKU that are held, or were confirmed since then, as other products. */
static int64
held_elsewhere(Reconciliation *work, const StockRows *stock, const FeedItem *item,
			   TimestampTz since)
{
	int64 units = 0;

	for (int i = 0; i < item->nelsewhere; i++)
	{
		const char     *product_id = work->elsewhere[item->first_elsewhere + i].product_id;
		const StockRow *row = stock_find(stock, product_id, work->part->vendor_id);

		if (row != NULL)
			units += row->reserved + confirmed_since(work, product_id, row->last_shipped_at, since);
	}
	return units;
}

/*
 * When the item was counted, by all rows that have its SKU: its own offer's, if that had it before
 * or was only given another name, and other products'. Each may have missed a feed: the earliest
 * says.
 */
static TimestampTz
item_counted_at(const Reconciliation *work, const StockRows *stock, const FeedItem *item)
{
	const FeedPart *part = work->part;
	TimestampTz     counted_at = PG_INT64_MAX;

	if (item->exists && (!item->takes_sku || item->settled_at == DT_NOEND))
	{
		const StockRow *row = stock_find(stock, item->product_id, part->vendor_id);

		if (row != NULL)
			counted_at = feed_counted_at(part, item, row->counted, row->as_of);
	}
	for (int i = 0; i < item->nelsewhere; i++)
	{
		const Elsewhere *other = &work->elsewhere[item->first_elsewhere + i];

		counted_at = Min(counted_at, feed_counted_at(part, item, other->counted, other->as_of));
	}
	return counted_at != PG_INT64_MAX ? counted_at : feed_counted_at(part, item, -1, 0);
}

static void
write_item(Reconciliation *work, RowUpdate *update, StockRows *stock, StockRow *row,
		   const FeedItem *item)
{
	TimestampTz since = item->counted_at;
	int64       on_hand = Max(0, on_hand_after(work, item, since, row->last_shipped_at) -
									 held_elsewhere(work, stock, item, since));
	int         columns[] = {STOCK_COLUMN_VENDOR_SKU, STOCK_COLUMN_PRICE, STOCK_COLUMN_ON_HAND,
							 STOCK_COLUMN_IS_ACTIVE,  STOCK_COLUMN_AS_OF, STOCK_COLUMN_IS_PRICED,
							 STOCK_COLUMN_COUNTED};
	Amount      price = {item->price.amount, item->price.decimals};
	bool        nulls[lengthof(columns)] = {false};
	Datum values[] = {CStringGetTextDatum(item->sku), NumericGetDatum(amount_to_numeric(price)),
					  Int64GetDatum(on_hand),         BoolGetDatum(true),
					  TimestampTzGetDatum(since),     BoolGetDatum(item->is_priced),
					  Int64GetDatum(item->count)};

	row_update(update, row->tuple, lengthof(columns), columns, values, nulls);
	row->is_priced = item->is_priced;
	set_available(stock, row, on_hand, true);
	if (row->reserved > on_hand)
		oversold_note(work->part, row, on_hand);
}

/* It has no count, or that of its SKU, which is another product's; as_of is of the last one. */
static void
write_inactive(RowUpdate *update, StockRows *stock, StockRow *row, int64 counted, TimestampTz as_of)
{
	int   columns[] = {STOCK_COLUMN_IS_ACTIVE, STOCK_COLUMN_COUNTED, STOCK_COLUMN_AS_OF};
	bool  nulls[lengthof(columns)] = {false, counted < 0, as_of == 0};
	Datum values[] = {BoolGetDatum(false), Int64GetDatum(counted), TimestampTzGetDatum(as_of)};

	row_update(update, row->tuple, lengthof(columns), columns, values, nulls);
	set_available(stock, row, row->on_hand, false);
}

/* The offers of other products under the items' SKUs, but those that have got another SKU. */
static void
write_elsewhere(Reconciliation *work, RowUpdate *update, StockRows *stock, bool *written)
{
	for (int i = 0; i < work->nelsewhere; i++)
	{
		const Elsewhere *other = &work->elsewhere[i];
		const FeedItem  *item = other->item;
		StockRow        *row = stock_find(stock, other->product_id, work->part->vendor_id);
		int64            counted = item != NULL ? item->count : -1;
		TimestampTz      as_of = item != NULL ? item->counted_at : other->as_of;

		if (row == NULL || written[row - stock->rows] ||
			(!other->is_active && other->counted == counted && other->as_of == as_of))
			continue;
		write_inactive(update, stock, row, counted, as_of);
		written[row - stock->rows] = true;
		work->part->ninactive += other->is_active;
	}
}

static void
write_changes(Reconciliation *work, StockRows *stock)
{
	FeedPart *part = work->part;
	bool     *written = palloc0(Max(stock->nrows, 1));
	RowUpdate update;

	rows_see_latest(); /* what was confirmed until the rows were locked */
	row_scan_begin(&work->confirmed, "hold", "hold_confirmed_idx", AccessShareLock);
	row_update_begin(&update, "stock");
	for (int i = 0; i < part->nitems; i++)
	{
		FeedItem *item = &part->items[i];
		StockRow *row;

		CHECK_FOR_INTERRUPTS(); /* no feed_yield: the rows are locked */
		if (item->exists && !item->changes && item->nelsewhere == 0)
			continue;
		item->counted_at = item_counted_at(work, stock, item);
		if (!item->exists)
			item->held_elsewhere = held_elsewhere(work, stock, item, item->counted_at);
		if (!item->exists || !item->changes)
			continue;
		row = stock_find(stock, item->product_id, part->vendor_id);
		if (row == NULL)
			elog(ERROR, "stock of product \"%s\" at vendor \"%s\" is gone", item->product_id,
				 part->vendor_id);
		if (item->takes_sku &&
			!sku_change_is_settled(item, row->reserved + row->in_lanes, row->last_shipped_at))
		{
			wait_with_sku(work, item); /* somebody has ordered it meanwhile */
			part->nchanged--;
			continue;
		}
		write_item(work, &update, stock, row, item);
		written[row - stock->rows] = true;
	}
	write_elsewhere(work, &update, stock, written);
	for (int i = 0; i < work->nmissing; i++)
	{
		StockRow *row = stock_find(stock, work->missing[i], part->vendor_id);

		if (row == NULL || written[row - stock->rows])
			continue;
		write_inactive(&update, stock, row, -1, row->as_of);
		part->ninactive++;
	}
	row_update_end(&update);
	row_scan_end(&work->confirmed);
	PopActiveSnapshot();
	if (stock->nrows > 0)
		oversold_note_shortages(part, stock);
}

/* ---------- the whole ---------- */

void
reconcile(FeedPart *part)
{
	Reconciliation work = {.part = part};
	StockRows     *stock;
	int64         *available_before;

	item_find_products(part);
	/* compared without a lock: a row that agrees is left to those who sell it */
	compare(&work);
	stock = lock_changing(&work);
	available_before = work.wants_all_offers ? low_stock_before(stock) : NULL;
	/* which reads again what was confirmed meanwhile */
	write_changes(&work, stock);
	new_offers_add_products(part);
	new_offers_insert(part);
	if (work.wants_all_offers)
		low_stock_add_events(part->events, stock, available_before);
	oversold_add_event(part);
}
