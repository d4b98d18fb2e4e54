/*
 * reply_text_test.c
 *		Vendors' replies read with tolerance where their meaning is clear.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replies/reply_text.h"

#define START "{\"orderId\":7,\"vendorId\":\"a\",\"attempt\":1,\"status\":\"rejected\""

static char complaint[200];

static char *
read_text(const char *body)
{
	return reply_text_read(body, strlen(body), complaint, sizeof(complaint));
}

static void
assert_read_as(const char *body, const char *expected)
{
	char *text = read_text(body);

	if (text == NULL)
		fail_msg("%s: %s", body, complaint);
	assert_string_equal(text, expected);
	free(text);
}

static void
what_is_clear_is_read(void **state)
{
	(void) state;
	assert_read_as(START "}", START "}");
	assert_read_as("\xef\xbb\xbf " START "}\r\n", START "}");
	assert_read_as(START ",\"note\":{\"a\":[1]},\"at\":null}", START "}");
	assert_read_as(START ",\"reason\":null}", START "}");
	assert_read_as(START ",\"reason\":\"sold\nout\tnow\"}", START ",\"reason\":\"sold out now\"}");
	assert_read_as(START ",\"reason\":\"caf\xe9\"}", START ",\"reason\":\"caf\xef\xbf\xbd\"}");
	assert_read_as(START ",\"reason\":\"\xc3\xbc\"}", START ",\"reason\":\"\xc3\xbc\"}");
	assert_read_as(START ",\"reason\":\"a\\u0000b\"}", START ",\"reason\":\"a\xef\xbf\xbd"
															 "b\"}");
	assert_read_as(START ",\"reason\":\"\\ud800\"}", START ",\"reason\":\"\xef\xbf\xbd\"}");
	assert_read_as(START ",\"reason\":\"\\udc00\\ud83d\\ude00\"}",
				   START ",\"reason\":\"\xef\xbf\xbd\xf0\x9f\x98\x80\"}");
	assert_read_as(START ",\"reason\":\"\\\\u0000\"}", START ",\"reason\":\"\\\\u0000\"}");
	assert_read_as(START ",\"reason\":404}", START ",\"reason\":\"404\"}");
	assert_read_as(START ",\"reason\":[\"a\",1]}", START ",\"reason\":\"[\\\"a\\\",1]\"}");
	/* numbers beyond what any variable of ours holds */
	assert_read_as(START ",\"erpRef\":123456789012345678901,\"x\":[1e400,-1e999]}", START "}");
	assert_read_as(START ",\"reason\":12345678901234567890}",
				   START ",\"reason\":\"12345678901234567890\"}");
	assert_read_as("{\"orderId\":99999999999999999999,\"attempt\":1e999}",
				   "{\"orderId\":\"99999999999999999999\",\"attempt\":\"1e999\"}");
	assert_read_as("{\"orderId\": \"7\", \"status\": \"Confirmed\"}",
				   "{\"orderId\":\"7\",\"status\":\"Confirmed\"}");
}

/* Which else would take minutes; a megabyte takes as long as a thousand kilobytes. */
static void
what_is_large_is_read_in_one_go(void **state)
{
	enum
	{
		PIECES = 300000
	};
	char *body = malloc(sizeof(START) + 6 * PIECES + 64);
	char *end = stpcpy(body, START ",\"reason\":\"");

	(void) state;
	alarm(60);
	for (int i = 0; i < PIECES; i++)
		end = stpcpy(end, i % 2 == 0 ? "\\u0434" : "\\u0000");
	strcpy(end, "\"}");
	end = read_text(body);
	assert_non_null(end);
	free(end);
	end = stpcpy(body, START ",\"x\":[");
	for (int i = 0; i < PIECES; i++)
		end = stpcpy(end, "1,");
	assert_null(read_text(body)); /* it does not end */
	free(body);
	alarm(0);
}

static void
what_is_not_clear_is_not_read(void **state)
{
	static const char *const cases[] = {
		"",          "x",           "[]",
		"7",         "null",        "\"confirmed\"",
		"{",         START,         START ",\"status\":\"confirmed\"}",
		START "}{}", "\xff\xfe{\"", "{'orderId':7}"};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char *text = read_text(cases[i]);

		if (text != NULL)
			fail_msg("%s was read as %s", cases[i], text);
		assert_true(strlen(complaint) > 0);
	}
	assert_null(reply_text_read(START "}\0", strlen(START) + 2, complaint, sizeof(complaint)));
	assert_non_null(strstr(complaint, "NUL"));
}

static void
a_long_reason_is_cut_between_characters(void **state)
{
	(void) state;
	for (size_t before = 0; before < 4; before++)
	{
		char    body[8000] = START ",\"reason\":\"";
		char   *text;
		json_t *reply;
		size_t  length;

		strcat(body, &"xxx"[3 - before]);
		for (int i = 0; i < 700; i++)
			strcat(body, "\xf0\x9f\x98\x80");
		strcat(body, "\"}");
		text = read_text(body);
		assert_non_null(text);
		reply = json_loads(text, 0, NULL); /* strict: half a character would not do */
		assert_non_null(reply);
		length = json_string_length(json_object_get(reply, "reason"));
		assert_true(length <= REPLY_REASON_BYTES_MAX && length > REPLY_REASON_BYTES_MAX - 4);
		json_decref(reply);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_clear_is_read),
		cmocka_unit_test(what_is_large_is_read_in_one_go),
		cmocka_unit_test(what_is_not_clear_is_not_read),
		cmocka_unit_test(a_long_reason_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
