/*
 * metrics_test.c
 *		Counters, and the buckets of histograms, as Prometheus reads them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"

static void
assert_line(const char *text, const char *line)
{
	if (strstr(text, line) == NULL)
		fail_msg("there is no \"%s\"", line);
}

static void
a_value_is_in_the_first_bucket_that_holds_it(void **state)
{
	static const double values[] = {-5, 0, 1, 1.5, 2, 1000, 1001};
	char               *text;

	(void) state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		metric_observe(HISTOGRAM_PLACE_BATCH, values[i]);
	text = metrics_text();
	assert_line(text, "# TYPE order_bridge_place_batch_orders histogram\n");
	assert_line(text, "place_batch_orders_bucket{le=\"1\"} 3\n");
	assert_line(text, "place_batch_orders_bucket{le=\"2\"} 5\n");
	assert_line(text, "place_batch_orders_bucket{le=\"500\"} 5\n");
	assert_line(text, "place_batch_orders_bucket{le=\"1000\"} 6\n");
	assert_line(text, "place_batch_orders_bucket{le=\"+Inf\"} 7\n");
	assert_line(text, "place_batch_orders_sum 2005.500000\n");
	assert_line(text, "place_batch_orders_count 7\n");
	free(text);
}

static void
counters_are_told_with_their_kind(void **state)
{
	char *text;

	(void) state;
	metric_add(METRIC_ORDERS_PLACED, 3);
	metric_add(METRIC_ORDERS_PLACED, 4);
	metric_set(METRIC_INTAKE_DEPTH, 9);
	metric_set(METRIC_INTAKE_DEPTH, 2);
	assert_int_equal(metric_get(METRIC_ORDERS_PLACED), 7);
	text = metrics_text();
	assert_line(
		text,
		"# TYPE order_bridge_orders_placed_total counter\norder_bridge_orders_placed_total 7\n");
	assert_line(text, "# TYPE order_bridge_intake_depth gauge\norder_bridge_intake_depth 2\n");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_value_is_in_the_first_bucket_that_holds_it),
		cmocka_unit_test(counters_are_told_with_their_kind)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
