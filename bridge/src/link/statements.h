/*
 * statements.h
 *		Every SQL statement of the bridge.
 */
#ifndef BRIDGE_STATEMENTS_H
#define BRIDGE_STATEMENTS_H

/* whoever was answered, or has his reply acknowledged, has it for good; of standbys the setting
 * says
 */
#define SQL_DURABLE(is_local)                                                                      \
	"set_config('synchronous_commit', CASE current_setting('synchronous_commit') "                 \
	"WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, " is_local ")"
/* a format: the time-out, in milliseconds */
#define SQL_SET_TIMEOUT "SET statement_timeout = %d"
/* a format: that, and lock_timeout */
#define SQL_SESSION                                                                                \
	"SET timezone = 'UTC'; SET extra_float_digits = 3; " SQL_SET_TIMEOUT                           \
	"; SET lock_timeout = %d; SELECT " SQL_DURABLE("false")
/* the same for one transaction: $1 and $2 are the time-outs */
extern const char SQL_TRANSACTION[];
extern const char SQL_UNPREPARE[];
extern const char SQL_BACKEND_PID[];
extern const char SQL_DATABASE[];

extern const char SQL_PLACE[];
extern const char SQL_PLACE_SKIP_LOCKED[];
extern const char SQL_APPLY_REPLIES[];
extern const char SQL_APPLY_REPLIES_SKIP_LOCKED[];

extern const char SQL_RELAY_SESSION[];
extern const char SQL_RELAY_LISTEN[];
extern const char SQL_RELAY_LEASE[];
extern const char SQL_RELAY_TRY_LEAD[];
extern const char SQL_RELAY_TIMELINE[];
extern const char SQL_LEAVE_ORDER_IDS[];
extern const char SQL_RELAY_MISSING[];
extern const char SQL_RELAY_ACQUIRE[];
extern const char SQL_RELAY_HORIZON[];
extern const char SQL_RELAY_EVENTS[];
extern const char SQL_RELAY_ADVANCE[];
extern const char SQL_RELAY_PARK[];
extern const char SQL_RELAY_DEFER[];
extern const char SQL_RELAY_DEFERRED[];
extern const char SQL_RELAY_DEFERRED_SENT[];
extern const char SQL_RELAY_HAS_DEFERRED[];
extern const char SQL_OUTBOX_TOP_AND_HEAD[];
extern const char SQL_RELAY_MARK_IDLE[];
extern const char SQL_RELAY_UNMARK_IDLE[];
extern const char SQL_REDRIVE_PARKED[];

extern const char SQL_EXPIRE[];
extern const char SQL_EXPIRE_SKIP_LOCKED[];
extern const char SQL_BACKLOG[];
extern const char SQL_HAS_SILENT[];
extern const char SQL_ASK_SILENT[];
extern const char SQL_MAKE_PARTITIONS[];
extern const char SQL_DROP_PARTITIONS[];
extern const char SQL_FORGET_KEYS[];
extern const char SQL_FORGET_SYNCS[];
extern const char SQL_SETTLE_SHORTAGES[];
extern const char SQL_SETTLE_SHORTAGES_SKIP_LOCKED[];

extern const char SQL_VENDOR_FEEDS[];
extern const char SQL_CLAIM_FEEDS[];
extern const char SQL_CLOCK[];
extern const char SQL_BEGIN_FEED[];
extern const char SQL_APPLY_FEED_PART[];
extern const char SQL_FINISH_FEED[];
extern const char SQL_POSTPONE_FEED[];
extern const char SQL_RECORD_PULL[];
extern const char SQL_TELL_STALE_VENDORS[];

extern const char SQL_GET_ORDERS[];
extern const char SQL_CANCEL_ORDER[];
extern const char SQL_RETURN_ORDER[];
extern const char SQL_GET_PRODUCTS[];
extern const char SQL_GET_PRODUCT_DOCUMENTS[];
extern const char SQL_GET_VENDORS[];
extern const char SQL_GET_SYNCS[];
extern const char SQL_OUTBOX_HEAD[];
extern const char SQL_NEXT_AND_OLDEST_XID[];
extern const char SQL_SETTLED_EVENTS[];
extern const char SQL_OUTBOX_TAIL[];
extern const char SQL_WHICH_DATABASE[];
extern const char SQL_LSN[];
extern const char SQL_HAS_REPLAYED[];
extern const char SQL_DOCTOR_SERVER[];
extern const char SQL_DOCTOR_RIGHTS[];
extern const char SQL_DOCTOR_WORK[];
extern const char SQL_PING[];
extern const char SQL_STATUS[];

#endif /* BRIDGE_STATEMENTS_H */
