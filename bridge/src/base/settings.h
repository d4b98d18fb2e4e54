/*
 * settings.h
 *		One table of settings: environment variable, flag, default, limits.
 */
#ifndef BRIDGE_SETTINGS_H
#define BRIDGE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum SettingKind
{
	SETTING_TEXT,   /* const char * */
	SETTING_NUMBER, /* int, from minimum to maximum */
	SETTING_FLAG    /* bool: yes or no */
} SettingKind;

typedef struct Setting
{
	const char *env;  /* DATABASE_URL */
	const char *flag; /* database-url */
	SettingKind kind;
	void       *value;    /* where it goes */
	const char *fallback; /* the default, as text */
	int         minimum;
	int         maximum;
	const char *help;
} Setting;

/*
 * settings_load reads defaults, then the file that --config names, then the environment, then the
 * command line (which wins). "table" ends with an entry whose env is NULL. Words that are not
 * flags are left in *words, *nwords of them, at most words_max. Exits 0 after
 * --help and 64 (EX_USAGE) after a flag that does not exist, as argp does.
 * Returns false, and says on standard error which settings are wrong, if any is.
 */
extern bool settings_load(const Setting *table, const char *synopsis, const char *about, int argc,
						  char **argv, char **words, int words_max, int *nwords)
	__attribute__((warn_unused_result));

/* settings_can_read: can the file that a setting names be read, or does it name none? If not, it
 * says so on standard error. */
extern bool settings_can_read(const char *env, const char *path);

#endif /* BRIDGE_SETTINGS_H */
