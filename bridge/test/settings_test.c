/*
 * settings_test.c
 *		Settings and backoff.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/settings.h"

static const char *text;
static int         number;
static bool        flag;

static const Setting table[] = {
	{"TEST_TEXT", "text", SETTING_TEXT, &text, "fallback", 0, 0, "a text"},
	{"TEST_NUMBER", "number", SETTING_NUMBER, &number, "5", 1, 10, "a number"},
	{"TEST_FLAG", "flag", SETTING_FLAG, &flag, "no", 0, 0, "a flag"},
	{NULL}};

static bool
load(const char *first, const char *second)
{
	char *argv[] = {"program", (char *) first, (char *) second, NULL};
	char *words[2];
	int   nwords;

	return settings_load(table, "", "",
						 first == NULL    ? 1
						 : second == NULL ? 2
										  : 3,
						 argv, words, 2, &nwords);
}

static int
clear_environment(void **state)
{
	(void) state;
	unsetenv("TEST_TEXT");
	unsetenv("TEST_NUMBER");
	unsetenv("TEST_FLAG");
	return 0;
}

static void
flag_wins_over_environment_over_default(void **state)
{
	(void) state;
	assert_true(load(NULL, NULL));
	assert_string_equal(text, "fallback");
	assert_int_equal(number, 5);
	assert_false(flag);
	setenv("TEST_NUMBER", "6", 1);
	setenv("TEST_FLAG", "yes", 1);
	assert_true(load(NULL, NULL));
	assert_int_equal(number, 6);
	assert_true(flag);
	assert_true(load("--number=7", "--text=x"));
	assert_int_equal(number, 7);
	assert_string_equal(text, "x");
}

static void
bad_values_are_refused(void **state)
{
	(void) state;
	assert_false(load("--number=0", NULL));
	assert_false(load("--number=11", NULL));
	assert_false(load("--number=3x", NULL));
	assert_false(load("--number=", NULL));
	assert_false(load("--flag=maybe", NULL));
	setenv("TEST_NUMBER", "99999999999999999999", 1);
	assert_false(load(NULL, NULL));
}

static void
backoff_doubles_up_to_its_cap(void **state)
{
	Backoff backoff = {.delay_ms_min = 100, .delay_ms_max = 1000};
	int     ceilings[] = {100, 200, 400, 800, 1000, 1000};

	(void) state;
	for (int round = 0; round < 50; round++)
	{
		backoff_reset(&backoff);
		for (size_t i = 0; i < sizeof(ceilings) / sizeof(ceilings[0]); i++)
		{
			int delay = backoff_next(&backoff);

			assert_true(delay >= ceilings[i] / 2 && delay <= ceilings[i]);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(flag_wins_over_environment_over_default, clear_environment),
		cmocka_unit_test_setup(bad_values_are_refused, clear_environment),
		cmocka_unit_test(backoff_doubles_up_to_its_cap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
