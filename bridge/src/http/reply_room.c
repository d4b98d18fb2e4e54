/*
 * reply_room.c
 *		Is there memory for one more answer that waits for its client?
 */
#include "http/reply_room.h"

#include <string.h>

#include "base/config.h"

#define ORDINARY_BYTES_MAX 2048 /* a body that always has room, and its key */

bool
reply_room_is_spent(void)
{
	return http_waiting_bytes() > config.bodies_bytes_max;
}

bool
reply_room_is_short(void)
{
	return http_waiting_bytes() > config.bodies_bytes_max / 2;
}

bool
reply_room_for(const Job *job)
{
	bool is_order = job->query == NULL;

	return !reply_room_is_spent() || (is_order && strlen(job->body) <= ORDINARY_BYTES_MAX);
}
