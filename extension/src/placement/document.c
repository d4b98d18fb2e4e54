/*
 * document.c
 *		Orders as POST /order answers with them: when they are placed, and again when the same
 *		request comes once more.
 */
#include "postgres.h"

#include "placement/document.h"

#include "store/errors.h"
#include "store/plans.h"

/* The pieces of an order document, in the order they are called. */
static void
document_begin(StringInfo json, const OrderFacts *facts, const char *total_amount)
{
	appendStringInfo(json,
					 "{\"id\": " INT64_FORMAT
					 ", \"status\": \"pending\", \"totalAmount\": \"%s\", \"customerId\": ",
					 facts->order_id, total_amount);
	json_append_string(json, facts->customer_id);
	appendStringInfo(json, ", \"placedAt\": \"%s\", \"expiresAt\": \"%s\", \"lines\": [",
					 facts->placed_at, facts->expires_at);
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
document_hold(StringInfo json, bool is_first, const char *vendor_id, int64 quantity,
			  Price unit_price)
{
	appendStringInfo(
		json, "%s{\"vendorId\": \"%s\", \"quantity\": " INT64_FORMAT ", \"unitPrice\": \"%s\"}",
		is_first ? "" : ", ", vendor_id, quantity, price_to_string(unit_price));
}

static void
document_end(StringInfo json)
{
	appendStringInfoString(json, "]}]}");
}

char *
document_render(const RequestBatch *batch, const OrderRequest *request, const Placed *placed,
				const StockRows *stock)
{
	StringInfoData json;
	int            p = 0;

	initStringInfo(&json);
	document_begin(&json, &placed->facts, amount_to_string(placed->total));
	for (int l = 0; l < request->nlines; l++)
	{
		int first = p;

		document_line(&json, l + 1, batch->product_ids[request->lines[l].product],
					  request->lines[l].quantity);
		for (; p < placed->npicks && placed->picks[p].line == l; p++)
		{
			const StockRow *row = &stock->rows[placed->picks[p].offer];

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
	for (uint64 row = first_row_of_order(request->order_id, nrows);
		 row < nrows && spi_int64(row, 1) == request->order_id; row++)
	{
		bool  is_null;
		Datum unit_price;
		Price price;

		if (spi_int64(row, 5) != line_no)
		{
			line_no = spi_int64(row, 5);
			placed->facts.order_id = request->order_id;
			placed->facts.customer_id = spi_string(row, 2);
			placed->facts.placed_at =
				utc_timestamp(DatumGetTimestampTz(spi_datum(row, 3, &is_null)));
			placed->facts.expires_at =
				utc_timestamp(DatumGetTimestampTz(spi_datum(row, 4, &is_null)));
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
	{
		request_error(request, ERRCODE_OA_UNKNOWN_SUBJECT,
					  psprintf("order " INT64_FORMAT ", which was placed under this idempotency "
							   "key, does not exist any more",
							   request->order_id),
					  NULL, "idempotencyKey");
		return;
	}
	initStringInfo(&json);
	document_begin(&json, &placed->facts, amount_to_string(placed->total));
	appendStringInfoString(&json, lines.data);
	document_end(&json);
	placed->document = json.data;
}

/* Reads the orders of keys used before and answers as they were answered first. */
void
document_replay_orders(RequestBatch *batch, Placed *placed)
{
	int64 *order_ids = palloc(sizeof(int64) * Max(batch->nrequests, 1));
	int    count = 0;
	Datum  values[1];
	uint64 nrows;

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
			replay_order(&batch->requests[i], &placed[i], nrows);
	}
}
