/*
 * partitions.h
 *		The outbox's partitions.
 */
#ifndef OA_PARTITIONS_H
#define OA_PARTITIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"

/* Event ids in a partition, as a power of 2. */
#define OUTBOX_PARTITION_BITS 20

/* outbox_find_partition returns the partition of an event id, or InvalidOid. */
extern Oid outbox_find_partition(int64 event_id);

/* outbox_require_partition raises an error if it is none (any more): nobody would see what is
 * written to it. Who writes asks once it is locked. */
extern void outbox_require_partition(Oid partition);

/*
 * outbox_make_partition makes it, unless somebody has meanwhile, and returns it. Locks the
 * outbox against other such changes only, not against the transactions that write to it. Needs SPI.
 */
extern Oid outbox_make_partition(int64 event_id);

/* outbox_partitions_newest_first locks all partitions and returns their Oids. */
extern List *outbox_partitions_newest_first(LOCKMODE mode);

#endif /* OA_PARTITIONS_H */
