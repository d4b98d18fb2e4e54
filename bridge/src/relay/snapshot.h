/*
 * snapshot.h
 *		What a pg_snapshot says: which transactions had ended when it was taken.
 */
#ifndef BRIDGE_SNAPSHOT_H
#define BRIDGE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

/* A transaction that a snapshot saw running, and an event id below all of its own. */
typedef struct RunningXid
{
	uint64_t xid;
	int64_t  low_event_id;
} RunningXid;

typedef struct Snapshot
{
	uint64_t    xmin;    /* all below had ended */
	uint64_t    xmax;    /* none from here on had ended; some may have begun */
	RunningXid *running; /* begun and not ended, ascending */
	int         nrunning;
} Snapshot;

/*
 * snapshot_parse reads "xmin:xmax:xid,xid"; every running transaction gets
 * low_event_id. False if the text is not a snapshot or memory is short.
 */
extern bool snapshot_parse(const char *text, int64_t low_event_id, Snapshot *snapshot)
	__attribute__((warn_unused_result));

/*
 * snapshot_add_begun adds the transactions from xmax up to next_xid, which had
 * begun but are not in the text, to the running ones. False if memory is short.
 */
extern bool snapshot_add_begun(Snapshot *snapshot, uint64_t next_xid, int64_t low_event_id)
	__attribute__((warn_unused_result));

extern void snapshot_free(Snapshot *snapshot);

/* True if the transaction had ended when the snapshot was taken. */
extern bool snapshot_sees(const Snapshot *snapshot, uint64_t xid);

/*
 * snapshot_inherit gives the running transactions of "later" that were running
 * in "earlier" too the low_event_id they had there.
 */
extern void snapshot_inherit(Snapshot *later, const Snapshot *earlier);

/* The lowest low_event_id of the running transactions; "otherwise" if none runs. */
extern int64_t snapshot_low_event_id(const Snapshot *snapshot, int64_t otherwise);

#endif /* BRIDGE_SNAPSHOT_H */
