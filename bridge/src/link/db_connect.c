/*
 * db_connect.c
 *		One libpq connection that comes back: made, and made anew.
 *
 * Between us and the server there may be a pooler. It shows by its process id, which is not the
 * server's. Whether it keeps a server process for us cannot be found out for certain (there may be
 * several, each with its own), so who needs that goes past all of them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/db_state.h"
#include "link/statements.h"

#define RECONNECT_MS_MIN 100
#define RECONNECT_MS_MAX 1000
#define GRACE_MS         3000 /* beyond the server's own time-out */
#define SESSION_MS_MAX   5000 /* for the settings of a new session */
#define HOST_REST_MS     4000 /* a host that hangs is left alone */
#define HANGS_MS         1000 /* what takes that long to fail; libpq's least time-out is 2 s */

void
db_init(Db *db, const char *url, const char *name, const char *session_sql)
{
	*db = (Db){.url = url,
			   .name = name,
			   .session_sql = session_sql,
			   .target = DB_TARGET_PRIMARY,
			   .connect_timeout_s = "",
			   .hosts = {.rest_ms = HOST_REST_MS},
			   .timeout_ms = DB_TIMEOUT_MS,
			   .grace_ms = GRACE_MS,
			   .lock_timeout_ms = DB_LOCK_TIMEOUT_MS,
			   .backoff = {.delay_ms_min = RECONNECT_MS_MIN, .delay_ms_max = RECONNECT_MS_MAX}};
}

static void
on_notice(void *context, const PGresult *result)
{
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	(void) context;
	if (severity != NULL && strcmp(severity, "WARNING") == 0)
		log_warning("%s", PQresultErrorMessage(result));
	else
		log_debug("notice from PostgreSQL: %s", PQresultErrorMessage(result));
}

/* Runs some statements of a new session, and puts the last value of a row into *number; false if
 * one fails, or does not end in time: the connection tells why. */
static bool
execute(Db *db, const char *sql, int *number)
{
	long long deadline_ms = monotonic_ms() + SESSION_MS_MAX;
	bool      ok = PQsendQuery(db->connection, sql) == 1;

	while (ok)
	{
		PGresult *result = db_wait_for_result(db, deadline_ms) ? PQgetResult(db->connection) : NULL;
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL)
			return monotonic_ms() < deadline_ms && db_is_connected(db);
		ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
		if (PQntuples(result) == 1)
			*number = atoi(PQgetvalue(result, 0, 0));
		PQclear(result);
	}
	return false;
}

/*
 * Whoever wants the encryption of GSSAPI says so, in the URL, by libpq's variable or in a service
 * file. By itself libpq looks for a ticket at each connection, and the library that does (MIT's,
 * 1.20) reads through NULL where memory is short.
 */
static const char *
gss_encryption(const char *url)
{
	bool may_be_said = getenv("PGGSSENCMODE") != NULL || getenv("PGSERVICE") != NULL ||
					   strstr(url, "service") != NULL;

	return may_be_said ? "" : "disable";
}

static PGconn *
open_connection(const Db *db, const DbHost *host)
{
	/* what comes first may be overridden by the URL, which is expanded in place of dbname, and the
	 * URL by what comes last, unless that is empty */
	const struct
	{
		const char *keyword;
		const char *value;
	} options[] = {{"connect_timeout", "5"},
				   {"keepalives_idle", "10"},
				   {"keepalives_interval", "5"},
				   {"keepalives_count", "3"},
				   {"tcp_user_timeout", "20000"},
				   {"target_session_attrs", db->target},
				   {"client_encoding", "UTF8"},
				   {"gssencmode", gss_encryption(db->url)},
				   {"dbname", db->url},
				   {"host", host->host},
				   {"hostaddr", host->hostaddr},
				   {"port", host->port},
				   {"connect_timeout", db->connect_timeout_s},
				   {"fallback_application_name", db->name}};
	const char *keywords[sizeof(options) / sizeof(options[0]) + 1] = {NULL};
	const char *values[sizeof(options) / sizeof(options[0]) + 1] = {NULL};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
	{
		keywords[i] = options[i].keyword;
		values[i] = options[i].value;
	}
	return PQconnectdbParams(keywords, values, 1);
}

