/*
 * sqlstate.h
 *		What an SQLSTATE means to us: the one map, to "try again" and to a status of HTTP.
 */
#ifndef BRIDGE_SQLSTATE_H
#define BRIDGE_SQLSTATE_H

typedef enum SqlstateKind
{
	SQLSTATE_OTHER,
	SQLSTATE_INPUT, /* what was sent is at fault: a value, its size, what it would do to the rows */
	SQLSTATE_DEFECT,  /* so is it, but not as we thought of: a bug of somebody's */
	SQLSTATE_LOCKED,  /* someone else holds a lock */
	SQLSTATE_PASSING, /* the same statement may succeed later, by itself */
	SQLSTATE_LEAVING, /* so it may, on another connection */
	SQLSTATE_LOST     /* the connection is of no use any more */
} SqlstateKind;

typedef struct Sqlstate
{
	const char  *start; /* the first that the SQLSTATE begins with */
	SqlstateKind kind;
	int          http_status;
	const char  *title; /* of that status */
} Sqlstate;

/* sqlstate_find returns what is known of an SQLSTATE; never NULL, "" is one of them. */
extern const Sqlstate *sqlstate_find(const char *sqlstate);

#endif /* BRIDGE_SQLSTATE_H */
