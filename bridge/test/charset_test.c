/*
 * charset_test.c
 *		Bytes to UTF-8, cut into pieces of every size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/charset.h"

typedef struct Decoded
{
	char   text[256];
	size_t bytes;
} Decoded;

static bool
take(void *context, const char *text, size_t bytes)
{
	Decoded *decoded = context;

	if (decoded->bytes + bytes >= sizeof(decoded->text))
		return false;
	memcpy(decoded->text + decoded->bytes, text, bytes);
	decoded->bytes += bytes;
	return true;
}

static void
expect(const char *said, const char *data, size_t bytes, const char *text)
{
	for (size_t piece = 1; piece <= bytes + 1; piece++)
	{
		Decoded  decoded = {.bytes = 0};
		Charset *charset = charset_create(said, take, &decoded);
		bool     ok = true;

		for (size_t at = 0; ok && at < bytes; at += piece)
			ok = charset_add(charset, data + at, bytes - at < piece ? bytes - at : piece);
		assert_int_equal(ok && charset_finish(charset), text != NULL);
		if (text != NULL)
			assert_string_equal(decoded.text, text);
		else
			assert_string_equal(charset_unknown(charset), said);
		charset_free(charset);
	}
}

#define EXPECT(said, data, text) expect(said, data, sizeof(data) - 1, text)

static void
utf_8_is_passed_on_as_it_is(void **state)
{
	(void) state;
	EXPECT(NULL, "", "");
	EXPECT(NULL, "[", "[");
	EXPECT(NULL, "\xef\xbb\xbf[1]", "[1]");
	EXPECT("utf-8", "\xef\xbb\xbf", "");
	EXPECT("UTF8", "caf\xc3\xa9", "caf\xc3\xa9");
	/* bytes that are no character are somebody else's trouble */
	EXPECT(NULL, "caf\xe9!", "caf\xe9!");
	EXPECT("us-ascii", "caf\xc3\xa9", "caf\xc3\xa9");
}

static void
a_mark_goes_before_what_is_said(void **state)
{
	(void) state;
	EXPECT(NULL, "\xff\xfe[\0\xe9\0]\0", "[\xc3\xa9]");
	EXPECT(NULL, "\xfe\xff\0[\0\xe9\0]", "[\xc3\xa9]");
	EXPECT("windows-1252", "\xff\xfe[\0]\0", "[]");
	EXPECT("iso-8859-1", "\xef\xbb\xbf\xc3\xa9", "\xc3\xa9");
	EXPECT(NULL, "\xff\xfe\0\0[\0\0\0]\0\0\0", "[]");
	EXPECT(NULL, "\0\0\xfe\xff\0\0\0[\0\0\0]", "[]");
	/* without a mark, by the zeros between */
	EXPECT(NULL, "[\0]\0", "[]");
	EXPECT(NULL, "\0[\0\xe9\0]", "[\xc3\xa9]");
	EXPECT(NULL, "1\0", "1");
	EXPECT("utf-16", "\0[\0\xe9\0]", "[\xc3\xa9]");
	EXPECT("UTF-16", "[\0]\0", "[]");
	/* a pair of surrogates, cut anywhere */
	EXPECT("utf-16le", "\x3d\xd8\x00\xde[\0", "\xf0\x9f\x98\x80[");
}

static void
what_is_said_is_decoded(void **state)
{
	(void) state;
	EXPECT("windows-1252", "caf\xe9 \x80", "caf\xc3\xa9 \xe2\x82\xac");
	/* as all browsers do: who says the one means the other */
	EXPECT("ISO-8859-1", "\x80", "\xe2\x82\xac");
	EXPECT("latin1", "\xe9", "\xc3\xa9");
	EXPECT("shift_jis", "\x83\x65", "\xe3\x83\x86");
	EXPECT("windows-1251", "\xcf", "\xd0\x9f");
}

static void
what_is_no_character_is_replaced(void **state)
{
	(void) state;
	EXPECT("windows-1252", "a\x81z", "a\xef\xbf\xbdz");
	EXPECT("utf-16le", "a\0\0\xdcz\0", "a\xef\xbf\xbdz");
	EXPECT("utf-16le", "a\0z", "a\xef\xbf\xbd");
	EXPECT("utf-32le", "[\0\0\0\xff\xff\xff\xff]\0\0\0", "[\xef\xbf\xbd]");
	EXPECT("gb18030", "[1, 2\x81\x30", "[1, 2\xef\xbf\xbd");
	/* the end of what was none begins the next one */
	EXPECT("euc-jp", "[1, \xa4\x8f\xb0\xa1", "[1, \xef\xbf\xbd\xe4\xb8\x82");
}

/* Takes so many pieces of text, and no call after it has refused one. */
typedef struct Guest
{
	int  appetite;
	bool has_had_enough;
} Guest;

static bool
eat(void *context, const char *text, size_t bytes)
{
	Guest *guest = context;

	(void) text;
	assert_true(bytes > 0);
	assert_false(guest->has_had_enough);
	guest->has_had_enough = guest->appetite-- == 0;
	return !guest->has_had_enough;
}

static bool
is_served(const char *said, const char *data, size_t bytes, size_t piece, Guest *guest)
{
	Charset *charset = charset_create(said, eat, guest);
	bool     ok = true;

	for (size_t at = 0; ok && at < bytes; at += piece)
		ok = charset_add(charset, data + at, bytes - at < piece ? bytes - at : piece);
	ok = ok && charset_finish(charset);
	assert_null(charset_unknown(charset));
	charset_free(charset);
	return ok;
}

static void
nothing_follows_what_the_sink_refused(void **state)
{
	const struct
	{
		const char *said, *data;
		size_t      bytes;
	} texts[] = {
		{"utf-8", "[12345678]", 10},
		{"windows-1252", "caf\xe9 1234567890", 15},
		{"windows-1252", "a\x81\x81\x81\x81z", 6},
		{"shift_jis", "\x83\x65\x83\x65\x83\x65\x83", 7},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		for (size_t piece = 1; piece <= texts[i].bytes; piece++)
		{
			bool is_done = false;

			for (int appetite = 0; !is_done; appetite++)
			{
				Guest guest = {.appetite = appetite};

				is_done = is_served(texts[i].said, texts[i].data, texts[i].bytes, piece, &guest);
				assert_int_equal(is_done, !guest.has_had_enough);
				assert_true(is_done || appetite < (int) texts[i].bytes);
			}
		}
	}
}

static void
an_unknown_one_is_named(void **state)
{
	(void) state;
	EXPECT("klingon", "[]", NULL);
	EXPECT("utf-16//IGNORE", "[]", NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(utf_8_is_passed_on_as_it_is),
		cmocka_unit_test(a_mark_goes_before_what_is_said),
		cmocka_unit_test(what_is_said_is_decoded),
		cmocka_unit_test(what_is_no_character_is_replaced),
		cmocka_unit_test(nothing_follows_what_the_sink_refused),
		cmocka_unit_test(an_unknown_one_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
