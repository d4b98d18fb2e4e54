/*
 * placement.c
 *		From requests to locked stock.
 *
 * One path for one request and for ten thousand:
 *
 *		claim keys -> lock offers -> source each request -> write stock once a
 *		row -> write orders, lines, holds, events in bulk -> keep errors of keys
 *
 * A request that cannot be served is left out; there is no savepoint. Requests
 * are served in their order, each from what the earlier ones left.
 */

#include "postgres.h"

#include "placement/placement.h"

#include "commands/sequence.h"
#include "miscadmin.h"
#include "placement/holds.h"
#include "placement/idempotency.h"
#include "placement/order_ids.h"
#include "store/errors.h"
#include "store/plans.h"
#include "store/settings.h"
#include "store/tables.h"
#include "store/status.h"

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

/* Adds up what the requests want of each product; demands has one for each of the batch's. */
static void
add_up_demands(const Placement *placement, StockDemand *demands)
{
	RequestBatch *batch = placement->batch;

	for (int i = 0; i < batch->nrequests; i++)
	{
		const OrderRequest *request = &batch->requests[i];
		bool                is_fewest = request->strategy == SOURCING_FEWEST_VENDORS;

		if (!is_to_be_served(request))
			continue;
		for (int l = 0; l < request->nlines; l++)
		{
			int          product = request->lines[l].product;
			StockDemand *demand = &demands[product];

			demand->product_id = batch->product_ids[product];
			demand->product = product;
			demand->quantity += request->lines[l].quantity;
			demand->strategy = request->strategy;
			/* a line by itself: how the others are served decides nothing */
			demand->is_one =
				batch->nrequests == 1 &&
				(request->nlines == 1 || (!is_fewest && guc_max_vendors_per_order == 0));
			demand->compares |=
				request->strategy == SOURCING_MOST_STOCK ||
				(request->nlines > 1 && (is_fewest || guc_max_vendors_per_order > 0));
		}
	}
}

