/*
 * config.h
 *		The bridge's settings, as main.c has read them; constant afterwards.
 */
#ifndef BRIDGE_CONFIG_H
#define BRIDGE_CONFIG_H

#include <stdbool.h>

#include "base/settings.h"
#include "base/tls_files.h"

typedef struct Config
{
	const char *database_url;
	const char *relay_database_url;
	const char *read_database_url; /* empty: none */
	const char *db_host;           /* empty, as the next four: not given */
	const char *db_port;
	const char *db_user;
	const char *db_password;
	const char *db_name;
	const char *rabbitmq_url;
	TlsFiles    amqp_tls;
	bool        placed_queue;
	const char *database_url_file;
	const char *relay_database_url_file;
	const char *read_database_url_file;
	const char *rabbitmq_url_file;
	const char *http_listen;
	const char *http_tls_cert_file;
	const char *http_tls_key_file;
	int         port;
	const char *http_tokens_file;
	bool        http_without_tokens;
	const char *http_hosts;
	const char *http_origins;
	bool        http_older_routes;
	bool        access_log;
	const char *roles;
	const char *log_level;
	int         intake_max;
	int         intake_bytes_max;
	int         place_batch_max;
	int         drain_s;
	int         request_timeout_s;
	int         body_bytes_max;
	int         bodies_bytes_max;
	int         connections_max;
	int         connections_per_address_max;
	int         header_bytes_max;
	int         listeners_max;
	int         listeners_per_address_max;
	int         stuck_after_s;
	int         relay_window;
	int         relay_window_bytes;
	int         relay_poll_ms;
	int         relay_linger_ms;
	int         relay_lease_s;
	int         broker_timeout_s;
	int         replies_prefetch;
	int         replies_batch_max;
	int         reply_bytes_max;
	int         replies_bytes_max;
	int         sync_timeout_s;
	int         feed_bytes_max;
	int         feed_items_max;
	int         feed_redirects_max;
	const char *feed_headers_file;
	const char *feed_ca_file;
	const char *feed_allow_addresses;
	int         circuit_failures;
	int         circuit_open_s;
	int         expire_interval_ms;
	int         ask_again_s;
	int         outbox_retention_hours;
	int         idempotency_retention_hours;
	int         sync_retention_hours;
} Config;

extern Config config;

/* The table that settings_load() fills in config from; ends with a NULL. */
extern const Setting config_settings[];

#endif /* BRIDGE_CONFIG_H */
