/*
 * broker_nodes.c
 *		The brokers that a setting names: nodes of one cluster, any of which will do.
 */
#include "link/broker_nodes.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/stop.h"
#include "base/text.h"

#define FAILED_MS                  60000
#define CONNECT_TIMEOUT_MS_OF_MANY 2000 /* another one is there to be tried */

typedef struct Failure
{
	uint64_t  node;
	long long at_ms; /* of monotonic_ms(); 0: none */
} Failure;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Failure         failures[BROKER_NODES_MAX]; /* the oldest makes room */

/* ---------- parsing ---------- */

static bool
begins_url(const char *text)
{
	return strncasecmp(text, "amqp://", 7) == 0 || strncasecmp(text, "amqps://", 8) == 0;
}

size_t
broker_nodes_url_bytes(const char *text)
{
	for (const char *comma = strchr(text, ','); comma != NULL; comma = strchr(comma + 1, ','))
	{
		const char *next = comma + 1;

		while (isspace((unsigned char) *next))
			next++;
		if (begins_url(next))
			return (size_t) (comma - text);
	}
	return strlen(text);
}

static const char *
parse_one(BrokerNodes *nodes, const char *text, size_t bytes)
{
	BrokerUrl  *url = &nodes->urls[nodes->count];
	char       *copy;
	const char *wrong;

	while (bytes > 0 && isspace((unsigned char) text[bytes - 1]))
		bytes--;
	if (nodes->count == BROKER_NODES_MAX)
		return "names more than 16 brokers";
	copy = strndup(text, bytes);
	if (copy == NULL)
		return "cannot be read: out of memory";
	wrong = amqp_url_parse(url, copy);
	free(copy);
	if (wrong != NULL)
		return wrong;
	nodes->count++;
	if (strchr(url->host, ',') != NULL)
		return "must have amqp:// or amqps:// before each of several, with commas between them";
	return NULL;
}

const char *
broker_nodes_parse(BrokerNodes *nodes, const char *text)
{
	const char *wrong = NULL;

	nodes->count = 0;
	do
	{
		size_t bytes = broker_nodes_url_bytes(text);

		wrong = parse_one(nodes, text, bytes);
		text += bytes;
		text += strspn(text, ", \t\n");
	} while (wrong == NULL && *text != '\0');
	for (int i = 1; wrong == NULL && i < nodes->count; i++)
	{
		if (strcmp(nodes->urls[i].vhost, nodes->urls[0].vhost) != 0)
			wrong = "must have the same vhost in each of several: they are nodes of one cluster";
	}
	for (int i = 0; i < nodes->count && nodes->count > 1; i++)
	{
		if (!nodes->urls[i].has_connect_timeout)
			nodes->urls[i].connect_timeout_ms = CONNECT_TIMEOUT_MS_OF_MANY;
	}
	if (wrong != NULL)
		broker_nodes_free(nodes);
	return wrong;
}

void
broker_nodes_free(BrokerNodes *nodes)
{
	while (nodes->count > 0)
		amqp_url_free(&nodes->urls[--nodes->count]);
}

/* ---------- trying ---------- */

uint64_t
broker_node_id(const BrokerUrl *url)
{
	char text[300];

	snprintf(text, sizeof(text), "%s:%d", url->host, url->port);
	return text_hash(text);
}

void
broker_node_failed(uint64_t node)
{
	Failure *place = &failures[0];

	pthread_mutex_lock(&mutex);
	for (int i = 0; i < BROKER_NODES_MAX && place->node != node; i++)
	{
		if (failures[i].node == node || failures[i].at_ms < place->at_ms)
			place = &failures[i];
	}
	*place = (Failure){node, monotonic_ms()};
	pthread_mutex_unlock(&mutex);
}

/* When the node failed last, if that was lately; else 0. */
static long long
failed_at(uint64_t node)
{
	long long at_ms = 0;

	pthread_mutex_lock(&mutex);
	for (int i = 0; i < BROKER_NODES_MAX; i++)
	{
		if (failures[i].node == node && failures[i].at_ms > 0 &&
			monotonic_ms() - failures[i].at_ms < FAILED_MS)
			at_ms = failures[i].at_ms;
	}
	pthread_mutex_unlock(&mutex);
	return at_ms;
}

void
broker_nodes_order(const BrokerNodes *nodes, int *order)
{
	long long failed_at_ms[BROKER_NODES_MAX];

	for (int i = 0; i < nodes->count; i++)
	{
		int place = (int) (random() % (i + 1));

		order[i] = order[place];
		order[place] = i;
		failed_at_ms[i] = failed_at(broker_node_id(&nodes->urls[i]));
	}
	for (int i = 1; i < nodes->count; i++)
	{
		int node = order[i];
		int place = i;

		for (; place > 0 && failed_at_ms[order[place - 1]] > failed_at_ms[node]; place--)
			order[place] = order[place - 1];
		order[place] = node;
	}
}
