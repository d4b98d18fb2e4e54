/*
 * feed_reader.c
 *		A feed taken apart as it arrives: its mapping, JSON or CSV, what is an item.
 *
 * JSON is walked by the paths of the mapping: of every open container it is
 * known which paths lead through it, as a bit each, so a value is looked at
 * once and kept only if a path ends there.
 */
#include "sync/feed_reader.h"

#include <jansson.h>
#include <string.h>

#include "sync/feed_reader_state.h"

/* ---------- memory ---------- */

bool
feed_reader_fail(Feed *feed, const char *why)
{
	if (feed->error[0] == '\0')
		snprintf(feed->error, sizeof(feed->error), "%s", why);
	return false;
}

/* A copy that lives as long as the feed; NULL, and the feed has failed, if memory is short. */
static const char *
keep_text(Feed *feed, const char *text, size_t bytes)
{
	char *kept;

	if (bytes + 1 > feed->block_left)
	{
		size_t room = bytes + 1 > BLOCK_BYTES ? bytes + 1 : BLOCK_BYTES;
		Block *block = malloc(sizeof(Block) + room);

		if (block == NULL)
		{
			feed_reader_fail(feed, "out of memory");
			return NULL;
		}
		block->next = feed->blocks;
		feed->blocks = block;
		feed->block_next = block->bytes;
		feed->block_left = room;
	}
	kept = feed->block_next;
	memcpy(kept, text, bytes);
	kept[bytes] = '\0';
	feed->block_next += bytes + 1;
	feed->block_left -= bytes + 1;
	return kept;
}

/* What the database would refuse to take as text: it would refuse the whole part of the feed with
 * it. */
static bool
is_storable(const char *text, size_t bytes)
{
	json_t *string;
	bool    is_ascii = true;

	for (size_t i = 0; i < bytes; i++)
	{
		if (text[i] == '\0')
			return false;
		is_ascii &= (unsigned char) text[i] < 0x80;
	}
	if (is_ascii)
		return true;
	string = json_stringn(text, bytes); /* NULL unless it is UTF-8 */
	json_decref(string);
	return string != NULL;
}

void
feed_reader_set_value(Feed *feed, PathId path, ValueKind kind, const char *text, size_t bytes)
{
	Value *value = &feed->values[path];

	*value = (Value){.kind = VALUE_OTHER};
	if (kind == VALUE_OTHER || !is_storable(text, bytes))
		return;
	value->text = keep_text(feed, text, bytes);
	if (value->text != NULL)
		value->kind = kind;
}

/* ---------- items ---------- */

void
feed_reader_add_item(Feed *feed, const FeedItem *item)
{
	feed->nnameless += item->sku == NULL;
	if (feed->nitems == feed->items_max)
	{
		feed_reader_fail(feed, "the feed has more items than FEED_ITEMS_MAX");
		return;
	}
	if (feed->nnameless > FEED_REPEATS_MAX)
	{
		feed_reader_fail(feed, "the feed has too many items without an id");
		return;
	}
	if (feed->nitems == feed->room)
	{
		size_t    room = feed->room ? feed->room * 2 : 1024;
		FeedItem *items = realloc(feed->items, room * sizeof(FeedItem));

		if (items == NULL)
		{
			feed_reader_fail(feed, "out of memory");
			return;
		}
		feed->items = items;
		feed->room = room;
	}
	if (item->sku == NULL ||
		(feed->nitems > 0 && (feed->items[feed->nitems - 1].sku == NULL ||
							  strcmp(feed->items[feed->nitems - 1].sku, item->sku) >= 0)))
		feed->is_sorted = false;
	feed->items[feed->nitems++] = *item;
}

/* What is wrong with a value's kind, or NULL. */
static const char *
check_kinds(const Feed *feed, const Value *id, const Value *quantity)
{
	const Value *name = &feed->values[PATH_NAME];
	const Value *price = &feed->values[PATH_PRICE];

	if (id->kind == VALUE_NONE)
		return feed->is_mapped ? "id is missing" : "id (or productId) is missing";
	if (id->kind != VALUE_STRING && !(feed->is_mapped && id->kind == VALUE_NUMBER))
		return feed->is_mapped ? "id must be a string or a number" : "id must be a string";
	if (quantity->kind == VALUE_NONE)
		return feed->is_mapped ? "quantity is missing" : "quantity (or stock) is missing";
	if (quantity->kind != VALUE_NUMBER &&
		!((feed->is_mapped || feed->is_csv) && quantity->kind == VALUE_STRING))
		return "quantity must be a number";
	if (price->kind == VALUE_OTHER)
		return "price must be a number";
	if (name->kind != VALUE_NONE && name->kind != VALUE_STRING)
		return "name must be a string";
	return NULL;
}

