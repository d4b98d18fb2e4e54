/*
 * placement.c
 *		place_order() and place_orders(): from requests to locked stock.
 *
 * One path for one request and for ten thousand:
 *
 *		claim keys -> lock offers -> source each request -> write stock once a
 *		row -> write orders, lines, holds, events in bulk -> keep errors of keys
 *
 * A request that cannot be served is left out; there is no savepoint. Requests
 * are served in their order, each from what the earlier ones left.
 */
#include "order_aggregator.h"

#include "access/htup_details.h"
#include "arguments.h"
#include "bulk.h"
#include "commands/sequence.h"
#include "events.h"
#include "fmgr.h"
#include "funcapi.h"
#include "holds.h"
#include "idempotency.h"
#include "miscadmin.h"
#include "money.h"
#include "outbox.h"
#include "plans.h"
#include "request.h"
#include "stock.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(oa_place_order);
PG_FUNCTION_INFO_V1(oa_place_orders);
PG_FUNCTION_INFO_V1(oa_place_order_documents);
PG_FUNCTION_INFO_V1(oa_place_order_documents_skip_locked);

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

static inline bool
is_to_be_served(const OrderRequest *request)
{
	return request->error == NULL && !request->is_replay && request->same_as < 0;
}

/* ---------- locking ---------- */

static void
find_known_products(Placement *placement)
{
	RequestBatch *batch = placement->batch;
	const char  **ids = palloc(sizeof(char *) * Max(batch->nproducts, 1));
	int           count = 0;
	Datum         values[1];

	for (int i = 0; i < batch->nproducts; i++)
	{
		ProductOffers *product = &placement->products[i];

		product->is_known = product->count > 0 || product->is_busy;
		if (product->wanted && !product->is_known)
			ids[count++] = batch->product_ids[i];
	}
	if (count == 0)
		return;

	values[0] = text_array(ids, count);
	plan_execute(PLAN_KNOWN_PRODUCTS, values, NULL, SPI_OK_SELECT);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		int product = request_find_product(batch, spi_string(row, 1));

		Assert(product >= 0);
		placement->products[product].is_known = true;
	}
}

static void
lock_offers(Placement *placement)
{
	RequestBatch *batch = placement->batch;
	const char  **ids = palloc(sizeof(char *) * Max(batch->nproducts, 1));
	int           count = 0;

	placement->products = palloc0(sizeof(ProductOffers) * Max(batch->nproducts, 1));
	for (int i = 0; i < batch->nrequests; i++)
	{
		OrderRequest *request = &batch->requests[i];

		if (!is_to_be_served(request))
			continue;
		for (int l = 0; l < request->nlines; l++)
			placement->products[request->lines[l].product].wanted = true;
	}
	for (int i = 0; i < batch->nproducts; i++)
	{
		if (placement->products[i].wanted)
			ids[count++] = batch->product_ids[i];
	}
	placement->stock = stock_lock_offers(ids, count, batch->skip_locked);
	for (int i = 0; i < batch->nproducts; i++)
	{
		if (placement->products[i].wanted)
		{
			ProductOffers *product = &placement->products[i];

			stock_find_offers(placement->stock, batch->product_ids[i], &product->first, &product->count);
			product->is_busy = stock_is_busy(placement->stock, batch->product_ids[i], NULL);
			product->available_before = stock_available(placement->stock, product->first, product->count);
		}
	}
	find_known_products(placement);
}

/* ---------- sourcing ---------- */

