/*
 * catalog.c
 *		What a shop says of its vendors: names, feeds, buffers, what they call products.
 */

#include "postgres.h"

#include "feed/catalog.h"
#include "feed/feed.h"
#include "feed/mapping.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/json.h"
#include "store/plans.h"
#include "store/stock.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

OA_FUNCTION(oa_register_vendor);
OA_FUNCTION(oa_configure_vendor);
OA_FUNCTION(oa_accept_feed);
OA_FUNCTION(oa_map_product);
OA_FUNCTION(oa_map_products);

#define VENDOR_NAME_CHARS_MAX 500
#define URL_CHARS_MAX         2000
#define MAPPINGS_MAX          1000000

/* ---------- arguments ---------- */

char *
catalog_required_id(FunctionCallInfo fcinfo, int argument, const char *name, int max_chars)
{
	require_argument(fcinfo, argument, name);
	return id_argument(fcinfo, argument, name, max_chars);
}

void
catalog_pass_on(FunctionCallInfo fcinfo, int argument, Datum *value, char *null)
{
	*null = PG_ARGISNULL(argument) ? 'n' : ' ';
	*value = PG_ARGISNULL(argument) ? (Datum) 0 : PG_GETARG_DATUM(argument);
}

void
catalog_check_units(FunctionCallInfo fcinfo, int argument, const char *name, int64 min)
{
	if (!PG_ARGISNULL(argument) &&
		(PG_GETARG_INT64(argument) < min || PG_GETARG_INT64(argument) > ON_HAND_MAX))
		argument_error(
			name, psprintf("must be from " INT64_FORMAT " to " INT64_FORMAT, min, ON_HAND_MAX));
}

/* ---------- vendors ---------- */

/* What will be another thing with a vendor's next feed. */
typedef enum FeedChange
{
	FEED_IS_SAME,
	FEED_HAS_OTHER_PRODUCTS, /* counted as before */
	FEED_IS_ANOTHER          /* or is to be read otherwise */
} FeedChange;

/*
 * The next feed is pulled and looked at anew. If anything is another thing in it, one that is being
 * applied is not to be finished; and if it is another feed, the times of the last one say nothing
 * any more. The vendor, values[0], is locked.
 */
static void
forget_feed(Datum *values, FeedChange change)
{
	plan_execute(PLAN_PULL_ANEW, values, NULL, SPI_OK_UPDATE);
	if (change == FEED_IS_SAME)
		return;
	plan_execute(PLAN_SUPERSEDE_FEED, values, NULL, SPI_OK_UPDATE);
	if (!has_column("vendor", VENDOR_COLUMN_FEED_CONFIG_NO))
		return;
	plan_execute(PLAN_COUNT_CONFIG, values, NULL, SPI_OK_UPDATE);
	if (change == FEED_IS_ANOTHER)
		plan_execute(PLAN_FORGET_TIMES, values, NULL, SPI_OK_UPDATE);
}

/*
 * The host must be where it is looked for: what a slash or question mark in a password
 * cuts off would be shown as part of the path.
 */
static void
check_stock_url(const char *url)
{
	const char *authority;
	const char *host;
	size_t      length;

	if (url == NULL)
		return;
	if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
		argument_error("stock_url", "must begin with http:// or https://");
	authority = strstr(url, "://") + 3;
	length = strcspn(authority, "/?#");
	host = pnstrdup(authority, length);
	if (strrchr(host, '@') != NULL)
		host = strrchr(host, '@') + 1;
	if (*host == '[' && strchr(host, ']') != NULL)
		host = strchr(host, ']') + 1;
	else if (*host == '\0' || *host == ':')
		argument_error("stock_url", "must have a host");
	host += strcspn(host, ":");
	if (*host == ':' && strspn(host + 1, "0123456789") != strlen(host + 1))
		argument_error(
			"stock_url",
			"must have a port that is a number; what is special in a password is percent-encoded");
}

static bool
has_stock_url(Datum vendor_id, Datum stock_url, bool is_given)
{
	Datum values[2] = {vendor_id, stock_url};
	char  nulls[2] = {' ', is_given ? ' ' : 'n'};

	plan_execute(PLAN_HAS_URL, values, nulls, SPI_OK_SELECT);
	return SPI_processed > 0;
}

