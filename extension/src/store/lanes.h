/*
 * lanes.h
 *		The lanes of an offer: counters of which each order needs only one.
 *
 * A row is locked until its transaction's commit is on disk, so one stock row gives one
 * order at a time. An offer may be spread over lanes (configure_product): rows of stock_lane
 * to which units are moved from the stock row, free ones to be sold there, reserved ones
 * until they are settled. The stock row's in_lanes is what its lanes have, and only who has
 * locked the stock row changes it:
 *
 *		lanes_take       an order, without the stock row: free -> reserved, in one lane
 *		lanes_refill     free units of the row go to the lanes
 *		lanes_fold       all that the lanes have comes back: before a feed, a new buffer,
 *		                 whatever has to know the offer's own counters, and before anyone
 *		                 is told that there is too little
 *		lanes_gather     reserved units come back, as many as are to be settled
 *
 * Locks: a lane is locked by an order that has seen its very version, or after the stock row.
 */
#ifndef OA_LANES_H
#define OA_LANES_H

#include "postgres.h"

#include "store/rows.h"
#include "store/stock.h"

/* As many lanes as configure_product() gives, and what 'auto' may widen to. */
#define LANES_MAX      64
#define LANES_MAX_AUTO 64

typedef enum LaneOutcome
{
	LANE_TAKEN,
	LANES_BUSY, /* of those that have enough others have locked each */
	LANES_EMPTY /* none has enough */
} LaneOutcome;

/*
 * lanes_take locks a lane with so many free units, as the active snapshot sees it, and makes the
 * row that lane: stock_reserve() and stock_write_changes() then work on it. With wait it waits for
 * whoever has a lane that has enough; look again, with a new snapshot, if it is LANES_BUSY then.
 */
extern LaneOutcome lanes_take(StockRow *row, int64 quantity, bool wait);

/*
 * These are for a locked stock row, and leave it written anew. lanes_fold and lanes_gather are
 * false if they would have to wait and skip_locked; lanes_fold has moved nothing then.
 * lanes_refill gives each of the row's lanes that nobody holds up to so many free units, making
 * those that are not there yet; row->lanes may have been raised before.
 */
extern bool lanes_fold(StockRow *row, bool skip_locked);
extern bool lanes_gather(StockRow *row, int64 units, bool skip_locked);
extern void lanes_refill(StockRow *row, int64 each);

/* lanes_have_free: have the lanes of a locked stock row units that may be sold, or that others have
 * taken, who may not commit? */
extern bool lanes_have_free(const StockRow *row);

/* lanes_write adds to the units that a lane's row has reserved. */
extern void lanes_write(RowUpdate *update, const StockRow *row);

#endif /* OA_LANES_H */
