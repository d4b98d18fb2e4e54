/*
 * feed_reader_test.c
 *		Feeds taken apart, whole and in pieces of every size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/feed_reader.h"

static const char *
shown(const char *text)
{
	return text ? text : "-";
}

/* The items as one text, "sku/name/quantity/price/complaint" each, or the error; the feed is cut
 * into pieces of that size. */
static char *
taken_apart(const char *mapping, bool is_csv, const char *text, size_t bytes, size_t piece)
{
	Feed  *feed = feed_create(mapping, is_csv, 100000);
	bool   ok = true;
	char  *result = NULL;
	size_t size;
	FILE  *stream = open_memstream(&result, &size);

	assert_non_null(feed);
	for (size_t at = 0; ok && at < bytes; at += piece)
		ok = feed_add(feed, text + at, bytes - at < piece ? bytes - at : piece);
	if (!ok || !feed_finish(feed))
		fprintf(stream, "%s", feed_error(feed));
	else
	{
		size_t          count;
		const FeedItem *items = feed_items(feed, &count);

		for (size_t i = 0; i < count; i++)
			fprintf(stream, "%d:%s/%s/%s/%s/%s ", items[i].index, shown(items[i].sku),
					shown(items[i].name), shown(items[i].quantity), shown(items[i].price),
					shown(items[i].complaint));
		if (feed_as_of(feed) != NULL)
			fprintf(stream, "at %s", feed_as_of(feed));
	}
	fclose(stream);
	feed_free(feed);
	return result;
}

static void
expect_bytes(const char *mapping, bool is_csv, const char *text, size_t bytes, const char *expected)
{
	for (size_t piece = 1; piece <= bytes + 1; piece++)
	{
		char *result = taken_apart(mapping, is_csv, text, bytes, piece);

		assert_string_equal(result, expected);
		free(result);
	}
}

static void
expect(const char *mapping, bool is_csv, const char *text, const char *expected)
{
	expect_bytes(mapping, is_csv, text, strlen(text), expected);
}

static void
the_two_shapes(void **state)
{
	(void) state;
	expect(NULL, false, "[]", "");
	expect(NULL, false,
		   "[{\"id\": \"b\", \"name\": \"B\", \"quantity\": 5, \"price\": 2.50}, {\"productId\": "
		   "\"a\", \"stock\": 1e2}]",
		   "1:a/-/1e2/-/- 0:b/B/5/2.50/- ");
	expect(NULL, false, "\xef\xbb\xbf[{\"id\": \"a\", \"quantity\": 1}]", "0:a/-/1/-/- ");
	expect(NULL, false,
		   "[{\"id\": \"b\", \"quantity\": 1}, {\"id\": \"a\", \"quantity\": 2}, {\"id\": \"b\", "
		   "\"quantity\": 3}]",
		   "1:a/-/2/-/- 0:b/-/1/-/- 2:b/-/3/-/- ");
	/* null is as if it were not given; the last of a repeated key counts; other keys are the
	 * vendor's own */
	expect(NULL, false,
		   "[{\"id\": null, \"productId\": \"a\", \"quantity\": 1, \"quantity\": 2, \"price\": "
		   "null, \"x\": {\"id\": \"z\"}}]",
		   "0:a/-/2/-/- ");
}

static void
bad_items_carry_a_complaint(void **state)
{
	(void) state;
	expect(NULL, false,
		   "[1, [], null, {}, {\"id\": 7, \"quantity\": 1}, {\"id\": \"\", \"quantity\": 1}, "
		   "{\"id\": \"a\"}, {\"id\": \"b\", "
		   "\"quantity\": {\"n\": 1}}]",
		   "6:a/-/-/-/quantity (or stock) is missing 7:b/-/-/-/quantity must be a number "
		   "0:-/-/-/-/must be an object "
		   "1:-/-/-/-/must be an object 2:-/-/-/-/must be an object 3:-/-/-/-/id (or productId) is "
		   "missing "
		   "4:-/-/1/-/id must be a string 5:-/-/1/-/id must not be empty ");
	/* a NUL and what is not UTF-8 would not go into the database */
	expect(NULL, false, "[{\"id\": \"a\\u0000b\", \"quantity\": 1}]",
		   "0:-/-/1/-/id must be a string ");
}

