/*
 * order_ids.h
 *		Where the ids of orders and their attempts come from, and that none is given twice.
 */
#ifndef OA_ORDER_IDS_H
#define OA_ORDER_IDS_H

#include "postgres.h"

/*
 * order_id_sequence returns the sequence of order ids. After a fail-over, or in a restored copy,
 * the ids of orders that are gone here have been given already, and vendors may still answer for
 * them: there it has jumped past all of those. SPI must be connected.
 */
extern Oid order_id_sequence(void);

/* newest_order_id returns the last id of that sequence; 0 if none was given. SPI must be connected.
 */
extern int64 newest_order_id(void);

/*
 * attempt_number returns which one of its order's attempts it is, from 1. attempt_after returns the
 * attempt that follows the given one, which must not be its order's ATTEMPTS_MAXth: one more, or,
 * where ids have jumped between the order's and the newest, one that nobody can have made before.
 */
extern int attempt_number(int attempt);
extern int attempt_after(int attempt, int64 order_id, int64 newest);

#endif /* OA_ORDER_IDS_H */
