/*
 * returns.c
 *		return_order(): units that a customer sends back after confirmation.
 *
 * The order stays confirmed; each return is written down with the holds it came
 * from. Units that are restocked can be sold again at once, until the vendor's
 * next feed brings the vendor's own count.
 *
 * Locks: the order, then stock rows.
 */

#include "postgres.h"

#include "commands/sequence.h"
#include "placement/idempotency.h"
#include "settlement/settlement.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/plans.h"
#include "store/settings.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "store/json.h"
#include "store/symbols.h"

OA_FUNCTION(oa_return_order);

/* Units of one hold that the customer still has, and sends back now. */
typedef struct Kept
{
	const Hold *hold;
	int64       left; /* confirmed, and not returned before */
	int64       returned;
	int64       returned_by_key; /* by the return that has the key already */
} Kept;

typedef struct Return
{
	int64       return_id; /* 0: the key is new */
	bool        restocked; /* by the return of that id */
	Settlement *settlement;
	Kept       *kept; /* one for each confirmed hold of the order */
	int         nkept;
	bool        restock;
	const char *key;
} Return;

/* ---------- what there is to return ---------- */

static Kept *
find_kept(Return *back, int line_no, const char *vendor_id, int attempt)
{
	for (int i = 0; i < back->nkept; i++)
	{
		const Hold *hold = back->kept[i].hold;

		if (hold->line_no == line_no && hold->attempt == attempt &&
			strcmp(hold->vendor_id, vendor_id) == 0)
			return &back->kept[i];
	}
	return NULL;
}

/* The return that has the key, if there is one. */
static void
find_return_of_key(Return *back)
{
	bool is_null;

	for (uint64 row = 0; row < SPI_processed && back->key != NULL; row++)
	{
		char *key = spi_string(row, 6);

		if (key == NULL || strcmp(key, back->key) != 0)
			continue;
		back->return_id = spi_int64(row, 5);
		back->restocked = DatumGetBool(spi_datum(row, 7, &is_null));
	}
}

/* What is left of each hold; before the key's return, if that was made already. */
static void
read_kept(Return *back)
{
	const SettledOrder *order = &back->settlement->orders[0];
	Datum               values[1] = {Int64GetDatum(order->facts.order_id)};

	back->kept = palloc0(sizeof(Kept) * Max(order->nholds, 1));
	for (int i = 0; i < order->nholds; i++)
	{
		if (order->holds[i].status == HOLD_CONFIRMED)
			back->kept[back->nkept++] = (Kept){&order->holds[i], order->holds[i].quantity, 0};
	}
	plan_execute(PLAN_READ_RETURNS, values, NULL, SPI_OK_SELECT);
	find_return_of_key(back);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		Kept *kept =
			find_kept(back, (int) spi_int64(row, 1), spi_string(row, 2), (int) spi_int64(row, 3));
		int64 return_id = spi_int64(row, 5);

		if (kept == NULL)
			continue;
		if (return_id == back->return_id)
			kept->returned_by_key = spi_int64(row, 4);
		else if (back->return_id == 0 || return_id < back->return_id)
			kept->left -= spi_int64(row, 4);
	}
}

/* ---------- what is sent back ---------- */

/* A line of the request: of which holds, and how many units. */
typedef struct Wanted
{
	int64       line_no; /* 0: any */
	const char *product_id;
	const char *vendor_id; /* these two: NULL: any */
	int64       quantity;
} Wanted;

static void
take_back(Return *back, const Wanted *wanted, const char *field)
{
	int64 left = wanted->quantity;

	for (int i = 0; i < back->nkept && left > 0; i++)
	{
		Kept *kept = &back->kept[i];
		int64 units = Min(left, kept->left - kept->returned);

		if ((wanted->line_no != 0 && kept->hold->line_no != wanted->line_no) ||
			(wanted->product_id != NULL &&
			 strcmp(kept->hold->product_id, wanted->product_id) != 0) ||
			(wanted->vendor_id != NULL && strcmp(kept->hold->vendor_id, wanted->vendor_id) != 0))
			continue;
		kept->returned += units;
		left -= units;
	}
	if (left > 0)
		ereport(ERROR, (errcode(ERRCODE_OA_STATE),
						errmsg("%s asks for " INT64_FORMAT " units more than order " INT64_FORMAT
							   " has left to return",
							   field, left, back->settlement->orders[0].facts.order_id),
						errdetail("What was confirmed can be returned once.")));
}