static void
lock_offers(Placement *placement)
{
	RequestBatch *batch = placement->batch;
	StockDemand  *demands = palloc0(sizeof(StockDemand) * Max(batch->nproducts, 1));
	int           count = 0;

	placement->products = palloc0(sizeof(ProductOffers) * Max(batch->nproducts, 1));
	add_up_demands(placement, demands);
	for (int i = 0; i < batch->nproducts; i++)
	{
		placement->products[i].wanted = demands[i].product_id != NULL;
		if (placement->products[i].wanted)
			demands[count++] = demands[i];
	}
	placement->stock = stock_lock_demand(demands, count, batch->skip_locked);
	for (int i = 0; i < count; i++)
	{
		ProductOffers *product = &placement->products[demands[i].product];

		product->first = demands[i].first;
		product->count = demands[i].count;
		product->is_busy = stock_is_busy(placement->stock, demands[i].product_id, NULL);
		product->available_before =
			stock_available(placement->stock, product->first, product->count);
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
	appendStringInfo(&detail,
					 ", \"requested\": " INT64_FORMAT ", \"available\": " INT64_FORMAT
					 ", \"vendors\": [",
					 line->quantity, available);
	for (int i = 0; i < product->count; i++)
	{
		const StockRow *row = &placement->stock->rows[product->first + i];

		appendStringInfo(&detail,
						 "%s{\"vendorId\": \"%s\", \"available\": " INT64_FORMAT ", \"price\": %s}",
						 i == 0 ? "" : ", ", row->vendor_id,
						 placement->stock->offers[product->first + i].available,
						 row->is_priced ? psprintf("\"%s\"", price_to_string(row->price)) : "null");
	}
	appendStringInfoString(&detail, "]}");
	request_error(request, ERRCODE_OA_INSUFFICIENT_STOCK,
				  psprintf("insufficient stock for product \"%s\": " INT64_FORMAT
						   " requested, " INT64_FORMAT " available",
						   product_id, line->quantity, available),
				  detail.data, NULL);
	if (request->strategy == SOURCING_SINGLE_VENDOR && available >= line->quantity)
		request->error->hint =
			"No single vendor has it all; another strategy would split the line.";
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

static void
unknown_product(OrderRequest *request, const OrderLine *line, const char *product_id)
{
	request_error(request, ERRCODE_OA_UNKNOWN_PRODUCT,
				  psprintf("unknown product \"%s\"", product_id),
				  pstrdup("No vendor's feed has had it yet."),
				  request->is_one_line ? pstrdup(line->field)
									   : psprintf("products[%d].%s", line->given_as, line->field));
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
			unknown_product(request, &request->lines[i],
							batch->product_ids[request->lines[i].product]);
			return;
		}
		if (product->is_busy)
		{
			request_busy(request,
						 psprintf("stock of product \"%s\" is locked by another transaction",
								  batch->product_ids[request->lines[i].product]));
			return;
		}
		lines[i] = (SourcingLine){request->lines[i].quantity, product->first, product->count};
		npicks_max += product->count;
	}

	placed->picks = palloc(sizeof(SourcingPick) * Max(npicks_max, 1));
	outcome = sourcing_choose(request->strategy, request->allow_partial, &limit, lines,
							  request->nlines, placement->stock->offers, placed->picks);
	if (outcome == SOURCING_TOO_MANY_VENDORS)
	{
		request_error(request, ERRCODE_OA_INSUFFICIENT_STOCK,
					  psprintf("insufficient stock to serve the order from at most %d vendor%s",
							   guc_max_vendors_per_order,
							   guc_max_vendors_per_order == 1 ? "" : "s"),
					  psprintf("{\"maxVendorsPerOrder\": %d}", guc_max_vendors_per_order), NULL);
		return;
	}
	if (outcome == SOURCING_NOT_NOW)
	{
		request_busy(
			request,
			"the batch has spent what choosing vendors may cost; alone the order may be served");
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
	Oid   sequence = order_id_sequence();
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
		placed->facts = (OrderFacts){request->order_id, request->customer_id, placed_at, expires_at,
									 request->traceparent};
	}
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

		if (!is_to_be_served(request))
			continue;
		slot = bulk_next_row(bulk);
		bulk_set(slot, ORDERS_COLUMN_ORDER_ID, Int64GetDatum(request->order_id));
		bulk_set_text(slot, ORDERS_COLUMN_CUSTOMER_ID, request->customer_id);
		bulk_set_name(bulk, slot, ORDERS_COLUMN_STATUS, order_status_name(ORDER_PENDING));
		bulk_set(slot, ORDERS_COLUMN_TOTAL_AMOUNT,
				 NumericGetDatum(amount_to_numeric(placed->total)));
		bulk_set_name(bulk, slot, ORDERS_COLUMN_STRATEGY,
					  sourcing_strategy_name(request->strategy));
		bulk_set(slot, ORDERS_COLUMN_ALLOW_PARTIAL, BoolGetDatum(request->allow_partial));
		bulk_set(slot, ORDERS_COLUMN_PLACED_AT, TimestampTzGetDatum(placement->placed_at));
		bulk_set(slot, ORDERS_COLUMN_EXPIRES_AT, TimestampTzGetDatum(placed->expires_at));
		bulk_set_text(slot, ORDERS_COLUMN_TRACEPARENT, request->traceparent);
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

			bulk_set(slot, ORDER_LINE_COLUMN_ORDER_ID, Int64GetDatum(request->order_id));
			bulk_set(slot, ORDER_LINE_COLUMN_LINE_NO, Int32GetDatum(l + 1));
			bulk_set_text(slot, ORDER_LINE_COLUMN_PRODUCT_ID,
						  placement->batch->product_ids[request->lines[l].product]);
			bulk_set(slot, ORDER_LINE_COLUMN_QUANTITY, Int64GetDatum(request->lines[l].quantity));
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

			hold_store(bulk, request->order_id, pick->line + 1, 1, row, pick->quantity,
					   placement->placed_at);
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
			holds_add_placed_events(events, &placed->facts, 1, placement->stock, placed->picks,
									placed->npicks);
	}
	for (int i = 0; i < placement->batch->nproducts; i++)
	{
		const ProductOffers *product = &placement->products[i];

		if (product->count > 0)
			event_stock_low(events, placement->batch->product_ids[i],
							placement->stock->rows[product->first].low_threshold,
							product->available_before,
							stock_available(placement->stock, product->first, product->count));
	}
	outbox_write(events);
}

/* ---------- answers ---------- */

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

Placement *
placement_place(RequestBatch *batch, bool want_documents)
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
	stock_write_changes(placement->stock, 0); /* nothing ships */
	if (placement->nplaced > 0)
	{
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
			placement->placed[i].document = document_render(
				batch, &batch->requests[i], &placement->placed[i], placement->stock);
	}
	document_replay_orders(batch, placement->placed);
	answer_repeated_keys(placement);
	return placement;
}
