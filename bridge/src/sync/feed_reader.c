/*
 * feed.c
 *		A vendor's feed, taken apart as it arrives: JSON by yajl, CSV by libcsv.
 *
 * JSON is walked by the paths of the mapping: of every open container it is
 * known which paths lead through it, as a bit each, so a value is looked at
 * once and kept only if a path ends there.
 */
#include "sync/feed_reader.h"

#include <csv.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

#define DEPTH_MAX        64
#define SEGMENTS_MAX     16
#define BLOCK_BYTES      65536
#define CSV_COLUMNS_MAX  1000
#define ERROR_BYTES_MAX  256
#define NUMBER_BYTES_MAX 40
#define MARK_BYTES       3
#define TIME_BYTES_MAX   64

/* Where to look: two from the top of the feed, the others from an item. */
typedef enum PathId
{
	PATH_ITEMS,
	PATH_AS_OF,
	PATH_ID,
	PATH_ID_ALT,
	PATH_QUANTITY,
	PATH_QUANTITY_ALT,
	PATH_PRICE,
	PATH_NAME,
	PATH_COUNT
} PathId;

#define TOP_PATHS  ((1u << PATH_ITEMS) | (1u << PATH_AS_OF))
#define ITEM_PATHS (((1u << PATH_COUNT) - 1) & ~TOP_PATHS)

typedef struct Path
{
	bool  is_set;
	char *text;   /* with its dots replaced by ends of string */
	char *column; /* as it was: the name of a CSV column */
	char *segments[SEGMENTS_MAX];
	int   nsegments;
} Path;

typedef enum ValueKind
{
	VALUE_NONE,
	VALUE_STRING,
	VALUE_NUMBER,
	VALUE_OTHER
} ValueKind;

typedef struct Value
{
	ValueKind   kind;
	const char *text; /* of a string or number */
} Value;

/* One open container. */
typedef struct Level
{
	bool     is_array;
	unsigned paths; /* those that lead through it */
	int      depth; /* how many of their segments do */
	unsigned key;   /* those of them that the current key goes on with */
} Level;

/* Texts are cut from blocks, which are freed together. */
typedef struct Block
{
	struct Block *next;
	char          bytes[];
} Block;

struct Feed
{
	Path paths[PATH_COUNT];
	bool is_mapped;
	bool is_csv;
	char delimiter;
	char error[ERROR_BYTES_MAX];
	int  mark; /* how many bytes of a byte order mark were seen; MARK_BYTES: the text has begun */

	yajl_handle json;
	Level       levels[DEPTH_MAX];
	int         nlevels;
	int         items_level; /* the array of items is levels[items_level]; -1: not in it */
	bool        items_seen;

	struct csv_parser csv;
	bool              csv_open;
	unsigned          columns[CSV_COLUMNS_MAX]; /* the paths that ask for it, as bits */
	int               ncolumns;
	int               column;
	bool              header_seen;

	Value     values[PATH_COUNT]; /* of the item at hand */
	FeedItem *items;
	size_t    nitems;
	size_t    room;
	size_t    items_max;
	int       nnameless; /* items without a SKU */
	int       next_index;
	bool      is_sorted;
	Block    *blocks;
	size_t    block_left;
	char     *block_next;
};

/* ---------- memory ---------- */

static bool
fail(Feed *feed, const char *why)
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
			fail(feed, "out of memory");
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

/* What the database would refuse to take as text: it would refuse the whole part of the feed with it. */
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

static void
set_value(Feed *feed, PathId path, ValueKind kind, const char *text, size_t bytes)
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

