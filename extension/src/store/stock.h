/*
 * stock.h
 *		Stock rows: locked in their order, changed once each.
 */
#ifndef OA_STOCK_H
#define OA_STOCK_H

#include "postgres.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "store/money.h"
#include "store/offers.h"

#define LOW_THRESHOLD_NONE (-1)

/* One locked stock row, and how the transaction will change it. */
typedef struct StockRow
{
	HeapTuple   tuple; /* as it was locked */
	const char *product_id;
	const char *vendor_id;
	const char *vendor_sku;
	Numeric     unit_price;
	Price       price;
	int64       on_hand;
	int64       reserved;
	int64       buffer; /* the offer's or its vendor's, whichever is larger */
	int64 free;    /* on_hand - reserved - buffer, with the changes so far; negative if oversold */
	int64 counted; /* what the vendor told last; -1: unknown */
	TimestampTz as_of;   /* when that was */
	int64 low_threshold; /* the product's, else the setting's; LOW_THRESHOLD_NONE: nobody asks */
	TimestampTz last_shipped_at;  /* 0: never */
	bool        vendor_is_active; /* and a feed has confirmed its offers of late */
	bool        is_active;        /* the offer and its vendor */
	bool        is_priced;        /* somebody has told its price */
	int64       on_hand_change;
	int64       reserved_change;
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

/*
 * stock_lock_offers locks all rows of the products; stock_lock_rows locks
 * those of the (product, vendor) pairs. Either may be given repeatedly. Both block
 * on rows that another transaction has locked, unless skip_locked, and must be
 * the only lock on stock that a transaction takes in one go. Unknown ones are left out.
 */
extern StockRows *stock_lock_offers(const char **product_ids, int count, bool skip_locked);
extern StockRows *stock_lock_rows(const char **product_ids, const char **vendor_ids, int count,
								  bool skip_locked);

/* stock_is_busy: has another transaction locked the row of the product at that vendor (NULL: at
 * any)? */
extern bool stock_is_busy(const StockRows *stock, const char *product_id, const char *vendor_id);

/* stock_find_offers sets *first and *count to the rows of a product. */
extern void stock_find_offers(const StockRows *stock, const char *product_id, int *first,
							  int *count);

/* stock_available adds up what can be taken of those rows. */
extern int64 stock_available(const StockRows *stock, int first, int count);

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
 * stock_write_changes updates every changed row once; in place of triggers and
 * CHECKs making sure that no counter gets negative. shipped_at is when units
 * that ship do: the settled_at of their holds.
 */
extern void stock_write_changes(StockRows *stock, TimestampTz shipped_at);

#endif /* OA_STOCK_H */