static void
what_is_no_feed_says_why(void **state)
{
	char deep[200];

	(void) state;
	expect(NULL, false, "", "the feed is not JSON: parse error: premature EOF");
	expect(NULL, false, "{\"id\": \"a\"}", "the feed is not a JSON array");
	expect(NULL, false, "\"a\"", "the feed is not a JSON array");
	expect(NULL, false, "[{\"id\": \"a\", \"quantity\": 1}",
		   "the feed is not JSON: parse error: premature EOF");
	memset(deep, '[', sizeof(deep));
	expect_bytes(NULL, false, deep, sizeof(deep), "the feed is nested too deep");
}

static void
a_mapping_walks_its_paths_only(void **state)
{
	const char *mapping = "{\"items\": \"$.data.products\", \"id\": \"sku\", \"quantity\": "
						  "\"stock.available\", \"name\": "
						  "\"title.en\", \"asOf\": \"$.meta.at\"}";

	(void) state;
	expect(mapping, false,
		   "{\"products\": [{\"sku\": \"no\"}], \"data\": {\"x\": {\"products\": [{\"sku\": "
		   "\"no\"}]}, \"products\": ["
		   "{\"stock\": {\"available\": 3, \"x\": {\"available\": 9}}, \"sku\": \"a\", "
		   "\"available\": 7, \"title\": {\"en\": "
		   "\"A\", \"de\": \"X\"}},"
		   "{\"sku\": 12, \"stock\": {\"available\": \"4\"}, \"list\": [{\"sku\": \"no\", "
		   "\"stock\": {\"available\": 1}}], "
		   "\"title\": \"T\"}]},"
		   "\"meta\": {\"at\": \"2026-01-01\", \"x\": {\"at\": \"no\"}}, \"at\": \"no\"}",
		   "1:12/-/4/-/- 0:a/A/3/-/- at 2026-01-01");
	expect(mapping, false, "{\"data\": {\"products\": {}}}",
		   "there is no array where the items should be");
	expect(mapping, false, "{\"data\": [{\"products\": []}]}",
		   "there is no array where the items should be");
	expect(mapping, false, "[]", "there is no array where the items should be");
}

static void
csv_by_its_header(void **state)
{
	(void) state;
	expect(NULL, true, "id,name,quantity,price\r\nb,\"a \"\"b\"\", c\",5,1.25\r\n\r\na,,7,\n",
		   "1:a/-/7/-/- 0:b/a \"b\", c/5/1.25/- ");
	expect(NULL, true, "stock;productId\n", "the CSV has no column for the id");
	expect("{\"format\": \"csv\", \"delimiter\": \";\", \"id\": \"art.no\", \"quantity\": \"n\"}",
		   false, "n;art.no;id\n5;x;y", "0:x/-/5/-/- ");
	expect(NULL, true, "id,quantity\ncaf\xe9,5\nx\n",
		   "1:x/-/-/-/quantity (or stock) is missing 0:-/-/5/-/id must be a string ");
	expect(NULL, true, "", "the CSV is empty");
	/* an open quote would swallow the rest, and what is in it would be taken for gone */
	expect(NULL, true, "id,quantity\na,1\n\"b,2\nc,3\n", "the CSV ends within quotes");
	expect("{\"format\": \"csv\", \"id\": \"name\", \"quantity\": \"n\"}", false, "name,n\nx,5\n",
		   "0:x/x/5/-/- ");
}

