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
 * sku_change_settled_at: the offer in the slot is under another SKU so far than its item. If that
 * is another product's now, what was confirmed as this one until then is in the vendor's count of
 * it; DT_NOEND if it is nobody's that is known of: it was given another name.
 */
extern TimestampTz sku_change_settled_at(SkuChanges *changes, const FeedItem *item,
										 TupleTableSlot *slot);

/* sku_change_is_settled: may the item's offer take its SKU, with so many units reserved and the
 * last ones confirmed at that time? */
extern bool sku_change_is_settled(const FeedItem *item, int64 reserved,
								  TimestampTz last_shipped_at);

#endif /* OA_SKU_CHANGE_H */
