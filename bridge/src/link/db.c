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
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/stop.h"
#include "link/sqlstate.h"
#include "link/statements.h"

#define PRIMARY_REPLACED "the primary has been replaced: the connection is given up"

bool
db_is_connected(const Db *db)
{
	return db->connection != NULL && PQstatus(db->connection) == CONNECTION_OK;
}

/* Gives a connection to a primary up that has been replaced. */
static void
leave_replaced(Db *db)
{
	if (!db_is_of_the_past(db))
		return;
	log_info("%s", PRIMARY_REPLACED);
	db_leave(db);
}

/* True if there is a connection to send something on, at once: its time begins. */
static bool
can_send(Db *db)
{
	leave_replaced(db);
	db->asked_ms = monotonic_ms();
	if (db_is_connected(db))
		return true;
	db_close(db);
	return false;
}

bool
db_is_alive(Db *db)
{
	if (can_send(db) && PQconsumeInput(db->connection) && db_is_connected(db))
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
	db->timeline = 0;
	db->prepared_count = 0;
}

void
db_leave(Db *db)
{
	db_pass_over_host(db);
	db_close(db);
}

/* ---------- SQLSTATEs ---------- */

const char *
db_sqlstate(const PGresult *result)
{
	const char *sqlstate = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return sqlstate != NULL ? sqlstate : "";
}

const char *
db_message(const PGresult *result)
{
	const char *message =
		result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;

	/* where memory is short libpq leaves it out */
	return message != NULL ? message : "the database refused the request";
}

