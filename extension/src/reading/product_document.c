/*
 * product_document.c
 *		product_documents(): products as GET /products/{id} shows them, their offers added up.
 *
 * What the views product_stock and vendor_offer show, by index lookups.
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "reading/documents.h"
#include "store/rows.h"
#include "store/settings.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

OA_FUNCTION(oa_product_documents);

typedef struct ProductReader
{
	RowScan     products;
	RowScan     stock;
	RowScan     vendors;
	RowScan     lanes;
	TimestampTz now;
} ProductReader;

typedef struct Totals
{
	int64 available;
	int64 on_hand;
	int64 reserved;
	Datum lowest_price; /* of what is available */
	bool  has_price;
} Totals;

/* What the row has reserved, and its lanes have. */
static int64
reserved_of(ProductReader *reader, TupleTableSlot *offer)
{
	int64 reserved = DatumGetInt64(row_column(offer, STOCK_COLUMN_RESERVED));

	if (row_int64(offer, STOCK_COLUMN_IN_LANES, 0) == 0)
		return reserved;
	row_scan_find_texts(&reader->lanes, row_text(offer, STOCK_COLUMN_PRODUCT_ID),
						row_text(offer, STOCK_COLUMN_VENDOR_ID));
	while (row_scan_next(&reader->lanes) != NULL)
		reserved += DatumGetInt64(row_column(reader->lanes.found, STOCK_LANE_COLUMN_RESERVED));
	return reserved;
}

static void
add_price(Totals *totals, Datum price)
{
	if (!totals->has_price ||
		DatumGetInt32(DirectFunctionCall2(numeric_cmp, price, totals->lowest_price)) < 0)
		totals->lowest_price = price;
	totals->has_price = true;
}

/* An offer of a vendor that is there; a row without one is what check_consistency() reports. */
static void
write_offer(ProductReader *reader, TupleTableSlot *offer, StringInfo json, bool *is_first,
			Totals *totals)
{
	TupleTableSlot *vendor;
	char           *vendor_id = row_text(offer, STOCK_COLUMN_VENDOR_ID);
	int64           on_hand = DatumGetInt64(row_column(offer, STOCK_COLUMN_ON_HAND));
	int64           reserved = reserved_of(reader, offer);
	bool            is_priced = row_bool(offer, STOCK_COLUMN_IS_PRICED, true);
	Datum price = NumericGetDatum(DatumGetNumericCopy(row_column(offer, STOCK_COLUMN_PRICE)));
	int64 buffer;
	int64 available = 0;
	bool  is_active;

	row_scan_find_text(&reader->vendors, vendor_id);
	if ((vendor = row_scan_next(&reader->vendors)) == NULL)
		return;
	is_active = DatumGetBool(row_column(offer, STOCK_COLUMN_IS_ACTIVE)) &&
				DatumGetBool(row_column(vendor, VENDOR_COLUMN_IS_ACTIVE));
	buffer = Max(DatumGetInt64(row_column(offer, STOCK_COLUMN_BUFFER)),
				 DatumGetInt64(row_column(vendor, VENDOR_COLUMN_BUFFER)));
	if (is_active && row_int64(vendor, VENDOR_COLUMN_STALE_AT, PG_INT64_MAX) > reader->now &&
		(is_priced || guc_sell_unpriced))
		available = Max(0, on_hand - reserved - buffer);
	totals->available += available;
	totals->on_hand += on_hand;
	totals->reserved += reserved;
	if (is_priced && available > 0)
		add_price(totals, price);

	document_next(json, is_first);
	document_string(json, "vendorId", vendor_id);
	document_decimal(json, "price", price, !is_priced);
	document_bool(json, "isPriced", is_priced);
	document_time_column(json, "confirmedAt", vendor, VENDOR_COLUMN_CONFIRMED_AT);
	document_int64(json, "available", available);
	document_int64(json, "onHand", on_hand);
	document_int64(json, "reserved", reserved);
	document_bool(json, "isActive", is_active);
	appendStringInfoChar(json, '}');
}

static bool
write_product(void *work, Datum key, StringInfo json)
{
	ProductReader  *reader = work;
	char           *product_id = TextDatumGetCString(key);
	Totals          totals = {0};
	bool            is_first = true;
	StringInfoData  offers;
	TupleTableSlot *product;

	row_scan_find_text(&reader->products, product_id);
	if ((product = row_scan_next(&reader->products)) == NULL)
		return false;
	initStringInfo(&offers);
	row_scan_find_text(&reader->stock, product_id);
	while (row_scan_next(&reader->stock) != NULL)
		write_offer(reader, reader->stock.found, &offers, &is_first, &totals);
	if (is_first)
		return false;
	appendStringInfoChar(json, '{');
	document_string(json, "id", product_id);
	document_text_column(json, "name", product, PRODUCT_COLUMN_NAME);
	document_int64(json, "available", totals.available);
	document_int64(json, "onHand", totals.on_hand);
	document_int64(json, "reserved", totals.reserved);
	document_decimal(json, "lowestPrice", totals.lowest_price, !totals.has_price);
	appendStringInfo(json, ", \"offers\": [%s]}", offers.data);
	return true;
}

Datum
oa_product_documents(PG_FUNCTION_ARGS)
{
	ProductReader reader = {.now = GetCurrentTransactionStartTimestamp()};

	InitMaterializedSRF(fcinfo, 0);
	row_scan_begin(&reader.products, "product", NULL, AccessShareLock);
	row_scan_begin(&reader.stock, "stock", NULL, AccessShareLock);
	row_scan_begin(&reader.vendors, "vendor", NULL, AccessShareLock);
	row_scan_begin(&reader.lanes, "stock_lane", NULL, AccessShareLock);
	documents_return(fcinfo, write_product, &reader);
	row_scan_end(&reader.lanes);
	row_scan_end(&reader.vendors);
	row_scan_end(&reader.stock);
	row_scan_end(&reader.products);
	return (Datum) 0;
}
