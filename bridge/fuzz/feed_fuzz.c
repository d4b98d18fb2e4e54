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
		if (items[i].complaint == NULL &&
			(items[i].sku == NULL || *items[i].sku == '\0' || items[i].quantity == NULL))
			abort();
		if (i == 0)
			continue;
		if (items[i - 1].sku == NULL
				? items[i].sku != NULL
				: items[i].sku != NULL && strcmp(items[i - 1].sku, items[i].sku) > 0)
			abort();
	}
	check_text(feed_as_of(feed));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const char *const mappings[] = {
		NULL,
		"{\"items\": \"$.data.products\", \"id\": \"sku\", \"quantity\": \"stock.available\", "
		"\"price\": \"cost\", \"asOf\": \"$.at\"}",
		"{\"format\": \"csv\", \"delimiter\": \";\", \"id\": \"sku\", \"quantity\": \"qty\"}"};
	size_t piece;
	Feed  *feed;
	bool   ok = true;

	if (bytes < 2)
		return 0;
	piece = data[1] % 64 + 1;
	feed = feed_create(mappings[data[0] % 3], data[0] & 64, 10000);
	for (size_t at = 2; feed != NULL && ok && at < bytes; at += piece)
		ok = feed_add(feed, (const char *) data + at, bytes - at < piece ? bytes - at : piece);
	if (feed != NULL && ok && feed_finish(feed))
		check_items(feed);
	else if (feed != NULL && *feed_error(feed) == '\0')
		abort(); /* a failure says why */
	feed_free(feed);
	return 0;
}