/* Makes an item of the values at hand. */
void
feed_reader_finish_item(Feed *feed)
{
	const Value *id =
		&feed->values[feed->values[PATH_ID].kind != VALUE_NONE ? PATH_ID : PATH_ID_ALT];
	const Value *quantity =
		&feed->values[feed->values[PATH_QUANTITY].kind != VALUE_NONE ? PATH_QUANTITY
																	 : PATH_QUANTITY_ALT];
	FeedItem item = {.index = feed->next_index++,
					 .complaint = check_kinds(feed, id, quantity),
					 .name = feed->values[PATH_NAME].text,
					 .quantity = quantity->text,
					 .price = feed->values[PATH_PRICE].text};

	if (id->kind == VALUE_STRING || (feed->is_mapped && id->kind == VALUE_NUMBER))
		item.sku = *id->text != '\0' ? id->text : NULL;
	if (item.sku == NULL && item.complaint == NULL)
		item.complaint = "id must not be empty";
	feed_reader_add_item(feed, &item);
	memset(&feed->values[PATH_ID], 0, sizeof(Value) * (PATH_COUNT - PATH_ID));
}

static int
compare_items(const void *a, const void *b)
{
	const FeedItem *left = a;
	const FeedItem *right = b;
	int             order = 0;

	if (left->sku == NULL || right->sku == NULL)
		order = (left->sku == NULL) - (right->sku == NULL);
	else
		order = strcmp(left->sku, right->sku);
	return order != 0 ? order : left->index - right->index;
}

const FeedItem *
feed_items(const Feed *feed, size_t *count)
{
	*count = feed->nitems;
	return feed->items;
}

const char *
feed_as_of(const Feed *feed)
{
	return feed->values[PATH_AS_OF].text;
}

const char *
feed_error(const Feed *feed)
{
	return feed->error;
}

/* ---------- the mapping ---------- */

static bool
set_path(Feed *feed, PathId id, const char *text)
{
	Path *path = &feed->paths[id];
	char *save = NULL;

	free(path->text);
	free(path->column);
	*path = (Path){.is_set = true, .text = strdup(text), .column = strdup(text)};
	if (path->text == NULL || path->column == NULL)
		return false;
	for (char *segment = strtok_r(path->text, ".", &save); segment != NULL;
		 segment = strtok_r(NULL, ".", &save))
	{
		if (strcmp(segment, "$") == 0 && path->nsegments == 0 &&
			(id == PATH_ITEMS || id == PATH_AS_OF))
			continue;
		if (path->nsegments == SEGMENTS_MAX)
			return false;
		path->segments[path->nsegments++] = segment;
	}
	return true;
}

static bool
set_default_paths(Feed *feed)
{
	return set_path(feed, PATH_ITEMS, "$") && set_path(feed, PATH_ID, "id") &&
		   set_path(feed, PATH_ID_ALT, "productId") && set_path(feed, PATH_QUANTITY, "quantity") &&
		   set_path(feed, PATH_QUANTITY_ALT, "stock") && set_path(feed, PATH_PRICE, "price") &&
		   set_path(feed, PATH_NAME, "name");
}

static bool
read_mapping(Feed *feed, const char *text)
{
	static const struct
	{
		const char *key;
		PathId      path;
		PathId      replaces; /* what else would be looked at */
	} members[] = {
		{"items", PATH_ITEMS, PATH_ITEMS}, {"asOf", PATH_AS_OF, PATH_AS_OF},
		{"id", PATH_ID, PATH_ID_ALT},      {"quantity", PATH_QUANTITY, PATH_QUANTITY_ALT},
		{"price", PATH_PRICE, PATH_PRICE}, {"name", PATH_NAME, PATH_NAME}};
	json_t     *mapping = json_loads(text, 0, NULL);
	bool        ok = json_is_object(mapping);
	const char *format = json_string_value(json_object_get(mapping, "format"));
	const char *delimiter = json_string_value(json_object_get(mapping, "delimiter"));

	for (size_t i = 0; ok && i < sizeof(members) / sizeof(members[0]); i++)
	{
		const char *value = json_string_value(json_object_get(mapping, members[i].key));

		if (value == NULL)
			continue;
		feed->paths[members[i].replaces].is_set = false;
		ok = set_path(feed, members[i].path, value);
	}
	if (format != NULL)
		feed->is_csv = strcmp(format, "csv") == 0;
	if (delimiter != NULL)
		feed->delimiter = *delimiter;
	feed->is_mapped = true;
	json_decref(mapping);
	return ok;
}

