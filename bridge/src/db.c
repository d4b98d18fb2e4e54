/*
 * db.c
 *		One libpq connection that comes back.
 *
 * A dead connection is silent, so TCP keepalives and a user timeout are on.
 */
#include "db.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "stop.h"

#define RECONNECT_MS_MIN 100
#define RECONNECT_MS_MAX 5000

void
db_init(Db *db, const char *url, const char *name, const char *session_sql)
{
	*db = (Db){.url = url,
			   .name = name,
			   .session_sql = session_sql,
			   .backoff = {.delay_ms_min = RECONNECT_MS_MIN, .delay_ms_max = RECONNECT_MS_MAX}};
}

static void
on_notice(void *context, const PGresult *result)
{
	(void) context;
	log_debug("notice from PostgreSQL: %s", PQresultErrorMessage(result));
}

static bool
prepare_session(Db *db)
{
	PGresult *result;
	bool      ok;

	PQsetNoticeReceiver(db->connection, on_notice, NULL);
	result = PQexec(db->connection, "SET timezone = 'UTC'; SET client_encoding = 'UTF8'; SET extra_float_digits = 3");
	ok = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	if (ok && db->statement_timeout_ms > 0)
	{
		char sql[64];

		snprintf(sql, sizeof(sql), "SET statement_timeout = %d", db->statement_timeout_ms);
		result = PQexec(db->connection, sql);
		ok = PQresultStatus(result) == PGRES_COMMAND_OK;
		PQclear(result);
	}
	if (!ok || db->session_sql == NULL)
		return ok;
	result = PQexec(db->connection, db->session_sql);
	ok = PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK;
	PQclear(result);
	return ok;
}

bool
db_connect(Db *db)
{
	/* what comes first may be overridden by the URL, which is expanded in place of dbname */
	const char *const keywords[] = {"connect_timeout",  "keepalives_idle",           "keepalives_interval",
									"keepalives_count", "tcp_user_timeout",          "target_session_attrs",
									"dbname",           "fallback_application_name", NULL};
	const char *const values[] = {"5", "10", "5", "3", "20000", "read-write", db->url, db->name, NULL};

	db_close(db);
	db->connection = PQconnectdbParams(keywords, values, 1);
	if (PQstatus(db->connection) != CONNECTION_OK || !prepare_session(db))
	{
		log_warning("cannot connect to PostgreSQL: %s", PQerrorMessage(db->connection));
		db_close(db);
		return false;
	}
	backoff_reset(&db->backoff);
	log_info("connected to PostgreSQL host=%s port=%s database=%s pid=%d", PQhost(db->connection), PQport(db->connection),
			 PQdb(db->connection), PQbackendPID(db->connection));
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

void
db_close(Db *db)
{
	if (db->connection != NULL)
		PQfinish(db->connection);
	db->connection = NULL;
}

DbOutcome
db_outcome(Db *db, const char *doing, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char    *sqlstate;

	if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
		return DB_OK;

	sqlstate = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	log_warning("%s: %s sqlstate=%s", doing,
				result != NULL && *PQresultErrorMessage(result) ? PQresultErrorMessage(result) : PQerrorMessage(db->connection),
				sqlstate != NULL ? sqlstate : "none");
	/* class 57: the server is going away; 08: the connection is; 25006: it has become a standby */
	if (!db_is_connected(db) || sqlstate == NULL || strncmp(sqlstate, "57P", 3) == 0 || strncmp(sqlstate, "08", 2) == 0 ||
		strcmp(sqlstate, "25006") == 0)
	{
		db_close(db);
		return DB_LOST;
	}
	return DB_ERROR;
}

DbOutcome
db_query(Db *db, const char *doing, const char *sql, int nparams, const char *const *params, PGresult **result)
{
	return db_query_typed(db, doing, sql, nparams, NULL, params, NULL, NULL, result);
}

DbOutcome
db_query_typed(Db *db, const char *doing, const char *sql, int nparams, const Oid *types, const char *const *params,
			   const int *lengths, const int *formats, PGresult **result)
{
	*result = NULL;
	if (!db_is_connected(db))
	{
		db_close(db);
		return DB_LOST;
	}
	*result = PQexecParams(db->connection, sql, nparams, types, params, lengths, formats, 0);
	return db_outcome(db, doing, *result);
}

const char *
db_value(const PGresult *result, int row, int column)
{
	assert(row < PQntuples(result) && column < PQnfields(result));
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}