Datum
oa_register_vendor(PG_FUNCTION_ARGS)
{
	char *vendor_id = catalog_required_id(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	char *name = catalog_required_id(fcinfo, 1, "name", VENDOR_NAME_CHARS_MAX);
	char *stock_url = id_argument(fcinfo, 2, "stock_url", URL_CHARS_MAX);
	Datum values[4];
	char  nulls[4] = {' ', ' ', stock_url ? ' ' : 'n', ' '};
	bool  is_another;

	begin_writing("register_vendor()");
	if (!is_vendor_id(vendor_id, strlen(vendor_id)))
		argument_error("vendor_id", "must be 1 to 64 of A-Z a-z 0-9 _ -");
	check_stock_url(stock_url);

	SPI_connect();
	lock_for_writing("vendor");
	values[0] = CStringGetTextDatum(vendor_id);
	values[1] = CStringGetTextDatum(name);
	values[2] = stock_url ? CStringGetTextDatum(stock_url) : (Datum) 0;
	values[3] = Int32GetDatum(PG_ARGISNULL(3) ? 100 : PG_GETARG_INT32(3));
	is_another = !has_stock_url(values[0], values[2], stock_url != NULL);
	plan_execute(PLAN_REGISTER_VENDOR, values, nulls, SPI_OK_INSERT);
	forget_feed(values, is_another ? FEED_IS_ANOTHER : FEED_IS_SAME);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Whatever month it is added to. */
static bool
is_at_most_a_year(const Interval *interval)
{
	return interval->month >= 0 && interval->day >= 0 && interval->time >= 0 &&
		   interval->month <= 12 && interval->day <= 366 &&
		   interval->time <= INT64CONST(366) * USECS_PER_DAY;
}

static bool
is_nothing(const Interval *interval)
{
	return interval->month == 0 && interval->day == 0 && interval->time == 0;
}

/* When a feed of the vendor is not believed, or not any more. */
static void
limit_feeds(FunctionCallInfo fcinfo, Datum *values)
{
	char nulls[3] = {' '};

	if (!PG_ARGISNULL(8) && !is_at_most_a_year(PG_GETARG_INTERVAL_P(8)))
		argument_error("stale_after", "must be from nothing, which is for ever, to a year");
	if (!PG_ARGISNULL(9) && (PG_GETARG_INT32(9) < 0 || PG_GETARG_INT32(9) > 100))
		argument_error("drop_limit", "must be from 0 to 100 percent");
	catalog_pass_on(fcinfo, 8, &values[1], &nulls[1]);
	catalog_pass_on(fcinfo, 9, &values[2], &nulls[2]);
	plan_execute(PLAN_LIMIT_FEEDS, values, nulls, SPI_OK_UPDATE);
}

static void
check_amqp_user(FunctionCallInfo fcinfo, int argument)
{
	char *user = argument < PG_NARGS() ? text_argument(fcinfo, argument) : NULL;
	char *complaint;

	if (user == NULL || *user == '\0')
		return;
	complaint = check_text_id(user, strlen(user), KEY_CHARS_MAX);
	if (complaint != NULL)
		argument_error("amqp_user", complaint);
}

/* The roles that may answer for the vendor are these, and no others. They must be there: a name
 * that is misspelt would wait for whoever takes it. */
static void
set_logins(const char *vendor_id, ArrayType *logins)
{
	Datum  values[2] = {CStringGetTextDatum(vendor_id), PointerGetDatum(logins)};
	Datum *names;
	bool  *nulls;
	int    count;

	deconstruct_array(logins, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			argument_error("logins", "must not have a null in it");
		if (!OidIsValid(get_role_oid(NameStr(*DatumGetName(names[i])), true)))
			argument_error("logins", psprintf("must be roles: there is no role \"%s\"",
											  NameStr(*DatumGetName(names[i]))));
	}
	plan_execute(PLAN_FORGET_LOGINS, values, NULL, SPI_OK_DELETE);
	plan_execute(PLAN_ADD_LOGINS, values, NULL, SPI_OK_INSERT);
}

/* Units that are kept back from sale are in no lane. */
static void
fold_lanes_of_vendor(const char *vendor_id)
{
	Datum        values[1] = {CStringGetTextDatum(vendor_id)};
	const char **product_ids;
	const char **vendor_ids;
	int          count;

	if (!has_column("stock", STOCK_COLUMN_IN_LANES))
		return;
	plan_execute(PLAN_PRODUCTS_IN_LANES, values, NULL, SPI_OK_SELECT);
	count = (int) SPI_processed;
	product_ids = palloc(sizeof(char *) * Max(count, 1));
	vendor_ids = palloc(sizeof(char *) * Max(count, 1));
	for (int i = 0; i < count; i++)
	{
		product_ids[i] = spi_string(i, 1);
		vendor_ids[i] = vendor_id;
	}
	(void) stock_lock_rows(product_ids, vendor_ids, NULL, count, false);
}

Datum
oa_configure_vendor(PG_FUNCTION_ARGS)
{
	char *vendor_id = catalog_required_id(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	char *on_shortage = id_argument(fcinfo, 4, "on_shortage", 20);
	Datum values[6] = {CStringGetTextDatum(vendor_id)};
	char  nulls[6] = {' '};

	begin_writing("configure_vendor()");
	if (!PG_ARGISNULL(1) &&
		(!is_at_most_a_year(PG_GETARG_INTERVAL_P(1)) || is_nothing(PG_GETARG_INTERVAL_P(1))))
		argument_error("sync_interval", "must be longer than nothing and at most a year");
	if (!PG_ARGISNULL(2))
		mapping_check(PG_GETARG_JSONB_P(2));
	catalog_check_units(fcinfo, 3, "buffer", 0);
	if (on_shortage != NULL && strcmp(on_shortage, "keep") != 0 &&
		strcmp(on_shortage, "resource") != 0 && strcmp(on_shortage, "reject") != 0)
		argument_error("on_shortage", "must be keep, resource or reject");
	check_amqp_user(fcinfo, 6);
	for (int i = 1; i < 6; i++)
		catalog_pass_on(fcinfo, i, &values[i], &nulls[i]);

	SPI_connect();
	lock_for_writing("vendor", "feed_sync", "stock");
	plan_execute(PLAN_CONFIGURE_VENDOR, values, nulls, SPI_OK_UPDATE);
	if (SPI_processed == 0)
		feed_unknown_vendor(vendor_id);
	/* before any stock: a feed's part locks them so */
	forget_feed(values, PG_ARGISNULL(2) ? FEED_IS_SAME : FEED_IS_ANOTHER);
	if (!PG_ARGISNULL(3))
		fold_lanes_of_vendor(vendor_id);
	/* 1.0 had six arguments */
	if (PG_NARGS() > 6 && !PG_ARGISNULL(6))
	{
		values[1] = PG_GETARG_DATUM(6);
		plan_execute(PLAN_SET_AMQP_USER, values, NULL, SPI_OK_UPDATE);
	}
	if (PG_NARGS() > 7 && !PG_ARGISNULL(7))
		set_logins(vendor_id, PG_GETARG_ARRAYTYPE_P(7));
	if (PG_NARGS() > 9 && (!PG_ARGISNULL(8) || !PG_ARGISNULL(9)))
		limit_feeds(fcinfo, values);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
oa_accept_feed(PG_FUNCTION_ARGS)
{
	char *vendor_id = catalog_required_id(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	Datum values[1] = {CStringGetTextDatum(vendor_id)};

	begin_writing("accept_feed()");
	SPI_connect();
	plan_execute(PLAN_ACCEPT_FEED, values, NULL, SPI_OK_UPDATE);
	if (SPI_processed == 0)
		feed_unknown_vendor(vendor_id);
	SPI_finish();
	PG_RETURN_VOID();
}

/* ---------- what vendors call products ---------- */

/* Which of two elements has the lower text, NULL being lower than all; ties by their place. */
static int
compare_texts(const void *a, const void *b, void *context)
{
	const char **texts = context;
	int          left = *(const int *) a;
	int          right = *(const int *) b;
	int          order;

	if (texts[left] == NULL || texts[right] == NULL)
		order = (texts[left] != NULL) - (texts[right] != NULL);
	else
		order = strcmp(texts[left], texts[right]);
	return order != 0 ? order : left - right;
}

/* ERROR if a text is there twice. */
static void
check_distinct(const char **texts, int count, const char *member)
{
	int *order = palloc(sizeof(int) * Max(count, 1));

	for (int i = 0; i < count; i++)
		order[i] = i;
	qsort_arg(order, count, sizeof(int), compare_texts, texts);
	for (int i = 1; i < count; i++)
	{
		if (texts[order[i]] != NULL && texts[order[i - 1]] != NULL &&
			strcmp(texts[order[i]], texts[order[i - 1]]) == 0)
			argument_error(psprintf("mappings[%d].%s", order[i], member),
						   psprintf("\"%s\" is there already", texts[order[i]]));
	}
	pfree(order);
}

static void
write_mappings(const char *vendor_id, const char **skus, const char **product_ids, int count)
{
	Datum values[3] = {CStringGetTextDatum(vendor_id), text_array(skus, count),
					   text_array(product_ids, count)};

	lock_for_writing("vendor", "product_map");
	plan_execute(PLAN_LOCK_VENDOR, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		feed_unknown_vendor(vendor_id);
	/* the old ones first: two SKUs may swap their products */
	plan_execute(PLAN_UNMAP_PRODUCTS, values, NULL, SPI_OK_DELETE);
	plan_execute(PLAN_CLAIMED_PRODUCT, values, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
		ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
						errmsg("product \"%s\" of vendor \"%s\" is mapped from \"%s\" already",
							   spi_string(0, 1), vendor_id, spi_string(0, 2)),
						errdetail("One vendor offers a product under one SKU."),
						errhint("Map the other SKU to NULL first.")));
	plan_execute(PLAN_MAP_PRODUCTS, values, NULL, SPI_OK_INSERT);
	forget_feed(values, FEED_HAS_OTHER_PRODUCTS);
}

Datum
oa_map_product(PG_FUNCTION_ARGS)
{
	char       *vendor_id = catalog_required_id(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	const char *sku = catalog_required_id(fcinfo, 1, "vendor_sku", ID_CHARS_MAX);
	const char *product_id = id_argument(fcinfo, 2, "product_id", ID_CHARS_MAX);

	begin_writing("map_product()");
	SPI_connect();
	write_mappings(vendor_id, &sku, &product_id, 1);
	SPI_finish();
	PG_RETURN_VOID();
}

/* A string member of a mapping; NULL if it is null and may be. */
static char *
mapping_text(JsonbContainer *object, const char *key, bool may_be_null, int index)
{
	JsonbValue  value;
	const char *field = psprintf("mappings[%d].%s", index, key);
	char       *complaint;

	if (getKeyJsonValueFromContainer(object, key, strlen(key), &value) == NULL)
		argument_error(field, "is missing");
	if (may_be_null && value.type == jbvNull)
		return NULL;
	if (value.type != jbvString)
		argument_error(field, "must be a string");
	complaint = check_text_id(value.val.string.val, value.val.string.len, ID_CHARS_MAX);
	if (complaint != NULL)
		argument_error(field, complaint);
	return pnstrdup(value.val.string.val, value.val.string.len);
}

Datum
oa_map_products(PG_FUNCTION_ARGS)
{
	char        *vendor_id = catalog_required_id(fcinfo, 0, "vendor_id", ID_CHARS_MAX);
	Jsonb       *json;
	JsonWalk     walk;
	const char **skus;
	const char **product_ids;
	int          count = 0;

	begin_writing("map_products()");
	require_argument(fcinfo, 1, "mappings");
	json = PG_GETARG_JSONB_P(1);
	if (!json_is_array(json) || JB_ROOT_COUNT(json) > MAPPINGS_MAX)
		argument_error("mappings",
					   psprintf("must be a JSON array of at most %d elements", MAPPINGS_MAX));

	SPI_connect();
	skus = palloc(sizeof(char *) * Max(JB_ROOT_COUNT(json), 1));
	product_ids = palloc(sizeof(char *) * Max(JB_ROOT_COUNT(json), 1));
	json_walk_begin(&walk, &json->root);
	while (json_walk_next(&walk))
	{
		JsonbContainer *object = json_object_of(&walk.value);

		if (object == NULL)
			argument_error(psprintf("mappings[%d]", count), "must be an object");
		skus[count] = mapping_text(object, "vendorSku", false, count);
		product_ids[count] = mapping_text(object, "productId", true, count);
		count++;
	}
	check_distinct(skus, count, "vendorSku");
	check_distinct(product_ids, count, "productId");
	write_mappings(vendor_id, skus, product_ids, count);
	SPI_finish();
	PG_RETURN_INT32(count);
}
