/*
 * request.h
 *		Order requests: from JSON to structs, checked field by field.
 *
 * Nothing here raises an error for what a caller sent: a request that is not
 * well-formed carries a RequestError, so that it disturbs no other request of
 * its batch. All memory is of the context current at the call.
 */
#ifndef OA_REQUEST_H
#define OA_REQUEST_H

#include "postgres.h"

#include "store/compat.h"
#include "store/offers.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* Why a request cannot be served. */
typedef struct RequestError
{
	int   sqlstate;
	char *message;
	char *detail; /* may be NULL; for OA001 a JSON object */
	char *hint;   /* may be NULL */
	char *field;  /* the field at fault, as the caller wrote it; may be NULL */
} RequestError;

/* One line; lines of one product have been added up. */
typedef struct OrderLine
{
	int         product; /* index into RequestBatch.product_ids */
	int64       quantity;
	int         given_as; /* the first of them in the caller's products */
	const char *field;    /* the name that its product has there */
} OrderLine;

typedef struct OrderRequest
{
	char            *customer_id; /* NULL: not given */
	OrderLine       *lines;
	int              nlines;
	bool             is_one_line;     /* {"productId", "quantity"} without "products" */
	char            *idempotency_key; /* NULL: not given */
	SourcingStrategy strategy;
	bool             has_strategy; /* given, not the setting's */
	int64            hold_for_us;
	bool             has_hold_for; /* given, not the setting's */
	bool             allow_partial;
	bool   drops_refusal;   /* a refusal is no outcome of its key: the caller has made the key up */
	char  *traceparent;     /* NULL: not given */
	uint64 hash;            /* of all that makes it this request; 0 without a key */
	int    line_being_read; /* of "products", from 1; 0: none */

	RequestError *error;     /* NULL: can be served, or has been */
	int64         order_id;  /* 0: not placed (yet) */
	bool          is_replay; /* the key was used before: nothing to do but answer */
	int           same_as;   /* index of an earlier request with the same key, or -1 */
} OrderRequest;

typedef struct InternedProduct
{
	const char *id;
	int         index;
	int         seen_request; /* the last request that named it ... */
	int         seen_line;    /* ... and in which of its lines */
	uint32      hash;
	char        status;
} InternedProduct;

typedef struct RequestBatch
{
	OrderRequest         *requests;
	int                   nrequests;
	const char          **product_ids; /* each product once, in order of appearance */
	int                   nproducts;
	int                   products_size; /* allocated */
	int                   nlines;        /* of all requests, as they were given */
	struct interned_hash *interned;
	bool skip_locked; /* what others have locked is not waited for: such requests get the error
						 55P03 */
} RequestBatch;

/* request_batch_create makes an empty batch with room for so many requests. */
extern RequestBatch *request_batch_create(int nrequests);

/*
 * request_batch_parse reads a jsonb array of requests; ERROR 22023 if it is not
 * an array, has too many elements, or these too many lines.
 */
extern RequestBatch *request_batch_parse(Jsonb *requests);

/* request_batch_intern returns the product's one entry in the batch; its id is kept, not copied. */
extern InternedProduct *request_batch_intern(RequestBatch *batch, char *product_id);

/* request_find_product returns the product's index in product_ids, or -1. */
extern int request_find_product(RequestBatch *batch, char *product_id);

/*
 * request_add_single adds the request of place_order(): a jsonb array of lines
 * and the function's other arguments, any of which may be NULL.
 */
extern OrderRequest *request_add_single(RequestBatch *batch, char *customer_id, Jsonb *products,
										char *idempotency_key, const char *strategy,
										const Interval *hold_for, bool allow_partial);

/* request_error fills in request->error; message and detail are kept, not copied. */
extern void request_error(OrderRequest *request, int sqlstate, char *message, char *detail,
						  char *field);

/* request_busy gives it the error 55P03: it may be tried again. */
extern void request_busy(OrderRequest *request, char *message);

/* request_error_raise raises it as an ERROR of its own SQLSTATE. */
pg_noreturn extern void request_error_raise(const RequestError *error);

/* {"code", "message", "detail", "field"} and back. */
extern Jsonb        *request_error_to_jsonb(const RequestError *error);
extern RequestError *request_error_from_jsonb(Jsonb *json);

#endif /* OA_REQUEST_H */
