/*
 * request.c
 *		Order requests: from JSON to structs, checked field by field.
 *
 * {"customerId", "products": [{"productId", "quantity"}], "idempotencyKey",
 * "strategy", "holdFor", "allowPartial", "traceparent"}, or
 * {"productId", "quantity"} alone as an order of one line. "vendorProductId" is
 * another name for "productId".
 *
 * Takes no locks and reads no table.
 */
#include "postgres.h"

#include "placement/request.h"

#include "common/hashfn.h"
#include "store/check.h"
#include "store/settings.h"
#include "store/trace_context.h"
#include "utils/fmgrprotos.h"
#include "store/json.h"

/* ---------- errors ---------- */

/* Of a field of the line that is being read, or of the request. */
static void
malformed(OrderRequest *request, const char *field, const char *complaint)
{
	char *name =
		pstrdup(excerpt(request->line_being_read > 0
							? psprintf("products[%d].%s", request->line_being_read - 1, field)
							: field));

	request_error(request, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("%s %s", name, complaint),
				  NULL, name);
}

/* ---------- parsing ---------- */

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) &&
		   memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* A string of 1 to max_chars characters; NULL for JSON null, and after an error. */
static char *
parse_text(OrderRequest *request, const JsonbValue *value, const char *field, int max_chars,
		   bool null_allowed)
{
	char *complaint;

	if (value->type == jbvNull && null_allowed)
		return NULL;
	if (value->type != jbvString)
	{
		malformed(request, field, psprintf("must be a string, not %s", json_type_name(value)));
		return NULL;
	}
	complaint = check_text_id(value->val.string.val, value->val.string.len, max_chars);
	if (complaint != NULL)
	{
		malformed(request, field, complaint);
		return NULL;
	}
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static int64
parse_quantity(OrderRequest *request, const JsonbValue *value, const char *field)
{
	int64 quantity = 0;

	if (value->type != jbvNumeric)
		malformed(request, field,
				  psprintf("must be a whole number from 1 to " INT64_FORMAT ", not %s",
						   QUANTITY_MAX, json_type_name(value)));
	else if (!numeric_to_whole(value->val.numeric, 1, QUANTITY_MAX, &quantity))
		malformed(request, field,
				  psprintf("must be a whole number from 1 to " INT64_FORMAT, QUANTITY_MAX));
	return quantity;
}

/* One product and quantity. The object may be a line of "products" or the request itself. */
typedef struct LineFields
{
	char       *product_id;
	const char *product_field; /* its name; NULL: it was not given */
	int64       quantity;
	bool        has_quantity;
} LineFields;

/* Adds a line, or its quantity to the line that already has its product. */
static void
add_line(RequestBatch *batch, int request_index, const LineFields *fields)
{
	OrderRequest    *request = &batch->requests[request_index];
	InternedProduct *product = request_batch_intern(batch, fields->product_id);

	if (product->seen_request != request_index)
	{
		product->seen_request = request_index;
		product->seen_line = request->nlines;
		request->lines[request->nlines++] = (OrderLine){
			product->index, fields->quantity, request->line_being_read - 1, fields->product_field};
	}
	else
	{
		OrderLine *line = &request->lines[product->seen_line];

		line->quantity += fields->quantity;
		if (line->quantity > QUANTITY_MAX)
			malformed(request, "quantity",
					  psprintf("adds up to more than " INT64_FORMAT
							   " with earlier lines of the product",
							   QUANTITY_MAX));
	}
}

/* True if the key is a line's; then it has been read, well or with an error. */
static bool
parse_line_field(OrderRequest *request, LineFields *fields, const JsonbValue *key,
				 const JsonbValue *value)
{
	bool is_product_id = key_is(key, "productId");

	if (is_product_id || key_is(key, "vendorProductId"))
	{
		const char *field = is_product_id ? "productId" : "vendorProductId";

		if (fields->product_field != NULL)
			malformed(request, field, "is given beside productId, which means the same");
		fields->product_field = field;
		fields->product_id = parse_text(request, value, field, ID_CHARS_MAX, false);
		return true;
	}
	if (key_is(key, "quantity"))
	{
		fields->has_quantity = true;
		fields->quantity = parse_quantity(request, value, "quantity");
		return true;
	}
	return false;
}

static void
finish_line(RequestBatch *batch, int request_index, const LineFields *fields)
{
	OrderRequest *request = &batch->requests[request_index];

	if (fields->product_field == NULL)
		malformed(request, "productId", "is missing");
	else if (!fields->has_quantity)
		malformed(request, "quantity", "is missing");
	if (request->error == NULL)
		add_line(batch, request_index, fields);
}

static void
parse_line(RequestBatch *batch, int request_index, JsonbContainer *object, int line_index)
{
	OrderRequest *request = &batch->requests[request_index];
	LineFields    fields = {0};
	JsonWalk      walk;

	request->line_being_read = line_index + 1;
	json_walk_begin(&walk, object);
	while (request->error == NULL && json_walk_next(&walk))
	{
		if (!parse_line_field(request, &fields, &walk.key, &walk.value))
			malformed(request, pnstrdup(walk.key.val.string.val, walk.key.val.string.len),
					  "is not a known field");
	}
	if (request->error == NULL)
		finish_line(batch, request_index, &fields);
	request->line_being_read = 0;
}

static void
parse_lines(RequestBatch *batch, int request_index, JsonbContainer *array)
{
	OrderRequest *request = &batch->requests[request_index];
	int           count = JsonContainerSize(array);
	JsonWalk      walk;

	if (count < 1 || count > guc_max_lines)
	{
		malformed(request, "products",
				  psprintf("must have 1 to %d lines, not %d", guc_max_lines, count));
		return;
	}
	request->lines = palloc(sizeof(OrderLine) * count);
	json_walk_begin(&walk, array);
	while (json_walk_next(&walk))
	{
		JsonbContainer *object = json_object_of(&walk.value);

		if (object == NULL)
			malformed(request, psprintf("products[%d]", walk.index),
					  psprintf("must be an object, not %s", json_type_name(&walk.value)));
		else
			parse_line(batch, request_index, object, walk.index);
		if (request->error != NULL)
			return;
		if (++batch->nlines > BATCH_LINES_MAX)
			argument_error("requests",
						   psprintf("must have at most %d lines together", BATCH_LINES_MAX));
	}
}

static void
check_hold_for(OrderRequest *request, const Interval *hold_for, const char *field)
{
	/* months and days as interval arithmetic estimates them: 30 days, 24 hours */
	int128 us = hold_for->time + (int128) hold_for->day * USECS_PER_DAY +
				(int128) hold_for->month * DAYS_PER_MONTH * USECS_PER_DAY;

	if (us <= 0 || us > (int128) guc_hold_for_max_s * USECS_PER_SEC)
		malformed(
			request, field,
			psprintf(
				"must be more than zero and at most %d seconds (order_aggregator.hold_for_max)",
				guc_hold_for_max_s));
	else
	{
		request->hold_for_us = (int64) us;
		request->has_hold_for = true;
	}
}

static void
parse_hold_for(OrderRequest *request, const JsonbValue *value)
{
	char         *text = parse_text(request, value, "holdFor", ID_CHARS_MAX, false);
	MemoryContext context = CurrentMemoryContext;
	Interval     *hold_for = NULL;

	if (text == NULL)
		return;

	/*
	 * interval_in has no soft errors in this release. It only parses, so there
	 * is nothing to undo, and no subtransaction is needed to survive its error.
	 */
	PG_TRY();
	{
		hold_for = DatumGetIntervalP(DirectFunctionCall3(
			interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		int code = geterrcode();

		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();

	if (hold_for == NULL)
		malformed(request, "holdFor", "must be an interval, such as \"30 minutes\"");
	else
		check_hold_for(request, hold_for, "holdFor");
}

static void
parse_strategy(OrderRequest *request, const char *name, const char *field)
{
	request->has_strategy = true;
	if (!sourcing_strategy_by_name(name, &request->strategy))
		malformed(request, field,
				  "must be cheapest, single_vendor, priority, most_stock or fewest_vendors");
}

static void
set_defaults(OrderRequest *request)
{
	request->strategy = guc_strategy;
	request->hold_for_us = (int64) Min(guc_hold_for_s, guc_hold_for_max_s) * USECS_PER_SEC;
	request->same_as = -1;
	request->traceparent = session_traceparent();
}

/* The fields of a request beside its lines; true if the key is one of them. */
static bool
parse_option(OrderRequest *request, const JsonbValue *key, const JsonbValue *value)
{
	if (key_is(key, "customerId"))
		request->customer_id = parse_text(request, value, "customerId", ID_CHARS_MAX, true);
	else if (key_is(key, "idempotencyKey"))
		request->idempotency_key =
			parse_text(request, value, "idempotencyKey", KEY_CHARS_MAX, true);
	else if (key_is(key, "strategy"))
	{
		char *name = parse_text(request, value, "strategy", ID_CHARS_MAX, true);

		if (name != NULL)
			parse_strategy(request, name, "strategy");
	}
	else if (key_is(key, "holdFor"))
		parse_hold_for(request, value);
	else if (key_is(key, "allowPartial"))
	{
		if (value->type != jbvBool)
			malformed(request, "allowPartial",
					  psprintf("must be true or false, not %s", json_type_name(value)));
		else
			request->allow_partial = value->val.boolean;
	}
	else if (key_is(key, "dropRefusal"))
	{
		if (value->type != jbvBool)
			malformed(request, "dropRefusal",
					  psprintf("must be true or false, not %s", json_type_name(value)));
		else
			request->drops_refusal = value->val.boolean;
	}
	else if (key_is(key, "traceparent"))
	{
		/* a trace context that is not valid is ignored, as its standard wants */
		if (value->type == jbvString &&
			is_traceparent(value->val.string.val, value->val.string.len))
			request->traceparent = pnstrdup(value->val.string.val, value->val.string.len);
	}
	else
		return false;
	return true;
}

/* What was left to the settings is not part of it: a retry may come after they changed. */
static void
hash_request(RequestBatch *batch, OrderRequest *request)
{
	StringInfoData text;

	if (request->idempotency_key == NULL)
		return;
	initStringInfo(&text);
	appendStringInfo(
		&text, "%s\n%d\n" INT64_FORMAT "\n%d", request->customer_id ? request->customer_id : "",
		request->has_strategy ? (int) request->strategy : -1,
		request->has_hold_for ? request->hold_for_us : INT64CONST(-1), request->allow_partial);
	for (int i = 0; i < request->nlines; i++)
		appendStringInfo(&text, "\n%s\n" INT64_FORMAT,
						 batch->product_ids[request->lines[i].product], request->lines[i].quantity);
	request->hash = hash_bytes_extended((const unsigned char *) text.data, text.len, 0);
	pfree(text.data);
}

static void
parse_request(RequestBatch *batch, int request_index, JsonbContainer *object)
{
	OrderRequest *request = &batch->requests[request_index];
	LineFields    fields = {0};
	bool          has_products = false;
	JsonWalk      walk;

	json_walk_begin(&walk, object);
	while (json_walk_next(&walk))
	{
		const JsonbValue *key = &walk.key;
		const JsonbValue *value = &walk.value;

		if (key_is(key, "products"))
		{
			has_products = true;
			if (json_array_of(value) == NULL)
				malformed(request, "products",
						  psprintf("must be an array of lines, not %s", json_type_name(value)));
			else
				parse_lines(batch, request_index, value->val.binary.data);
		}
		else if (!parse_line_field(request, &fields, key, value) &&
				 !parse_option(request, key, value))
			malformed(request, pnstrdup(key->val.string.val, key->val.string.len),
					  "is not a known field");
		if (request->error != NULL)
			return;
	}

	if (has_products && (fields.product_field != NULL || fields.has_quantity))
		malformed(request, fields.product_field != NULL ? fields.product_field : "quantity",
				  "is given beside products");
	else if (!has_products && fields.product_field == NULL && !fields.has_quantity)
		malformed(request, "products", "is missing");
	else if (!has_products)
	{
		request->is_one_line = true;
		request->lines = palloc(sizeof(OrderLine));
		finish_line(batch, request_index, &fields);
	}
	if (request->error == NULL)
		hash_request(batch, request);
}

RequestBatch *
request_batch_parse(Jsonb *requests)
{
	RequestBatch *batch;
	JsonWalk      walk;
	int           count;

	if (!json_is_array(requests))
		argument_error("requests", "must be a JSON array");
	count = JB_ROOT_COUNT(requests);
	if (count > BATCH_REQUESTS_MAX)
		argument_error("requests", psprintf("must have at most %d elements, not %d",
											BATCH_REQUESTS_MAX, count));

	batch = request_batch_create(count);
	json_walk_begin(&walk, &requests->root);
	while (json_walk_next(&walk))
	{
		OrderRequest   *request = &batch->requests[batch->nrequests++];
		JsonbContainer *object = json_object_of(&walk.value);

		set_defaults(request);
		if (object == NULL)
			malformed(request, "request",
					  psprintf("must be an object, not %s", json_type_name(&walk.value)));
		else
			parse_request(batch, batch->nrequests - 1, object);
	}
	return batch;
}

OrderRequest *
request_add_single(RequestBatch *batch, char *customer_id, Jsonb *products, char *idempotency_key,
				   const char *strategy, const Interval *hold_for, bool allow_partial)
{
	int           request_index = batch->nrequests++;
	OrderRequest *request = &batch->requests[request_index];
	char         *complaint;

	set_defaults(request);
	request->customer_id = customer_id;
	request->idempotency_key = idempotency_key;
	request->allow_partial = allow_partial;

	if (customer_id != NULL &&
		(complaint = check_text_id(customer_id, strlen(customer_id), ID_CHARS_MAX)) != NULL)
		malformed(request, "customer_id", complaint);
	if (idempotency_key != NULL &&
		(complaint = check_text_id(idempotency_key, strlen(idempotency_key), KEY_CHARS_MAX)) !=
			NULL)
		malformed(request, "idempotency_key", complaint);
	if (strategy != NULL)
		parse_strategy(request, strategy, "strategy");
	if (hold_for != NULL)
		check_hold_for(request, hold_for, "hold_for");
	if (products == NULL)
		malformed(request, "products", "is missing");
	else if (!json_is_array(products))
		malformed(request, "products", "must be an array of lines");
	else if (request->error == NULL)
		parse_lines(batch, request_index, &products->root);
	if (request->error == NULL)
		hash_request(batch, request);
	return request;
}
