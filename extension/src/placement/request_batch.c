/*
 * request_batch.c
 *		The products of a batch of requests, each once.
 */
#include "postgres.h"

#include "placement/request.h"

#include "common/hashfn.h"
#include "store/array.h"

#define SH_PREFIX       interned
#define SH_ELEMENT_TYPE InternedProduct
#define SH_KEY_TYPE     const char *
#define SH_KEY          id
#define SH_SCOPE        static inline
#define SH_DECLARE
#define SH_DEFINE
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), (int) strlen(key))
#define SH_EQUAL(tb, a, b)   (strcmp((a), (b)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#include "lib/simplehash.h"

InternedProduct *
request_batch_intern(RequestBatch *batch, char *id)
{
	bool             found;
	InternedProduct *entry = interned_insert(batch->interned, id, &found);

	if (!found)
	{
		batch->product_ids = array_with_room(batch->product_ids, batch->nproducts,
											 &batch->products_size, sizeof(char *));
		entry->index = batch->nproducts;
		entry->seen_request = -1;
		batch->product_ids[batch->nproducts++] = id;
	}
	return entry;
}

int
request_find_product(RequestBatch *batch, char *product_id)
{
	InternedProduct *entry = interned_lookup(batch->interned, product_id);

	return entry != NULL ? entry->index : -1;
}

RequestBatch *
request_batch_create(int nrequests)
{
	RequestBatch *batch = palloc0(sizeof(RequestBatch));

	batch->requests = palloc0(sizeof(OrderRequest) * Max(nrequests, 1));
	batch->products_size = Max(nrequests, 8);
	batch->product_ids = palloc(sizeof(char *) * batch->products_size);
	batch->interned = interned_create(CurrentMemoryContext, batch->products_size, NULL);
	return batch;
}
