/*
 * outbox.c
 *		The outbox: writing events, its partitions, and the doorbell.
 *
 * The relay finds events by transaction id and event id together. For that a
 * transaction has its id before it takes its first event id: then a transaction
 * that gets its id later than some moment has only later event ids.
 *
 * The doorbell: NOTIFY makes committing transactions wait for one another, so it
 * is rung only when the relay sleeps. The relay says so by holding
 * OWN_LOCK_RELAY_SLEEPS, which costs a writer one attempt at a shared lock to
 * find out, and ends by itself if the relay dies. A writer looks when it
 * commits. One that looked before the relay fell asleep and ends after is covered
 * by the relay: it waits in short naps until every transaction that ran when it
 * took the lock has ended. One that is prepared looks not at all, because NOTIFY
 * cannot be prepared: the relay's poll finds what COMMIT PREPARED commits.
 */
#include "outbox.h"

#include <math.h>

#include "access/detoast.h"
#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "arguments.h"
#include "bulk.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "guard.h"
#include "miscadmin.h"
#include "order_aggregator.h"
#include "plans.h"
#include "request.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define PARTITION_BITS        20
#define DOORBELL_CHANNEL      "order_aggregator"
#define ROUTING_KEY_BYTES_MAX 255      /* a short string of AMQP 0-9-1 */
#define HEADERS_MAX           30       /* the relay may add to them */
#define HEADERS_BYTES_MAX     32768    /* they must fit into one frame of 128 kB */
#define PAYLOAD_BYTES_MAX     16777216 /* RabbitMQ 4 takes no more by default */

typedef enum OutboxColumn
{
	COLUMN_EVENT_ID,
	COLUMN_TXID,
	COLUMN_MESSAGE_ID,
	COLUMN_ORDER_ID,
	COLUMN_ROUTING_KEY,
	COLUMN_MANDATORY,
	COLUMN_HEADERS,
	COLUMN_PAYLOAD,
	COLUMN_CREATED_AT,
	COLUMN_COUNT
} OutboxColumn;

PG_FUNCTION_INFO_V1(oa_publish_event);
PG_FUNCTION_INFO_V1(oa_guard_outbox);
PG_FUNCTION_INFO_V1(oa_ring_doorbell);
PG_FUNCTION_INFO_V1(oa_make_outbox_partitions);
PG_FUNCTION_INFO_V1(oa_drop_outbox_partitions);
PG_FUNCTION_INFO_V1(oa_redrive_parked_events);
PG_FUNCTION_INFO_V1(oa_next_xid);
PG_FUNCTION_INFO_V1(oa_event_bytes);
PG_FUNCTION_INFO_V1(oa_relay_try_lead);
PG_FUNCTION_INFO_V1(oa_relay_fall_asleep);
PG_FUNCTION_INFO_V1(oa_relay_wake_up);

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

	if (batch->count == batch->size)
	{
		batch->size *= 2;
		batch->events = repalloc(batch->events, sizeof(Event) * batch->size);
	}
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
	if (headers == NULL || strcmp(headers, "{}") == 0)
		return psprintf("{\"x-again\": \"%s\"}", why);
	if (strstr(headers, "\"x-again\"") != NULL)
		return pstrdup(headers);
	return psprintf("%.*s, \"x-again\": \"%s\"}", (int) (strrchr(headers, '}') - headers), headers, why);
}

/* ---------- partitions ---------- */

static char *
partition_name(int64 event_id)
{
	return psprintf("outbox_" INT64_FORMAT, event_id >> PARTITION_BITS);
}

static Oid
find_partition(int64 event_id)
{
	return get_relname_relid(partition_name(event_id), get_namespace_oid(OA_SCHEMA, false));
}

static void
execute_ddl(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result != SPI_OK_UTILITY)
		elog(ERROR, "SPI_execute returned %s: %s", SPI_result_code_string(result), sql);
}

/*
 * Attached rather than made in place: that locks the outbox against other such
 * changes only, not against the transactions that write to it.
 */
