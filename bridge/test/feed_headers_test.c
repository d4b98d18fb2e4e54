/*
 * feed_headers_test.c
 *		Vendors' keys: each for one origin.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sync/feed_headers.h"

static char path[] = "/tmp/feed_headers_test.XXXXXX";

static bool
load(const char *text)
{
	FILE *file = fopen(path, "w");

	fputs(text, file);
	fclose(file);
	return feed_headers_load(path);
}

static void
keep_last(void *context, const char *header)
{
	snprintf(context, 100, "%s", header);
}

static void
a_key_goes_to_its_origin_alone(void **state)
{
	static const char *const others[] = {"http://feeds.example/stock",
										 "https://feeds.example:8443/",
										 "https://feeds.example.evil/",
										 "https://evil.example/",
										 "https://feeds.example@evil.example/",
										 "https://feeds.exampl\xc3\xa9/",
										 "https://evil.example/?https://feeds.example",
										 "https://evil.example#@feeds.example",
										 "ftp://feeds.example/",
										 "https://",
										 "nonsense"};
	char                     header[100] = "";

	(void) state;
	assert_true(load("# keys\na https://Feeds.example Authorization: Bearer k\na "
					 "feeds.example:8444 X-Other: 1\nb http://10.0.0.7:8080 X-Key: 2\n"));
	assert_int_equal(feed_headers_each("a", "https://feeds.example/stock?x=1", keep_last, header),
					 1);
	assert_string_equal(header, "Authorization: Bearer k");
	assert_int_equal(feed_headers_each("a", "https://FEEDS.example:443", keep_last, header), 1);
	assert_int_equal(feed_headers_each("a", "https://feeds.example:8444/", keep_last, header), 1);
	assert_string_equal(header, "X-Other: 1");
	assert_int_equal(feed_headers_each("b", "http://10.0.0.7:8080/stock", keep_last, header), 1);
	assert_int_equal(feed_headers_each("nobody", "https://feeds.example/", keep_last, header), 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		if (feed_headers_each("a", others[i], keep_last, header) != -1)
			fail_msg("%s got a key", others[i]);
	}
}

static void
a_bad_file_changes_nothing(void **state)
{
	static const char *const bad[] = {
		"a Authorization: Bearer k\n", "a https://x\n",        "a\n",
		"a https://x/path K: v\n",     "a https://u@x K: v\n", "a ftp://x K: v\n",
		"a https:// K: v\n",           "a https://x K\n",      "a https://x : v\n",
		"a https://x:99999 K: v\n"};
	char header[100] = "";

	(void) state;
	assert_true(load("a https://x K: v\n"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (load(bad[i]))
			fail_msg("%s was taken", bad[i]);
	}
	assert_int_equal(feed_headers_each("a", "https://x/", keep_last, header), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_key_goes_to_its_origin_alone),
									   cmocka_unit_test(a_bad_file_changes_nothing)};
	int                     failed;

	close(mkstemp(path));
	chmod(path, 0600);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