/* Sets what holds for the session, if there is one. */
static bool
begin_session(Db *db)
{
	char sql[512];
	int  pid = 0;
	bool is_behind_pooler;

	db->is_pooled = db->lacks_session = false;
	if (!execute(db, SQL_BACKEND_PID, &pid))
		return false;
	is_behind_pooler = pid != PQbackendPID(db->connection);
	db->is_pooled = is_behind_pooler && db->session_sql == NULL;
	db->lacks_session = is_behind_pooler && db->session_sql != NULL;
	if (is_behind_pooler)
		return db->is_pooled;
	snprintf(sql, sizeof(sql), SQL_SESSION, db->timeout_ms, db->lock_timeout_ms);
	return execute(db, sql, &pid) &&
		   (db->session_sql == NULL || execute(db, db->session_sql, &pid));
}

bool
db_adopt(Db *db, PGconn *connection)
{
	db_close(db);
	*db->cluster = '\0'; /* it may be another one now */
	db->connection = connection;
	PQsetNoticeReceiver(db->connection, on_notice, NULL);
	return PQstatus(connection) == CONNECTION_OK && PQsetnonblocking(connection, 1) == 0 &&
		   begin_session(db);
}

bool
db_is_same(Db *a, Db *b, bool if_unknown)
{
	Db       *both[2] = {a, b};
	PGresult *results[2];
	bool      is_known = true;
	bool      is_same;

	for (int i = 0; i < 2; i++)
		is_known &= db_query(both[i], "asking which database this is", SQL_WHICH_DATABASE, 0, NULL,
							 &results[i]) == DB_OK;
	is_same = is_known ? strcmp(PQgetvalue(results[0], 0, 0), PQgetvalue(results[1], 0, 0)) == 0
					   : if_unknown;
	PQclear(results[0]);
	PQclear(results[1]);
	return is_same;
}

bool
db_is_version_enough(const char *version)
{
	int major;
	int minor;

	return sscanf(version, "%d.%d", &major, &minor) == 2 &&
		   (major > EXTENSION_MAJOR || (major == EXTENSION_MAJOR && minor >= EXTENSION_MINOR));
}

/* Is the extension there, new enough, and are we let in? Says what to do if not. */
static bool
check_extension(const Db *db, const char *version, const char *may_use)
{
	bool is_enough = version != NULL && db_is_version_enough(version);
	bool is_let_in = may_use != NULL && *may_use == 't';

	if (version == NULL)
		log_warning(
			"database %s has no extension order_aggregator: run CREATE EXTENSION order_aggregator",
			PQdb(db->connection));
	else if (!is_enough)
		log_warning("database %s has order_aggregator %s, and this bridge needs %d.%d: run ALTER "
					"EXTENSION order_aggregator UPDATE",
					PQdb(db->connection), version, EXTENSION_MAJOR, EXTENSION_MINOR);
	else if (!is_let_in)
		log_warning("%s may not use order_aggregator: run GRANT order_aggregator_bridge TO %s",
					PQuser(db->connection), PQuser(db->connection));
	return is_enough && is_let_in;
}

/* Is it a database to work with? */
static bool
check_database(Db *db)
{
	PGresult *result;
	bool      ok =
		db_query(db, "asking for the extension's version", SQL_DATABASE, 0, NULL, &result) == DB_OK;

	if (ok)
	{
		db_see_timeline(db, PQgetvalue(result, 0, 0), PQgetvalue(result, 0, 1));
		ok = check_extension(db, db_value(result, 0, 2), db_value(result, 0, 3));
	}
	PQclear(result);
	if (ok && db_is_of_the_past(db))
	{
		log_warning("PostgreSQL host=%s port=%s is a primary that has been replaced, timeline %u; "
					"if it was set back on purpose, restart the bridge",
					PQhost(db->connection), PQport(db->connection), db->timeline);
		db_pass_over_host(db);
		ok = false;
	}
	if (db->is_pooled)
		db->timeline = 0; /* each transaction's own */
	return ok;
}

/* libpq quotes the part of a connection string that it cannot read: a password may be in it. */
static void
hide_quoted(const char *error, char *hidden, size_t size)
{
	const char *first = strchr(error, '"');
	const char *last = strrchr(error, '"');

	if (first == NULL)
		snprintf(hidden, size, "%s", error);
	else
		snprintf(hidden, size, "%.*s...%s", (int) (first - error), error, last + 1);
	hidden[strcspn(hidden, "\n")] = '\0';
}

