/*
 * resourcing.h
 *		Sourcing anew what a vendor has rejected, or what is taken from one that has too few.
 */
#ifndef OA_RESOURCING_H
#define OA_RESOURCING_H

#include "settlement/held_orders.h"
#include "store/bulk.h"

/* How an order that lost a hold goes on. */
typedef enum Resourced
{
	RESOURCED,      /* it holds new units, which are open */
	RESOURCED_LESS, /* a partial order goes on with what it has */
	RESOURCE_FAILED /* it cannot be served any more */
} Resourced;

/*
 * resourcing_source_anew gives the rejected units of one order to vendors that have not
 * refused them: takes stock, adds the holds to *new_holds, which it begins if it is NULL,
 * and the events that ask the vendors.
 */
extern Resourced resourcing_source_anew(Settlement *settlement, SettledOrder *order,
										StockRows *stock, BulkInsert **new_holds);

/* resourcing_undo_takes leaves with their vendors the holds that were to be taken from them. */
extern void resourcing_undo_takes(SettledOrder *order);

/* resourcing_undo_needless_takes does so where the locked stock turns out not to be short any more.
 */
extern void resourcing_undo_needless_takes(const Settlement *settlement, const StockRows *stock);

/* resourcing_tell_taken tells the vendors from which holds were taken. */
extern void resourcing_tell_taken(const SettledOrder *order, EventBatch *events);

#endif /* OA_RESOURCING_H */
