/*
 * order_ids.h
 *		Where the ids of orders come from, and that none is given twice.
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

#endif /* OA_ORDER_IDS_H */
