/*
 * feed_items.c
 *		The items of a feed: from JSON, or from arrays of text, to checked values.
 *
 * What is readable is applied, what is unreadable is not sold, and never is an old count
 * kept. Fields that are unknown to us are the vendor's own. Numbers of JSON are read as JSON
 * has them, texts by the vendor's mapping (number.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "feed/feed.h"
#include "feed/item_id.h"
#include "feed/number.h"
#include "outbox/events.h"
#include "store/check.h"
#include "store/json.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define JSON_DECIMAL '.'

StaticAssertDecl(ITEM_ID_CHARS_MAX == ID_CHARS_MAX, "a SKU may be a product's id");
StaticAssertDecl(COUNT_MAX == ON_HAND_MAX, "what a feed may tell is what a stock row may have");

/* ---------- rules ---------- */

static const struct
{
	const char *name;
	const char *words; /* NULL: counted only */
} rules[RULE_COUNT] = {
#define FEED_RULE_TEXT(id, name, words) [RULE_##id] = {#name, words},
	FEED_RULES(FEED_RULE_TEXT)
#undef FEED_RULE_TEXT
};

FeedPart *
feed_part_create(const char *vendor_id, TimestampTz as_of, ValueRules values)
{
	FeedPart *part = palloc0(sizeof(FeedPart));

	part->vendor_id = vendor_id;
	part->as_of = as_of;
	part->values = values;
	part->events = event_batch_create(2);
	initStringInfo(&part->skipped);
	initStringInfo(&part->oversold);
	initStringInfo(&part->oversold_event);
	return part;
}

ValueRules
value_rules(const char *decimal, const char *repeated)
{
	ValueRules values = {.decimal = decimal ? *decimal : 0, .repeated = REPEAT_FIRST};

	if (repeated != NULL && strcmp(repeated, "last") == 0)
		values.repeated = REPEAT_LAST;
	else if (repeated != NULL && strcmp(repeated, "sum") == 0)
		values.repeated = REPEAT_SUM;
	return values;
}

void
feed_note(FeedPart *part, const FeedItem *item, FeedRule rule, const char *detail)
{
	const char *words = detail ? detail : rules[rule].words;

	part->rules[rule]++;
	if (words == NULL || part->nskipped++ >= FEED_NOTES_MAX)
		return;
	appendStringInfo(&part->skipped, "%s{\"index\": %d, \"rule\": \"%s\"",
					 part->nskipped > 1 ? ", " : "", item->index, rules[rule].name);
	if (item->sku != NULL)
	{
		appendStringInfoString(&part->skipped, ", \"id\": ");
		json_append_string(&part->skipped, item->sku);
	}
	appendStringInfoString(&part->skipped, ", \"error\": ");
	json_append_string(&part->skipped, words);
	appendStringInfoChar(&part->skipped, '}');
}

char *
feed_rules_json(const FeedPart *part)
{
	StringInfoData json;

	initStringInfo(&json);
	for (int rule = 0; rule < RULE_COUNT; rule++)
	{
		if (part->rules[rule] > 0)
			appendStringInfo(&json, "%s\"%s\": %d", json.len > 0 ? ", " : "", rules[rule].name,
							 part->rules[rule]);
	}
	return json.len > 0 ? psprintf("{%s}", json.data) : NULL;
}

const char *
feed_main_complaint(const FeedPart *part)
{
	int most = 0;

	for (int rule = 1; rule < FEED_RULE_REFUSALS; rule++)
	{
		if (part->rules[rule] > part->rules[most])
			most = rule;
	}
	return part->rules[most] > 0 ? rules[most].name : NULL;
}

/* The item says nothing of what there is: nothing of it is sold. */
static void
refuse_item(FeedPart *part, FeedItem *item, FeedRule rule, const char *detail)
{
	feed_note(part, item, rule, detail);
	item->is_bad = true;
	part->nunreadable++;
}

/* ---------- values ---------- */

/* Whatever is no text of a name becomes one: blanks for control characters, cut; NULL if nothing is
 * left. */
static char *
clean_name(const char *name)
{
	bool  is_utf8 = GetDatabaseEncoding() == PG_UTF8;
	char *clean = pstrdup(name);
	char *end;

	for (char *c = clean; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			*c = ' ';
		else if (is_utf8 && memcmp(c, "\xc2", 1) == 0 && (unsigned char) c[1] < 0xa0)
			memset(c, ' ', 2); /* U+0080 to U+009F */
	}
	clean[pg_mbcharcliplen(clean, strlen(clean), FEED_NAME_CHARS_MAX)] = '\0';
	clean += strspn(clean, " ");
	for (end = clean + strlen(clean); end > clean && end[-1] == ' '; end--)
		;
	*end = '\0';
	return check_text_id(clean, strlen(clean), FEED_NAME_CHARS_MAX) == NULL ? clean : NULL;
}

