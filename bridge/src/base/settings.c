/*
 * settings.c
 *		One table of settings: environment variable, flag, default, limits.
 */
#include "base/settings.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/settings_file.h"
#include "base/text.h"

#define SETTINGS_MAX 96
#define FIRST_KEY    0x1000
#define CONFIG_KEY   (FIRST_KEY + SETTINGS_MAX)

typedef struct Parse
{
	const Setting *table;
	const char    *given[SETTINGS_MAX]; /* by the command line */
	const char    *file;                /* NULL: none */
	char         **words;
	int            words_max;
	int           *nwords;
} Parse;

static error_t
on_option(int key, char *argument, struct argp_state *state)
{
	Parse *parse = state->input;

	if (key >= FIRST_KEY && key < FIRST_KEY + SETTINGS_MAX)
	{
		parse->given[key - FIRST_KEY] = argument;
		return 0;
	}
	if (key == CONFIG_KEY)
	{
		parse->file = argument;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
	{
		if (*parse->nwords == parse->words_max)
			argp_error(state, "too many words: %s", argument);
		else
			parse->words[(*parse->nwords)++] = argument;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static bool
store_number(const Setting *setting, const char *text, const char *name)
{
	long long number;

	if (!text_read_number(text, setting->minimum, setting->maximum, &number))
	{
		fprintf(stderr, "%s must be a whole number from %d to %d, not \"%s\"\n", name,
				setting->minimum, setting->maximum, text);
		return false;
	}
	*(int *) setting->value = (int) number;
	return true;
}

static bool
store_flag(const Setting *setting, const char *text, const char *name)
{
	bool yes = strcmp(text, "yes") == 0;

	if (!yes && strcmp(text, "no") != 0)
	{
		fprintf(stderr, "%s must be yes or no, not \"%s\"\n", name, text);
		return false;
	}
	*(bool *) setting->value = yes;
	return true;
}

static bool
store(const Setting *setting, const char *text, const char *name)
{
	switch (setting->kind)
	{
		case SETTING_NUMBER:
			return store_number(setting, text, name);
		case SETTING_FLAG:
			return store_flag(setting, text, name);
		case SETTING_TEXT:
			break;
	}
	*(const char **) setting->value = text;
	return true;
}

/* Each from where it is given: flag, environment, file, default. All that are wrong are named. */
static bool
store_all(const Parse *parse, char *const *from_file)
{
	bool ok = true;

	for (int i = 0; parse->table[i].env != NULL; i++)
	{
		const Setting *setting = &parse->table[i];
		const char    *env = getenv(setting->env);
		char           flag[64];

		snprintf(flag, sizeof(flag), "--%s", setting->flag);
		if (parse->given[i] != NULL)
			ok &= store(setting, parse->given[i], flag);
		else if (env != NULL && *env != '\0')
			ok &= store(setting, env, setting->env);
		else
			ok &= store(setting, from_file[i] != NULL ? from_file[i] : setting->fallback,
						setting->env);
	}
	return ok;
}

bool
settings_load(const Setting *table, const char *synopsis, const char *about, int argc, char **argv,
			  char **words, int words_max, int *nwords)
{
	static char       *from_file[SETTINGS_MAX]; /* the settings point into it */
	struct argp_option options[SETTINGS_MAX + 2];
	char               help[SETTINGS_MAX][512];
	Parse       parse = {.table = table, .words = words, .words_max = words_max, .nwords = nwords};
	struct argp argp = {options, on_option, synopsis, about, NULL, NULL, NULL};
	int         count = 0;
	int         error;
	bool        is_read;

	memset(options, 0, sizeof(options));
	for (; table[count].env != NULL && count < SETTINGS_MAX; count++)
	{
		snprintf(help[count], sizeof(help[count]), "%s (%s%s%s)", table[count].help,
				 table[count].env, *table[count].fallback ? ", default " : "",
				 table[count].fallback);
		options[count] = (struct argp_option){.name = table[count].flag,
											  .key = FIRST_KEY + count,
											  .arg = "VALUE",
											  .doc = help[count]};
	}

	options[count] = (struct argp_option){.name = "config",
										  .key = CONFIG_KEY,
										  .arg = "FILE",
										  .doc = "a file of lines KEY=value; the environment and "
												 "flags win"};

	*nwords = 0;
	argp_err_exit_status = EX_USAGE;
	error = argp_parse(&argp, argc, argv, 0, NULL, &parse);
	if (error != 0) /* for want of memory: of what is wrong it has told, and left */
	{
		fprintf(stderr, "%s: %s\n", argv[0], strerror(error));
		exit(EX_OSERR);
	}
	is_read = parse.file == NULL || settings_file_read(parse.file, table, from_file);
	return store_all(&parse, from_file) && is_read;
}

bool
settings_can_read(const char *env, const char *path)
{
	bool ok = *path == '\0' || access(path, R_OK) == 0;

	if (!ok)
		fprintf(stderr, "%s cannot be read: %s\n", env, path);
	return ok;
}
