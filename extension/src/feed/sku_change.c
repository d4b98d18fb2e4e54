/*
 * sku_change.c
 *		Offers that get another SKU of their vendor's: whether they may yet.
 *
 * Two products whose SKUs are swapped would each sell what orders hold of the other: what is held
 * is found by the offer's SKU (reconcile.c). So an offer whose former SKU is another product's
 * keeps it, and is not sold, until nothing is held of it and the vendor has counted what was
 * confirmed.
 *
 * One whose former SKU is nobody's was given another name, and goes on. So it is if that has no
 * entry in the map and this part of the feed lacks it, or has it unreadable.
 */
#include "postgres.h"

#include "feed/sku_change.h"

#include "feed/item_product.h"
#include "store/tables.h"
#include "utils/builtins.h"

void
sku_changes_begin(SkuChanges *changes, const FeedPart *part)
{
	changes->part = part;
	row_scan_begin(&changes->map, "product_map", NULL, AccessShareLock);
	row_scan_begin(&changes->offers, "stock", NULL, AccessShareLock);
}

void
sku_changes_end(SkuChanges *changes)
{
	row_scan_end(&changes->offers);
	row_scan_end(&changes->map);
}

static int
compare_skus(const void *sku, const void *item)
{
	return strcmp(sku, ((const FeedItem *) item)->sku);
}

/* The product that has the SKU now; NULL: none that is known of. */
static const char *
product_of_sku(SkuChanges *changes, const FeedItem *sku_item, const char *sku)
{
	row_scan_find_texts(&changes->map, changes->part->vendor_id, sku);
	if (row_scan_next(&changes->map) != NULL)
		return row_text(changes->map.found, PRODUCT_MAP_COLUMN_PRODUCT_ID);
	return sku_item != NULL ? sku_item->product_id : NULL;
}

TimestampTz
sku_change_settled_at(SkuChanges *changes, const FeedItem *item, TupleTableSlot *slot)
{
	const FeedPart *part = changes->part;
	const char     *sku = row_text(slot, STOCK_COLUMN_VENDOR_SKU);
	const FeedItem *sku_item =
		bsearch(sku, part->items, part->nitems, sizeof(FeedItem), compare_skus);
	const char     *product_id = product_of_sku(changes, sku_item, sku);
	TupleTableSlot *heir;

	if (product_id == NULL || strcmp(product_id, item->product_id) == 0)
		return DT_NOEND;
	if (part->previous_pull_at == 0 && sku_item != NULL)
		return part->as_of;
	row_scan_find_texts(&changes->offers, product_id, part->vendor_id);
	heir = row_scan_next(&changes->offers);
	if (heir == NULL || strcmp(row_text(heir, STOCK_COLUMN_VENDOR_SKU), sku) != 0)
		heir = slot; /* it has not taken it yet */
	return row_int64(heir, STOCK_COLUMN_AS_OF, 0);
}

bool
sku_change_is_settled(const FeedItem *item, int64 reserved, TimestampTz last_shipped_at)
{
	return item->settled_at == DT_NOEND || (reserved == 0 && last_shipped_at <= item->settled_at);
}
