/*
 * sqlstate.c
 *		The table of SQLSTATEs: whose fault each is, whether to try again, its status over HTTP.
 */
#include "link/sqlstate.h"

#include <string.h>

#define INTERNAL    500, "Internal Server Error"
#define UNAVAILABLE 503, "Service Unavailable"

/* The first that fits; the last fits all. OA: our own (extension/src/store/errors.h). */
static const Sqlstate known[] = {
	{"OA001", SQLSTATE_INPUT, 409, "Insufficient stock"},
	{"OA002", SQLSTATE_INPUT, 404, "Unknown product"},
	{"OA003", SQLSTATE_INPUT, 422, "Idempotency key reused"},
	{"OA004", SQLSTATE_INPUT, 409, "Conflict"},
	{"OA005", SQLSTATE_INPUT, 404, "Not Found"},
	{"OA", SQLSTATE_INPUT, INTERNAL},
	{"08", SQLSTATE_LOST, INTERNAL},            /* connection exception */
	{"22", SQLSTATE_INPUT, 400, "Bad Request"}, /* data exception */
	{"23", SQLSTATE_INPUT, INTERNAL},           /* constraint violation */
	{"25006", SQLSTATE_LOST, INTERNAL},         /* the server has become a standby */
	{"40", SQLSTATE_PASSING, UNAVAILABLE},      /* serialization failure, deadlock */
	{"53", SQLSTATE_PASSING, UNAVAILABLE},      /* a full disk, too little memory */
	{"54", SQLSTATE_INPUT, INTERNAL},           /* program limit exceeded */
	{"55P03", SQLSTATE_LOCKED, UNAVAILABLE},    /* lock not available */
	{"57P", SQLSTATE_LEAVING, UNAVAILABLE},     /* the server is going away */
	{"57", SQLSTATE_PASSING, UNAVAILABLE},      /* somebody's intervention, a time-out */
	{"58", SQLSTATE_PASSING, UNAVAILABLE},      /* the system's I/O */
	{"P0", SQLSTATE_INPUT, INTERNAL},           /* raised by a trigger of the user's */
	{"XX", SQLSTATE_DEFECT, INTERNAL},          /* what we did not think of */
	{"", SQLSTATE_OTHER, INTERNAL},
};

const Sqlstate *
sqlstate_find(const char *sqlstate)
{
	const Sqlstate *entry = known;

	while (strncmp(sqlstate, entry->start, strlen(entry->start)) != 0)
		entry++;
	return entry;
}