/* ---------- the whole ---------- */

Feed *
feed_create(const char *mapping, bool is_csv, int items_max)
{
	Feed *feed = calloc(1, sizeof(Feed));
	bool  ok = feed != NULL;

	if (ok)
	{
		feed->is_csv = is_csv;
		feed->delimiter = ',';
		feed->items_max = (size_t) items_max;
		feed->is_sorted = true;
		feed->items_level = -1;
	}
	ok = ok && set_default_paths(feed) && (mapping == NULL || read_mapping(feed, mapping));
	if (ok && feed->is_csv)
	{
		ok = feed->csv_open = csv_init(&feed->csv, 0) == 0;
		csv_set_delim(&feed->csv, (unsigned char) feed->delimiter);
	}
	else if (ok)
		ok = (feed->json = yajl_alloc(&feed_reader_json_callbacks, NULL, feed)) != NULL;
	if (ok)
		return feed;
	feed_free(feed);
	return NULL;
}

void
feed_free(Feed *feed)
{
	if (feed == NULL)
		return;
	while (feed->blocks != NULL)
	{
		Block *next = feed->blocks->next;

		free(feed->blocks);
		feed->blocks = next;
	}
	for (PathId path = 0; path < PATH_COUNT; path++)
	{
		free(feed->paths[path].text);
		free(feed->paths[path].column);
	}
	if (feed->json != NULL)
		yajl_free(feed->json);
	if (feed->csv_open)
		csv_free(&feed->csv);
	free(feed->items);
	free(feed);
}

static bool
parse(Feed *feed, const char *data, size_t bytes)
{
	if (feed->error[0] != '\0')
		return false;
	if (!feed->is_csv)
		return feed_reader_check_json(
			feed, yajl_parse(feed->json, (const unsigned char *) data, bytes), data, bytes);
	if (csv_parse(&feed->csv, data, bytes, feed_reader_on_csv_field, feed_reader_on_csv_row,
				  feed) != bytes)
		return feed_reader_fail(feed, csv_strerror(csv_error(&feed->csv)));
	return feed->error[0] == '\0';
}

/* Some files begin with a byte order mark, which is passed over. */
bool
feed_add(Feed *feed, const char *data, size_t bytes)
{
	static const char mark[MARK_BYTES] = {'\xef', '\xbb', '\xbf'};
	int               seen;

	while (feed->mark < MARK_BYTES && bytes > 0 && *data == mark[feed->mark])
	{
		feed->mark++;
		data++;
		bytes--;
	}
	if (bytes == 0)
		return feed->error[0] == '\0';
	if (feed->mark < MARK_BYTES)
	{
		/* it was none: what looked like one is text */
		seen = feed->mark;
		feed->mark = MARK_BYTES;
		if (seen > 0 && !parse(feed, mark, (size_t) seen))
			return false;
	}
	return parse(feed, data, bytes);
}

static bool
check_repeats(Feed *feed)
{
	for (size_t i = FEED_REPEATS_MAX; i < feed->nitems; i++)
	{
		const char *first = feed->items[i - FEED_REPEATS_MAX].sku;

		if (feed->items[i].sku != NULL && strcmp(first, feed->items[i].sku) == 0)
			return feed_reader_fail(feed, "the feed has one id too many times");
	}
	return true;
}

bool
feed_finish(Feed *feed)
{
	if (feed->error[0] != '\0')
		return false;
	if (feed->is_csv)
	{
		/* strict only here: a quote within a field is common, an open one at the end has swallowed
		 * rows */
		(void) csv_set_opts(&feed->csv, CSV_STRICT | CSV_STRICT_FINI);
		if (csv_fini(&feed->csv, feed_reader_on_csv_field, feed_reader_on_csv_row, feed) != 0)
			return feed_reader_fail(feed, "the CSV ends within quotes");
		if (!feed->header_seen)
			return feed_reader_fail(feed, "the CSV is empty");
	}
	else if (!feed_reader_check_json(feed, yajl_complete_parse(feed->json), "", 0))
		return false;
	else if (!feed->items_seen)
		return feed_reader_fail(feed, "there is no array where the items should be");
	if (feed->error[0] != '\0')
		return false;
	if (feed->values[PATH_AS_OF].kind == VALUE_OTHER ||
		(feed->values[PATH_AS_OF].text != NULL &&
		 strlen(feed->values[PATH_AS_OF].text) > TIME_BYTES_MAX))
		return feed_reader_fail(feed, "the feed's time is no time");
	if (!feed->is_sorted)
		qsort(feed->items, feed->nitems, sizeof(FeedItem), compare_items);
	return feed->is_sorted || check_repeats(feed);
}
