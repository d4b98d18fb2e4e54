/*
 * settings.h
 *		The settings, order_aggregator.*, as the session has them.
 */
#ifndef OA_SETTINGS_H
#define OA_SETTINGS_H

#define ATTEMPTS_MAX 1000

extern int   guc_hold_for_s;
extern int   guc_hold_for_max_s;
extern int   guc_strategy; /* a SourcingStrategy */
extern int   guc_max_lines;
extern int   guc_max_attempts; /* up to ATTEMPTS_MAX */
extern int   guc_expiry_grace_s;
extern int   guc_max_vendors_per_order; /* 0: any number */
extern int   guc_low_stock;             /* -1: never */
extern bool  guc_sell_unpriced;
extern char *guc_traceparent;

/* settings_define makes them known to the server; once, when the module is loaded. */
extern void settings_define(void);

#endif /* OA_SETTINGS_H */
