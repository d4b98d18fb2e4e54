/*
 * broker_nodes.h
 *		The brokers that a setting names: nodes of one cluster, any of which will do.
 *
 * URLs (broker_url.h) with commas between them; each begins with amqp:// or amqps://, so that a
 * comma elsewhere is one.
 */
#ifndef BRIDGE_BROKER_NODES_H
#define BRIDGE_BROKER_NODES_H

#include <stddef.h>

#include "link/broker_url.h"

#define BROKER_NODES_MAX 16

typedef struct BrokerNodes
{
	BrokerUrl urls[BROKER_NODES_MAX];
	int       count;
} BrokerNodes;

/* broker_nodes_parse returns NULL, or what is wrong, as amqp_url_parse does; broker_nodes_free in
 * either case. */
extern const char *broker_nodes_parse(BrokerNodes *nodes, const char *text);
extern void        broker_nodes_free(BrokerNodes *nodes);

/* broker_nodes_url_bytes: how long is the URL at the beginning of the text, up to the comma before
 * the next one, or the end? */
extern size_t broker_nodes_url_bytes(const char *text);

/*
 * broker_nodes_order puts the numbers of the nodes in the order in which to try them: at random, so
 * that clients spread; last those that failed within the last minute, the latest of them last of
 * all. Failures are known to all threads.
 */
extern void broker_nodes_order(const BrokerNodes *nodes, int *order);

/* broker_node_id names a node by where it is; broker_node_failed notes that it could not be
 * reached, or was lost. */
extern uint64_t broker_node_id(const BrokerUrl *url);
extern void     broker_node_failed(uint64_t node);

#endif /* BRIDGE_BROKER_NODES_H */
