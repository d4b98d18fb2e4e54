/*
 * oversold.h
 *		Offers of which more is held than the vendor says it has.
 */
#ifndef OA_OVERSOLD_H
#define OA_OVERSOLD_H

#include "feed/feed.h"
#include "store/stock.h"

/* oversold_note adds an offer to the part's history, and to what oversold_add_event tells. */
extern void oversold_note(FeedPart *part, const StockRow *row, int64 on_hand);

/* oversold_add_event adds stock.oversold.<vendor_id> to the part's events if anything was noted. */
extern void oversold_add_event(FeedPart *part);

/* oversold_note_shortages leaves word for settle_shortages(), or takes it back. Needs SPI. */
extern void oversold_note_shortages(const FeedPart *part, const StockRows *stock);

#endif /* OA_OVERSOLD_H */
