/*
 * idempotency.c
 *		One outcome for one key.
 *
 * The key is claimed first of all with the id the order will have, so a success
 * needs no second write; only a rejected request's row is changed again. A
 * concurrent request with the same key waits at the claim until this
 * transaction ends, and then finds its outcome. What is done to an order later,
 * by a cancel or a return, has keys in the same space.
 */
#include "postgres.h"

#include "placement/idempotency.h"

#include "commands/sequence.h"
#include "common/hashfn.h"
#include "placement/order_ids.h"
#include "store/check.h"
#include "store/errors.h"
#include "store/plans.h"
#include "store/rows.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* Requests with keys, by key and then by their order in the batch. */
static int
compare_keys(const void *a, const void *b, void *requests)
{
	int left = *(const int *) a;
	int right = *(const int *) b;
	int order = strcmp(((OrderRequest *) requests)[left].idempotency_key,
					   ((OrderRequest *) requests)[right].idempotency_key);

	return order != 0 ? order : left - right;
}

static void
key_reused(OrderRequest *request)
{
	request->error = NULL;
	request_error(
		request, ERRCODE_OA_KEY_REUSED,
		psprintf("idempotency key \"%s\" was used with another request", request->idempotency_key),
		pstrdup("The same key must come with the same request."), "idempotencyKey");
}

/* The requests that hold distinct keys, sorted; later ones of the same key get same_as. */
static int
distinct_keys(RequestBatch *batch, int *keyed)
{
	int count = 0;
	int distinct = 0;

	for (int i = 0; i < batch->nrequests; i++)
	{
		if (batch->requests[i].idempotency_key != NULL && batch->requests[i].error == NULL)
			keyed[count++] = i;
	}
	qsort_arg(keyed, count, sizeof(int), compare_keys, batch->requests);
	for (int i = 0; i < count; i++)
	{
		OrderRequest *request = &batch->requests[keyed[i]];
		OrderRequest *first = distinct > 0 ? &batch->requests[keyed[distinct - 1]] : NULL;

		if (first == NULL || strcmp(first->idempotency_key, request->idempotency_key) != 0)
			keyed[distinct++] = keyed[i];
		else if (first->hash == request->hash)
			request->same_as = keyed[distinct - 1];
		else
			key_reused(request);
	}
	return distinct;
}

/* Index into keyed of the request with that key. */
static int
find_keyed(const RequestBatch *batch, const int *keyed, int count, const char *key)
{
	int low = 0;
	int high = count - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		int order = strcmp(batch->requests[keyed[middle]].idempotency_key, key);

		if (order == 0)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle - 1;
	}
	elog(ERROR, "idempotency key \"%s\" was not asked for", key);
	return -1;
}

/*
 * Gives the requests whose key a transaction still running has claimed their
 * error, and leaves them out of keyed: nobody is waited for. Returns how many are left.
 */
static int
leave_out_busy(RequestBatch *batch, int *keyed, int count)
{
	SnapshotData snapshot;
	RowScan      scan;
	int          kept = 0;

	InitDirtySnapshot(snapshot);
	row_scan_begin(&scan, "idempotency", NULL, RowExclusiveLock);
	scan.snapshot = &snapshot;
	for (int i = 0; i < count; i++)
	{
		OrderRequest *request = &batch->requests[keyed[i]];
		bool          is_busy = false;

		row_scan_find_text(&scan, request->idempotency_key);
		while (!is_busy && row_scan_next(&scan) != NULL)
			is_busy = TransactionIdIsValid(snapshot.xmin) || TransactionIdIsValid(snapshot.xmax);
		if (is_busy)
			request_busy(request,
						 psprintf("idempotency key \"%s\" is in use by another transaction",
								  request->idempotency_key));
		else
			keyed[kept++] = keyed[i];
	}
	row_scan_end(&scan);
	return kept;
}

/* Reads the outcomes of keys used before. */
static void
read_outcomes(RequestBatch *batch, const int *keyed, int count, const bool *claimed)
{
	const char **keys = palloc(sizeof(char *) * count);
	int          nkeys = 0;
	Datum        values[1];

	for (int i = 0; i < count; i++)
	{
		if (!claimed[i])
			keys[nkeys++] = batch->requests[keyed[i]].idempotency_key;
	}
	values[0] = text_array(keys, nkeys);
	plan_execute(PLAN_READ_KEYS, values, NULL, SPI_OK_SELECT);
	if (SPI_processed != (uint64) nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not read the outcome of an idempotency key used at the same time")));
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		OrderRequest *request =
			&batch->requests[keyed[find_keyed(batch, keyed, count, spi_string(row, 1))]];
		bool  no_error;
		Datum error = spi_datum(row, 4, &no_error);
		bool  is_same = (uint64) spi_int64(row, 2) == request->hash;

		request->is_replay = true;
		request->order_id = is_same && no_error ? spi_int64(row, 3) : 0;
		if (!is_same)
			key_reused(request);
		else if (!no_error)
			request->error = request_error_from_jsonb(DatumGetJsonbPCopy(error));
	}
}

