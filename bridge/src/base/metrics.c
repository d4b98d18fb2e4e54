/*
 * metrics.c
 *		Counters, gauges and histograms, and their Prometheus text.
 */
#include "base/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>

#include "base/roles.h"
#include "base/text.h"

typedef struct Description
{
	const char *name;
	const char *type;
	const char *help;
	const char *alarm; /* for the docs: when somebody should look; NULL: it is not for that */
} Description;

static const Description descriptions[METRIC_COUNT] = {
	[METRIC_HTTP_REQUESTS] = {"http_requests_total", "counter",
							  "HTTP requests, but those that are malformed or beyond a limit.",
							  NULL},
	[METRIC_HTTP_REFUSED] = {"http_refused_total", "counter",
							 "HTTP requests answered with 503, but /readyz.", "rising for minutes"},
	[METRIC_HTTP_SERVER_ERRORS] = {"http_server_errors_total", "counter",
								   "HTTP requests answered with 5xx, but /readyz.",
								   "rising without http_refused_total rising as much"},
	[METRIC_INTAKE_DEPTH] = {"intake_depth", "gauge", "Orders waiting for the placer.",
							 "near INTAKE_MAX"},
	[METRIC_LISTENERS] = {"listeners", "gauge", "Clients of GET /events.", "at LISTENERS_MAX"},
	[METRIC_READS_ON_STANDBY] = {"reads_on_standby_total", "counter",
								 "GET requests answered from READ_DATABASE_URL.", NULL},
	[METRIC_READS_ON_PRIMARY] = {"reads_on_primary_total", "counter",
								 "GET requests that a standby could have answered, had the one of "
								 "READ_DATABASE_URL been there and up to date.",
								 "rising faster than reads_on_standby_total"},
	[METRIC_ORDERS_PLACED] = {"orders_placed_total", "counter",
							  "Orders placed over HTTP, or told again under their key.", NULL},
	[METRIC_ORDERS_REFUSED] = {"orders_refused_total", "counter",
							   "Order requests over HTTP that the database refused.", NULL},
	[METRIC_EVENTS_PUBLISHED] = {"events_published_total", "counter",
								 "Events confirmed by the broker.", NULL},
	[METRIC_EVENTS_RETURNED] = {"events_returned_total", "counter",
								"Events that no queue took, parked.", "rising"},
	[METRIC_EVENTS_LOST] = {"events_lost_total", "counter",
							"Events sent that the database has lost since, by a fail-over or a "
							"restore; the log names each.",
							"rising"},
	[METRIC_EVENTS_NACKED] = {"events_nacked_total", "counter",
							  "Events that the broker refused, published again.",
							  "rising for minutes"},
	[METRIC_RELAY_LEADS] = {"relay_leads", "gauge", "1 while this relay is the one at work.",
							"not 1 on exactly one bridge for a minute"},
	[METRIC_OUTBOX_BACKLOG_EVENTS] = {"outbox_backlog_events", "gauge",
									  "Events that may not be with the broker yet.", NULL},
	[METRIC_OUTBOX_BACKLOG_SECONDS] = {"outbox_backlog_seconds", "gauge",
									   "Age of what may not be with the broker yet.", "above 60"},
	[METRIC_PARKED_EVENTS] = {"parked_events", "gauge",
							  "Events that no queue took, not redriven yet.", "above 0"},
	[METRIC_EVENTS_REFUSED] = {"events_refused_total", "counter",
							   "Events that the broker refused by closing, parked.", "rising"},
	[METRIC_EVENTS_DEFERRED] =
		{"events_deferred_total", "counter",
		 "Events kept aside because a queue was full or hung, or the broker forbids them.", NULL},
	[METRIC_DEFERRED_EVENTS] = {"deferred_events", "gauge", "Events kept aside, not sent yet.",
								"above 0 for minutes"},
	[METRIC_EVENTS_MISPLACED] =
		{"outbox_events_misplaced", "gauge",
		 "1 if event ids went back, or events came by another way than our functions.", "1"},
	[METRIC_CIRCUITS_OPEN] = {"vendor_circuits_open", "gauge",
							  "Vendors that are left alone after repeated failures, or on trial.",
							  "above 0"},
	[METRIC_VENDORS_STALE] = {"vendors_stale", "gauge",
							  "Vendors whose offers are not sold: no feed has confirmed them "
							  "within their stale_after.",
							  "above 0"},
	[METRIC_FEEDS_HELD] = {"feeds_held", "gauge",
						   "Vendors whose last feed lacks so much that it is held back.",
						   "above 0 for long"},
	[METRIC_REPLIES_RENEWED] = {"replies_renewed_total", "counter",
								"Replies that came back often and were published anew, before the "
								"broker could drop them.",
								"often: bridges die, or the database hangs"},
	[METRIC_QUEUES_LIMITED] = {"queues_with_delivery_limit", "gauge",
							   "Queues without our delivery limit on a broker that drops what "
							   "comes back 20 times, unless a policy says otherwise.",
							   "above 0"},
	[METRIC_DEAD_LETTERS] = {"dead_letters", "gauge", "Messages in the queue orders.replies.dead.",
							 "above 0"},
	[METRIC_REPLIES_APPLIED] = {"replies_applied_total", "counter", "Vendors' replies applied.",
								NULL},
	[METRIC_REPLIES_WITHOUT_EFFECT] = {"replies_without_effect_total", "counter",
									   "Duplicate, late and stale replies.", NULL},
	[METRIC_REPLIES_DEAD] = {"replies_dead_total", "counter", "Replies that can never be applied.",
							 "rising"},
	[METRIC_REPLIES_SET_ASIDE] =
		{"replies_set_aside", "gauge",
		 "Replies that wait for a lock of someone's, without stopping others.",
		 "above 0 for minutes"},
	[METRIC_ORDERS_SET_ASIDE] =
		{"orders_set_aside", "gauge",
		 "HTTP requests that wait for a lock of someone's, without stopping others.",
		 "above 0 for minutes"},
	[METRIC_FEEDS_SET_ASIDE] = {"feeds_set_aside", "gauge",
								"Feeds that wait for a lock of someone's, without stopping others.",
								"above 0 for minutes"},
	[METRIC_FEED_BYTES] = {"feed_bytes", "gauge",
						   "Text and items of feeds that are pulled or wait to be applied.", NULL},
	[METRIC_SYNCS] =
		{"vendor_syncs_total", "counter",
		 "Pulls of vendors' feeds that went well: applied, unchanged or older than what is known.",
		 NULL},
	[METRIC_SYNC_FAILURES] = {"vendor_sync_failures_total", "counter",
							  "Vendors' feeds that could not be had or applied.",
							  "rising for minutes"},
	[METRIC_ORDERS_EXPIRED] = {"orders_expired_total", "counter", "Orders expired by this bridge.",
							   NULL},
	[METRIC_VENDORS_ASKED_AGAIN] = {"vendors_asked_again_total", "counter",
									"Questions repeated to vendors that stayed silent.",
									"rising: a vendor is silent"},
	[METRIC_RECONNECTS] = {"reconnects_total", "counter",
						   "Connections to PostgreSQL or RabbitMQ made anew.",
						   "rising for minutes"},
};

