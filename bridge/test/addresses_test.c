/*
 * addresses_test.c
 *		Which addresses feeds may be pulled from: public ones, and what is allowed beside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "sync/addresses.h"

static bool
may_connect(const char *text)
{
	struct sockaddr_in  ipv4 = {.sin_family = AF_INET};
	struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1)
		return addresses_may_connect((struct sockaddr *) &ipv4);
	assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
	return addresses_may_connect((struct sockaddr *) &ipv6);
}

static void
public_addresses_alone_by_default(void **state)
{
	static const char *const inner[] = {"127.0.0.1",
										"127.255.255.254",
										"0.0.0.0",
										"0.1.2.3",
										"10.0.0.1",
										"10.255.255.255",
										"100.64.0.1",
										"100.127.255.255",
										"169.254.169.254",
										"172.16.0.1",
										"172.31.255.255",
										"192.168.0.1",
										"192.0.0.8",
										"198.18.0.1",
										"198.19.255.255",
										"224.0.0.1",
										"239.1.2.3",
										"255.255.255.255",
										"240.0.0.1",
										"192.0.2.1",
										"203.0.113.5",
										"::",
										"::1",
										"::127.0.0.1",
										"::ffff:127.0.0.1",
										"::ffff:10.1.2.3",
										"::ffff:0:0",
										"fc00::1",
										"fd12:3456::1",
										"fe80::1",
										"febf::1",
										"fec0::1",
										"ff02::1",
										"64:ff9b::7f00:1",
										"64:ff9b::a9fe:a9fe",
										"64:ff9b:1::1",
										"2002:7f00:1::1",
										"2002:a00:1::",
										"2001:0:1::1",
										"2001:db8::1",
										"100::1"};
	static const char *const outer[] = {
		"1.1.1.1",         "8.8.8.8",        "9.255.255.255",    "11.0.0.0",
		"100.63.255.255",  "100.128.0.0",    "126.255.255.255",  "128.0.0.1",
		"169.253.255.255", "169.255.0.0",    "172.15.255.255",   "172.32.0.0",
		"192.167.255.255", "192.169.0.0",    "223.255.255.255",  "2606:4700::1111",
		"2a00:1450::1",    "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"};

	(void) state;
	assert_null(addresses_allow(""));
	for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]); i++)
	{
		if (may_connect(inner[i]))
			fail_msg("%s must not be connected to", inner[i]);
	}
	for (size_t i = 0; i < sizeof(outer) / sizeof(outer[0]); i++)
	{
		if (!may_connect(outer[i]))
			fail_msg("%s may be connected to", outer[i]);
	}
}

static void
what_is_allowed_and_no_more(void **state)
{
	(void) state;
	assert_null(addresses_allow("loopback"));
	assert_true(may_connect("127.0.0.1") && may_connect("::1") && may_connect("::ffff:127.0.0.1"));
	assert_false(may_connect("10.0.0.1") || may_connect("169.254.169.254") || may_connect("::") ||
				 may_connect("0.0.0.0"));
	assert_null(addresses_allow(" 10.1.0.0/16 , fd00:1::/32,127.0.0.1"));
	assert_true(may_connect("10.1.2.3") && may_connect("fd00:1:2::3") && may_connect("127.0.0.1"));
	assert_false(may_connect("10.2.0.0") || may_connect("fd00:2::1") || may_connect("127.0.0.2") ||
				 may_connect("::1"));
	assert_null(addresses_allow("private,link-local"));
	assert_true(may_connect("192.168.1.1") && may_connect("172.20.0.1") && may_connect("fe80::1") &&
				may_connect("169.254.1.1"));
	assert_false(may_connect("127.0.0.1"));
	/* where clouds tell a machine its secrets is no vendor's, unless by name */
	assert_true(may_connect("fd00:ec2::253") && may_connect("fd20:ce::255"));
	assert_false(may_connect("fd00:ec2::254") || may_connect("fd20:ce::254") ||
				 may_connect("168.63.129.16"));
	assert_null(addresses_allow("private,fd00:ec2::254,168.63.129.16"));
	assert_true(may_connect("fd00:ec2::254") && may_connect("168.63.129.16"));
	assert_false(may_connect("fd20:ce::254"));
	assert_null(addresses_allow("fd20::/16"));
	assert_true(may_connect("fd20:ce::254"));
	assert_null(addresses_allow("10.0.0.0/9"));
	assert_true(may_connect("10.127.255.255"));
	assert_false(may_connect("10.128.0.0"));
	assert_null(addresses_allow("any"));
	assert_true(may_connect("127.0.0.1") && may_connect("::1") && may_connect("0.0.0.0"));
}

static void
what_is_no_network_is_refused(void **state)
{
	static const char *const bad[] = {
		"localhost",  "10.0.0.0/33", "10.0.0/8",         "::/129",         "10.0.0.0/",
		"10.0.0.0/x", "10.0.0.0/-1", "loopback private", "10.0.0.0/8;::1", "256.0.0.1"};

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		if (addresses_allow(bad[i]) == NULL && strchr(bad[i], ' ') == NULL)
			fail_msg("%s must be refused", bad[i]);
	}
	assert_null(addresses_allow(""));
	assert_false(may_connect("127.0.0.1"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(public_addresses_alone_by_default),
									   cmocka_unit_test(what_is_allowed_and_no_more),
									   cmocka_unit_test(what_is_no_network_is_refused)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
