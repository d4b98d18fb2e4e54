/*
 * documents.c
 *		What the documents of the HTTP API are made of.
 */
#include "postgres.h"

#include "reading/documents.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "outbox/events.h"
#include "store/rows.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

void
document_member(StringInfo json, const char *name)
{
	if (json->len > 0 && json->data[json->len - 1] != '{')
		appendStringInfoString(json, ", ");
	appendStringInfo(json, "\"%s\": ", name);
}

void
document_string(StringInfo json, const char *name, const char *value)
{
	document_member(json, name);
	json_append_string(json, value);
}

void
document_int64(StringInfo json, const char *name, int64 value)
{
	document_member(json, name);
	appendStringInfo(json, INT64_FORMAT, value);
}

void
document_bool(StringInfo json, const char *name, bool value)
{
	document_member(json, name);
	appendStringInfoString(json, value ? "true" : "false");
}

void
document_time(StringInfo json, const char *name, Datum at, bool is_null)
{
	char text[MAXDATELEN + 1];

	document_member(json, name);
	if (is_null)
		appendStringInfoString(json, "null");
	else
		appendStringInfo(json, "\"%s\"", JsonEncodeDateTime(text, at, TIMESTAMPTZOID, NULL));
}

void
document_text_column(StringInfo json, const char *name, TupleTableSlot *slot, int column)
{
	document_string(json, name, row_text(slot, column));
}

void
document_int_column(StringInfo json, const char *name, TupleTableSlot *slot, int column)
{
	document_int64(json, name, DatumGetInt32(row_column(slot, column)));
}

void
document_decimal(StringInfo json, const char *name, Datum number, bool is_null)
{
	document_string(json, name,
					is_null ? NULL : DatumGetCString(DirectFunctionCall1(numeric_out, number)));
}

void
document_decimal_column(StringInfo json, const char *name, TupleTableSlot *slot, int column)
{
	document_decimal(json, name, row_column(slot, column), false);
}

void
document_time_column(StringInfo json, const char *name, TupleTableSlot *slot, int column)
{
	bool  is_null;
	Datum at = row_get(slot, column, &is_null);

	document_time(json, name, at, is_null);
}

void
document_next(StringInfo json, bool *is_first)
{
	appendStringInfoString(json, *is_first ? "{" : ", {");
	*is_first = false;
}

void
documents_return(FunctionCallInfo fcinfo, WriteDocument write, void *work)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ArrayType     *array = PG_GETARG_ARRAYTYPE_P(0);
	MemoryContext  context =
		AllocSetContextCreate(CurrentMemoryContext, "document", ALLOCSET_DEFAULT_SIZES);
	Datum *keys;
	bool  *nulls;
	int    count;
	int16  length;
	bool   by_value;
	char   align;

	get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &by_value, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), length, by_value, align, &keys, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		MemoryContext  old_context;
		StringInfoData json;

		CHECK_FOR_INTERRUPTS();
		if (nulls[i])
			continue;
		old_context = MemoryContextSwitchTo(context);
		initStringInfo(&json);
		if (write(work, keys[i], &json))
		{
			Datum values[2] = {Int32GetDatum(i + 1),
							   PointerGetDatum(cstring_to_text_with_len(json.data, json.len))};
			bool  is_null[2] = {false, false};

			tuplestore_putvalues(result->setResult, result->setDesc, values, is_null);
		}
		MemoryContextSwitchTo(old_context);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}
