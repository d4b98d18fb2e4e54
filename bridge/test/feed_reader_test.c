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
	Feed  *feed = feed_create(mapping, is_csv, NULL, 100000);
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
		if (feed_told(feed) != NULL)
			fprintf(stream, "at %s", feed_told(feed));
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
		   "1:a/-/100/-/- 0:b/B/5/2.50/- ");
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
		   "6:a/-/-/-/quantity_missing 7:b/-/-/-/quantity_unreadable "
		   "0:-/-/-/-/not_an_object 1:-/-/-/-/not_an_object 2:-/-/-/-/not_an_object "
		   "3:-/-/-/-/id_missing 4:-/-/-/-/id_unreadable 5:-/-/-/-/id_missing ");
	/* a NUL and what is not UTF-8 would not go into the database */
	expect(NULL, false, "[{\"id\": \"a\\u0000b\", \"quantity\": 1}]", "0:-/-/-/-/id_unreadable ");
	expect(NULL, false, "[{\"id\": \"caf\xe9\", \"quantity\": 1}]", "0:-/-/-/-/id_unreadable ");
	/* of a field that nobody asks for they are nobody's trouble, of a name only the name's */
	expect(NULL, false,
		   "[{\"id\": \"a\", \"quantity\": 1, \"x\": \"caf\xe9\", \"name\": \"caf\xe9\"}]",
		   "0:a//1/-/- ");
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
		   "\"meta\": {\"at\": \"2026-01-01T00:00Z\", \"x\": {\"at\": \"no\"}}, \"at\": \"no\"}",
		   "1:12/-/4/-/- 0:a/A/3/-/- at 2026-01-01T00:00Z");
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
	expect(NULL, true, "stock.productId\n", "the CSV has no column for the id");
	expect(NULL, true, "productId;amount\n", "the CSV has no column for the quantity");
	expect("{\"format\": \"csv\", \"delimiter\": \";\", \"id\": \"art.no\", \"quantity\": \"n\"}",
		   false, "n;art.no;id\n5;x;y", "0:x/-/5/-/- ");
	expect(NULL, true, "id,quantity\ncaf\xe9,5\nx\n",
		   "1:x/-/-/-/quantity_missing 0:-/-/-/-/id_unreadable ");
	expect(NULL, true, "", "the CSV is empty");
	/* an open quote would swallow the rest, and what is in it would be taken for gone */
	expect(NULL, true, "id,quantity\na,1\n\"b,2\nc,3\n", "the CSV ends within quotes");
	expect("{\"format\": \"csv\", \"id\": \"name\", \"quantity\": \"n\"}", false, "name,n\nx,5\n",
		   "0:x/x/5/-/- ");
}

static void
quotes_that_swallow_rows(void **state)
{
	static const char *const swallows = "a quote within a field of the CSV has swallowed rows";

	(void) state;
	expect(NULL, true, "id,name,quantity\nx,\"a\" 5mm,5\ny,b,0\nz,\"c, 2\",250\n", swallows);
	expect(NULL, true, "id,name,quantity\nx,\"Dose,5\ny,\"Klemme\",7\n", swallows);
	expect(NULL, true, "id,name,quantity\r\nx,\"a \"b\r\nc\",5\r\n", swallows);
	/* within its line it is part of the name, and lines in a field are its own */
	expect(NULL, true, "id,name,quantity\nx,\"5\" pipe, long\",5\ny,5\" pipe,7\nz,\"12\" \",1\n",
		   "0:x/5\" pipe, long/5/-/- 1:y/5\" pipe/7/-/- 2:z/12\"/1/-/- ");
	expect(NULL, true, "id,name,quantity\nx,\"a \"\"b\"\"\nc\" ,5\n", "0:x/a \"b\"\nc/5/-/- ");
}

static void
a_price_with_a_comma_moves_what_follows(void **state)
{
	(void) state;
	expect(NULL, true, "id,price,quantity\nx,19,99,5\n", "0:x/-/-/19/columns_shifted ");
	expect(NULL, true, "id,price,quantity,note\nx,19,99,5,\ny,9,7,\n",
		   "0:x/-/-/19/columns_shifted 1:y/-/7/9/- ");
	/* a delimiter too many moves nothing */
	expect(NULL, true, "id,price,quantity\nx,19,5,\ny,20,7,\n", "0:x/-/5/19/- 1:y/-/7/20/- ");
	expect(NULL, true, "id,quantity,price,note\nx,5,19,,\n", "0:x/-/5/19/- ");
	expect(NULL, true, "id,price,quantity,note\nx,19.5,5,,\ny,20,7,,\n",
		   "0:x/-/5/19.5/- 1:y/-/7/20/- ");
	expect(NULL, true, "id;price;quantity;note\nx;19;5;;\n", "0:x/-/5/19/- ");
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
	expect(NULL, true, "id,quantity,note\n,,gone\n", "0:-/-/-/-/id_missing ");
	while (strlen(rows) + 5 < sizeof(rows))
		strcat(rows, ",,\r\n");
	feed = feed_create(NULL, true, NULL, 100);
	assert_true(feed_add(feed, rows, strlen(rows)) && feed_finish(feed));
	(void) feed_items(feed, &count);
	assert_int_equal(count, 1);
	feed_free(feed);
}