void
idempotency_claim(RequestBatch *batch)
{
	int         *keyed = palloc(sizeof(int) * Max(batch->nrequests, 1));
	int          count = distinct_keys(batch, keyed);
	const char **keys;
	int64       *hashes;
	int64       *order_ids;
	bool        *claimed;
	Oid          sequence;
	Datum        values[3];
	uint64       nclaimed;

	if (batch->skip_locked && count > 0)
		count = leave_out_busy(batch, keyed, count);
	if (count == 0)
		return;
	keys = palloc(sizeof(char *) * count);
	hashes = palloc(sizeof(int64) * count);
	order_ids = palloc(sizeof(int64) * count);
	claimed = palloc0(sizeof(bool) * count);
	sequence = order_id_sequence();
	for (int i = 0; i < count; i++)
	{
		OrderRequest *request = &batch->requests[keyed[i]];

		request->order_id = nextval_internal(sequence, false);
		keys[i] = request->idempotency_key;
		hashes[i] = (int64) request->hash;
		order_ids[i] = request->order_id;
	}
	values[0] = text_array(keys, count);
	values[1] = int8_array(hashes, count);
	values[2] = int8_array(order_ids, count);
	plan_execute(PLAN_CLAIM_KEYS, values, NULL, SPI_OK_INSERT_RETURNING);
	nclaimed = SPI_processed;
	for (uint64 row = 0; row < nclaimed; row++)
		claimed[find_keyed(batch, keyed, count, spi_string(row, 1))] = true;
	if (nclaimed < (uint64) count)
		read_outcomes(batch, keyed, count, claimed);
}

void
idempotency_record_errors(RequestBatch *batch)
{
	const char **keys = palloc(sizeof(char *) * Max(batch->nrequests, 1));
	const char **errors = palloc(sizeof(char *) * Max(batch->nrequests, 1));
	const char **released = palloc(sizeof(char *) * Max(batch->nrequests, 1));
	int          count = 0;
	int          nreleased = 0;
	Datum        values[2];

	for (int i = 0; i < batch->nrequests; i++)
	{
		OrderRequest *request = &batch->requests[i];

		/* a malformed request and a repeated key claimed nothing */
		if (request->error == NULL || request->is_replay || request->order_id == 0 ||
			request->idempotency_key == NULL)
			continue;
		if (request->error->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE || request->drops_refusal)
		{
			/* that is no outcome: it may be tried again, and nothing was done */
			released[nreleased++] = request->idempotency_key;
			request->order_id = 0;
			continue;
		}
		keys[count] = request->idempotency_key;
		errors[count] = JsonbToCString(NULL, &request_error_to_jsonb(request->error)->root, 0);
		count++;
		request->order_id = 0;
	}
	if (nreleased > 0)
	{
		values[0] = text_array(released, nreleased);
		plan_execute(PLAN_RELEASE_KEYS, values, NULL, SPI_OK_DELETE);
	}
	if (count == 0)
		return;
	values[0] = text_array(keys, count);
	values[1] = text_array(errors, count);
	plan_execute(PLAN_RECORD_ERRORS, values, NULL, SPI_OK_UPDATE);
}

bool
idempotency_claim_action(const char *key, const char *action, int64 order_id, const char *request)
{
	char *whole = psprintf("%s " INT64_FORMAT " %s", action, order_id, request);
	int64 hash = (int64) hash_bytes_extended((const unsigned char *) whole, (int) strlen(whole), 0);
	Datum values[4] = {CStringGetTextDatum(key), Int64GetDatum(hash), Int64GetDatum(order_id),
					   CStringGetTextDatum(action)};
	char *found;

	plan_execute(PLAN_CLAIM_ACTION, values, NULL, SPI_OK_INSERT);
	if (SPI_processed == 1)
		return true;
	plan_execute(PLAN_READ_ACTION, values, NULL, SPI_OK_SELECT);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not read the outcome of an idempotency key used at the same time")));
	found = spi_string(0, 1);
	if (found == NULL || strcmp(found, action) != 0 || spi_int64(0, 2) != hash)
		idempotency_key_reused(key);
	return false;
}

void
idempotency_key_reused(const char *key)
{
	ereport(ERROR, (errcode(ERRCODE_OA_KEY_REUSED),
					errmsg("idempotency key \"%s\" was used with another request", key),
					errdetail("The same key must come with the same request."),
					err_field("idempotency_key")));
}
