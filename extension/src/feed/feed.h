/*
 * feed.h
 *		A vendor's stock feed on its way into the stock: items, then rows.
 *
 *		feed_items.c	JSON or arrays to checked items
 *		reconcile.c		items against the stock rows
 *		feed.c			the SQL functions, the history of feeds
 */
#ifndef OA_FEED_H
#define OA_FEED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "outbox/outbox.h"
#include "store/money.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* One item of a feed: so many units of what the vendor calls sku. */
typedef struct FeedItem
{
	int         index; /* its place in the feed, from 0 */
	const char *sku;
	const char *name; /* NULL: not given */
	int64       count;
	Price       price;
	bool        has_price;
	bool        price_is_bad; /* it was given, and cannot be read */
	bool        is_bad;       /* it says nothing of what there is */

	/* reconcile.c's own */
	const char *product_id; /* the shop's */
	bool        exists;     /* the vendor offers the product already */
	bool        changes;
} FeedItem;

/*
 * All items of a feed with after < sku <= upto, and what became of them. A part
 * is applied in one transaction; what the vendor offers under a SKU of that
 * range and the part lacks is not offered any more.
 */
typedef struct FeedPart
{
	const char *vendor_id;
	TimestampTz as_of;
	const char *after; /* NULL: from the first */
	const char *upto;  /* NULL: to the last */
	FeedItem   *items; /* by sku, byte for byte, each once */
	int         nitems;

	int            total; /* items given, skipped ones too */
	int            nskipped;
	StringInfoData skipped; /* elements of a JSON array, of no more than FEED_NOTES_MAX */
	int            nnew;
	int            nchanged;
	int            ninactive;
	StringInfoData oversold;       /* elements of a JSON array, for the history */
	StringInfoData oversold_event; /* those not told of by an event yet */
	int            noversold;
	EventBatch    *events;
} FeedPart;

#define FEED_NOTES_MAX      100 /* skipped items of a part told of one by one */
#define FEED_NAME_CHARS_MAX 500

extern FeedPart *feed_part_create(const char *vendor_id, TimestampTz as_of);

/* feed_skip reports an item that is left out. */
extern void feed_skip(FeedPart *part, int index, const char *complaint);

/* feed_items_from_jsonb fills in the items of an array in one of the two shapes that DESIGN fixes.
 */
extern void feed_items_from_jsonb(FeedPart *part, Jsonb *json);

/*
 * feed_items_from_arrays fills in the items of parallel arrays: index, and as
 * text sku, name, quantity and price as the vendor wrote them, and a complaint
 * of whoever took the feed apart. Any but the index may be null. ERROR 22023
 * if they are not parallel.
 */
extern void feed_items_from_arrays(FeedPart *part, ArrayType *indexes, ArrayType *skus,
								   ArrayType *names, ArrayType *quantities, ArrayType *prices,
								   ArrayType *complaints);

/*
 * reconcile makes the vendor's stock rows agree with the part: locks and writes
 * only those that change, by product_id, and leaves its events in part->events.
 * Needs SPI. Blocks on rows that another transaction has locked.
 */
extern void reconcile(FeedPart *part);

#endif /* OA_FEED_H */