static void
insufficient_stock(Placement *placement, OrderRequest *request, const OrderLine *line)
{
	const ProductOffers *product = &placement->products[line->product];
	const char          *product_id = placement->batch->product_ids[line->product];
	int64                available = 0;
	StringInfoData       detail;

	for (int i = product->first; i < product->first + product->count; i++)
		available += placement->stock->offers[i].available;

	initStringInfo(&detail);
	appendStringInfoString(&detail, "{\"productId\": ");
	json_append_string(&detail, product_id);
	appendStringInfo(&detail, ", \"requested\": " INT64_FORMAT ", \"available\": " INT64_FORMAT ", \"vendors\": [",
					 line->quantity, available);
	for (int i = 0; i < product->count; i++)
	{
		const StockRow *row = &placement->stock->rows[product->first + i];

		appendStringInfo(&detail, "%s{\"vendorId\": \"%s\", \"available\": " INT64_FORMAT ", \"price\": \"%s\"}",
						 i == 0 ? "" : ", ", row->vendor_id, placement->stock->offers[product->first + i].available,
						 price_to_string(row->price));
	}
	appendStringInfoString(&detail, "]}");
	request_error(request, ERRCODE_OA_INSUFFICIENT_STOCK,
				  psprintf("insufficient stock for product \"%s\": " INT64_FORMAT " requested, " INT64_FORMAT " available",
						   product_id, line->quantity, available),
				  detail.data, NULL);
	if (request->strategy == SOURCING_SINGLE_VENDOR && available >= line->quantity)
		request->error->hint = "No single vendor has it all; another strategy would split the line.";
	else if (available > 0 && !request->allow_partial)
		request->error->hint = "Order less, or allow a partial order.";
}

/*
 * By line and vendor (a product's locked rows are in the vendors' order): so an
 * answer can be given again from the rows alone.
 */
static void
sort_picks(SourcingPick *picks, int npicks)
{
	for (int i = 1; i < npicks; i++)
	{
		SourcingPick pick = picks[i];
		int          j = i;

		for (; j > 0 && picks[j - 1].line == pick.line && picks[j - 1].offer > pick.offer; j--)
			picks[j] = picks[j - 1];
		picks[j] = pick;
	}
}

/* Chooses and takes the stock of one request, or gives it its error. */
static void
source_request(Placement *placement, int request_index)
{
	RequestBatch *batch = placement->batch;
	OrderRequest *request = &batch->requests[request_index];
	Placed       *placed = &placement->placed[request_index];
	SourcingLimit limit = {.max_vendors = guc_max_vendors_per_order, .effort = &placement->effort};
	SourcingLine *lines = palloc(sizeof(SourcingLine) * request->nlines);
	int           npicks_max = 0;
	int           outcome;

	for (int i = 0; i < request->nlines; i++)
	{
		const ProductOffers *product = &placement->products[request->lines[i].product];

		if (!product->is_known)
		{
			const char *product_id = batch->product_ids[request->lines[i].product];

			request_error(request, ERRCODE_OA_UNKNOWN_PRODUCT, psprintf("unknown product \"%s\"", product_id), NULL,
						  request->is_one_line ? pstrdup("productId") : psprintf("products[%d].productId", i));
			return;
		}
		if (product->is_busy)
		{
			request_busy(request, psprintf("stock of product \"%s\" is locked by another transaction",
										   batch->product_ids[request->lines[i].product]));
			return;
		}
		lines[i] = (SourcingLine){request->lines[i].quantity, product->first, product->count};
		npicks_max += product->count;
	}

	placed->picks = palloc(sizeof(SourcingPick) * Max(npicks_max, 1));
	outcome = sourcing_choose(request->strategy, request->allow_partial, &limit, lines, request->nlines, placement->stock->offers,
							  placed->picks);
	if (outcome == SOURCING_TOO_MANY_VENDORS)
	{
		request_error(request, ERRCODE_OA_INSUFFICIENT_STOCK,
					  psprintf("insufficient stock to serve the order from at most %d vendor%s", guc_max_vendors_per_order,
							   guc_max_vendors_per_order == 1 ? "" : "s"),
					  psprintf("{\"maxVendorsPerOrder\": %d}", guc_max_vendors_per_order), NULL);
		return;
	}
	if (outcome == SOURCING_NOT_NOW)
	{
		request_busy(request, "the batch has spent what choosing vendors may cost; alone the order may be served");
		return;
	}
	if (outcome < 0)
	{
		insufficient_stock(placement, request, &request->lines[-1 - outcome]);
		return;
	}

	placed->npicks = outcome;
	sort_picks(placed->picks, placed->npicks);
	for (int i = 0; i < placed->npicks; i++)
	{
		const SourcingPick *pick = &placed->picks[i];

		stock_reserve(placement->stock, pick->offer, pick->quantity);
		amount_add(&placed->total, placement->stock->rows[pick->offer].price, pick->quantity);
	}
	placement->nplaced++;
	placement->npicks += placed->npicks;
}

