/*
 * text_test.c
 *		Strangers' text: cut, escaped, quoted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static void
escaped_text_cannot_pretend(void **state)
{
	static const char *const pairs[][2] = {
		{"plain text, \"quoted\"", "plain text, \"quoted\""},
		{"Zo\xc3\xab \xe2\x82\xac \xf0\x9f\x9b\x92", "Zo\xc3\xab \xe2\x82\xac \xf0\x9f\x9b\x92"},
		{"\x1b[31mred", "\\u{1b}[31mred"},
		{"a\x7f"
		 "b",
		 "a\\u{7f}b"},
		{"\xc2\x9b"
		 "31m",
		 "\\u{9b}31m"},
		{"user \xe2\x80\xaegnp.exe", "user \\u{202e}gnp.exe"},
		{"\xe2\x81\xa6x\xe2\x81\xa9", "\\u{2066}x\\u{2069}"},
		{"\xd8\x9c\xe2\x80\x8b\xef\xbb\xbf", "\\u{61c}\\u{200b}\\u{feff}"},
		{"\xe2\x80\xa8line", "\\u{2028}line"},
		{"\xff\xc3", "\\xff\\xc3"},
		{"\xc0\xae\xed\xa0\x80", "\\xc0\\xae\\xed\\xa0\\x80"},
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
		{"\xe2\x82", "\\xe2\\x82"},
		{"", ""}};
	char escaped[256];

	(void) state;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		text_escape(pairs[i][0], escaped, sizeof(escaped));
		assert_string_equal(escaped, pairs[i][1]);
	}
	/* no character, and no escape, is cut in two */
	text_escape("abc\xe2\x82\xac", escaped, 6);
	assert_string_equal(escaped, "abc");
	text_escape("abc\x1b", escaped, 8);
	assert_string_equal(escaped, "abc");
}

static void
a_cut_leaves_whole_characters(void **state)
{
	static const char text[] =
		"a\xc3\xab\xe2\x82\xac\xf0\x9f\x9b\x92z"; /* of 1, 2, 3, 4 and 1 bytes */
	static const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};

	(void) state;
	for (size_t bytes = 0; bytes < sizeof(whole) / sizeof(whole[0]); bytes++)
	{
		char copy[sizeof(text)];

		memcpy(copy, text, sizeof(text));
		text_cut(copy, bytes);
		assert_int_equal(strlen(copy), whole[bytes]);
	}
}

static void
array_elements_are_quoted(void **state)
{
	const char *const strings[] = {"a\"b\\c,{}", NULL, "", "NULL"};
	char             *text = text_of_strings(strings, 4);

	(void) state;
	assert_string_equal(text, "{\"a\\\"b\\\\c,{}\",NULL,\"\",\"NULL\"}");
	free(text);
	text = text_of_strings(NULL, 0);
	assert_string_equal(text, "{}");
	free(text);
}

static void
a_whole_number_and_nothing_more(void **state)
{
	static const char *const bad[] = {"",    " ",    "x",  "1x", "1 ",
									  "1.0", "0x10", "-1", "8",  "9223372036854775808"};
	long long                number;

	(void) state;
	assert_true(text_read_number("0", 0, 7, &number) && number == 0);
	assert_true(text_read_number("7", 0, 7, &number) && number == 7);
	assert_true(text_read_number("-3", -3, 7, &number) && number == -3);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(text_read_number(bad[i], 0, 7, &number));
	assert_false(text_read_number("9223372036854775808", 0, INT64_MAX, &number));
}

/* jansson takes as a string what is UTF-8, and nothing else. */
static void
utf_8_is_what_a_library_takes_for_it(void **state)
{
	static const unsigned char edges[] = {0x01, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
										  0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef,
										  0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
	int                        taken = 0;

	(void) state;
	srand(7);
	for (int n = 0; n < 500000; n++)
	{
		char    text[6];
		size_t  bytes = (size_t) (rand() % 6);
		json_t *string;

		for (size_t i = 0; i < bytes; i++)
			text[i] = (char) edges[rand() % (int) sizeof(edges)];
		string = json_stringn(text, bytes);
		assert_int_equal(text_is_utf8(text, bytes), string != NULL);
		taken += string != NULL && bytes > 2;
		json_decref(string);
	}
	assert_true(taken > 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(utf_8_is_what_a_library_takes_for_it),
									   cmocka_unit_test(a_whole_number_and_nothing_more),
									   cmocka_unit_test(escaped_text_cannot_pretend),
									   cmocka_unit_test(a_cut_leaves_whole_characters),
									   cmocka_unit_test(array_elements_are_quoted)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
