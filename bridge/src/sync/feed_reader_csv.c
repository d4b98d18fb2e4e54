/*
 * feed_reader_csv.c
 *		The columns and rows of a feed that is CSV (libcsv's callbacks), and what office programs
 *		put around them.
 *
 * The first line is kept until it has ended: it says what the delimiter is, by a line
 * "sep=;" before the names of the columns, or by what stands between these.
 */
#include <string.h>
#include <strings.h>

#include "sync/feed_reader_state.h"

#define DEFAULT_DELIMITER ','
#define NO_BREAK_SPACE    "\xc2\xa0"

/* ---------- the head ---------- */

/* The delimiter that a line of names has most of, outside of quotes. */
static char
guess_delimiter(const char *line, size_t bytes)
{
	static const char delimiters[] = {',', ';', '\t', '|'};
	int               counts[sizeof(delimiters)] = {0};
	int               best = 0;
	bool              is_quoted = false;

	for (size_t i = 0; i < bytes; i++)
	{
		is_quoted ^= line[i] == '"';
		for (size_t d = 0; d < sizeof(delimiters) && !is_quoted; d++)
			counts[d] += line[i] == delimiters[d];
	}
	for (int d = 1; d < (int) sizeof(delimiters); d++)
	{
		if (counts[d] > counts[best])
			best = d;
	}
	return counts[best] > 0 ? delimiters[best] : DEFAULT_DELIMITER;
}

/* Is the line, which has no end in it, "sep=" and a delimiter? */
static bool
is_separator_line(const char *line, size_t bytes)
{
	if (bytes >= 2 && line[0] == '"' && line[bytes - 1] == '"')
	{
		line++;
		bytes -= 2;
	}
	return bytes == strlen("sep=") + 1 && strncasecmp(line, "sep=", strlen("sep=")) == 0;
}

static size_t
line_end(const Feed *feed)
{
	size_t end = 0;

	while (end < feed->nhead && feed->head[end] != '\n' && feed->head[end] != '\r')
		end++;
	return end;
}

static void
drop_line(Feed *feed, size_t end)
{
	while (end < feed->nhead && (feed->head[end] == '\n' || feed->head[end] == '\r'))
		end++;
	feed->nhead -= end;
	memmove(feed->head, feed->head + end, feed->nhead);
}

/* A field in quotes goes on. False if it has a quote that ends nothing and is of several lines. */
static bool
go_on_in_quotes(Feed *feed, char character)
{
	feed->has_blank = false;
	feed->has_line_end |= character == '\n' || character == '\r';
	if (character == '"')
		feed->csv_place = CSV_AFTER_QUOTE;
	return !feed->has_line_end || !feed->has_open_quote;
}

/*
 * Where the row is after the next character. libcsv takes a quote that is neither doubled nor the
 * field's end for part of the field, as it often is (5" pipe); but if the field is then of several
 * lines, it has swallowed rows, and shows their values for its own. False in that case.
 */
static bool
go_on(Feed *feed, char character)
{
	if (feed->csv_place == CSV_IN_QUOTES)
		return go_on_in_quotes(feed, character);
	if (character == '\n' || character == '\r' || character == feed->delimiter)
	{
		feed->csv_place = CSV_FIELD_BEGINS;
		feed->has_open_quote = feed->has_line_end = false;
	}
	else if (character == ' ' || character == '\t')
		feed->has_blank = true; /* around a field */
	else if (feed->csv_place == CSV_FIELD_BEGINS)
		feed->csv_place = character == '"' ? CSV_IN_QUOTES : CSV_IN_FIELD;
	else if (feed->csv_place == CSV_AFTER_QUOTE && character == '"' && feed->has_blank)
		feed->has_blank = false; /* it may end the field, too */
	else if (feed->csv_place == CSV_AFTER_QUOTE)
	{
		feed->csv_place = CSV_IN_QUOTES;
		feed->has_open_quote |= character != '"'; /* else it was doubled */
		return go_on_in_quotes(feed, character == '"' ? ' ' : character);
	}
	return true;
}

