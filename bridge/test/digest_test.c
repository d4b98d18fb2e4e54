/*
 * digest_test.c
 *		The same text has the same digest, however it is cut; another has another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/digest.h"

static int64_t
digest_of(const char *text, size_t bytes, size_t piece)
{
	Digest digest = {0};

	for (size_t at = 0; at < bytes; at += piece)
		digest_add(&digest, text + at, bytes - at < piece ? bytes - at : piece);
	return digest_value(&digest);
}

static void
pieces_do_not_matter(void **state)
{
	char text[100];

	(void) state;
	for (int i = 0; i < 100; i++)
		text[i] = (char) (i * 37);
	for (size_t bytes = 0; bytes <= sizeof(text); bytes++)
	{
		for (size_t piece = 1; piece <= bytes; piece++)
			assert_int_equal(digest_of(text, bytes, piece), digest_of(text, bytes, bytes));
	}
}

static void
every_byte_matters(void **state)
{
	char    text[64] = {0};
	int64_t before = digest_of(text, sizeof(text), 7);

	(void) state;
	for (size_t i = 0; i < sizeof(text); i++)
	{
		text[i] = 1;
		assert_int_not_equal(digest_of(text, sizeof(text), 7), before);
		text[i] = 0;
	}
	/* zeros at the end, too, and words that change their places */
	assert_int_not_equal(digest_of(text, 63, 7), before);
	assert_int_not_equal(digest_of("abcdefghABCDEFGH", 16, 5),
						 digest_of("ABCDEFGHabcdefgh", 16, 5));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_do_not_matter),
		cmocka_unit_test(every_byte_matters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
