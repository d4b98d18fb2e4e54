/*
 * db.c
 *		One libpq connection that comes back.
 *
 * Every wait has a bound: for a connection, for a lock (the server's
 * lock_timeout), for a statement (its statement_timeout), and, because a server
 * may hang without saying so, for its answer (ours). A dead connection is silent,
 * so TCP keepalives and a user timeout are on.
 */
#include "link/db.h"

#include <assert.h>
#include <poll.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/sqlstate.h"
#include "link/statements.h"

#define RECONNECT_MS_MIN 100
#define RECONNECT_MS_MAX 5000
#define GRACE_MS         3000 /* beyond the server's own time-out */
#define SESSION_MS_MAX   5000 /* for the settings of a new session */

void
db_init(Db *db, const char *url, const char *name, const char *session_sql)
{
	*db = (Db){.url = url,
			   .name = name,
			   .session_sql = session_sql,
			   .timeout_ms = DB_TIMEOUT_MS,
			   .lock_timeout_ms = DB_LOCK_TIMEOUT_MS,
			   .backoff = {.delay_ms_min = RECONNECT_MS_MIN, .delay_ms_max = RECONNECT_MS_MAX}};
}

/* Waits until there is a result to get, or the connection is gone; false once the time is over. */
static bool
wait_for_result(Db *db, long long deadline_ms)
{
	int unsent = PQflush(db->connection);

	while (unsent > 0 || PQisBusy(db->connection))
	{
		struct pollfd wait = {.fd = PQsocket(db->connection),
							  .events = unsent > 0 ? POLLIN | POLLOUT : POLLIN};
		long long     left_ms = deadline_ms - monotonic_ms();

		if (left_ms <= 0)
			return false;
		if (poll(&wait, 1, (int) left_ms) > 0 && !PQconsumeInput(db->connection))
			return true; /* what it is shows in the result */
		if (unsent > 0)
			unsent = PQflush(db->connection);
		if (unsent < 0)
			return true;
	}
	return true;
}

static void
on_notice(void *context, const PGresult *result)
{
	(void) context;
	log_debug("notice from PostgreSQL: %s", PQresultErrorMessage(result));
}

/* Runs some statements of a new session; false if one fails, or does not end in time. */
static bool
execute(Db *db, const char *sql)
{
	long long deadline_ms = monotonic_ms() + SESSION_MS_MAX;
	bool      ok = PQsendQuery(db->connection, sql) == 1;

	while (ok)
	{
		PGresult *result = wait_for_result(db, deadline_ms) ? PQgetResult(db->connection) : NULL;
		ExecStatusType status = PQresultStatus(result);

		if (result == NULL)
			return monotonic_ms() < deadline_ms;
		ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
		PQclear(result);
	}
	return false;
}

bool
db_adopt(Db *db, PGconn *connection)
{
	char sql[256];

	db_close(db);
	db->connection = connection;

	PQsetNoticeReceiver(db->connection, on_notice, NULL);
	snprintf(sql, sizeof(sql), SQL_SESSION, db->timeout_ms, db->lock_timeout_ms);
	return PQstatus(connection) == CONNECTION_OK && PQsetnonblocking(connection, 1) == 0 &&
		   execute(db, sql) && (db->session_sql == NULL || execute(db, db->session_sql));
}

bool
db_is_version_enough(const char *version)
{
	int major;
	int minor;

	return sscanf(version, "%d.%d", &major, &minor) == 2 &&
		   (major > EXTENSION_MAJOR || (major == EXTENSION_MAJOR && minor >= EXTENSION_MINOR));
}

