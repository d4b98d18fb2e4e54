/*
 * trace_context.h
 *		The W3C trace context of a request: https://www.w3.org/TR/trace-context/.
 */
#ifndef OA_TRACE_CONTEXT_H
#define OA_TRACE_CONTEXT_H

#include "postgres.h"

/* is_traceparent: is it version-traceid-parentid-flags, in lower-case hexadecimal? */
extern bool is_traceparent(const char *text, int len);

/* session_traceparent returns what order_aggregator.traceparent says; NULL if that is none. */
extern char *session_traceparent(void);

#endif /* OA_TRACE_CONTEXT_H */