/* ---------- writing ---------- */

static void
number_orders(Placement *placement)
{
	Oid   sequence = table_oid("order_id_seq");
	char *placed_at = utc_timestamp(placement->placed_at);
	int64 last_hold_for_us = -1;
	char *expires_at = NULL;

	for (int i = 0; i < placement->batch->nrequests; i++)
	{
		OrderRequest *request = &placement->batch->requests[i];
		Placed       *placed = &placement->placed[i];

		if (!is_to_be_served(request))
			continue;
		if (request->order_id == 0)
			request->order_id = nextval_internal(sequence, false);
		placed->expires_at = placement->placed_at + request->hold_for_us;
		if (request->hold_for_us != last_hold_for_us)
		{
			last_hold_for_us = request->hold_for_us;
			expires_at = utc_timestamp(placed->expires_at);
		}
		placed->facts = (OrderFacts){request->order_id, request->customer_id, placed_at, expires_at, request->traceparent};
	}
}

static void
set_text(TupleTableSlot *slot, int column, const char *text)
{
	slot->tts_isnull[column] = text == NULL;
	slot->tts_values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static void
set_value(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_isnull[column] = false;
	slot->tts_values[column] = value;
}

static void
write_orders(Placement *placement)
{
	BulkInsert *bulk = bulk_begin(table_oid("orders"));

	for (int i = 0; i < placement->batch->nrequests; i++)
	{
		const OrderRequest *request = &placement->batch->requests[i];
		const Placed       *placed = &placement->placed[i];
		TupleTableSlot     *slot;
		int                 column = 0;

		if (!is_to_be_served(request))
			continue;
		slot = bulk_next_row(bulk);
		set_value(slot, column++, Int64GetDatum(request->order_id));
		set_text(slot, column++, request->customer_id);
		set_text(slot, column++, "pending");
		set_value(slot, column++, NumericGetDatum(amount_to_numeric(placed->total)));
		set_text(slot, column++, sourcing_strategy_name(request->strategy));
		set_value(slot, column++, BoolGetDatum(request->allow_partial));
		set_value(slot, column++, TimestampTzGetDatum(placement->placed_at));
		set_value(slot, column++, TimestampTzGetDatum(placed->expires_at));
		slot->tts_isnull[column++] = true; /* closed_at */
		slot->tts_isnull[column++] = true; /* close_reason */
		set_text(slot, column++, request->traceparent);
		bulk_store_row(bulk);
	}
	bulk_end(bulk);
}

static void
write_lines(Placement *placement)
{
	BulkInsert *bulk = bulk_begin(table_oid("order_line"));

	for (int i = 0; i < placement->batch->nrequests; i++)
	{
		const OrderRequest *request = &placement->batch->requests[i];

		if (!is_to_be_served(request))
			continue;
		for (int l = 0; l < request->nlines; l++)
		{
			TupleTableSlot *slot = bulk_next_row(bulk);

			set_value(slot, 0, Int64GetDatum(request->order_id));
			set_value(slot, 1, Int32GetDatum(l + 1));
			set_text(slot, 2, placement->batch->product_ids[request->lines[l].product]);
			set_value(slot, 3, Int64GetDatum(request->lines[l].quantity));
			bulk_store_row(bulk);
		}
	}
	bulk_end(bulk);
}

static void
write_holds(Placement *placement)
{
	BulkInsert *bulk = bulk_begin(table_oid("hold"));

	for (int i = 0; i < placement->batch->nrequests; i++)
	{
		const OrderRequest *request = &placement->batch->requests[i];
		const Placed       *placed = &placement->placed[i];

		if (!is_to_be_served(request))
			continue;
		for (int p = 0; p < placed->npicks; p++)
		{
			const SourcingPick *pick = &placed->picks[p];
			const StockRow     *row = &placement->stock->rows[pick->offer];

			hold_store(bulk, request->order_id, pick->line + 1, 1, row, pick->quantity, placement->placed_at);
		}
	}
	bulk_end(bulk);
}

static void
write_events(Placement *placement)
{
	EventBatch *events = event_batch_create(placement->npicks);

	for (int i = 0; i < placement->batch->nrequests; i++)
	{
		const Placed *placed = &placement->placed[i];

		if (is_to_be_served(&placement->batch->requests[i]))
			holds_add_placed_events(events, &placed->facts, 1, placement->stock, placed->picks, placed->npicks);
	}
	for (int i = 0; i < placement->batch->nproducts; i++)
	{
		const ProductOffers *product = &placement->products[i];

		if (product->count > 0)
			event_stock_low(events, placement->batch->product_ids[i], placement->stock->rows[product->first].low_threshold,
							product->available_before, stock_available(placement->stock, product->first, product->count));
	}
	outbox_write(events);
}

/* ---------- answers ---------- */

/* The pieces of an order document, in the order they are called. */
static void
document_begin(StringInfo json, const OrderFacts *facts, const char *total_amount)
{
	appendStringInfo(json, "{\"id\": " INT64_FORMAT ", \"status\": \"pending\", \"totalAmount\": \"%s\", \"customerId\": ",
					 facts->order_id, total_amount);
	json_append_string(json, facts->customer_id);
	appendStringInfo(json, ", \"placedAt\": \"%s\", \"expiresAt\": \"%s\", \"lines\": [", facts->placed_at, facts->expires_at);
}

static void
document_line(StringInfo json, int line_no, const char *product_id, int64 quantity)
{
	if (line_no > 1)
		appendStringInfoString(json, "]}, ");
	appendStringInfo(json, "{\"lineNo\": %d, \"productId\": ", line_no);
	json_append_string(json, product_id);
	appendStringInfo(json, ", \"quantity\": " INT64_FORMAT ", \"holds\": [", quantity);
}

static void
document_hold(StringInfo json, bool is_first, const char *vendor_id, int64 quantity, Price unit_price)
{
	appendStringInfo(json, "%s{\"vendorId\": \"%s\", \"quantity\": " INT64_FORMAT ", \"unitPrice\": \"%s\"}",
					 is_first ? "" : ", ", vendor_id, quantity, price_to_string(unit_price));
}

static void
document_end(StringInfo json)
{
	appendStringInfoString(json, "]}]}");
}

static char *
render_document(const Placement *placement, int request_index)
{
	const OrderRequest *request = &placement->batch->requests[request_index];
	const Placed       *placed = &placement->placed[request_index];
	StringInfoData      json;
	int                 p = 0;

	initStringInfo(&json);
	document_begin(&json, &placed->facts, amount_to_string(placed->total));
	for (int l = 0; l < request->nlines; l++)
	{
		int first = p;

		document_line(&json, l + 1, placement->batch->product_ids[request->lines[l].product], request->lines[l].quantity);
		for (; p < placed->npicks && placed->picks[p].line == l; p++)
		{
			const StockRow *row = &placement->stock->rows[placed->picks[p].offer];

			document_hold(&json, p == first, row->vendor_id, placed->picks[p].quantity, row->price);
		}
	}
	document_end(&json);
	return json.data;
}

/* The first row of an order in the current SPI result, which is sorted by order. */
static uint64
first_row_of_order(int64 order_id, uint64 nrows)
{
	uint64 low = 0;
	uint64 high = nrows;

	while (low < high)
	{
		uint64 middle = (low + high) / 2;

		if (spi_int64(middle, 1) < order_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* One order as it was placed, from its rows of the current SPI result. */
static void
replay_order(OrderRequest *request, Placed *placed, uint64 nrows)
{
	StringInfoData lines;
	StringInfoData json;
	int64          line_no = 0;
	bool           is_first = true;

	initStringInfo(&lines);
	for (uint64 row = first_row_of_order(request->order_id, nrows); row < nrows && spi_int64(row, 1) == request->order_id; row++)
	{
		bool  is_null;
		Datum unit_price;
		Price price;

		if (spi_int64(row, 5) != line_no)
		{
			line_no = spi_int64(row, 5);
			placed->facts.order_id = request->order_id;
			placed->facts.customer_id = spi_string(row, 2);
			placed->facts.placed_at = utc_timestamp(DatumGetTimestampTz(spi_datum(row, 3, &is_null)));
			placed->facts.expires_at = utc_timestamp(DatumGetTimestampTz(spi_datum(row, 4, &is_null)));
			document_line(&lines, (int) line_no, spi_string(row, 6), spi_int64(row, 7));
			is_first = true;
		}
		unit_price = spi_datum(row, 10, &is_null);
		if (is_null || !price_from_numeric(DatumGetNumeric(unit_price), &price))
			continue; /* a line of a partial order that got nothing */
		amount_add(&placed->total, price, spi_int64(row, 9));
		document_hold(&lines, is_first, spi_string(row, 8), spi_int64(row, 9), price);
		is_first = false;
	}
	if (line_no == 0)
		elog(ERROR, "order " INT64_FORMAT " of an idempotency key does not exist", request->order_id);
	initStringInfo(&json);
	document_begin(&json, &placed->facts, amount_to_string(placed->total));
	appendStringInfoString(&json, lines.data);
	document_end(&json);
	placed->document = json.data;
}

/* Reads the orders of keys used before and answers as they were answered first. */
static void
replay_orders(Placement *placement)
{
	RequestBatch *batch = placement->batch;
	int64        *order_ids = palloc(sizeof(int64) * Max(batch->nrequests, 1));
	int           count = 0;
	Datum         values[1];
	uint64        nrows;

	for (int i = 0; i < batch->nrequests; i++)
	{
		if (batch->requests[i].is_replay && batch->requests[i].error == NULL)
			order_ids[count++] = batch->requests[i].order_id;
	}
	if (count == 0)
		return;
	values[0] = int8_array(order_ids, count);
	plan_execute(PLAN_REPLAY_ORDERS, values, NULL, SPI_OK_SELECT);
	nrows = SPI_processed;

	for (int i = 0; i < batch->nrequests; i++)
	{
		if (batch->requests[i].is_replay && batch->requests[i].error == NULL)
			replay_order(&batch->requests[i], &placement->placed[i], nrows);
	}
}

/* Gives the later requests with one key of a batch the outcome of the first. */
static void
answer_repeated_keys(Placement *placement)
{
	for (int i = 0; i < placement->batch->nrequests; i++)
	{
		OrderRequest *request = &placement->batch->requests[i];
		int           first = request->same_as;

		if (first < 0)
			continue;
		request->order_id = placement->batch->requests[first].order_id;
		request->error = placement->batch->requests[first].error;
		placement->placed[i] = placement->placed[first];
	}
}

/* ---------- the whole ---------- */

/* Places all requests of the batch that can be served. SPI is connected. */
static Placement *
place_batch(RequestBatch *batch, bool want_documents)
{
	Placement *placement = palloc0(sizeof(Placement));

	placement->batch = batch;
	placement->placed = palloc0(sizeof(Placed) * Max(batch->nrequests, 1));
	placement->placed_at = GetCurrentTransactionStartTimestamp();
	placement->effort = SOURCING_EFFORT_BATCH;

	idempotency_claim(batch);
	lock_offers(placement);
	for (int i = 0; i < batch->nrequests; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_to_be_served(&batch->requests[i]))
			source_request(placement, i);
	}
	if (placement->nplaced > 0)
	{
		stock_write_changes(placement->stock, 0); /* nothing ships */
		number_orders(placement);
		write_orders(placement);
		write_lines(placement);
		write_holds(placement);
		write_events(placement);
	}
	idempotency_record_errors(batch);

	for (int i = 0; want_documents && i < batch->nrequests; i++)
	{
		if (is_to_be_served(&batch->requests[i]))
			placement->placed[i].document = render_document(placement, i);
	}
	replay_orders(placement);
	answer_repeated_keys(placement);
	return placement;
}

Datum
oa_place_order(PG_FUNCTION_ARGS)
{
	RequestBatch *batch;
	OrderRequest *request;
	int64         order_id;

	begin_writing("place_order()");
	SPI_connect();
	batch = request_batch_create(1);
	request = request_add_single(batch, PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)),
								 PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
								 PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)),
								 PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
								 PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4), !PG_ARGISNULL(5) && PG_GETARG_BOOL(5));
	if (request->error == NULL)
		place_batch(batch, false);
	if (request->error != NULL)
		request_error_raise(request->error);
	order_id = request->order_id;
	SPI_finish();
	PG_RETURN_INT64(order_id);
}

