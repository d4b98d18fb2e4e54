/*
 * some_of_many.h
 *		Settling orders of which one may be impossible to settle.
 */
#ifndef OA_SOME_OF_MANY_H
#define OA_SOME_OF_MANY_H

/* Orders that could not be settled; the first of them, and why. */
typedef struct Failures
{
	int         count;
	int64       order_id;
	const char *message;
} Failures;

/* Settles those of the orders that it finds, and returns how many. */
typedef int (*SettleOrders)(void *context, const int64 *order_ids, int count, bool skip_locked);

/*
 * settle_some_of has all of them settled, in a subtransaction; if that fails by an order's own
 * fault, one half after the other, without waiting for anybody, until those at fault are alone. It
 * returns how many were settled and adds up the others. Errors that are nobody's fault (locks,
 * conflicts, time-outs, a full disk) are raised.
 */
extern int settle_some_of(const int64 *order_ids, int count, bool skip_locked, SettleOrders settle,
						  void *context, Failures *failures);

/* failures_warn tells of them, if there are any: "order 7 cannot be <done>". */
extern void failures_warn(const Failures *failures, const char *done);

#endif /* OA_SOME_OF_MANY_H */
