/*
 * catalog_product.c
 *		What a shop says of its products: buffers, thresholds, lanes.
 */
#include "postgres.h"

#include "feed/catalog.h"
#include "feed/feed.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/lanes.h"
#include "store/plans.h"
#include "store/stock.h"
#include "store/symbols.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

OA_FUNCTION(oa_configure_product);

/*
 * lanes is of any type, so that a number and 'auto' may be given alike. Of a number all lanes are
 * there at once; 'auto' begins without any, and adds some where orders have to wait.
 */
static void
lanes_argument(FunctionCallInfo fcinfo, int argument, Datum *lanes, Datum *lanes_max)
{
	Oid   output;
	bool  is_varlena;
	char *text;
	char *end;
	long  count;

	getTypeOutputInfo(get_fn_expr_argtype(fcinfo->flinfo, argument), &output, &is_varlena);
	text = OidOutputFunctionCall(output, PG_GETARG_DATUM(argument));
	if (strcmp(text, "auto") == 0)
	{
		*lanes = Int64GetDatum(0);
		*lanes_max = Int64GetDatum(LANES_MAX_AUTO);
		return;
	}
	count = strtol(text, &end, 10);
	if (end == text || *end != '\0' || count < 0 || count > LANES_MAX)
		argument_error("lanes", psprintf("must be from 0 to %d, or auto", LANES_MAX));
	*lanes = *lanes_max = Int64GetDatum(count);
}

/* Locks the product's offers, or the vendor's, with all that their lanes have: what is kept back
 * from sale is never in a lane. */
static void
lock_offers(const char *product_id, const char *vendor_id)
{
	if (vendor_id == NULL)
		(void) stock_lock_offers(&product_id, 1, false);
	else
		(void) stock_lock_rows(&product_id, &vendor_id, NULL, 1, false);
}

Datum
oa_configure_product(PG_FUNCTION_ARGS)
{
	char *product_id = catalog_required_id(fcinfo, 0, "product_id", ID_CHARS_MAX);
	char *vendor_id = id_argument(fcinfo, 3, "vendor_id", ID_CHARS_MAX);
	bool  has_lanes = PG_NARGS() > 4 && !PG_ARGISNULL(4); /* 1.0 had four arguments */
	bool  locks = !PG_ARGISNULL(1) || !PG_ARGISNULL(2) || has_lanes;
	Datum values[5] = {CStringGetTextDatum(product_id)};
	char  nulls[5] = {' '};

	begin_writing("configure_product()");
	catalog_check_units(fcinfo, 1, "buffer", 0);
	catalog_check_units(fcinfo, 2, "low_threshold", -1);
	if (vendor_id != NULL && !PG_ARGISNULL(2))
		argument_error("low_threshold", "is of the whole product: leave vendor_id out");
	if (vendor_id != NULL && has_lanes)
		argument_error("lanes", "are of the whole product: leave vendor_id out");
	for (int i = 1; i < 4; i++)
		catalog_pass_on(fcinfo, i, &values[i], &nulls[i]);

	SPI_connect();
	if (locks)
		lock_offers(product_id, vendor_id);
	if (vendor_id == NULL)
	{
		plan_execute(PLAN_CONFIGURE_PRODUCT, values, nulls, SPI_OK_UPDATE);
		if (SPI_processed == 0)
			ereport(ERROR, (errcode(ERRCODE_OA_UNKNOWN_PRODUCT),
							errmsg("unknown product \"%s\"", product_id),
							errdetail("No vendor's feed has had it yet.")));
	}
	plan_execute(PLAN_CONFIGURE_STOCK, values, nulls, SPI_OK_UPDATE);
	if (vendor_id != NULL && SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_OA_UNKNOWN_PRODUCT),
						errmsg("vendor \"%s\" offers no product \"%s\"", vendor_id, product_id),
						errdetail("No feed of that vendor has had it yet.")));
	if (locks)
		lock_offers(product_id, vendor_id); /* with what a feed has added meanwhile */
	if (has_lanes)
	{
		lanes_argument(fcinfo, 4, &values[1], &values[2]);
		plan_execute(PLAN_FORGET_LANES, values, NULL, SPI_OK_DELETE);
		plan_execute(PLAN_SET_PRODUCT_LANES, values, NULL, SPI_OK_UPDATE);
		plan_execute(PLAN_SET_STOCK_LANES, values, NULL, SPI_OK_UPDATE);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
