/*
 * order_routes.c
 *		The routes that place, cancel and return orders.
 */
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/metrics.h"
#include "base/text.h"
#include "http/routes_state.h"

#define KEY_BYTES_MAX 1024

bool
routes_is_json(const char *type)
{
	size_t length = strcspn(type, "; \t");

	return (length == strlen("application/json") &&
			strncasecmp(type, "application/json", length) == 0) ||
		   (length > 5 && strncasecmp(type + length - 5, "+json", 5) == 0);
}

/* The body as a JSON object, or NULL after a reply that says what is wrong with it. */
static json_t *
parse_body(HttpExchange *exchange)
{
	size_t       bytes;
	const char  *body = http_body(exchange, &bytes);
	json_error_t error;
	json_t      *json;
	char         detail[JSON_ERROR_TEXT_LENGTH + 64];

	if (text_has_nul(body, bytes))
	{
		routes_bad_request(exchange, "body", "body is not JSON: it has a NUL character");
		return NULL;
	}
	json = json_loadb(body ? body : "", bytes,
					  JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL | JSON_DECODE_ANY, &error);
	if (json == NULL)
	{
		snprintf(detail, sizeof(detail), "body is not JSON: %s at line %d, column %d", error.text,
				 error.line, error.column);
		routes_bad_request(exchange, "body", detail);
		return NULL;
	}
	if (!json_is_object(json))
	{
		routes_bad_request(exchange, "body", "body must be a JSON object");
		json_decref(json);
		return NULL;
	}
	return json;
}

