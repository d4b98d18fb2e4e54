/*
 * housekeeping.c
 *		The housekeeping role. Any number of bridges may do it side by side.
 */
#include "housekeeping.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "config.h"
#include "db.h"
#include "log.h"
#include "metrics.h"
#include "plans.h"
#include "stop.h"

#define EXPIRE_BATCH        1000
#define PARTITIONS_EVERY_MS 5000
#define RETENTION_EVERY_MS  60000

/* Runs a statement that returns a count; -1 if it failed. */
static int
run(Db *db, const char *doing, const char *sql, const int *argument)
{
	char        text[12];
	const char *params[1] = {text};
	PGresult   *result;
	int         count = -1;

	if (argument != NULL)
		snprintf(text, sizeof(text), "%d", *argument);
	if (db_query(db, doing, sql, argument != NULL, params, &result) == DB_OK)
		count = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	return count;
}

static void
expire(Db *db)
{
	const int batch = EXPIRE_BATCH;
	int       expired;

	do
	{
		expired = run(db, "expiring orders", SQL_EXPIRE, &batch);
		if (expired > 0)
		{
			log_info("%d orders expired", expired);
			metric_add(METRIC_ORDERS_EXPIRED, expired);
		}
	} while (expired == batch && !stop_requested());
}

static void
settle_shortages(Db *db)
{
	const int batch = EXPIRE_BATCH;
	int       moved = run(db, "settling shortages", SQL_SETTLE_SHORTAGES, &batch);

	if (moved > 0)
		log_warning("%d orders lost a vendor whose feed has fewer units than they hold", moved);
}

/* A batch at a time, so that expiry does not wait for all of them; false if there may be more. */
static bool
ask_again(Db *db)
{
	int asked = run(db, "asking silent vendors again", SQL_ASK_SILENT, &config.ask_again_s);

	if (asked <= 0)
		return true;
	log_info("%d questions repeated to vendors that were silent for %d s", asked, config.ask_again_s);
	metric_add(METRIC_VENDORS_ASKED_AGAIN, asked);
	return false;
}

/* Often enough that no question is late by more than a tenth. */
static int
ask_again_every_ms(void)
{
	int tenth = config.ask_again_s > 600 ? 60000 : config.ask_again_s * 100;

	return tenth < 1000 ? 1000 : tenth;
}

/* For the metrics. */
static void
measure(Db *db)
{
	static const Metric gauges[] = {METRIC_OUTBOX_BACKLOG_EVENTS, METRIC_OUTBOX_BACKLOG_SECONDS, METRIC_PARKED_EVENTS,
									METRIC_CIRCUITS_OPEN};
	PGresult           *result;

	if (db_query(db, "measuring the backlog", SQL_BACKLOG, 0, NULL, &result) == DB_OK)
	{
		for (int i = 0; i < 4; i++)
			metric_set(gauges[i], strtoll(PQgetvalue(result, 0, i), NULL, 10));
	}
	PQclear(result);
}

static void
retain(Db *db)
{
	int keys = run(db, "forgetting idempotency keys", SQL_FORGET_KEYS, &config.idempotency_retention_hours);
	int syncs = run(db, "forgetting the history of feeds", SQL_FORGET_SYNCS, &config.sync_retention_hours);
	int partitions = run(db, "dropping outbox partitions", SQL_DROP_PARTITIONS, &config.outbox_retention_hours);

	if (keys > 0 || syncs > 0 || partitions > 0)
		log_info("retention: %d idempotency keys, %d syncs and %d outbox partitions dropped", keys, syncs, partitions);
}

void *
housekeeping_run(void *unused)
{
	Db        db;
	long long partitions_due = 0;
	long long retention_due = 0;
	long long ask_due = 0;

	(void) unused;
	log_set_role("housekeeping");
	db_init(&db, config.database_url, "order-bridge housekeeping", NULL);
	role_set_ready(ROLE_HOUSEKEEPING, false);
	while (db_connect_until_stopped(&db))
	{
		role_set_ready(ROLE_HOUSEKEEPING, true);
		if (monotonic_ms() >= partitions_due)
		{
			if (run(&db, "making outbox partitions", SQL_MAKE_PARTITIONS, NULL) > 0)
				log_info("outbox partitions made");
			measure(&db);
			partitions_due = monotonic_ms() + PARTITIONS_EVERY_MS;
		}
		if (monotonic_ms() >= retention_due)
		{
			retain(&db);
			retention_due = monotonic_ms() + RETENTION_EVERY_MS;
		}
		expire(&db);
		settle_shortages(&db);
		if (config.ask_again_s > 0 && monotonic_ms() >= ask_due && ask_again(&db))
			ask_due = monotonic_ms() + ask_again_every_ms();
		role_set_ready(ROLE_HOUSEKEEPING, db_is_connected(&db));
		stop_wait_ms(config.expire_interval_ms);
	}
	db_close(&db);
	return NULL;
}
