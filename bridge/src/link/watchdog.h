/*
 * watchdog.h
 *		Breaks a connection whose owner has been inside one call for too long.
 *
 * A library call that writes to a socket may block for as long as the other side
 * does not read. The watchdog's thread then shuts the socket down, and the call
 * fails as it does when a connection is lost.
 */
#ifndef BRIDGE_WATCHDOG_H
#define BRIDGE_WATCHDOG_H

typedef struct Watch Watch;

/* watchdog_watch begins to watch a socket; NULL, which the others accept, if there are too many. */
extern Watch *watchdog_watch(int descriptor, int timeout_ms);

/* watchdog_forget must be called before the socket is closed. */
extern void watchdog_forget(Watch *watch);

/* Around the call that may block. */
extern void watchdog_enter(Watch *watch);
extern void watchdog_leave(Watch *watch);

#endif /* BRIDGE_WATCHDOG_H */
