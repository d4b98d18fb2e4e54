/*
 * stock.c
 *		Stock rows: locked in their order, changed once each.
 *
 * The locking order of every path is (product_id, vendor_id), in one go, after
 * any order rows. Changes are folded here in memory, so a row that a thousand
 * orders want is still written once.
 *
 * Rows are locked and updated by the table access method directly: planning and
 * running SQL for it took half of the time of a small order (docs/performance.md).
 * What LockRows and ModifyTable do is done here: wait for the last version, fail
 * with a serialization error under REPEATABLE READ, insert into the indexes
 * unless the update was HOT.
 */
#include "stock.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* Columns of "stock" and "vendor", as the tables define them. */
enum
{
	STOCK_PRODUCT_ID = 1,
	STOCK_VENDOR_ID,
	STOCK_VENDOR_SKU,
	STOCK_PRICE,
	STOCK_ON_HAND,
	STOCK_RESERVED,
	STOCK_BUFFER,
	STOCK_IS_ACTIVE
};

enum
{
	VENDOR_VENDOR_ID = 1,
	VENDOR_VENDOR_NO,
	VENDOR_PRIORITY = 5,
	VENDOR_IS_ACTIVE
};

/* What an offer needs of its vendor; read once a call. */
typedef struct VendorFacts
{
	const char *vendor_id;
	int32       vendor_no;
	int32       priority;
	bool        is_active;
	uint32      hash;
	char        status;
} VendorFacts;

#define SH_PREFIX       vendors
#define SH_ELEMENT_TYPE VendorFacts
#define SH_KEY_TYPE     const char *
#define SH_KEY          vendor_id
#define SH_SCOPE        static inline
#define SH_DECLARE
#define SH_DEFINE
#define SH_HASH_KEY(tb, key) hash_bytes((const unsigned char *) (key), (int) strlen(key))
#define SH_EQUAL(tb, a, b)   (strcmp((a), (b)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(tb, a) ((a)->hash)
#include "common/hashfn.h"
#include "lib/simplehash.h"

/* A lookup by the leading columns of a table's primary key. */
typedef struct KeyScan
{
	Relation        table;
	Relation        index;
	IndexScanDesc   scan;
	TupleTableSlot *slot;
} KeyScan;

static void
key_scan_begin(KeyScan *scan, const char *table_name, LOCKMODE mode, int nkeys)
{
	scan->table = table_open(table_oid(table_name), mode);
	/* makes the table know its primary key */
	(void) RelationGetIndexList(scan->table);
	scan->index = index_open(RelationGetPrimaryKeyIndex(scan->table), AccessShareLock);
	scan->scan = index_beginscan(scan->table, scan->index, GetActiveSnapshot(), nkeys, 0);
	scan->slot = table_slot_create(scan->table, NULL);
}

/* Looks up another key; rows come from index_getnext_slot(). key2 may be NULL if nkeys is 1. */
static void
key_scan_find(KeyScan *scan, const char *key1, const char *key2)
{
	ScanKeyData keys[2];

	/* ScanKeyInit uses the "C" collation, which is the columns' own */
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key1));
	if (key2 != NULL)
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(key2));
	index_rescan(scan->scan, keys, key2 != NULL ? 2 : 1, NULL, 0);
}

static void
key_scan_end(KeyScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, NoLock);
	table_close(scan->table, NoLock);
}

/* ---------- locking ---------- */

typedef struct Locking
{
	KeyScan         stock;
	KeyScan         vendor;
	vendors_hash   *vendors;
	TupleTableSlot *locked; /* the last version of the row */
	StockRows      *rows;
	int             room;
} Locking;

static Datum
column(TupleTableSlot *slot, int number)
{
	bool is_null;

	return slot_getattr(slot, number, &is_null);
}

static const VendorFacts *
find_vendor(Locking *locking, const char *vendor_id)
{
	bool         found;
	VendorFacts *facts = vendors_insert(locking->vendors, vendor_id, &found);

	if (found)
		return facts;
	key_scan_find(&locking->vendor, vendor_id, NULL);
	if (!index_getnext_slot(locking->vendor.scan, ForwardScanDirection, locking->vendor.slot))
		elog(ERROR, "vendor \"%s\" of a stock row does not exist", vendor_id);
	facts->vendor_no = DatumGetInt32(column(locking->vendor.slot, VENDOR_VENDOR_NO));
	facts->priority = DatumGetInt32(column(locking->vendor.slot, VENDOR_PRIORITY));
	facts->is_active = DatumGetBool(column(locking->vendor.slot, VENDOR_IS_ACTIVE));
	return facts;
}

