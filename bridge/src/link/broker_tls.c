/*
 * broker_tls.c
 *		amqps://: whom we trust, who we are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/settings.h"
#include "link/broker_state.h"

/* Where systems keep the certificates that they trust. */
static const char *const system_ca_files[] = {"/etc/ssl/certs/ca-certificates.crt",
											  "/etc/pki/tls/certs/ca-bundle.crt",
											  "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

static TlsFiles tls = {"", "", ""};

/* rabbitmq-c before 0.14 trusts nobody by itself. */
static const char *
system_ca_file(void)
{
	const char *named = getenv("SSL_CERT_FILE");

	if (named != NULL && *named != '\0')
		return named;
	for (size_t i = 0; i < sizeof(system_ca_files) / sizeof(system_ca_files[0]); i++)
	{
		if (access(system_ca_files[i], R_OK) == 0)
			return system_ca_files[i];
	}
	return "";
}

bool
broker_set_tls(const TlsFiles *wanted)
{
	bool ok = settings_can_read("AMQP_CA_FILE", wanted->ca_file);

	ok &= settings_can_read("AMQP_CERT_FILE", wanted->cert_file);
	ok &= settings_can_read("AMQP_KEY_FILE", wanted->key_file);
	if ((*wanted->cert_file == '\0') != (*wanted->key_file == '\0'))
	{
		fputs("AMQP_CERT_FILE and AMQP_KEY_FILE must be given both or neither\n", stderr);
		ok = false;
	}
	tls = *wanted;
	if (*tls.ca_file == '\0')
		tls.ca_file = system_ca_file();
	return ok;
}

amqp_socket_t *
broker_tls_socket(Broker *broker)
{
	amqp_socket_t *socket = amqp_ssl_socket_new(broker->connection);

	if (socket == NULL)
	{
		log_error("cannot make a socket for RabbitMQ");
		return NULL;
	}
	amqp_ssl_socket_set_verify_peer(socket, 1);
	amqp_ssl_socket_set_verify_hostname(socket, 1);
	if (*tls.ca_file == '\0')
		log_error("amqps: the system's certificates are not found: set AMQP_CA_FILE");
	else if (amqp_ssl_socket_set_cacert(socket, tls.ca_file) != AMQP_STATUS_OK)
		log_error("amqps: AMQP_CA_FILE: there is no certificate in %s", tls.ca_file);
	else if (*tls.cert_file != '\0' &&
			 amqp_ssl_socket_set_key(socket, tls.cert_file, tls.key_file) != AMQP_STATUS_OK)
		log_error("amqps: AMQP_CERT_FILE and AMQP_KEY_FILE are no certificate and its key");
	else
		return socket;
	return NULL;
}

const char *
broker_tls_hint(const BrokerUrl *url, int status)
{
	if (!url->is_tls)
		return "";
	switch (status)
	{
		case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
			return " (its certificate is for another name than RABBITMQ_URL's)";
		case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
		case AMQP_STATUS_SSL_CONNECTION_FAILED:
			return " (its certificate has expired, is of nobody whom AMQP_CA_FILE trusts, or it "
				   "wants ours: AMQP_CERT_FILE; or it speaks no TLS at that port)";
		default:
			return "";
	}
}
