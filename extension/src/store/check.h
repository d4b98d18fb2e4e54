/*
 * check.h
 *		Arguments of the SQL functions and values of documents: checked, with errors that name them.
 */
#ifndef OA_CHECK_H
#define OA_CHECK_H

#include "postgres.h"

#include "fmgr.h"
#include "store/compat.h"
#include "utils/numeric.h"

/* what is taken at most */
#define QUANTITY_MAX       INT64CONST(1000000000)
#define ON_HAND_MAX        INT64CONST(1000000000000)
#define BATCH_REQUESTS_MAX 10000
#define BATCH_LINES_MAX    200000
#define ID_CHARS_MAX       128
#define KEY_CHARS_MAX      255
#define REASON_CHARS_MAX   1000

/*
 * check_text_id returns NULL if the text is 1 to max_chars characters without
 * control characters, else what is wrong with it, palloc'd.
 */
extern char *check_text_id(const char *text, int len, int max_chars);

/* True if it is 1 to 64 of A-Z a-z 0-9 _ - */
extern bool is_vendor_id(const char *text, int len);

/* True if the text, a decimal number, or the numeric is a whole number from min to max, which
 * *result then is. */
extern bool text_to_whole(const char *text, int64 min, int64 max, int64 *result);
extern bool numeric_to_whole(Numeric number, int64 min, int64 max, int64 *result);

/* numeric_text is the number as text; of one that is longer than any that we take, the beginning,
 * which is as much too large, and as little whole. */
extern char *numeric_text(Numeric number);

/* excerpt is what of a stranger's text may stand in an error: the text, or, palloc'd, its first 128
 * characters and "..."; an error goes to the log and back to whoever sent it. */
extern const char *excerpt(const char *text);

/* For ereport(): the field at fault, for readers as the DETAIL, for programs as the error's column.
 */
#define errdetail_field(name) errdetail("The field is \"%s\".", (name))
#define err_field(name)       err_generic_string(PG_DIAG_COLUMN_NAME, (name))

/* argument_error raises 22023, "<name> <complaint>", of a name that may be a stranger's its
 * excerpt(). */
pg_noreturn extern void argument_error(const char *name, const char *complaint);

/* require_argument raises 22023 if the argument is null. */
extern void require_argument(FunctionCallInfo fcinfo, int argument, const char *name);

/* text_argument returns the text, palloc'd, or NULL if it is null. */
extern char *text_argument(FunctionCallInfo fcinfo, int argument);

/* id_argument is text_argument, and raises 22023 unless it is 1 to max_chars characters without
 * control characters. */
extern char *id_argument(FunctionCallInfo fcinfo, int argument, const char *name, int max_chars);

/* count_argument returns how many a function may take at most, 1000 if it is null, and raises 22023
 * unless it is 1 to 100000. */
extern int32 count_argument(FunctionCallInfo fcinfo, int argument, const char *name);

/*
 * begin_writing must come first in every function that writes: what goes past
 * the executor goes past its checks too. Raises 25006 in a transaction that is read only,
 * or on a standby, as INSERT does.
 */
extern void begin_writing(const char *function);

#endif /* OA_CHECK_H */
