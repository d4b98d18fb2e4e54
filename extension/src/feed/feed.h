/*
 * feed.h
 *		A vendor's stock feed on its way into the stock: items, then rows.
 *
 *		feed_items.c	JSON or arrays to checked items, by number.c and rules.h
 *		feed_begin.c	whether a feed may begin: its time, what is readable, what it lacks
 *		reconcile.c		items against the stock rows
 *		feed_sync.c		the SQL functions, the history of feeds
 */
#ifndef OA_FEED_H
#define OA_FEED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "feed/rules.h"
#include "lib/stringinfo.h"
#include "outbox/outbox.h"
#include "store/compat.h"
#include "store/money.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* What a vendor's feed_mapping says of values, whichever way its feed comes in. */
typedef enum RepeatRule
{
	REPEAT_FIRST, /* of several rows of one SKU the first readable one counts */
	REPEAT_LAST,
	REPEAT_SUM /* their quantities are added up, at the highest of their prices */
} RepeatRule;

typedef struct ValueRules
{
	char       decimal; /* the mark of texts, '.' or ','; 0: nobody has said */
	RepeatRule repeated;
} ValueRules;

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
	bool        exists;     /* the vendor offers the product already, or has */
	bool        takes_sku;  /* of one that exists: under another SKU so far */
	TimestampTz settled_at; /* of that: sku_change.h */
	bool        is_priced;  /* of one that exists: its price has been told, now or before */
	bool        changes;
	int         first_elsewhere; /* reconcile.c: other products' offers under its SKU */
	int         nelsewhere;
	int64       held_elsewhere; /* of one that is new: of its SKU, by orders of other products */
	TimestampTz counted_at;     /* of one that is new or changes */
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
	TimestampTz previous_pull_at; /* its time stands still: what is new in it was counted after
									 that; 0: all of it was counted at as_of */
	ValueRules  values;
	const char *after; /* NULL: from the first */
	const char *upto;  /* NULL: to the last */
	FeedItem   *items; /* by sku, byte for byte, each once */
	int         nitems;

	int            total;             /* items given, skipped ones too */
	int            nunreadable;       /* of them: those that say nothing of what there is */
	int            rules[RULE_COUNT]; /* how often each was used */
	const char   **skus; /* each SKU once, those of bad items too; NULL: nobody asks for them */
	int            nskus;
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

/*
 * feed_counted_at returns when an item was counted. Of a feed whose time stands still a count that
 * is the same as the last one is as old as that; another one was made after the pull before. If the
 * feed before had none (-1), or none that could be read, it may have been made at any time since
 * last_as_of, when the one before was; 0: there was none.
 */
extern TimestampTz feed_counted_at(const FeedPart *part, const FeedItem *item, int64 last_count,
								   TimestampTz last_as_of);

extern FeedPart *feed_part_create(const char *vendor_id, TimestampTz as_of, ValueRules values);

/* value_rules reads members of a mapping, which may be NULL. */
extern ValueRules value_rules(const char *decimal, const char *repeated);

/*
 * feed_note counts that a rule was used for an item, and tells of it in the history if the rule has
 * words; detail, which may be NULL, goes before them.
 */
extern void feed_note(FeedPart *part, const FeedItem *item, FeedRule rule, const char *detail);

/* feed_main_complaint returns the rule by which most of the unreadable items are; NULL: there are
 * none. */
extern const char *feed_main_complaint(const FeedPart *part);

/* feed_rules_json returns {"<rule>": <times>, ...} of the rules that were used; NULL: none was. */
extern char *feed_rules_json(const FeedPart *part);

/* feed_items_from_jsonb fills in the items, and SKUs, of an array in one of the two shapes that
 * DESIGN fixes. */
extern void feed_items_from_jsonb(FeedPart *part, Jsonb *json);

/*
 * feed_items_from_arrays fills in the items of parallel arrays: index, and as
 * text sku, name, quantity and price, numbers as JSON has them, and what whoever took
 * the feed apart complains of: the name of a rule, or words. A price may be the name of a rule,
 * too. Any but the index may be null.
 * ERROR 22023 if they are not parallel.
 */
extern void feed_items_from_arrays(FeedPart *part, ArrayType *indexes, ArrayType *skus,
								   ArrayType *names, ArrayType *quantities, ArrayType *prices,
								   ArrayType *complaints);

/* What is known of a feed before anything of it is applied. */
typedef struct FeedFacts
{
	const char  *vendor_id;
	TimestampTz  as_of;
	const char  *as_of_rule; /* who says so: asOf, Last-Modified, Date, request, caller */
	const char  *told;       /* the time as the vendor wrote it; NULL: it did not */
	TimestampTz  pulled_at;  /* when it was asked for; 0: it was not */
	int64        config_no;  /* of the vendor as it was pulled; -1: unknown */
	int          items;      /* -1: unknown, and nothing of it can be judged */
	int          nunreadable;
	const char  *complaint; /* the rule of most of these; NULL: unknown */
	int          noffers;   /* different SKUs */
	const char **skus;      /* of them all, or a sample */
	int          nskus;
	int64        nknown; /* feed_begin.c's own: of the vendor's offers, in the feed */
} FeedFacts;

/* What the vendor's row says of its feeds. */
typedef struct VendorFeeds
{
	TimestampTz pulled_at;      /* when what was applied last was asked for; 0: never */
	TimestampTz newest_pull_at; /* when the newest was, of those that were or are being applied */
	TimestampTz told_at;        /* the time that the last feed told; 0: none did */
	const char *told;
	const char *applied_told; /* of the last one that was applied to its end */
	bool        is_held;      /* the last feed was */
	int64       held_offers;  /* how many of the vendor's offers it had */
	int64       config_no;
	bool        drop_accepted;
	int64       drop_limit; /* percent */
	int64       last_items; /* -1: unknown */
	int64       stale_feeds;
	ValueRules  values;
} VendorFeeds;

/* Columns of a row of the history, as PLAN_BEGIN_FEED and PLAN_FINISH_FEED return it. */
enum
{
	FEED_SYNC_ID = 1,
	FEED_VENDOR_ID,
	FEED_AS_OF,
	FEED_STATUS,
	FEED_ERROR,
	FEED_ITEMS,
	FEED_NEW,
	FEED_CHANGED,
	FEED_INACTIVE,
	FEED_SKIPPED,
	FEED_SKIPPED_LIST,
	FEED_OVERSOLD_LIST,
	FEED_AS_OF_RULE,
	FEED_RULES_USED
};

typedef struct FeedBeginning
{
	int64       sync_id;
	TimestampTz as_of;
	TimestampTz previous_pull_at; /* FeedPart's */
	bool        is_running;       /* else the history says why not: stale, failed, held */
} FeedBeginning;

/* feed_unknown_vendor raises OA005. */
pg_noreturn extern void feed_unknown_vendor(const char *vendor_id);

/* feed_lock_vendor locks the vendor's row. ERROR OA005 if there is none. Needs SPI. */
extern VendorFeeds feed_lock_vendor(const char *vendor_id);

/*
 * feed_begin judges a feed of the vendor that is locked: begins it, and supersedes one that is
 * running, or writes down why not. In SPI's result is then its row of the history. Needs SPI.
 */
extern FeedBeginning feed_begin(const VendorFeeds *vendor, const FeedFacts *facts);

/*
 * reconcile makes the vendor's stock rows agree with the part: locks and writes
 * only those that change, by product_id, and leaves its events in part->events.
 * Needs SPI. Blocks on rows that another transaction has locked.
 */
extern void reconcile(FeedPart *part);

#endif /* OA_FEED_H */