static void
add_item(Feed *feed, const FeedItem *item)
{
	feed->nnameless += item->sku == NULL;
	if (feed->nitems == feed->items_max)
	{
		fail(feed, "the feed has more items than FEED_ITEMS_MAX");
		return;
	}
	if (feed->nnameless > FEED_REPEATS_MAX)
	{
		fail(feed, "the feed has too many items without an id");
		return;
	}
	if (feed->nitems == feed->room)
	{
		size_t    room = feed->room ? feed->room * 2 : 1024;
		FeedItem *items = realloc(feed->items, room * sizeof(FeedItem));

		if (items == NULL)
		{
			fail(feed, "out of memory");
			return;
		}
		feed->items = items;
		feed->room = room;
	}
	if (item->sku == NULL || (feed->nitems > 0 && (feed->items[feed->nitems - 1].sku == NULL ||
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
	if (quantity->kind != VALUE_NUMBER && !((feed->is_mapped || feed->is_csv) && quantity->kind == VALUE_STRING))
		return "quantity must be a number";
	if (price->kind == VALUE_OTHER)
		return "price must be a number";
	if (name->kind != VALUE_NONE && name->kind != VALUE_STRING)
		return "name must be a string";
	return NULL;
}

/* Makes an item of the values at hand. */
static void
finish_item(Feed *feed)
{
	const Value *id = &feed->values[feed->values[PATH_ID].kind != VALUE_NONE ? PATH_ID : PATH_ID_ALT];
	const Value *quantity = &feed->values[feed->values[PATH_QUANTITY].kind != VALUE_NONE ? PATH_QUANTITY : PATH_QUANTITY_ALT];
	FeedItem     item = {.index = feed->next_index++,
						 .complaint = check_kinds(feed, id, quantity),
						 .name = feed->values[PATH_NAME].text,
						 .quantity = quantity->text,
						 .price = feed->values[PATH_PRICE].text};

	if (id->kind == VALUE_STRING || (feed->is_mapped && id->kind == VALUE_NUMBER))
		item.sku = *id->text != '\0' ? id->text : NULL;
	if (item.sku == NULL && item.complaint == NULL)
		item.complaint = "id must not be empty";
	add_item(feed, &item);
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

/* ---------- JSON: yajl's callbacks ---------- */

/* The paths that the value which comes now is on, as bits. */
static unsigned
paths_here(const Feed *feed)
{
	const Level *level;

	if (feed->nlevels == 0)
		return TOP_PATHS;
	level = &feed->levels[feed->nlevels - 1];
	return level->is_array ? 0 : level->key;
}

static int
depth_here(const Feed *feed)
{
	return feed->nlevels == 0 ? 0 : feed->levels[feed->nlevels - 1].depth + 1;
}

static bool
is_element_of_items(const Feed *feed)
{
	return feed->items_level >= 0 && feed->nlevels == feed->items_level + 1;
}

static void
not_an_object(Feed *feed)
{
	add_item(feed, &(FeedItem){.index = feed->next_index++, .complaint = "must be an object"});
}

/* A value that is no container. */
static int
on_scalar(Feed *feed, ValueKind kind, const char *text, size_t bytes)
{
	unsigned paths = paths_here(feed);
	int      depth = depth_here(feed);

	if (feed->nlevels == 0)
		return fail(feed, "the feed is not a JSON array");
	if (is_element_of_items(feed))
		not_an_object(feed);
	for (PathId path = PATH_AS_OF; paths != 0 && path < PATH_COUNT; path++)
	{
		if ((paths & (1u << path)) && feed->paths[path].nsegments == depth)
			set_value(feed, path, kind, text, bytes);
	}
	return feed->error[0] == '\0';
}

static int
on_null(void *context)
{
	return is_element_of_items(context) ? on_scalar(context, VALUE_OTHER, "", 0) : 1; /* as if it were not given */
}

static int
on_boolean(void *context, int value)
{
	(void) value;
	return on_scalar(context, VALUE_OTHER, "", 0);
}

static int
on_number(void *context, const char *text, size_t bytes)
{
	return on_scalar(context, bytes > NUMBER_BYTES_MAX ? VALUE_OTHER : VALUE_NUMBER, text, bytes);
}

static int
on_string(void *context, const unsigned char *text, size_t bytes)
{
	return on_scalar(context, VALUE_STRING, (const char *) text, bytes);
}

static int
open_container(Feed *feed, bool is_array)
{
	unsigned paths = paths_here(feed);
	int      depth = depth_here(feed);
	Level   *level = &feed->levels[feed->nlevels];

	if (feed->nlevels == DEPTH_MAX)
		return fail(feed, "the feed is nested too deep");
	if (is_element_of_items(feed))
	{
		/* an item's paths begin here */
		paths = is_array ? 0 : ITEM_PATHS;
		depth = 0;
		if (is_array)
			not_an_object(feed);
	}
	for (PathId path = PATH_AS_OF; paths != 0 && path < PATH_COUNT && depth > 0; path++)
	{
		if ((paths & (1u << path)) && feed->paths[path].nsegments == depth)
			set_value(feed, path, VALUE_OTHER, "", 0);
	}
	*level = (Level){.is_array = is_array, .paths = paths, .depth = depth};
	if ((paths & (1u << PATH_ITEMS)) && feed->paths[PATH_ITEMS].nsegments == depth)
	{
		if (!is_array)
			return fail(feed, depth == 0 ? "the feed is not a JSON array" : "there is no array where the items should be");
		feed->items_level = feed->nlevels;
		feed->items_seen = true;
	}
	feed->nlevels++;
	return feed->error[0] == '\0';
}

static int
on_start_map(void *context)
{
	return open_container(context, false);
}

static int
on_start_array(void *context)
{
	return open_container(context, true);
}

static int
on_map_key(void *context, const unsigned char *key, size_t bytes)
{
	Feed  *feed = context;
	Level *level = &feed->levels[feed->nlevels - 1];

	level->key = 0;
	for (PathId path = 0; level->paths != 0 && path < PATH_COUNT; path++)
	{
		const Path *p = &feed->paths[path];

		if ((level->paths & (1u << path)) && p->is_set && level->depth < p->nsegments &&
			strlen(p->segments[level->depth]) == bytes && memcmp(p->segments[level->depth], key, bytes) == 0)
			level->key |= 1u << path;
	}
	return 1;
}

static int
close_container(void *context)
{
	Feed *feed = context;

	feed->nlevels--;
	if (feed->nlevels == feed->items_level)
		feed->items_level = -1;
	else if (is_element_of_items(feed) && !feed->levels[feed->nlevels].is_array)
		finish_item(feed);
	return feed->error[0] == '\0';
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_boolean,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_start_map,
	.yajl_map_key = on_map_key,
	.yajl_end_map = close_container,
	.yajl_start_array = on_start_array,
	.yajl_end_array = close_container,
};

static bool
check_json(Feed *feed, yajl_status status, const char *data, size_t bytes)
{
	unsigned char *why;
	char           message[ERROR_BYTES_MAX];

	if (status == yajl_status_ok)
		return true;
	if (feed->error[0] != '\0')
		return false;
	why = yajl_get_error(feed->json, 0, (const unsigned char *) data, bytes);
	snprintf(message, sizeof(message), "the feed is not JSON: %.*s", (int) strcspn((const char *) why, "\n"), (const char *) why);
	yajl_free_error(feed->json, why);
	return fail(feed, message);
}

/* ---------- CSV: libcsv's callbacks ---------- */

static void
on_csv_header(Feed *feed, const char *text, size_t bytes)
{
	unsigned found = 0;

	if (feed->ncolumns == CSV_COLUMNS_MAX)
	{
		fail(feed, "the CSV has too many columns");
		return;
	}
	for (PathId path = PATH_ID; path < PATH_COUNT; path++)
	{
		const Path *p = &feed->paths[path];

		if (p->is_set && strlen(p->column) == bytes && memcmp(p->column, text, bytes) == 0)
			found |= 1u << path;
	}
	feed->columns[feed->ncolumns++] = found;
}

static void
on_csv_field(void *text, size_t bytes, void *context)
{
	Feed *feed = context;
	int   column = feed->column++;

	if (!feed->header_seen)
	{
		on_csv_header(feed, text, bytes);
		return;
	}
	for (PathId path = PATH_ID; path < PATH_COUNT && column < feed->ncolumns && bytes > 0; path++)
	{
		if (feed->columns[column] & (1u << path))
			set_value(feed, path, VALUE_STRING, text, bytes);
	}
}

static bool
has_column(const Feed *feed, PathId path, PathId alternative)
{
	for (int i = 0; i < feed->ncolumns; i++)
	{
		if (feed->columns[i] & ((1u << path) | (1u << alternative)))
			return true;
	}
	return false;
}

static void
on_csv_row(int end, void *context)
{
	Feed *feed = context;

	(void) end;
	feed->column = 0;
	if (feed->header_seen)
	{
		finish_item(feed);
		return;
	}
	feed->header_seen = true;
	if (!has_column(feed, PATH_ID, PATH_ID_ALT))
		fail(feed, "the CSV has no column for the id");
	else if (!has_column(feed, PATH_QUANTITY, PATH_QUANTITY_ALT))
		fail(feed, "the CSV has no column for the quantity");
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
	for (char *segment = strtok_r(path->text, ".", &save); segment != NULL; segment = strtok_r(NULL, ".", &save))
	{
		if (strcmp(segment, "$") == 0 && path->nsegments == 0 && (id == PATH_ITEMS || id == PATH_AS_OF))
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
	return set_path(feed, PATH_ITEMS, "$") && set_path(feed, PATH_ID, "id") && set_path(feed, PATH_ID_ALT, "productId") &&
		   set_path(feed, PATH_QUANTITY, "quantity") && set_path(feed, PATH_QUANTITY_ALT, "stock") &&
		   set_path(feed, PATH_PRICE, "price") && set_path(feed, PATH_NAME, "name");
}

static bool
read_mapping(Feed *feed, const char *text)
{
	static const struct
	{
		const char *key;
		PathId      path;
		PathId      replaces; /* what else would be looked at */
	} members[] = {{"items", PATH_ITEMS, PATH_ITEMS}, {"asOf", PATH_AS_OF, PATH_AS_OF},
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
		ok = (feed->json = yajl_alloc(&callbacks, NULL, feed)) != NULL;
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
		return check_json(feed, yajl_parse(feed->json, (const unsigned char *) data, bytes), data, bytes);
	if (csv_parse(&feed->csv, data, bytes, on_csv_field, on_csv_row, feed) != bytes)
		return fail(feed, csv_strerror(csv_error(&feed->csv)));
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
			return fail(feed, "the feed has one id too many times");
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
		/* strict only here: a quote within a field is common, an open one at the end has swallowed rows */
		(void) csv_set_opts(&feed->csv, CSV_STRICT | CSV_STRICT_FINI);
		if (csv_fini(&feed->csv, on_csv_field, on_csv_row, feed) != 0)
			return fail(feed, "the CSV ends within quotes");
		if (!feed->header_seen)
			return fail(feed, "the CSV is empty");
	}
	else if (!check_json(feed, yajl_complete_parse(feed->json), "", 0))
		return false;
	else if (!feed->items_seen)
		return fail(feed, "there is no array where the items should be");
	if (feed->error[0] != '\0')
		return false;
	if (feed->values[PATH_AS_OF].kind == VALUE_OTHER ||
		(feed->values[PATH_AS_OF].text != NULL && strlen(feed->values[PATH_AS_OF].text) > TIME_BYTES_MAX))
		return fail(feed, "the feed's time is no time");
	if (!feed->is_sorted)
		qsort(feed->items, feed->nitems, sizeof(FeedItem), compare_items);
	return feed->is_sorted || check_repeats(feed);
}