/* Is the extension there, and new enough? Says what to do if not. */
static bool
check_extension(Db *db)
{
	PGresult *result;
	DbOutcome outcome =
		db_query(db, "asking for the extension's version", SQL_EXTENSION_VERSION, 0, NULL, &result);
	const char *version =
		outcome == DB_OK && PQntuples(result) == 1 ? PQgetvalue(result, 0, 0) : NULL;
	bool is_enough = version != NULL && db_is_version_enough(version);

	if (outcome == DB_OK && version == NULL)
		log_warning(
			"database %s has no extension order_aggregator: run CREATE EXTENSION order_aggregator",
			PQdb(db->connection));
	else if (outcome == DB_OK && !is_enough)
		log_warning("database %s has order_aggregator %s, and this bridge needs %d.%d: run ALTER "
					"EXTENSION order_aggregator UPDATE",
					PQdb(db->connection), version, EXTENSION_MAJOR, EXTENSION_MINOR);
	PQclear(result);
	return is_enough;
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
log_connect_error(const char *error)
{
	char hidden[512];

	if (strstr(error, "connection option") == NULL)
	{
		log_warning("cannot connect to PostgreSQL: %s", error);
		return;
	}
	hide_quoted(error, hidden, sizeof(hidden));
	log_warning("cannot connect to PostgreSQL: DATABASE_URL: %s", hidden);
}

bool
db_connect(Db *db)
{
	/* what comes first may be overridden by the URL, which is expanded in place of dbname */
	const char *const keywords[] = {
		"connect_timeout",  "keepalives_idle",           "keepalives_interval",
		"keepalives_count", "tcp_user_timeout",          "target_session_attrs",
		"dbname",           "fallback_application_name", NULL};
	const char *const values[] = {"5",          "10",    "5",      "3", "20000",
								  "read-write", db->url, db->name, NULL};

	if (!db_adopt(db, PQconnectdbParams(keywords, values, 1)))
	{
		log_connect_error(PQerrorMessage(db->connection));
		db_close(db);
		return false;
	}
	if (!check_extension(db))
	{
		db_close(db);
		return false;
	}
	backoff_reset(&db->backoff);
	log_info("connected to PostgreSQL host=%s port=%s database=%s pid=%d", PQhost(db->connection),
			 PQport(db->connection), PQdb(db->connection), PQbackendPID(db->connection));
	return true;
}

bool
db_connect_until_stopped(Db *db)
{
	while (!stop_requested())
	{
		if (db_is_connected(db) || db_connect(db))
			return true;
		stop_wait_ms(backoff_next(&db->backoff));
	}
	return false;
}

bool
db_is_connected(const Db *db)
{
	return db->connection != NULL && PQstatus(db->connection) == CONNECTION_OK;
}

bool
db_is_alive(Db *db)
{
	if (db_is_connected(db) && PQconsumeInput(db->connection) && db_is_connected(db))
		return true;
	db_close(db);
	return false;
}

void
db_close(Db *db)
{
	if (db->connection != NULL)
		PQfinish(db->connection);
	db->connection = NULL;
}

/* ---------- SQLSTATEs ---------- */

const char *
db_sqlstate(const PGresult *result)
{
	const char *sqlstate = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return sqlstate != NULL ? sqlstate : "";
}

static SqlstateKind
kind_of(const PGresult *result)
{
	return sqlstate_find(db_sqlstate(result))->kind;
}

bool
db_is_locked_out(const PGresult *result)
{
	return kind_of(result) == SQLSTATE_LOCKED;
}

bool
db_is_passing(const PGresult *result)
{
	SqlstateKind kind = kind_of(result);

	return kind == SQLSTATE_LOCKED || kind == SQLSTATE_PASSING || kind == SQLSTATE_LEAVING;
}

bool
db_is_fault_of_input(const PGresult *result)
{
	return kind_of(result) == SQLSTATE_INPUT;
}

bool
db_is_defect(const PGresult *result)
{
	return kind_of(result) == SQLSTATE_DEFECT;
}

static bool
is_lost(const PGresult *result)
{
	SqlstateKind kind = kind_of(result);

	return *db_sqlstate(result) == '\0' || kind == SQLSTATE_LEAVING || kind == SQLSTATE_LOST;
}

/* Judges a result and logs an error; closes a connection that is of no use any more. */
static DbOutcome
judge(Db *db, const char *doing, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char    *sqlstate = db_sqlstate(result);

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return DB_OK;
	log_warning("%s: %s sqlstate=%s", doing,
				result != NULL && *PQresultErrorMessage(result) ? PQresultErrorMessage(result)
																: PQerrorMessage(db->connection),
				*sqlstate ? sqlstate : "none");
	if (!db_is_connected(db) || is_lost(result))
	{
		db_close(db);
		return DB_LOST;
	}
	return DB_ERROR;
}

/* ---------- queries ---------- */

/* The next result of what was sent; NULL after the last. *is_late if none came in time: then the
 * connection is closed. */
static PGresult *
next_result(Db *db, const char *doing, long long deadline_ms, bool *is_late)
{
	*is_late = !wait_for_result(db, deadline_ms);
	if (!*is_late)
		return PQgetResult(db->connection);
	log_warning("%s: PostgreSQL has not answered within %d ms: the connection is given up", doing,
				db->timeout_ms + GRACE_MS);
	db_close(db);
	return NULL;
}

/* Reads what is left of the results, so that the connection can be used again. */
static DbOutcome
finish_results(Db *db, const char *doing, long long deadline_ms, DbOutcome outcome)
{
	bool      is_late = false;
	PGresult *rest;

	while (db->connection != NULL && (rest = next_result(db, doing, deadline_ms, &is_late)) != NULL)
		PQclear(rest);
	return is_late ? DB_LOST : outcome;
}

static long long
deadline_of(const Db *db)
{
	return monotonic_ms() + db->timeout_ms + GRACE_MS;
}

/* True if there is a connection to send something on. */
static bool
can_send(Db *db)
{
	if (db_is_connected(db))
		return true;
	db_close(db);
	return false;
}

DbOutcome
db_query(Db *db, const char *doing, const char *sql, int nparams, const char *const *params,
		 PGresult **result)
{
	return db_query_typed(db, doing, sql, nparams, NULL, params, NULL, NULL, result);
}

DbOutcome
db_query_typed(Db *db, const char *doing, const char *sql, int nparams, const Oid *types,
			   const char *const *params, const int *lengths, const int *formats, PGresult **result)
{
	long long deadline_ms = deadline_of(db);
	bool      is_late = false;
	DbOutcome outcome;

	*result = NULL;
	if (!can_send(db))
		return DB_LOST;
	if (PQsendQueryParams(db->connection, sql, nparams, types, params, lengths, formats, 0))
		*result = next_result(db, doing, deadline_ms, &is_late);
	if (is_late)
		return DB_LOST;
	outcome = judge(db, doing, *result);
	return finish_results(db, doing, deadline_ms, outcome);
}

DbOutcome
db_query_each(Db *db, const char *doing, const char *sql, int count, PGresult **results)
{
	long long deadline_ms = deadline_of(db);
	DbOutcome outcome = DB_OK;

	memset(results, 0, sizeof(PGresult *) * (size_t) count);
	if (!can_send(db))
		return DB_LOST;
	if (!PQsendQuery(db->connection, sql))
		return judge(db, doing, NULL);
	for (int i = 0; i < count && outcome == DB_OK; i++)
	{
		bool is_late;

		results[i] = next_result(db, doing, deadline_ms, &is_late);
		outcome = is_late ? DB_LOST : judge(db, doing, results[i]);
	}
	return finish_results(db, doing, deadline_ms, outcome);
}

const char *
db_value(const PGresult *result, int row, int column)
{
	assert(row < PQntuples(result) && column < PQnfields(result));
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
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
		return NULL; /* the name of a database */
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
