/*
 * feed_time.c
 *		When a vendor says that it counted, in the forms that suppliers' interfaces use.
 *
 * Each form is tried; one that does not fit to its last character is none. Nothing is left to
 * what a server or a locale takes for a date.
 */
#include "sync/feed_time.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define US_A_SECOND     1000000LL
#define FRACTION_DIGITS 6
#define YEAR_MIN        1970
#define YEAR_MAX        9999

typedef struct Reader
{
	const char *at;
	bool        ok; /* everything has fitted so far */
} Reader;

/* The parts of a time, as its form names them. */
typedef struct Parts
{
	int  year;
	int  month;
	int  day;
	int  hour;
	int  minute;
	int  second;
	int  us;
	int  zone_minutes; /* east of UTC */
	bool has_zone;
} Parts;

/* ---------- pieces ---------- */

/* A number of exactly so many digits. */
static int
digits(Reader *reader, int count)
{
	int number = 0;

	for (int i = 0; i < count; i++)
	{
		if (*reader->at < '0' || *reader->at > '9')
		{
			reader->ok = false;
			return 0;
		}
		number = number * 10 + (*reader->at++ - '0');
	}
	return number;
}

static bool
accept(Reader *reader, const char *text)
{
	if (strncasecmp(reader->at, text, strlen(text)) != 0)
		return false;
	reader->at += strlen(text);
	return true;
}

static void
expect(Reader *reader, const char *text)
{
	if (!accept(reader, text))
		reader->ok = false;
}

static void
skip_blanks(Reader *reader)
{
	reader->at += strspn(reader->at, " \t");
}

static int
fraction_us(Reader *reader)
{
	int us = 0;
	int count = (int) strspn(reader->at, "0123456789");

	reader->ok &= count > 0;
	for (int i = 0; i < FRACTION_DIGITS; i++)
		us = us * 10 + (i < count ? reader->at[i] - '0' : 0);
	reader->at += count;
	return us;
}

static void
read_zone(Reader *reader, Parts *parts)
{
	int sign;

	skip_blanks(reader);
	if (*reader->at == '\0')
		return;
	parts->has_zone = true;
	if (accept(reader, "Z") || accept(reader, "UTC") || accept(reader, "GMT") ||
		accept(reader, "UT"))
		return;
	sign = *reader->at == '-' ? -1 : 1;
	if (*reader->at != '-' && *reader->at != '+')
	{
		reader->ok = false;
		return;
	}
	reader->at++;
	parts->zone_minutes = digits(reader, 2) * 60;
	if (*reader->at != '\0' && *reader->at != ')')
	{
		(void) accept(reader, ":");
		parts->zone_minutes += digits(reader, 2);
	}
	parts->zone_minutes *= sign;
}

static void
read_clock(Reader *reader, Parts *parts, const char *separator)
{
	parts->hour = digits(reader, 2);
	expect(reader, separator);
	parts->minute = digits(reader, 2);
	if (*separator != '\0' ? !accept(reader, separator) : strspn(reader->at, "0123456789") < 2)
		return;
	parts->second = digits(reader, 2);
	if (accept(reader, ".") || accept(reader, ","))
		parts->us = fraction_us(reader);
}

/* ---------- forms ---------- */

static void
read_iso(Reader *reader, Parts *parts)
{
	const char *separator;

	parts->year = digits(reader, 4);
	separator = *reader->at == '-' ? "-" : *reader->at == '/' ? "/" : "";
	expect(reader, separator);
	parts->month = digits(reader, 2);
	expect(reader, separator);
	parts->day = digits(reader, 2);
	if (*reader->at == '\0')
		return;
	if (*separator == '\0' || !accept(reader, " "))
	{
		/* 20260102030405 too */
		if (!accept(reader, "T") && *separator != '\0')
			reader->ok = false;
	}
	read_clock(reader, parts, *separator != '\0' ? ":" : "");
	read_zone(reader, parts);
}

