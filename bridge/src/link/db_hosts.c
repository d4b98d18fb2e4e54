/*
 * db_hosts.c
 *		One libpq connection that comes back: which of several hosts is tried first.
 *
 * libpq goes on to the next host by itself if one cannot be reached or does not answer in time. It
 * does not if somebody takes the connection and closes it before the server has said a word (a
 * proxy, or a forwarded port, whose server is dead), and one that hangs costs a time-out again with
 * each attempt. So we begin with the host after the one that was in vain.
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

/* "a,b,c" that begins with the nth; "" of what is no list, or too long. */
static void
begin_with(const char *list, int n, char *turned)
{
	size_t      length;
	const char *first = element_of(list, n, &length);

	turned[0] = '\0';
	if (first != list && strlen(list) < DB_HOSTS_MAX)
		snprintf(turned, DB_HOSTS_MAX, "%s,%.*s", first, (int) (first - list - 1), list);
}

static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword != NULL; options++)
		if (strcmp(options->keyword, keyword) == 0 && options->val != NULL)
			return options->val;
	return "";
}

void
db_pass_over_host(Db *db)
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
	now = now < count ? (now + 1) % count : 0;
	begin_with(host, now, db->hosts.host);
	begin_with(hostaddr, now, db->hosts.hostaddr);
	begin_with(port, now, db->hosts.port);
	PQconninfoFree(options);
}