static void
add_locked_row(Locking *locking)
{
	TupleTableSlot    *slot = locking->locked;
	StockRows         *stock = locking->rows;
	StockRow          *row;
	SourcingOffer     *offer;
	const VendorFacts *vendor;

	if (stock->nrows == locking->room)
	{
		locking->room *= 2;
		stock->rows = repalloc(stock->rows, sizeof(StockRow) * locking->room);
		stock->offers = repalloc(stock->offers, sizeof(SourcingOffer) * locking->room);
	}
	row = &stock->rows[stock->nrows];
	offer = &stock->offers[stock->nrows++];
	memset(row, 0, sizeof(StockRow));
	memset(offer, 0, sizeof(SourcingOffer));

	row->tuple = ExecCopySlotHeapTuple(slot);
	row->product_id = TextDatumGetCString(column(slot, STOCK_PRODUCT_ID));
	row->vendor_id = TextDatumGetCString(column(slot, STOCK_VENDOR_ID));
	row->vendor_sku = TextDatumGetCString(column(slot, STOCK_VENDOR_SKU));
	row->unit_price = DatumGetNumericCopy(column(slot, STOCK_PRICE));
	if (!price_from_numeric(row->unit_price, &row->price))
		elog(ERROR, "price of product \"%s\" at vendor \"%s\" is out of range", row->product_id, row->vendor_id);
	vendor = find_vendor(locking, row->vendor_id);
	row->free = DatumGetInt64(column(slot, STOCK_ON_HAND)) - DatumGetInt64(column(slot, STOCK_RESERVED)) -
				DatumGetInt64(column(slot, STOCK_BUFFER));
	row->is_active = DatumGetBool(column(slot, STOCK_IS_ACTIVE)) && vendor->is_active;
	offer->price = row->price.amount;
	offer->available = row->is_active ? Max(0, row->free) : 0;
	offer->vendor = vendor->vendor_no;
	offer->priority = vendor->priority;
}

/* Locks the rows that the stock scan finds, waiting for whoever holds them. */
static void
lock_found_rows(Locking *locking)
{
	KeyScan *stock = &locking->stock;
	uint8    flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	while (index_getnext_slot(stock->scan, ForwardScanDirection, stock->slot))
	{
		TM_FailureData failure;
		TM_Result      result;

		CHECK_FOR_INTERRUPTS();
		result = table_tuple_lock(stock->table, &stock->slot->tts_tid, GetActiveSnapshot(), locking->locked,
								  GetCurrentCommandId(true), LockTupleNoKeyExclusive, LockWaitBlock, flags, &failure);
		if (result == TM_Ok)
			add_locked_row(locking);
		else if (result != TM_Deleted || IsolationUsesXactSnapshot())
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
							errmsg("could not serialize access to stock due to concurrent update")));
	}
}

static void
locking_begin(Locking *locking, int nkeys, int expected)
{
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	key_scan_begin(&locking->stock, "stock", RowExclusiveLock, nkeys);
	key_scan_begin(&locking->vendor, "vendor", AccessShareLock, 1);
	locking->vendors = vendors_create(CurrentMemoryContext, 16, NULL);
	locking->locked = table_slot_create(locking->stock.table, NULL);
	locking->room = Max(expected, 8);
	locking->rows = palloc0(sizeof(StockRows));
	locking->rows->rows = palloc(sizeof(StockRow) * locking->room);
	locking->rows->offers = palloc(sizeof(SourcingOffer) * locking->room);
}

static StockRows *
locking_end(Locking *locking)
{
	ExecDropSingleTupleTableSlot(locking->locked);
	key_scan_end(&locking->vendor);
	key_scan_end(&locking->stock);
	vendors_destroy(locking->vendors);
	PopActiveSnapshot();
	return locking->rows;
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

StockRows *
stock_lock_offers(const char **product_ids, int count)
{
	const char **sorted = palloc(sizeof(char *) * Max(count, 1));
	Locking      locking;

	memcpy(sorted, product_ids, sizeof(char *) * count);
	qsort(sorted, count, sizeof(char *), compare_strings);
	locking_begin(&locking, 1, count);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && strcmp(sorted[i - 1], sorted[i]) == 0)
			continue;
		key_scan_find(&locking.stock, sorted[i], NULL);
		lock_found_rows(&locking);
	}
	return locking_end(&locking);
}

typedef struct StockKey
{
	const char *product_id;
	const char *vendor_id;
} StockKey;

static int
compare_keys(const void *a, const void *b)
{
	const StockKey *left = a;
	const StockKey *right = b;
	int             order = strcmp(left->product_id, right->product_id);

	return order != 0 ? order : strcmp(left->vendor_id, right->vendor_id);
}

StockRows *
stock_lock_rows(const char **product_ids, const char **vendor_ids, int count)
{
	StockKey *keys = palloc(sizeof(StockKey) * Max(count, 1));
	Locking   locking;

	for (int i = 0; i < count; i++)
		keys[i] = (StockKey){product_ids[i], vendor_ids[i]};
	qsort(keys, count, sizeof(StockKey), compare_keys);
	locking_begin(&locking, 2, count);
	for (int i = 0; i < count; i++)
	{
		if (i > 0 && compare_keys(&keys[i - 1], &keys[i]) == 0)
			continue;
		key_scan_find(&locking.stock, keys[i].product_id, keys[i].vendor_id);
		lock_found_rows(&locking);
	}
	return locking_end(&locking);
}

