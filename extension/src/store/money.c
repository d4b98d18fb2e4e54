/*
 * money.c
 *		Amounts as whole 1/10000 of the currency's unit, and back to numeric.
 */
#include "postgres.h"

#include "store/money.h"

#include "utils/fmgrprotos.h"

#define UNITS_DIGITS_MAX 11 /* a price is below 10^11 */

static const int64 power_of_ten[] = {1, 10, 100, 1000, 10000};

bool
price_from_text(const char *text, Price *price)
{
	const char *p = text;
	int64       amount = 0;
	int         digits = 0;
	int         decimals = 0;
	int         shown = 0;

	for (; *p >= '0' && *p <= '9'; p++)
	{
		if (++digits > UNITS_DIGITS_MAX)
			return false;
		amount = amount * 10 + (*p - '0');
	}
	if (digits == 0) /* a sign, NaN, Infinity */
		return false;
	if (*p == '.')
	{
		for (p++; *p >= '0' && *p <= '9'; p++)
		{
			if (++decimals > MONEY_SCALE_MAX)
			{
				if (*p != '0')
					return false;
				continue;
			}
			amount = amount * 10 + (*p - '0');
			if (*p != '0')
				shown = decimals;
		}
	}
	if (*p != '\0')
		return false;

	decimals = Min(decimals, MONEY_SCALE_MAX);
	price->amount = amount * power_of_ten[MONEY_SCALE_MAX - decimals];
	price->decimals = Max(shown, MONEY_SCALE_MIN);
	return true;
}

bool
price_from_numeric(Numeric number, Price *price)
{
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	bool  ok = price_from_text(text, price);

	pfree(text);
	return ok;
}

void
amount_add(Amount *total, Price price, int64 quantity)
{
	total->amount += (int128) price.amount * quantity;
	total->decimals = Max(total->decimals, price.decimals);
}

char *
amount_to_string(Amount amount)
{
	char   buffer[64];
	char  *p = buffer + sizeof(buffer) - 1;
	int    decimals = Max(amount.decimals, MONEY_SCALE_MIN);
	int128 left = amount.amount / power_of_ten[MONEY_SCALE_MAX - decimals];
	int    digits = 0;

	*p = '\0';
	do
	{
		if (digits == decimals)
			*--p = '.';
		*--p = '0' + (int) (left % 10);
		left /= 10;
		digits++;
	} while (left > 0 || digits <= decimals);
	return pstrdup(p);
}

char *
price_to_string(Price price)
{
	return amount_to_string((Amount){price.amount, price.decimals});
}

Numeric
amount_to_numeric(Amount amount)
{
	int    decimals = Max(amount.decimals, MONEY_SCALE_MIN);
	int128 units = amount.amount / power_of_ten[MONEY_SCALE_MAX - decimals];

	if (units <= PG_INT64_MAX)
		return int64_div_fast_to_numeric((int64) units, decimals);
	return DatumGetNumeric(DirectFunctionCall3(numeric_in,
											   CStringGetDatum(amount_to_string(amount)),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

bool
amount_is(Amount amount, Numeric number)
{
	Price price;

	if (price_from_numeric(number, &price))
		return price.amount == amount.amount;
	return DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(number),
											NumericGetDatum(amount_to_numeric(amount))));
}
