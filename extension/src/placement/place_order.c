/*
 * place_order.c
 *		place_order() and place_orders(), and what the HTTP API calls in their place.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "funcapi.h"
#include "placement/placement.h"
#include "store/check.h"
#include "store/status.h"
#include "store/symbols.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_place_order);
OA_FUNCTION(oa_place_orders);
OA_FUNCTION(oa_place_order_documents);
OA_FUNCTION(oa_place_order_documents_skip_locked);

Datum
oa_place_order(PG_FUNCTION_ARGS)
{
	RequestBatch *batch;
	OrderRequest *request;
	int64         order_id;

	begin_writing("place_order()");
	SPI_connect();
	batch = request_batch_create(1);
	request = request_add_single(
		batch, PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)),
		PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1),
		PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)),
		PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
		PG_ARGISNULL(4) ? NULL : PG_GETARG_INTERVAL_P(4), !PG_ARGISNULL(5) && PG_GETARG_BOOL(5));
	if (request->error == NULL)
		placement_place(batch, false);
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
	placement = placement_place(batch, want_documents);
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
	values[2] = CStringGetTextDatum(order_status_name(ORDER_PENDING));
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
