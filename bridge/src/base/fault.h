/*
 * fault.h
 *		Places where a test may have the program killed.
 *
 * Compiled in only with -DFAULT_POINTS (build/faults). FAULT=name or FAULT=name:n
 * in the environment kills the process with SIGKILL when it comes to the point of
 * that name for the first, or the n-th, time.
 */
#ifndef BRIDGE_FAULT_H
#define BRIDGE_FAULT_H

#ifdef FAULT_POINTS
extern void fault_point(const char *name);
#define FAULT_POINT(name) fault_point(name)
#else
#define FAULT_POINT(name) ((void) 0)
#endif

#endif /* BRIDGE_FAULT_H */