static Oid
make_partition(int64 event_id)
{
	int64 lower = (event_id >> PARTITION_BITS) << PARTITION_BITS;
	char *name = partition_name(event_id);
	Oid   partition;

	LockRelationOid(table_oid("outbox"), ShareUpdateExclusiveLock);
	AcceptInvalidationMessages();
	partition = find_partition(event_id);
	if (OidIsValid(partition))
		return partition; /* someone else was faster */

	execute_ddl(
		psprintf("CREATE TABLE %s.%s (LIKE %s.outbox INCLUDING ALL, PRIMARY KEY (event_id))", OA_SCHEMA, name, OA_SCHEMA));
	execute_ddl(psprintf("ALTER TABLE %s.outbox ATTACH PARTITION %s.%s FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")",
						 OA_SCHEMA, OA_SCHEMA, name, lower, lower + (INT64CONST(1) << PARTITION_BITS)));
	/* whatever the database gives to everybody by default */
	execute_ddl(psprintf("REVOKE ALL ON %s.%s FROM PUBLIC", OA_SCHEMA, name));
	return find_partition(event_id);
}

static int64
current_event_id(void)
{
	bool is_null;

	if (SPI_execute("SELECT order_aggregator.outbox_head()", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the last event id");
	return DatumGetInt64(spi_datum(0, 1, &is_null));
}

Datum
oa_make_outbox_partitions(PG_FUNCTION_ARGS)
{
	int   ahead = PG_ARGISNULL(0) ? 1 : PG_GETARG_INT32(0);
	int   made = 0;
	int64 next;

	begin_writing("make_outbox_partitions()");
	if (ahead < 0 || ahead > 100)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("ahead must be from 0 to 100")));
	SPI_connect();
	next = current_event_id() + 1;
	for (int i = 0; i <= ahead; i++)
	{
		int64 event_id = next + ((int64) i << PARTITION_BITS);

		if (!OidIsValid(find_partition(event_id)))
		{
			make_partition(event_id);
			made++;
		}
	}
	SPI_finish();
	PG_RETURN_INT32(made);
}

/* The latest created_at of a partition; false if it is empty. Not in the order of the ids: it is when a transaction began. */
static bool
last_created_at(const char *name, TimestampTz *created_at)
{
	bool is_null;

	if (SPI_execute(psprintf("SELECT pg_catalog.max(o.created_at) FROM %s.%s AS o", OA_SCHEMA, quote_identifier(name)), true,
					1) != SPI_OK_SELECT)
		elog(ERROR, "could not read partition \"%s\"", name);
	*created_at = DatumGetTimestampTz(spi_datum(0, 1, &is_null));
	return !is_null;
}

