/*
 * json.c
 *		Documents: walked through, and parts of them found.
 */
#include "postgres.h"

#include "store/json.h"

#include "miscadmin.h"

void
json_walk_begin(JsonWalk *walk, JsonbContainer *container)
{
	walk->iterator = JsonbIteratorInit(container);
	walk->index = -1;
}

bool
json_walk_next(JsonWalk *walk)
{
	JsonbIteratorToken token;

	CHECK_FOR_INTERRUPTS();
	while ((token = JsonbIteratorNext(&walk->iterator, &walk->value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			walk->key = walk->value;
		if (token != WJB_VALUE && token != WJB_ELEM)
			continue;
		walk->index++;
		return true;
	}
	return false;
}

JsonbContainer *
json_object_of(const JsonbValue *value)
{
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

JsonbContainer *
json_array_of(const JsonbValue *value)
{
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

bool
json_is_array(Jsonb *json)
{
	return JB_ROOT_IS_ARRAY(json) && !JB_ROOT_IS_SCALAR(json);
}

bool
json_member(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), value) != NULL;
}

const char *
json_type_name(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		case jbvBinary:
			return JsonContainerIsArray(value->val.binary.data) ? "an array" : "an object";
		default:
			return "of another type";
	}
}
