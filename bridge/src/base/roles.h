/*
 * roles.h
 *		What each role is at: ready or not, and since when it has made no progress.
 *
 * Ready means progress, not a connection: a role that has work and finishes none
 * of it is not ready, whatever it is connected to.
 */
#ifndef BRIDGE_ROLES_H
#define BRIDGE_ROLES_H

#include <jansson.h>
#include <stdbool.h>

#include "base/text.h"

typedef enum Role
{
	ROLE_HTTP,
	ROLE_RELAY,
	ROLE_REPLIES,
	ROLE_SYNC,
	ROLE_HOUSEKEEPING,
	ROLE_COUNT
} Role;

extern const char *role_name(Role role);

/* A role that runs says whether it can do its work; one that does not run counts as ready. */
extern void role_set_ready(Role role, bool ready);

/*
 * role_begins says that the role has work from now on, if it had none; role_progresses
 * that it has finished some of it and has more, if it had any; role_rests that it has none.
 */
extern void role_begins(Role role);
extern void role_progresses(Role role);
extern void role_rests(Role role);

/* role_by_name sets *role; false if there is none of that name. */
extern bool role_by_name(const char *name, Role *role);

/* role_is_ready: it runs, can do its work, and makes progress. */
extern bool role_is_ready(Role role);

/* roles_json returns {"http": "ready", ...} of the roles that run; *all_ready as it says. NULL if
 * memory is short. */
extern json_t *roles_json(bool *all_ready);

/* roles_add_metrics adds their Prometheus text. */
extern void roles_add_metrics(Text *text);

#endif /* BRIDGE_ROLES_H */