/* Milliseconds first, so that the keys' index grows at its end; 80 random bits. */
static char *
make_key(void)
{
	static const char digits[] = "0123456789abcdef";
	static const char prefix[] = "http-";
	unsigned char     bytes[16];
	struct timespec   now;
	uint64_t          now_ms;
	char             *key = malloc(sizeof(prefix) + 2 * sizeof(bytes));

	if (key == NULL || getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
	{
		free(key);
		return NULL;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	now_ms = (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
	for (int i = 0; i < 6; i++)
		bytes[i] = (unsigned char) (now_ms >> (40 - 8 * i));
	memcpy(key, prefix, sizeof(prefix));
	for (size_t i = 0; i < sizeof(bytes); i++)
	{
		key[strlen(prefix) + 2 * i] = digits[bytes[i] >> 4];
		key[strlen(prefix) + 2 * i + 1] = digits[bytes[i] & 15];
	}
	key[strlen(prefix) + 2 * sizeof(bytes)] = '\0';
	return key;
}

/*
 * The request's idempotency key, malloc'd: the header's, the body's, or a new
 * one; *in_body says whether the body has it. NULL after a reply.
 */
static char *
choose_key(HttpExchange *exchange, const json_t *json, bool *in_body)
{
	const char   *header = http_header(exchange, "Idempotency-Key");
	const json_t *member = json_object_get(json, "idempotencyKey");
	char         *key;

	*in_body = member != NULL && !json_is_null(member);
	if (header != NULL && (*header == '\0' || strlen(header) > KEY_BYTES_MAX))
	{
		routes_bad_request(exchange, "Idempotency-Key",
						   "Idempotency-Key must be 1 to 255 characters long");
		return NULL;
	}
	if (*in_body && header != NULL &&
		(!json_is_string(member) || strcmp(json_string_value(member), header) != 0))
	{
		routes_bad_request(exchange, "Idempotency-Key",
						   "Idempotency-Key differs from idempotencyKey in the body");
		return NULL;
	}
	/* it may have to be told in an answer */
	if (*in_body && json_string_length(member) > KEY_BYTES_MAX)
	{
		routes_bad_request(exchange, "idempotencyKey",
						   "idempotencyKey must be at most 255 characters long");
		return NULL;
	}
	if (*in_body)
		key = strdup(json_is_string(member) ? json_string_value(member) : "");
	else
		key = header != NULL ? strdup(header) : make_key();
	if (key == NULL)
		routes_unavailable(exchange, "out of memory");
	else if (!text_is_utf8(key, strlen(key)))
	{
		routes_bad_request(exchange, "Idempotency-Key", "Idempotency-Key must be UTF-8 text");
		free(key);
		return NULL;
	}
	return key;
}

/*
 * The request as place_orders() takes it: the client's own text, with the key
 * and the trace context put in before its closing brace. NULL if memory is short: without its key
 * it might be placed twice.
 */
static char *
request_text(HttpExchange *exchange, const json_t *json, const char *key, bool key_in_body)
{
	size_t      bytes;
	const char *body = http_body(exchange, &bytes);
	const char *traceparent = http_header(exchange, "traceparent");
	json_t     *extra = json_object();
	char       *extra_text;
	char       *text = NULL;

	if (!key_in_body)
		json_object_set_new(extra, "idempotencyKey", json_string(key));
	if (!key_in_body && http_header(exchange, "Idempotency-Key") == NULL)
		json_object_set_new(
			extra, "dropRefusal",
			json_true()); /* nobody knows the key: a refusal leaves nothing behind */
	if (traceparent != NULL && json_object_get(json, "traceparent") == NULL)
		json_object_set_new(extra, "traceparent", json_string(traceparent));
	extra_text = json_dumps(extra, JSON_COMPACT);
	while (body[bytes - 1] != '}')
		bytes--;
	if (json_object_size(extra) > 0)
	{
		if (asprintf(&text, "%.*s%s%s", (int) bytes - 1, body,
					 json_object_size(json) > 0 ? "," : "", extra_text + 1) < 0)
			text = NULL;
	}
	else
		text = strndup(body, bytes);
	free(extra_text);
	json_decref(extra);
	return text;
}

void
routes_post_order(HttpExchange *exchange, const Route *route, const char *parameter)
{
	json_t *json = parse_body(exchange);
	bool    key_in_body;
	Job    *job;

	(void) parameter;
	if (json == NULL)
		return;
	if (json_object_get(json, "dropRefusal") != NULL) /* the bridge's own, see request_text() */
	{
		routes_bad_request(exchange, "dropRefusal", "dropRefusal is not a known field");
		json_decref(json);
		return;
	}
	job = job_create(exchange, NULL);
	if (job == NULL)
		routes_unavailable(exchange, "out of memory");
	else
		job->idempotency_key = choose_key(exchange, json, &key_in_body);
	if (job != NULL && job->idempotency_key != NULL)
	{
		job->body = request_text(exchange, json, job->idempotency_key, key_in_body);
		if (job->body != NULL)
		{
			routes_hand_over(exchange, route, job);
			metric_set(METRIC_INTAKE_DEPTH, intake_depth(routes_queue(route->queue)));
			job = NULL;
		}
		else
			routes_unavailable(exchange, "out of memory");
	}
	if (job != NULL)
		job_free(job);
	json_decref(json);
}

/* ---------- cancelling and returning ---------- */

/* What is wrong with a member of a body, or NULL. */
typedef const char *(*MemberCheck)(const char *name, const json_t *value);

/* The body as a JSON object, empty if there is none; NULL after a reply that says what is wrong
 * with it. */
static json_t *
parse_optional_body(HttpExchange *exchange, MemberCheck check)
{
	size_t      bytes;
	json_t     *json;
	const char *name;
	json_t     *value;

	http_body(exchange, &bytes);
	json = bytes > 0 ? parse_body(exchange) : json_object();
	json_object_foreach(json, name, value)
	{
		const char *complaint = check(name, value);

		if (complaint == NULL)
			continue;
		routes_bad_request(exchange, name, complaint);
		json_decref(json);
		return NULL;
	}
	return json;
}

static const char *
check_cancel_member(const char *name, const json_t *value)
{
	if (strcmp(name, "reason") == 0)
		return json_is_string(value) || json_is_null(value) ? NULL : "reason must be a string";
	if (strcmp(name, "idempotencyKey") == 0)
		return json_is_string(value) ? NULL : "idempotencyKey must be a string";
	return "the body has an unknown field";
}

static const char *
check_return_member(const char *name, const json_t *value)
{
	if (strcmp(name, "lines") == 0)
		return json_is_array(value) || json_is_null(value) ? NULL : "lines must be an array";
	if (strcmp(name, "restock") == 0)
		return json_is_boolean(value) ? NULL : "restock must be true or false";
	if (strcmp(name, "idempotencyKey") == 0)
		return json_is_string(value) ? NULL : "idempotencyKey must be a string";
	return "the body has an unknown field";
}

/* Hands over what changes an order: with a key, so that it can be repeated if its outcome is not
 * known. */
static void
hand_over_change(HttpExchange *exchange, const Route *route, const char *order_id,
				 MemberCheck check)
{
	json_t *json = parse_optional_body(exchange, check);
	bool    key_in_body;
	char   *key;
	Job    *job;

	if (json == NULL)
		return;
	key = choose_key(exchange, json, &key_in_body);
	if (key == NULL)
	{
		json_decref(json);
		return;
	}
	json_object_del(json, "idempotencyKey");
	if (http_header(exchange, "traceparent") != NULL)
		json_object_set_new(json, "traceparent", json_string(http_header(exchange, "traceparent")));
	job = job_create(exchange, &route->query);
	if (job != NULL)
	{
		job->subject = strdup(order_id);
		job->body = json_dumps(json, JSON_COMPACT);
		job->idempotency_key = key;
	}
	else
		free(key);
	json_decref(json);
	/* half of it would be another change */
	if (job != NULL && (job->subject == NULL || job->body == NULL))
	{
		job_free(job);
		job = NULL;
	}
	routes_hand_over(exchange, route, job);
}

void
routes_post_cancel(HttpExchange *exchange, const Route *route, const char *parameter)
{
	hand_over_change(exchange, route, parameter, check_cancel_member);
}

void
routes_post_return(HttpExchange *exchange, const Route *route, const char *parameter)
{
	hand_over_change(exchange, route, parameter, check_return_member);
}
