/*
 * settings.c
 *		One table of settings: environment variable, flag, default, limits.
 */
#include "base/settings.h"

#include <argp.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/text.h"

#define SETTINGS_MAX 64
#define FIRST_KEY    0x1000

typedef struct Parse
{
	const Setting *table;
	const char    *given[SETTINGS_MAX]; /* by the command line */
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

bool
settings_load(const Setting *table, const char *synopsis, const char *about, int argc, char **argv,
			  char **words, int words_max, int *nwords)
{
	struct argp_option options[SETTINGS_MAX + 1];
	char               help[SETTINGS_MAX][512];
	Parse       parse = {.table = table, .words = words, .words_max = words_max, .nwords = nwords};
	struct argp argp = {options, on_option, synopsis, about, NULL, NULL, NULL};
	int         count = 0;

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

	*nwords = 0;
	argp_err_exit_status = EX_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &parse) != 0)
		return false;
	for (int i = 0; i < count; i++)
	{
		const char *env = getenv(table[i].env);
		char        flag[64];

		snprintf(flag, sizeof(flag), "--%s", table[i].flag);
		if (parse.given[i] != NULL
				? !store(&table[i], parse.given[i], flag)
				: !store(&table[i], env != NULL && *env != '\0' ? env : table[i].fallback,
						 table[i].env))
			return false;
	}
	return true;
}
