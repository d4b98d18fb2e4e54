/*
 * primary_watch.h
 *		Looks for another primary beside the one there was.
 */
#ifndef BRIDGE_PRIMARY_WATCH_H
#define BRIDGE_PRIMARY_WATCH_H

/* primary_watch_run does so with the hosts of a URL until a stop is requested; it ends at once if
 * there is only one of them. A thread's main function; the URL is a const char *. */
extern void *primary_watch_run(void *url);

/* primary_watch_note: somebody has waited for an answer for a second or more. */
extern void primary_watch_note(void);

#endif /* BRIDGE_PRIMARY_WATCH_H */