/* ---------- finding ---------- */

/* The first row that is not before (product, vendor); vendor NULL is before all. */
static int
lower_bound(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	int low = 0;
	int high = stock->nrows;

	while (low < high)
	{
		int             middle = (low + high) / 2;
		const StockRow *row = &stock->rows[middle];
		int             order = strcmp(row->product_id, product_id);

		if (order == 0 && vendor_id != NULL)
			order = strcmp(row->vendor_id, vendor_id);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
stock_find_offers(const StockRows *stock, const char *product_id, int *first, int *count)
{
	int row = lower_bound(stock, product_id, NULL);

	*first = row;
	while (row < stock->nrows && strcmp(stock->rows[row].product_id, product_id) == 0)
		row++;
	*count = row - *first;
}

StockRow *
stock_find(const StockRows *stock, const char *product_id, const char *vendor_id)
{
	int row = lower_bound(stock, product_id, vendor_id);

	if (row < stock->nrows && strcmp(stock->rows[row].product_id, product_id) == 0 &&
		strcmp(stock->rows[row].vendor_id, vendor_id) == 0)
		return &stock->rows[row];
	return NULL;
}

/* ---------- changing ---------- */

void
stock_reserve(StockRows *stock, int row, int64 quantity)
{
	if (quantity <= 0 || quantity > stock->offers[row].available)
		elog(ERROR, "reserving " INT64_FORMAT " of " INT64_FORMAT " available", quantity, stock->offers[row].available);
	stock->offers[row].available -= quantity;
	stock->rows[row].free -= quantity;
	stock->rows[row].reserved_change += quantity;
}

void
stock_release(StockRows *stock, StockRow *row, int64 quantity)
{
	row->reserved_change -= quantity;
	row->free += quantity;
	if (row->is_active)
		stock->offers[row - stock->rows].available = Max(0, row->free);
}

void
stock_ship(StockRow *row, int64 quantity)
{
	row->reserved_change -= quantity;
	row->on_hand_change -= quantity;
}

void
stock_return(StockRow *row, int64 quantity)
{
	row->on_hand_change += quantity;
}

/* The row with its counters changed. */
static HeapTuple
changed_tuple(const StockRow *row, TupleDesc desc)
{
	int   columns[2] = {STOCK_ON_HAND, STOCK_RESERVED};
	bool  nulls[2] = {false, false};
	Datum values[2];
	int64 on_hand = DatumGetInt64(heap_getattr(row->tuple, STOCK_ON_HAND, desc, &nulls[0])) + row->on_hand_change;
	int64 reserved = DatumGetInt64(heap_getattr(row->tuple, STOCK_RESERVED, desc, &nulls[1])) + row->reserved_change;

	if (reserved < 0)
		ereport(ERROR, (errcode(ERRCODE_OA_STATE),
						errmsg("stock of product \"%s\" at vendor \"%s\" cannot be negative", row->product_id, row->vendor_id),
						errdetail("reserved would be " INT64_FORMAT ".", reserved)));

	/*
	 * A feed may tell of the vendor's decrement before its reply does: then the
	 * units have left on_hand already, and the next feed sets it right.
	 */
	values[0] = Int64GetDatum(Max(0, on_hand));
	values[1] = Int64GetDatum(reserved);
	return heap_modify_tuple_by_cols(row->tuple, desc, 2, columns, values, nulls);
}

void
stock_write_changes(StockRows *stock)
{
	Relation        table = table_open(table_oid("stock"), RowExclusiveLock);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
	EState         *estate = NULL; /* this and the next: for updates that are not HOT, which are rare */
	ResultRelInfo  *result_rel = NULL;

	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; i < stock->nrows; i++)
	{
		StockRow      *row = &stock->rows[i];
		HeapTuple      tuple;
		TM_FailureData failure;
		LockTupleMode  mode;
		bool           update_indexes;

		if (row->on_hand_change == 0 && row->reserved_change == 0)
			continue;
		tuple = changed_tuple(row, RelationGetDescr(table));
		ExecStoreHeapTuple(tuple, slot, false);
		if (table_tuple_update(table, &row->tuple->t_self, slot, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot,
							   true, &failure, &mode, &update_indexes) != TM_Ok)
			elog(ERROR, "a locked stock row was changed by someone else");
		if (update_indexes)
		{
			if (result_rel == NULL)
			{
				estate = CreateExecutorState();
				result_rel = makeNode(ResultRelInfo);
				InitResultRelInfo(result_rel, table, 0, NULL, 0); /* of no query: it has no range table */
				ExecOpenIndices(result_rel, false);
			}
			ExecInsertIndexTuples(result_rel, slot, estate, true, false, NULL, NIL);
			ResetPerTupleExprContext(estate);
		}
		ExecClearTuple(slot);
		heap_freetuple(tuple);
	}
	PopActiveSnapshot();
	if (result_rel != NULL)
	{
		ExecCloseIndices(result_rel);
		FreeExecutorState(estate);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, NoLock);
	CommandCounterIncrement();
}
