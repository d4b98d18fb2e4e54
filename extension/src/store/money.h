/*
 * money.h
 *		Amounts as whole 1/10000 of the currency's unit, and back to numeric.
 *
 * Every price has at most four decimals, so integers add them up exactly and
 * far faster than numeric does. Amounts are shown with the most decimals any
 * part of them has, and with at least two.
 */
#ifndef OA_MONEY_H
#define OA_MONEY_H

#include "postgres.h"

#include "utils/numeric.h"

#define MONEY_SCALE_MAX 4
#define MONEY_SCALE_MIN 2

/* One price. "decimals" is how many of the four are shown. */
typedef struct Price
{
	int64 amount; /* 1/10000 */
	int   decimals;
} Price;

/* A sum of prices; 128 bits hold 10^9 units at 10^11, 10^9 times over. */
typedef struct Amount
{
	int128 amount; /* 1/10000 */
	int    decimals;
} Amount;

/*
 * price_from_text reads digits with or without a decimal point, and returns
 * false if there is anything else, more than four decimals, or 10^11 or more.
 * price_from_numeric does the same with a number.
 */
extern bool price_from_text(const char *text, Price *price);
extern bool price_from_numeric(Numeric number, Price *price);

/* amount_add adds quantity * price. */
extern void amount_add(Amount *total, Price price, int64 quantity);

extern Numeric amount_to_numeric(Amount amount);
extern bool    amount_is(Amount amount, Numeric number);

/* The results of these two are palloc'd. */
extern char *amount_to_string(Amount amount);
extern char *price_to_string(Price price);

#endif /* OA_MONEY_H */