static void
a_csv_says_what_its_delimiter_is(void **state)
{
	(void) state;
	expect(NULL, true, "id;quantity\na;1,0\n", "0:a/-/1.0/-/- ");
	expect(NULL, true, "id\tquantity\tnote\na\t1\tx\n", "0:a/-/1/-/- ");
	expect(NULL, true, "id|quantity\na|1\n", "0:a/-/1/-/- ");
	expect(NULL, true, "\"id, the\";quantity;id\nx;1;a\n", "0:a/-/1/-/- ");
	expect(NULL, true, "sep=;\r\nid;quantity;a,b,c\r\na;1\r\n", "0:a/-/1/-/- ");
	expect(NULL, true, "\"sep=|\"\nid|quantity\na|1\n", "0:a/-/1/-/- ");
	expect(NULL, true, "\xef\xbb\xbfsep=\t\nid\tquantity\na\t1\n", "0:a/-/1/-/- ");
	expect(NULL, true, "\n\r\nid,quantity\ra,1\r", "0:a/-/1/-/- ");
	/* what was declared goes before */
	expect("{\"format\": \"csv\", \"delimiter\": \",\"}", false, "sep=;\nid,quantity;x\na,1;\n",
		   "the CSV has no column for the quantity");
	expect(NULL, true, "sep=;", "the CSV is empty");
	expect(NULL, true, "id,quantity", "");
}

static void
columns_by_their_names_whatever_the_case(void **state)
{
	(void) state;
	expect(NULL, true, " ID ,\" Quantity \",\xc2\xa0PRICE\na,1,2\n", "0:a/-/1/2/- ");
	/* one that is written just so goes before, else the first */
	expect(NULL, true, "ID,id,Quantity,QUANTITY\nx,a,1,2\n", "0:a/-/1/-/- ");
}

static void
what_office_programs_do_to_values(void **state)
{
	(void) state;
	expect(NULL, true, "id,quantity,name\n\"=\"\"007\"\"\",1,x\n=\"008\",2,\n",
		   "0:007/x/1/-/- 1:008/-/2/-/- ");
	expect(NULL, true, "id,quantity\n1.23457E+12,1\n12E3,2\n1E+12,3\n",
		   "1:12E3/-/2/-/- 0:-/-/-/-/id_rounded 2:-/-/-/-/id_rounded ");
	expect(NULL, true, "id,quantity\n17.0,1\n17.50,2\n", "0:17/-/1/-/- 1:17.50/-/2/-/- ");
	expect("{\"id\": \"id\"}", false,
		   "[{\"id\": 17.0, \"quantity\": 1}, {\"id\": 17, \"quantity\": 2}, {\"id\": \"17.0\", "
		   "\"quantity\": 3}, {\"id\": 1.23457E+12, \"quantity\": 1}]",
		   "0:17/-/1/-/- 1:17/-/2/-/- 2:17.0/-/3/-/- 3:-/-/-/-/id_rounded ");
}

static void
numbers_by_the_mapping(void **state)
{
	const char *comma = "{\"decimal\": \",\"}";

	(void) state;
	expect(
		NULL, false,
		"[{\"id\": \"a\", \"quantity\": 1.000, \"price\": 1.299}, {\"id\": \"b\", \"quantity\": "
		"\"1.000\"}, {\"id\": \"c\", \"quantity\": \"5\", \"price\": \"1.299\"}, {\"id\": \"d\", "
		"\"quantity\": 1, \"price\": \"15.00 USD\"}, {\"id\": \"e\", \"quantity\": 1, \"price\": "
		"{}}]",
		"0:a/-/1.000/1.299/- 1:b/-/-/-/quantity_ambiguous 2:c/-/5/price_ambiguous/- "
		"3:d/-/1/price_unreadable/- 4:e/-/1/price_unreadable/- ");
	expect(comma, false,
		   "[{\"id\": \"a\", \"quantity\": \"1.000\", \"price\": \"1.299,00\"}, {\"id\": \"b\", "
		   "\"quantity\": 5.0, \"price\": 1.5}]",
		   "0:a/-/1000/1299.00/- 1:b/-/5.0/1.5/- ");
	/* an empty text is as if it were not given */
	expect(NULL, false,
		   "[{\"id\": \"a\", \"quantity\": \"\", \"stock\": 3, \"price\": \"\", \"name\": \"\"}]",
		   "0:a/-/3/-/- ");
}

