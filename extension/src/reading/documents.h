/*
 * documents.h
 *		What the documents of the HTTP API are made of.
 */
#ifndef OA_DOCUMENTS_H
#define OA_DOCUMENTS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

/* Members of an object under way, each with a comma before it unless it is the first. A column's
 * text is a string, a number's its decimal string; times are written as json_build_object() does.
 */
extern void document_member(StringInfo json, const char *name);
extern void document_string(StringInfo json, const char *name, const char *value);
extern void document_int64(StringInfo json, const char *name, int64 value);
extern void document_bool(StringInfo json, const char *name, bool value);
extern void document_decimal(StringInfo json, const char *name, Datum number, bool is_null);
extern void document_time(StringInfo json, const char *name, Datum at, bool is_null);
extern void document_text_column(StringInfo json, const char *name, TupleTableSlot *slot,
								 int column);
extern void document_int_column(StringInfo json, const char *name, TupleTableSlot *slot,
								int column);
extern void document_decimal_column(StringInfo json, const char *name, TupleTableSlot *slot,
									int column);
extern void document_time_column(StringInfo json, const char *name, TupleTableSlot *slot,
								 int column);

/* document_next begins the next object of an array, or its first. */
extern void document_next(StringInfo json, bool *is_first);

/* Writes one document for a key of the argument; false if there is no such thing. */
typedef bool (*WriteDocument)(void *work, Datum key, StringInfo json);

/*
 * documents_return makes a row of each key of the function's first argument, an array, that there
 * is a document of: its place in the array, from 1, and the document.
 */
extern void documents_return(FunctionCallInfo fcinfo, WriteDocument write, void *work);

#endif /* OA_DOCUMENTS_H */
