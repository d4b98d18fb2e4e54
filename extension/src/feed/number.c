/*
 * number.c
 *		Numbers as people and programs write them, to the one form that JSON has.
 *
 * A number is runs of digits with separators between them. Which of these is the decimal
 * mark is what was declared, or what can only be meant: two different ones, or one that no
 * group of three digits follows. Where it cannot be told nothing is guessed: a thousand
 * pieces taken for one are lost sales, one taken for a thousand is 999 sold twice.
 */
#include "feed/number.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX            20
#define EXPONENT_DIGITS_MAX 3
#define GROUP_DIGITS        3

/* Marks between groups that are never decimal: a blank, an apostrophe, and their kin. */
static const struct
{
	const char *text;
	char        kind;
} group_marks[] = {{" ", ' '},
				   {"\xc2\xa0", ' '},     /* no-break space */
				   {"\xe2\x80\x89", ' '}, /* thin space */
				   {"\xe2\x80\xaf", ' '}, /* narrow no-break space */
				   {"'", '\''},
				   {"\xe2\x80\x99", '\''}};

typedef struct Number
{
	bool        is_negative;
	const char *runs[RUNS_MAX]; /* of digits */
	size_t      lengths[RUNS_MAX];
	char        marks[RUNS_MAX]; /* marks[i] is after runs[i] */
	int         nruns;
	int         decimal_run; /* the run of decimals; nruns: there are none */
	int         exponent;
} Number;

/* The bytes of a mark that is here; 0 if there is none. */
static size_t
mark_at(const char *text, char *kind)
{
	if (*text == '.' || *text == ',')
	{
		*kind = *text;
		return 1;
	}
	if (*text != ' ' && *text != '\'' && (unsigned char) *text < 0x80)
		return 0;
	for (size_t i = 0; i < sizeof(group_marks) / sizeof(group_marks[0]); i++)
	{
		size_t bytes = strlen(group_marks[i].text);

		if (strncmp(text, group_marks[i].text, bytes) == 0)
		{
			*kind = group_marks[i].kind;
			return bytes;
		}
	}
	return 0;
}

static const char *
skip_blanks(const char *text)
{
	for (;;)
	{
		char   kind = ' ';
		size_t bytes = strspn(text, "\t\r\n");

		if (bytes == 0)
			bytes = mark_at(text, &kind);
		if (bytes == 0 || kind != ' ')
			return text;
		text += bytes;
	}
}

static const char *
read_sign(const char *text, bool *is_negative)
{
	static const char minus[] = "\xe2\x88\x92";

	*is_negative = *text == '-' || strncmp(text, minus, strlen(minus)) == 0;
	if (*text == '-' || *text == '+')
		return text + 1;
	return *is_negative ? text + strlen(minus) : text;
}

/* Takes the runs of digits and the marks between them; NULL if there are too many. A blank that no
 * digit follows is no mark. */
static const char *
read_runs(const char *text, Number *number)
{
	for (;;)
	{
		size_t digits = strspn(text, "0123456789");
		size_t bytes;
		char   kind = 0;

		if (number->nruns == RUNS_MAX)
			return NULL;
		number->runs[number->nruns] = text;
		number->lengths[number->nruns] = digits;
		text += digits;
		bytes = mark_at(text, &kind);
		if (bytes == 0 || strspn(text + bytes, "0123456789") == 0)
			kind = 0;
		number->marks[number->nruns++] = kind;
		if (kind == 0)
			return text;
		text += bytes;
	}
}

static const char *
read_exponent(const char *text, int *exponent)
{
	const char *digits;
	size_t      length;

	if (*text != 'e' && *text != 'E')
		return text;
	digits = text + 1 + (text[1] == '+' || text[1] == '-');
	length = strspn(digits, "0123456789");
	if (length == 0 || length > EXPONENT_DIGITS_MAX)
		return NULL;
	*exponent = atoi(digits) * (text[1] == '-' ? -1 : 1);
	return digits + length;
}

static int
count_marks(const Number *number, char kind)
{
	int count = 0;

	for (int i = 0; i + 1 < number->nruns; i++)
		count += number->marks[i] == kind;
	return count;
}

/* Could the only mark of this number be one of a group? "0.125" and "1234.567" could not. */
static bool
may_be_group(const Number *number)
{
	return number->lengths[1] == GROUP_DIGITS && number->lengths[0] >= 1 &&
		   number->lengths[0] <= GROUP_DIGITS && *number->runs[0] != '0';
}

