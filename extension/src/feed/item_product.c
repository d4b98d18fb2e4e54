/*
 * item_product.c
 *		Which product of the shop's an item of a feed is: by the vendor's map, or as its SKU says.
 */
#include "postgres.h"

#include "feed/item_product.h"

#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/* ---------- ranges of an index that begins with vendor and SKU ---------- */

void
item_find_range(RowScan *scan, const FeedPart *part)
{
	ScanKeyData keys[3];
	int         nkeys = 0;

	ScanKeyInit(&keys[nkeys++], 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(part->vendor_id));
	if (part->after != NULL)
		ScanKeyInit(&keys[nkeys++], 2, BTGreaterStrategyNumber, F_TEXT_GT,
					CStringGetTextDatum(part->after));
	if (part->upto != NULL)
		ScanKeyInit(&keys[nkeys++], 2, BTLessEqualStrategyNumber, F_TEXT_LE,
					CStringGetTextDatum(part->upto));
	row_scan_find(scan, keys, nkeys);
}

FeedItem *
item_of_sku(const FeedPart *part, int *next, const char *sku)
{
	int order = 1;

	while (*next < part->nitems && (order = strcmp(part->items[*next].sku, sku)) < 0)
		(*next)++;
	return *next < part->nitems && order == 0 ? &part->items[*next] : NULL;
}

/* ---------- which product an item is ---------- */

static bool
has_mapping(RowScan *map, const char *vendor_id)
{
	row_scan_find_text(map, vendor_id);
	return row_scan_next(map) != NULL;
}

static void
map_skus(FeedPart *part, RowScan *map)
{
	TupleTableSlot *slot;
	int             next = 0;

	item_find_range(map, part);
	while ((slot = row_scan_next(map)) != NULL)
	{
		char     *sku = row_text(slot, PRODUCT_MAP_COLUMN_VENDOR_SKU);
		FeedItem *item = item_of_sku(part, &next, sku);

		if (item != NULL)
			item->product_id = row_text(slot, PRODUCT_MAP_COLUMN_PRODUCT_ID);
		pfree(sku);
	}
}

/* An item without a mapping takes its SKU as product, unless another SKU is mapped to that. */
static void
claim_by_sku(FeedPart *part, FeedItem *item, RowScan *claims)
{
	if (claims != NULL)
	{
		row_scan_find_texts(claims, part->vendor_id, item->sku);
		if (row_scan_next(claims) != NULL)
		{
			if (!item->is_bad)
				feed_note(part, item, RULE_PRODUCT_MAPPED,
						  psprintf("product \"%s\" is mapped from \"%s\"", item->sku,
								   row_text(claims->found, PRODUCT_MAP_COLUMN_VENDOR_SKU)));
			item->is_bad = true;
			return;
		}
	}
	item->product_id = item->sku;
}

void
item_find_products(FeedPart *part)
{
	RowScan map;
	RowScan claims;
	bool    mapped;

	rows_see_latest();
	row_scan_begin(&map, "product_map", NULL, AccessShareLock);
	mapped = has_mapping(&map, part->vendor_id);
	if (mapped)
	{
		row_scan_begin(&claims, "product_map", "product_map_product_key", AccessShareLock);
		map_skus(part, &map);
	}
	for (int i = 0; i < part->nitems; i++)
	{
		if (part->items[i].product_id == NULL)
			claim_by_sku(part, &part->items[i], mapped ? &claims : NULL);
	}
	if (mapped)
		row_scan_end(&claims);
	row_scan_end(&map);
	PopActiveSnapshot();
}
