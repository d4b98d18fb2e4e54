/*
 * db_hosts.c
 *		One libpq connection that comes back: which of several hosts is tried, and when.
 *
 * The first time libpq goes through the URL's hosts by itself; then we know them, and give it one
 * at a time. By itself it does not go on to the next one if somebody takes the connection and
 * closes it before the server has said a word (a proxy, or a forwarded port, whose server is dead),
 * and one that hangs costs a time-out with each attempt. So we begin with the host after the one
 * that was in vain, or with the one whose connection was lost, and leave one that hangs alone for a
 * while, in which the others are asked again and again: one of them may be promoted meanwhile.
 */
#include <string.h>

#include "base/stop.h"
#include "link/db_state.h"

static int
count_of(const char *list)
{
	int count = 1;

	for (; (list = strchr(list, ',')) != NULL; list++)
		count++;
	return count;
}

/* The nth element, and its length; of a single one each is that. */
static const char *
element_of(const char *list, int n, size_t *length)
{
	const char *comma;

	while (n-- > 0 && (comma = strchr(list, ',')) != NULL)
		list = comma + 1;
	*length = strcspn(list, ",");
	return list;
}

static const PQconninfoOption *
find_option(const PQconninfoOption *options, const char *keyword)
{
	for (; options != NULL && options->keyword != NULL; options++)
		if (strcmp(options->keyword, keyword) == 0)
			return options;
	return NULL;
}

static bool
copy_list(const PQconninfoOption *options, const char *keyword, char *list)
{
	const PQconninfoOption *option = find_option(options, keyword);
	const char             *value = option != NULL && option->val != NULL ? option->val : "";

	return snprintf(list, DB_HOSTS_BYTES, "%s", value) < DB_HOSTS_BYTES;
}

/* Has a list an empty element? It stands for something that we cannot give libpq in its place. */
static bool
has_gaps(const char *list)
{
	size_t length = strlen(list);

	return length > 0 && (list[0] == ',' || list[length - 1] == ',' || strstr(list, ",,") != NULL);
}

/* Copies the lists; false if libpq is to go through them by itself always. */
static bool
copy_lists(DbHosts *hosts, const PQconninfoOption *options)
{
	const PQconninfoOption *port = find_option(options, "port");

	if (!copy_list(options, "host", hosts->host) || has_gaps(hosts->host) ||
		!copy_list(options, "hostaddr", hosts->hostaddr) || has_gaps(hosts->hostaddr) ||
		!copy_list(options, "port", hosts->port))
		return false;
	if (port != NULL && port->compiled != NULL)
		snprintf(hosts->usual_port, sizeof(hosts->usual_port), "%s", port->compiled);
	return !has_gaps(hosts->port) || *hosts->usual_port != '\0';
}

/* Copies the nth of a list, or what it stands for if it is empty; "" if it is the only one: then it
 * is the URL's. */
static void
take(const DbHosts *hosts, int n, const char *list, const char *if_empty, char *element)
{
	size_t      length;
	const char *first = element_of(list, n, &length);

	*element = '\0';
	if (hosts->count > 1 && length > 0)
		snprintf(element, DB_HOSTS_BYTES, "%.*s", (int) length, first);
	else if (hosts->count > 1)
		snprintf(element, DB_HOSTS_BYTES, "%s", if_empty);
}

static void
take_host(const DbHosts *hosts, int n, DbHost *host)
{
	take(hosts, n, hosts->host, "", host->host);
	take(hosts, n, hosts->hostaddr, "", host->hostaddr);
	/* "" would leave libpq the URL's list, of more ports than there are hosts then */
	take(hosts, n, hosts->port, hosts->usual_port, host->port);
}

/* Which of several hosts the connection is to, or was tried with last; the first if that cannot be
 * told. */
static int
find_host(const Db *db)
{
	DbHost host;

	for (int n = 0; n < db->hosts.count; n++)
	{
		take_host(&db->hosts, n, &host);
		if (strcmp(*host.host != '\0' ? host.host : host.hostaddr, PQhost(db->connection)) == 0 &&
			strcmp(host.port, PQport(db->connection)) == 0 &&
			(*host.hostaddr == '\0' || strcmp(host.hostaddr, PQhostaddr(db->connection)) == 0))
			return n;
	}
	return 0;
}

void
db_learn_hosts(Db *db)
{
	DbHosts                *hosts = &db->hosts;
	PQconninfoOption       *options;
	const PQconninfoOption *port;
	int                     count = 1;

	if (hosts->count > 0)
		return;
	options = PQconninfo(db->connection);
	port = find_option(options, "port");
	if (port == NULL || port->val == NULL)
	{
		/* it has been given none of them, memory was short: the next time */
		PQconninfoFree(options);
		return;
	}
	if (copy_lists(hosts, options))
		count = count_of(*hosts->host != '\0' ? hosts->host : hosts->hostaddr);
	PQconninfoFree(options);
	hosts->count = count <= DB_HOSTS_MAX ? count : 1;
	hosts->now = hosts->count > 1 ? find_host(db) : 0;
}

bool
db_choose_host(Db *db, int n, DbHost *host)
{
	db->hosts.now = n;
	take_host(&db->hosts, n, host);
	return monotonic_ms() >= db->hosts.rests_until_ms[n];
}

void
db_rest_host(Db *db)
{
	DbHosts  *hosts = &db->hosts;
	long long now_ms = monotonic_ms();
	int       resting = 0;

	/* it may only have been held up for a moment */
	hosts->rests_until_ms[hosts->now] =
		now_ms + (hosts->has_hung[hosts->now] ? hosts->rest_ms : hosts->rest_ms / 2);
	hosts->has_hung[hosts->now] = true;
	for (int i = 0; i < hosts->count; i++)
		resting += hosts->rests_until_ms[i] > now_ms;
	if (resting == hosts->count) /* there must be one to try */
		memset(hosts->rests_until_ms, 0, sizeof(hosts->rests_until_ms));
}

void
db_pass_over_host(Db *db)
{
	if (db->hosts.count > 0)
		db->hosts.first = (db->hosts.now + 1) % db->hosts.count;
}

void
db_stay_with_host(Db *db)
{
	db->hosts.first = db->hosts.now;
	memset(db->hosts.has_hung, 0, sizeof(db->hosts.has_hung));
}
