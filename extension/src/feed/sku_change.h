/*
 * sku_change.h
 *		Offers that get another SKU of their vendor's.
 */
#ifndef OA_SKU_CHANGE_H
#define OA_SKU_CHANGE_H

#include "feed/feed.h"
#include "store/rows.h"

/* What is looked up for it: the vendor's map by SKU, and its offers by product. */
typedef struct SkuChanges
{
	const FeedPart *part;
	RowScan         map;
	RowScan         offers;
} SkuChanges;

extern void sku_changes_begin(SkuChanges *changes, const FeedPart *part);
extern void sku_changes_end(SkuChanges *changes);

/*
 * sku_change_must_wait: the offer in the slot is under another SKU so far than its item. Is that
 * another product now, of whose units some are held as this one, or were confirmed since they were
 * counted? Only while the row is found by that SKU are they subtracted from it (reconcile.c).
 */
extern bool sku_change_must_wait(SkuChanges *changes, const FeedItem *item, TupleTableSlot *slot);

#endif /* OA_SKU_CHANGE_H */
