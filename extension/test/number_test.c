/*
 * number_test.c
 *		Numbers as people and programs write them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "feed/number.h"

/* What is read, or "none" or "ambiguous". */
static const char *
read_as(const char *text, char decimal)
{
	static char plain[NUMBER_ROOM];

	switch (number_read(text, decimal, plain))
	{
		case NUMBER_NONE:
			return "none";
		case NUMBER_AMBIGUOUS:
			return "ambiguous";
		case NUMBER_READ:
			break;
	}
	return plain;
}

/* By each mark: none declared, a point, a comma. */
static void
expect(const char *text, const char *undeclared, const char *point, const char *comma)
{
	assert_string_equal(read_as(text, 0), undeclared);
	assert_string_equal(read_as(text, '.'), point);
	assert_string_equal(read_as(text, ','), comma);
}

static void
expect_all(const char *text, const char *result)
{
	expect(text, result, result, result);
}

static void
whole_numbers(void **state)
{
	(void) state;
	expect_all("0", "0");
	expect_all("5", "5");
	expect_all("+5", "5");
	expect_all("-5", "-5");
	expect_all("\xe2\x88\x92"
			   "5",
			   "-5");
	expect_all("007", "7");
	expect_all("000", "0");
	expect_all(" 5\t", "5");
	expect_all("\xc2\xa0"
			   "5\xc2\xa0",
			   "5");
	expect_all("9999999999999999999999999999999999999999",
			   "9999999999999999999999999999999999999999");
}

static void
one_mark_is_a_point_or_a_group_or_nobody_knows(void **state)
{
	(void) state;
	expect("1.5", "1.5", "1.5", "none");
	expect("1,5", "1.5", "none", "1.5");
	expect("1.50", "1.50", "1.50", "none");
	expect("1.000", "ambiguous", "1.000", "1000");
	expect("1,000", "ambiguous", "1000", "1.000");
	expect("-1.299", "ambiguous", "-1.299", "-1299");
	expect("999.999", "ambiguous", "999.999", "999999");
	/* what no group of three could be */
	expect("0.500", "0.500", "0.500", "none");
	expect("1234.567", "1234.567", "1234.567", "none");
	expect("1.0000", "1.0000", "1.0000", "none");
	expect(".5", "0.5", "0.5", "none");
	expect(".500", "0.500", "0.500", "none");
	expect("19.989999999999998", "19.989999999999998", "19.989999999999998", "none");
}

static void
several_marks_say_it_themselves(void **state)
{
	(void) state;
	expect("1.299,00", "1299.00", "none", "1299.00");
	expect("1,299.00", "1299.00", "1299.00", "none");
	expect("15,550.000", "15550.000", "15550.000", "none");
	expect("1.234.567", "1234567", "none", "1234567");
	expect("1,234,567.8", "1234567.8", "1234567.8", "none");
	expect_all("1 200", "1200");
	expect_all("1\xc2\xa0"
			   "200",
			   "1200");
	expect_all("1\xe2\x80\xaf"
			   "200",
			   "1200");
	expect_all("1'000", "1000");
	expect_all("1\xe2\x80\x99"
			   "000",
			   "1000");
	expect("1'000.50", "1000.50", "1000.50", "none");
	expect("1 000,50", "1000.50", "none", "1000.50");
}

static void
groups_have_three_digits_and_one_mark(void **state)
{
	(void) state;
	expect_all("12 34", "none");
	expect_all("1 000'000", "none");
	expect_all("1234 567", "none");
	expect_all("1.23.456", "none");
	expect_all("1,299,00", "none");
	expect_all("1.299.00", "none");
	expect_all("1..000", "none");
	expect_all("1.,0", "none");
	expect_all("1 ,5", "none");
}

static void
exponents_move_the_point(void **state)
{
	(void) state;
	expect_all("1e3", "1000");
	expect_all("1E+3", "1000");
	expect_all("5e-1", "0.5");
	expect_all("5e-3", "0.005");
	expect("1.5e1", "15", "15", "none");
	expect("1.500e3", "1500", "1500", "none");
	expect("1.23457E+12", "1234570000000", "1234570000000", "none");
	expect("12.5e-1", "1.25", "1.25", "none");
	expect_all("1e", "none");
	expect_all("1e+", "none");
	expect_all("1e1000", "none");
	expect_all("1e999", "none");
	expect_all("1e-999", "none");
	expect_all("1 000e3", "none");
}

static void
what_is_no_number(void **state)
{
	static const char *const texts[] = {"",
										" ",
										"-",
										"+",
										".",
										",",
										"5.",
										"5,",
										"--5",
										"+-5",
										"5-",
										"10+",
										">10",
										"5 pcs",
										"pcs",
										"true",
										"null",
										"15.00 USD",
										"\xe2\x82\xac"
										"5",
										"0x10",
										"1_000",
										"NaN",
										"Infinity",
										"5\n6",
										"5e3.5",
										"99999999999999999999999999999999999999999"};

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		expect_all(texts[i], "none");
}

static void
counts_are_whole_and_bounded(void **state)
{
	int64_t count;

	(void) state;
	assert_true(number_is_count("5.00", &count) && count == 5);
	assert_true(number_is_count("-7", &count) && count == -7);
	assert_true(number_is_count("1000000000000", &count) && count == COUNT_MAX);
	assert_true(number_is_count("-1000000000000", &count));
	assert_false(number_is_count("1000000000001", &count));
	assert_false(number_is_count("5.5", &count));
	assert_false(number_is_count("9999999999999999999999", &count));
	assert_false(number_is_count("", &count));
}

/* Whatever it is, what is read is a number of JSON, and reads as itself. */
static void
what_is_read_is_plain(void **state)
{
	static const char alphabet[] = "0123456789.,-+eE '\xc2\xa0";

	(void) state;
	srand(7);
	for (int n = 0; n < 300000; n++)
	{
		char text[16] = "";
		char plain[NUMBER_ROOM];
		char again[NUMBER_ROOM];

		for (int i = rand() % 12; i > 0; i--)
			text[strlen(text)] = alphabet[rand() % (int) (sizeof(alphabet) - 1)];
		if (number_read(text, ".,\0"[rand() % 3], plain) != NUMBER_READ)
			continue;
		assert_true(strspn(plain, "-.0123456789") == strlen(plain));
		if (strlen(plain) > NUMBER_BYTES_MAX)
			continue;
		assert_int_equal(number_read(plain, '.', again), NUMBER_READ);
		assert_string_equal(again, plain);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_numbers),
		cmocka_unit_test(one_mark_is_a_point_or_a_group_or_nobody_knows),
		cmocka_unit_test(several_marks_say_it_themselves),
		cmocka_unit_test(groups_have_three_digits_and_one_mark),
		cmocka_unit_test(exponents_move_the_point),
		cmocka_unit_test(what_is_no_number),
		cmocka_unit_test(counts_are_whole_and_bounded),
		cmocka_unit_test(what_is_read_is_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
