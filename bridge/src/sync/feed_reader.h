/*
 * feed_reader.h
 *		A vendor's feed, taken apart as it arrives: JSON or CSV to items.
 *
 * Nothing is kept but the items' own texts. An item that says nothing of what there is carries
 * a complaint: the name of a rule (extension/src/feed/rules.h). Numbers have been read by the
 * vendor's mapping, and are as JSON has them.
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
	const char *price;     /* or the name of a rule: why it cannot be read */
	const char *complaint; /* NULL: none so far */
} FeedItem;

typedef struct Feed Feed;

/* Items without a SKU, and of one SKU, that a feed may have: more of them is no stock feed. */
#define FEED_REPEATS_MAX 1000

/*
 * feed_create begins a feed of at most items_max items. mapping is the vendor's feed_mapping as
 * JSON text, or NULL: then an array of {"id", "name", "quantity", "price"} or {"productId",
 * "stock"}, or CSV with such columns where is_csv. charset is what the text is said to be
 * encoded in, or NULL; the mapping's goes before it. NULL if memory is short or the mapping is
 * none.
 */
extern Feed *feed_create(const char *mapping, bool is_csv, const char *charset, int items_max);
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

/* feed_items_bytes: what the list of the items takes, beside their texts, which are part of the
 * feed's. */
extern size_t feed_items_bytes(const Feed *feed);

/* feed_count_offers: how many different SKUs they have; *unreadable: how many items have a
 * complaint.
 */
extern size_t feed_count_offers(const Feed *feed, size_t *unreadable);

/* feed_main_complaint returns the complaint that most of these items have; NULL if none has any. */
extern const char *feed_main_complaint(const Feed *feed);

/* feed_sample fills in at most so many different SKUs, evenly spaced, and returns how many. */
extern size_t feed_sample(const Feed *feed, const char **skus, size_t max);

/*
 * feed_told returns when the vendor says it counted, as it wrote it; NULL if it does not say.
 * feed_as_of returns it in microseconds since 1970; where it named no zone, *zone is the
 * mapping's, and it is what it would be in UTC.
 */
extern const char *feed_told(const Feed *feed);
extern long long   feed_as_of(const Feed *feed, const char **zone);

/* feed_is_csv: a CSV that was cut at the end of a line looks whole. */
extern bool feed_is_csv(const Feed *feed);

#endif /* BRIDGE_FEED_H */
