/*
 * errors.h
 *		The SQLSTATEs of what a caller can cause here and nowhere else.
 */
#ifndef OA_ERRORS_H
#define OA_ERRORS_H

#include "postgres.h"

#define ERRCODE_OA_INSUFFICIENT_STOCK MAKE_SQLSTATE('O', 'A', '0', '0', '1')
#define ERRCODE_OA_UNKNOWN_PRODUCT    MAKE_SQLSTATE('O', 'A', '0', '0', '2')
#define ERRCODE_OA_KEY_REUSED         MAKE_SQLSTATE('O', 'A', '0', '0', '3')
#define ERRCODE_OA_STATE              MAKE_SQLSTATE('O', 'A', '0', '0', '4')
#define ERRCODE_OA_UNKNOWN_SUBJECT    MAKE_SQLSTATE('O', 'A', '0', '0', '5')

#endif /* OA_ERRORS_H */
