/*
 * tokens_test.c
 *		Tokens and their scopes: known or not, enough or not, read anew or left as they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/tokens.h"

static char path[] = "/tmp/tokens_test.XXXXXX";

static bool
load(const char *text)
{
	FILE *file = fopen(path, "w");

	fputs(text, file);
	fclose(file);
	return tokens_load(path);
}

static void
everyone_may_everything_without_a_file(void **state)
{
	(void) state;
	assert_false(tokens_are_required());
	assert_int_equal(tokens_check(NULL, SCOPE_ADMIN), TOKEN_ACCEPTED);
}

static void
a_token_may_what_its_scopes_say(void **state)
{
	static const char *const unknown[] = {NULL,
										  "",
										  "Bearer",
										  "Bearer ",
										  "Bearer 0123456789abcde",
										  "Bearer 0123456789abcdeff",
										  "Bearer 0123456789ABCDEF",
										  "Basic 0123456789abcdef",
										  "0123456789abcdef",
										  "Bearer  0123456789abcdef"};

	(void) state;
	assert_true(
		load("# ours\n0123456789abcdef read,order # the shop\n\nfedcba9876543210\tadmin\n"));
	assert_true(tokens_are_required());
	assert_int_equal(tokens_check("Bearer 0123456789abcdef", SCOPE_READ), TOKEN_ACCEPTED);
	assert_int_equal(tokens_check("bearer 0123456789abcdef", SCOPE_ORDER), TOKEN_ACCEPTED);
	assert_int_equal(tokens_check("Bearer 0123456789abcdef", SCOPE_ADMIN), TOKEN_LACKS_SCOPE);
	assert_int_equal(tokens_check("Bearer fedcba9876543210", SCOPE_ADMIN), TOKEN_ACCEPTED);
	assert_int_equal(tokens_check("Bearer fedcba9876543210", SCOPE_READ), TOKEN_LACKS_SCOPE);
	assert_int_equal(tokens_check(NULL, SCOPE_NONE), TOKEN_ACCEPTED);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		assert_int_equal(tokens_check(unknown[i], SCOPE_READ), TOKEN_UNKNOWN);
}

static void
a_bad_file_changes_nothing(void **state)
{
	static const char *const bad[] = {"short read\n", "0123456789abcdef\n",
									  "0123456789abcdef everything\n",
									  "0123456789abcdef read order\n"};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (load(bad[i]))
			fail_msg("%s was taken", bad[i]);
	}
	assert_int_equal(tokens_check("Bearer fedcba9876543210", SCOPE_ADMIN), TOKEN_ACCEPTED);
	assert_true(load("another-token-0123 read\n"));
	assert_int_equal(tokens_check("Bearer fedcba9876543210", SCOPE_ADMIN), TOKEN_UNKNOWN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(everyone_may_everything_without_a_file),
									   cmocka_unit_test(a_token_may_what_its_scopes_say),
									   cmocka_unit_test(a_bad_file_changes_nothing)};
	int                     failed;

	close(mkstemp(path));
	chmod(path, 0600);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
