/*
 * sqlstate_test.c
 *		What becomes of each SQLSTATE.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "link/sqlstate.h"

static void
each_has_its_meaning(void **state)
{
	static const struct
	{
		const char  *sqlstate;
		SqlstateKind kind;
		int          http_status;
	} cases[] = {
		{"OA001", SQLSTATE_INPUT, 409},   /* insufficient stock */
		{"OA002", SQLSTATE_INPUT, 404},   /* unknown product */
		{"OA003", SQLSTATE_INPUT, 422},   /* key reused */
		{"OA999", SQLSTATE_INPUT, 500},   /* of a later version */
		{"22021", SQLSTATE_INPUT, 400},   /* invalid character */
		{"22P05", SQLSTATE_INPUT, 400},   /* untranslatable character */
		{"23505", SQLSTATE_INPUT, 500},   /* unique violation */
		{"54000", SQLSTATE_INPUT, 500},   /* program limit */
		{"P0001", SQLSTATE_INPUT, 500},   /* somebody's trigger */
		{"40001", SQLSTATE_PASSING, 503}, /* serialization failure */
		{"40P01", SQLSTATE_PASSING, 503}, /* deadlock */
		{"53100", SQLSTATE_PASSING, 503}, /* disk full */
		{"53300", SQLSTATE_PASSING, 503}, /* too many connections */
		{"55P03", SQLSTATE_LOCKED, 503},  /* lock not available */
		{"55006", SQLSTATE_OTHER, 500},   /* object in use */
		{"57014", SQLSTATE_PASSING, 503}, /* query canceled */
		{"57P01", SQLSTATE_LEAVING, 503}, /* admin shutdown */
		{"57P05", SQLSTATE_LEAVING, 503}, /* idle session timeout */
		{"58030", SQLSTATE_PASSING, 503}, /* io error */
		{"08006", SQLSTATE_LOST, 500},    /* connection failure */
		{"25006", SQLSTATE_LOST, 500},    /* read only: a standby now */
		{"25P02", SQLSTATE_OTHER, 500},   /* in failed transaction */
		{"42501", SQLSTATE_OTHER, 500},   /* insufficient privilege */
		{"XX001", SQLSTATE_DEFECT, 500},  /* data corrupted */
		{"", SQLSTATE_OTHER, 500},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		const Sqlstate *found = sqlstate_find(cases[i].sqlstate);

		assert_int_equal(found->kind, cases[i].kind);
		assert_int_equal(found->http_status, cases[i].http_status);
		assert_non_null(found->title);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(each_has_its_meaning)};

	return cmocka_run_group_tests_name("sqlstate", tests, NULL, NULL);
}
