/*
 * settings_file.h
 *		Settings from a file, in the form of systemd's EnvironmentFile.
 */
#ifndef BRIDGE_SETTINGS_FILE_H
#define BRIDGE_SETTINGS_FILE_H

#include "base/settings.h"

/*
 * settings_file_read reads lines KEY=value; "#" and ";" begin comments, a value may be in single or
 * double quotes. values[i] becomes what the file gives of table[i], malloc'd, or stays NULL. False,
 * after saying which lines are wrong, if the file cannot be read, or names what is no setting.
 */
extern bool settings_file_read(const char *path, const Setting *table, char **values)
	__attribute__((warn_unused_result));

#endif /* BRIDGE_SETTINGS_FILE_H */