/* Finds which run has the decimals. */
static NumberReading
find_decimals(Number *number, char decimal, bool has_exponent)
{
	char last = number->nruns > 1 ? number->marks[number->nruns - 2] : 0;

	number->decimal_run = number->nruns;
	if (last != '.' && last != ',')
		return NUMBER_READ;
	if (decimal == 0 && count_marks(number, last) == 1)
	{
		if (number->nruns == 2 && may_be_group(number) && !has_exponent)
			return NUMBER_AMBIGUOUS;
		decimal = last;
	}
	if (last == decimal)
		number->decimal_run = number->nruns - 1;
	return NUMBER_READ;
}

/* Before the decimals: one run, or groups with one and the same mark, which is not the decimal one.
 */
static bool
has_good_groups(const Number *number)
{
	int  nwhole = number->decimal_run;
	char decimal = nwhole < number->nruns ? number->marks[nwhole - 1] : 0;

	if (nwhole == 1)
		return number->lengths[0] > 0 || number->decimal_run < number->nruns;
	if (number->lengths[0] < 1 || number->lengths[0] > GROUP_DIGITS || *number->runs[0] == '0')
		return false;
	for (int i = 1; i < nwhole; i++)
	{
		if (number->lengths[i] != GROUP_DIGITS || number->marks[i - 1] != number->marks[0] ||
			number->marks[i - 1] == decimal)
			return false;
	}
	return true;
}

/*
 * Writes the digits with the point moved by the exponent. false if there is no room. The runs have
 * NUMBER_BYTES_MAX digits at most.
 */
static bool
write_plain(const Number *number, char plain[NUMBER_ROOM])
{
	char  digits[NUMBER_BYTES_MAX + 1];
	int   ndigits = 0;
	int   point = 0; /* digits before it */
	int   from = 0;
	char *to = plain;

	for (int i = 0; i < number->nruns; i++)
	{
		memcpy(digits + ndigits, number->runs[i], number->lengths[i]);
		ndigits += (int) number->lengths[i];
		if (i < number->decimal_run)
			point = ndigits;
	}
	digits[ndigits] = '\0';
	point += number->exponent;
	while (from + 1 < point && (from >= ndigits || digits[from] == '0'))
		from++;
	if (point - from > NUMBER_BYTES_MAX || ndigits - point > NUMBER_BYTES_MAX)
		return false;
	if (number->is_negative && strspn(digits, "0") < (size_t) ndigits)
		*to++ = '-';
	if (point <= from)
		*to++ = '0';
	for (int i = from; i < point; i++)
		*to++ = i < ndigits ? digits[i] : '0';
	if (ndigits > point)
		*to++ = '.';
	for (int i = point; i < ndigits; i++)
		*to++ = i < from ? '0' : digits[i];
	*to = '\0';
	return true;
}

/* Almost all are: digits, with decimals behind a point that is known to be one. */
static bool
is_plain_already(const char *text, char decimal)
{
	size_t digits = strspn(text, "0123456789");
	size_t length = digits;

	if (decimal == '.' && text[digits] == '.')
	{
		size_t decimals = strspn(text + digits + 1, "0123456789");

		if (decimals == 0)
			return false;
		length += 1 + decimals;
	}
	return digits > 0 && length <= NUMBER_BYTES_MAX && text[length] == '\0' &&
		   (*text != '0' || digits == 1);
}

NumberReading
number_read(const char *text, char decimal, char plain[NUMBER_ROOM])
{
	Number        number = {.nruns = 0};
	const char   *mantissa_end;
	const char   *end;
	NumberReading reading;
	bool          has_exponent;

	if (is_plain_already(text, decimal))
	{
		memcpy(plain, text, strlen(text) + 1);
		return NUMBER_READ;
	}
	text = skip_blanks(text);
	if (strlen(text) > NUMBER_BYTES_MAX)
		return NUMBER_NONE;
	mantissa_end = read_runs(read_sign(text, &number.is_negative), &number);
	end = mantissa_end != NULL ? read_exponent(mantissa_end, &number.exponent) : NULL;
	if (end == NULL || *skip_blanks(end) != '\0')
		return NUMBER_NONE;
	has_exponent = end != mantissa_end;
	reading = find_decimals(&number, decimal, has_exponent);
	if (reading == NUMBER_READ &&
		(!has_good_groups(&number) || (has_exponent && number.decimal_run > 1)))
		reading = NUMBER_NONE;
	if (reading == NUMBER_READ && !write_plain(&number, plain))
		reading = NUMBER_NONE;
	return reading;
}

bool
number_is_count(const char *plain, int64_t *count)
{
	char *end;

	errno = 0;
	*count = strtoll(plain, &end, 10);
	if (*end == '.')
		end += 1 + strspn(end + 1, "0");
	return errno == 0 && end != plain && *end == '\0' && *count >= -COUNT_MAX &&
		   *count <= COUNT_MAX;
}