static void
parse_member(Wanted *wanted, const char *key, const JsonbValue *value, const char *line)
{
	const char *field = psprintf("%s.%s", line, key);
	bool        is_product = strcmp(key, "productId") == 0;

	if (strcmp(key, "lineNo") == 0 || strcmp(key, "quantity") == 0)
	{
		if (value->type != jbvNumeric ||
			!numeric_to_whole(value->val.numeric, 1, QUANTITY_MAX,
							  *key == 'l' ? &wanted->line_no : &wanted->quantity))
			argument_error(
				field, psprintf("must be a whole number from 1 to " INT64_FORMAT, QUANTITY_MAX));
	}
	else if (is_product || strcmp(key, "vendorId") == 0)
	{
		if (value->type != jbvString)
			argument_error(field, "must be a string");
		*(is_product ? &wanted->product_id : &wanted->vendor_id) =
			pnstrdup(value->val.string.val, value->val.string.len);
	}
	else
		argument_error(field, "is not known; there are productId, lineNo, vendorId and quantity");
}

static Wanted
parse_line(JsonbContainer *object, const char *line)
{
	Wanted   wanted = {0};
	JsonWalk walk;

	json_walk_begin(&walk, object);
	while (json_walk_next(&walk))
		parse_member(&wanted, pnstrdup(walk.key.val.string.val, walk.key.val.string.len),
					 &walk.value, line);
	if (wanted.quantity == 0)
		argument_error(psprintf("%s.quantity", line), "is missing");
	if (wanted.line_no == 0 && wanted.product_id == NULL)
		argument_error(psprintf("%s.productId", line), "is missing, and so is lineNo");
	return wanted;
}

/* Without lines all that is left comes back. */
static void
take_lines_back(Return *back, Jsonb *lines)
{
	JsonWalk walk;

	if (lines == NULL)
	{
		for (int i = 0; i < back->nkept; i++)
			back->kept[i].returned = back->kept[i].left;
		return;
	}
	json_walk_begin(&walk, &lines->root);
	while (json_walk_next(&walk))
	{
		char           *line = psprintf("lines[%d]", walk.index);
		JsonbContainer *object = json_object_of(&walk.value);
		Wanted          wanted;

		if (object == NULL)
			argument_error(line, "must be an object");
		wanted = parse_line(object, line);
		take_back(back, &wanted, line);
	}
}

/* ---------- writing ---------- */

/* Units of an offer that is gone have no shelf: to say that they are for sale again would be wrong.
 */
static StockRow *
restockable(const StockRows *stock, const Hold *hold)
{
	StockRow *row = stock_find(stock, hold->product_id, hold->vendor_id);

	if (row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OA_STATE),
				 errmsg("product \"%s\" of vendor \"%s\" has no stock that units can go back to",
						hold->product_id, hold->vendor_id),
				 errdetail("Its row in stock is gone."),
				 errhint("With restock => false the units can be returned.")));
	return row;
}

static void
restock(const Return *back)
{
	const char **product_ids = palloc(sizeof(char *) * back->nkept);
	const char **vendor_ids = palloc(sizeof(char *) * back->nkept);
	int64       *settled = palloc0(sizeof(int64) * back->nkept); /* nothing: it was before */
	StockRows   *stock;
	int          count = 0;

	for (int i = 0; i < back->nkept; i++)
	{
		if (back->kept[i].returned == 0)
			continue;
		product_ids[count] = back->kept[i].hold->product_id;
		vendor_ids[count++] = back->kept[i].hold->vendor_id;
	}
	stock = stock_lock_rows(product_ids, vendor_ids, settled, count, false);
	for (int i = 0; i < back->nkept; i++)
	{
		if (back->kept[i].returned > 0)
			stock_return(stock, restockable(stock, back->kept[i].hold), back->kept[i].returned);
	}
	stock_write_changes(stock, 0);
}

static void
store_returns(const Return *back)
{
	int64       *line_nos = palloc(sizeof(int64) * back->nkept);
	const char **vendor_ids = palloc(sizeof(char *) * back->nkept);
	int64       *attempts = palloc(sizeof(int64) * back->nkept);
	const char **product_ids = palloc(sizeof(char *) * back->nkept);
	int64       *quantities = palloc(sizeof(int64) * back->nkept);
	const char **prices = palloc(sizeof(char *) * back->nkept);
	int          count = 0;
	char         nulls[10] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', back->key ? ' ' : 'n'};
	Datum        values[10] = {Int64GetDatum(back->return_id),
							   Int64GetDatum(back->settlement->orders[0].facts.order_id)};

	for (int i = 0; i < back->nkept; i++)
	{
		const Hold *hold = back->kept[i].hold;

		if (back->kept[i].returned == 0)
			continue;
		line_nos[count] = hold->line_no;
		vendor_ids[count] = hold->vendor_id;
		attempts[count] = hold->attempt;
		product_ids[count] = hold->product_id;
		quantities[count] = back->kept[i].returned;
		prices[count++] = price_to_string(hold->price);
	}
	values[2] = int8_array(line_nos, count);
	values[3] = text_array(vendor_ids, count);
	values[4] = int8_array(attempts, count);
	values[5] = text_array(product_ids, count);
	values[6] = int8_array(quantities, count);
	values[7] = text_array(prices, count);
	values[8] = BoolGetDatum(back->restock);
	values[9] = back->key ? CStringGetTextDatum(back->key) : (Datum) 0;
	plan_execute(PLAN_STORE_RETURNS, values, nulls, SPI_OK_INSERT);
}