static void
read_name(FeedPart *part, FeedItem *item)
{
	if (item->name == NULL ||
		check_text_id(item->name, strlen(item->name), FEED_NAME_CHARS_MAX) == NULL)
		return;
	item->name = clean_name(item->name);
	feed_note(part, item, item->name != NULL ? RULE_NAME_CLEANED : RULE_NAME_UNREADABLE, NULL);
}

/* Reads a price, rounded to four decimals: floats have noise behind them. */
static bool
price_of_plain(FeedPart *part, FeedItem *item, const char *plain)
{
	Numeric rounded;

	if (*plain == '-')
		return false;
	if (price_from_text(plain, &item->price))
		return true;
	rounded = DatumGetNumeric(
		DirectFunctionCall2(numeric_round,
							DirectFunctionCall3(numeric_in, CStringGetDatum(plain),
												ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)),
							Int32GetDatum(MONEY_SCALE_MAX)));
	/* what is next to nothing is not nothing */
	if (!price_from_numeric(rounded, &item->price) || item->price.amount == 0)
		return false;
	feed_note(part, item, RULE_PRICE_ROUNDED, NULL);
	return true;
}

static void
read_price(FeedPart *part, FeedItem *item, const char *price, char decimal)
{
	char          plain[NUMBER_ROOM];
	NumberReading reading;

	if (price == NULL)
		return;
	/* whoever took the feed apart may have found it so */
	reading = strcmp(price, rules[RULE_PRICE_AMBIGUOUS].name) == 0
				  ? NUMBER_AMBIGUOUS
				  : number_read(price, decimal, plain);
	item->has_price = reading == NUMBER_READ && price_of_plain(part, item, plain);
	item->price_is_bad = !item->has_price;
	if (item->price_is_bad)
		feed_note(part, item,
				  reading == NUMBER_AMBIGUOUS ? RULE_PRICE_AMBIGUOUS : RULE_PRICE_UNREADABLE, NULL);
}

/* A count below zero says that the vendor owes units: it has none. */
static bool
read_count(FeedPart *part, FeedItem *item, const char *quantity, char decimal)
{
	char          plain[NUMBER_ROOM];
	NumberReading reading = number_read(quantity, decimal, plain);

	if (reading != NUMBER_READ || !number_is_count(plain, &item->count))
	{
		refuse_item(
			part, item,
			reading == NUMBER_AMBIGUOUS ? RULE_QUANTITY_AMBIGUOUS : RULE_QUANTITY_UNREADABLE, NULL);
		return false;
	}
	if (item->count < 0)
	{
		feed_note(part, item, RULE_QUANTITY_NEGATIVE, NULL);
		item->count = 0;
	}
	return true;
}

/* An item's values as they were written; NULL: not given. The marks are those of their decimals. */
typedef struct Written
{
	const char *quantity;
	const char *price;
	char        quantity_decimal;
	char        price_decimal;
} Written;

/*
 * What is readable is applied: a bad price or name is noted and left as it was, and the
 * count is taken all the same. Adds the item, or, if it has no SKU to go by, only notes it.
 */
