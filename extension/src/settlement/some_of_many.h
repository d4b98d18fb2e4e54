/*
 * some_of_many.h
 *		Settling orders of which one may be impossible to settle.
 */
#ifndef OA_SOME_OF_MANY_H
#define OA_SOME_OF_MANY_H

/* What became of the orders of one call. */
typedef struct SomeSettled
{
	int         settled;
	bool        has_locks; /* of some that it has met, settled or not */
	int         failed;
	int64       first_failed; /* the order, and why */
	const char *why;
	int64       last_failed;
} SomeSettled;

/* Settles those of the orders that it finds, and returns how many. */
typedef int (*SettleOrders)(void *context, const int64 *order_ids, int count, bool skip_locked);

/*
 * settle_some_of has all of them settled, in a subtransaction; if that fails by an order's own
 * fault, one half after the other until those at fault are alone, and adds up what became of them.
 * Once some are locked, the next ones wait for nobody. It does nothing more when
 * some_has_failed_often: each failure costs. Errors that are nobody's fault (locks, conflicts,
 * time-outs, a full disk) are raised.
 */
extern void settle_some_of(const int64 *order_ids, int count, bool skip_locked, SettleOrders settle,
						   void *context, SomeSettled *some);
extern bool some_has_failed_often(const SomeSettled *some);

/* some_warn_of_failures tells of them, if there are any: "order 7 cannot be <done>". */
extern void some_warn_of_failures(const SomeSettled *some, const char *done);

#endif /* OA_SOME_OF_MANY_H */
