/*
 * routing_test.c
 *		Methods and paths against a table of routes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "http/routing.h"

/* ---------- in place of the server ---------- */

struct HttpExchange
{
	const char *method;
	const char *segments[8];
	int         count;
};

const char *
http_method(const HttpExchange *exchange)
{
	return exchange->method;
}

int
http_segment_count(const HttpExchange *exchange)
{
	return exchange->count;
}

const char *
http_segment(const HttpExchange *exchange, int number)
{
	return exchange->segments[number];
}

/* ---------- tests ---------- */

static const Route routes[] = {
	{.method = "POST", .path = "/order"},
	{.method = "GET", .path = "/order/%", .flags = ROUTE_SAFE},
	{.method = "POST", .path = "/order/%/cancel"},
	{.method = "GET", .path = "/vendors", .flags = ROUTE_SAFE},
	{.method = "POST", .path = "/vendors/sync"},
	{.method = "POST", .path = "/vendors/%/sync"},
	{.method = "GET", .path = "/vendorSync", .flags = ROUTE_OLDER},
};

static const RouteTable all = {routes, sizeof(routes) / sizeof(routes[0]), true};
static const RouteTable newer = {routes, sizeof(routes) / sizeof(routes[0]), false};

static const char *parameter;

/* The path of the route that is found, or "none". */
static const char *
found(const RouteTable *table, HttpExchange exchange)
{
	const Route *route;

	while (exchange.count < 8 && exchange.segments[exchange.count] != NULL)
		exchange.count++;
	parameter = "untouched";
	route = routing_find(table, &exchange, &parameter);
	return route != NULL ? route->path : "none";
}

#define FOUND(...) found(&all, (HttpExchange){__VA_ARGS__, 0})

static void
a_path_and_its_method(void **state)
{
	(void) state;
	assert_string_equal(FOUND("POST", {"order"}), "/order");
	assert_string_equal(parameter, "untouched");
	assert_string_equal(FOUND("GET", {"order", "17"}), "/order/%");
	assert_string_equal(parameter, "17");
	assert_string_equal(FOUND("POST", {"order", "17", "cancel"}), "/order/%/cancel");
	assert_string_equal(parameter, "17");
	assert_string_equal(FOUND("POST", {"vendors", "sync"}), "/vendors/sync");
	assert_string_equal(FOUND("POST", {"vendors", "sync", "sync"}), "/vendors/%/sync");
	assert_string_equal(parameter, "sync");
	/* a segment is text that has been decoded: what is in it divides nothing */
	assert_string_equal(FOUND("GET", {"order", "a/b"}), "/order/%");
	assert_string_equal(FOUND("GET", {"order", "%"}), "/order/%");
}

static void
nothing_at_it(void **state)
{
	(void) state;
	assert_string_equal(FOUND("GET", {"order"}), "none");
	assert_string_equal(FOUND("GET", {"order", ""}), "none");
	assert_string_equal(FOUND("GET", {"order", "17", ""}), "none");
	assert_string_equal(FOUND("GET", {"order", "17", "18"}), "none");
	assert_string_equal(FOUND("GET", {"orders", "17"}), "none");
	assert_string_equal(FOUND("GET", {"orde", "17"}), "none");
	assert_string_equal(FOUND("GET", {"ORDER", "17"}), "none");
	assert_string_equal(FOUND("get", {"order", "17"}), "none");
	assert_string_equal(FOUND("DELETE", {"order", "17"}), "none");
	assert_string_equal(FOUND("GET", {NULL}), "none");
	assert_string_equal(parameter, "untouched");
}

static void
head_is_get_of_what_changes_nothing(void **state)
{
	(void) state;
	assert_string_equal(FOUND("HEAD", {"vendors"}), "/vendors");
	assert_string_equal(FOUND("HEAD", {"vendorSync"}), "none");
	assert_string_equal(FOUND("HEAD", {"vendors", "sync"}), "none");
}

static void
older_routes_may_be_left_out(void **state)
{
	HttpExchange exchange = {"GET", {"vendorSync"}, 0};

	(void) state;
	assert_string_equal(found(&all, exchange), "/vendorSync");
	assert_string_equal(found(&newer, exchange), "none");
}

static void
methods_of_a_path(void **state)
{
	HttpExchange vendors = {"PUT", {"vendors"}, 1};
	HttpExchange order = {"PUT", {"order"}, 1};
	HttpExchange sync = {"PUT", {"vendorSync"}, 1};
	HttpExchange nothing = {"PUT", {"x"}, 1};
	char         allow[64];

	(void) state;
	routing_list_methods(&all, &vendors, allow, sizeof(allow));
	assert_string_equal(allow, "GET, HEAD");
	routing_list_methods(&all, &order, allow, sizeof(allow));
	assert_string_equal(allow, "POST");
	routing_list_methods(&all, &sync, allow, sizeof(allow));
	assert_string_equal(allow, "GET");
	routing_list_methods(&newer, &sync, allow, sizeof(allow));
	assert_string_equal(allow, "");
	routing_list_methods(&all, &nothing, allow, sizeof(allow));
	assert_string_equal(allow, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_and_its_method),
		cmocka_unit_test(nothing_at_it),
		cmocka_unit_test(head_is_get_of_what_changes_nothing),
		cmocka_unit_test(older_routes_may_be_left_out),
		cmocka_unit_test(methods_of_a_path),
	};

	return cmocka_run_group_tests_name("routing", tests, NULL, NULL);
}