static bool
parse_csv(Feed *feed, const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
	{
		if (!go_on(feed, text[i]))
			return feed_reader_fail(feed, "a quote within a field of the CSV has swallowed rows");
	}
	if (csv_parse(&feed->csv, text, bytes, feed_reader_on_csv_field, feed_reader_on_csv_row,
				  feed) != bytes)
		return feed_reader_fail(feed, csv_strerror(csv_error(&feed->csv)));
	return feed->error[0] == '\0';
}

/* Looks at what is kept of the head; begins to take rows if its first line is whole, or is_last. */
static bool
look_at_head(Feed *feed, bool is_last)
{
	size_t end = line_end(feed);

	while (end < feed->nhead || is_last)
	{
		bool is_separator = is_separator_line(feed->head, end);

		if (is_separator && feed->delimiter == 0)
			feed->delimiter = feed->head[end - (feed->head[0] == '"' ? 2 : 1)];
		if (!is_separator && (end > 0 || end == feed->nhead))
			break;
		drop_line(feed, end);
		end = line_end(feed);
	}
	if (end == feed->nhead && !is_last)
		return true;
	feed->head_is_done = true;
	if (feed->delimiter == 0)
		feed->delimiter = guess_delimiter(feed->head, end);
	csv_set_delim(&feed->csv, (unsigned char) feed->delimiter);
	return feed->nhead == 0 || parse_csv(feed, feed->head, feed->nhead);
}

bool
feed_reader_add_csv(Feed *feed, const char *text, size_t bytes)
{
	char *longer;

	if (feed->head_is_done)
		return parse_csv(feed, text, bytes);
	if (feed->nhead + bytes > HEAD_BYTES_MAX)
	{
		/* a piece may be longer than the line that it ends */
		if (memchr(text, '\n', bytes) == NULL && memchr(text, '\r', bytes) == NULL)
			return feed_reader_fail(feed, "the first line of the CSV has no end");
	}
	longer = realloc(feed->head, feed->nhead + bytes);
	if (longer == NULL)
		return feed_reader_fail(feed, "out of memory");
	feed->head = longer;
	memcpy(feed->head + feed->nhead, text, bytes);
	feed->nhead += bytes;
	return look_at_head(feed, false);
}

bool
feed_reader_finish_csv(Feed *feed)
{
	if (!feed->head_is_done && !look_at_head(feed, true))
		return false;
	/* strict only here: a quote within a field is common, an open one at the end has swallowed
	 * rows */
	(void) csv_set_opts(&feed->csv, CSV_STRICT | CSV_STRICT_FINI);
	if (csv_fini(&feed->csv, feed_reader_on_csv_field, feed_reader_on_csv_row, feed) != 0)
		return feed_reader_fail(feed, "the CSV ends within quotes");
	return feed->header_seen || feed_reader_fail(feed, "the CSV is empty");
}

/* ---------- fields ---------- */

/* Without blanks around it, of which libcsv knows only some and leaves those within quotes. */
static const char *
trim(const char *text, size_t *bytes)
{
	const size_t length = strlen(NO_BREAK_SPACE);

	for (;;)
	{
		size_t cut = *bytes > 0 && (*text == ' ' || *text == '\t')                   ? 1
					 : *bytes >= length && memcmp(text, NO_BREAK_SPACE, length) == 0 ? length
																					 : 0;

		if (cut == 0)
			break;
		text += cut;
		*bytes -= cut;
	}
	for (;;)
	{
		const char *end = text + *bytes;

		if (*bytes > 0 && (end[-1] == ' ' || end[-1] == '\t'))
			*bytes -= 1;
		else if (*bytes >= length && memcmp(end - length, NO_BREAK_SPACE, length) == 0)
			*bytes -= length;
		else
			return text;
	}
}

/* A text that must not become a number is written as a formula, ="007". */
static const char *
unwrap(const char *text, size_t *bytes)
{
	if (*bytes < 3 || memcmp(text, "=\"", 2) != 0 || text[*bytes - 1] != '"')
		return text;
	*bytes -= 3;
	return text + 2;
}

