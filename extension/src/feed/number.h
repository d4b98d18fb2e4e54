/*
 * number.h
 *		Numbers as people and programs write them, to the one form that JSON has.
 *
 * Pure C, without the server's headers: the bridge reads the numbers of the feeds it pulls
 * by it, the extension those of sync_vendor_stock().
 */
#ifndef OA_NUMBER_H
#define OA_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

typedef enum NumberReading
{
	NUMBER_READ,
	NUMBER_NONE,     /* there is more than a number, or none, or one beyond all bounds */
	NUMBER_AMBIGUOUS /* "1.299" may be a thousand or one and a bit: nobody has said */
} NumberReading;

#define NUMBER_BYTES_MAX 40 /* as it is written */
#define NUMBER_ROOM      96 /* of what is read */

/* What a vendor may have of anything. */
#define COUNT_MAX INT64_C(1000000000000)

/*
 * number_read writes a number as [-]digits[.digits], without leading zeros. decimal is the
 * mark before its decimals, '.' or ','; 0: nobody has said. Blanks around it, a sign, an
 * exponent and groups of three digits (1'000, 1 000; 1.000 where the mark is a comma) are read.
 */
extern NumberReading number_read(const char *text, char decimal, char plain[NUMBER_ROOM]);

/* number_is_count says whether what was read is a whole number from -COUNT_MAX to COUNT_MAX,
 * which *count then is. */
extern bool number_is_count(const char *plain, int64_t *count);

#endif /* OA_NUMBER_H */