static void
add_item(FeedPart *part, FeedItem *item, const Written *written)
{
	if (item_id_is_rounded(item->sku))
		refuse_item(part, item, RULE_ID_ROUNDED, NULL);
	else if (!item_id_is_text(item->sku))
		refuse_item(part, item, RULE_ID_UNREADABLE, NULL);
	else if (written->quantity == NULL)
		refuse_item(part, item, RULE_QUANTITY_MISSING, NULL);
	else if (read_count(part, item, written->quantity, written->quantity_decimal))
	{
		read_price(part, item, written->price, written->price_decimal);
		read_name(part, item);
	}
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

/* The highest price that any of them has. */
static void
take_higher_price(FeedItem *item, const FeedItem *other)
{
	item->price_is_bad |= other->price_is_bad;
	if (!other->has_price)
		return;
	if (!item->has_price || other->price.amount > item->price.amount)
		item->price = other->price;
	item->has_price = true;
}

/* Puts a further good row of the same SKU to the one that is kept. */
static void
repeat_item(FeedPart *part, FeedItem *kept, const FeedItem *again)
{
	static const FeedRule notes[] = {[REPEAT_FIRST] = RULE_REPEATED_FIRST,
									 [REPEAT_LAST] = RULE_REPEATED_LAST,
									 [REPEAT_SUM] = RULE_REPEATED_SUM};

	feed_note(part, part->values.repeated == REPEAT_LAST ? kept : again,
			  notes[part->values.repeated], NULL);
	if (part->values.repeated == REPEAT_LAST)
		*kept = *again;
	else if (part->values.repeated == REPEAT_SUM)
	{
		kept->count = Min(kept->count + again->count, ON_HAND_MAX);
		take_higher_price(kept, again);
	}
}

/*
 * Sorts the items and leaves one a SKU, by the vendor's rule for several. If none is good, none is
 * left: what the vendor offers under that SKU is not offered any more.
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
		if (part->skus != NULL &&
			(i == 0 || strcmp(part->skus[part->nskus - 1], part->items[i].sku) != 0))
			part->skus[part->nskus++] = part->items[i].sku;
		if (part->items[i].is_bad)
			continue;
		if (count == 0 || strcmp(part->items[count - 1].sku, part->items[i].sku) != 0)
			part->items[count++] = part->items[i];
		else
			repeat_item(part, &part->items[count - 1], &part->items[i]);
	}
	part->nitems = count;
}

static void
make_room(FeedPart *part, int nitems)
{
	part->items = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(FeedItem) * Max(nitems, 1));
}

/* ---------- JSON ---------- */

/* The text of a number or string, and the mark of its decimals; "" of anything else. */
static const char *
value_text(const FeedPart *part, const JsonbValue *value, char *decimal)
{
	*decimal = JSON_DECIMAL;
	if (value->type == jbvNumeric)
		return numeric_text(value->val.numeric);
	*decimal = part->values.decimal;
	return value->type == jbvString ? pnstrdup(value->val.string.val, value->val.string.len) : "";
}

/* null and an empty text are as if they were not given. */
static bool
is_given(const JsonbValue *value)
{
	return value->type != jbvNull && (value->type != jbvString || value->val.string.len > 0);
}

/* A member by its name or the other one that DESIGN fixes. */
static bool
find_member(JsonbContainer *object, const char *name, const char *other, JsonbValue *value)
{
	return (json_member(object, name, value) && is_given(value)) ||
		   (other != NULL && json_member(object, other, value) && is_given(value));
}

static void
parse_item(FeedPart *part, JsonbContainer *object, FeedItem *item)
{
	Written    written = {.quantity = NULL};
	JsonbValue value;

	if (!find_member(object, "id", "productId", &value))
	{
		refuse_item(part, item, RULE_ID_MISSING, NULL);
		return;
	}
	if (value.type != jbvString)
	{
		refuse_item(part, item, RULE_ID_UNREADABLE, NULL);
		return;
	}
	item->sku = pnstrdup(value.val.string.val, value.val.string.len);
	if (find_member(object, "quantity", "stock", &value))
		written.quantity = value_text(part, &value, &written.quantity_decimal);
	if (find_member(object, "price", NULL, &value))
		written.price = value_text(part, &value, &written.price_decimal);
	if (find_member(object, "name", NULL, &value))
	{
		if (value.type == jbvString)
			item->name = pnstrdup(value.val.string.val, value.val.string.len);
		else
			feed_note(part, item, RULE_NAME_UNREADABLE, NULL);
	}
	add_item(part, item, &written);
}

void
feed_items_from_jsonb(FeedPart *part, Jsonb *json)
{
	JsonWalk walk;

	make_room(part, JB_ROOT_COUNT(json));
	part->skus =
		MemoryContextAllocHuge(CurrentMemoryContext, sizeof(char *) * Max(JB_ROOT_COUNT(json), 1));
	json_walk_begin(&walk, &json->root);
	while (json_walk_next(&walk))
	{
		FeedItem        item = {.index = part->total++};
		JsonbContainer *object = json_object_of(&walk.value);

		if (object == NULL)
			refuse_item(part, &item, RULE_NOT_AN_OBJECT, NULL);
		else
			parse_item(part, object, &item);
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
		argument_error("skus", "and the other arrays must have one dimension");
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &result.values, &result.nulls,
					  &result.count);
	return result;
}

static char *
element(const TextArray *array, int index)
{
	return array->nulls[index] ? NULL : TextDatumGetCString(array->values[index]);
}

/* The rule of that name; RULE_NOT_AN_OBJECT if there is none: then it is words. */
static FeedRule
rule_by_name(const char *name)
{
	for (int rule = 0; rule < RULE_COUNT; rule++)
	{
		if (strcmp(rules[rule].name, name) == 0)
			return rule;
	}
	return RULE_NOT_AN_OBJECT;
}

/* Whoever took the feed apart complains of the item: it says nothing of what there is. */
static void
add_refused_item(FeedPart *part, FeedItem *item, const char *complaint)
{
	FeedRule rule = rule_by_name(complaint);

	refuse_item(part, item, rule, strcmp(rules[rule].name, complaint) == 0 ? NULL : complaint);
	if (item->sku != NULL)
		part->items[part->nitems++] = *item;
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
		argument_error("skus", "and the other arrays must be of one length, without NULL");
	make_room(part, sku.count);
	part->total = sku.count;
	for (int i = 0; i < sku.count; i++)
	{
		FeedItem item = {.index = index[i], .sku = element(&sku, i), .name = element(&name, i)};
		Written  written = {element(&quantity, i), element(&price, i), JSON_DECIMAL, JSON_DECIMAL};

		if (!complaint.nulls[i])
			add_refused_item(part, &item, element(&complaint, i));
		else if (item.sku == NULL)
			refuse_item(part, &item, RULE_ID_MISSING, NULL);
		else
			add_item(part, &item, &written);
	}
	sort_items(part);
}
