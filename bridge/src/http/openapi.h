/*
 * openapi.h
 *		The API's own description: bridge/openapi.json, made a C string by the build.
 */
#ifndef BRIDGE_OPENAPI_H
#define BRIDGE_OPENAPI_H

extern const char openapi_json[];

#endif /* BRIDGE_OPENAPI_H */
