/*
 * plans.h
 *		Every SQL statement of the extension, prepared once a session.
 */
#ifndef OA_PLANS_H
#define OA_PLANS_H

#include "postgres.h"

#include "executor/spi.h"

typedef enum PlanId
{
	PLAN_KNOWN_PRODUCTS,
	PLAN_LAST_TIMELINE,
	PLAN_LAST_ORDER_ID,
	PLAN_LAST_ORDER,
	PLAN_CLAIM_KEYS,
	PLAN_READ_KEYS,
	PLAN_RECORD_ERRORS,
	PLAN_RELEASE_KEYS,
	PLAN_REPLAY_ORDERS,
	PLAN_LOCK_EXPIRED,
	PLAN_LOCK_SILENT,
	PLAN_READ_SILENT,
	PLAN_RECORD_RETRIES,
	PLAN_CLAIM_ACTION,
	PLAN_READ_ACTION,
	PLAN_REFERS_TO_VENDOR,
	PLAN_REFERS_TO_PRODUCT,
	PLAN_VENDOR_LOGIN,
	PLAN_AMQP_USERS,
	PLAN_REGISTER_VENDOR,
	PLAN_LOCK_VENDOR,
	PLAN_LOCK_VENDOR_FEEDS,
	PLAN_RUNNING_PULL,
	PLAN_LIMIT_FEEDS,
	PLAN_ACCEPT_FEED,
	PLAN_CONFIGURE_VENDOR,
	PLAN_SET_AMQP_USER,
	PLAN_FORGET_LOGINS,
	PLAN_ADD_LOGINS,
	PLAN_CONFIGURE_PRODUCT,
	PLAN_CONFIGURE_STOCK,
	PLAN_PRODUCTS_IN_LANES,
	PLAN_FORGET_LANES,
	PLAN_SET_PRODUCT_LANES,
	PLAN_SET_STOCK_LANES,
	PLAN_UNMAP_PRODUCTS,
	PLAN_CLAIMED_PRODUCT,
	PLAN_MAP_PRODUCTS,
	PLAN_PULL_ANEW,
	PLAN_COUNT_CONFIG,
	PLAN_FORGET_TIMES,
	PLAN_HAS_URL,
	PLAN_SUPERSEDE_FEED,
	PLAN_VENDOR_BEGINS,
	PLAN_VENDOR_REFUSED,
	PLAN_BEGIN_FEED,
	PLAN_VENDOR_OF_FEED,
	PLAN_LOCK_FEED,
	PLAN_ADD_TO_FEED,
	PLAN_ADD_RULES_TO_FEED,
	PLAN_FINISH_FEED,
	PLAN_VENDOR_SYNCED,
	PLAN_TELL_STALE,
	PLAN_UNNAMED_IN_RANGE,
	PLAN_UNNAMED_PRODUCTS,
	PLAN_ADD_PRODUCTS,
	PLAN_INSERT_PRODUCTS,
	PLAN_NOTE_SHORTAGES,
	PLAN_END_SHORTAGES,
	PLAN_READ_SHORTAGES,
	PLAN_FORGET_SHORTAGES,
	PLAN_ORDERS_HOLDING,
	PLAN_SHORTAGES_TRIED,
	PLAN_READ_RETURNS,
	PLAN_STORE_RETURNS,
	PLAN_LOCK_PARKED,
	PLAN_MARK_REDRIVEN,
	PLAN_OUTBOX_HEAD,
	PLAN_RELAYED_UPTO,
	PLAN_GRANTEES,
	PLAN_PARTITIONS,
	PLAN_NOTE_DROPPED,
	PLAN_FORGET_PARKED,
	PLAN_COUNT
} PlanId;

/*
 * Of partitions, whose names and bounds no statement takes as parameters: formats of %s, the
 * partition's name as an identifier, and of its lower bound and that of the next one.
 */
#define SQL_CREATE_PARTITION                                                                       \
	"CREATE TABLE order_aggregator.%s "                                                            \
	"(LIKE order_aggregator.outbox INCLUDING ALL EXCLUDING INDEXES" COMPAT_IDENTITY_IN_PARTITION   \
	", PRIMARY KEY (event_id)) "                                                                   \
	"USING heap"
#define SQL_ATTACH_PARTITION                                                                       \
	"ALTER TABLE order_aggregator.outbox ATTACH PARTITION order_aggregator.%s "                    \
	"FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")"
/* the second %s: roles, as identifiers */
#define SQL_CLOSE_PARTITION "REVOKE ALL ON order_aggregator.%s FROM %s"
#define SQL_DROP_PARTITION  "DROP TABLE order_aggregator.%s"
/* of the first and the last event by id, and of whichever has the latest */
#define SQL_FIRST_CREATED_AT                                                                       \
	"SELECT o.created_at FROM order_aggregator.%s AS o ORDER BY o.event_id LIMIT 1"
#define SQL_LAST_CREATED_AT                                                                        \
	"SELECT o.created_at FROM order_aggregator.%s AS o ORDER BY o.event_id DESC LIMIT 1"
#define SQL_LATEST_CREATED_AT "SELECT pg_catalog.max(o.created_at) FROM order_aggregator.%s AS o"

/*
 * sql_execute runs one of these and checks that SPI returned "expected". SPI must be connected.
 */
extern void sql_execute(const char *sql, int expected);

/*
 * plan_execute runs the plan with the given arguments and checks that SPI
 * returned "expected" (SPI_OK_SELECT, ...). SPI must be connected. The result
 * is in SPI_tuptable and SPI_processed. nulls may be NULL.
 */
extern void plan_execute(PlanId plan, Datum *values, const char *nulls, int expected);

/* arrays to pass to unnest() or ANY(); a NULL string becomes a NULL element */
extern Datum text_array(const char **strings, int count);
extern Datum int8_array(const int64 *numbers, int count);

/* A column of the current SPI result: by position, counted from 1. */
extern int64 spi_int64(uint64 row, int column);
extern char *spi_string(uint64 row, int column); /* NULL if null; palloc'd */
extern Datum spi_datum(uint64 row, int column, bool *is_null);

#endif /* OA_PLANS_H */
