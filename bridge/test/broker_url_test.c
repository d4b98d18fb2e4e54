/*
 * broker_url_test.c
 *		Brokers' URLs as people write them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "link/broker_url.h"

/* The parts as one text, or "" if it is refused. */
static const char *
parts_of(const char *text)
{
	static char result[500];
	BrokerUrl   url;

	*result = '\0';
	if (amqp_url_parse(&url, text) == NULL)
		snprintf(result, sizeof(result), "%s %s:%s@%s:%d %s %d %d", url.is_tls ? "tls" : "tcp",
				 url.user, url.password, url.host, url.port, url.vhost, url.heartbeat_s,
				 url.connect_timeout_ms);
	amqp_url_free(&url);
	return result;
}

static void
urls_that_are_taken(void **state)
{
	static const char *const cases[][2] = {
		{"amqp://localhost", "tcp guest:guest@localhost:5672 / 10 5000"},
		{"amqp://localhost/", "tcp guest:guest@localhost:5672 / 10 5000"},
		{"amqp://localhost:5673/", "tcp guest:guest@localhost:5673 / 10 5000"},
		{"amqp://localhost/%2F", "tcp guest:guest@localhost:5672 / 10 5000"},
		{"amqp://localhost/%2f", "tcp guest:guest@localhost:5672 / 10 5000"},
		{"amqp://localhost//", "tcp guest:guest@localhost:5672 / 10 5000"},
		{"amqp://localhost/shop", "tcp guest:guest@localhost:5672 shop 10 5000"},
		{"amqp://localhost/a%2Fb%20c", "tcp guest:guest@localhost:5672 a/b c 10 5000"},
		{"amqp://u:p@h:1/v", "tcp u:p@h:1 v 10 5000"},
		{"amqp://u@h", "tcp u:guest@h:5672 / 10 5000"},
		{"amqp://u:@h", "tcp u:@h:5672 / 10 5000"},
		{"amqp://u%40x:p%2F%3A%40%25%23%3F@h", "tcp u@x:p/:@%#?@h:5672 / 10 5000"},
		{"amqp://[::1]", "tcp guest:guest@::1:5672 / 10 5000"},
		{"amqp://u:p@[fe80::1]:5673/v", "tcp u:p@fe80::1:5673 v 10 5000"},
		{"amqps://h", "tls guest:guest@h:5671 / 10 5000"},
		{"AMQP://h", "tcp guest:guest@h:5672 / 10 5000"},
		{"amqp://h?heartbeat=30", "tcp guest:guest@h:5672 / 30 5000"},
		{"amqp://h/v?heartbeat=0&connection_timeout=1500", "tcp guest:guest@h:5672 v 0 1500"},
		{"amqp://h/?heartbeat=30&", "tcp guest:guest@h:5672 / 30 5000"},
		{"amqp://10.0.0.1:5672", "tcp guest:guest@10.0.0.1:5672 / 10 5000"},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(parts_of(cases[i][0]), cases[i][1]);
}

static void
urls_that_are_refused_without_their_password(void **state)
{
	static const char *const cases[] = {
		"",
		"localhost",
		"amqp:",
		"amqp://",
		"amqp:///v",
		"http://h",
		"amqp//h",
		"amqp://u:S3CRET%zz@h",
		"amqp://u:S3CRET%@h",
		"amqp://u:S3CRET#@h",
		"amqp://u:S3CRET/@h:1",
		"amqp://u:S3CRET@h:port",
		"amqp://u:S3CRET@h:99999",
		"amqp://u:S3CRET@h?heartbeat=soon",
		"amqp://u:S3CRET@h?heartbeat=-1",
		"amqp://u:S3CRET@h?heartbeat",
		"amqp://u:S3CRET@h?nonsense=1",
		"amqp://u:S3CRET@h?verify=none",
		"amqp://u:S3CRET%00@h",
		"amqp://u:S3 CRET@h",
		"amqp://[::1",
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		BrokerUrl   url;
		const char *wrong = amqp_url_parse(&url, cases[i]);

		if (wrong == NULL)
			fail_msg("%s was taken", cases[i]);
		assert_null(strstr(wrong, "S3"));
		amqp_url_free(&url);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_that_are_taken),
		cmocka_unit_test(urls_that_are_refused_without_their_password),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
