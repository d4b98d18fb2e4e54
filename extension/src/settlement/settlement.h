/*
 * settlement.h
 *		What becomes of locked orders: decided in memory, written once.
 */
#ifndef OA_SETTLEMENT_H
#define OA_SETTLEMENT_H

#include "settlement/held_orders.h"

/*
 * settlement_write carries out what the caller has decided. The holds'
 * new_status: HOLD_CONFIRMED ships the units, HOLD_REJECTED has them sourced anew
 * from other vendors. The orders' new_status: their holds are settled as it asks.
 * Orders that have all they wanted become confirmed, those that can no longer be
 * served rejected. Writes their events. Orders that are set aside stay as they
 * were, and have is_busy. Needs SPI.
 */
extern void settlement_write(Settlement *settlement);

/*
 * settlement_touch_orders writes the order rows as they are, so that a
 * transaction with an older snapshot fails instead of missing what was written
 * about these orders elsewhere.
 */
extern void settlement_touch_orders(Settlement *settlement);

#endif /* OA_SETTLEMENT_H */