/* ---------- columns ---------- */

static bool
is_column(const Path *path, const char *text, size_t bytes, bool *is_exact)
{
	if (!path->is_set || strlen(path->column) != bytes)
		return false;
	*is_exact = memcmp(path->column, text, bytes) == 0;
	return strncasecmp(path->column, text, bytes) == 0;
}

/* The first column of a name, and of these one that is written just so. */
static void
on_csv_header(Feed *feed, const char *text, size_t bytes)
{
	int column = feed->ncolumns++;

	if (column == 0)
	{
		for (PathId path = 0; path < PATH_COUNT; path++)
			feed->column_of[path] = -1;
	}
	if (feed->ncolumns > CSV_COLUMNS_MAX)
	{
		feed_reader_fail(feed, "the CSV has too many columns");
		return;
	}
	text = trim(text, &bytes);
	for (PathId path = PATH_ID; path < PATH_COUNT; path++)
	{
		bool is_exact;

		if (!is_column(&feed->paths[path], text, bytes, &is_exact) ||
			(feed->column_of[path] >= 0 && (feed->column_is_exact[path] || !is_exact)))
			continue;
		feed->column_of[path] = column;
		feed->column_is_exact[path] = is_exact;
	}
}

void
feed_reader_on_csv_field(void *text, size_t bytes, void *context)
{
	Feed       *feed = context;
	int         column = feed->column++;
	const char *value = text;

	if (!feed->header_seen)
	{
		on_csv_header(feed, text, bytes);
		return;
	}
	value = unwrap(trim(value, &bytes), &bytes);
	feed->row_has_text = feed->row_has_text || bytes > 0;
	/* a decimal comma without quotes has moved what follows it */
	feed->row_is_shifted = feed->row_is_shifted || (column >= feed->ncolumns && bytes > 0);
	feed->row_excess += column >= feed->ncolumns;
	for (PathId path = PATH_ID; path < PATH_COUNT; path++)
	{
		if (feed->column_of[path] == column)
			feed_reader_set_value(feed, path, VALUE_STRING, value, bytes);
	}
}

/* ---------- rows ---------- */

/*
 * Is the one value that the row has too many its last column, empty, moved by a price with a comma?
 * Not where nothing could have been moved, or rows with a point in their price have one too many,
 * too.
 */
static bool
is_moved_by_comma(Feed *feed)
{
	const char *price = feed->values[PATH_PRICE].text;
	int         of_price = feed->column_of[PATH_PRICE];
	int         of_quantity =
		feed->column_of[feed->column_of[PATH_QUANTITY] >= 0 ? PATH_QUANTITY : PATH_QUANTITY_ALT];

	if (feed->row_excess != 1 || feed->delimiter != ',' || price == NULL)
		return false;
	feed->has_excess |= strchr(price, '.') != NULL;
	return !feed->has_excess && of_price < of_quantity && of_quantity < feed->ncolumns - 1;
}

static bool
has_column(const Feed *feed, PathId path, PathId alternative)
{
	return feed->ncolumns > 0 && (feed->column_of[path] >= 0 || feed->column_of[alternative] >= 0);
}

void
feed_reader_on_csv_row(int end, void *context)
{
	Feed *feed = context;

	(void) end;
	feed->column = 0;
	feed->row_is_shifted = feed->row_is_shifted || is_moved_by_comma(feed);
	feed->row_excess = 0;
	if (feed->header_seen)
	{
		/* office programs write the rows below a table too, as delimiters alone */
		if (feed->row_has_text)
			feed_reader_finish_item(feed);
		feed->row_has_text = false;
		return;
	}
	feed->header_seen = true;
	if (!has_column(feed, PATH_ID, PATH_ID_ALT))
		feed_reader_fail(feed, "the CSV has no column for the id");
	else if (!has_column(feed, PATH_QUANTITY, PATH_QUANTITY_ALT))
		feed_reader_fail(feed, "the CSV has no column for the quantity");
}
