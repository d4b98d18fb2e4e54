/*
 * money_test.c
 *		Prices and sums to the last digit; the server's numeric stands aside.
 */
#include "postgres.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/money.h"
#include "utils/fmgrprotos.h"

/* ---------- in place of the server ---------- */

#undef strdup

char *
pstrdup(const char *text)
{
	static char copies[8][64];
	static int  next;
	char       *copy = copies[next++ % 8];

	strcpy(copy, text);
	return copy;
}

void
pfree(void *pointer)
{
	(void) pointer;
}

Datum
DirectFunctionCall1Coll(PGFunction function, Oid collation, Datum argument)
{
	(void) function;
	(void) collation;
	return argument; /* numeric_out of what is a text here */
}

/* numeric_eq of what are texts here. */
Datum
DirectFunctionCall2Coll(PGFunction function, Oid collation, Datum a, Datum b)
{
	(void) function;
	(void) collation;
	return BoolGetDatum(b != (Datum) 0 && strcmp(DatumGetCString(a), DatumGetCString(b)) == 0);
}

static const char *given_to_numeric;

Datum
DirectFunctionCall3Coll(PGFunction function, Oid collation, Datum argument, Datum type, Datum mod)
{
	(void) function;
	(void) collation;
	(void) type;
	(void) mod;
	given_to_numeric = DatumGetCString(argument);
	return argument;
}

static int64 divided;
static int   divided_by;

Numeric
int64_div_fast_to_numeric(int64 value, int log10_of_divisor)
{
	divided = value;
	divided_by = log10_of_divisor;
	return NULL;
}

struct varlena *
pg_detoast_datum(struct varlena *datum)
{
	return datum;
}

Datum
numeric_in(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return (Datum) 0;
}

Datum
numeric_eq(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return (Datum) 0;
}

Datum
numeric_out(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	return (Datum) 0;
}

/* ---------- tests ---------- */

static void
prices_that_are_read(void **state)
{
	static const struct
	{
		const char *text;
		int64       amount;
		const char *shown;
	} cases[] = {
		{"0", 0, "0.00"},
		{"19.9", 199000, "19.90"},
		{"19.90", 199000, "19.90"},
		{"19.9000", 199000, "19.90"},
		{"0.0001", 1, "0.0001"},
		{"0.001", 10, "0.001"},
		{"1.", 10000, "1.00"},
		{"007", 70000, "7.00"},
		{"1.23450000000000", 12345, "1.2345"},
		{"99999999999", INT64CONST(999999999990000), "99999999999.00"},
		{"99999999999.9999", INT64CONST(999999999999999), "99999999999.9999"},
	};

	(void) state;
	for (size_t i = 0; i < lengthof(cases); i++)
	{
		Price price;
		Price again;

		assert_true(price_from_text(cases[i].text, &price));
		assert_int_equal(price.amount, cases[i].amount);
		assert_string_equal(price_to_string(price), cases[i].shown);
		/* a numeric is read by its text */
		assert_true(price_from_numeric((Numeric) (uintptr_t) cases[i].text, &again));
		assert_int_equal(again.amount, price.amount);
	}
}

static void
what_is_no_price(void **state)
{
	static const char *const texts[] = {"",      " 1",      "1 ",       "-1",          "+1",
										"1e3",   ".5",      "NaN",      "Infinity",    "1,5",
										"1.2.3", "0.00001", "1.23451x", "100000000000"};

	(void) state;
	for (size_t i = 0; i < lengthof(texts); i++)
	{
		Price price;

		assert_false(price_from_text(texts[i], &price));
	}
}

static void
sums_are_exact_and_show_what_their_parts_have(void **state)
{
	Amount total = {0};
	Price  price;

	(void) state;
	assert_string_equal(amount_to_string(total), "0.00");
	for (int i = 0; i < 1000; i++)
	{
		assert_true(price_from_text("0.1", &price));
		amount_add(&total, price, 3);
	}
	assert_string_equal(amount_to_string(total), "300.00");
	assert_true(price_from_text("0.0001", &price));
	amount_add(&total, price, 1);
	assert_string_equal(amount_to_string(total), "300.0001");
}

static void
sums_beyond_64_bits(void **state)
{
	Amount total = {0};
	Price  price;

	(void) state;
	assert_true(price_from_text("99999999999.9999", &price));
	amount_add(&total, price, 1000000000);
	assert_string_equal(amount_to_string(total), "99999999999999900000.0000");
	(void) amount_to_numeric(total);
	assert_string_equal(given_to_numeric, "99999999999999900000.0000");
	assert_true(price_from_text("12.5", &price));
	total = (Amount){0};
	amount_add(&total, price, 2);
	(void) amount_to_numeric(total);
	assert_int_equal(divided, 2500);
	assert_int_equal(divided_by, 2);
}

static Numeric
number(const char *text)
{
	return (Numeric) CStringGetDatum(text);
}

static void
sums_are_compared_exactly(void **state)
{
	Amount total = {0};
	Price  price;

	(void) state;
	assert_true(price_from_text("12.5", &price));
	amount_add(&total, price, 2);
	assert_true(amount_is(total, number("25.0000")));
	assert_true(amount_is(total, number("25")));
	assert_false(amount_is(total, number("25.0001")));
	assert_false(amount_is(total, number("99999999999999900000.0000")));
	assert_true(price_from_text("99999999999.9999", &price));
	total = (Amount){0};
	amount_add(&total, price, 1000000000);
	assert_true(amount_is(total, number("99999999999999900000.0000")));
	assert_false(amount_is(total, number("99999999999999900001.0000")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(prices_that_are_read),
		cmocka_unit_test(what_is_no_price),
		cmocka_unit_test(sums_are_exact_and_show_what_their_parts_have),
		cmocka_unit_test(sums_beyond_64_bits),
		cmocka_unit_test(sums_are_compared_exactly),
	};

	return cmocka_run_group_tests_name("money", tests, NULL, NULL);
}