#define BOUNDS_MAX 16

/* The bounds are the buckets' upper ends, ended by 0; one more bucket takes the rest. */
static const struct
{
	const char *name;
	const char *help;
	double      bounds[BOUNDS_MAX];
} histograms[HISTOGRAM_COUNT] = {
	[HISTOGRAM_HTTP_SECONDS] = {"http_request_seconds",
								"From a request's head to its reply.",
								{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5,
								 10}},
	[HISTOGRAM_PLACE_SECONDS] = {"place_batch_seconds",
								 "Time of one place_orders() call, its commit included.",
								 {.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5,
								  10}},
	[HISTOGRAM_PLACE_BATCH] = {"place_batch_orders",
							   "Orders in one place_orders() call.",
							   {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000}},
	[HISTOGRAM_PUBLISHED_SECONDS] =
		{"placed_to_published_seconds",
		 "From an order's transaction to the broker's confirm of order.placed.",
		 {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600}},
	[HISTOGRAM_CONFIRMED_SECONDS] = {"placed_to_confirmed_seconds",
									 "From an order's transaction to that of its confirmation.",
									 {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
									  60, 600}},
};

static _Atomic int64_t buckets[HISTOGRAM_COUNT][BOUNDS_MAX + 1];
static _Atomic int64_t sums[HISTOGRAM_COUNT]; /* in millionths */

static _Atomic int64_t values[METRIC_COUNT];

void
metric_add(Metric metric, int64_t by)
{
	atomic_fetch_add_explicit(&values[metric], by, memory_order_relaxed);
}

void
metric_set(Metric metric, int64_t value)
{
	atomic_store_explicit(&values[metric], value, memory_order_relaxed);
}

int64_t
metric_get(Metric metric)
{
	return atomic_load_explicit(&values[metric], memory_order_relaxed);
}

void
metric_observe(Histogram histogram, double value)
{
	const double *bounds = histograms[histogram].bounds;
	int           bucket = 0;

	if (value < 0) /* two clocks that differ */
		value = 0;
	while (bucket < BOUNDS_MAX && bounds[bucket] > 0 && value > bounds[bucket])
		bucket++;
	atomic_fetch_add_explicit(&buckets[histogram][bucket], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&sums[histogram], (int64_t) (value * 1e6), memory_order_relaxed);
}

static void
add_histogram(Text *text, int histogram)
{
	const char   *name = histograms[histogram].name;
	const double *bounds = histograms[histogram].bounds;
	int64_t       count = 0;

	text_add_format(text, "# HELP order_bridge_%s %s\n# TYPE order_bridge_%s histogram\n", name,
					histograms[histogram].help, name);
	for (int i = 0; i < BOUNDS_MAX && bounds[i] > 0; i++)
	{
		count += atomic_load_explicit(&buckets[histogram][i], memory_order_relaxed);
		text_add_format(text, "order_bridge_%s_bucket{le=\"%g\"} %" PRId64 "\n", name, bounds[i],
						count);
		if (i + 1 == BOUNDS_MAX || bounds[i + 1] == 0)
			count += atomic_load_explicit(&buckets[histogram][i + 1], memory_order_relaxed);
	}
	text_add_format(text,
					"order_bridge_%s_bucket{le=\"+Inf\"} %" PRId64
					"\norder_bridge_%s_sum %.6f\norder_bridge_%s_count %" PRId64 "\n",
					name, count, name,
					(double) atomic_load_explicit(&sums[histogram], memory_order_relaxed) / 1e6,
					name, count);
}

char *
metrics_text(void)
{
	Text text = {0};

	for (int i = 0; i < METRIC_COUNT; i++)
		text_add_format(
			&text,
			"# HELP order_bridge_%s %s\n# TYPE order_bridge_%s %s\norder_bridge_%s %" PRId64 "\n",
			descriptions[i].name, descriptions[i].help, descriptions[i].name, descriptions[i].type,
			descriptions[i].name, metric_get(i));
	for (int i = 0; i < HISTOGRAM_COUNT; i++)
		add_histogram(&text, i);
	roles_add_metrics(&text);
	return text_finish(&text);
}
