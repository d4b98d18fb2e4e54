/*
 * new_offers.h
 *		What a feed brings that was not there: products, and a vendor's offers of them.
 */
#ifndef OA_NEW_OFFERS_H
#define OA_NEW_OFFERS_H

#include "feed/feed.h"

/* feed_yield is called for each row that a feed reads or writes: it lets others go first now and
 * then. */
extern void feed_yield(int row);

/* new_offers_items returns the good items whose product the vendor does not offer, in the order
 * of the products' ids, palloc'd with room for all items of the part. */
extern FeedItem **new_offers_items(const FeedPart *part, int *count);

/* new_offers_add_products adds the products that are new, and names those that had no name. Needs
 * SPI. */
extern void new_offers_add_products(const FeedPart *part);

/* new_offers_insert writes the stock rows of new offers; their products are there. Needs SPI. */
extern void new_offers_insert(FeedPart *part);

#endif /* OA_NEW_OFFERS_H */