const char *
db_field(const PGresult *result)
{
	return result != NULL ? PQresultErrorField(result, PG_DIAG_COLUMN_NAME) : NULL;
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
db_is_timed_out(const Db *db, const PGresult *result)
{
	return strcmp(db_sqlstate(result), "57014") == 0 &&
		   monotonic_ms() - db->asked_ms >= db->timeout_ms;
}

bool
db_is_conflict(const PGresult *result)
{
	return strncmp(db_sqlstate(result), "40", 2) == 0;
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

/* What a round trip that is under way has brought. */
typedef struct Reading
{
	Db         *db;
	const char *doing;
	long long   deadline_ms;
	PGresult  **results;
	int         count; /* that there are to be */
	int         got;
	bool        is_ready; /* the server is ready for the next: what it did is committed */
} Reading;

/* Keeps what comes; an error after the last result, of the commit, takes its place. */
static void
keep_result(Reading *reading, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	bool           is_good = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
	int            place = reading->got;

	if (!is_good && place == reading->count)
		place--;

	if (status == PGRES_PIPELINE_ABORTED || place == reading->count)
	{
		PQclear(result);
		return;
	}
	PQclear(reading->results[place]);
	reading->results[place] = result;
	reading->got = place + 1;
}

/* Takes the next result, if there is one; false once there is nothing more to come. */
static bool
read_result(Reading *reading)
{
	PGconn   *connection = reading->db->connection;
	PGresult *result = PQgetResult(connection);

	if (result == NULL && PQpipelineStatus(connection) == PQ_PIPELINE_OFF)
	{
		PGTransactionStatusType status = PQtransactionStatus(connection);

		reading->is_ready = status == PQTRANS_IDLE || status == PQTRANS_INTRANS;
		return false;
	}
	if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
	{
		PQclear(result);
		reading->is_ready = PQexitPipelineMode(connection) == 1;
		return false;
	}
	if (result != NULL)
		keep_result(reading, result);
	return db_is_connected(reading->db); /* of a pipeline, there is NULL after each statement */
}

/*
 * Reads all that comes until the server is ready again. It tells what a statement did before it has
 * committed that: only then is it done, and if no word of it comes, nobody knows.
 */
static DbOutcome
read_results(Reading *reading)
{
	Db       *db = reading->db;
	DbOutcome outcome = DB_OK;

	do
	{
		if (monotonic_ms() >= reading->deadline_ms || !db_wait_for_result(db, reading->deadline_ms))
		{
			if (db_is_of_the_past(db))
				log_warning("%s: %s", reading->doing, PRIMARY_REPLACED);
			else
				log_warning("%s: PostgreSQL has not answered within %d ms: the connection is "
							"given up",
							reading->doing, db->timeout_ms + db->grace_ms);
			db_leave(db);
			return DB_LOST;
		}
	} while (read_result(reading));
	for (int i = 0; i < reading->count && outcome == DB_OK; i++)
		outcome = judge(db, reading->doing, reading->results[i]);
	if (outcome == DB_OK && !reading->is_ready)
	{
		log_warning("%s: the connection was lost before the commit: %s", reading->doing,
					PQerrorMessage(db->connection));
		outcome = DB_LOST;
	}
	if (outcome == DB_LOST || !reading->is_ready)
		db_close(db);
	return outcome;
}

static Reading
begin_reading(Db *db, const char *doing, PGresult **results, int count)
{
	memset(results, 0, sizeof(PGresult *) * (size_t) count);
	return (Reading){.db = db,
					 .doing = doing,
					 .deadline_ms = monotonic_ms() + db->timeout_ms + db->grace_ms,
					 .results = results,
					 .count = count};
}

DbOutcome
db_query(Db *db, const char *doing, const char *sql, int nparams, const char *const *params,
		 PGresult **result)
{
	return db_query_typed(db, doing, sql, nparams, NULL, params, NULL, NULL, result);
}

bool
db_set_timeout(Db *db, int timeout_ms)
{
	char      sql[64];
	PGresult *result;
	bool      ok;

	if (timeout_ms == db->timeout_ms)
		return true;
	db->grace_ms += db->timeout_ms - timeout_ms;
	db->timeout_ms = timeout_ms;
	if (!db_is_connected(db) || db->is_pooled) /* which has it with each statement */
		return true;
	snprintf(sql, sizeof(sql), SQL_SET_TIMEOUT, timeout_ms);
	ok = db_query(db, "setting the time-out", sql, 0, NULL, &result) == DB_OK;
	if (!ok)
		db_close(db);
	PQclear(result);
	return ok;
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

/* Behind a pooler each transaction may be at another server: what one of the past answers, or a
 * primary of before that follows another one now (it says no timeline), is none, be it an error. */
static DbOutcome
judge_timeline(Db *db, const char *doing, DbOutcome outcome, const char *timeline)
{
	bool is_standby = *timeline == '\0' && strcmp(db->target, DB_TARGET_PRIMARY) == 0;
	bool is_past;

	db_see_timeline(db, NULL, timeline);
	is_past = db_is_of_the_past(db);
	db->timeline = 0;
	if (!is_past && !is_standby)
		return outcome;
	log_warning("%s: %s", doing,
				is_past ? PRIMARY_REPLACED : "behind the pooler there is a standby now");
	db_leave(db);
	return DB_LOST;
}

/*
 * Reads what a statement that was sent has brought. Its settings (pooled) or its preparation, if it
 * is one to be prepared, went before it in the same round trip; if they were refused, that is the
 * result.
 */
static DbOutcome
finish_query(Db *db, const char *doing, bool is_sent, const char *preparing, PGresult **result)
{
	PGresult *results[2];
	int       last = db->is_pooled || preparing != NULL ? 1 : 0;
	Reading   reading = begin_reading(db, doing, results, last + 1);
	DbOutcome outcome = is_sent ? read_results(&reading) : judge(db, doing, NULL);

	if (preparing != NULL && PQresultStatus(results[0]) == PGRES_COMMAND_OK && outcome != DB_LOST)
		db->prepared[db->prepared_count++] = preparing;
	if (results[last] == NULL) /* what went before was refused */
		last = 0;
	*result = results[last];
	if (last > 0 && db->is_pooled && outcome != DB_LOST)
		outcome = judge_timeline(db, doing, outcome, PQgetvalue(results[0], 0, 4));
	if (last > 0)
		PQclear(results[0]);
	if (outcome == DB_LOST)
	{
		PQclear(*result);
		*result = NULL;
	}
	return outcome;
}

DbOutcome
db_query_typed(Db *db, const char *doing, const char *sql, int nparams, const Oid *types,
			   const char *const *params, const int *lengths, const int *formats, PGresult **result)
{
	bool is_sent;

	*result = NULL;
	if (!can_send(db))
		return DB_LOST;
	is_sent = db->is_pooled ? send_pooled(db, sql, nparams, types, params, lengths, formats)
							: PQsendQueryParams(db->connection, sql, nparams, types, params,
												lengths, formats, 0);
	return finish_query(db, doing, is_sent, NULL, result);
}

/* ---------- prepared statements ---------- */

/* Which of the session's statements it is; the next one if it has not been prepared. */
static int
prepared_place(const Db *db, const char *sql)
{
	int place = 0;

	while (place < db->prepared_count && db->prepared[place] != sql)
		place++;
	return place;
}

/* Prepares it and runs it, in one round trip. */
static bool
send_preparing(PGconn *connection, const char *name, const char *sql, int nparams,
			   const char *const *params)
{
	return PQenterPipelineMode(connection) && PQsendPrepare(connection, name, sql, nparams, NULL) &&
		   PQsendQueryPrepared(connection, name, nparams, params, NULL, NULL, 0) &&
		   PQpipelineSync(connection);
}

/* Has the session lost what it had prepared, or have the functions become others, as by an update
 * of the extension? Then nothing has been run. */
static bool
is_prepared_no_more(const PGresult *result)
{
	const char *sqlstate = db_sqlstate(result);

	return strcmp(sqlstate, "26000") == 0 || strcmp(sqlstate, "0A000") == 0;
}

/* Runs it anew, not prepared; what the session may still have prepared goes first. */
static DbOutcome
query_afresh(Db *db, const char *doing, const char *sql, int nparams, const char *const *params,
			 PGresult **result)
{
	DbOutcome outcome = db_query(db, "leaving prepared statements", SQL_UNPREPARE, 0, NULL, result);

	if (outcome != DB_OK)
		return outcome;
	db->prepared_count = 0;
	PQclear(*result);
	return db_query(db, doing, sql, nparams, params, result);
}

DbOutcome
db_query_prepared(Db *db, const char *doing, const char *sql, int nparams,
				  const char *const *params, PGresult **result)
{
	int       place = prepared_place(db, sql);
	bool      is_new = place == db->prepared_count;
	char      name[12];
	bool      is_sent;
	DbOutcome outcome;

	*result = NULL;
	if (!can_send(db))
		return DB_LOST;
	if (db->is_pooled || place == DB_PREPARED_MAX)
		return db_query(db, doing, sql, nparams, params, result);
	snprintf(name, sizeof(name), "%d", place);
	is_sent = is_new
				  ? send_preparing(db->connection, name, sql, nparams, params)
				  : PQsendQueryPrepared(db->connection, name, nparams, params, NULL, NULL, 0) == 1;
	outcome = finish_query(db, doing, is_sent, is_new ? sql : NULL, result);
	if (outcome == DB_ERROR && !is_new && is_prepared_no_more(*result))
	{
		PQclear(*result);
		outcome = query_afresh(db, doing, sql, nparams, params, result);
	}
	return outcome;
}

DbOutcome
db_query_each(Db *db, const char *doing, const char *sql, int count, PGresult **results)
{
	Reading reading = begin_reading(db, doing, results, count);

	if (!can_send(db))
		return DB_LOST;
	if (!PQsendQuery(db->connection, sql))
		return judge(db, doing, NULL);
	return read_results(&reading);
}

const char *
db_value(const PGresult *result, int row, int column)
{
	assert(row < PQntuples(result) && column < PQnfields(result));
	return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}
