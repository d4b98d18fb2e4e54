/*
 * events.c
 *		The bodies of the events.
 *
 * Written as text straight away: the outbox keeps JSON text, and what is built
 * here is valid by construction.
 */
#include "postgres.h"

#include "outbox/events.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"

#define ROUTING_WORD_BYTES_MAX 240

/* the years that RFC 3339 can write */
#define TIMESTAMP_MIN INT64CONST(-63082281600000000) /* 0001-01-01 */
#define TIMESTAMP_MAX INT64CONST(252455615999999999) /* 9999-12-31 */

#define append_literal(json, literal) appendBinaryStringInfo(json, "" literal, sizeof(literal) - 1)

char *
utc_timestamp(TimestampTz at)
{
	struct pg_tm tm;
	fsec_t       fraction;
	char        *text = palloc(MAXDATELEN + 1);
	char        *end = text;

	/* nobody else's doing than a user's UPDATE: it must not keep the order from being settled */
	at = Max(TIMESTAMP_MIN, Min(at, TIMESTAMP_MAX));
	if (timestamp2tm(at, NULL, &tm, &fraction, NULL, NULL) != 0 || tm.tm_year < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	end = pg_ultostr_zeropad(end, tm.tm_year, 4);
	*end++ = '-';
	end = pg_ultostr_zeropad(end, tm.tm_mon, 2);
	*end++ = '-';
	end = pg_ultostr_zeropad(end, tm.tm_mday, 2);
	*end++ = 'T';
	end = pg_ultostr_zeropad(end, tm.tm_hour, 2);
	*end++ = ':';
	end = pg_ultostr_zeropad(end, tm.tm_min, 2);
	*end++ = ':';
	end = pg_ultostr_zeropad(end, tm.tm_sec, 2);
	*end++ = '.';
	end = pg_ultostr_zeropad(end, fraction, 6);
	*end++ = 'Z';
	*end = '\0';
	return text;
}

/* The length of a text in which nothing is to be escaped; -1 of another. */
static int
plain_length(const char *text)
{
	int length = 0;

	for (; text[length] != '\0'; length++)
	{
		if (text[length] == '"' || text[length] == '\\' || (unsigned char) text[length] < ' ')
			return -1;
	}
	return length;
}

void
json_append_string(StringInfo json, const char *text)
{
	int length = text != NULL ? plain_length(text) : -1;

	if (text == NULL)
		append_literal(json, "null");
	else if (length < 0)
		escape_json(json, text);
	else
	{
		appendStringInfoChar(json, '"');
		appendBinaryStringInfo(json, text, length);
		appendStringInfoChar(json, '"');
	}
}

static void
append_int64(StringInfo json, int64 number)
{
	char buffer[MAXINT8LEN + 1];

	appendBinaryStringInfo(json, buffer, pg_lltoa(number, buffer));
}

static char *
trace_headers(const OrderFacts *order)
{
	return order->traceparent ? psprintf("{\"traceparent\": \"%s\"}", order->traceparent) : NULL;
}

static Event *
add_order_event(EventBatch *batch, const OrderFacts *order, char *routing_key, StringInfo body)
{
	Event *event = event_batch_add(batch);

	event->order_id = order->order_id;
	event->routing_key = routing_key;
	event->headers = trace_headers(order);
	event->payload = body->data;
	return event;
}

Event *
event_order_placed(EventBatch *batch, const OrderFacts *order, const char *vendor_id, int attempt,
				   const VendorLine *lines, int nlines)
{
	StringInfoData body;
	Event         *event;

	initStringInfo(&body);
	append_literal(&body, "{\"orderId\": ");
	append_int64(&body, order->order_id);
	append_literal(&body, ", \"vendorId\": \"");
	appendStringInfoString(&body, vendor_id);
	append_literal(&body, "\", \"attempt\": ");
	append_int64(&body, attempt);
	append_literal(&body, ", \"customerId\": ");
	json_append_string(&body, order->customer_id);
	append_literal(&body, ", \"placedAt\": \"");
	appendStringInfoString(&body, order->placed_at);
	append_literal(&body, "\", \"expiresAt\": \"");
	appendStringInfoString(&body, order->expires_at);
	append_literal(&body, "\", \"lines\": [");
	for (int i = 0; i < nlines; i++)
	{
		appendStringInfoString(&body, i == 0 ? "{\"lineNo\": " : ", {\"lineNo\": ");
		append_int64(&body, lines[i].line_no);
		append_literal(&body, ", \"productId\": ");
		json_append_string(&body, lines[i].product_id);
		append_literal(&body, ", \"vendorSku\": ");
		json_append_string(&body, lines[i].vendor_sku);
		append_literal(&body, ", \"quantity\": ");
		append_int64(&body, lines[i].quantity);
		append_literal(&body, ", \"unitPrice\": \"");
		appendStringInfoString(&body, lines[i].unit_price);
		append_literal(&body, "\"}");
	}
	append_literal(&body, "]}");
	event = add_order_event(batch, order, psprintf("order.placed.%s", vendor_id), &body);
	event->mandatory = true;
	return event;
}

void
event_order_closed(EventBatch *batch, const OrderFacts *order, const char *status,
				   const char *total_amount, const char *reason)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"orderId\": " INT64_FORMAT ", \"status\": \"%s\", \"customerId\": ",
					 order->order_id, status);
	json_append_string(&body, order->customer_id);
	appendStringInfo(&body,
					 ", \"totalAmount\": \"%s\", \"placedAt\": \"%s\", \"reason\": ", total_amount,
					 order->placed_at);
	json_append_string(&body, reason);
	appendStringInfoChar(&body, '}');
	add_order_event(batch, order, psprintf("order.%s", status), &body);
}