Datum
oa_drop_outbox_partitions(PG_FUNCTION_ARGS)
{
	TimestampTz oldest;
	int64       low;
	bool        is_null;
	Datum       values[1];
	char      **names;
	uint64      count;
	int         dropped = 0;

	begin_writing("drop_outbox_partitions()");
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("older_than must not be null")));
	oldest = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(0)));
	SPI_connect();
	(void) set_config_option("lock_timeout", "100ms", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	if (SPI_execute("SELECT c.low_event_id FROM order_aggregator.relay_checkpoint AS c", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the relay's checkpoint");
	low = SPI_processed == 0 ? 0 : DatumGetInt64(spi_datum(0, 1, &is_null));

	values[0] = ObjectIdGetDatum(table_oid("outbox"));
	plan_execute(PLAN_OLD_PARTITIONS, values, NULL, SPI_OK_SELECT);
	count = SPI_processed;
	names = palloc(sizeof(char *) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
		names[i] = pstrdup(NameStr(*DatumGetName(spi_datum(i, 1, &is_null))));

	for (uint64 i = 0; i < count; i++)
	{
		int64       number;
		TimestampTz last;

		if (sscanf(names[i], "outbox_" INT64_FORMAT, &number) != 1 || ((number + 1) << PARTITION_BITS) > low)
			continue;
		if (last_created_at(names[i], &last))
		{
			if (last >= oldest)
				continue;
			values[0] = TimestampTzGetDatum(last);
			plan_execute(PLAN_NOTE_DROPPED, values, NULL, SPI_OK_UPDATE);
		}
		execute_ddl(psprintf("DROP TABLE %s.%s", OA_SCHEMA, quote_identifier(names[i])));
		dropped++;
	}
	SPI_finish();
	PG_RETURN_INT32(dropped);
}

Datum
oa_relay_try_lead(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(try_own_lock(OWN_LOCK_RELAY_LEADS, true));
}

Datum
oa_relay_fall_asleep(PG_FUNCTION_ARGS)
{
	own_lock(OWN_LOCK_RELAY_SLEEPS, true);
	PG_RETURN_VOID();
}

Datum
oa_relay_wake_up(PG_FUNCTION_ARGS)
{
	release_own_lock(OWN_LOCK_RELAY_SLEEPS);
	PG_RETURN_VOID();
}

Datum
oa_event_bytes(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32((int32) (toast_raw_datum_size(PG_GETARG_DATUM(0)) - VARHDRSZ));
}

Datum
oa_next_xid(PG_FUNCTION_ARGS)
{
	PG_RETURN_FULLTRANSACTIONID(ReadNextFullTransactionId());
}

/* ---------- the doorbell ---------- */

static bool wants_doorbell; /* this transaction has written an event */

static void
on_end_of_transaction(XactEvent event, void *unused)
{
	if (event == XACT_EVENT_PRE_COMMIT && wants_doorbell && someone_holds_own_lock(OWN_LOCK_RELAY_SLEEPS))
		Async_Notify(DOORBELL_CHANNEL, "");
	if (event != XACT_EVENT_PARALLEL_PRE_COMMIT)
		wants_doorbell = false;
}

static void
ring_doorbell_at_commit(void)
{
	static bool is_registered = false;

	if (!is_registered)
		RegisterXactCallback(on_end_of_transaction, NULL);
	is_registered = true;
	wants_doorbell = true;
}

/* For rows that a superuser inserts by hand. */
Datum
oa_ring_doorbell(PG_FUNCTION_ARGS)
{
	our_trigger(fcinfo, "outbox", "ring_doorbell", TRIGGER_EVENT_AFTER, GUARD_INSERT);
	ring_doorbell_at_commit();
	return PointerGetDatum(NULL);
}

Datum
oa_guard_outbox(PG_FUNCTION_ARGS)
{
	our_trigger(fcinfo, "outbox", "guard_update", TRIGGER_EVENT_BEFORE | TRIGGER_EVENT_ROW, GUARD_UPDATE);
	ereport(ERROR, (errcode(ERRCODE_OA_STATE), errmsg("the outbox is append-only")));
}

/* ---------- writing ---------- */

/* UUID version 7 (RFC 9562): milliseconds first, so that consumers' indexes of seen ids stay local. */
static void
make_message_ids(pg_uuid_t *ids, int count)
{
	uint64 now_ms = (GetCurrentTimestamp() + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;

	if (!pg_strong_random(ids, sizeof(pg_uuid_t) * count))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	for (int i = 0; i < count; i++)
	{
		for (int byte = 0; byte < 6; byte++)
			ids[i].data[byte] = (unsigned char) (now_ms >> (40 - 8 * byte));
		ids[i].data[6] = (ids[i].data[6] & 0x0f) | 0x70;
		ids[i].data[8] = (ids[i].data[8] & 0x3f) | 0x80;
	}
}

static void
store_event(BulkInsert *bulk, const Event *event, int64 event_id, FullTransactionId xid, const pg_uuid_t *message_id,
			TimestampTz created_at)
{
	TupleTableSlot *slot = bulk_next_row(bulk);

	memset(slot->tts_isnull, false, sizeof(bool) * COLUMN_COUNT);
	slot->tts_values[COLUMN_EVENT_ID] = Int64GetDatum(event_id);
	slot->tts_values[COLUMN_TXID] = FullTransactionIdGetDatum(xid);
	slot->tts_values[COLUMN_MESSAGE_ID] = UUIDPGetDatum(event->message_id ? event->message_id : message_id);
	slot->tts_values[COLUMN_ORDER_ID] = Int64GetDatum(event->order_id);
	slot->tts_isnull[COLUMN_ORDER_ID] = event->order_id == 0;
	slot->tts_values[COLUMN_ROUTING_KEY] = CStringGetTextDatum(event->routing_key);
	slot->tts_values[COLUMN_MANDATORY] = BoolGetDatum(event->mandatory);
	slot->tts_isnull[COLUMN_HEADERS] = event->headers == NULL;
	slot->tts_values[COLUMN_HEADERS] = event->headers ? CStringGetTextDatum(event->headers) : (Datum) 0;
	slot->tts_values[COLUMN_PAYLOAD] = CStringGetTextDatum(event->payload);
	slot->tts_values[COLUMN_CREATED_AT] = TimestampTzGetDatum(created_at);
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
		if (bulk == NULL || event_id >> PARTITION_BITS != bulk_partition)
		{
			Oid partition = find_partition(event_id);

			if (bulk != NULL)
				bulk_end(bulk);
			if (!OidIsValid(partition))
				partition = make_partition(event_id);
			bulk = bulk_begin(partition);
			bulk_partition = event_id >> PARTITION_BITS;
		}
		store_event(bulk, &batch->events[i], event_id, xid, &message_ids[i], created_at);
	}
	bulk_end(bulk);
	ring_doorbell_at_commit();
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
check_headers(Jsonb *headers)
{
	JsonbIterator     *it;
	JsonbIteratorToken token;
	JsonbValue         value;

	if (!JB_ROOT_IS_OBJECT(headers) || JB_ROOT_COUNT(headers) > HEADERS_MAX || VARSIZE(headers) > HEADERS_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object of at most %d members and %d bytes", HEADERS_MAX, HEADERS_BYTES_MAX)));
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY && value.val.string.len > ROUTING_KEY_BYTES_MAX)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("a name in headers must be at most %d bytes long", ROUTING_KEY_BYTES_MAX)));
		if (token == WJB_KEY && is_routing_header(&value))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("headers must not have %.*s, which must be a list to RabbitMQ", value.val.string.len,
								   value.val.string.val)));
		if (token == WJB_VALUE && value.type != jbvString && value.type != jbvNumeric && value.type != jbvBool)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("every value in headers must be a string, a number or a boolean")));
		if (token == WJB_VALUE && value.type == jbvNumeric &&
			isinf(DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value.val.numeric)))))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a number in headers is out of range")));
	}
}

