/*
 * callers.c
 *		Who may call over HTTP, as far as a browser tells: hosts and origins.
 *
 * Host: a page's own name can be made to resolve to this server's address
 * (rebinding); then the browser takes the page for ours, but says its name in Host.
 * So, where no token keeps strangers out, only hosts that no stranger can own are
 * served; where HTTP_HOSTS is set, nothing but what it lists.
 *
 * Origin, Sec-Fetch-Site: a browser says which page makes the request. Another site's
 * is refused; following a link to what changes nothing is not.
 * (https://fetch.spec.whatwg.org/, https://www.w3.org/TR/fetch-metadata/)
 */
#include "http/callers.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "http/tokens.h"

#define NAMES_MAX      100
#define NAME_BYTES_MAX 300

/* The words of a setting, comma-separated. */
typedef struct Names
{
	char *words[NAMES_MAX];
	int   count;
	char *text;
} Names;

static Names hosts;
static Names origins;

static bool
split(Names *names, const char *setting, const char *name)
{
	char *rest;

	names->text = strdup(setting);
	rest = names->text;
	for (char *word; rest != NULL && (word = strsep(&rest, ",")) != NULL;)
	{
		word += strspn(word, " \t");
		word[strcspn(word, " \t")] = '\0';
		if (*word == '\0')
			continue;
		if (names->count == NAMES_MAX || strlen(word) > NAME_BYTES_MAX)
		{
			fprintf(stderr, "%s must have at most %d names of at most %d bytes\n", name, NAMES_MAX,
					NAME_BYTES_MAX);
			return false;
		}
		names->words[names->count++] = word;
	}
	return names->text != NULL;
}

/* Where the scheme of an origin ends, or NULL if it is none: "http://host" or "https://host", with
 * a port or without. */
