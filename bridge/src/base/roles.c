/*
 * roles.c
 *		What each role is at: ready or not, and since when it has made no progress.
 */
#include "base/roles.h"

#include <stdatomic.h>
#include <string.h>

#include "base/config.h"
#include "base/stop.h"

static const char *const names[ROLE_COUNT] = {"http", "relay", "replies", "sync", "housekeeping"};

typedef enum RoleState
{
	ROLE_DOES_NOT_RUN,
	ROLE_NOT_READY, /* entered by role_set_ready(false): it lacks a connection, or what it needs
					   there */
	ROLE_READY      /* entered by role_set_ready(true) */
} RoleState;

static struct
{
	atomic_int state;
	_Atomic long long
		since_ms; /* since when it has had work and has finished none; 0: it has none */
} roles[ROLE_COUNT];

const char *
role_name(Role role)
{
	return names[role];
}

bool
role_by_name(const char *name, Role *role)
{
	for (int i = 0; i < ROLE_COUNT; i++)
	{
		*role = (Role) i;
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

void
role_set_ready(Role role, bool ready)
{
	atomic_store(&roles[role].state, ready ? ROLE_READY : ROLE_NOT_READY);
}

void
role_begins(Role role)
{
	long long none = 0;

	atomic_compare_exchange_strong(&roles[role].since_ms, &none, monotonic_ms());
}

void
role_progresses(Role role)
{
	long long since = atomic_load(&roles[role].since_ms);

	/* whoever has rested meanwhile has no work, and goes on having none */
	while (since != 0 &&
		   !atomic_compare_exchange_weak(&roles[role].since_ms, &since, monotonic_ms()))
		;
}

void
role_rests(Role role)
{
	atomic_store(&roles[role].since_ms, 0);
}

static long long
stuck_ms(Role role)
{
	long long since = atomic_load(&roles[role].since_ms);

	return since == 0 ? 0 : monotonic_ms() - since;
}

bool
role_is_ready(Role role)
{
	return atomic_load(&roles[role].state) == ROLE_READY &&
		   stuck_ms(role) <= config.stuck_after_s * 1000LL;
}

json_t *
roles_json(bool *all_ready)
{
	json_t *json = json_object();

	*all_ready = json != NULL;
	for (int i = 0; json != NULL && i < ROLE_COUNT; i++)
	{
		bool ready = role_is_ready(i);

		if (atomic_load(&roles[i].state) == ROLE_DOES_NOT_RUN)
			continue;
		*all_ready &= ready;
		json_object_set_new(json, names[i], json_string(ready ? "ready" : "not ready"));
	}
	return json;
}

void
roles_add_metrics(Text *text)
{
	text_add_string(text,
					"# HELP order_bridge_role_ready 1 if the role can work and makes progress.\n"
					"# TYPE order_bridge_role_ready gauge\n");
	for (int i = 0; i < ROLE_COUNT; i++)
	{
		if (atomic_load(&roles[i].state) != ROLE_DOES_NOT_RUN)
			text_add_format(text, "order_bridge_role_ready{role=\"%s\"} %d\n", names[i],
							role_is_ready(i));
	}
	text_add_string(text,
					"# HELP order_bridge_role_stuck_seconds How long the role has had work and "
					"has finished none of it.\n"
					"# TYPE order_bridge_role_stuck_seconds gauge\n");
	for (int i = 0; i < ROLE_COUNT; i++)
	{
		if (atomic_load(&roles[i].state) != ROLE_DOES_NOT_RUN)
			text_add_format(text, "order_bridge_role_stuck_seconds{role=\"%s\"} %.3f\n", names[i],
							(double) stuck_ms(i) / 1000);
	}
}
