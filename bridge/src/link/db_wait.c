/*
 * db_wait.c
 *		One libpq connection that comes back: waiting for what the server says.
 */
#include <poll.h>

#include "base/stop.h"
#include "link/db_state.h"
#include "link/primary_watch.h"

#define LOOK_AROUND_MS 250  /* while an answer is waited for */
#define LONG_MS        1000 /* for an answer */

void
db_hear_bells(Db *db)
{
	PGnotify *bell;

	while ((bell = PQnotifies(db->connection)) != NULL)
	{
		db->has_rung = true;
		PQfreemem(bell);
	}
}

bool
db_wait_for_result(Db *db, long long deadline_ms)
{
	long long began_ms = monotonic_ms();
	int       unsent = PQflush(db->connection);

	while (unsent > 0 || PQisBusy(db->connection))
	{
		struct pollfd wait = {.fd = PQsocket(db->connection),
							  .events = unsent > 0 ? POLLIN | POLLOUT : POLLIN};
		long long     now_ms = monotonic_ms();
		long long     left_ms = deadline_ms - now_ms;

		if (now_ms - began_ms >= LONG_MS)
			primary_watch_note();
		if (left_ms <= 0 || db_is_of_the_past(db))
			return false;
		if (left_ms > LOOK_AROUND_MS)
			left_ms = LOOK_AROUND_MS;
		if (poll(&wait, 1, (int) left_ms) > 0 && !PQconsumeInput(db->connection))
			return true; /* what it is shows in the result */
		db_hear_bells(db);
		if (unsent > 0)
			unsent = PQflush(db->connection);
		if (unsent < 0)
			return true;
	}
	return true;
}