static void
log_connect_error(const Db *db)
{
	const char *error = PQerrorMessage(db->connection);
	char        hidden[512];

	if (strstr(error, "connection option") == NULL)
	{
		log_line(db->is_quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
				 "cannot connect to PostgreSQL: %s",
				 *error != '\0' ? error : "it has not answered in time");
		return;
	}
	hide_quoted(error, hidden, sizeof(hidden));
	log_warning("cannot connect to PostgreSQL: its URL: %s", hidden);
}

/* Connects to one host; to any of the URL's, the first time. */
static bool
reach_host(Db *db, const DbHost *host)
{
	bool ok = db_adopt(db, open_connection(db, host));

	db_learn_hosts(db);
	if (!ok && db->lacks_session)
		log_error("%s " DB_LACKS_SESSION, db->name);
	else if (!ok)
		log_connect_error(db);
	return ok;
}

/* The same, and looks whether it is a database to work with. */
static bool
connect_to(Db *db, const DbHost *host)
{
	long long began_ms = monotonic_ms();
	bool      is_one = db->hosts.count > 0;

	if (!reach_host(db, host))
	{
		if (is_one && monotonic_ms() - began_ms >= HANGS_MS)
			db_rest_host(db);
		db_leave(db);
		return false;
	}
	db_stay_with_host(db);
	if (!check_database(db))
	{
		db_close(db);
		return false;
	}
	backoff_reset(&db->backoff);
	log_line(db->is_quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
			 "connected to PostgreSQL host=%s port=%s database=%s pid=%d", PQhost(db->connection),
			 PQport(db->connection), PQdb(db->connection), PQbackendPID(db->connection));
	return true;
}

/* Tries each host once. As long as they are not known libpq goes through them by itself, and stops
 * at one that answers with an error or not at all: if that was in vain, each is tried then. */
static bool
try_hosts(Db *db, bool (*attempt)(Db *db, const DbHost *host))
{
	bool   is_known;
	DbHost host;

	do
	{
		int first = db->hosts.first; /* which each attempt changes */
		int count = db->hosts.count > 0 ? db->hosts.count : 1;

		is_known = db->hosts.count > 0;
		for (int i = 0; i < count && (i == 0 || !stop_requested()); i++)
			if (db_choose_host(db, (first + i) % count, &host) && attempt(db, &host))
				return true;
	} while (!is_known && db->hosts.count > 1 && !db->lacks_session && !stop_requested());
	return false;
}

bool
db_connect(Db *db)
{
	return try_hosts(db, connect_to);
}

bool
db_reach(Db *db)
{
	return try_hosts(db, reach_host);
}

int
db_pause_ms(Db *db, long long began_ms)
{
	int pause_ms = backoff_next(&db->backoff) - (int) (monotonic_ms() - began_ms);

	return pause_ms > 0 ? pause_ms : 0;
}

bool
db_connect_until_stopped(Db *db)
{
	while (!stop_requested())
	{
		long long began_ms = monotonic_ms();

		if (db_is_connected(db) || db_connect(db))
			return true;
		stop_wait_ms(db_pause_ms(db, began_ms));
	}
	return false;
}

/* libpq takes what follows the first @ for the host, and would tell of it when it is not found. */
static bool
has_bare_at(const char *url)
{
	const char *authority = strstr(url, "://");
	size_t      length;
	const char *at;

	if (authority == NULL)
		return false;
	authority += strlen("://");
	length = strcspn(authority, "/?");
	at = memchr(authority, '@', length);
	return at != NULL && memchr(at + 1, '@', (size_t) (authority + length - at - 1)) != NULL;
}

const char *
db_url_complaint(const char *url)
{
	static char       complaint[256];
	char             *error = NULL;
	PQconninfoOption *options;

	if (strstr(url, "://") == NULL && strchr(url, '=') == NULL)
		return strpbrk(url, " \t\n:/@") == NULL ? NULL /* the name of a database */
												: "it begins with no postgresql://, and is no name";
	if (has_bare_at(url))
		return "an @ in a user or password must be written %40";
	options = PQconninfoParse(url, &error);
	if (options != NULL)
	{
		PQconninfoFree(options);
		return NULL;
	}
	hide_quoted(error != NULL ? error : "out of memory", complaint, sizeof(complaint));
	PQfreemem(error);
	return complaint;
}
