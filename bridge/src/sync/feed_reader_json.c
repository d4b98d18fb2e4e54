/*
 * feed_reader_json.c
 *		The items of a feed that is JSON (yajl's callbacks).
 */
#include <string.h>

#include "sync/feed_reader_state.h"

#define NEXT_DEPTH_MAX 4

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

/* A value that is no container. */
static int
on_scalar(Feed *feed, ValueKind kind, const char *text, size_t bytes)
{
	unsigned paths = paths_here(feed);
	int      depth = depth_here(feed);

	if (feed->nlevels == 0)
		return feed_reader_fail(feed, "the feed is not a JSON array");
	if (is_element_of_items(feed))
		feed_reader_refuse_element(feed);
	/* a path that ends here wants a value, not a container: it is there, and no value */
	for (PathId path = PATH_AS_OF; paths != 0 && path < PATH_COUNT; path++)
	{
		if ((paths & (1u << path)) && feed->paths[path].nsegments == depth)
			feed_reader_set_value(feed, path, kind, text, bytes);
	}
	return feed->error[0] == '\0';
}

static bool
is_one_of(const char *const *names, const unsigned char *key, size_t bytes)
{
	for (; *names != NULL; names++)
	{
		if (strlen(*names) == bytes && memcmp(*names, key, bytes) == 0)
			return true;
	}
	return false;
}

/* An element of some other list is not the feed. */
static bool
is_in_array(const Feed *feed)
{
	for (int i = 0; i < feed->nlevels; i++)
	{
		if (feed->levels[i].is_array)
			return true;
	}
	return false;
}

/* What the key says of further pages; of the feed, and not of an item. */
static PageSign
page_sign(const Feed *feed, const unsigned char *key, size_t bytes)
{
	static const char *const nexts[] = {"next",          "nextPage",        "next_page",
										"nextLink",      "next_link",       "nextUrl",
										"next_url",      "nextPageUrl",     "next_page_url",
										"nextPageToken", "next_page_token", "nextCursor",
										"next_cursor",   "@odata.nextLink", NULL};
	static const char *const mores[] = {"hasMore",     "has_more",      "hasNext", "has_next",
										"hasNextPage", "has_next_page", NULL};
	static const char *const places[] = {"href", "url", "uri", "link", NULL};
	const Level             *above = feed->nlevels > 1 ? &feed->levels[feed->nlevels - 2] : NULL;

	if (feed->items_level >= 0 || feed->nlevels > NEXT_DEPTH_MAX || is_in_array(feed))
		return PAGE_SIGN_NONE;
	if (is_one_of(nexts, key, bytes) ||
		(above != NULL && above->sign == PAGE_SIGN_NEXT && is_one_of(places, key, bytes)))
		return PAGE_SIGN_NEXT;
	return is_one_of(mores, key, bytes) ? PAGE_SIGN_MORE : PAGE_SIGN_NONE;
}

static PageSign
sign_here(const Feed *feed)
{
	return feed->nlevels > 0 ? feed->levels[feed->nlevels - 1].sign : PAGE_SIGN_NONE;
}

static int
on_null(void *context)
{
	return is_element_of_items(context) ? on_scalar(context, VALUE_OTHER, "", 0)
										: 1; /* as if it were not given */
}

static int
on_boolean(void *context, int value)
{
	Feed *feed = context;

	if (value != 0 && sign_here(feed) == PAGE_SIGN_MORE)
		feed->has_next_page = true;
	return on_scalar(feed, VALUE_OTHER, "", 0);
}

static int
on_number(void *context, const char *text, size_t bytes)
{
	Feed *feed = context;

	if (sign_here(feed) == PAGE_SIGN_NEXT && *text >= '1' && *text <= '9')
		feed->has_next_page = true;
	return on_scalar(feed, VALUE_NUMBER, text, bytes);
}

static int
on_string(void *context, const unsigned char *text, size_t bytes)
{
	Feed *feed = context;

	if (bytes > 0 && sign_here(feed) == PAGE_SIGN_NEXT)
		feed->has_next_page = true;
	return on_scalar(feed, VALUE_STRING, (const char *) text, bytes);
}