static void
encodings_are_decoded(void **state)
{
	const char *latin = "{\"format\": \"csv\", \"charset\": \"windows-1252\"}";

	(void) state;
	expect(latin, false, "id,quantity,name\ncaf\xe9,5,\x80\n", "0:caf\xc3\xa9/\xe2\x82\xac/5/-/- ");
	expect_bytes(NULL, false, "\xff\xfe[\0]\0", 6, "");
	expect("{\"charset\": \"klingon\"}", false, "[]",
		   "the feed's charset \"klingon\" is not known");
}

static void
a_page_is_no_feed(void **state)
{
	const char *mapping = "{\"items\": \"$.data\"}";
	const char *page = "the feed goes on in a next page (\"next\"): pages are not followed";

	(void) state;
	expect(mapping, false, "{\"data\": [], \"next\": \"/?page=2\"}", page);
	expect(mapping, false, "{\"links\": {\"next\": \"/?page=2\"}, \"data\": []}", page);
	expect(mapping, false, "{\"@odata.nextLink\": \"/?page=2\", \"data\": []}", page);
	expect(mapping, false,
		   "{\"next\": null, \"data\": [{\"id\": \"a\", \"quantity\": 1, \"next\": \"x\"}]}",
		   "0:a/-/1/-/- ");
	expect(mapping, false, "{\"next\": \"\", \"nextRun\": \"noon\", \"data\": []}", "");
}

static void
a_sample_is_spread_evenly(void **state)
{
	const char *skus[3];
	size_t      unreadable;
	const char *text =
		"[{\"id\": \"c\", \"quantity\": 1}, {\"id\": \"a\"}, {\"id\": \"a\", \"quantity\": 1}, "
		"{\"id\": \"b\", \"quantity\": 1}, {\"id\": \"e\", \"quantity\": 1}, {}, {\"id\": \"d\", "
		"\"quantity\": 1}, {\"id\": \"f\", \"quantity\": 1}]";
	Feed *feed = feed_create(NULL, false, NULL, 100);

	(void) state;
	assert_true(feed_add(feed, text, strlen(text)) && feed_finish(feed));
	assert_int_equal(feed_count_offers(feed, &unreadable), 6);
	assert_int_equal(unreadable, 2);
	assert_string_equal(feed_main_complaint(feed), "id_missing");
	assert_int_equal(feed_sample(feed, skus, 3), 3);
	assert_string_equal(skus[0], "a");
	assert_string_equal(skus[1], "c");
	assert_string_equal(skus[2], "e");
	feed_free(feed);
}

/* A feed of so many times that element. */
static void
expect_many(int times, const char *element, int items_max, const char *error)
{
	Feed *feed = feed_create(NULL, false, NULL, items_max);
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
	expect(mapping, false, "{\"i\": [], \"at\": \"today\"}",
		   "the feed's time \"today\" is in no form that says one time: ISO 8601, RFC 9110, "
		   "seconds or "
		   "milliseconds since 1970");
	expect(
		mapping, false, "{\"i\": [], \"at\": \"2026-01-02 03:04\"}",
		"the feed's time \"2026-01-02 03:04\" names no zone: say which with feed_mapping.timeZone");
	expect("{\"items\": \"$.i\", \"asOf\": \"$.at\", \"timeZone\": \"Europe/Berlin\"}", false,
		   "{\"i\": [], \"at\": \"2026-01-02 03:04\"}", "at 2026-01-02 03:04");
	expect(mapping, false, "{\"i\": [], \"at\": 1767225600}", "at 1767225600");
}

static void
many_items_in_any_order(void **state)
{
	char  *text = NULL;
	size_t bytes;
	FILE  *stream = open_memstream(&text, &bytes);
	Feed  *feed = feed_create(NULL, false, NULL, 100000);
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
		cmocka_unit_test(quotes_that_swallow_rows),
		cmocka_unit_test(a_price_with_a_comma_moves_what_follows),
		cmocka_unit_test(blank_rows_of_a_csv_are_no_items),
		cmocka_unit_test(a_csv_says_what_its_delimiter_is),
		cmocka_unit_test(columns_by_their_names_whatever_the_case),
		cmocka_unit_test(what_office_programs_do_to_values),
		cmocka_unit_test(numbers_by_the_mapping),
		cmocka_unit_test(encodings_are_decoded),
		cmocka_unit_test(a_page_is_no_feed),
		cmocka_unit_test(a_sample_is_spread_evenly),
		cmocka_unit_test(many_items_in_any_order),
		cmocka_unit_test(what_is_no_stock_feed_is_given_up),
		cmocka_unit_test(a_time_that_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
