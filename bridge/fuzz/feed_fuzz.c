/*
 * feed_fuzz.c
 *		A fuzz target for vendors' feeds: JSON and CSV, with and without a mapping.
 *
 * The input's first byte chooses how it is read, the second into what pieces it
 * is cut. What comes out must be in order, and text that the database takes.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sync/feed_reader.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
check_text(const char *text)
{
	json_t *string = text ? json_string(text) : NULL;

	if (text != NULL && string == NULL)
		abort(); /* not UTF-8 */
	json_decref(string);
}

static bool
is_number_of_json(const char *text)
{
	json_t *number =
		text ? json_loads(text, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL) : NULL;
	bool is_number = json_is_number(number);

	json_decref(number);
	return is_number;
}

static void
check_items(const Feed *feed)
{
	size_t          count;
	const FeedItem *items = feed_items(feed, &count);

	for (size_t i = 0; i < count; i++)
	{
		check_text(items[i].sku);
		check_text(items[i].name);
		check_text(items[i].quantity);
		check_text(items[i].price);
		if (items[i].complaint == NULL && (items[i].sku == NULL || *items[i].sku == '\0' ||
										   !is_number_of_json(items[i].quantity)))
			abort();
		if (i == 0)
			continue;
		if (items[i - 1].sku == NULL
				? items[i].sku != NULL
				: items[i].sku != NULL && strcmp(items[i - 1].sku, items[i].sku) > 0)
			abort();
	}
	check_text(feed_told(feed));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char *const mappings[] = {
		NULL,
		"{\"items\": \"$.data.products\", \"id\": \"sku\", \"quantity\": \"stock.available\", "
		"\"price\": \"cost\", \"asOf\": \"$.at\"}",
		"{\"format\": \"csv\", \"delimiter\": \";\", \"id\": \"sku\", \"quantity\": \"qty\"}",
		"{\"format\": \"csv\", \"decimal\": \",\", \"charset\": \"utf-16\"}",
		"{\"items\": \"$.i\", \"asOf\": \"$.at\", \"timeZone\": \"UTC\", \"charset\": "
		"\"windows-1252\", "
		"\"decimal\": \".\"}",
		"{\"charset\": \"shift_jis\"}"};
	const char *skus[7];
	const char *zone;
	size_t      unreadable;
	size_t      piece;
	Feed       *feed;
	bool        ok = true;

	if (bytes < 2)
		return 0;
	piece = data[1] % 64 + 1;
	feed = feed_create(mappings[data[0] % (sizeof(mappings) / sizeof(mappings[0]))], data[0] & 64,
					   data[0] & 32 ? "iso-8859-2" : NULL, 10000);
	for (size_t at = 2; feed != NULL && ok && at < bytes; at += piece)
		ok = feed_add(feed, (const char *) data + at, bytes - at < piece ? bytes - at : piece);
	if (feed != NULL && ok && feed_finish(feed))
	{
		check_items(feed);
		if (feed_sample(feed, skus, 7) > feed_count_offers(feed, &unreadable))
			abort();
		(void) feed_as_of(feed, &zone);
	}
	else if (feed != NULL && *feed_error(feed) == '\0')
		abort(); /* a failure says why */
	feed_free(feed);
	return 0;
}
