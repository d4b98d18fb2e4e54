/*
 * metrics.h
 *		Counters, gauges and histograms that every role may change, and their Prometheus text.
 */
#ifndef BRIDGE_METRICS_H
#define BRIDGE_METRICS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum Metric
{
	METRIC_HTTP_REQUESTS,
	METRIC_HTTP_REFUSED,
	METRIC_HTTP_SERVER_ERRORS,
	METRIC_INTAKE_DEPTH,
	METRIC_LISTENERS,
	METRIC_ORDERS_PLACED,
	METRIC_ORDERS_REFUSED,
	METRIC_EVENTS_PUBLISHED,
	METRIC_EVENTS_RETURNED,
	METRIC_EVENTS_NACKED,
	METRIC_RELAY_LEADS,
	METRIC_OUTBOX_BACKLOG_EVENTS,
	METRIC_OUTBOX_BACKLOG_SECONDS,
	METRIC_PARKED_EVENTS,
	METRIC_EVENTS_REFUSED,
	METRIC_EVENTS_DEFERRED,
	METRIC_DEFERRED_EVENTS,
	METRIC_EVENTS_MISPLACED,
	METRIC_CIRCUITS_OPEN,
	METRIC_VENDORS_STALE,
	METRIC_FEEDS_HELD,
	METRIC_REPLIES_APPLIED,
	METRIC_REPLIES_WITHOUT_EFFECT,
	METRIC_REPLIES_DEAD,
	METRIC_REPLIES_RENEWED,
	METRIC_QUEUES_LIMITED,
	METRIC_DEAD_LETTERS,
	METRIC_REPLIES_SET_ASIDE,
	METRIC_ORDERS_SET_ASIDE,
	METRIC_FEEDS_SET_ASIDE,
	METRIC_SYNCS,
	METRIC_SYNC_FAILURES,
	METRIC_ORDERS_EXPIRED,
	METRIC_VENDORS_ASKED_AGAIN,
	METRIC_RECONNECTS,
	METRIC_COUNT
} Metric;

typedef enum Histogram
{
	HISTOGRAM_HTTP_SECONDS,
	HISTOGRAM_PLACE_SECONDS,
	HISTOGRAM_PLACE_BATCH,
	HISTOGRAM_PUBLISHED_SECONDS,
	HISTOGRAM_CONFIRMED_SECONDS,
	HISTOGRAM_COUNT
} Histogram;

extern void    metric_add(Metric metric, int64_t by);
extern void    metric_set(Metric metric, int64_t value);
extern int64_t metric_get(Metric metric);

/* metric_observe counts a value in a histogram; a negative one counts as 0. */
extern void metric_observe(Histogram histogram, double value);

/* metrics_text returns the Prometheus text, malloc'd; NULL if memory is short. */
extern char *metrics_text(void);

#endif /* BRIDGE_METRICS_H */
