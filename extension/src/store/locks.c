/*
 * locks.c
 *		Advisory locks of our own.
 */
#include "postgres.h"

#include "store/locks.h"

#include "miscadmin.h"
#include "storage/lock.h"

/* pg_advisory_lock(bigint) and (int, int) use 1 and 2 in its place */
#define OWN_LOCK_SPACE 3

static LOCKTAG
own_lock_tag(OwnLock lock)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, OWN_LOCK_CLASS, lock, OWN_LOCK_SPACE);
	return tag;
}

bool
try_own_lock(OwnLock lock, bool for_session)
{
	LOCKTAG tag = own_lock_tag(lock);

	return LockAcquire(&tag, ExclusiveLock, for_session, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
own_lock(OwnLock lock, bool for_session)
{
	LOCKTAG tag = own_lock_tag(lock);

	(void) LockAcquire(&tag, ExclusiveLock, for_session, false);
}

void
release_own_lock(OwnLock lock, bool for_session)
{
	LOCKTAG tag = own_lock_tag(lock);

	(void) LockRelease(&tag, ExclusiveLock, for_session);
}

bool
someone_holds_own_lock(OwnLock lock)
{
	LOCKTAG tag = own_lock_tag(lock);

	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, ShareLock, false);
	return false;
}
