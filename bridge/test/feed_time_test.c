/*
 * feed_time_test.c
 *		Times in the forms that suppliers' interfaces use, and in those that say no one time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sync/feed_time.h"

#define NEW_YEAR INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */
#define HOUR     INT64_C(3600000000)

static void
expect(const char *text, int64_t at_us, bool is_local)
{
	FeedTime time;

	assert_true(feed_time_read(text, &time));
	assert_int_equal(time.at_us, at_us);
	assert_int_equal(time.is_local, is_local);
}

static void
iso_8601(void **state)
{
	(void) state;
	expect("2026-01-01T00:00:00Z", NEW_YEAR, false);
	expect("2026-01-01t00:00:00z", NEW_YEAR, false);
	expect("2026-01-01 00:00:00+00:00", NEW_YEAR, false);
	expect("2026-01-01 01:00:00 +0100", NEW_YEAR, false);
	expect("2025-12-31T19:00:00-05", NEW_YEAR, false);
	expect("2026-01-01T05:45:00+05:45", NEW_YEAR, false);
	expect("2026-01-01T00:00Z", NEW_YEAR, false);
	expect("2026-01-01T00:00:00.5Z", NEW_YEAR + 500000, false);
	expect("2026-01-01T00:00:00,123456789Z", NEW_YEAR + 123456, false);
	expect("2026-01-01 00:00:00 UTC", NEW_YEAR, false);
	expect("2026-01-01 00:00:00 GMT", NEW_YEAR, false);
	expect("20260101T000000Z", NEW_YEAR, false);
	expect("2026/01/01 00:00:00Z", NEW_YEAR, false);
	expect("2024-02-29T00:00:00Z", INT64_C(1709164800000000), false);
}

static void
without_a_zone(void **state)
{
	(void) state;
	expect("2026-01-01T03:00:00", NEW_YEAR + 3 * HOUR, true);
	expect("2026-01-01 03:00", NEW_YEAR + 3 * HOUR, true);
	expect("2026-01-01", NEW_YEAR, true);
	expect("20260101", NEW_YEAR, true);
	expect("20260101030000", NEW_YEAR + 3 * HOUR, true);
}

static void
rfc_9110(void **state)
{
	(void) state;
	expect("Thu, 01 Jan 2026 00:00:00 GMT", NEW_YEAR, false);
	expect("Thu, 1 Jan 2026 00:00:00 GMT", NEW_YEAR, false);
	expect("01 Jan 2026 01:00:00 +0100", NEW_YEAR, false);
	expect("Thu, 01 Jan 2026 00:00:00 -0000", NEW_YEAR, false);
}

static void
since_1970(void **state)
{
	(void) state;
	expect("1767225600", NEW_YEAR, false);
	expect("1767225600.25", NEW_YEAR + 250000, false);
	expect("1767225600000", NEW_YEAR, false);
	expect("1767225600000000", NEW_YEAR, false);
	expect("/Date(1767225600000)/", NEW_YEAR, false);
	expect("/Date(1767225600000+0100)/", NEW_YEAR, false);
}

static void
what_says_no_one_time(void **state)
{
	static const char *const texts[] = {"",
										"today",
										"now",
										"infinity",
										"-infinity",
										"epoch",
										"noon",
										"2026010203",
										"01/02/2026",
										"01.02.2026 10:00",
										"01-02-2026",
										"1/2/26",
										"Jan 2 2026",
										"2026-13-01",
										"2026-02-29T00:00:00Z",
										"2026-01-01T25:00:00Z",
										"2026-01-01T00:60:00Z",
										"2026-01-01T00:00:00+1",
										"2026-01-01T00:00:00+99:00",
										"2026-01-01T00:00:00 CEST",
										"2026-01-01T00:00:00Z tomorrow",
										"2026-01-01Z",
										"0026-01-01T00:00:00Z",
										"20",
										"176722560",
										"17672256000",
										"-1767225600",
										"1767225600000.5",
										"/Date(176722560)/",
										"/Date(1767225600000",
										"Xyz, 01 Jan 2026 00:00:00 GMT",
										"allballs",
										"2026-W01-1"};
	FeedTime                 time;

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (feed_time_read(texts[i], &time))
			fail_msg("\"%s\" is read as %lld", texts[i], time.at_us);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iso_8601),
		cmocka_unit_test(without_a_zone),
		cmocka_unit_test(rfc_9110),
		cmocka_unit_test(since_1970),
		cmocka_unit_test(what_says_no_one_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
