/*
 * replay_timeline.c
 *		replay_timeline(): of which timeline is what a standby can show?
 *
 * A primary that comes back after it was replaced is a standby that may be further than its
 * successor, but on the timeline of before, until it is set back to where that began.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "store/symbols.h"
#include "utils/builtins.h"

OA_FUNCTION(oa_replay_timeline);

Datum
oa_replay_timeline(PG_FUNCTION_ARGS)
{
	TimeLineID timeline = 0;

	if (!RecoveryInProgress() || XLogRecPtrIsInvalid(GetXLogReplayRecPtr(&timeline)))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%08X", timeline)));
}
