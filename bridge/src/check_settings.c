/*
 * check_settings.c
 *		Settings that need a closer look than their table's: URLs, addresses, files in pairs.
 */
#include "check_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/log.h"
#include "base/roles.h"
#include "base/secret_file.h"
#include "base/text.h"
#include "http/callers.h"
#include "http/server_socket.h"
#include "link/broker.h"
#include "link/broker_nodes.h"
#include "link/db.h"
#include "sync/addresses.h"

/*
 * DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME as a connection string,
 * malloc'd; NULL if none of them is set.
 */
static char *
url_of_older_settings(void)
{
	const char *const parts[][2] = {{"host", config.db_host},
									{"port", config.db_port},
									{"user", config.db_user},
									{"password", config.db_password},
									{"dbname", config.db_name}};
	Text              text = {0};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
	{
		if (*parts[i][1] == '\0')
			continue;
		text_add_format(&text, "%s='", parts[i][0]);
		for (const char *value = parts[i][1]; *value != '\0'; value++)
		{
			if (*value == '\'' || *value == '\\')
				text_add_char(&text, '\\');
			text_add_char(&text, *value);
		}
		text_add_string(&text, "' ");
	}
	return text.length > 0 ? text_finish(&text) : NULL;
}

/* False, after saying so, if there is a complaint. */
static bool
is_fine(const char *setting, const char *complaint)
{
	if (complaint != NULL)
		fprintf(stderr, "%s %s\n", setting, complaint);
	return complaint == NULL;
}

static bool
check_log_level(void)
{
	static const char *const levels[] = {"debug", "info", "warning", "error"};

	for (int i = 0; i < 4; i++)
	{
		if (strcmp(config.log_level, levels[i]) == 0)
		{
			log_set_level((LogLevel) i);
			return true;
		}
	}
	fprintf(stderr, "LOG_LEVEL must be debug, info, warning or error, not \"%s\"\n",
			config.log_level);
	return false;
}

/* Takes a setting's value from the file that is named for it, if one is. */
static bool
take_from_file(const char *setting, const char *path, const char **value)
{
	char *line;

	if (*path == '\0')
		return true;
	line = secret_file_read_line(setting, path);
	if (line != NULL)
		*value = line;
	return line != NULL;
}

static bool
check_database_url(void)
{
	bool is_read =
		take_from_file("DATABASE_URL_FILE", config.database_url_file, &config.database_url) &
		take_from_file("RELAY_DATABASE_URL_FILE", config.relay_database_url_file,
					   &config.relay_database_url) &
		take_from_file("READ_DATABASE_URL_FILE", config.read_database_url_file,
					   &config.read_database_url);

	if (*config.database_url == '\0')
	{
		char *older = url_of_older_settings();

		if (older != NULL)
			config.database_url = older;
	}
	if (is_read && *config.database_url == '\0')
		is_read = is_fine("DATABASE_URL", "must be set");
	if (*config.relay_database_url == '\0')
		config.relay_database_url = config.database_url;
	return is_read &
		   is_fine("DATABASE_URL is not a connection string:",
				   db_url_complaint(config.database_url)) &
		   is_fine("RELAY_DATABASE_URL is not a connection string:",
				   db_url_complaint(config.relay_database_url)) &
		   is_fine("READ_DATABASE_URL is not a connection string:",
				   db_url_complaint(config.read_database_url));
}

static bool
check_broker(void)
{
	bool        ok = broker_set_tls(&config.amqp_tls);
	BrokerNodes nodes;

	if (!take_from_file("RABBITMQ_URL_FILE", config.rabbitmq_url_file, &config.rabbitmq_url))
		return false;
	ok &= is_fine("RABBITMQ_URL", broker_nodes_parse(&nodes, config.rabbitmq_url));
	broker_nodes_free(&nodes);
	broker_set_placed_queue(config.placed_queue);
	return ok;
}

static bool
check_http(void)
{
	bool has_certificate = *config.http_tls_cert_file != '\0';
	bool has_key = *config.http_tls_key_file != '\0';
	bool ok = is_fine("HTTP_LISTEN", http_address_complaint(config.http_listen));

	if (has_certificate != has_key)
		ok = is_fine(has_key ? "HTTP_TLS_CERT_FILE" : "HTTP_TLS_KEY_FILE",
					 has_key ? "must be set with HTTP_TLS_KEY_FILE"
							 : "must be set with HTTP_TLS_CERT_FILE");
	return callers_init() && ok;
}

bool
check_settings(void)
{
	/* all of them, so that all complaints are heard */
	bool ok = check_log_level();

	ok &= check_database_url();
	ok &= check_broker();
	ok &= check_http();
	ok &= is_fine("FEED_ALLOW_ADDRESSES", addresses_allow(config.feed_allow_addresses));
	return ok;
}

bool
check_roles(bool *wanted)
{
	char *copy = strdup(config.roles);
	char *save = NULL;
	bool  ok = copy != NULL && copy[strspn(copy, ",")] != '\0';

	if (!ok)
		fprintf(stderr, "ROLES must name at least one role\n");
	for (char *word = strtok_r(copy, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save))
	{
		int role = 0;

		while (role < ROLE_COUNT && strcmp(word, role_name(role)) != 0)
			role++;
		if (role == ROLE_COUNT)
		{
			fprintf(stderr,
					"ROLES: there is no role \"%s\"; there are http, relay, replies, sync and "
					"housekeeping\n",
					word);
			ok = false;
		}
		else
			wanted[role] = true;
	}
	free(copy);
	if (wanted[ROLE_HTTP] && *config.http_tokens_file == '\0' && !config.http_without_tokens &&
		!http_address_is_local(config.http_listen))
	{
		fprintf(
			stderr,
			"HTTP_LISTEN=%s is not loopback: set HTTP_TOKENS_FILE, or HTTP_WITHOUT_TOKENS=yes\n",
			config.http_listen);
		ok = false;
	}
	return ok;
}
