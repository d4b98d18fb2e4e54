/*
 * feed_reader.h
 *		A vendor's feed, taken apart as it arrives: JSON or CSV to items.
 *
 * Nothing is kept but the items' own texts. Values are checked by the database;
 * here only what they are: an item that is no object, or whose id is no string,
 * carries a complaint.
 */
#ifndef BRIDGE_FEED_H
#define BRIDGE_FEED_H

#include <stdbool.h>
#include <stddef.h>

/* One item; any of the texts may be NULL: not given. */
typedef struct FeedItem
{
	int         index; /* its place in the feed, from 0 */
	const char *sku;
	const char *name;
	const char *quantity;
	const char *price;
	const char *complaint; /* NULL: none so far */
} FeedItem;

typedef struct Feed Feed;

/* Items without a SKU, and of one SKU, that a feed may have: more of them is no stock feed. */
#define FEED_REPEATS_MAX 1000

/*
 * feed_create begins a feed of at most items_max items. mapping is the vendor's feed_mapping as
 * JSON text, or NULL: then an array of {"id", "name", "quantity", "price"} or {"productId",
 * "stock"}, or CSV with such columns where is_csv. NULL if memory is short or
 * the mapping is none.
 */
extern Feed *feed_create(const char *mapping, bool is_csv, int items_max);
extern void  feed_free(Feed *feed);

/* feed_add takes the next piece of the text, feed_finish its end. False if it is no feed:
 * feed_error says why. */
extern bool feed_add(Feed *feed, const char *data, size_t bytes)
	__attribute__((warn_unused_result));
extern bool        feed_finish(Feed *feed) __attribute__((warn_unused_result));
extern const char *feed_error(const Feed *feed);

/*
 * feed_items returns all items by SKU, byte for byte, then by index; those
 * without a SKU are the last. They live as long as the feed.
 */
extern const FeedItem *feed_items(const Feed *feed, size_t *count);

/* When the vendor says it counted, as it wrote it; NULL if it does not say. */
extern const char *feed_as_of(const Feed *feed);

#endif /* BRIDGE_FEED_H */
