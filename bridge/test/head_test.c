/*
 * head_test.c
 *		The head of a request against RFC 9110 and 9112, and targets taken apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "http/head.h"

/* The status for a head of these fields, given as name, value, ..., NULL. */
static int
status_of(bool is_http_1_0, const char *const *texts)
{
	HttpHead    head = {.is_http_1_0 = is_http_1_0};
	const char *complaint = NULL;
	const char *field;
	int         status;

	for (int i = 0; texts[i] != NULL; i += 2)
		assert_true(
			http_head_add(&head, texts[i], strlen(texts[i]), texts[i + 1], strlen(texts[i + 1])));
	status = http_head_check(&head, &complaint, &field);
	assert_true((status != 0) == (complaint != NULL));
	http_head_free(&head);
	return status;
}

#define STATUS_OF(...)     status_of(false, (const char *const[]){"Host", "x", __VA_ARGS__, NULL})
#define STATUS_OF_1_0(...) status_of(true, (const char *const[]){__VA_ARGS__, NULL})

static void
framing_is_told_in_one_way(void **state)
{
	(void) state;
	assert_int_equal(STATUS_OF("Content-Length", "5"), 0);
	assert_int_equal(STATUS_OF("content-length", "0005"), 0);
	assert_int_equal(STATUS_OF("Transfer-Encoding", "CHUNKED"), 0);
	assert_int_equal(STATUS_OF("Content-Length", "5", "Content-Length", "5"), 400);
	assert_int_equal(STATUS_OF("Content-Length", "5", "transfer-encoding", "chunked"), 400);
	assert_int_equal(STATUS_OF("Content-Length", "5 6"), 400);
	assert_int_equal(STATUS_OF("Content-Length", ""), 400);
	assert_int_equal(STATUS_OF("Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked"),
					 400);
	assert_int_equal(STATUS_OF("Transfer-Encoding", "xchunked"), 501);
	assert_int_equal(STATUS_OF_1_0("Transfer-Encoding", "chunked"), 400);
}

static void
names_and_values_are_what_the_grammar_says(void **state)
{
	(void) state;
	assert_int_equal(STATUS_OF("X-!#$%&'*+-.^_`|~09aZ", "\t any \x80\xff value\t"), 0);
	for (int c = 1; c < 0x80; c++)
	{
		const char name[] = {'X', (char) c, '\0'};
		const char value[] = {'a', (char) c, 'b', '\0'};
		bool       is_token = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
						(c >= 'a' && c <= 'z') || strchr("!#$%&'*+-.^_`|~", c);

		assert_int_equal(STATUS_OF(name, "v"), is_token ? 0 : 400);
		assert_int_equal(STATUS_OF("X", value), c == '\t' || (c >= ' ' && c != 0x7f) ? 0 : 400);
	}
	assert_int_equal(STATUS_OF("", "v"), 400);
}

static void
one_host(void **state)
{
	(void) state;
	assert_int_equal(status_of(false, (const char *const[]){NULL}), 400);
	assert_int_equal(STATUS_OF_1_0(NULL, NULL), 0);
	assert_int_equal(STATUS_OF("Host", "y"), 400);
	assert_int_equal(status_of(false, (const char *const[]){"Host", "", NULL}), 0);
	assert_int_equal(status_of(false, (const char *const[]){"Host", "[fe80::1%25eth0]:80", NULL}),
					 0);
	assert_int_equal(status_of(false, (const char *const[]){"Host", "x/y", NULL}), 400);
	assert_int_equal(status_of(false, (const char *const[]){"Host", "x y", NULL}), 400);
}

static void
blanks_around_a_value_are_not_part_of_it(void **state)
{
	HttpHead         head = {0};
	const HttpField *field;

	(void) state;
	assert_true(http_head_add(&head, "Key", 3, " \t a b \t ", 9));
	field = http_head_find(&head, "kEY");
	assert_string_equal(field->value, "a b");
	assert_null(http_head_find(&head, "Ke"));
	http_head_free(&head);
}

static void
too_many_fields_are_refused(void **state)
{
	HttpHead head = {0};

	(void) state;
	for (int i = 0; i < HTTP_FIELDS_MAX; i++)
		assert_true(http_head_add(&head, "X", 1, "y", 1));
	assert_false(http_head_add(&head, "X", 1, "y", 1));
	http_head_free(&head);
}

/* The target's segments and parameters put together again, or the status it is refused with. */
static const char *
taken_apart(const char *text)
{
	static char result[1000];
	HttpTarget  target;
	const char *complaint;
	int         status = http_target_parse(&target, text, &complaint);

	snprintf(result, sizeof(result), "%d", status);
	if (status == 0)
	{
		*result = '\0';
		for (int i = 0; i < target.nsegments && i < HTTP_SEGMENTS_MAX; i++)
			snprintf(result + strlen(result), sizeof(result) - strlen(result), "[%s]",
					 target.segments[i]);
		for (int i = 0; i < target.nquery; i++)
			snprintf(result + strlen(result), sizeof(result) - strlen(result), "{%s=%s}",
					 target.query[i].name, target.query[i].value);
		if (target.nsegments > HTTP_SEGMENTS_MAX)
			strcat(result, "...");
	}
	http_target_free(&target);
	return result;
}

static void
targets(void **state)
{
	static const char *const cases[][2] = {
		{"/", "[]"},
		{"*", ""},
		{"/order/7", "[order][7]"},
		{"/a%2Fb/c", "[a/b][c]"},
		{"/a+b", "[a+b]"},
		{"/%c3%bc", "[\xc3\xbc]"},
		{"/\xc3\xbc", "[\xc3\xbc]"},
		{"/p?a=1&b=x+y%2Bz&c", "[p]{a=1}{b=x y+z}{c=}"},
		{"/p?", "[p]"},
		{"/p?&&a=b=c&", "[p]{a=b=c}"},
		{"http://h:1/p?q=r", "[p]{q=r}"},
		{"HTTPS://h", ""},
		{"http://h?q", "{q=}"},
		{"//p", "[][p]"},
		{"/p/", "[p][]"},
		{"/1/2/3/4/5/6/7/8", "[1][2][3][4][5][6][7][8]"},
		{"/1/2/3/4/5/6/7/8/9", "[1][2][3][4][5][6][7][8]..."},
		{"", "400"},
		{"p", "400"},
		{"ftp://h/p", "400"},
		{"/%", "400"},
		{"/%1", "400"},
		{"/%g1", "400"},
		{"/%00", "400"},
		{"/%ff", "400"},
		{"/%ed%a0%80", "400"},
		{"/a b", "400"},
		{"/a#b", "400"},
		{"/p?a=1&a=2", "400"},
		{"/p?a=%0", "400"},
		{"/p?%00=1", "400"},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(taken_apart(cases[i][0]), cases[i][1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(framing_is_told_in_one_way),
		cmocka_unit_test(names_and_values_are_what_the_grammar_says),
		cmocka_unit_test(one_host),
		cmocka_unit_test(blanks_around_a_value_are_not_part_of_it),
		cmocka_unit_test(too_many_fields_are_refused),
		cmocka_unit_test(targets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