/* Whether it is a word, or begins with one, that says an event is ours; "order.#" takes "order" as well. */
static bool
is_reserved(const char *routing_key)
{
	size_t first = strcspn(routing_key, ".");

	return first == 5 && (strncmp(routing_key, "order", 5) == 0 || strncmp(routing_key, "stock", 5) == 0);
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
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("%s must not be null", PG_ARGISNULL(0) ? "routing_key" : "payload")));
	routing_key = text_to_cstring(PG_GETARG_TEXT_PP(0));
	complaint = check_text_id(routing_key, strlen(routing_key), ROUTING_KEY_BYTES_MAX);
	if (complaint == NULL && strlen(routing_key) > ROUTING_KEY_BYTES_MAX)
		complaint = psprintf("must be at most %d bytes long", ROUTING_KEY_BYTES_MAX);
	if (complaint == NULL && is_reserved(routing_key))
		complaint = "must not begin with order. or stock.: those events are the order's and the feed's own";
	if (complaint != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("routing_key %s", complaint)));

	SPI_connect();
	batch = event_batch_create(1);
	event = event_batch_add(batch);
	event->routing_key = routing_key;
	event->payload = JsonbToCString(NULL, &PG_GETARG_JSONB_P(1)->root, 0);
	if (strlen(event->payload) > PAYLOAD_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("payload must be at most %d bytes long", PAYLOAD_BYTES_MAX)));
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
