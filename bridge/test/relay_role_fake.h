/*
 * relay_role_fake.h
 *		For the unit test of the relay's role: all that it calls, as stand-ins that write down that
 *		they were called.
 */
#ifndef BRIDGE_RELAY_ROLE_FAKE_H
#define BRIDGE_RELAY_ROLE_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#define DRAINS_MAX 40

typedef struct World
{
	long long now_ms;
	char      done[4000]; /* what was done, a word each */
	int       waits;      /* until a stop is requested */
	bool      stop;

	const char *fails;  /* what fails, once */
	const char *then;   /* what fails next, once */
	int         spares; /* so often it succeeds before */
	int         others_lead_for;
	bool        is_refused; /* what fails: the database is there, and does not take it */
	bool        is_renewed; /* what fails: the broker's connection, which it gave up itself */
	bool        has_database, is_connected;
	long long   bell_ms;  /* when it rings; 0: never */
	bool        has_rung; /* and nobody has heard it */
	bool        has_frames;
	bool        is_new_leader; /* nothing is drained yet */
	int         drained;
	int         published[DRAINS_MAX]; /* of each drain; -1: deferred events alone */
	uint64_t    oldest, next;          /* transactions that run, and the next one */
	long long   deferred_ms;           /* 0, or when deferred events are due */
	bool        has_told, is_ready, leads;
	int         times_not_ready; /* that it has told so */
	int         resets, reconnects;
	bool        is_judging; /* what fails, while it is drained, is looked for */
	int         pause_ms;   /* of the next waits, if not 77 */
	bool        has_forgotten;
	int         ended_trials;
	bool        has_trials;
} World;

extern World world;

#endif /* BRIDGE_RELAY_ROLE_FAKE_H */
