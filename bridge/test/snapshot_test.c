/*
 * snapshot_test.c
 *		What a pg_snapshot says, and where a window's events can begin.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "relay/snapshot.h"

static void
reads_running_transactions(void **state)
{
	Snapshot s;

	(void) state;
	assert_true(snapshot_parse("10:20:10,15,19", 7, &s));
	assert_int_equal(s.nrunning, 3);
	assert_true(snapshot_sees(&s, 9));
	assert_false(snapshot_sees(&s, 10));
	assert_true(snapshot_sees(&s, 11));
	assert_false(snapshot_sees(&s, 15));
	assert_false(snapshot_sees(&s, 20));
	assert_int_equal(snapshot_low_event_id(&s, 100), 7);
	snapshot_free(&s);
	assert_true(snapshot_parse("3:3:", 7, &s));
	assert_int_equal(s.nrunning, 0);
	assert_int_equal(snapshot_low_event_id(&s, 100), 100);
	snapshot_free(&s);
}

static void
refuses_what_is_no_snapshot(void **state)
{
	static const char *const wrong[] = {
		"", "1", "1:2", "1:2:x", "1:2:3,", "a:2:", "99999999999999999999:2:"};
	Snapshot s;

	(void) state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(snapshot_parse(wrong[i], 0, &s));
}

/* A transaction that began above xmax, because nothing above had ended, is remembered too. */
static void
remembers_who_had_begun(void **state)
{
	Snapshot checkpoint;
	Snapshot window;

	(void) state;
	assert_true(snapshot_parse("10:20:10", 5, &checkpoint));
	assert_true(snapshot_add_begun(&checkpoint, 22, 8)); /* 20 and 21 had begun */
	assert_int_equal(checkpoint.nrunning, 3);

	assert_true(snapshot_parse("10:23:10,21", 50, &window));
	snapshot_inherit(&window, &checkpoint);
	assert_int_equal(window.running[0].low_event_id, 5);
	assert_int_equal(window.running[1].low_event_id, 8);
	assert_true(snapshot_sees(&window, 20));
	assert_int_equal(snapshot_low_event_id(&window, 100), 5);
	assert_true(snapshot_add_begun(&window, 23, 60)); /* none */
	assert_int_equal(window.nrunning, 2);
	snapshot_free(&checkpoint);
	snapshot_free(&window);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_running_transactions),
		cmocka_unit_test(refuses_what_is_no_snapshot),
		cmocka_unit_test(remembers_who_had_begun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
