/*
 * placer.h
 *		Orders from HTTP: all that waits goes to the database as one batch.
 */
#ifndef BRIDGE_PLACER_H
#define BRIDGE_PLACER_H

#include "intake.h"

/* placer_run places orders until its intake is closed and empty. A thread's main function. */
extern void *placer_run(void *intake);

/* placer_is_connected: false while orders would have to wait for the database. */
extern bool placer_is_connected(void);

#endif /* BRIDGE_PLACER_H */
