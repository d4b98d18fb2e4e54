/*
 * broker_url.h
 *		A broker's URL, as people write them.
 *
 * amqp[s]://[user[:password]@]host[:port][/[vhost]][?heartbeat=s&connection_timeout=ms]
 *
 * Percent-encoded, the host in brackets if it is an IPv6 address. Without a vhost
 * it is "/"; without a user guest.
 */
#ifndef BRIDGE_AMQP_URL_H
#define BRIDGE_AMQP_URL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct BrokerUrl
{
	char *host;
	char *user;
	char *password;
	char *vhost;
	int   port;
	bool  is_tls;
	int   heartbeat_s;
	int   connect_timeout_ms;
	bool  has_connect_timeout; /* the URL says it */
} BrokerUrl;

/*
 * amqp_url_parse takes a URL apart and returns NULL, or what is wrong with it, as what
 * follows the setting's name. That says nothing of its contents: there may be a
 * password in it. amqp_url_free in either case.
 */
extern const char *amqp_url_parse(BrokerUrl *url, const char *text);
extern void        amqp_url_free(BrokerUrl *url);

#endif /* BRIDGE_AMQP_URL_H */
