/*
 * feed_reader_state.h
 *		What the files of the feed reader share.
 */
#ifndef FEED_READER_STATE_H
#define FEED_READER_STATE_H

#include <csv.h>
#include <stdint.h>
#include <yajl/yajl_parse.h>

#include "base/text.h"
#include "feed/rules.h"
#include "sync/charset.h"
#include "sync/feed_reader.h"
#include "sync/feed_time.h"

#define DEPTH_MAX       64
#define SEGMENTS_MAX    16
#define BLOCK_BYTES     65536
#define CSV_COLUMNS_MAX 1000
#define ERROR_BYTES_MAX 256
#define ZONE_BYTES_MAX  256
#define TIME_BYTES_MAX  64
#define HEAD_BYTES_MAX  65536 /* of a CSV, before its first line has ended */

/* Where to look: two from the top of the feed, the others from an item. */
typedef enum PathId
{
	PATH_ITEMS,
	PATH_AS_OF,
	PATH_ID,
	PATH_ID_ALT,
	PATH_QUANTITY,
	PATH_QUANTITY_ALT,
	PATH_PRICE,
	PATH_NAME,
	PATH_COUNT
} PathId;

#define TOP_PATHS  ((1u << PATH_ITEMS) | (1u << PATH_AS_OF))
#define ITEM_PATHS (((1u << PATH_COUNT) - 1) & ~TOP_PATHS)

typedef struct Path
{
	bool  is_set;
	char *text;   /* with its dots replaced by ends of string */
	char *column; /* as it was: the name of a CSV column */
	char *segments[SEGMENTS_MAX];
	int   nsegments;
} Path;

typedef enum ValueKind
{
	VALUE_NONE,
	VALUE_STRING,
	VALUE_NUMBER,
	VALUE_OTHER
} ValueKind;

typedef struct Value
{
	ValueKind   kind;
	const char *text; /* of a string or number */
} Value;

typedef enum PageSign
{
	PAGE_SIGN_NONE,
	PAGE_SIGN_NEXT, /* its value, unless it is nothing, is where the next one is */
	PAGE_SIGN_MORE  /* true: there is one */
} PageSign;

/* One open container. */
typedef struct Level
{
	bool     is_array;
	unsigned paths; /* those that lead through it */
	int      depth; /* how many of their segments do */
	unsigned key;   /* those of them that the current key goes on with */
	PageSign sign;  /* what the current key says of further pages */
} Level;

/* Where in a CSV's row its last piece ended. */
typedef enum CsvPlace
{
	CSV_FIELD_BEGINS,
	CSV_IN_FIELD,
	CSV_IN_QUOTES,
	CSV_AFTER_QUOTE /* which ends the field, or is doubled, or is part of it */
} CsvPlace;

/* Texts are cut from blocks, which are freed together. */
typedef struct Block
{
	struct Block *next;
	char          bytes[];
} Block;

struct Feed
{
	Path paths[PATH_COUNT];
	bool is_mapped;
	bool is_csv;
	char delimiter;            /* 0: what the first line looks as if it had */
	char decimal;              /* the mark of numbers that are texts; 0: nobody has said */
	char zone[ZONE_BYTES_MAX]; /* of a time that names none; "": nobody has said */
	char error[ERROR_BYTES_MAX];

	Charset *charset;

	yajl_handle json;
	Text        token; /* of the JSON: what its last piece ended within */
	bool        in_string;
	bool        in_escape;
	Level       levels[DEPTH_MAX];
	int         nlevels;
	int         items_level; /* the array of items is levels[items_level]; -1: not in it */
	bool        items_seen;
	bool        has_next_page;

	struct csv_parser csv;
	CsvPlace          csv_place;
	bool   has_open_quote; /* the field that is quoted has a quote that ends nothing ... */
	bool   has_line_end;   /* ... and goes on in another line */
	bool   has_blank;      /* after a quote */
	bool   csv_open;
	char  *head; /* what comes before the first line has ended */
	size_t nhead;
	bool   head_is_done;
	int    column_of[PATH_COUNT]; /* -1: there is none */
	bool   column_is_exact[PATH_COUNT];
	int    ncolumns;
	int    column;
	bool   header_seen;
	bool   row_has_text;
	bool   row_is_shifted; /* it has more values than there are columns */
	int    row_excess;     /* empty ones behind the last column */
	bool   has_excess;     /* rows end with a delimiter more than the header */

	Value     values[PATH_COUNT]; /* of the item at hand */
	FeedItem *items;
	size_t    nitems;
	size_t    room;
	size_t    items_max;
	int       nnameless; /* items without a SKU */
	int       nunreadable;
	int       refusals[RULE_COUNT]; /* of them, by rule */
	FeedTime  as_of;
	int       next_index;
	bool      is_sorted;
	Block    *blocks;
	size_t    block_left;
	char     *block_next;
};

extern const yajl_callbacks feed_reader_json_callbacks;

extern bool        feed_reader_fail(Feed *feed, const char *why);
extern void        feed_reader_set_value(Feed *feed, PathId path, ValueKind kind, const char *text,
										 size_t bytes);
extern const char *feed_reader_keep_text(Feed *feed, const char *text, size_t bytes);
extern void        feed_reader_add_item(Feed *feed, const FeedItem *item);
extern void        feed_reader_refuse_element(Feed *feed);
extern void        feed_reader_finish_item(Feed *feed);
extern bool        feed_reader_add_csv(Feed *feed, const char *text, size_t bytes);
extern bool        feed_reader_finish_csv(Feed *feed);
extern bool        feed_reader_add_json(Feed *feed, const char *data, size_t bytes);
extern bool        feed_reader_end_json(Feed *feed);
extern void        feed_reader_on_csv_field(void *text, size_t bytes, void *context);
extern void        feed_reader_on_csv_row(int end, void *context);

#endif /* FEED_READER_STATE_H */
