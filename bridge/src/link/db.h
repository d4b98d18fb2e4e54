/*
 * db.h
 *		One libpq connection that comes back: each thread has its own.
 *
 * It may go through a pooler such as PgBouncer, by transactions: then nothing is set or prepared
 * for a session, but what it needs is set for each statement anew, in its own transaction and round
 * trip. Only who has a session_sql needs a session.
 */
#ifndef BRIDGE_DB_H
#define BRIDGE_DB_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "base/backoff.h"

#define DB_HOSTS_MAX       16   /* hosts of a URL that are tried one by one */
#define DB_HOSTS_BYTES     1024 /* of their list */
#define DB_CLUSTER_BYTES   24   /* of a system identifier */
#define DB_TARGET_PRIMARY  "read-write"
#define DB_TARGET_STANDBY  "standby"
#define DB_TIMEOUT_MS      30000
#define DB_LOCK_TIMEOUT_MS 2000
#define DB_PREPARED_MAX    8 /* statements that a session keeps */

/* The extension that this bridge needs, or a later one. */
#define EXTENSION_MAJOR 1
#define EXTENSION_MINOR 1

/* What follows the name of who needs a session and has none. */
#define DB_LACKS_SESSION                                                                           \
	"needs a session of its own, and this database is behind a pooler, which may give each "       \
	"transaction another one: set RELAY_DATABASE_URL to the database itself"

/* The hosts of a URL, as its lists. */
typedef struct DbHosts
{
	char      host[DB_HOSTS_BYTES];
	char      hostaddr[DB_HOSTS_BYTES];
	char      port[DB_HOSTS_BYTES];
	char      usual_port[8]; /* libpq's, of hosts that the list gives none */
	int       count;         /* 0: not known before the first attempt; 1: or libpq goes by itself */
	int       now;           /* which of them the connection is at, or was tried last */
	int       first;         /* which is tried first the next time */
	int       rest_ms;       /* how long one that hangs is left alone; the first time half of it */
	long long rests_until_ms[DB_HOSTS_MAX]; /* it hung */
	bool      has_hung[DB_HOSTS_MAX];       /* since there was a connection to any */
} DbHosts;

typedef struct Db
{
	const char *url;
	const char *name;              /* application_name */
	const char *session_sql;       /* run after each connect; may be NULL */
	const char *target;            /* of several hosts: target_session_attrs, unless the URL says */
	const char *connect_timeout_s; /* for each host; "": the URL's, or 5 */
	int timeout_ms; /* a statement is given up after that, by the server, and grace_ms later by us
					 */
	int         grace_ms;
	int         lock_timeout_ms; /* and sooner if it waits that long for a lock of someone's */
	long long   asked_ms;        /* when the last statement was */
	PGconn     *connection;
	DbHosts     hosts;
	Backoff     backoff;
	char        cluster[DB_CLUSTER_BYTES];
	unsigned    timeline;      /* of the cluster; 0: a standby's, or not of the connection's */
	bool        is_pooled;     /* a pooler may give each transaction another server process */
	bool        lacks_session; /* and session_sql needs one: db_connect is in vain */
	bool        is_quiet;      /* it connects again and again: that is no news in the log */
	const char *prepared[DB_PREPARED_MAX]; /* what the session has, by the place: "0", "1", ... */
	int         prepared_count;
	bool        has_rung; /* a NOTIFY has come; who waits for one says when it is heard */
} Db;

typedef enum DbOutcome
{
	DB_OK,    /* and committed */
	DB_ERROR, /* the server refused the statement: its SQLSTATE tells why */
	DB_LOST   /* the connection is gone; whether the statement was committed is not known */
} DbOutcome;

/* db_init sets the defaults above; other time-outs are to be set before the first connect. */
extern void db_init(Db *db, const char *url, const char *name, const char *session_sql);

/* db_connect tries each host once, blocking at most a few seconds for each; true if connected to a
 * database with our extension, new enough, and not to a primary that has been replaced. Of several
 * hosts it begins with another one than what was in vain. */
extern bool db_connect(Db *db) __attribute__((warn_unused_result));

/* db_reach is db_connect for who is to tell what is wrong with a database: it looks at nothing, and
 * what was in vain last is kept for PQerrorMessage(). */
extern bool db_reach(Db *db) __attribute__((warn_unused_result));

/* db_pause_ms: how long to wait before db_connect is called again, which began at that time and was
 * in vain; at most a second, and none if it has taken that long itself. */
extern int db_pause_ms(Db *db, long long began_ms);

/* db_connect_until_stopped tries with backoff until connected, or until stop_requested(). */
extern bool db_connect_until_stopped(Db *db) __attribute__((warn_unused_result));

