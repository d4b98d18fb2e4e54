/*
 * sync.h
 *		The sync role: vendors' stock feeds, pulled over HTTP and applied.
 */
#ifndef BRIDGE_SYNC_H
#define BRIDGE_SYNC_H

#include <jansson.h>
#include <stdbool.h>

#include "link/db.h"

/*
 * sync_now pulls the feeds of all active vendors, or of one, at once, and
 * applies each as it arrives; fills results with {"vendorId", "status", "items",
 * "error"} for each, in the order of the vendors. Blocks until the slowest has
 * answered or timed out. False if the database cannot be reached, or a stop is requested before it
 * is done.
 */
extern bool sync_now(Db *db, const char *vendor_id, json_t *results)
	__attribute__((warn_unused_result));

/* sync_run pulls every vendor's feed on its interval until a stop is requested. A thread's main
 * function. */
extern void *sync_run(void *unused);

#endif /* BRIDGE_SYNC_H */
