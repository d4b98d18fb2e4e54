/*
 * tokens.c
 *		Bearer tokens (RFC 6750) and what they may be used for.
 */
#include "http/tokens.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret_file.h"

#define TOKENS_MAX      1000
#define TOKEN_BYTES_MIN 16
#define TOKEN_BYTES_MAX 255

typedef struct Token
{
	char     text[TOKEN_BYTES_MAX + 1]; /* the rest is zeros */
	unsigned scopes;
} Token;

static Token           *tokens;
static int              ntokens;
static unsigned         generation; /* of the tokens; 0: none are asked for */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static const struct
{
	const char *name;
	Scope       scope;
} scopes[] = {{"read", SCOPE_READ}, {"order", SCOPE_ORDER}, {"admin", SCOPE_ADMIN}};

const char *
scope_name(Scope scope)
{
	for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++)
	{
		if (scopes[i].scope == scope)
			return scopes[i].name;
	}
	return "none";
}

static bool
parse_scopes(char *text, unsigned *result)
{
	char *save = NULL;

	*result = 0;
	for (char *word = strtok_r(text, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save))
	{
		unsigned before = *result;

		for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++)
		{
			if (strcmp(word, scopes[i].name) == 0)
				*result |= scopes[i].scope;
		}
		if (*result == before)
			return false;
	}
	return *result != 0;
}

typedef struct Reading
{
	Token *list;
	int    count;
} Reading;

/* A line of the file into the next token; false if it is bad. Empty ones and comments are passed
 * over. */
static bool
take_line(void *context, char *line)
{
	Reading *reading = context;
	Token   *token = &reading->list[reading->count];
	char    *save = NULL;
	char    *text;
	char    *words;

	line[strcspn(line, "#\r\n")] = '\0';
	text = strtok_r(line, " \t", &save);
	if (text == NULL)
		return true;
	words = strtok_r(NULL, " \t", &save);
	if (strlen(text) < TOKEN_BYTES_MIN || strlen(text) > TOKEN_BYTES_MAX || words == NULL ||
		strtok_r(NULL, " \t", &save) != NULL || reading->count == TOKENS_MAX)
		return false;
	snprintf(token->text, sizeof(token->text), "%s", text);
	reading->count++;
	return parse_scopes(words, &token->scopes);
}

bool
tokens_load(const char *path)
{
	Reading reading = {.list = calloc(TOKENS_MAX, sizeof(Token))};
	Token  *old;
	char    rule[128];

	snprintf(rule, sizeof(rule),
			 "a token of %d to %d characters and its scopes: read, order, admin", TOKEN_BYTES_MIN,
			 TOKEN_BYTES_MAX);
	if (reading.list == NULL ||
		!secret_file_read_lines("HTTP_TOKENS_FILE", path, rule, take_line, &reading))
	{
		free(reading.list);
		return false;
	}
	pthread_rwlock_wrlock(&lock);
	old = tokens;
	tokens = reading.list;
	ntokens = reading.count;
	generation++;
	pthread_rwlock_unlock(&lock);
	free(old);
	log_info("%d bearer tokens read", reading.count);
	return true;
}

/* Compares all bytes, whatever the first ones say. */
static bool
is_same(const char *a, const char *b)
{
	unsigned char difference = 0;

	for (size_t i = 0; i < TOKEN_BYTES_MAX; i++)
		difference |= (unsigned char) (a[i] ^ b[i]);
	return difference == 0;
}

/* The scopes of a token; 0 if it is not known. */
static unsigned
scopes_of(const char *token)
{
	char     padded[TOKEN_BYTES_MAX + 1] = {0};
	unsigned found = 0;

	if (strlen(token) > TOKEN_BYTES_MAX)
		return 0;
	snprintf(padded, sizeof(padded), "%s", token);
	for (int i = 0; i < ntokens; i++)
	{
		if (is_same(tokens[i].text, padded))
			found |= tokens[i].scopes;
	}
	return found;
}

TokenAnswer
tokens_check(const char *authorization, Scope scope)
{
	TokenAnswer answer = TOKEN_ACCEPTED;
	unsigned    found;

	pthread_rwlock_rdlock(&lock);
	if (generation > 0 && scope != SCOPE_NONE)
	{
		bool has_token =
			authorization != NULL && strncasecmp(authorization, "Bearer ", strlen("Bearer ")) == 0;

		found = has_token ? scopes_of(authorization + strlen("Bearer ")) : 0;
		answer = found == 0 ? TOKEN_UNKNOWN : (found & scope) ? TOKEN_ACCEPTED : TOKEN_LACKS_SCOPE;
	}
	pthread_rwlock_unlock(&lock);
	return answer;
}

unsigned
tokens_generation(void)
{
	unsigned now;

	pthread_rwlock_rdlock(&lock);
	now = generation;
	pthread_rwlock_unlock(&lock);
	return now;
}

bool
tokens_are_required(void)
{
	return tokens_generation() > 0;
}
