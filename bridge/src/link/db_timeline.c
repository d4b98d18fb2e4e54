/*
 * db_timeline.c
 *		Connections to a primary that has been replaced are left.
 *
 * One that hung during the fail-over, and wakes up, does not know of it for a moment: it commits
 * nothing any more, but answers from its past, in which the last orders are not. So once any of
 * our connections has seen a later timeline of the cluster, nothing more is asked of those to an
 * earlier one, and no new one is made.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "link/db_state.h"

static struct
{
	pthread_mutex_t mutex;
	char            cluster[DB_CLUSTER_BYTES]; /* its system identifier; empty: none was seen yet */
	unsigned        timeline;
} latest = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void
db_see_timeline(Db *db, const char *cluster, const char *timeline)
{
	if (cluster != NULL)
		snprintf(db->cluster, sizeof(db->cluster), "%s", cluster);
	db->timeline = (unsigned) strtoul(timeline, NULL, 16);
	/* a cluster that has not said which it is yet; what is only read from may have been promoted by
	 * itself, and be ahead */
	if (db->timeline == 0 || *db->cluster == '\0' || strcmp(db->target, DB_TARGET_PRIMARY) != 0)
		return;
	pthread_mutex_lock(&latest.mutex);
	/* which cluster ours is only a new connection can tell */
	if (strcmp(latest.cluster, db->cluster) != 0 ? cluster != NULL : latest.timeline < db->timeline)
	{
		memcpy(latest.cluster, db->cluster, sizeof(latest.cluster));
		latest.timeline = db->timeline;
	}
	pthread_mutex_unlock(&latest.mutex);
}

bool
db_is_of_the_past(const Db *db)
{
	bool is_past;

	pthread_mutex_lock(&latest.mutex);
	is_past = db->timeline != 0 && db->timeline < latest.timeline &&
			  strcmp(latest.cluster, db->cluster) == 0;
	pthread_mutex_unlock(&latest.mutex);
	return is_past;
}
