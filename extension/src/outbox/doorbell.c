/*
 * doorbell.c
 *		Waking the relay: NOTIFY, but only while it sleeps.
 *
 * NOTIFY makes committing transactions wait for one another, so it is rung only when
 * the relay sleeps. The relay says so by holding OWN_LOCK_RELAY_SLEEPS, which costs a
 * writer one attempt at a shared lock to find out, and ends by itself if the relay dies.
 * A writer looks when it commits. One that looked before the relay fell asleep and ends
 * after is covered by the relay: it waits in short naps until every transaction that ran
 * when it took the lock has ended. One that is prepared looks not at all, because NOTIFY
 * cannot be prepared: the relay's poll finds what COMMIT PREPARED commits.
 */
#include "postgres.h"

#include "outbox/doorbell.h"

#include "commands/async.h"
#include "store/locks.h"
#include "store/symbols.h"
#include "store/trigger.h"
#include "utils/xid8.h"

OA_FUNCTION(oa_ring_doorbell);
OA_FUNCTION(oa_relay_try_lead);
OA_FUNCTION(oa_relay_fall_asleep);
OA_FUNCTION(oa_relay_wake_up);
OA_FUNCTION(oa_next_xid);

#define DOORBELL_CHANNEL "order_aggregator"

/* ---------- the relay's marks ---------- */

Datum
oa_relay_try_lead(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(try_own_lock(OWN_LOCK_RELAY_LEADS, true));
}

Datum
oa_relay_fall_asleep(PG_FUNCTION_ARGS)
{
	own_lock(OWN_LOCK_RELAY_SLEEPS, true);
	PG_RETURN_VOID();
}

Datum
oa_relay_wake_up(PG_FUNCTION_ARGS)
{
	release_own_lock(OWN_LOCK_RELAY_SLEEPS, true);
	PG_RETURN_VOID();
}

Datum
oa_next_xid(PG_FUNCTION_ARGS)
{
	PG_RETURN_FULLTRANSACTIONID(ReadNextFullTransactionId());
}

/* ---------- ringing ---------- */

static bool wants_doorbell; /* this transaction has written an event */

static void
on_end_of_transaction(XactEvent event, void *unused)
{
	if (event == XACT_EVENT_PRE_COMMIT && wants_doorbell &&
		someone_holds_own_lock(OWN_LOCK_RELAY_SLEEPS))
		Async_Notify(DOORBELL_CHANNEL, "");
	if (event != XACT_EVENT_PARALLEL_PRE_COMMIT)
		wants_doorbell = false;
}

void
doorbell_ring_at_commit(void)
{
	static bool is_registered = false;

	if (!is_registered)
		RegisterXactCallback(on_end_of_transaction, NULL);
	is_registered = true;
	wants_doorbell = true;
}

/* For rows that a superuser inserts by hand. */
Datum
oa_ring_doorbell(PG_FUNCTION_ARGS)
{
	our_trigger(fcinfo, "outbox", "ring_doorbell", TRIGGER_EVENT_AFTER, GUARD_INSERT);
	doorbell_ring_at_commit();
	return PointerGetDatum(NULL);
}
