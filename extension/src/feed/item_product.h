/*
 * item_product.h
 *		Which product of the shop's an item of a feed is.
 */
#ifndef OA_ITEM_PRODUCT_H
#define OA_ITEM_PRODUCT_H

#include "feed/feed.h"
#include "store/rows.h"

/* item_find_range begins to scan an index that begins with vendor and SKU, over the part's range.
 */
extern void item_find_range(RowScan *scan, const FeedPart *part);

/* item_of_sku moves *next to the first item that is not before the SKU, and returns it if it is
 * that SKU's, else NULL: for SKUs in their order. */
extern FeedItem *item_of_sku(const FeedPart *part, int *next, const char *sku);

/* item_find_products sets the product of each item. One that is bad may have none. */
extern void item_find_products(FeedPart *part);

#endif /* OA_ITEM_PRODUCT_H */
