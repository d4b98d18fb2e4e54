/*
 * snapshot.c
 *		What a pg_snapshot says.
 */
#include "relay/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool
parse_number(const char **text, char end, uint64_t *number)
{
	char *stop;

	errno = 0;
	*number = strtoull(*text, &stop, 10);
	if (errno != 0 || stop == *text || *stop != end)
		return false;
	*text = *stop == '\0' ? stop : stop + 1;
	return true;
}

bool
snapshot_parse(const char *text, int64_t low_event_id, Snapshot *snapshot)
{
	int room = 0;

	*snapshot = (Snapshot){0};
	if (!parse_number(&text, ':', &snapshot->xmin) || !parse_number(&text, ':', &snapshot->xmax))
		return false;
	for (const char *p = text; *p != '\0'; p++)
		room += *p == ',';
	if (*text == '\0')
		return true;
	if (text[strlen(text) - 1] == ',')
		return false;
	snapshot->running = calloc(room + 1, sizeof(RunningXid));
	if (snapshot->running == NULL)
		return false;
	while (*text != '\0')
	{
		RunningXid *next = &snapshot->running[snapshot->nrunning];

		if (!parse_number(&text, strchr(text, ',') != NULL ? ',' : '\0', &next->xid))
		{
			snapshot_free(snapshot);
			return false;
		}
		next->low_event_id = low_event_id;
		snapshot->nrunning++;
	}
	return true;
}

bool
snapshot_add_begun(Snapshot *snapshot, uint64_t next_xid, int64_t low_event_id)
{
	RunningXid *running;

	if (next_xid <= snapshot->xmax)
		return true;
	running = realloc(snapshot->running,
					  sizeof(RunningXid) * (snapshot->nrunning + (next_xid - snapshot->xmax)));
	if (running == NULL)
		return false;
	snapshot->running = running;
	for (uint64_t xid = snapshot->xmax; xid < next_xid; xid++)
		running[snapshot->nrunning++] = (RunningXid){xid, low_event_id};
	return true;
}

void
snapshot_free(Snapshot *snapshot)
{
	free(snapshot->running);
	*snapshot = (Snapshot){0};
}

static int
compare_xid(const void *key, const void *element)
{
	uint64_t xid = *(const uint64_t *) key;
	uint64_t running = ((const RunningXid *) element)->xid;

	return (xid > running) - (xid < running);
}

static const RunningXid *
find_running(const Snapshot *snapshot, uint64_t xid)
{
	if (snapshot->nrunning == 0)
		return NULL;
	return bsearch(&xid, snapshot->running, (size_t) snapshot->nrunning, sizeof(RunningXid),
				   compare_xid);
}

bool
snapshot_sees(const Snapshot *snapshot, uint64_t xid)
{
	if (xid < snapshot->xmin)
		return true;
	if (xid >= snapshot->xmax)
		return false;
	return find_running(snapshot, xid) == NULL;
}

void
snapshot_inherit(Snapshot *later, const Snapshot *earlier)
{
	for (int i = 0; i < later->nrunning; i++)
	{
		const RunningXid *known = find_running(earlier, later->running[i].xid);

		if (known != NULL)
			later->running[i].low_event_id = known->low_event_id;
	}
}

int64_t
snapshot_low_event_id(const Snapshot *snapshot, int64_t otherwise)
{
	int64_t low = otherwise;

	for (int i = 0; i < snapshot->nrunning; i++)
	{
		if (snapshot->running[i].low_event_id < low)
			low = snapshot->running[i].low_event_id;
	}
	return low;
}
