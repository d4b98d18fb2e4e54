/*
 * callers_test.c
 *		Hosts that a stranger may own, and those that none can.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include "http/callers.h"
#include "base/config.h"
#include "http/tokens.h"

Config config;

/* ---------- in place of server.c and tokens.c, which the test does not reach ---------- */

const char *
http_method(const HttpExchange *exchange)
{
	(void) exchange;
	return "GET";
}

const char *
http_header(const HttpExchange *exchange, const char *name)
{
	(void) exchange;
	(void) name;
	return NULL;
}

const char *
http_host(const HttpExchange *exchange)
{
	(void) exchange;
	return NULL;
}

void
http_set_header(HttpExchange *exchange, const char *name, const char *value)
{
	(void) exchange;
	(void) name;
	(void) value;
}

void
http_reply(HttpExchange *exchange, int status, const char *content_type, char *body)
{
	(void) exchange;
	(void) status;
	(void) content_type;
	(void) body;
}

void
http_problem(HttpExchange *exchange, int status, const char *title, const char *detail,
			 const char *field, const char *details_json)
{
	(void) exchange;
	(void) status;
	(void) title;
	(void) detail;
	(void) field;
	(void) details_json;
}

bool
tokens_are_required(void)
{
	return false;
}

/* ---------- hosts ---------- */

static void
names_with_a_dot_may_be_a_strangers(void **state)
{
	static const char *const theirs[] = {"evil.example",
										 "evil.example:3000",
										 "127.0.0.1.evil.example",
										 "localhost.evil.example",
										 "127.0.0.1.",
										 "127.1",
										 "evil.localhost.example:80",
										 "0x7f.1",
										 "[evil.example]",
										 "1.2.3.4.5",
										 "localhost."};
	static const char *const ours[] = {
		"localhost",   "localhost:3000",    "LOCALHOST", "shop.localhost:3000",
		"127.0.0.1",   "127.0.0.1:3000",    "[::1]",     "[::1]:3000",
		"10.0.0.7:80", "order-bridge:3000", "x"};

	(void) state;
	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
	{
		if (!callers_host_is_public(theirs[i]))
			fail_msg("%s may be a stranger's", theirs[i]);
	}
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
	{
		if (callers_host_is_public(ours[i]))
			fail_msg("%s is no stranger's", ours[i]);
	}
}

static void
settings_are_looked_at(void **state)
{
	(void) state;
	config.http_hosts = "shop.example, other.example:8080";
	config.http_origins = "https://shop.example:443,http://localhost:5173";
	assert_true(callers_init());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(names_with_a_dot_may_be_a_strangers),
									   cmocka_unit_test(settings_are_looked_at)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
