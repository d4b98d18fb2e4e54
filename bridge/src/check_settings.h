/*
 * check_settings.h
 *		Settings that need a closer look than their table's.
 */
#ifndef BRIDGE_CHECK_SETTINGS_H
#define BRIDGE_CHECK_SETTINGS_H

#include <stdbool.h>

/* check_settings prepares what is made of the settings; false, after saying on stderr what is wrong
 * with each. */
extern bool check_settings(void);

/* check_roles: which roles are named, by RoleId? False, after saying so, if one of them does not
 * exist, or cannot do as it is told to. */
extern bool check_roles(bool *wanted);

#endif /* BRIDGE_CHECK_SETTINGS_H */
