/*
 * settings_file.c
 *		Settings from a file, in the form of systemd's EnvironmentFile.
 */
#include "base/settings_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret_file.h"

#define BLANKS " \t\r\n"

static char *
trim(char *text)
{
	char *end;

	text += strspn(text, BLANKS);
	for (end = text + strlen(text); end > text && strchr(BLANKS, end[-1]) != NULL; end--)
		;
	*end = '\0';
	return text;
}

/* Without its quotes; NULL if one is not closed, or there is more behind it. */
static char *
unquote(char *value)
{
	char  quote = *value;
	char *to = value;
	char *from;

	if (quote != '"' && quote != '\'')
		return value;
	for (from = value + 1; *from != '\0' && *from != quote; from++)
	{
		if (quote == '"' && *from == '\\' && (from[1] == '"' || from[1] == '\\'))
			from++;
		*to++ = *from;
	}
	if (*from != quote || from[1] != '\0')
		return NULL;
	*to = '\0';
	return value;
}

/* What is wrong with the line, or NULL. */
static const char *
read_line(char *line, const Setting *table, char **values)
{
	char *key = trim(line);
	char *value;

	if (*key == '\0' || *key == '#' || *key == ';')
		return NULL;
	value = strchr(key, '=');
	if (value == NULL)
		return "must be KEY=value";
	*value++ = '\0';
	value = unquote(trim(value));
	if (value == NULL)
		return "has a quote that is not closed, or more behind one";
	key = trim(key);
	for (int i = 0; table[i].env != NULL; i++)
	{
		if (strcmp(table[i].env, key) != 0)
			continue;
		free(values[i]);
		values[i] = strdup(value);
		return values[i] != NULL ? NULL : "cannot be kept: out of memory";
	}
	return "names no setting; --help lists them";
}

/* Is it a password, or a connection string or URL that has one in it, as far as one can see? */
static bool
has_password(const char *env, const char *value)
{
	const char *scheme_end = strstr(value, "://");
	const char *login = scheme_end != NULL ? scheme_end + strlen("://") : NULL;
	const char *login_end = login != NULL ? strchr(login, '@') : NULL;

	return (strcmp(env, "DB_PASSWORD") == 0 && *value != '\0') ||
		   strstr(value, "password=") != NULL ||
		   (login_end != NULL && memchr(login, ':', (size_t) (login_end - login)) != NULL);
}

/* The file may hold no secret: then everybody may read it. */
static void
warn_of_secrets(const char *path, FILE *file, const Setting *table, char *const *values)
{
	for (int i = 0; table[i].env != NULL; i++)
	{
		if (values[i] != NULL && has_password(table[i].env, values[i]))
			secret_file_warn(table[i].env, path, file);
	}
}

bool
settings_file_read(const char *path, const Setting *table, char **values)
{
	FILE  *file = fopen(path, "re");
	char  *line = NULL;
	size_t size = 0;
	bool   ok = file != NULL;

	if (!ok)
		fprintf(stderr, "--config: %s cannot be read: %s\n", path, strerror(errno));
	for (int number = 1; file != NULL && getline(&line, &size, file) >= 0; number++)
	{
		const char *wrong = read_line(line, table, values);

		/* the line itself is not shown: there may be a password in it */
		if (wrong != NULL)
			fprintf(stderr, "--config: line %d of %s %s\n", number, path, wrong);
		ok = ok && wrong == NULL;
	}
	if (file != NULL && !feof(file)) /* memory may be short, too */
	{
		fprintf(stderr, "--config: %s cannot be read: %s\n", path, strerror(errno));
		ok = false;
	}
	free(line);
	if (file != NULL)
	{
		warn_of_secrets(path, file, table, values);
		fclose(file);
	}
	return ok;
}
