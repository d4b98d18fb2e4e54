/*
 * mapping.c
 *		What a vendor's feed_mapping may say: where its feed has what, and what its values mean.
 */
#include "postgres.h"

#include "feed/mapping.h"

#include "pgtime.h"
#include "store/check.h"
#include "store/json.h"

#define PATH_CHARS_MAX    200
#define PATH_NAMES_MAX    16
#define CHARSET_CHARS_MAX 40

static void
check_length(const char *field, const char *path)
{
	if (strlen(path) == 0 || strlen(path) > PATH_CHARS_MAX)
		argument_error(field, psprintf("must be a path of 1 to %d characters", PATH_CHARS_MAX));
}

static void
check_names(const char *field, const char *path, const char *complaint)
{
	int names = 1;

	if (strstr(path, "..") != NULL || path[strlen(path) - 1] == '.' || *path == '.')
		argument_error(field, complaint);
	for (; *path != '\0'; path++)
		names += *path == '.';
	if (names > PATH_NAMES_MAX)
		argument_error(field, psprintf("must be a path of at most %d names", PATH_NAMES_MAX));
}

/* "$", "$.a.b" from the top of the feed. */
static void
check_path_from_top(const char *field, const char *path)
{
	check_length(field, path);
	if (strcmp(path, "$") != 0 && (strncmp(path, "$.", 2) != 0 || path[2] == '\0'))
		argument_error(field, "must be $ or begin with $.");
	check_names(field, path, "must not have an empty name in it");
}

/* "a.b" from an item, or the name of a CSV column, in which a dot is a dot: "Art.-Nr.". */
static void
check_path_of_item(const char *field, const char *path, bool is_csv)
{
	check_length(field, path);
	if (!is_csv)
		check_names(field, path, "must not have an empty name in it, unless format is csv");
}

static void
check_one_of(const char *field, const char *value, const char *const *allowed,
			 const char *complaint)
{
	for (; *allowed != NULL; allowed++)
	{
		if (strcmp(value, *allowed) == 0)
			return;
	}
	argument_error(field, complaint);
}

static void
check_time_zone(const char *field, const char *value)
{
	if (pg_tzset(value) == NULL)
		argument_error(field, "must be a time zone that the server knows, as Europe/Berlin");
}

static void
check_charset(const char *field, const char *value)
{
	if (*value == '\0' || strlen(value) > CHARSET_CHARS_MAX ||
		strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") !=
			strlen(value))
		argument_error(field, "must be the name of an encoding, as windows-1252");
}

static void
check_mapping_member(const char *key, const char *value, bool is_csv)
{
	static const char *const formats[] = {"json", "csv", NULL};
	static const char *const decimals[] = {".", ",", NULL};
	static const char *const repeats[] = {"first", "last", "sum", NULL};
	const char              *field = psprintf("feed_mapping.%s", key);

	if (strcmp(key, "format") == 0)
		check_one_of(field, value, formats, "must be json or csv");
	else if (strcmp(key, "decimal") == 0)
		check_one_of(field, value, decimals, "must be . or ,");
	else if (strcmp(key, "repeated") == 0)
		check_one_of(field, value, repeats, "must be first, last or sum");
	else if (strcmp(key, "timeZone") == 0)
		check_time_zone(field, value);
	else if (strcmp(key, "charset") == 0)
		check_charset(field, value);
	else if (strcmp(key, "delimiter") == 0)
	{
		if (strlen(value) != 1 || *value == '"' || *value == '\n' || *value == '\r')
			argument_error(field, "must be one character");
	}
	else if (strcmp(key, "items") == 0 || strcmp(key, "asOf") == 0)
		check_path_from_top(field, value);
	else if (strcmp(key, "id") == 0 || strcmp(key, "quantity") == 0 || strcmp(key, "price") == 0 ||
			 strcmp(key, "name") == 0)
		check_path_of_item(field, value, is_csv);
	else
		argument_error(field, "is not known; there are format, delimiter, charset, items, asOf, "
							  "timeZone, id, quantity, price, name, decimal and repeated");
}

void
mapping_check(Jsonb *mapping)
{
	JsonWalk   walk;
	JsonbValue format;
	bool       is_csv;

	if (!JB_ROOT_IS_OBJECT(mapping))
		argument_error("feed_mapping", "must be a JSON object");
	is_csv = json_member(&mapping->root, "format", &format) && format.type == jbvString &&
			 format.val.string.len == 3 && memcmp(format.val.string.val, "csv", 3) == 0;
	json_walk_begin(&walk, &mapping->root);
	while (json_walk_next(&walk))
	{
		char *key = pnstrdup(walk.key.val.string.val, walk.key.val.string.len);

		if (walk.value.type != jbvString)
			argument_error(psprintf("feed_mapping.%s", key), "must be a string");
		check_mapping_member(key, pnstrdup(walk.value.val.string.val, walk.value.val.string.len),
							 is_csv);
	}
}
