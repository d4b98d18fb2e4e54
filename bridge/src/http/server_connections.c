/*
 * server_connections.c
 *		Open connections: who may stay, and who has been too slow.
 */
#include <jansson.h>

#include "base/log.h"
#include "base/stop.h"
#include "http/server_state.h"

/*
 * libmicrohttpd's own timeout begins anew with every byte, so a client that
 * sends one a second would be waited for as long as it likes. Here the whole
 * request, and then the whole reply, must be over in time.
 */
void
server_expect_client(HttpExchange *exchange, bool expected)
{
	if (exchange->client != NULL)
		atomic_store(&exchange->client->since_ms, expected ? monotonic_ms() : 0);
}

void
server_note_alive(HttpServer *server)
{
	atomic_store(&server->alive_ms, monotonic_ms());
}

/* Shuts the overdue connections down; the library then closes them. */
void
server_sweep(HttpServer *server)
{
	long long now = monotonic_ms();
	int       closed = 0;

	if (now < server->sweep_due_ms)
		return;
	server->sweep_due_ms = now + SWEEP_MS;
	server_note_alive(server);
	if (server->limits.tick != NULL)
		server->limits.tick();
	for (Connection *client = server->connections; client != NULL; client = client->next)
	{
		long long since = atomic_load(&client->since_ms);

		if (since == 0 || now - since < server->limits.idle_timeout_s * 1000LL)
			continue;
		/* unless its request has just become whole */
		if (!atomic_compare_exchange_strong(&client->since_ms, &since, 0))
			continue;
		shutdown(client->descriptor, SHUT_RDWR);
		closed++;
	}
	if (closed > 0)
		log_debug("%d slow connections closed", closed);
}

void
server_on_connection(void *context, struct MHD_Connection *connection, void **socket_context,
					 enum MHD_ConnectionNotificationCode code)
{
	HttpServer                     *server = context;
	Connection                     *client = *socket_context;
	const union MHD_ConnectionInfo *info;

	server_note_alive(server);
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		*socket_context = client = calloc(1, sizeof(Connection));
		if (client == NULL || info == NULL)
			return;
		client->descriptor = info->connect_fd;
		atomic_store(&client->since_ms, monotonic_ms());
		client->next = server->connections;
		if (client->next != NULL)
			client->next->previous = client;
		server->connections = client;
		client->is_surplus = ++server->nconnections > server->limits.connections_max;
		return;
	}
	if (client == NULL)
		return;
	if (client->previous != NULL)
		client->previous->next = client->next;
	else
		server->connections = client->next;
	if (client->next != NULL)
		client->next->previous = client->previous;
	server->nconnections--;
	free(client);
	*socket_context = NULL;
}
