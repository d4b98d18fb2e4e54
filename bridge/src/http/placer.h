/*
 * placer.h
 *		Orders from HTTP: all that waits goes to the database as one batch.
 *
 * Two lanes, a thread and a connection each: what somebody else's lock holds up
 * changes to the second one, so that the first goes on.
 */
#ifndef BRIDGE_PLACER_H
#define BRIDGE_PLACER_H

#include "http/intake.h"

typedef struct PlacerLane
{
	Intake *orders; /* the lane's own */
	Intake *aside;  /* where what is held up goes: the second lane's; of the second lane the same as
					   orders */
} PlacerLane;

/* placer_run places orders until the lane's intake is closed and empty. A thread's main function;
 * "lane" is a PlacerLane. */
extern void *placer_run(void *lane);

#endif /* BRIDGE_PLACER_H */
