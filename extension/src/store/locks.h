/*
 * locks.h
 *		Advisory locks of our own, in a space that pg_advisory_lock() cannot reach: what
 *		anyone may take, nobody must wait for. Which there are is in tables.h.
 */
#ifndef OA_LOCKS_H
#define OA_LOCKS_H

#include "postgres.h"

#include "store/tables.h"

/*
 * try_own_lock takes one of our locks until the end of the transaction, or, for_session,
 * until the end of the session; false if another session has it. release_own_lock gives it back
 * before.
 * own_lock waits for it. someone_holds_own_lock waits for nobody and keeps nothing.
 */
extern bool try_own_lock(OwnLock lock, bool for_session);
extern void own_lock(OwnLock lock, bool for_session);
extern void release_own_lock(OwnLock lock, bool for_session);
extern bool someone_holds_own_lock(OwnLock lock);

#endif /* OA_LOCKS_H */
