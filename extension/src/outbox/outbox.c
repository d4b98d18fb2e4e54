/*
 * outbox.c
 *		The outbox: events written in the transaction of their facts, published by hand, redriven.
 *
 * The relay finds events by transaction id and event id together. For that a
 * transaction has its id before it takes its first event id: then a transaction
 * that gets its id later than some moment has only later event ids.
 */
#include "postgres.h"

#include "outbox/outbox.h"

#include <math.h>

#include "access/detoast.h"
#include "commands/sequence.h"
#include "outbox/doorbell.h"
#include "outbox/partitions.h"
#include "store/array.h"
#include "store/bulk.h"
#include "store/check.h"
#include "store/json.h"
#include "store/plans.h"
#include "store/symbols.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define RANDOM_BYTES          1024
#define ROUTING_KEY_BYTES_MAX 255      /* a short string of AMQP 0-9-1 */
#define HEADERS_MAX           30       /* the relay may add to them */
#define HEADERS_BYTES_MAX     32768    /* they must fit into one frame of 128 kB */
#define PAYLOAD_BYTES_MAX     16777216 /* RabbitMQ 4 takes no more by default */

OA_FUNCTION(oa_publish_event);
OA_FUNCTION(oa_redrive_parked_events);
OA_FUNCTION(oa_event_bytes);

/* ---------- the batch ---------- */

EventBatch *
event_batch_create(int expected)
{
	EventBatch *batch = palloc(sizeof(EventBatch));

	batch->count = 0;
	batch->size = Max(expected, 4);
	batch->events = palloc(sizeof(Event) * batch->size);
	return batch;
}

Event *
event_batch_add(EventBatch *batch)
{
	Event *event;

	batch->events = array_with_room(batch->events, batch->count, &batch->size, sizeof(Event));
	event = &batch->events[batch->count++];
	memset(event, 0, sizeof(Event));
	return event;
}

void
event_batch_drop_order(EventBatch *batch, int64 order_id)
{
	int kept = 0;

	for (int i = 0; i < batch->count; i++)
	{
		if (batch->events[i].order_id != order_id)
			batch->events[kept++] = batch->events[i];
	}
	batch->count = kept;
}

char *
event_headers_again(const char *headers, const char *why)
{
	Jsonb *before =
		DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(headers ? headers : "{}")));
	Jsonb     *mark;
	JsonbValue value;

	if (json_member(&before->root, "x-again", &value))
		return pstrdup(headers);
	mark = DatumGetJsonbP(
		DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"x-again\": \"%s\"}", why))));
	mark = DatumGetJsonbP(
		DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(before), JsonbPGetDatum(mark)));
	return JsonbToCString(NULL, &mark->root, 0);
}

/* ---------- writing ---------- */

/* From a store of random bytes: asking the library for a few at a time cost single orders a
 * twentieth. The store is this process's own: none is forked from one that has used it. */
static void
random_bytes(void *bytes, int count)
{
	static unsigned char store[RANDOM_BYTES];
	static int           nleft = 0;

	Assert(count <= RANDOM_BYTES);
	if (nleft < count)
	{
		nleft = 0;
		if (!pg_strong_random(store, RANDOM_BYTES))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
		nleft = RANDOM_BYTES;
	}
	nleft -= count;
	memcpy(bytes, store + nleft, count);
}

/* UUID version 7 (RFC 9562): milliseconds first, so that consumers' indexes of seen ids stay local.
 */
