/*
 * feed_items.c
 *		The items of a feed: from JSON, or from arrays of text, to checked values.
 *
 * What is readable is applied, what is unreadable is not sold, and never is an old count
 * kept. Fields that are unknown to us are the vendor's own.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "feed/feed.h"
#include "outbox/events.h"
#include "store/check.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "store/json.h"

#define NUMBER_BYTES_MAX    40
#define EXPONENT_DIGITS_MAX 3

FeedPart *
feed_part_create(const char *vendor_id, TimestampTz as_of)
{
	FeedPart *part = palloc0(sizeof(FeedPart));

	part->vendor_id = vendor_id;
	part->as_of = as_of;
	part->events = event_batch_create(2);
	initStringInfo(&part->skipped);
	initStringInfo(&part->oversold);
	initStringInfo(&part->oversold_event);
	return part;
}

void
feed_skip(FeedPart *part, int index, const char *complaint)
{
	if (part->nskipped++ >= FEED_NOTES_MAX)
		return;
	appendStringInfo(&part->skipped,
					 "%s{\"index\": %d, \"error\": ", part->nskipped > 1 ? ", " : "", index);
	json_append_string(&part->skipped, complaint);
	appendStringInfoChar(&part->skipped, '}');
}

/* ---------- values ---------- */

/*
 * The text of a number as JSON writes them, without an exponent; NULL if it is
 * no number, or one beyond all bounds.
 */
static const char *
plain_number(const char *text)
{
	const char *p = text + (*text == '-');
	size_t      digits = strspn(p, "0123456789");

	if (digits == 0 || strlen(text) > NUMBER_BYTES_MAX)
		return NULL;
	p += digits;
	if (*p == '.')
	{
		digits = strspn(++p, "0123456789");
		if (digits == 0)
			return NULL;
		p += digits;
	}
	if (*p == '\0')
		return text;
	if (*p != 'e' && *p != 'E')
		return NULL;
	p += 1 + (p[1] == '+' || p[1] == '-');
	digits = strspn(p, "0123456789");
	if (digits == 0 || digits > EXPONENT_DIGITS_MAX || p[digits] != '\0')
		return NULL;
	return DatumGetCString(DirectFunctionCall1(
		numeric_out, DirectFunctionCall3(numeric_in, CStringGetDatum(text),
										 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1))));
}

/* Whatever is no text of a name becomes one: blanks for control characters, cut; NULL if nothing is
 * left. */
static char *
clean_name(const char *name)
{
	char *clean = pstrdup(name);
	char *end;

	for (char *c = clean; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			*c = ' ';
	}
	clean[pg_mbcharcliplen(clean, strlen(clean), FEED_NAME_CHARS_MAX)] = '\0';
	clean += strspn(clean, " ");
	for (end = clean + strlen(clean); end > clean && end[-1] == ' '; end--)
		;
	*end = '\0';
	return check_text_id(clean, strlen(clean), FEED_NAME_CHARS_MAX) == NULL ? clean : NULL;
}

/* Reads a price, rounded to four decimals: floats have noise behind them. */
static bool
read_price(const char *text, Price *price)
{
	const char *number = plain_number(text);
	Numeric     rounded;

	if (number == NULL || *number == '-')
		return false;
	if (price_from_text(number, price))
		return true;
	rounded = DatumGetNumeric(
		DirectFunctionCall2(numeric_round,
							DirectFunctionCall3(numeric_in, CStringGetDatum(number),
												ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)),
							Int32GetDatum(MONEY_SCALE_MAX)));
	return price_from_numeric(rounded, price);
}

/* A count below zero says that the vendor owes units: it has none. */
static bool
read_count(FeedPart *part, FeedItem *item, const char *quantity_field, const char *quantity)
{
	const char *number = quantity ? plain_number(quantity) : NULL;

	if (number == NULL || !text_to_whole(number, -ON_HAND_MAX, ON_HAND_MAX, &item->count))
		return false;
	if (item->count < 0)
	{
		feed_skip(part, item->index, psprintf("%s is negative: taken as 0", quantity_field));
		item->count = 0;
	}
	return true;
}

/*
 * What is readable is applied: a bad price or name is noted and left as it was, and the
 * count is taken all the same. Returns why the item says nothing of what there is, or NULL:
 * then nothing of it is sold. The field names are the vendor's.
 */
static char *
check_item(FeedPart *part, FeedItem *item, const char *id_field, const char *quantity_field,
		   const char *quantity, const char *price)
{
	char       *complaint = check_text_id(item->sku, strlen(item->sku), ID_CHARS_MAX);
	const char *name = item->name;

	if (complaint != NULL)
		return psprintf("%s %s", id_field, complaint);
	if (!read_count(part, item, quantity_field, quantity))
		return psprintf("%s must be a whole number from 0 to " INT64_FORMAT
						": nothing of it is sold",
						quantity_field, ON_HAND_MAX);
	item->has_price = price != NULL && read_price(price, &item->price);
	item->price_is_bad = price != NULL && !item->has_price;
	if (item->price_is_bad)
		feed_skip(part, item->index,
				  "price must be a number from 0 to below 10^11: left as it was");
	if (name != NULL && check_text_id(name, strlen(name), FEED_NAME_CHARS_MAX) != NULL)
		item->name = clean_name(name);
	return NULL;
}

