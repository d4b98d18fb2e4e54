/*
 * feed_reader_item.c
 *		An item of a feed: its values as they were written, to what the database takes.
 */
#include <string.h>

#include "feed/item_id.h"
#include "feed/number.h"
#include "sync/feed_reader_state.h"

#define JSON_DECIMAL '.'

static const char *const rule_names[RULE_COUNT] = {
#define FEED_RULE_NAME(id, name, words) [RULE_##id] = #name,
	FEED_RULES(FEED_RULE_NAME)
#undef FEED_RULE_NAME
};

/* ---------- the id ---------- */

/* The length of a whole number without the decimals that programs put behind it: 17.0. */
static size_t
whole_length(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	size_t zeros = text[digits] == '.' ? strspn(text + digits + 1, "0") : 0;

	return digits > 0 && zeros > 0 && text[digits + 1 + zeros] == '\0' ? digits : strlen(text);
}

/* Sets the item's SKU; what is wrong with it, or RULE_COUNT. */
static FeedRule
read_id(Feed *feed, const Value *id, FeedItem *item)
{
	bool   is_number = id->kind == VALUE_NUMBER && feed->is_mapped;
	size_t length;

	if (id->kind == VALUE_NONE)
		return RULE_ID_MISSING;
	if (id->kind != VALUE_STRING && !is_number)
		return RULE_ID_UNREADABLE;
	if (item_id_is_rounded(id->text) || (is_number && strpbrk(id->text, "eE") != NULL))
		return RULE_ID_ROUNDED;
	length = is_number || feed->is_csv ? whole_length(id->text) : strlen(id->text);
	if (!item_id_is_text(id->text))
		return RULE_ID_UNREADABLE;
	item->sku = id->text[length] == '\0' ? id->text : feed_reader_keep_text(feed, id->text, length);
	return RULE_COUNT;
}

/* ---------- numbers ---------- */

static NumberReading
read_number(const Feed *feed, const Value *value, char plain[NUMBER_ROOM])
{
	/* a spreadsheet that shows a number so has lost its last digits */
	if (value->kind == VALUE_OTHER || (feed->is_csv && item_id_is_rounded(value->text)))
		return NUMBER_NONE;
	return number_read(value->text, value->kind == VALUE_NUMBER ? JSON_DECIMAL : feed->decimal,
					   plain);
}

static const char *
keep_number(Feed *feed, const Value *value, const char *plain)
{
	return strcmp(value->text, plain) == 0 ? value->text
										   : feed_reader_keep_text(feed, plain, strlen(plain));
}

static FeedRule
read_quantity(Feed *feed, const Value *quantity, FeedItem *item)
{
	char          plain[NUMBER_ROOM];
	int64_t       count;
	NumberReading reading;

	if (quantity->kind == VALUE_NONE)
		return RULE_QUANTITY_MISSING;
	reading = read_number(feed, quantity, plain);
	if (reading == NUMBER_AMBIGUOUS)
		return RULE_QUANTITY_AMBIGUOUS;
	if (reading != NUMBER_READ || !number_is_count(plain, &count))
		return RULE_QUANTITY_UNREADABLE;
	item->quantity = keep_number(feed, quantity, plain);
	return RULE_COUNT;
}

static void
read_price(Feed *feed, const Value *price, FeedItem *item)
{
	char          plain[NUMBER_ROOM];
	NumberReading reading;

	if (price->kind == VALUE_NONE)
		return;
	reading = read_number(feed, price, plain);
	if (reading == NUMBER_READ)
		item->price = keep_number(feed, price, plain);
	else
		item->price =
			rule_names[reading == NUMBER_AMBIGUOUS ? RULE_PRICE_AMBIGUOUS : RULE_PRICE_UNREADABLE];
}

/* ---------- the item ---------- */

const char *
feed_main_complaint(const Feed *feed)
{
	int most = 0;

	for (int rule = 1; rule < RULE_COUNT; rule++)
	{
		if (feed->refusals[rule] > feed->refusals[most])
			most = rule;
	}
	return feed->refusals[most] > 0 ? rule_names[most] : NULL;
}

/* An element of the items that is no object. */
void
feed_reader_refuse_element(Feed *feed)
{
	feed->refusals[RULE_NOT_AN_OBJECT]++;
	feed_reader_add_item(feed, &(FeedItem){.index = feed->next_index++,
										   .complaint = rule_names[RULE_NOT_AN_OBJECT]});
}

static const Value *
value_of(const Feed *feed, PathId path, PathId alternative)
{
	return &feed->values[feed->values[path].kind != VALUE_NONE ? path : alternative];
}

/* Makes an item of the values at hand. */
void
feed_reader_finish_item(Feed *feed)
{
	const Value *name = &feed->values[PATH_NAME];
	FeedItem     item = {.index = feed->next_index++};
	FeedRule     rule = read_id(feed, value_of(feed, PATH_ID, PATH_ID_ALT), &item);

	if (rule == RULE_COUNT && feed->row_is_shifted)
		rule = RULE_COLUMNS_SHIFTED;
	if (rule == RULE_COUNT)
		rule = read_quantity(feed, value_of(feed, PATH_QUANTITY, PATH_QUANTITY_ALT), &item);
	if (rule != RULE_COUNT)
	{
		feed->refusals[rule]++;
		item.complaint = rule_names[rule];
	}
	read_price(feed, &feed->values[PATH_PRICE], &item);
	if (name->kind != VALUE_NONE)
		item.name = name->kind == VALUE_STRING ? name->text : "";
	feed_reader_add_item(feed, &item);
	feed->row_is_shifted = false;
	memset(&feed->values[PATH_ID], 0, sizeof(Value) * (PATH_COUNT - PATH_ID));
}
