/*
 * doctor.c
 *		What is missing for the bridge to work, in words.
 */
#include "doctor.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/certificate.h"
#include "base/config.h"
#include "base/stop.h"
#include "link/broker.h"
#include "link/broker_nodes.h"
#include "link/db.h"
#include "link/statements.h"

#define TIMEOUT_MS  5000
#define CLOCK_S_MAX 2.0

/* or a third of its life, if that is less */
#define CERTIFICATE_DAYS_MIN 30.0

static bool is_well;

static void say(const char *verdict, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));
static void fine(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void bad(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
say(const char *verdict, const char *format, va_list arguments)
{
	printf("%-4s ", verdict);
	vprintf(format, arguments);
	putchar('\n');
}

static void
fine(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("ok", format, arguments);
	va_end(arguments);
}

static void
bad(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("BAD", format, arguments);
	va_end(arguments);
	is_well = false;
}

/* ---------- the database ---------- */

/* The first line of what went wrong. */
static void
bad_because(const char *about, const char *error)
{
	const char *why = *error != '\0' ? error : "no answer";

	bad("%s: %.*s", about, (int) strcspn(why, "\n"), why);
}

/* The one row of a statement; NULL, after saying why, if there is none. */
static PGresult *
ask(Db *db, const char *about, const char *sql)
{
	PGresult *result;
	DbOutcome outcome = db_query(db, about, sql, 0, NULL, &result);

	if (outcome == DB_OK && PQntuples(result) == 1)
		return result;
	bad_because(about, result != NULL ? PQresultErrorMessage(result) : "");
	PQclear(result);
	return NULL;
}

/* Columns of the result of SQL_DOCTOR_SERVER. */
enum
{
	SERVER_DATABASE,
	SERVER_ROLE,
	SERVER_VERSION,
	SERVER_EXTENSION,
	SERVER_IS_STANDBY,
	SERVER_IS_READ_ONLY,
	SERVER_COMMIT,
	SERVER_CLOCK
};

static void
look_at_clock(const char *theirs)
{
	double difference = atof(theirs) - wall_clock_s();

	if (fabs(difference) > CLOCK_S_MAX)
		bad("clock: the database's is %.1f s %s ours; times of feeds are compared with both",
			fabs(difference), difference > 0 ? "ahead of" : "behind");
	else
		fine("clock: as the database's");
}

/* True if our extension is there, and of this bridge's version. */
static bool
look_at_server(Db *db)
{
	PGresult   *row = ask(db, "DATABASE_URL", SQL_DOCTOR_SERVER);
	const char *extension;
	bool        is_ours;

	if (row == NULL)
		return false;
	extension = db_value(row, 0, SERVER_EXTENSION);
	is_ours = extension != NULL && db_is_version_enough(extension);
	fine("database: %s as %s, PostgreSQL %s", PQgetvalue(row, 0, SERVER_DATABASE),
		 PQgetvalue(row, 0, SERVER_ROLE), PQgetvalue(row, 0, SERVER_VERSION));
	if (extension == NULL)
		bad("extension: not in database %s: CREATE EXTENSION order_aggregator",
			PQgetvalue(row, 0, SERVER_DATABASE));
	else if (!is_ours)
		bad("extension: %s, and this bridge needs %d.%d: ALTER EXTENSION order_aggregator UPDATE",
			extension, EXTENSION_MAJOR, EXTENSION_MINOR);
	else
		fine("extension: %s", extension);
	if (*PQgetvalue(row, 0, SERVER_IS_STANDBY) == 't')
		bad("database: the server is a standby, and takes no orders: DATABASE_URL must lead to "
			"the primary");
	else if (*PQgetvalue(row, 0, SERVER_IS_READ_ONLY) == 't')
		bad("database: transactions are read only (default_transaction_read_only)");
	if (strcmp(PQgetvalue(row, 0, SERVER_COMMIT), "off") == 0)
		bad("database: synchronous_commit is off: an order that was answered is lost if the "
			"server crashes");
	look_at_clock(PQgetvalue(row, 0, SERVER_CLOCK));
	PQclear(row);
	return is_ours;
}

static bool
look_at_rights(Db *db)
{
	PGresult *row = ask(db, "rights", SQL_DOCTOR_RIGHTS);

	bool has_all;

	if (row == NULL)
		return false;
	has_all = PQgetisnull(row, 0, 0);
	if (!has_all)
		bad("rights: role %s may not use %s: GRANT order_aggregator_bridge TO %s",
			PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1));
	else
		fine("rights: role %s has what a bridge needs", PQgetvalue(row, 0, 1));
	PQclear(row);
	return has_all;
}

static void
look_at_work(Db *db)
{
	PGresult *row = ask(db, "work", SQL_DOCTOR_WORK);

	if (row == NULL)
		return;
	if (*PQgetvalue(row, 0, 0) != '0')
		bad("events: %s are parked: the view unroutable_event says why; order-bridge redrive",
			PQgetvalue(row, 0, 0));
	if (!PQgetisnull(row, 0, 1))
		bad("vendors: not sold, because no feed confirms them: %s", PQgetvalue(row, 0, 1));
	if (!PQgetisnull(row, 0, 2))
		bad("vendors: feeds that fail or are held back: %s: GET /vendors says why",
			PQgetvalue(row, 0, 2));
	PQclear(row);
}

/* Of several hosts the one that a bridge would take; one that is none is to be told of. */
static bool
reach(Db *db, const char *setting, const char *url, const char *session_sql, const char *target)
{
	db_init(db, url, "order-bridge doctor", session_sql);
	db->timeout_ms = TIMEOUT_MS;
	db->target = target;
	if (db_reach(db))
		return true;
	db->target = "any";
	if (!db->lacks_session && db_reach(db))
		return true;
	if (db->lacks_session)
		bad("%s: the role relay " DB_LACKS_SESSION, setting);
	else
		bad_because(setting, PQerrorMessage(db->connection));
	return false;
}

/* The relay's way to the database, if it is another than the others'. */
static void
look_at_relay(Db *db)
{
	Db relay;

	if (strcmp(config.relay_database_url, config.database_url) == 0 && !db->is_pooled)
		return;
	if (!reach(&relay, "RELAY_DATABASE_URL", config.relay_database_url, SQL_RELAY_SESSION,
			   DB_TARGET_PRIMARY))
		; /* it is said */
	else if (db_is_same(&relay, db, true))
		fine("relay: has a session of its own");
	else
		bad("RELAY_DATABASE_URL: is another database than DATABASE_URL");
	db_close(&relay);
}

static void
look_at_standby(Db *db)
{
	Db        standby;
	PGresult *row = NULL;

	if (*config.read_database_url == '\0')
		return;
	if (!reach(&standby, "READ_DATABASE_URL", config.read_database_url, NULL, DB_TARGET_STANDBY))
		; /* it is said */
	else if (!db_is_same(&standby, db, true))
		bad("READ_DATABASE_URL: is another database than DATABASE_URL");
	else if (standby.is_pooled)
		bad("READ_DATABASE_URL: is behind a pooler: nothing is read from it");
	else if (db_query(&standby, "asking for the standby", SQL_DOCTOR_SERVER, 0, NULL, &row) ==
				 DB_OK &&
			 *PQgetvalue(row, 0, 4) == 't')
		fine("standby: GET requests are answered from it while it keeps up");
	else
		bad("READ_DATABASE_URL: is no standby: nothing is read from it");
	PQclear(row);
	db_close(&standby);
}

static void
look_at_database(void)
{
	Db db;

	if (reach(&db, "DATABASE_URL", config.database_url, NULL, DB_TARGET_PRIMARY))
	{
		if (look_at_server(&db) && look_at_rights(&db))
			look_at_work(&db);
		look_at_relay(&db);
		look_at_standby(&db);
	}
	db_close(&db);
}

/* ---------- the broker ---------- */

static void
look_at_queues(Broker *broker)
{
	int limited;
	int dead;

	if (!broker_declare(broker, &limited))
	{
		bad("RABBITMQ_URL: the exchange and queues cannot be declared: the log says why");
		return;
	}
	if (limited > 0)
		bad("queues: %d have no delivery limit of ours, and RabbitMQ 4 drops what comes back 20 "
			"times: docs/operations.md, RabbitMQ 4",
			limited);
	else
		fine("queues: as they should be");
	dead = broker_message_count(broker, QUEUE_REPLIES_DEAD);
	if (dead > 0)
		bad("replies: %d in " QUEUE_REPLIES_DEAD ": their headers say why; order-bridge redrive",
			dead);
}

/* Each node by itself: a bridge would find another one. */
static void
look_at_brokers(void)
{
	const char *text = config.rabbitmq_url;
	bool        is_first = true;

	for (int number = 1; *(text += strspn(text, " \t\n")) != '\0'; number++)
	{
		size_t  bytes = broker_nodes_url_bytes(text);
		char   *url = strndup(text, bytes);
		Broker *broker = url == NULL ? NULL
									 : broker_open(url, "order-bridge doctor",
												   config.broker_timeout_s * 1000, NULL);
		bool    is_only = number == 1 && text[bytes] == '\0';

		text += bytes + (text[bytes] == ',' ? 1 : 0);
		free(url);
		if (broker == NULL && is_only)
			bad("RABBITMQ_URL: the broker cannot be used: the log says why");
		else if (broker == NULL)
			bad("RABBITMQ_URL: broker %d cannot be used: the log says why", number);
		else if (is_first)
		{
			fine("broker: connected");
			look_at_queues(broker);
			is_first = false;
		}
		else
			fine("broker: connected to number %d too", number);
		broker_close(broker);
	}
}

/* ---------- files ---------- */

static void
look_at_file(const char *setting, const char *path)
{
	if (*path != '\0' && access(path, R_OK) != 0)
		bad("%s: %s cannot be read", setting, path);
}

/* A certificate of ours: is it good, and for a while yet? */
static void
look_at_certificate(const char *setting, const char *path)
{
	const char *complaint;
	time_t      begins_at;
	time_t      ends_at;
	double      days;
	double      third;

	if (*path == '\0')
		return;
	complaint = certificate_read(path, &begins_at, &ends_at);
	if (complaint != NULL)
	{
		bad("%s: %s: %s", setting, path, complaint);
		return;
	}
	days = difftime(ends_at, time(NULL)) / 86400;
	third = difftime(ends_at, begins_at) / 86400 / 3;
	if (days < 0)
		bad("%s: %s expired %.0f days ago", setting, path, ceil(-days));
	else if (days < CERTIFICATE_DAYS_MIN && days < third)
		bad("%s: %s expires in %.0f days", setting, path, ceil(days));
	else
		fine("%s: good for %.0f days", setting, days);
}

bool
doctor_run(void)
{
	is_well = true;
	look_at_database();
	look_at_brokers();
	look_at_file("FEED_CA_FILE", config.feed_ca_file);
	look_at_certificate("AMQP_CERT_FILE", config.amqp_tls.cert_file);
	look_at_certificate("HTTP_TLS_CERT_FILE", config.http_tls_cert_file);
	puts(is_well ? "all is well" : "not all is well");
	return is_well;
}