/* [Fri, ]02 Jan 2026 03:04:05 GMT */
static void
read_rfc(Reader *reader, Parts *parts)
{
	static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
	static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
										 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

	for (int i = 0; i < 7; i++)
	{
		if (accept(reader, days[i]))
		{
			expect(reader, ",");
			skip_blanks(reader);
			break;
		}
	}
	parts->day = digits(reader, reader->at[0] != '\0' && reader->at[1] == ' ' ? 1 : 2);
	expect(reader, " ");
	for (int i = 0; i < 12 && parts->month == 0; i++)
		parts->month = accept(reader, months[i]) ? i + 1 : 0;
	expect(reader, " ");
	parts->year = digits(reader, 4);
	expect(reader, " ");
	read_clock(reader, parts, ":");
	read_zone(reader, parts);
}

static bool
is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static bool
is_time(const Parts *parts)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (parts->year < YEAR_MIN || parts->year > YEAR_MAX || parts->month < 1 || parts->month > 12)
		return false;
	return parts->day >= 1 &&
		   parts->day <= lengths[parts->month - 1] + (parts->month == 2 && is_leap(parts->year)) &&
		   parts->hour <= 23 && parts->minute <= 59 && parts->second <= 60 &&
		   abs(parts->zone_minutes) <= 16 * 60;
}

static bool
read_form(const char *text, void (*form)(Reader *, Parts *), FeedTime *time)
{
	Reader    reader = {.at = text, .ok = true};
	Parts     parts = {.year = 0};
	struct tm tm;

	form(&reader, &parts);
	if (!reader.ok || *reader.at != '\0' || !is_time(&parts))
		return false;
	tm = (struct tm){.tm_year = parts.year - 1900,
					 .tm_mon = parts.month - 1,
					 .tm_mday = parts.day,
					 .tm_hour = parts.hour,
					 .tm_min = parts.minute - parts.zone_minutes,
					 .tm_sec = parts.second};
	*time = (FeedTime){.at_us = (long long) timegm(&tm) * US_A_SECOND + parts.us,
					   .is_local = !parts.has_zone};
	return true;
}

/* 2026010203 may be the third hour of a day, or a second of 2034. */
static bool
looks_like_a_date(const char *text)
{
	Reader reader = {.at = text, .ok = true};
	int    year = digits(&reader, 4);
	int    month = digits(&reader, 2);
	int    day = digits(&reader, 2);
	int    hour = digits(&reader, 2);

	return year >= 2000 && year < 2100 && month >= 1 && month <= 12 && day >= 1 && day <= 31 &&
		   hour < 24;
}

/* Seconds, milliseconds or microseconds since 1970, by how many digits they are. */
static bool
read_epoch(const char *text, FeedTime *time)
{
	size_t    count = strspn(text, "0123456789");
	long long number = strtoll(text, NULL, 10);
	Reader    reader = {.at = text + count + 1, .ok = true};
	int       us = text[count] == '.' && count == 10 ? fraction_us(&reader) : 0;

	if (text[count] == '.' ? count != 10 || !reader.ok || *reader.at != '\0' : text[count] != '\0')
		return false;
	if ((count != 10 && count != 13 && count != 16) || (count == 10 && looks_like_a_date(text)))
		return false;
	*time = (FeedTime){.at_us = count == 10   ? number * US_A_SECOND + us
								: count == 13 ? number * 1000
											  : number};
	return true;
}

/* /Date(1767323045000)/, whose zone, if there is one, changes nothing. */
static bool
read_json_date(const char *text, FeedTime *time)
{
	Reader reader = {.at = text, .ok = true};
	Parts  zone = {.year = 0};

	expect(&reader, "/Date(");
	if (!reader.ok || strspn(reader.at, "0123456789") != 13)
		return false;
	*time = (FeedTime){.at_us = strtoll(reader.at, NULL, 10) * 1000};
	reader.at += 13;
	if (*reader.at != ')')
		read_zone(&reader, &zone);
	expect(&reader, ")/");
	return reader.ok && *reader.at == '\0';
}

bool
feed_time_read(const char *text, FeedTime *time)
{
	return read_epoch(text, time) || read_form(text, read_iso, time) ||
		   read_form(text, read_rfc, time) || read_json_date(text, time);
}