static void
make_message_ids(pg_uuid_t *ids, int count)
{
	uint64 now_ms = (GetCurrentTimestamp() +
					 (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) /
					1000;

	for (int i = 0; i < count; i++)
	{
		random_bytes(&ids[i], sizeof(pg_uuid_t));
		for (int byte = 0; byte < 6; byte++)
			ids[i].data[byte] = (unsigned char) (now_ms >> (40 - 8 * byte));
		ids[i].data[6] = (ids[i].data[6] & 0x0f) | 0x70;
		ids[i].data[8] = (ids[i].data[8] & 0x3f) | 0x80;
	}
}

static void
store_event(BulkInsert *bulk, const Event *event, int64 event_id, FullTransactionId xid,
			const pg_uuid_t *message_id, TimestampTz created_at)
{
	TupleTableSlot *slot = bulk_next_row(bulk);

	bulk_set(slot, OUTBOX_COLUMN_EVENT_ID, Int64GetDatum(event_id));
	bulk_set(slot, OUTBOX_COLUMN_TXID, FullTransactionIdGetDatum(xid));
	bulk_set(slot, OUTBOX_COLUMN_MESSAGE_ID,
			 UUIDPGetDatum(event->message_id ? event->message_id : message_id));
	if (event->order_id != 0)
		bulk_set(slot, OUTBOX_COLUMN_ORDER_ID, Int64GetDatum(event->order_id));
	bulk_set_text(slot, OUTBOX_COLUMN_ROUTING_KEY, event->routing_key);
	bulk_set(slot, OUTBOX_COLUMN_MANDATORY, BoolGetDatum(event->mandatory));
	bulk_set_text(slot, OUTBOX_COLUMN_HEADERS, event->headers);
	bulk_set_text(slot, OUTBOX_COLUMN_PAYLOAD, event->payload);
	bulk_set(slot, OUTBOX_COLUMN_CREATED_AT, TimestampTzGetDatum(created_at));
	bulk_store_row(bulk);
}

int64
outbox_write(EventBatch *batch)
{
	FullTransactionId xid;
	Oid               sequence;
	pg_uuid_t        *message_ids;
	TimestampTz       created_at = GetCurrentTransactionStartTimestamp();
	BulkInsert       *bulk = NULL;
	int64             bulk_partition = -1;
	int64             event_id = 0;

	if (batch->count == 0)
		return 0;

	xid = GetTopFullTransactionId(); /* before the first event id: see the head of this file */
	sequence = table_oid("event_id_seq");
	message_ids = palloc(sizeof(pg_uuid_t) * batch->count);
	make_message_ids(message_ids, batch->count);

	for (int i = 0; i < batch->count; i++)
	{
		event_id = nextval_internal(sequence, false);
		if (bulk == NULL || event_id >> OUTBOX_PARTITION_BITS != bulk_partition)
		{
			Oid partition = outbox_find_partition(event_id);

			if (bulk != NULL)
				bulk_end(bulk);
			if (!OidIsValid(partition))
				partition = outbox_make_partition(event_id);
			bulk = bulk_begin(partition);
			outbox_require_partition(partition); /* once nobody can detach it any more */
			bulk_partition = event_id >> OUTBOX_PARTITION_BITS;
		}
		store_event(bulk, &batch->events[i], event_id, xid, &message_ids[i], created_at);
	}
	bulk_end(bulk);
	doorbell_ring_at_commit();
	return event_id;
}

/* RabbitMQ closes the channel over a message in which these are no lists, and we send none. */
static bool
is_routing_header(const JsonbValue *name)
{
	return (name->val.string.len == 2 && memcmp(name->val.string.val, "CC", 2) == 0) ||
		   (name->val.string.len == 3 && memcmp(name->val.string.val, "BCC", 3) == 0);
}

static void
check_header(const JsonbValue *name, const JsonbValue *value)
{
	if (name->val.string.len > ROUTING_KEY_BYTES_MAX)
		argument_error("headers",
					   psprintf("must have names of at most %d bytes", ROUTING_KEY_BYTES_MAX));
	if (is_routing_header(name))
		argument_error("headers", psprintf("must not have %.*s, which must be a list to RabbitMQ",
										   name->val.string.len, name->val.string.val));
	if (value->type != jbvString && value->type != jbvNumeric && value->type != jbvBool)
		argument_error("headers", "must have strings, numbers and booleans as values");
	if (value->type == jbvNumeric &&
		isinf(DatumGetFloat8(
			DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)))))
		argument_error("headers", "must have numbers that a double can be");
}

