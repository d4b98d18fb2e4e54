/*
 * link_header_test.c
 *		Link headers, as RFC 8288 has them and as people write them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "sync/link_header.h"

/* A copy without a NUL, so that a read beyond its end is seen by valgrind and sanitizers. */
static bool
has_next(const char *value)
{
	size_t bytes = strlen(value);
	char  *copy = malloc(bytes + 1);
	bool   answer;

	memcpy(copy, value, bytes);
	copy = realloc(copy, bytes > 0 ? bytes : 1);
	answer = link_header_has_next(copy, bytes);
	free(copy);
	return answer;
}

static void
a_next_page(void **state)
{
	static const char *const values[] = {
		"<https://x.example/stock?page=2>; rel=\"next\"",
		"<https://x.example/stock?page=2>;rel=next",
		"</2>; rel = next",
		"</2>; REL=\"Next\"",
		"</2>; rel=\"last next\"",
		"</1>; rel=\"prev\", </3>; rel=\"next\"",
		"</1>; rel=prev,</3>;rel=next,</9>;rel=last",
		"</3>; title=\"a, \\\"b\\\"; rel=x\"; rel=next",
		"</3>; crossorigin; rel=next",
		"</a,b>; rel=next",
		"</2> ;\trel=\"\tnext \"",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		assert_true(has_next(values[i]));
}

static void
no_next_page(void **state)
{
	static const char *const values[] = {
		"",
		"</1>; rel=prev",
		"</?rel=next>; rel=self",
		"</2>; title=\"rel=next\"; rel=\"last\"",
		"</2>; title=\"x\\\"; rel=next\"; rel=\"last\"",
		"</2>; rel=nextish",
		"</2>; rel=\"my-next next-but-one\"",
		"</2>; xrel=next",
		"</2>; rel=first; rel=next",
		"</2>; rel",
		"</2>; rel=",
		"</2>; rel=\"",
		"</2>; rel=\"nex\\",
		"</2",
		"=",
		"rel",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		assert_false(has_next(values[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_next_page),
		cmocka_unit_test(no_next_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
