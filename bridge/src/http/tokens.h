/*
 * tokens.h
 *		Bearer tokens (RFC 6750) and what they may be used for.
 *
 * The file has a token a line: the token, white space, its scopes separated by
 * commas; # begins a comment. It is read at start and again on SIGHUP; a file
 * that cannot be read or has a bad line leaves the tokens as they are.
 */
#ifndef BRIDGE_TOKENS_H
#define BRIDGE_TOKENS_H

#include <stdbool.h>

typedef enum Scope
{
	SCOPE_NONE = 0, /* needs no token */
	SCOPE_READ = 1,
	SCOPE_ORDER = 2,
	SCOPE_ADMIN = 4
} Scope;

typedef enum TokenAnswer
{
	TOKEN_ACCEPTED,
	TOKEN_UNKNOWN,
	TOKEN_LACKS_SCOPE
} TokenAnswer;

/* tokens_load reads the file; false, after saying so in the log, if it is not as it should be. */
extern bool tokens_load(const char *path);

/*
 * tokens_check says whether the value of an Authorization header (NULL: none)
 * allows what needs the scope. Always allowed while no file was loaded. Takes the
 * same time whichever token it is, and however much of one is right.
 */
extern TokenAnswer tokens_check(const char *authorization, Scope scope);

extern const char *scope_name(Scope scope);

/* tokens_generation changes when other tokens are read; 0: none are asked for. Whoever was let in
 * for longer than a request is looked at again then. */
extern unsigned tokens_generation(void);

/* tokens_are_required: requests without a token are refused. */
extern bool tokens_are_required(void);

#endif /* BRIDGE_TOKENS_H */