/* Adds the item, or, if it has no SKU to go by, only reports it. */
static void
add_item(FeedPart *part, FeedItem *item, const char *complaint)
{
	if (complaint != NULL)
	{
		feed_skip(part, item->index, complaint);
		item->is_bad = true;
	}
	if (item->sku != NULL)
		part->items[part->nitems++] = *item;
}

/* ---------- order ---------- */

static int
compare_items(const void *a, const void *b)
{
	const FeedItem *left = a;
	const FeedItem *right = b;
	int             order = strcmp(left->sku, right->sku);

	if (order == 0)
		order = left->is_bad - right->is_bad;
	return order != 0 ? order : left->index - right->index;
}

/*
 * Sorts the items and leaves one a SKU, the first good one. If none is good, none is left:
 * what the vendor offers under that SKU is not offered any more.
 */
static void
sort_items(FeedPart *part)
{
	bool is_sorted = true;
	int  count = 0;

	for (int i = 1; i < part->nitems && is_sorted; i++)
		is_sorted = strcmp(part->items[i - 1].sku, part->items[i].sku) < 0;
	if (!is_sorted)
		qsort(part->items, part->nitems, sizeof(FeedItem), compare_items);
	for (int i = 0; i < part->nitems; i++)
	{
		if (part->items[i].is_bad)
			continue;
		if (count == 0 || strcmp(part->items[count - 1].sku, part->items[i].sku) != 0)
			part->items[count++] = part->items[i];
		else
			feed_skip(part, part->items[i].index,
					  psprintf("product \"%s\" is in the feed already", part->items[i].sku));
	}
	part->nitems = count;
}

static void
make_room(FeedPart *part, int nitems)
{
	part->items = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem) * Max(nitems, 1));
}

/* ---------- JSON ---------- */

static char *
number_text(const JsonbValue *value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
}

static char *
string_text(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* NULL if the item is good, else what is wrong with it. */
static char *
parse_item(FeedPart *part, JsonbContainer *object, FeedItem *item)
{
	JsonbValue  id;
	JsonbValue  count;
	JsonbValue  value;
	const char *id_field = json_member(object, "id", &id) ? "id" : "productId";
	const char *count_field = json_member(object, "quantity", &count) ? "quantity" : "stock";
	char       *price = NULL;

	if (*id_field == 'p' && !json_member(object, "productId", &id))
		return "id (or productId) is missing";
	if (id.type != jbvString)
		return psprintf("%s must be a string", id_field);
	if (*count_field == 's' && !json_member(object, "stock", &count))
		return "quantity (or stock) is missing";
	item->sku = string_text(&id);
	if (*item->sku == '\0')
		item->sku = NULL;
	if (json_member(object, "price", &value))
		price = value.type == jbvNumeric  ? number_text(&value)
				: value.type == jbvString ? string_text(&value)
										  : pstrdup("");
	if (json_member(object, "name", &value))
		item->name = value.type == jbvString ? string_text(&value) : NULL;
	if (item->sku == NULL)
		return psprintf("%s must be 1 to %d characters long", id_field, ID_CHARS_MAX);
	return check_item(part, item, id_field, count_field,
					  count.type == jbvNumeric ? number_text(&count) : NULL, price);
}

void
feed_items_from_jsonb(FeedPart *part, Jsonb *json)
{
	JsonWalk walk;

	make_room(part, JB_ROOT_COUNT(json));
	json_walk_begin(&walk, &json->root);
	while (json_walk_next(&walk))
	{
		FeedItem        item = {.index = part->total++};
		JsonbContainer *object = json_object_of(&walk.value);

		add_item(part, &item,
				 object == NULL ? "must be an object" : parse_item(part, object, &item));
	}
	sort_items(part);
}

/* ---------- arrays ---------- */

typedef struct TextArray
{
	Datum *values;
	bool  *nulls;
	int    count;
} TextArray;

static TextArray
take_apart(ArrayType *array)
{
	TextArray result;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of items must have one dimension")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &result.values, &result.nulls,
					  &result.count);
	return result;
}

static char *
element(const TextArray *array, int index)
{
	return array->nulls[index] ? NULL : TextDatumGetCString(array->values[index]);
}

void
feed_items_from_arrays(FeedPart *part, ArrayType *indexes, ArrayType *skus, ArrayType *names,
					   ArrayType *quantities, ArrayType *prices, ArrayType *complaints)
{
	TextArray sku = take_apart(skus);
	TextArray name = take_apart(names);
	TextArray quantity = take_apart(quantities);
	TextArray price = take_apart(prices);
	TextArray complaint = take_apart(complaints);
	int       nindexes = ArrayGetNItems(ARR_NDIM(indexes), ARR_DIMS(indexes));
	int32    *index = (int32 *) ARR_DATA_PTR(indexes);

	if (array_contains_nulls(indexes) || nindexes != sku.count || name.count != sku.count ||
		quantity.count != sku.count || price.count != sku.count || complaint.count != sku.count)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("arrays of items must be of one length")));
	make_room(part, sku.count);
	part->total = sku.count;
	for (int i = 0; i < sku.count; i++)
	{
		FeedItem    item = {.index = index[i], .sku = element(&sku, i), .name = element(&name, i)};
		const char *wrong = element(&complaint, i);

		if (wrong == NULL && item.sku == NULL)
			wrong = "id is missing";
		if (wrong == NULL && quantity.nulls[i])
			wrong = "quantity is missing";
		if (wrong == NULL)
			wrong = check_item(part, &item, "id", "quantity", element(&quantity, i),
							   element(&price, i));
		add_item(part, &item, wrong);
	}
	sort_items(part);
}