/* db_set_timeout has the server give up the statements from now on after another time; when we do
 * stays as it is. False, the session being closed, if it does not take that. */
extern bool db_set_timeout(Db *db, int timeout_ms) __attribute__((warn_unused_result));

/* db_adopt takes over a connection that was made otherwise, and sets its time-outs; false if there
 * is none, or it does not work: PQerrorMessage() of db->connection says why. */
extern bool db_adopt(Db *db, PGconn *connection) __attribute__((warn_unused_result));

extern bool db_is_connected(const Db *db);

/* db_hear_bells takes the NOTIFYs that were read, with an answer or by PQconsumeInput(): libpq
 * keeps them until somebody does. While an answer is waited for they are taken as they come. */
extern void db_hear_bells(Db *db);

/* db_is_alive looks whether an idle connection has been closed by the other side, or is to a
 * primary that has been replaced, and closes it then; waits for nothing. */
extern bool db_is_alive(Db *db);

extern void db_close(Db *db);

/* db_leave is db_close of a connection that is in vain: of several hosts the next attempt begins
 * with another one. */
extern void db_leave(Db *db);

/* db_is_same: do both lead to the same database of the same cluster? if_unknown, if it cannot be
 * told. */
extern bool db_is_same(Db *a, Db *b, bool if_unknown);

/* db_is_version_enough: can this bridge work with that version of the extension? */
extern bool db_is_version_enough(const char *version);

/*
 * db_query runs one statement with text parameters (NULL is null) and blocks
 * for its result, for no longer than the time-out. The caller clears the result
 * whatever the outcome (it may be NULL). An error is logged with "doing".
 */
extern DbOutcome db_query(Db *db, const char *doing, const char *sql, int nparams,
						  const char *const *params, PGresult **result)
	__attribute__((warn_unused_result));

/* db_query_typed is db_query for parameters of given types and formats, as PQexecParams takes them;
 * any may be NULL. */
extern DbOutcome db_query_typed(Db *db, const char *doing, const char *sql, int nparams,
								const Oid *types, const char *const *params, const int *lengths,
								const int *formats, PGresult **result)
	__attribute__((warn_unused_result));

/*
 * db_query_prepared is db_query for one of a few statements that are run again and again: the
 * session keeps it, parsed and planned, if it is its own. It should be a call of functions: a plan
 * that reads tables may be made for all values while these are empty.
 */
extern DbOutcome db_query_prepared(Db *db, const char *doing, const char *sql, int nparams,
								   const char *const *params, PGresult **result)
	__attribute__((warn_unused_result));

/*
 * db_query_each runs so many statements, separated by semicolons and without
 * parameters, in one round trip, each with a snapshot of its own at READ COMMITTED, and
 * puts a result of each into results.
 */
extern DbOutcome db_query_each(Db *db, const char *doing, const char *sql, int count,
							   PGresult **results) __attribute__((warn_unused_result));

/* db_sqlstate returns the SQLSTATE of a result that was an error; "" of any other, or of none. */
extern const char *db_sqlstate(const PGresult *result);

/* db_message returns the message of a result that was an error, without its detail; never NULL. */
extern const char *db_message(const PGresult *result);

/* db_field names the argument that was at fault; NULL if none was. */
extern const char *db_field(const PGresult *result);

/* db_is_locked_out: did it fail because someone else holds a lock (55P03)? */
extern bool db_is_locked_out(const PGresult *result);

/* db_is_timed_out: was it ended because it took too long? Asked of the last statement. What has had
 * less than its time was ended by somebody, though PostgreSQL has one SQLSTATE for both (57014); it
 * says so, too, when a lock is granted just as the time to wait for it is up. */
extern bool db_is_timed_out(const Db *db, const PGresult *result);

/* db_is_conflict: did another transaction come between (class 40: serialization, deadlock)? */
extern bool db_is_conflict(const PGresult *result);

/*
 * db_is_passing: may the same statement succeed later, by itself? Locks, deadlocks,
 * conflicts, a full disk, too little memory, a server that is shutting down.
 */
extern bool db_is_passing(const PGresult *result);

/* db_is_fault_of_input: is it what was sent that is at fault: a value, its size, what it would do
 * to the rows? */
extern bool db_is_fault_of_input(const PGresult *result);

/* db_is_defect: is it what nobody has thought of (class XX)? It may be what was sent, too. */
extern bool db_is_defect(const PGresult *result);

/* The value, or NULL if it is null. */
extern const char *db_value(const PGresult *result, int row, int column);

/*
 * db_url_complaint returns what libpq finds wrong with a connection string, or NULL. Nothing
 * of the string is in it: there may be a password. Good until the next call.
 */
extern const char *db_url_complaint(const char *url);

#endif /* BRIDGE_DB_H */