static const char *
origin_host(const char *origin)
{
	static const char *const schemes[] = {"http://", "https://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
	{
		if (strncasecmp(origin, schemes[i], strlen(schemes[i])) == 0)
			return origin + strlen(schemes[i]);
	}
	return NULL;
}

/* A browser leaves out the port that goes without saying. */
static void
cut_default_port(char *origin)
{
	const char *port = strncasecmp(origin, "https:", strlen("https:")) == 0 ? ":443" : ":80";
	size_t      length = strlen(origin);

	if (length > strlen(port) && strcmp(origin + length - strlen(port), port) == 0)
		origin[length - strlen(port)] = '\0';
}

bool
callers_init(void)
{
	bool ok = split(&hosts, config.http_hosts, "HTTP_HOSTS") &&
			  split(&origins, config.http_origins, "HTTP_ORIGINS");

	for (int i = 0; i < origins.count; i++)
	{
		const char *host = origin_host(origins.words[i]);

		if (host != NULL && *host != '\0' && strpbrk(host, "/?#*@") == NULL)
		{
			cut_default_port(origins.words[i]);
			continue;
		}
		fprintf(stderr, "HTTP_ORIGINS must be origins like https://shop.example, not \"%s\"\n",
				origins.words[i]);
		ok = false;
	}
	for (int i = 0; i < hosts.count; i++)
	{
		if (strpbrk(hosts.words[i], "/?#@") == NULL)
			continue;
		fprintf(stderr,
				"HTTP_HOSTS must be hosts like shop.example or shop.example:3000, not \"%s\"\n",
				hosts.words[i]);
		ok = false;
	}
	return ok;
}

/* ---------- hosts ---------- */

/* The host without its port, as long as that is. */
static size_t
bare_length(const char *host)
{
	const char *bracket = *host == '[' ? strchr(host, ']') : NULL;

	return bracket != NULL ? (size_t) (bracket + 1 - host) : strcspn(host, ":");
}

static bool
is_same(const char *text, size_t length, const char *word)
{
	return strlen(word) == length && strncasecmp(text, word, length) == 0;
}

bool
callers_host_is_public(const char *host)
{
	static const char localhost[] = ".localhost";
	char              bare[NAME_BYTES_MAX];
	struct in6_addr   address;
	size_t            length = bare_length(host);

	if (length >= sizeof(bare))
		return true;
	snprintf(bare, sizeof(bare), "%.*s", (int) length, host);
	if (*bare == '[')
	{
		bare[length - 1] = '\0';
		return inet_pton(AF_INET6, bare + 1, &address) != 1;
	}
	if (strcasecmp(bare, localhost + 1) == 0)
		return false;
	if (length >= sizeof(localhost) &&
		strcasecmp(bare + length - strlen(localhost), localhost) == 0)
		return false;
	return strchr(bare, '.') != NULL && inet_pton(AF_INET, bare, &address) != 1;
}

/* A name without a port stands for any. */
static bool
is_listed_host(const char *host)
{
	for (int i = 0; i < hosts.count; i++)
	{
		const char *word = hosts.words[i];

		if (strcmp(word, "*") == 0 || strcasecmp(word, host) == 0 ||
			(word[bare_length(word)] == '\0' && is_same(host, bare_length(host), word)))
			return true;
	}
	return false;
}

/* A request without a host, which HTTP/1.0 allows, comes from no browser. */
static bool
is_our_host(const char *host)
{
	if (host == NULL || is_listed_host(host))
		return true;
	return hosts.count == 0 && (tokens_are_required() || !callers_host_is_public(host));
}

/* ---------- origins ---------- */

static bool
is_listed_origin(const char *origin)
{
	for (int i = 0; i < origins.count; i++)
	{
		if (strcasecmp(origins.words[i], origin) == 0)
			return true;
	}
	return false;
}

/* The length of a host without a port that goes without saying; one of a proxy before us may be in
 * it. */
static size_t
length_without_default_port(const char *host, size_t length)
{
	static const char *const ports[] = {":80", ":443"};

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
	{
		size_t port = strlen(ports[i]);

		if (length > port && memcmp(host + length - port, ports[i], port) == 0 &&
			host[length - port - 1] != ':')
			return length - port;
	}
	return length;
}

/* Is it an origin, or a URL, of this server? Its scheme may be that of a proxy before us. */
static bool
is_own(const char *url, const char *host)
{
	const char *its_host = origin_host(url);
	size_t      length;

	if (its_host == NULL || host == NULL)
		return false;
	length = length_without_default_port(its_host, strcspn(its_host, "/?#"));
	return length == length_without_default_port(host, strlen(host)) &&
		   strncasecmp(its_host, host, length) == 0;
}

/* A link that is followed, and whose end is shown in a window of its own. */
static bool
is_link(const HttpExchange *exchange)
{
	const char *mode = http_header(exchange, "Sec-Fetch-Mode");
	const char *destination = http_header(exchange, "Sec-Fetch-Dest");

	return mode != NULL && strcasecmp(mode, "navigate") == 0 && destination != NULL &&
		   strcasecmp(destination, "document") == 0;
}

/* Another site's page is behind the request, as far as the browser tells. */
static bool
is_cross_site(const HttpExchange *exchange, bool is_safe)
{
	const char *origin = http_header(exchange, "Origin");
	const char *site = http_header(exchange, "Sec-Fetch-Site");
	const char *agent = http_header(exchange, "User-Agent");
	const char *referer = http_header(exchange, "Referer");
	const char *host = http_host(exchange);

	if (origin != NULL)
		return !is_own(origin, host) && !is_listed_origin(origin);
	if (site != NULL && strcasecmp(site, "same-origin") != 0 && strcasecmp(site, "none") != 0)
		return !is_safe || !is_link(exchange);
	if (is_safe || site != NULL)
		return false;
	if (referer != NULL)
		return !is_own(referer, host);
	/* nothing was said: a program, or a browser, which has no more to say of a GET; anything else
	 * it would not send without an Origin */
	return strcmp(http_method(exchange), "GET") == 0 && agent != NULL &&
		   strncmp(agent, "Mozilla/", strlen("Mozilla/")) == 0;
}

static void
add_cors(HttpExchange *exchange, const char *origin)
{
	http_set_header(exchange, "Access-Control-Allow-Origin", origin);
	http_set_header(exchange, "Access-Control-Expose-Headers",
					"Location, ETag, Retry-After, Idempotency-Key");
}

static void
answer_preflight(HttpExchange *exchange, const char *allowed_methods)
{
	http_set_header(exchange, "Access-Control-Allow-Methods", allowed_methods);
	http_set_header(
		exchange, "Access-Control-Allow-Headers",
		"Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, traceparent");
	http_set_header(exchange, "Access-Control-Max-Age", "600");
	if (http_header(exchange, "Access-Control-Request-Private-Network") != NULL)
		http_set_header(exchange, "Access-Control-Allow-Private-Network", "true");
	http_reply(exchange, 204, NULL, NULL);
}

bool
callers_admit(HttpExchange *exchange, bool is_safe, bool is_open, const char *allowed_methods)
{
	const char *origin = http_header(exchange, "Origin");

	if (origins.count > 0)
		http_set_header(exchange, "Vary", "Origin");
	if (!is_open && !is_our_host(http_host(exchange)))
	{
		http_problem(exchange, 421, "Misdirected Request",
					 "this server is not asked for by that host: see HTTP_HOSTS", "Host", NULL);
		return false;
	}
	if (is_cross_site(exchange, is_safe))
	{
		http_problem(exchange, 403, "Forbidden",
					 "another site's page may not ask for this: see HTTP_ORIGINS",
					 origin != NULL ? "Origin" : "Sec-Fetch-Site", NULL);
		return false;
	}
	if (origins.count > 0 && origin != NULL && is_listed_origin(origin))
		add_cors(exchange, origin);
	if (origin != NULL && strcmp(http_method(exchange), "OPTIONS") == 0 &&
		http_header(exchange, "Access-Control-Request-Method") != NULL)
	{
		answer_preflight(exchange, allowed_methods);
		return false;
	}
	return true;
}
