/*
 * json.h
 *		Documents: walked through, and parts of them found.
 */
#ifndef OA_JSON_H
#define OA_JSON_H

#include "postgres.h"

#include "utils/jsonb.h"

/* A walk through the members of an object, or the elements of an array. */
typedef struct JsonWalk
{
	JsonbIterator *iterator;
	JsonbValue     key;   /* of a member */
	JsonbValue     value; /* a container as jbvBinary */
	int            index; /* from 0 */
} JsonWalk;

extern void json_walk_begin(JsonWalk *walk, JsonbContainer *container);

/* json_walk_next goes to the next one; false after the last. May be interrupted. */
extern bool json_walk_next(JsonWalk *walk);

/* json_object_of returns the object that the value is; NULL if it is none. json_array_of likewise.
 */
extern JsonbContainer *json_object_of(const JsonbValue *value);
extern JsonbContainer *json_array_of(const JsonbValue *value);

/* json_is_array: the whole document is an array, and no scalar that looks like one. */
extern bool json_is_array(Jsonb *json);

/* json_member finds a member of an object; false if there is none of that name. */
extern bool json_member(JsonbContainer *object, const char *name, JsonbValue *value);

/* json_type_name returns what the value is, as an error says it: "a string". */
extern const char *json_type_name(const JsonbValue *value);

#endif /* OA_JSON_H */
