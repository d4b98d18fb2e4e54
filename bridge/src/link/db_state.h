/*
 * db_state.h
 *		What the files of a connection share.
 */
#ifndef DB_STATE_H
#define DB_STATE_H

#include "link/db.h"

/* Waits until there is a result to get, or the connection is gone; false once the time is over, or
 * the primary has been replaced. */
extern bool db_wait_for_result(Db *db, long long deadline_ms);

/* The host that the connection is at, or was tried with, comes last in the next attempt, and the
 * one after it first. */
extern void db_pass_over_host(Db *db);

/* One of several hosts, for libpq; all are "" if it is to take the URL's. */
typedef struct DbHost
{
	char host[DB_HOSTS_BYTES];
	char hostaddr[DB_HOSTS_BYTES];
	char port[DB_HOSTS_BYTES];
} DbHost;

/* After the first attempt: which hosts there are, and which of them the connection is at. */
extern void db_learn_hosts(Db *db);

/* Chooses the nth host for an attempt; false if it hung a moment ago and is to be left alone. */
extern bool db_choose_host(Db *db, int n, DbHost *host);

/* The chosen host hangs. */
extern void db_rest_host(Db *db);

/* The next attempt begins with the host that the connection is at. */
extern void db_stay_with_host(Db *db);

/* What the server says of itself: its cluster (NULL: the same), and its timeline in hexadecimal; ""
 * of a standby. */
extern void db_see_timeline(Db *db, const char *cluster, const char *timeline);

/* Has another connection been to a later timeline of the same cluster? */
extern bool db_is_of_the_past(const Db *db);

#endif /* DB_STATE_H */