static void
write_event(const Return *back)
{
	const SettledOrder *order = &back->settlement->orders[0];
	EventBatch         *events = event_batch_create(1);
	StringInfoData      lines;
	Amount              amount = {0};

	initStringInfo(&lines);
	for (int i = 0; i < back->nkept; i++)
	{
		const Hold *hold = back->kept[i].hold;

		if (back->kept[i].returned == 0)
			continue;
		amount_add(&amount, hold->price, back->kept[i].returned);
		appendStringInfo(&lines, "%s{\"lineNo\": %d, \"productId\": ", lines.len > 0 ? ", " : "",
						 hold->line_no);
		json_append_string(&lines, hold->product_id);
		appendStringInfo(&lines,
						 ", \"vendorId\": \"%s\", \"quantity\": " INT64_FORMAT
						 ", \"unitPrice\": \"%s\"}",
						 hold->vendor_id, back->kept[i].returned, price_to_string(hold->price));
	}
	event_order_returned(events, &order->facts, back->return_id, back->restock,
						 amount_to_string(amount), lines.data);
	outbox_write(events);
}

/* ---------- the whole ---------- */

static void
lock_confirmed_order(Return *back, int64 order_id)
{
	back->settlement = settlement_lock(&order_id, 1, false);
	if (back->settlement->norders == 0)
		settlement_unknown_order(order_id);
	if (back->settlement->orders[0].status != ORDER_CONFIRMED)
		ereport(ERROR, (errcode(ERRCODE_OA_STATE),
						errmsg("order " INT64_FORMAT " is %s", order_id,
							   order_status_name(back->settlement->orders[0].status)),
						errdetail("Only units of a confirmed order can be returned.")));
}

static void
return_units(Return *back, Jsonb *lines)
{
	int64 units = 0;

	take_lines_back(back, lines);
	for (int i = 0; i < back->nkept; i++)
		units += back->kept[i].returned;
	if (units == 0)
		ereport(ERROR, (errcode(ERRCODE_OA_STATE),
						errmsg("order " INT64_FORMAT " has nothing left to return",
							   back->settlement->orders[0].facts.order_id),
						errdetail("What was confirmed can be returned once.")));
	back->return_id = nextval_internal(table_oid("return_id_seq"), false);
	settlement_touch_orders(back->settlement);
	if (back->restock)
		restock(back);
	store_returns(back);
	write_event(back);
}

/* The key's retention is over, but not the return's: ERROR unless it was of the same units. */
static void
require_same_units(Return *back, Jsonb *lines)
{
	bool is_same = back->restock == back->restocked;

	take_lines_back(back, lines);
	for (int i = 0; i < back->nkept; i++)
		is_same &= back->kept[i].returned == back->kept[i].returned_by_key;
	if (!is_same)
		idempotency_key_reused(back->key);
}

Datum
oa_return_order(PG_FUNCTION_ARGS)
{
	Return back = {.restock = PG_ARGISNULL(2) || PG_GETARG_BOOL(2)};
	Jsonb *lines = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	bool   is_repeated = false;

	begin_writing("return_order()");
	require_argument(fcinfo, 0, "order_id");
	if (lines != NULL && (!JB_ROOT_IS_ARRAY(lines) || JB_ROOT_IS_SCALAR(lines) ||
						  JB_ROOT_COUNT(lines) == 0 || JB_ROOT_COUNT(lines) > guc_max_lines))
		argument_error("lines",
					   psprintf("must be a JSON array of 1 to %d elements", guc_max_lines));
	back.key = id_argument(fcinfo, 3, "idempotency_key", KEY_CHARS_MAX);
	SPI_connect();
	lock_for_writing("order_return");
	if (back.key != NULL)
		is_repeated = !idempotency_claim_action(
			back.key, "return", PG_GETARG_INT64(0),
			psprintf("%d %s", back.restock,
					 lines ? JsonbToCString(NULL, &lines->root, VARSIZE(lines)) : "all"));
	lock_confirmed_order(&back, PG_GETARG_INT64(0));
	read_kept(&back);
	if (back.return_id == 0 && is_repeated)
		elog(ERROR, "the return of idempotency key \"%s\" does not exist", back.key);
	if (back.return_id == 0)
		return_units(&back, lines);
	else if (!is_repeated)
		require_same_units(&back, lines);
	SPI_finish();
	PG_RETURN_INT64(back.return_id);
}
