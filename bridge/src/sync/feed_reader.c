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
#include <stdlib.h>
#include <string.h>

#include "base/json_memory.h"
#include "base/text.h"
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
const char *
feed_reader_keep_text(Feed *feed, const char *text, size_t bytes)
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

void
feed_reader_set_value(Feed *feed, PathId path, ValueKind kind, const char *text, size_t bytes)
{
	Value *value = &feed->values[path];

	*value = (Value){.kind = bytes > 0 || kind == VALUE_OTHER ? VALUE_OTHER : VALUE_NONE};
	/* what the database would refuse to take as text: and the whole part of the feed with it */
	if (kind == VALUE_OTHER || bytes == 0 || memchr(text, '\0', bytes) != NULL ||
		!text_is_utf8(text, bytes))
		return;
	value->text = feed_reader_keep_text(feed, text, bytes);
	if (value->text != NULL)
		value->kind = kind;
}

/* ---------- items ---------- */

void
feed_reader_add_item(Feed *feed, const FeedItem *item)
{
	feed->nnameless += item->sku == NULL;
	feed->nunreadable += item->complaint != NULL;
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

size_t
feed_items_bytes(const Feed *feed)
{
	return feed->room * sizeof(FeedItem);
}

size_t
feed_count_offers(const Feed *feed, size_t *unreadable)
{
	size_t count = 0;

	*unreadable = (size_t) feed->nunreadable;
	for (size_t i = 0; i < feed->nitems && feed->items[i].sku != NULL; i++)
		count += i == 0 || strcmp(feed->items[i - 1].sku, feed->items[i].sku) != 0;
	return count;
}

size_t
feed_sample(const Feed *feed, const char **skus, size_t max)
{
	size_t unreadable;
	size_t offers = feed_count_offers(feed, &unreadable);
	size_t wanted = offers < max ? offers : max;
	size_t seen = 0;
	size_t count = 0;

	for (size_t i = 0; count < wanted; i++)
	{
		if (i > 0 && strcmp(feed->items[i - 1].sku, feed->items[i].sku) == 0)
			continue;
		if (seen++ >= count * offers / wanted)
			skus[count++] = feed->items[i].sku;
	}
	return count;
}

const char *
feed_told(const Feed *feed)
{
	return feed->values[PATH_AS_OF].text;
}

long long
feed_as_of(const Feed *feed, const char **zone)
{
	*zone = feed->as_of.is_local ? feed->zone : NULL;
	return feed->as_of.at_us;
}

bool
feed_is_csv(const Feed *feed)
{
	return feed->is_csv;
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
		if (path->nsegments == SEGMENTS_MAX) /* a column's name: no path has as many */
			break;
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

static bool parse(void *context, const char *data, size_t bytes);

static bool
set_charset(Feed *feed, const char *name)
{
	charset_free(feed->charset);
	feed->charset = charset_create(name, parse, feed);
	return feed->charset != NULL;
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
	const char *decimal = json_string_value(json_object_get(mapping, "decimal"));
	const char *zone = json_string_value(json_object_get(mapping, "timeZone"));
	const char *charset = json_string_value(json_object_get(mapping, "charset"));

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
	if (decimal != NULL)
		feed->decimal = *decimal;
	if (zone != NULL)
		snprintf(feed->zone, sizeof(feed->zone), "%s", zone);
	if (charset != NULL)
		ok = ok && set_charset(feed, charset);
	feed->is_mapped = true;
	json_decref(mapping);
	return ok;
}

/* ---------- the whole ---------- */

static void *
allocate(void *context, size_t bytes)
{
	(void) context;
	return json_memory_allocate(bytes);
}

static void *
reallocate(void *context, void *memory, size_t bytes)
{
	(void) context;
	return json_memory_reallocate(memory, bytes);
}

static void
release(void *context, void *memory)
{
	(void) context;
	free(memory);
}

static yajl_alloc_funcs json_memory = {allocate, reallocate, release, NULL};

Feed *
feed_create(const char *mapping, bool is_csv, const char *charset, int items_max)
{
	Feed *feed = calloc(1, sizeof(Feed));
	bool  ok = feed != NULL;

	if (ok)
	{
		feed->is_csv = is_csv;
		feed->items_max = (size_t) items_max;
		feed->is_sorted = true;
		feed->items_level = -1;
	}
	ok = ok && set_charset(feed, charset) && set_default_paths(feed) &&
		 (mapping == NULL || read_mapping(feed, mapping));
	if (ok && feed->is_csv)
		ok = feed->csv_open = csv_init(&feed->csv, 0) == 0;
	else if (ok)
	{
		ok = (feed->json = yajl_alloc(&feed_reader_json_callbacks, &json_memory, feed)) != NULL;
		/* a byte that is none in a field that nobody asks for is nobody's trouble */
		ok = ok && yajl_config(feed->json, yajl_dont_validate_strings, 1) != 0;
	}
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
	charset_free(feed->charset);
	free(feed->token.bytes);
	free(feed->head);
	free(feed->items);
	free(feed);
}

/* Takes the next piece of the text, which is in UTF-8 by now. */
static bool
parse(void *context, const char *data, size_t bytes)
{
	Feed *feed = context;

	if (feed->error[0] != '\0')
		return false;
	if (feed->is_csv)
		return feed_reader_add_csv(feed, data, bytes);
	return feed_reader_add_json(feed, data, bytes);
}

/* Whether the text could be decoded; if not, the feed has failed. */
static bool
check_charset(Feed *feed, bool is_decoded)
{
	char why[ERROR_BYTES_MAX];

	if (is_decoded)
		return true;
	if (charset_unknown(feed->charset) != NULL)
	{
		snprintf(why, sizeof(why), "the feed's charset \"%s\" is not known",
				 charset_unknown(feed->charset));
		return feed_reader_fail(feed, why);
	}
	return feed_reader_fail(feed, "out of memory"); /* unless there was a reason before */
}

bool
feed_add(Feed *feed, const char *data, size_t bytes)
{
	if (feed->error[0] != '\0')
		return false;
	return check_charset(feed, charset_add(feed->charset, data, bytes));
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

/* The time that the feed tells, if it tells any: in a form that says one time, or it has failed. */
static bool
check_time(Feed *feed)
{
	const Value *value = &feed->values[PATH_AS_OF];
	char         why[ERROR_BYTES_MAX];

	if (value->kind == VALUE_NONE)
		return true;
	if (value->text == NULL || strlen(value->text) > TIME_BYTES_MAX)
		return feed_reader_fail(feed, "the feed's time is no time");
	if (!feed_time_read(value->text, &feed->as_of))
		snprintf(why, sizeof(why),
				 "the feed's time \"%s\" is in no form that says one time: ISO 8601, RFC 9110, "
				 "seconds or milliseconds since 1970",
				 value->text);
	else if (feed->as_of.is_local && feed->zone[0] == '\0')
		snprintf(why, sizeof(why),
				 "the feed's time \"%s\" names no zone: say which with feed_mapping.timeZone",
				 value->text);
	else
		return true;
	return feed_reader_fail(feed, why);
}

static bool
finish_json(Feed *feed)
{
	if (!feed_reader_end_json(feed))
		return false;
	if (!feed->items_seen)
		return feed_reader_fail(feed, "there is no array where the items should be");
	if (feed->has_next_page)
		return feed_reader_fail(
			feed, "the feed goes on in a next page (\"next\"): pages are not followed");
	return true;
}

bool
feed_finish(Feed *feed)
{
	if (feed->error[0] != '\0' || !check_charset(feed, charset_finish(feed->charset)))
		return false;
	if (!(feed->is_csv ? feed_reader_finish_csv(feed) : finish_json(feed)) ||
		feed->error[0] != '\0' || !check_time(feed))
		return false;
	if (!feed->is_sorted)
		qsort(feed->items, feed->nitems, sizeof(FeedItem), compare_items);
	return feed->is_sorted || check_repeats(feed);
}
