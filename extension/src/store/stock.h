/*
 * stock.h
 *		Stock rows: locked in their order, changed once each.
 *
 * An offer that is spread over lanes (lanes.h) has only a part of its units in its stock row, and
 * "free" and "reserved" are that part's, unless everything was asked for when it was locked.
 */
#ifndef OA_STOCK_H
#define OA_STOCK_H

#include "postgres.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "store/money.h"
#include "store/offers.h"

#define LOW_THRESHOLD_NONE (-1)

/* One locked stock row, or one that was changed already, and how the transaction will change it. */
typedef struct StockRow
{
	HeapTuple   tuple; /* as it was locked; NULL if only a lane of it is */
	HeapTuple   lane;  /* that lane */
	const char *product_id;
	const char *vendor_id;
	const char *vendor_sku;
	Numeric     unit_price;
	Price       price;
	int64       on_hand;
	int64       reserved;
	int64       buffer;   /* the offer's or its vendor's, whichever is larger */
	int64       in_lanes; /* units that its lanes have */
	int64 free; /* on_hand - reserved - in_lanes - buffer, with the changes so far; negative if
				   oversold; if only a lane is locked, what that has */
	int64       lanes; /* how many it has now, and may have; 0: none */
	int64       lanes_max;
	int64       lanes_before; /* how many it had when it was found, before it was waited for */
	int64       counted;      /* what the vendor told last; -1: unknown */
	TimestampTz as_of;        /* when that was */
	int64 low_threshold; /* the product's, else the setting's; LOW_THRESHOLD_NONE: nobody asks */
	TimestampTz last_shipped_at;  /* 0: never */
	bool        vendor_is_active; /* and a feed has confirmed its offers of late */
	bool        is_active;        /* the offer and its vendor */
	bool        is_priced;        /* somebody has told its price */
	int64       on_hand_change;
	int64       reserved_change;
	int64       reserved_ahead; /* of that, in the row already: stock_take */
	bool        ships;
} StockRow;

typedef struct StockKey
{
	const char *product_id;
	const char *vendor_id;
} StockKey;

/*
 * Locked rows ordered by (product_id, vendor_id); offers[i] is what sourcing
 * sees of rows[i], its vendor being the vendor's number. Then the rows that were
 * not waited for, in the same order.
 */
typedef struct StockRows
{
	StockRow      *rows;
	SourcingOffer *offers;
	int            nrows;
	StockKey      *busy;
	int            nbusy;
} StockRows;

/* How much of a product is to be placed. */
typedef struct StockDemand
{
	const char      *product_id;
	int64            quantity; /* of all orders together */
	bool             is_one;   /* line of one order, which may be served apart from its others */
	SourcingStrategy strategy; /* of that order */
	bool             compares; /* how much which vendor has decides who is asked */
	int              product;  /* whatever the caller calls it */
	int              first;    /* set by stock_lock_demand: where its rows are */
	int              count;
} StockDemand;

/*
 * stock_lock_offers locks all rows of the products, with everything that their lanes have;
 * stock_lock_demand locks what the orders need: a row's lanes are left alone as long as there is
 * certainly enough without them, and for one order one lane may do in place of the row, or one
 * row, changed already (stock_take), with the product's others only read. It is free to change the
 * order of what it is given. Both take a product twice as once.
 *
 * stock_lock_rows locks the rows of the (product, vendor) pairs. "settled" is how many reserved
 * units of each are to be settled at most: those are brought in from the lanes; NULL: everything
 * is. A pair whose vendor is NULL is all rows of the product, with everything that their lanes
 * have.
 *
 * All block on rows that another transaction has locked, unless skip_locked, and must be
 * the only lock on stock that a transaction takes in one go. Unknown ones are left out.
 */
extern StockRows *stock_lock_offers(const char **product_ids, int count, bool skip_locked);
extern StockRows *stock_lock_demand(StockDemand *demands, int count, bool skip_locked);
extern StockRows *stock_lock_rows(const char **product_ids, const char **vendor_ids,
								  const int64 *settled, int count, bool skip_locked);

/* stock_compare_keys is for qsort() and bsearch(): by product, then by vendor, which NULL is any
 * of. */
extern int stock_compare_keys(const void *a, const void *b);

/* stock_is_busy: has another transaction locked the row of the product at that vendor (NULL: at
 * any)? */
extern bool stock_is_busy(const StockRows *stock, const char *product_id, const char *vendor_id);

/* stock_find_offers sets *first and *count to the rows of a product. */
extern void stock_find_offers(const StockRows *stock, const char *product_id, int *first,
							  int *count);

/* stock_available adds up what can be taken of those rows. */
extern int64 stock_available(const StockRows *stock, int first, int count);

/* stock_is_sold: may its units be sold at all? */
extern bool stock_is_sold(const StockRow *row);

/* stock_set_offer makes what sourcing sees of a row agree with it. */
extern void stock_set_offer(StockRows *stock, const StockRow *row);

/* stock_find returns the row of a product at a vendor; NULL if it is not among those locked. */
extern StockRow *stock_find(const StockRows *stock, const char *product_id, const char *vendor_id);

/*
 * stock_reserve takes units of an offer for a hold; stock_release gives them
 * back; stock_ship makes a hold's units leave the shelf; stock_return puts such
 * units back. Nothing is written before stock_write_changes.
 */
extern void stock_reserve(StockRows *stock, int row, int64 quantity);
extern void stock_release(StockRows *stock, StockRow *row, int64 quantity);
extern void stock_ship(StockRow *row, int64 quantity);
extern void stock_return(StockRows *stock, StockRow *row, int64 quantity);

/*
 * stock_take reserves units in a row that was found, not locked, at once: false, and nothing is
 * done, if another transaction has it or has changed it since. stock_reserve() then has them
 * already, and what is not reserved by it stock_write_changes() gives back.
 */
extern bool stock_take(StockRow *row, int64 quantity);

/*
 * stock_write_changes updates every changed row once; in place of triggers and
 * CHECKs making sure that no counter gets negative. shipped_at is when units
 * that ship do: the settled_at of their holds.
 */
extern void stock_write_changes(StockRows *stock, TimestampTz shipped_at);

#endif /* OA_STOCK_H */
