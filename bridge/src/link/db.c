/*
 * db.c
 *		One libpq connection that comes back: what is asked of it.
 *
 * Every wait has a bound: for a connection, for a lock (the server's
 * lock_timeout), for a statement (its statement_timeout), and, because a server
 * may hang without saying so, for its answer (ours). A dead connection is silent,
 * so TCP keepalives and a user timeout are on.
 */
#include "link/db_state.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/sqlstate.h"
#include "link/statements.h"

#define GRACE_MS 3000 /* beyond the server's own time-out */

bool
db_wait_for_result(Db *db, long long deadline_ms)
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
	*is_late = !db_wait_for_result(db, deadline_ms);
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

/* Sends what holds for the transaction, and the statement, in one round trip. */
static bool
send_pooled(Db *db, const char *sql, int nparams, const Oid *types, const char *const *params,
			const int *lengths, const int *formats)
{
	char        timeouts[2][12];
	const char *settings[2] = {timeouts[0], timeouts[1]};

	snprintf(timeouts[0], sizeof(timeouts[0]), "%d", db->timeout_ms);
	snprintf(timeouts[1], sizeof(timeouts[1]), "%d", db->lock_timeout_ms);
	return PQenterPipelineMode(db->connection) &&
		   PQsendQueryParams(db->connection, SQL_TRANSACTION, 2, NULL, settings, NULL, NULL, 0) &&
		   PQsendQueryParams(db->connection, sql, nparams, types, params, lengths, formats, 0) &&
		   PQpipelineSync(db->connection);
}

/* The result of the statement that was sent so, or of its settings if they were refused. */
static PGresult *
pooled_result(Db *db, const char *doing, long long deadline_ms, bool *is_late)
{
	PGresult *result = NULL;
	PGresult *next;

	do
	{
		ExecStatusType status;

		next = next_result(db, doing, deadline_ms, is_late);
		if (next == NULL && (*is_late || !db_is_connected(db)))
			break;
		status = PQresultStatus(next);
		if (next != NULL && status == PGRES_PIPELINE_SYNC)
		{
			PQclear(next);
			(void) PQexitPipelineMode(db->connection);
			break;
		}
		if (next == NULL || status == PGRES_PIPELINE_ABORTED)
			PQclear(next);
		else
		{
			PQclear(result);
			result = next;
		}
	} while (true);
	return result;
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
	if (db->is_pooled)
	{
		if (send_pooled(db, sql, nparams, types, params, lengths, formats))
			*result = pooled_result(db, doing, deadline_ms, &is_late);
	}
	else if (PQsendQueryParams(db->connection, sql, nparams, types, params, lengths, formats, 0))
		*result = next_result(db, doing, deadline_ms, &is_late);
	if (is_late)
	{
		PQclear(*result);
		*result = NULL;
		return DB_LOST;
	}
	outcome = judge(db, doing, *result);
	return db->is_pooled ? outcome : finish_results(db, doing, deadline_ms, outcome);
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
