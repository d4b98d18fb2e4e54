/*
 * db_timeline_test.c
 *		Which connections are to a primary that has been replaced. What was met stays met: the tests
 *are one story.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/db_state.h"

static Db
primary(const char *cluster, const char *timeline)
{
	Db db = {.target = DB_TARGET_PRIMARY};

	db_see_timeline(&db, cluster, timeline);
	return db;
}

static void
an_earlier_timeline_is_past(void **state)
{
	Db early = primary("A", "2");
	Db late;

	(void) state;
	assert_false(db_is_of_the_past(&early));
	late = primary("A", "1A");
	assert_true(db_is_of_the_past(&early));
	assert_false(db_is_of_the_past(&late));
	early = primary("A", "3");
	assert_true(db_is_of_the_past(&early));
}

static void
a_standby_says_nothing(void **state)
{
	Db standby = {.target = "standby"};
	Db late = primary("A", "1A");

	(void) state;
	db_see_timeline(&standby, "A", "");
	assert_false(db_is_of_the_past(&standby));
	db_see_timeline(&standby, "A", "FF"); /* promoted by itself */
	assert_false(db_is_of_the_past(&late));
}

static void
only_a_new_connection_tells_of_another_cluster(void **state)
{
	Db pooled = primary("A", "1A");
	Db other = primary("B", "1");

	(void) state;
	assert_false(db_is_of_the_past(&other));
	db_see_timeline(&pooled, NULL, "1A"); /* of a transaction: A is not ours any more */
	assert_false(db_is_of_the_past(&pooled));
	other = primary("B", "2");
	db_see_timeline(&pooled, NULL, "1A");
	other = primary("B", "1");
	assert_true(db_is_of_the_past(&other));
	*pooled.cluster = '\0'; /* connected anew */
	db_see_timeline(&pooled, NULL, "1");
	assert_false(db_is_of_the_past(&pooled));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_earlier_timeline_is_past),
		cmocka_unit_test(a_standby_says_nothing),
		cmocka_unit_test(only_a_new_connection_tells_of_another_cluster),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
