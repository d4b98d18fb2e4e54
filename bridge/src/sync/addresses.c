/*
 * addresses.c
 *		Which addresses a vendor's feed may be pulled from.
 *
 * Everything is an IPv6 address here; an IPv4 one is its mapped form. What carries an
 * IPv4 address within (mapped, NAT64, SIIT, 6to4) is judged by that.
 * (https://www.iana.org/assignments/iana-ipv4-special-registry,
 * https://www.iana.org/assignments/iana-ipv6-special-registry)
 */
#include "sync/addresses.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define NETWORKS_MAX   100
#define MAPPED_BITS    96
#define WORD_BYTES_MAX 64

typedef struct Network
{
	uint8_t bytes[16];
	int     bits;
} Network;

typedef struct Allowed
{
	Network network;
	bool    but_metadata; /* is not meant by it */
} Allowed;

static Allowed allowed[NETWORKS_MAX];
static int     nallowed;

/* Where clouds, AWS and Google's, tell a machine its secrets: in a network of their customers'. */
static const char *const metadata[] = {"fd00:ec2::254/128", "fd20:ce::254/128"};

/* What is not the public internet. */
static const char *const special[] = {
	"0.0.0.0/8",      "10.0.0.0/8",    "100.64.0.0/10",   "127.0.0.0/8",    "168.63.129.16/32",
	"169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24",
	"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
	"240.0.0.0/4",    "::/96",         "64:ff9b:1::/48",  "100::/64",       "2001::/23",
	"2001:db8::/32",  "3fff::/20",     "5f00::/16",       "fc00::/7",       "fe80::/10",
	"fec0::/10",      "ff00::/8"};

static const struct
{
	const char *word;
	const char *networks[4];
	bool        but_metadata;
} words[] = {{"loopback", {"127.0.0.0/8", "::1/128"}, false},
			 {"private", {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}, true},
			 {"link-local", {"169.254.0.0/16", "fe80::/10"}, false},
			 {"any", {"::/0"}, false}};

static void
map_ipv4(uint8_t *bytes, const void *ipv4)
{
	memset(bytes, 0, 10);
	bytes[10] = bytes[11] = 0xff;
	memcpy(bytes + 12, ipv4, 4);
}

/* "10.0.0.0/8", "fd00::/8", or an address alone. */
static bool
parse_network(const char *text, Network *network)
{
	char            address[WORD_BYTES_MAX];
	const char     *slash = strchr(text, '/');
	struct in_addr  ipv4;
	struct in6_addr ipv6;
	bool            is_ipv4;
	long long       bits;

	if (strlen(text) >= sizeof(address))
		return false;
	snprintf(address, sizeof(address), "%.*s", slash ? (int) (slash - text) : (int) strlen(text),
			 text);
	is_ipv4 = inet_pton(AF_INET, address, &ipv4) == 1;
	if (is_ipv4)
		map_ipv4(network->bytes, &ipv4);
	else if (inet_pton(AF_INET6, address, &ipv6) == 1)
		memcpy(network->bytes, &ipv6, sizeof(network->bytes));
	else
		return false;
	bits = is_ipv4 ? 32 : 128;
	if (slash && !text_read_number(slash + 1, 0, bits, &bits))
		return false;
	network->bits = (int) bits + (is_ipv4 ? MAPPED_BITS : 0);
	return true;
}

static bool
is_in(const uint8_t *address, const Network *network)
{
	int whole = network->bits / 8;
	int rest = network->bits % 8;

	return memcmp(address, network->bytes, (size_t) whole) == 0 &&
		   (rest == 0 || ((address[whole] ^ network->bytes[whole]) >> (8 - rest)) == 0);
}

static bool
is_in_text(const uint8_t *address, const char *text)
{
	Network network;

	return parse_network(text, &network) && is_in(address, &network);
}

/* ---------- the setting ---------- */

static bool
allow(const char *text, bool but_metadata)
{
	if (nallowed == NETWORKS_MAX || !parse_network(text, &allowed[nallowed].network))
		return false;
	allowed[nallowed++].but_metadata = but_metadata;
	return true;
}

static bool
allow_word(const char *word)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		bool ok = true;

		if (strcmp(words[i].word, word) != 0)
			continue;
		for (int n = 0; n < 4 && words[i].networks[n] != NULL; n++)
			ok = ok && allow(words[i].networks[n], words[i].but_metadata);
		return ok;
	}
	return allow(word, false);
}

const char *
addresses_allow(const char *setting)
{
	char *copy = strdup(setting);
	char *rest = copy;
	bool  ok = copy != NULL;

	nallowed = 0;
	for (char *word; ok && (word = strsep(&rest, ",")) != NULL;)
	{
		word += strspn(word, " \t");
		word[strcspn(word, " \t")] = '\0';
		ok = *word == '\0' || allow_word(word);
	}
	free(copy);
	return ok ? NULL
			  : "must be of loopback, private, link-local, any, and networks such as 10.1.0.0/16 "
				"or fd00::/8, at most 100";
}

/* ---------- judging ---------- */

/* The IPv4 address that an IPv6 one carries, mapped; else the address itself. */
static void
unwrap(uint8_t *bytes)
{
	static const char nat64[] = "64:ff9b::/96";
	static const char translated[] = "::ffff:0:0:0/96";
	static const char six_to_four[] = "2002::/16";
	uint8_t           ipv4[4];

	if (is_in_text(bytes, nat64) || is_in_text(bytes, translated))
		memcpy(ipv4, bytes + 12, sizeof(ipv4));
	else if (is_in_text(bytes, six_to_four))
		memcpy(ipv4, bytes + 2, sizeof(ipv4));
	else
		return;
	map_ipv4(bytes, ipv4);
}

static bool
is_in_any(const uint8_t *address, const char *const *networks, size_t count)
{
	for (size_t i = 0; i < count; i++)
	{
		if (is_in_text(address, networks[i]))
			return true;
	}
	return false;
}

bool
addresses_may_connect(const struct sockaddr *address)
{
	uint8_t bytes[16];
	bool    is_metadata;

	if (address->sa_family == AF_INET)
		map_ipv4(bytes, &((const struct sockaddr_in *) address)->sin_addr);
	else if (address->sa_family == AF_INET6)
		memcpy(bytes, &((const struct sockaddr_in6 *) address)->sin6_addr, sizeof(bytes));
	else
		return false;
	unwrap(bytes);
	is_metadata = is_in_any(bytes, metadata, sizeof(metadata) / sizeof(metadata[0]));
	for (int i = 0; i < nallowed; i++)
	{
		if (is_in(bytes, &allowed[i].network) && !(is_metadata && allowed[i].but_metadata))
			return true;
	}
	return !is_in_any(bytes, special, sizeof(special) / sizeof(special[0]));
}
