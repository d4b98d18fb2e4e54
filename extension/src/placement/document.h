/*
 * document.h
 *		Orders as POST /order answers with them.
 */
#ifndef OA_DOCUMENT_H
#define OA_DOCUMENT_H

#include "postgres.h"

#include "outbox/events.h"
#include "placement/request.h"
#include "placement/sourcing.h"
#include "store/money.h"
#include "store/stock.h"
#include "utils/timestamp.h"

/* What became of one request. */
typedef struct Placed
{
	SourcingPick *picks; /* offer is a row of the locked stock */
	int           npicks;
	Amount        total;
	TimestampTz   expires_at;
	OrderFacts    facts;
	char         *document; /* NULL: not asked for */
} Placed;

/* document_render returns the document of an order that has just been placed, palloc'd. */
extern char *document_render(const RequestBatch *batch, const OrderRequest *request,
							 const Placed *placed, const StockRows *stock);

/*
 * document_replay_orders gives the requests that were served before, is_replay, the totals
 * and documents that they were answered with then, from the rows of the orders. Needs SPI.
 */
extern void document_replay_orders(RequestBatch *batch, Placed *placed);

#endif /* OA_DOCUMENT_H */
