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

/* ---------- building ---------- */

static int failing; /* 0, or which of the next requests for memory fails */

extern void *__real_realloc(void *memory, size_t bytes);
extern void *__wrap_realloc(void *memory, size_t bytes);

void *
__wrap_realloc(void *memory, size_t bytes)
{
	return failing > 0 && --failing == 0 ? NULL : __real_realloc(memory, bytes);
}

/* A text of 40 000 bytes in pieces of all kinds; NULL if memory was short. */
static char *
long_text(void)
{
	static char wide[1001];
	Text        text = {0};

	memset(wide, 'w', sizeof(wide) - 1);
	for (int i = 0; i < 20; i++)
	{
		text_add_char(&text, '[');
		text_add_string(&text, "string");
		text_add(&text, "\0]", 2);
		for (int n = 0; n < 90; n++)
			text_add_format(&text, "%010d", n);
		text_add_format(&text, "%s%091d", wide, 7);
	}
	assert_true(text.is_short || text.length == 40000);
	return text_finish(&text);
}

static void
a_text_for_which_memory_was_short_is_none(void **state)
{
	char *whole = long_text();
	char *text = NULL;
	int   nth = 0;

	(void) state;
	assert_non_null(whole);
	assert_memory_equal(whole, "[string\0]00000000000000000001", 29);
	assert_memory_equal(whole + 38000 + 1906, "www0000", 7);
	assert_int_equal(whole[40000], '\0');
	while (text == NULL)
	{
		failing = ++nth;
		text = long_text();
		assert_int_equal(text != NULL, failing > 0); /* none failed any more */
	}
	failing = 0;
	assert_true(nth > 5);
	assert_memory_equal(text, whole, 40001);
	free(text);
	free(whole);
	failing = 1;
	text = text_finish(&(Text){0});
	assert_null(text);
	text = text_finish(&(Text){0});
	assert_string_equal(text, "");
	free(text);
}

static void
assert_readable(const char *json, const char *as_reals, const char *as_texts)
{
	char *text = text_readable_numbers(json, true);

	assert_string_equal(text, as_reals);
	free(text);
	text = text_readable_numbers(json, false);
	assert_string_equal(text, as_texts);
	free(text);
}

static void
numbers_that_jansson_does_not_read_become_such_that_it_does(void **state)
{
	static const char same[] =
		"{\"a\": [1, -2.5e3, 9223372036854775807, 1e-400, true, false, null], "
		"\"99999999999999999999\": \"\\\"1e999 \\\\\"}";

	(void) state;
	assert_readable(same, same, same);
	assert_readable("[99999999999999999999,-9223372036854775809]",
					"[99999999999999999999.0,-9223372036854775809.0]",
					"[\"99999999999999999999\",\"-9223372036854775809\"]");
	assert_readable("{\"x\":1e999,\"y\":-1.5E+400}", "{\"x\":\"1e999\",\"y\":\"-1.5E+400\"}",
					"{\"x\":\"1e999\",\"y\":\"-1.5E+400\"}");
	assert_readable("\"\\", "\"\\", "\"\\");
}

/* ---------- looking ---------- */

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

static void
an_excerpt_ends_with_a_whole_character(void **state)
{
	static const char *const characters[] = {"x", "\u00e4", "\u20ac", "\U0001f600"};
	char                     text[1000];
	char                     excerpt[TEXT_EXCERPT_BYTES];

	(void) state;
	for (size_t i = 0; i < sizeof(characters) / sizeof(characters[0]); i++)
	{
		size_t kept = TEXT_EXCERPT_CHARS * strlen(characters[i]);

		*text = '\0';
		for (int chars = 0; chars < TEXT_EXCERPT_CHARS; chars++)
			strcat(text, characters[i]);
		text_excerpt(text, excerpt);
		assert_string_equal(excerpt, text);
		strcat(text, characters[i]);
		text_excerpt(text, excerpt);
		assert_memory_equal(excerpt, text, kept);
		assert_string_equal(excerpt + kept, "...");
	}
	text_excerpt("", excerpt);
	assert_string_equal(excerpt, "");
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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_excerpt_ends_with_a_whole_character),
		cmocka_unit_test(utf_8_is_what_a_library_takes_for_it),
		cmocka_unit_test(a_whole_number_and_nothing_more),
		cmocka_unit_test(escaped_text_cannot_pretend),
		cmocka_unit_test(a_cut_leaves_whole_characters),
		cmocka_unit_test(a_text_for_which_memory_was_short_is_none),
		cmocka_unit_test(numbers_that_jansson_does_not_read_become_such_that_it_does),
		cmocka_unit_test(array_elements_are_quoted)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
