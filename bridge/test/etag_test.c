/*
 * etag_test.c
 *		Tags of answers, and If-None-Match as clients and proxies write it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "http/etag.h"

static void
another_body_has_another_tag(void **state)
{
	char one[ETAG_BYTES_MAX];
	char same[ETAG_BYTES_MAX];
	char other[ETAG_BYTES_MAX];

	(void) state;
	etag_of("{\"quantity\": 1}", one);
	etag_of("{\"quantity\": 1}", same);
	etag_of("{\"quantity\": 2}", other);
	assert_string_equal(one, same);
	assert_string_not_equal(one, other);
	etag_of("", other);
	assert_true(*other == '"' && other[strlen(other) - 1] == '"' && strlen(other) > 2);
	assert_ptr_equal(strchr(other + 1, '"'), other + strlen(other) - 1);
}

static void
if_none_match(void **state)
{
	char tag[ETAG_BYTES_MAX];
	char list[200];

	static const char *const has_it[] = {"%s", "W/%s", "\"a\", %s", "\"a\",W/%s,\"b\"", "  %s  "};

	(void) state;
	etag_of("x", tag);
	for (size_t i = 0; i < sizeof(has_it) / sizeof(has_it[0]); i++)
	{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(list, sizeof(list), has_it[i], tag);
#pragma GCC diagnostic pop
		assert_true(etag_matches(list, tag));
	}
	assert_true(etag_matches("*", tag));
	assert_false(etag_matches(NULL, tag));
	assert_false(etag_matches("", tag));
	assert_false(etag_matches("\"a\", \"b\"", tag));
	/* without its quotes, or the end of another one, it is not it */
	snprintf(list, sizeof(list), "%.*s", (int) strlen(tag) - 2, tag + 1);
	assert_false(etag_matches(list, tag));
	snprintf(list, sizeof(list), "\"a%s", tag + 1);
	assert_false(etag_matches(list, tag));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(another_body_has_another_tag),
		cmocka_unit_test(if_none_match),
	};

	return cmocka_run_group_tests_name("etag", tests, NULL, NULL);
}
