/*
 * nth_call.c
 *		Loaded before the bridge (LD_PRELOAD): of one kind of call the nth fails, and all after it
 *		work again.
 *
 * The file that NTH_CALL names says which (test_nth_call.py writes it). A crash tells, on standard
 * error, where it is and which call had failed.
 */
#include <errno.h>
#include <execinfo.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "preload.h"

typedef struct Control
{
	_Atomic int64_t kind; /* 'a'llocations, 's'ends, 'r'eceives, 'q'ueries, 't'ickets; 0: none */
	_Atomic int64_t left; /* calls of that kind until one fails */
	_Atomic int64_t has_failed;
} Control;

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

#define FRAMES_MAX 48

static Control *control;
static void    *failed_at[FRAMES_MAX];
static int      failed_depth;

static void
tell_frames(const char *what, void *const *frames, int depth)
{
	if (write(STDERR_FILENO, what, strlen(what)) >= 0)
		backtrace_symbols_fd(frames, depth, STDERR_FILENO);
}

/* Its action is the default again by now. */
static void
on_crash(int number)
{
	void *frames[FRAMES_MAX];

	tell_frames("crashed at\n", frames, backtrace(frames, FRAMES_MAX));
	tell_frames("the call that had failed\n", failed_at, failed_depth);
	(void) raise(number);
}

__attribute__((constructor)) static void
open_control(void)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_RESETHAND};

	(void) backtrace(failed_at, FRAMES_MAX); /* the first one allocates memory */
	control = map_control("NTH_CALL", sizeof(Control), true);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigaction(crashes[i], &action, NULL);
}

static bool
fails(int kind)
{
	if (control == NULL || atomic_load(&control->kind) != kind ||
		atomic_fetch_sub(&control->left, 1) != 1)
		return false;
	failed_depth = backtrace(failed_at, FRAMES_MAX);
	atomic_store(&control->has_failed, 1);
	return true;
}

static bool
has_no_memory(void)
{
	if (!fails('a'))
		return false;
	errno = ENOMEM;
	return true;
}

/* ---------- allocations ---------- */

void *
malloc(size_t size)
{
	return has_no_memory() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return has_no_memory() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *memory, size_t size)
{
	return has_no_memory() ? NULL : __libc_realloc(memory, size);
}

/* ---------- the network ---------- */

static bool
is_cut(int kind, int socket)
{
	if (!fails(kind))
		return false;
	shutdown(socket, SHUT_RDWR); /* as the other side sees it */
	errno = ECONNRESET;
	return true;
}

ssize_t
send(int socket, const void *bytes, size_t count, int flags)
{
	return is_cut('s', socket) ? -1 : REAL(send)(socket, bytes, count, flags);
}

ssize_t
sendmsg(int socket, const struct msghdr *message, int flags)
{
	return is_cut('s', socket) ? -1 : REAL(sendmsg)(socket, message, flags);
}

ssize_t
recv(int socket, void *bytes, size_t count, int flags)
{
	return is_cut('r', socket) ? -1 : REAL(recv)(socket, bytes, count, flags);
}

/* ---------- tickets of Kerberos ---------- */

extern uint32_t gss_acquire_cred(uint32_t *code, void *name, uint32_t seconds, void *wanted,
								 int usage, void **ticket, void **found, uint32_t *left);

uint32_t
gss_acquire_cred(uint32_t *code, void *name, uint32_t seconds, void *wanted, int usage,
				 void **ticket, void **found, uint32_t *left)
{
	if (fails('t'))
		return 13U << 16; /* GSS_S_FAILURE */
	return REAL(gss_acquire_cred)(code, name, seconds, wanted, usage, ticket, found, left);
}

/* ---------- queries ---------- */

#define FAILING "DO $$ BEGIN RAISE 'a query that fails' USING ERRCODE = '53200'; END $$"

int
PQsendQueryParams(PGconn *connection, const char *sql, int count, const Oid *types,
				  const char *const *values, const int *lengths, const int *formats, int format)
{
	if (fails('q'))
		return REAL(PQsendQueryParams)(connection, FAILING, 0, NULL, NULL, NULL, NULL, 0);
	return REAL(PQsendQueryParams)(connection, sql, count, types, values, lengths, formats, format);
}

int
PQsendPrepare(PGconn *connection, const char *name, const char *sql, int count, const Oid *types)
{
	return REAL(PQsendPrepare)(connection, name, fails('q') ? "a statement that fails" : sql, count,
							   types);
}

/* One that the session has: it has not any more. */
int
PQsendQueryPrepared(PGconn *connection, const char *name, int count, const char *const *values,
					const int *lengths, const int *formats, int format)
{
	return REAL(PQsendQueryPrepared)(connection, fails('q') ? "none" : name, count, values, lengths,
									 formats, format);
}

int
PQsendQuery(PGconn *connection, const char *sql)
{
	return REAL(PQsendQuery)(connection, fails('q') ? FAILING : sql);
}
