/*
 * request_error.c
 *		Why a request cannot be served: raised, or as a document.
 */
#include "postgres.h"

#include "placement/request.h"

#include "store/check.h"
#include "store/errors.h"

#include "utils/fmgrprotos.h"

void
request_error(OrderRequest *request, int sqlstate, char *message, char *detail, char *field)
{
	RequestError *error;

	if (request->error != NULL)
		return; /* the first is the one to tell */
	error = palloc0(sizeof(RequestError));
	error->sqlstate = sqlstate;
	error->message = message;
	error->detail = detail;
	error->field = field;
	request->error = error;
}

void
request_busy(OrderRequest *request, char *message)
{
	request_error(request, ERRCODE_LOCK_NOT_AVAILABLE, message, NULL, NULL);
}

void
request_error_raise(const RequestError *error)
{
	ereport(ERROR, (errcode(error->sqlstate), errmsg("%s", error->message),
					error->detail  ? errdetail("%s", error->detail)
					: error->field ? errdetail_field(error->field)
								   : 0,
					error->field ? err_field(error->field) : 0,
					error->hint ? errhint("%s", error->hint) : 0));
	pg_unreachable();
}

static void
push_string(JsonbParseState **state, const char *key, const char *value)
{
	JsonbValue v;

	if (value == NULL)
		return;
	v.type = jbvString;
	v.val.string.val = unconstify(char *, key);
	v.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &v);
	v.val.string.val = unconstify(char *, value);
	v.val.string.len = strlen(value);
	pushJsonbValue(state, WJB_VALUE, &v);
}

Jsonb *
request_error_to_jsonb(const RequestError *error)
{
	JsonbParseState *state = NULL;
	JsonbValue      *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_string(&state, "code", unpack_sql_state(error->sqlstate));
	push_string(&state, "message", error->message);
	push_string(&state, "field", error->field);
	push_string(&state, "hint", error->hint);
	if (error->sqlstate == ERRCODE_OA_INSUFFICIENT_STOCK && error->detail != NULL)
	{
		Jsonb *detail =
			DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(error->detail)));
		JsonbValue v;

		v.type = jbvString;
		v.val.string.val = "detail";
		v.val.string.len = strlen("detail");
		pushJsonbValue(&state, WJB_KEY, &v);
		v.type = jbvBinary;
		v.val.binary.data = &detail->root;
		v.val.binary.len = VARSIZE(detail) - VARHDRSZ;
		pushJsonbValue(&state, WJB_VALUE, &v);
	}
	else
		push_string(&state, "detail", error->detail);
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(object);
}

static char *
jsonb_member_as_text(Jsonb *json, const char *key)
{
	JsonbValue v;

	if (getKeyJsonValueFromContainer(&json->root, key, strlen(key), &v) == NULL)
		return NULL;
	if (v.type == jbvString)
		return pnstrdup(v.val.string.val, v.val.string.len);
	if (v.type == jbvBinary)
		return JsonbToCString(NULL, v.val.binary.data, v.val.binary.len);
	return NULL;
}

RequestError *
request_error_from_jsonb(Jsonb *json)
{
	RequestError *error = palloc0(sizeof(RequestError));
	char         *code = jsonb_member_as_text(json, "code");

	error->sqlstate = code != NULL && strlen(code) == 5
						  ? MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4])
						  : ERRCODE_INTERNAL_ERROR;
	error->message = jsonb_member_as_text(json, "message");
	if (error->message == NULL)
		error->message = pstrdup("the request was rejected");
	error->detail = jsonb_member_as_text(json, "detail");
	error->hint = jsonb_member_as_text(json, "hint");
	error->field = jsonb_member_as_text(json, "field");
	return error;
}
