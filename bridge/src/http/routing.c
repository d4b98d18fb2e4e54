/*
 * routing.c
 *		Finds the route of a request by its method and path.
 */
#include "http/routing.h"

#include <stdio.h>
#include <string.h>

bool
routing_fits(const char *pattern, const HttpExchange *exchange, const char **parameter)
{
	const char *found = NULL;
	int         count = 0;

	while (*pattern == '/')
	{
		size_t      length = strcspn(++pattern, "/");
		const char *segment =
			count < http_segment_count(exchange) ? http_segment(exchange, count) : NULL;

		if (segment == NULL)
			return false;
		if (*pattern == '%')
			found = segment;
		if (*pattern == '%' ? *segment == '\0'
							: strlen(segment) != length || memcmp(segment, pattern, length) != 0)
			return false;
		pattern += length;
		count++;
	}
	if (count != http_segment_count(exchange))
		return false;
	if (found != NULL)
		*parameter = found;
	return true;
}

static bool
is_served(const RouteTable *table, const Route *route)
{
	return table->with_older || !(route->flags & ROUTE_OLDER);
}

const Route *
routing_find(const RouteTable *table, const HttpExchange *exchange, const char **parameter)
{
	bool        is_head = strcmp(http_method(exchange), "HEAD") == 0;
	const char *method = is_head ? "GET" : http_method(exchange);

	for (size_t i = 0; i < table->count; i++)
	{
		const Route *route = &table->routes[i];

		if (strcmp(route->method, method) == 0 && is_served(table, route) &&
			routing_fits(route->path, exchange, parameter))
			return is_head && !(route->flags & ROUTE_SAFE) ? NULL : route;
	}
	return NULL;
}

void
routing_list_methods(const RouteTable *table, const HttpExchange *exchange, char *allow,
					 size_t size)
{
	const char *parameter;

	*allow = '\0';
	for (size_t i = 0; i < table->count; i++)
	{
		const Route *route = &table->routes[i];
		bool         has_head = strcmp(route->method, "GET") == 0 && (route->flags & ROUTE_SAFE);

		if (is_served(table, route) && routing_fits(route->path, exchange, &parameter) &&
			strstr(allow, route->method) == NULL)
			snprintf(allow + strlen(allow), size - strlen(allow), "%s%s%s", *allow ? ", " : "",
					 route->method, has_head ? ", HEAD" : "");
	}
}