static int
open_container(Feed *feed, bool is_array)
{
	unsigned paths = paths_here(feed);
	int      depth = depth_here(feed);
	Level   *level = &feed->levels[feed->nlevels];

	if (feed->nlevels == DEPTH_MAX)
		return feed_reader_fail(feed, "the feed is nested too deep");
	if (is_element_of_items(feed))
	{
		/* an item's paths begin here */
		paths = is_array ? 0 : ITEM_PATHS;
		depth = 0;
		if (is_array)
			feed_reader_refuse_element(feed);
	}
	for (PathId path = PATH_AS_OF; paths != 0 && path < PATH_COUNT && depth > 0; path++)
	{
		if ((paths & (1u << path)) && feed->paths[path].nsegments == depth)
			feed_reader_set_value(feed, path, VALUE_OTHER, "", 0);
	}
	*level = (Level){.is_array = is_array, .paths = paths, .depth = depth};
	if ((paths & (1u << PATH_ITEMS)) && feed->paths[PATH_ITEMS].nsegments == depth)
	{
		if (!is_array)
			return feed_reader_fail(feed, depth == 0
											  ? "the feed is not a JSON array"
											  : "there is no array where the items should be");
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
	level->sign = page_sign(feed, key, bytes);
	for (PathId path = 0; level->paths != 0 && path < PATH_COUNT; path++)
	{
		const Path *p = &feed->paths[path];

		if ((level->paths & (1u << path)) && p->is_set && level->depth < p->nsegments &&
			strlen(p->segments[level->depth]) == bytes &&
			memcmp(p->segments[level->depth], key, bytes) == 0)
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
		feed_reader_finish_item(feed);
	return feed->error[0] == '\0';
}

const yajl_callbacks feed_reader_json_callbacks = {
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
	snprintf(message, sizeof(message), "the feed is not JSON: %.*s",
			 (int) strcspn((const char *) why, "\n"), (const char *) why);
	yajl_free_error(feed->json, why);
	return feed_reader_fail(feed, message);
}

/* ---------- pieces ---------- */

static bool
parse_json(Feed *feed, const char *data, size_t bytes)
{
	return check_json(feed, yajl_parse(feed->json, (const unsigned char *) data, bytes), data,
					  bytes);
}

/* Behind a string that is open at "at"; the piece's end if it does not end in it. */
static size_t
skip_string(Feed *feed, const char *data, size_t bytes, size_t at)
{
	for (; at < bytes; at++)
	{
		if (feed->in_escape)
			feed->in_escape = false;
		else if (data[at] == '\\')
			feed->in_escape = true;
		else if (data[at] == '"')
		{
			feed->in_string = false;
			return at + 1;
		}
	}
	return bytes;
}

/* How much of the piece ends with a whole token. */
static size_t
whole_tokens(Feed *feed, const char *data, size_t bytes)
{
	size_t whole = 0;
	size_t at = 0;

	while (at < bytes)
	{
		if (feed->in_string)
		{
			at = skip_string(feed, data, bytes, at);
			if (!feed->in_string)
				whole = at;
			continue;
		}
		switch (data[at])
		{
			case '"':
				feed->in_string = true;
				whole = at;
				break;
			case '{':
			case '}':
			case '[':
			case ']':
			case ',':
			case ':':
			case ' ':
			case '\t':
			case '\r':
			case '\n':
				whole = at + 1;
				break;
			default: /* within a number or a word */
				break;
		}
		at++;
	}
	return whole;
}

/* A token that goes on in the next piece is kept until it is whole: yajl would begin with its first
 * byte again each time. */
bool
feed_reader_add_json(Feed *feed, const char *data, size_t bytes)
{
	size_t whole = whole_tokens(feed, data, bytes);

	if (whole > 0 && feed->token.length > 0)
	{
		text_add(&feed->token, data, whole);
		if (feed->token.is_short)
			return feed_reader_fail(feed, "out of memory");
		if (!parse_json(feed, feed->token.bytes, feed->token.length))
			return false;
		feed->token.length = 0;
	}
	else if (whole > 0 && !parse_json(feed, data, whole))
		return false;
	text_add(&feed->token, data + whole, bytes - whole);
	return !feed->token.is_short || feed_reader_fail(feed, "out of memory");
}

bool
feed_reader_end_json(Feed *feed)
{
	return (feed->token.length == 0 || parse_json(feed, feed->token.bytes, feed->token.length)) &&
		   check_json(feed, yajl_complete_parse(feed->json), "", 0);
}
