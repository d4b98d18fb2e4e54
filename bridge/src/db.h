/*
 * db.h
 *		One libpq connection that comes back: each thread has its own.
 */
#ifndef BRIDGE_DB_H
#define BRIDGE_DB_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "backoff.h"

typedef struct Db
{
	const char *url;
	const char *name;                 /* application_name */
	const char *session_sql;          /* run after each connect; may be NULL */
	int         statement_timeout_ms; /* 0: none */
	PGconn     *connection;
	Backoff     backoff;
} Db;

typedef enum DbOutcome
{
	DB_OK,
	DB_ERROR, /* the server refused the statement: its SQLSTATE tells why */
	DB_LOST   /* the connection is gone; whether the statement was committed is not known */
} DbOutcome;

extern void db_init(Db *db, const char *url, const char *name, const char *session_sql);

/* db_connect tries once, blocking at most a few seconds; true if connected. */
extern bool db_connect(Db *db) __attribute__((warn_unused_result));

/* db_connect_until_stopped tries with backoff until connected, or until stop_requested(). */
extern bool db_connect_until_stopped(Db *db) __attribute__((warn_unused_result));

extern bool db_is_connected(const Db *db);

extern void db_close(Db *db);

/*
 * db_query runs one statement with text parameters (NULL is null) and blocks
 * for its result, which the caller clears whatever the outcome (it may be NULL).
 * An error is logged with "doing".
 */
extern DbOutcome db_query(Db *db, const char *doing, const char *sql, int nparams, const char *const *params, PGresult **result)
	__attribute__((warn_unused_result));

/* db_query_typed is db_query for parameters of given types and formats, as PQexecParams takes them; any may be NULL. */
extern DbOutcome db_query_typed(Db *db, const char *doing, const char *sql, int nparams, const Oid *types,
								const char *const *params, const int *lengths, const int *formats, PGresult **result)
	__attribute__((warn_unused_result));

/* db_outcome judges a result that the caller fetched itself; logs as db_query does. */
extern DbOutcome db_outcome(Db *db, const char *doing, const PGresult *result) __attribute__((warn_unused_result));

/* The value, or NULL if it is null. */
extern const char *db_value(const PGresult *result, int row, int column);

#endif /* BRIDGE_DB_H */
