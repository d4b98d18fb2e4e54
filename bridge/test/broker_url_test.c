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

#include "link/broker_nodes.h"

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

/* The parts of all, or what is wrong. */
static const char *
nodes_of(const char *text)
{
	static char result[1000];
	BrokerNodes nodes;
	const char *wrong = broker_nodes_parse(&nodes, text);
	size_t      used = 0;

	for (int i = 0; i < nodes.count; i++)
		used += (size_t) snprintf(result + used, sizeof(result) - used, "%s%s@%s:%d/%s %d",
								  i == 0 ? "" : ", ", nodes.urls[i].password, nodes.urls[i].host,
								  nodes.urls[i].port, nodes.urls[i].vhost,
								  nodes.urls[i].connect_timeout_ms);
	broker_nodes_free(&nodes);
	assert_int_equal(nodes.count, 0);
	return wrong != NULL ? wrong : result;
}

static void
several_urls(void **state)
{
	char many[1000] = "amqp://h";

	(void) state;
	assert_string_equal(nodes_of("amqp://h"), "guest@h:5672// 5000");
	assert_string_equal(nodes_of("amqp://a,amqp://u:p,q@b:1/%2F"),
						"guest@a:5672// 2000, p,q@b:1// 2000");
	assert_string_equal(nodes_of("amqp://u:x,y@a/v , AMQPS://b/v?connection_timeout=700,\n"
								 "amqp://[::1]:5/v"),
						"x,y@a:5672/v 2000, guest@b:5671/v 700, guest@::1:5/v 2000");
	assert_string_equal(nodes_of("amqp://a,amqp://b/v"), "must have the same vhost in each of "
														 "several: they are nodes of one cluster");
	assert_non_null(strstr(nodes_of("amqp://a,b"), "of"));
	assert_non_null(strstr(nodes_of("amqp://a,amqp://"), "is not of the form"));
	assert_non_null(strstr(nodes_of("amqp://a,amqp://u:S3CRET@b?colour=1"), "not known"));
	assert_null(strstr(nodes_of("amqp://a,amqp://u:S3CRET@b?colour=1"), "S3CRET"));
	assert_non_null(strstr(nodes_of(""), "is not of the form"));
	for (int i = 0; i < 16; i++)
		strcat(many, ",amqp://h");
	assert_string_equal(nodes_of(many), "names more than 16 brokers");
}

static void
what_failed_is_tried_last(void **state)
{
	BrokerNodes nodes;
	int         first[3] = {0};
	int         order[BROKER_NODES_MAX];

	(void) state;
	assert_null(broker_nodes_parse(&nodes, "amqp://a,amqp://b,amqp://c"));
	for (int i = 0; i < 300; i++)
	{
		broker_nodes_order(&nodes, order);
		assert_int_equal((1 << order[0]) + (1 << order[1]) + (1 << order[2]), 7);
		first[order[0]]++;
	}
	/* each would fail to come first with a probability of 1e-53 */
	assert_true(first[0] > 0 && first[1] > 0 && first[2] > 0);
	broker_node_failed(broker_node_id(&nodes.urls[1]));
	for (int i = 0; i < 100; i++)
	{
		broker_nodes_order(&nodes, order);
		assert_int_equal(order[2], 1);
	}
	/* another host's names are other nodes; more of them than are remembered push the oldest out */
	broker_nodes_free(&nodes);
	for (uint64_t i = 0; i < 3 * BROKER_NODES_MAX; i++)
		broker_node_failed(i);
	assert_null(broker_nodes_parse(&nodes, "amqp://a,amqp://b"));
	memset(first, 0, sizeof(first));
	for (int i = 0; i < 300; i++)
	{
		broker_nodes_order(&nodes, order);
		first[order[0]]++;
	}
	assert_true(first[0] > 0 && first[1] > 0);
	broker_nodes_free(&nodes);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_that_are_taken),
		cmocka_unit_test(urls_that_are_refused_without_their_password),
		cmocka_unit_test(several_urls),
		cmocka_unit_test(what_failed_is_tried_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
