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

/* The host that the connection is at comes last in the next attempt, and the one after it first. */
extern void db_pass_over_host(Db *db);

/* The next attempt begins with the host that the connection is at. */
extern void db_stay_with_host(Db *db);

/* What the server says of itself: its cluster, and its timeline in hexadecimal; "" of a standby. */
extern void db_see_timeline(Db *db, const char *cluster, const char *timeline);

/* Has another connection been to a later timeline of the same cluster? */
extern bool db_is_of_the_past(const Db *db);

#endif /* DB_STATE_H */
