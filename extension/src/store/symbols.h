/*
 * symbols.h
 *		The names by which SQL finds our functions in the library.
 */
#ifndef OA_SYMBOLS_H
#define OA_SYMBOLS_H

#include "postgres.h"

#include "fmgr.h"

/*
 * OA_FUNCTION declares a function that SQL may call, under two names: that of 1.0's scripts, which
 * work with this library until the database is updated, and one that no earlier library has, which
 * this version's scripts use (extension/Makefile appends the same). A session keeps the library
 * that it has loaded: one that was there before an update must fail then, and not run the code of
 * before on the tables of now. The next version adds a third name.
 */
#define OA_FUNCTION(name)                                                                          \
	PG_FUNCTION_INFO_V1(name);                                                                     \
	PG_FUNCTION_INFO_V1(name##_1_1);                                                               \
	Datum name##_1_1(PG_FUNCTION_ARGS) __attribute__((alias(#name)))

#endif /* OA_SYMBOLS_H */
