/*
 * db_hosts.c
 *		One libpq connection that comes back: which of several hosts is tried first.
 *
 * libpq goes on to the next host by itself if one cannot be reached or does not answer in time. It
 * does not if somebody takes the connection and closes it before the server has said a word (a
 * proxy, or a forwarded port, whose server is dead), and one that hangs costs a time-out again with
 * each attempt. So we begin with the host after the one that was in vain, and with the one that was
 * reached when its connection is lost.
 */
#include <string.h>

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

/* Is the nth element that value? An empty one is libpq's default, which is not known here. */
static bool
is_element(const char *list, int n, const char *value)
{
	size_t      length;
	const char *element = element_of(list, n, &length);

	return length == 0 || (strlen(value) == length && memcmp(element, value, length) == 0);
}

/* "a,b,c" that begins with the nth; "" of what is no list. */
static void
turn(const char *list, int n, char *turned)
{
	size_t      length;
	const char *first = element_of(list, n, &length);

	snprintf(turned, DB_HOSTS_MAX, "%s", strchr(list, ',') != NULL ? first : "");
	if (first != list)
		snprintf(turned + strlen(turned), DB_HOSTS_MAX - strlen(turned), ",%.*s",
				 (int) (first - list - 1), list);
}

static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword != NULL; options++)
		if (strcmp(options->keyword, keyword) == 0 && options->val != NULL)
			return options->val;
	return "";
}

/* Begins so many hosts after the one that the connection is to, or was tried with. */
static void
begin_after(Db *db, int places)
{
	PQconninfoOption *options = PQconninfo(db->connection);
	const char       *host = options != NULL ? value_of(options, "host") : "";
	const char       *hostaddr = options != NULL ? value_of(options, "hostaddr") : "";
	const char       *port = options != NULL ? value_of(options, "port") : "";
	const char       *names = *host != '\0' ? host : hostaddr;
	int               count = count_of(names);
	int               now = 0;

	while (now < count && !(is_element(names, now, PQhost(db->connection)) &&
							is_element(port, now, PQport(db->connection))))
		now++;
	now = now < count ? (now + places) % count : 0;
	db->hosts = (DbHosts){0};
	/* all three or none: each host goes with its own port */
	if (strlen(host) < DB_HOSTS_MAX && strlen(hostaddr) < DB_HOSTS_MAX &&
		strlen(port) < DB_HOSTS_MAX)
	{
		turn(host, now, db->hosts.host);
		turn(hostaddr, now, db->hosts.hostaddr);
		turn(port, now, db->hosts.port);
	}
	PQconninfoFree(options);
}

void
db_pass_over_host(Db *db)
{
	begin_after(db, 1);
}

void
db_stay_with_host(Db *db)
{
	begin_after(db, 0);
}
