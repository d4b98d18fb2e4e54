/*
 * status.c
 *		The names of what an order and a hold can be.
 */
#include "postgres.h"

#include "store/status.h"

static const char *const order_status_names[] = {
	[ORDER_PENDING] = "pending",     [ORDER_CONFIRMED] = "confirmed", [ORDER_REJECTED] = "rejected",
	[ORDER_CANCELLED] = "cancelled", [ORDER_EXPIRED] = "expired",
};

static const char *const hold_status_names[] = {
	[HOLD_OPEN] = "open",         [HOLD_CONFIRMED] = "confirmed", [HOLD_REJECTED] = "rejected",
	[HOLD_RELEASED] = "released", [HOLD_RETURNED] = "returned",
};

/* Where the name stands, from 1; 0 if nowhere. */
static int
find_name(const char *const *names, int count, const char *name)
{
	for (int i = 1; i < count; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	return 0;
}

const char *
order_status_name(OrderStatus status)
{
	return order_status_names[status];
}

const char *
hold_status_name(HoldStatus status)
{
	return hold_status_names[status];
}

OrderStatus
order_status_by_name(const char *name)
{
	return (OrderStatus) find_name(order_status_names, lengthof(order_status_names), name);
}

HoldStatus
hold_status_by_name(const char *name)
{
	return (HoldStatus) find_name(hold_status_names, lengthof(hold_status_names), name);
}
