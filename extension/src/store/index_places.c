/*
 * index_places.c
 *		Where the rows of many keys begin, by walking along a btree once.
 *
 * A scan for each key goes down from the root each time, and prepares itself for more than one row:
 * 1.8 us a key, a sixth of a batch of a thousand orders (docs/performance.md). Here each leaf page
 * is visited once for all keys that are on it. It is what _bt_first() does and no more: what may go
 * on at the next page, and dead entries that are to be marked, are left to a scan.
 */
#include "postgres.h"

#include "store/index_places.h"

#include "access/nbtree.h"
#include "catalog/pg_collation_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "store/array.h"
#include "store/compat.h"

#define LEAF_KEYS_MAX 1024 /* looked up before the leaf's lock is given back */

/* A walk under way. */
typedef struct Walk
{
	Relation         index;
	BTScanInsert     key;         /* the current one */
	bool             is_one_text; /* COLLATE "C", ascending */
	Buffer           leaf;        /* read-locked; InvalidBuffer: none */
	OffsetNumber     next;        /* on the leaf: no key that is still to come is before it */
	ItemPointerData *places;
	int              nplaces;
	int              room;
} Walk;

static void
set_key(Walk *walk, const Datum *values)
{
	for (int i = 0; i < walk->key->keysz; i++)
	{
		walk->key->scankeys[i].sk_argument = values[i];
		walk->key->scankeys[i].sk_flags &= ~SK_ISNULL;
	}
}

/* The first column of an entry, if it is there as a plain text; else NULL. */
static text *
plain_text(Page page, OffsetNumber place)
{
	IndexTuple entry = (IndexTuple) PageGetItem(page, PageGetItemId(page, place));
	char      *data = (char *) entry + IndexInfoFindDataOffset(entry->t_info);

	return IndexTupleHasNulls(entry) || VARATT_IS_COMPRESSED(data) ? NULL : (text *) data;
}

/* Below zero if the key is before the entry. One text COLLATE "C" is compared here, which takes a
 * third of the time. */
static int
compare_at(const Walk *walk, Page page, OffsetNumber place)
{
	text *entry = walk->is_one_text && place != P_HIKEY ? plain_text(page, place) : NULL;
	text *key;
	int   bytes[2];
	int   order;

	if (entry == NULL)
		return _bt_compare(walk->index, walk->key, page, place);
	key = DatumGetTextPP(walk->key->scankeys[0].sk_argument);
	bytes[0] = VARSIZE_ANY_EXHDR(key);
	bytes[1] = VARSIZE_ANY_EXHDR(entry);
	order = memcmp(VARDATA_ANY(key), VARDATA_ANY(entry), Min(bytes[0], bytes[1]));
	return order != 0 ? order : bytes[0] - bytes[1];
}

static void
leave_leaf(Walk *walk)
{
	if (BufferIsValid(walk->leaf))
		_bt_relbuf(walk->index, walk->leaf);
	walk->leaf = InvalidBuffer;
}

/* To the leaf where the key is, unless it is this one; false if the index is empty. */
static bool
go_to_leaf(Walk *walk)
{
	if (BufferIsValid(walk->leaf))
	{
		Page page = BufferGetPage(walk->leaf);

		if (P_RIGHTMOST(BTPageGetOpaque(page)) || compare_at(walk, page, P_HIKEY) <= 0)
			return true;
		leave_leaf(walk);
	}
	CHECK_FOR_INTERRUPTS();
	_bt_freestack(compat_bt_search(walk->index, walk->key, &walk->leaf));
	if (!BufferIsValid(walk->leaf))
		return false;
	walk->next = P_FIRSTDATAKEY(BTPageGetOpaque(BufferGetPage(walk->leaf)));
	return true;
}

/* The first entry of the page that is not before the key. */
static OffsetNumber
lower_bound(const Walk *walk, Page page)
{
	OffsetNumber low = walk->next;
	OffsetNumber high = OffsetNumberNext(PageGetMaxOffsetNumber(page));

	while (low < high)
	{
		OffsetNumber middle = low + (high - low) / 2;

		if (compare_at(walk, page, middle) > 0)
			low = OffsetNumberNext(middle);
		else
			high = middle;
	}
	return low;
}

static void
add_places(Walk *walk, const ItemPointerData *places, int count)
{
	for (int i = 0; i < count; i++)
	{
		walk->places =
			array_with_room(walk->places, walk->nplaces, &walk->room, sizeof(ItemPointerData));
		walk->places[walk->nplaces++] = places[i];
	}
}

static void
add_entry(Walk *walk, Page page, OffsetNumber place)
{
	ItemId     id = PageGetItemId(page, place);
	IndexTuple entry = (IndexTuple) PageGetItem(page, id);

	if (ItemIdIsDead(id))
		return;
	if (BTreeTupleIsPosting(entry))
		add_places(walk, BTreeTupleGetPosting(entry), BTreeTupleGetNPosting(entry));
	else
		add_places(walk, &entry->t_tid, 1);
}

static KeyPlaces
find_key(Walk *walk)
{
	KeyPlaces    found = {walk->nplaces, 0};
	Page         page;
	OffsetNumber last;

	pgstat_count_index_scan(walk->index);
	if (!go_to_leaf(walk))
		return found;
	page = BufferGetPage(walk->leaf);
	last = PageGetMaxOffsetNumber(page);
	walk->next = lower_bound(walk, page);
	while (walk->next <= last && compare_at(walk, page, walk->next) == 0)
	{
		add_entry(walk, page, walk->next);
		walk->next = OffsetNumberNext(walk->next);
	}
	found.count = walk->nplaces - found.first;
	/* the next page may have more of them */
	if (walk->next > last && !P_RIGHTMOST(BTPageGetOpaque(page)) &&
		compare_at(walk, page, P_HIKEY) == 0)
		found.count = PLACES_UNKNOWN;
	return found;
}

KeyPlaces *
index_find_places(Relation index, const Datum *keys, int ncolumns, int nkeys,
				  ItemPointerData **places)
{
	KeyPlaces *found = palloc(sizeof(KeyPlaces) * nkeys);
	Walk       walk = {.index = index, .key = _bt_mkscankey(index, NULL), .room = nkeys};

	_bt_metaversion(index, &walk.key->heapkeyspace, &walk.key->allequalimage);
	walk.key->keysz = ncolumns;
	walk.is_one_text = ncolumns == 1 && index->rd_opcintype[0] == TEXTOID &&
					   index->rd_indcollation[0] == C_COLLATION_OID && index->rd_indoption[0] == 0;
	walk.places = palloc(sizeof(ItemPointerData) * nkeys);
	for (int i = 0; i < nkeys; i++)
	{
		if (i % LEAF_KEYS_MAX == 0)
			leave_leaf(&walk);
		set_key(&walk, keys + (size_t) i * ncolumns);
		found[i] = find_key(&walk);
	}
	leave_leaf(&walk);
	*places = walk.places;
	return found;
}