static void
blank_rows_of_a_csv_are_no_items(void **state)
{
	char   rows[20000] = "id,quantity,note\r\na,1,\r\n";
	size_t count;
	Feed  *feed;

	(void) state;
	expect(NULL, true, "id,quantity\n,\na,1\n , \n\"\",\"\"\nb,2\n,", "0:a/-/1/-/- 1:b/-/2/-/- ");
	/* text in a column that nobody asks for is text */
	expect(NULL, true, "id,quantity,note\n,,gone\n", "0:-/-/-/-/id (or productId) is missing ");
	while (strlen(rows) + 5 < sizeof(rows))
		strcat(rows, ",,\r\n");
	feed = feed_create(NULL, true, 100);
	assert_true(feed_add(feed, rows, strlen(rows)) && feed_finish(feed));
	(void) feed_items(feed, &count);
	assert_int_equal(count, 1);
	feed_free(feed);
}

/* A feed of so many times that element. */
static void
expect_many(int times, const char *element, int items_max, const char *error)
{
	Feed *feed = feed_create(NULL, false, items_max);
	bool  ok = feed_add(feed, "[", 1);

	for (int i = 0; ok && i < times; i++)
		ok = feed_add(feed, i > 0 ? "," : " ", 1) && feed_add(feed, element, strlen(element));
	ok = ok && feed_add(feed, "]", 1) && feed_finish(feed);
	assert_string_equal(feed_error(feed), error);
	assert_int_equal(ok, *error == '\0');
	feed_free(feed);
}

static void
what_is_no_stock_feed_is_given_up(void **state)
{
	(void) state;
	expect_many(1000, "1", 100000, "");
	expect_many(1001, "1", 100000, "the feed has too many items without an id");
	expect_many(1000, "{\"id\": \"x\", \"quantity\": 1}", 100000, "");
	expect_many(1001, "{\"id\": \"x\", \"quantity\": 1}", 100000,
				"the feed has one id too many times");
	expect_many(11, "{\"id\": \"x\", \"quantity\": 1}", 10,
				"the feed has more items than FEED_ITEMS_MAX");
}

static void
a_time_that_is_none(void **state)
{
	const char *mapping = "{\"items\": \"$.i\", \"asOf\": \"$.at\"}";

	(void) state;
	expect(mapping, false, "{\"at\": {\"x\": 1}, \"i\": []}", "the feed's time is no time");
	expect(mapping, false, "{\"i\": [], \"at\": true}", "the feed's time is no time");
	expect(mapping, false,
		   "{\"i\": [], \"at\": "
		   "\"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\"}",
		   "the feed's time is no time");
	expect(mapping, false, "{\"i\": [], \"at\": null}", "");
}

static void
many_items_in_any_order(void **state)
{
	char  *text = NULL;
	size_t bytes;
	FILE  *stream = open_memstream(&text, &bytes);
	Feed  *feed = feed_create(NULL, false, 100000);
	size_t count;

	(void) state;
	fputc('[', stream);
	for (int i = 0; i < 20000; i++)
		fprintf(stream, "%s{\"id\": \"p%05d\", \"quantity\": %d}", i > 0 ? "," : "",
				(i * 7919) % 20000, i);
	fputc(']', stream);
	fclose(stream);
	assert_true(feed_add(feed, text, bytes) && feed_finish(feed));
	for (int i = 0; i < 20000; i++)
	{
		char sku[16];

		snprintf(sku, sizeof(sku), "p%05d", i);
		assert_string_equal(feed_items(feed, &count)[i].sku, sku);
	}
	assert_int_equal(count, 20000);
	feed_free(feed);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_two_shapes),
		cmocka_unit_test(bad_items_carry_a_complaint),
		cmocka_unit_test(what_is_no_feed_says_why),
		cmocka_unit_test(a_mapping_walks_its_paths_only),
		cmocka_unit_test(csv_by_its_header),
		cmocka_unit_test(blank_rows_of_a_csv_are_no_items),
		cmocka_unit_test(many_items_in_any_order),
		cmocka_unit_test(what_is_no_stock_feed_is_given_up),
		cmocka_unit_test(a_time_that_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