static void
check_headers(Jsonb *headers)
{
	JsonWalk walk;

	if (!JB_ROOT_IS_OBJECT(headers) || JB_ROOT_COUNT(headers) > HEADERS_MAX ||
		VARSIZE(headers) > HEADERS_BYTES_MAX)
		argument_error("headers",
					   psprintf("must be a JSON object of at most %d members and %d bytes",
								HEADERS_MAX, HEADERS_BYTES_MAX));
	json_walk_begin(&walk, &headers->root);
	while (json_walk_next(&walk))
		check_header(&walk.key, &walk.value);
}

/* Whether it is a word, or begins with one, that says an event is ours; "order.#" takes "order" as
 * well. */
static bool
is_reserved(const char *routing_key)
{
	size_t first = strcspn(routing_key, ".");

	return first == 5 &&
		   (strncmp(routing_key, "order", 5) == 0 || strncmp(routing_key, "stock", 5) == 0);
}

Datum
oa_publish_event(PG_FUNCTION_ARGS)
{
	EventBatch *batch;
	Event      *event;
	char       *routing_key;
	char       *complaint;
	int64       event_id;

	begin_writing("publish_event()");
	require_argument(fcinfo, 0, "routing_key");
	require_argument(fcinfo, 1, "payload");
	routing_key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	complaint = check_text_id(routing_key, strlen(routing_key), ROUTING_KEY_BYTES_MAX);
	if (complaint == NULL && strlen(routing_key) > ROUTING_KEY_BYTES_MAX)
		complaint = psprintf("must be at most %d bytes long", ROUTING_KEY_BYTES_MAX);
	if (complaint == NULL && is_reserved(routing_key))
		complaint =
			"must not begin with order. or stock.: those events are the order's and the feed's own";
	if (complaint != NULL)
		argument_error("routing_key", complaint);

	SPI_connect();
	batch = event_batch_create(1);
	event = event_batch_add(batch);
	event->routing_key = routing_key;
	event->payload = JsonbToCString(NULL, &PG_GETARG_JSONB_P(1)->root, 0);
	if (strlen(event->payload) > PAYLOAD_BYTES_MAX)
		argument_error("payload", psprintf("must be at most %d bytes long", PAYLOAD_BYTES_MAX));
	if (!PG_ARGISNULL(2))
	{
		Jsonb *headers = PG_GETARG_JSONB_P(2);

		check_headers(headers);
		if (JB_ROOT_COUNT(headers) > 0)
			event->headers = JsonbToCString(NULL, &headers->root, 0);
	}
	event->mandatory = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	event_id = outbox_write(batch);
	SPI_finish();
	PG_RETURN_INT64(event_id);
}

Datum
oa_redrive_parked_events(PG_FUNCTION_ARGS)
{
	int32       max_events = count_argument(fcinfo, 0, "max_events");
	EventBatch *batch;
	Datum       values[1];
	int64      *event_ids;
	uint64      count;

	begin_writing("redrive_parked_events()");
	lock_for_writing("parked_event");
	SPI_connect();
	values[0] = Int64GetDatum(max_events);
	plan_execute(PLAN_LOCK_PARKED, values, NULL, SPI_OK_SELECT);
	count = SPI_processed;
	batch = event_batch_create((int) count);
	event_ids = palloc(sizeof(int64) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		Event     *event = event_batch_add(batch);
		bool       is_null;
		pg_uuid_t *message_id = palloc(sizeof(pg_uuid_t));

		event_ids[i] = spi_int64(i, 1);
		memcpy(message_id, DatumGetUUIDP(spi_datum(i, 2, &is_null)), sizeof(pg_uuid_t));
		event->message_id = message_id;
		event->routing_key = spi_string(i, 3);
		event->headers = event_headers_again(spi_string(i, 4), "redrive");
		event->payload = spi_string(i, 5);
		event->mandatory = true;
	}
	values[0] = int8_array(event_ids, (int) count);
	plan_execute(PLAN_MARK_REDRIVEN, values, NULL, SPI_OK_UPDATE);
	outbox_write(batch);
	SPI_finish();
	PG_RETURN_INT32((int32) count);
}

Datum
oa_event_bytes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32((int32) (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ));
}
