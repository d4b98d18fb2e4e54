/*
 * feed_reader_csv.c
 *		The columns and rows of a feed that is CSV (libcsv's callbacks).
 */
#include <string.h>

#include "sync/feed_reader_state.h"

static void
on_csv_header(Feed *feed, const char *text, size_t bytes)
{
	unsigned found = 0;

	if (feed->ncolumns == CSV_COLUMNS_MAX)
	{
		feed_reader_fail(feed, "the CSV has too many columns");
		return;
	}
	for (PathId path = PATH_ID; path < PATH_COUNT; path++)
	{
		const Path *p = &feed->paths[path];

		if (p->is_set && strlen(p->column) == bytes && memcmp(p->column, text, bytes) == 0)
			found |= 1u << path;
	}
	feed->columns[feed->ncolumns++] = found;
}

void
feed_reader_on_csv_field(void *text, size_t bytes, void *context)
{
	Feed *feed = context;
	int   column = feed->column++;

	if (!feed->header_seen)
	{
		on_csv_header(feed, text, bytes);
		return;
	}
	feed->row_has_text = feed->row_has_text || bytes > 0;
	for (PathId path = PATH_ID; path < PATH_COUNT && column < feed->ncolumns && bytes > 0; path++)
	{
		if (feed->columns[column] & (1u << path))
			feed_reader_set_value(feed, path, VALUE_STRING, text, bytes);
	}
}

static bool
has_column(const Feed *feed, PathId path, PathId alternative)
{
	for (int i = 0; i < feed->ncolumns; i++)
	{
		if (feed->columns[i] & ((1u << path) | (1u << alternative)))
			return true;
	}
	return false;
}

void
feed_reader_on_csv_row(int end, void *context)
{
	Feed *feed = context;

	(void) end;
	feed->column = 0;
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
