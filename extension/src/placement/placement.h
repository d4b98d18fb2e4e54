/*
 * placement.h
 *		From requests to locked stock.
 */
#ifndef OA_PLACEMENT_H
#define OA_PLACEMENT_H

#include "postgres.h"

#include "placement/document.h"
#include "placement/request.h"
#include "store/stock.h"

/* Where one product's offers are among the locked rows. */
typedef struct ProductOffers
{
	int   first;
	int   count;
	bool  wanted; /* by a request without an error */
	bool  is_known;
	bool  is_busy;          /* another transaction has locked an offer of it */
	int64 available_before; /* this batch */
} ProductOffers;

typedef struct Placement
{
	RequestBatch  *batch;
	StockRows     *stock;
	ProductOffers *products;
	Placed        *placed; /* one for each request */
	TimestampTz    placed_at;
	int            nplaced;
	int            npicks;
	int64          effort; /* for sourcing, what is left */
} Placement;

/*
 * placement_place places all requests of the batch that can be served, and gives the
 * others their errors. want_documents: each with what POST /order answers. SPI must be connected.
 */
extern Placement *placement_place(RequestBatch *batch, bool want_documents);

#endif /* OA_PLACEMENT_H */