static Jsonb *
requests_argument(FunctionCallInfo fcinfo)
{
	require_argument(fcinfo, 0, "requests");
	return PG_GETARG_JSONB_P(0);
}

/*
 * Memory for one row of the result, reset after each: a thousand errors made
 * into jsonb would take megabytes, which the C library gives back to the system
 * and asks for again with every batch (docs/performance.md).
 */
static MemoryContext
row_context_create(void)
{
	return AllocSetContextCreate(CurrentMemoryContext, "row of the result", ALLOCSET_DEFAULT_SIZES);
}

/* What a batch's result has in the columns between request_no and error. */
typedef void (*FillRow)(const Placement *placement, int request_index, Datum *values);

#define ROW_COLUMNS_MAX 5

/*
 * Places the batch and returns a row for each request: request_no, then what
 * "fill" puts there, or nulls and the error.
 */
static Datum
place_and_return(FunctionCallInfo fcinfo, bool want_documents, bool skip_locked, FillRow fill)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	RequestBatch  *batch;
	Placement     *placement;
	MemoryContext  row_context;
	int            ncolumns;

	InitMaterializedSRF(fcinfo, 0);
	ncolumns = result->setDesc->natts;
	Assert(ncolumns <= ROW_COLUMNS_MAX);
	SPI_connect();
	batch = request_batch_parse(requests_argument(fcinfo));
	batch->skip_locked = skip_locked;
	placement = place_batch(batch, want_documents);
	row_context = row_context_create();
	for (int i = 0; i < batch->nrequests; i++)
	{
		bool          failed = batch->requests[i].error != NULL;
		bool          nulls[ROW_COLUMNS_MAX];
		Datum         values[ROW_COLUMNS_MAX] = {Int32GetDatum(i + 1)};
		MemoryContext old_context = MemoryContextSwitchTo(row_context);

		for (int column = 0; column < ncolumns; column++)
			nulls[column] = column > 0 && (column == ncolumns - 1) != failed;
		if (failed)
			values[ncolumns - 1] = JsonbPGetDatum(request_error_to_jsonb(batch->requests[i].error));
		else
			fill(placement, i, values);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(row_context);
	}
	SPI_finish();
	return (Datum) 0;
}

static void
fill_order(const Placement *placement, int request_index, Datum *values)
{
	values[1] = Int64GetDatum(placement->batch->requests[request_index].order_id);
	values[2] = CStringGetTextDatum("pending");
	values[3] = NumericGetDatum(amount_to_numeric(placement->placed[request_index].total));
}

static void
fill_document(const Placement *placement, int request_index, Datum *values)
{
	values[1] = Int64GetDatum(placement->batch->requests[request_index].order_id);
	values[2] = CStringGetTextDatum(placement->placed[request_index].document);
}

Datum
oa_place_orders(PG_FUNCTION_ARGS)
{
	begin_writing("place_orders()");
	return place_and_return(fcinfo, false, false, fill_order);
}

Datum
oa_place_order_documents(PG_FUNCTION_ARGS)
{
	begin_writing("place_order_documents()");
	return place_and_return(fcinfo, true, false, fill_document);
}

Datum
oa_place_order_documents_skip_locked(PG_FUNCTION_ARGS)
{
	begin_writing("place_order_documents_skip_locked()");
	return place_and_return(fcinfo, true, true, fill_document);
}
