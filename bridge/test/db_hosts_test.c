/*
 * db_hosts_test.c
 *		What of a URL with several hosts is given to libpq for each of them, and that it is taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libpq-fe.h>
#include <string.h>

#include "base/stop.h"
#include "link/db_state.h"

static const DbHost the_url = {.host = ""};

/* Begins a connection to the URL, or to one of its hosts; it goes nowhere. */
static PGconn *
begin(const char *url, const DbHost *host)
{
	const char *keywords[] = {"dbname", "host", "hostaddr", "port", NULL};
	const char *values[] = {url, host->host, host->hostaddr, host->port, NULL};

	return PQconnectStartParams(keywords, values, 1);
}

static void
each_host_is_given_whole(void **state)
{
	static const struct
	{
		const char *url;
		int         count;
		DbHost      hosts[3];
	} cases[] = {
		{"postgresql://127.0.0.1:1,127.0.0.2:2/x",
		 2,
		 {{"127.0.0.1", "", "1"}, {"127.0.0.2", "", "2"}}},
		{"postgresql://127.0.0.1,127.0.0.2/x",
		 2,
		 {{"127.0.0.1", "", "5432"}, {"127.0.0.2", "", "5432"}}},
		{"postgresql://127.0.0.1:1,127.0.0.2/x",
		 2,
		 {{"127.0.0.1", "", "1"}, {"127.0.0.2", "", "5432"}}},
		{"postgresql://127.0.0.1,127.0.0.2:2,127.0.0.3/x",
		 3,
		 {{"127.0.0.1", "", "5432"}, {"127.0.0.2", "", "2"}, {"127.0.0.3", "", "5432"}}},
		{"host=127.0.0.1,127.0.0.2 port=7", 2, {{"127.0.0.1", "", "7"}, {"127.0.0.2", "", "7"}}},
		{"host=127.0.0.1,127.0.0.2 port=,7",
		 2,
		 {{"127.0.0.1", "", "5432"}, {"127.0.0.2", "", "7"}}},
		{"hostaddr=127.0.0.1,127.0.0.2 port=1,2",
		 2,
		 {{"", "127.0.0.1", "1"}, {"", "127.0.0.2", "2"}}},
		{"host=a,b hostaddr=127.0.0.1,127.0.0.2 port=7",
		 2,
		 {{"a", "127.0.0.1", "7"}, {"b", "127.0.0.2", "7"}}},
		/* libpq's own way with these cannot be had for one of them alone */
		{"host=a,b hostaddr=127.0.0.1, port=7", 1, {{"", "", ""}}},
		{"host=,127.0.0.2 port=1,2", 1, {{"", "", ""}}},
		{"host=127.0.0.1,, port=7", 1, {{"", "", ""}}},
		{"postgresql://127.0.0.1:1/x", 1, {{"", "", ""}}},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Db     db = {.url = cases[i].url, .connection = begin(cases[i].url, &the_url)};
		DbHost host;

		db_learn_hosts(&db);
		PQfinish(db.connection);
		assert_int_equal(db.hosts.count, cases[i].count);
		for (int n = 0; n < cases[i].count; n++)
		{
			PGconn *connection;

			assert_true(db_choose_host(&db, n, &host));
			assert_string_equal(host.host, cases[i].hosts[n].host);
			assert_string_equal(host.hostaddr, cases[i].hosts[n].hostaddr);
			assert_string_equal(host.port, cases[i].hosts[n].port);
			connection = begin(cases[i].url, &host);
			assert_null(strstr(PQerrorMessage(connection), "could not match"));
			PQfinish(connection);
		}
	}
}

/* As where memory is short: it must not be taken for one of one host for ever. */
static void
nothing_is_learned_of_a_connection_that_was_given_nothing(void **state)
{
	Db db = {.url = "postgresql://127.0.0.1:1,127.0.0.2:2/x"};

	(void) state;
	db.connection = begin("nonsense=1", &the_url);
	db_learn_hosts(&db);
	PQfinish(db.connection);
	assert_int_equal(db.hosts.count, 0);
	db.connection = begin(db.url, &the_url);
	db_learn_hosts(&db);
	PQfinish(db.connection);
	assert_int_equal(db.hosts.count, 2);
}

static void
one_that_hangs_is_left_alone(void **state)
{
	Db     db = {.url = "postgresql://127.0.0.1:1,127.0.0.2:2/x", .hosts = {.rest_ms = 4000}};
	DbHost host;

	(void) state;
	db.connection = begin(db.url, &the_url);
	db_learn_hosts(&db);
	PQfinish(db.connection);
	assert_true(db_choose_host(&db, 1, &host));
	db_rest_host(&db);
	assert_false(db_choose_host(&db, 1, &host));
	assert_true(db_choose_host(&db, 0, &host));
	db_rest_host(&db); /* both hang: there must be one to try */
	assert_true(db_choose_host(&db, 0, &host));
	assert_true(db_choose_host(&db, 1, &host));
}

static void
assert_rests(const DbHosts *hosts, int n, long long since_ms, long long rest_ms)
{
	long long rests_ms = hosts->rests_until_ms[n] - since_ms;

	assert_true(rests_ms >= rest_ms && rests_ms < rest_ms + 1000000);
}

static void
one_that_hangs_for_the_first_time_is_tried_again_sooner(void **state)
{
	Db        db = {.url = "postgresql://127.0.0.1:1,127.0.0.2:2/x", .hosts = {.rest_ms = 4000000}};
	DbHost    host;
	long long before_ms = monotonic_ms();

	(void) state;
	db.connection = begin(db.url, &the_url);
	db_learn_hosts(&db);
	PQfinish(db.connection);
	for (int connected = 0; connected < 2; connected++)
	{
		(void) db_choose_host(&db, 1, &host);
		db_rest_host(&db);
		assert_rests(&db.hosts, 1, before_ms, 2000000);
		db_rest_host(&db);
		assert_rests(&db.hosts, 1, before_ms, 4000000);
		(void) db_choose_host(&db, 0, &host);
		db_stay_with_host(&db); /* then all begins anew */
	}
}

static void
the_next_attempt_begins_elsewhere(void **state)
{
	Db     db = {.url = "postgresql://127.0.0.1:1,127.0.0.2:2,127.0.0.3:3/x"};
	DbHost host;

	(void) state;
	db_pass_over_host(&db); /* nothing is known yet */
	assert_int_equal(db.hosts.first, 0);
	db.connection = begin(db.url, &the_url);
	db_learn_hosts(&db);
	PQfinish(db.connection);
	(void) db_choose_host(&db, 1, &host);
	db_pass_over_host(&db);
	assert_int_equal(db.hosts.first, 2);
	(void) db_choose_host(&db, 2, &host);
	db_pass_over_host(&db);
	assert_int_equal(db.hosts.first, 0);
	db_stay_with_host(&db);
	assert_int_equal(db.hosts.first, 2);
}

static void
where_it_was_tried_last_is_known(void **state)
{
	Db db = {.connection = PQconnectdb("host=127.0.0.1,127.0.0.1,127.0.0.1 port=1,2,3")};

	(void) state;
	db_learn_hosts(&db);
	PQfinish(db.connection);
	assert_int_equal(db.hosts.now, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_host_is_given_whole),
		cmocka_unit_test(nothing_is_learned_of_a_connection_that_was_given_nothing),
		cmocka_unit_test(one_that_hangs_is_left_alone),
		cmocka_unit_test(one_that_hangs_for_the_first_time_is_tried_again_sooner),
		cmocka_unit_test(the_next_attempt_begins_elsewhere),
		cmocka_unit_test(where_it_was_tried_last_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