void
event_vendor_cancelled(EventBatch *batch, const OrderFacts *order, const char *vendor_id,
					   int attempt, const char *reason)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body,
					 "{\"orderId\": " INT64_FORMAT
					 ", \"vendorId\": \"%s\", \"attempt\": %d, \"reason\": ",
					 order->order_id, vendor_id, attempt);
	json_append_string(&body, reason);
	appendStringInfoChar(&body, '}');
	add_order_event(batch, order, psprintf("order.cancelled.%s", vendor_id), &body);
}

/*
 * A routing key is made of words of at most 255 bytes together; what cannot be
 * in one, as a dot, becomes "_". The payload has the product's id as it is.
 */
static char *
routing_word(const char *text)
{
	char *word = pstrdup(text);

	for (char *p = word; *p != '\0'; p++)
	{
		if (*p == '.' || *p == '*' || *p == '#' || *p == ' ')
			*p = '_';
	}
	word[pg_mbcliplen(word, strlen(word), ROUTING_WORD_BYTES_MAX)] = '\0';
	return word;
}

void
event_stock_low(EventBatch *batch, const char *product_id, int64 threshold, int64 before,
				int64 after)
{
	StringInfoData body;
	Event         *event;

	if (threshold < 0 || before <= threshold || after > threshold)
		return;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"productId\": ");
	json_append_string(&body, product_id);
	appendStringInfo(&body, ", \"available\": " INT64_FORMAT ", \"threshold\": " INT64_FORMAT "}",
					 after, threshold);
	event = event_batch_add(batch);
	event->routing_key = psprintf("stock.low.%s", routing_word(product_id));
	event->payload = body.data;
}

void
event_order_returned(EventBatch *batch, const OrderFacts *order, int64 return_id, bool restocked,
					 const char *amount, const char *lines)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(
		&body, "{\"orderId\": " INT64_FORMAT ", \"returnId\": " INT64_FORMAT ", \"customerId\": ",
		order->order_id, return_id);
	json_append_string(&body, order->customer_id);
	appendStringInfo(&body, ", \"restocked\": %s, \"amount\": \"%s\", \"lines\": [%s]}",
					 restocked ? "true" : "false", amount, lines);
	add_order_event(batch, order, pstrdup("order.returned"), &body);
}
