/*
 * status.h
 *		What an order and a hold can be, and how the tables spell it.
 *
 *		order:	pending -> confirmed | rejected | cancelled | expired
 *		hold:	open -> confirmed | rejected | released;  confirmed -> returned
 */
#ifndef OA_STATUS_H
#define OA_STATUS_H

typedef enum OrderStatus
{
	ORDER_UNCHANGED, /* as a new status only */
	ORDER_PENDING,   /* placed: a vendor has still to answer */
	ORDER_CONFIRMED, /* all of its holds are */
	ORDER_REJECTED,  /* by its vendors, or by hand */
	ORDER_CANCELLED, /* by the customer */
	ORDER_EXPIRED    /* by housekeeping: not confirmed in time */
} OrderStatus;

typedef enum HoldStatus
{
	HOLD_UNCHANGED, /* as a new status only */
	HOLD_OPEN,      /* reserved: the vendor has not answered */
	HOLD_CONFIRMED, /* by the vendor, or with its order: the units are shipped */
	HOLD_REJECTED,  /* by the vendor, while its order goes on */
	HOLD_RELEASED,  /* its order has been closed without it */
	HOLD_RETURNED   /* confirmed, and then its order was closed, or the units came back */
} HoldStatus;

/* The name of a status, as in the tables; it outlives every memory context. */
extern const char *order_status_name(OrderStatus status);
extern const char *hold_status_name(HoldStatus status);

/* The status of that name; ..._UNCHANGED if there is none. */
extern OrderStatus order_status_by_name(const char *name);
extern HoldStatus  hold_status_by_name(const char *name);

#endif /* OA_STATUS_H */
