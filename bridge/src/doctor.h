/*
 * doctor.h
 *		What is missing for the bridge to work, in words.
 */
#ifndef BRIDGE_DOCTOR_H
#define BRIDGE_DOCTOR_H

#include <stdbool.h>

/* doctor_run connects to all that the bridge needs, prints a line for each thing that is looked at,
 * and returns whether all is well. Changes nothing but that it declares the broker's queues. */
extern bool doctor_run(void);

#endif /* BRIDGE_DOCTOR_H */
