/*
 * sync_state.h
 *		What the files of the sync role share.
 */
#ifndef SYNC_STATE_H
#define SYNC_STATE_H

#include <jansson.h>

#include "link/db.h"
#include "link/statements.h"
#include "sync/pull.h"
#include "sync/sync.h"

#define PART_ITEMS        500
#define SAMPLE_SKUS       1000 /* of a feed: how much it lacks is judged by them */
#define PAUSE_US_A_ROW    2
#define LOOK_EVERY_MS     500
#define PAUSE_US_MIN      1000
#define NICENESS          10
#define PULLS_MAX         50 /* under way */
#define STATEMENT_MS      10000
#define LOCK_TIMEOUT_MS   500
#define ASIDE_US_MIN      250000
#define ASIDE_US_STEP_MAX 2000000
#define ASIDE_US_MAX                                                                               \
	10000000 /* then the feed is given up: it is due again when its lease is over */
#define POSTPONE_S "5"
#define LEASE_S    60 /* beyond the time of the transfer: for applying it */
#define OID_INT4   23
#define OID_INT8   20
#define OID_TEXT   25
#define OID_FLOAT8 701
#define OID_INT4S  1007
#define OID_TEXTS  1009

typedef enum Stage
{
	STAGE_BEGIN, /* the database has not begun the feed yet */
	STAGE_PARTS, /* entered when it has */
	STAGE_FINISH /* entered when all parts are applied */
} Stage;

/* A feed that is being applied. */
typedef struct Applying
{
	struct Applying *next;
	PullResult      *pull;
	Stage            stage;
	char             sync_id[24]; /* from STAGE_PARTS on */
	size_t           done;        /* items */
	const char      *after;       /* the last SKU of the parts applied; NULL: none is */
	long long        pause_us;    /* to be made up for */
	long long        resume_us;   /* the next step is to wait until then */
	int              tries;       /* how often in a row it met somebody's lock */
	long long        give_up_us;  /* of those: when they are too many */
} Applying;

typedef struct Syncer
{
	Db       *db;
	Puller   *puller;
	Applying *applying;
	json_t   *results;  /* NULL: nobody asks */
	json_t   *given_up; /* [vendor_id, sync_id or null] of what was under way, to be handed back */
} Syncer;

/* ---------- sync_outcome.c ---------- */

extern void sync_tell(Syncer *syncer, const char *vendor_id, const char *status, const char *items,
					  const char *error);
extern void sync_record(Syncer *syncer, const char *vendor_id, const char *sync_id,
						const char *status, const char *error, double retry_after_s,
						const char *config_no);
extern void sync_note_given_up(Syncer *syncer, const char *vendor_id, const char *sync_id);
extern bool sync_make_due(Syncer *syncer, const char *vendor_id, const char *sync_id,
						  const char *message, const char *seconds);
extern void sync_postpone(Syncer *syncer, const char *vendor_id, const char *sync_id,
						  const char *message);
extern bool sync_set_aside(Syncer *syncer, Applying *applying, DbOutcome outcome,
						   const PGresult *result);
extern bool sync_succeeded(Syncer *syncer, const char *vendor_id, const char *sync_id,
						   DbOutcome outcome, const PGresult *result);

/* ---------- sync.c, sync_apply.c ---------- */

extern void sync_forget(Syncer *syncer, Applying *applying);
extern void sync_finish(Syncer *syncer, Applying *applying);
extern void sync_apply_part(Syncer *syncer, Applying *applying);
extern void sync_begin(Syncer *syncer, Applying *applying);

#endif /* SYNC_STATE_H */
