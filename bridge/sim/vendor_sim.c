/*
 * vendor_sim.c
 *		vendor-sim: simulated vendors for demo, tests and benchmarks.
 *
 * Serves their stock feeds, and works on orders.placed as their worker: replies,
 * waits until the broker has the reply, and only then acknowledges the order, so
 * that a crash answers twice at worst. A message that is no order goes to
 * orders.placed.dead. Can be made to reply slowly, late, twice, or to reject.
 */
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

#include "base/backoff.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/stop.h"
#include "base/tls_files.h"
#include "base/text.h"
#include "http/server.h"
#include "link/broker.h"
#include "link/broker_nodes.h"
#include "shelf.h"

#define CONFIRM_TIMEOUT_MS 10000
#define DECISIONS          (1u << 20)
#define STOCK_MAX          1000000000000LL

static struct
{
	const char *rabbitmq_url;
	TlsFiles    amqp_tls;
	const char *http_listen;
	int         port;
	bool        worker;
	bool        strict_shelf;
	int         prefetch;
	int         delay_ms;
	int         reject_percent;
	const char *reject_vendor;
	const char *reject_reason;
	int         duplicate_percent;
	int         late_percent;
	int         late_ms;
	const char *silent_vendor;
} options;

static const Setting settings[] = {
	{"RABBITMQ_URL", "rabbitmq-url", SETTING_TEXT, &options.rabbitmq_url, "amqp://localhost", 0, 0,
	 "AMQP URL"},
	AMQP_TLS_SETTINGS(options.amqp_tls),
	{"HTTP_LISTEN", "http-listen", SETTING_TEXT, &options.http_listen, "127.0.0.1", 0, 0,
	 "address to listen on: of IPv4, of IPv6, or unix:/path"},
	{"PORT", "port", SETTING_NUMBER, &options.port, "3001", 1, 65535, "port to listen on"},
	{"WORKER", "worker", SETTING_FLAG, &options.worker, "yes", 0, 0,
	 "work on orders.placed: yes or no"},
	{"STRICT_SHELF", "strict-shelf", SETTING_FLAG, &options.strict_shelf, "no", 0, 0,
	 "reject what is not on the shelf: yes or no"},
	{"PREFETCH", "prefetch", SETTING_NUMBER, &options.prefetch, "500", 1, 10000,
	 "orders held unacknowledged"},
	{"REPLY_DELAY_MS", "reply-delay-ms", SETTING_NUMBER, &options.delay_ms, "0", 0, 3600000,
	 "wait before each reply"},
	{"REJECT_PERCENT", "reject-percent", SETTING_NUMBER, &options.reject_percent, "0", 0, 100,
	 "share of orders rejected"},
	{"REJECT_VENDOR", "reject-vendor", SETTING_TEXT, &options.reject_vendor, "", 0, 0,
	 "only this vendor rejects"},
	{"REJECT_REASON", "reject-reason", SETTING_TEXT, &options.reject_reason, "out of stock", 0, 0,
	 "what a rejection says"},
	{"DUPLICATE_PERCENT", "duplicate-percent", SETTING_NUMBER, &options.duplicate_percent, "0", 0,
	 100, "share of replies sent twice"},
	{"LATE_PERCENT", "late-percent", SETTING_NUMBER, &options.late_percent, "0", 0, 100,
	 "share of replies that come late"},
	{"LATE_MS", "late-ms", SETTING_NUMBER, &options.late_ms, "5000", 0, 3600000, "how late"},
	{"SILENT_VENDOR", "silent-vendor", SETTING_TEXT, &options.silent_vendor, "", 0, 0,
	 "this vendor never replies"},
	{NULL}};

/* ---------- HTTP ---------- */

static void
reply_json(HttpExchange *exchange, json_t *json)
{
	http_reply(exchange, 200, "application/json",
			   json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(12)));
	json_decref(json);
}

static void
set_stock(HttpExchange *exchange, const char *vendor_id)
{
	size_t      bytes;
	const char *body = http_body(exchange, &bytes);
	json_t     *json = json_loadb(body ? body : "", bytes, 0, NULL);
	const char *product_id = json_string_value(json_object_get(json, "productId"));
	json_t     *stock = json_object_get(json, "stock");

	if (product_id == NULL || *product_id == '\0')
		http_problem(exchange, 400, "Bad Request", "productId must be a string", "productId", NULL);
	else if (!json_is_integer(stock) || json_integer_value(stock) < 0 ||
			 json_integer_value(stock) > STOCK_MAX)
		http_problem(exchange, 400, "Bad Request", "stock must be a whole number from 0", "stock",
					 NULL);
	else
	{
		shelf_set(vendor_id, product_id, json_integer_value(stock));
		reply_json(exchange, json_pack("{s:s, s:O}", "productId", product_id, "stock", stock));
	}
	json_decref(json);
}

/* The simulated vendor that a request names by its path, /vendorA/stock or /vendor/{id}/stock;
 * NULL: none. */
static const char *
named_vendor(const HttpExchange *exchange, bool *is_feed)
{
	int         count = http_segment_count(exchange);
	const char *first = http_segment(exchange, 0);

	*is_feed = count == 2;
	if (count < 2 || count > 3 || strcmp(http_segment(exchange, count - 1), "stock") != 0)
		return NULL;
	if (count == 3)
		return strcmp(first, "vendor") == 0 ? shelf_vendor(http_segment(exchange, 1)) : NULL;
	return strcmp(first, "vendorA") == 0   ? "vendor-a"
		   : strcmp(first, "vendorB") == 0 ? "vendor-b"
										   : NULL;
}

static void
handle(HttpExchange *exchange)
{
	bool        is_get = strcmp(http_method(exchange), "GET") == 0;
	bool        is_post = strcmp(http_method(exchange), "POST") == 0;
	bool        is_feed;
	const char *vendor_id = named_vendor(exchange, &is_feed);

	if (is_get && http_segment_count(exchange) == 1 &&
		strcmp(http_segment(exchange, 0), "vendor") == 0)
		reply_json(exchange, shelf_vendors());
	else if (is_get && vendor_id != NULL)
		reply_json(exchange, is_feed ? shelf_feed(vendor_id) : shelf_stock(vendor_id));
	else if (is_post && vendor_id != NULL && !is_feed)
		set_stock(exchange, vendor_id);
	else
		http_problem(exchange, 404, "Not Found", "there is nothing at this path", NULL, NULL);
}

/* ---------- the worker ---------- */

/* An order taken and not acknowledged yet. */
typedef struct Taken
{
	uint64_t  tag;
	char     *reply;       /* NULL: no order; or no reply will be sent */
	char     *dead_reason; /* NULL: a good one */
	char     *body;        /* kept for the dead queue */
	size_t    bytes;
	char     *traceparent;
	int       copies;
	long long due_ms;
	bool      sent;
} Taken;

typedef struct Worker
{
	Broker *broker;
	Taken  *taken;
	int     count;
	/* hashes of orders decided before, so that one delivered again gets the same answer; old ones
	 * are overwritten */
	uint64_t decided[DECISIONS];
	bool     confirmed_it[DECISIONS];
} Worker;

static bool
by_chance(int percent)
{
	return percent > 0 && random() % 100 < percent;
}

static uint64_t
order_hash(json_int_t order_id, json_int_t attempt, const char *vendor_id)
{
	char key[128];

	snprintf(key, sizeof(key), "%s/%" JSON_INTEGER_FORMAT "/%" JSON_INTEGER_FORMAT, vendor_id,
			 order_id, attempt);
	return text_hash(key) | 1;
}

/* Confirms or rejects an order, the same way every time it comes. */
static bool
decide(Worker *worker, const json_t *order, json_int_t order_id, json_int_t attempt,
	   const char *vendor_id)
{
	uint64_t hash = order_hash(order_id, attempt, vendor_id);
	uint64_t slot = (hash >> 20) % DECISIONS;

	if (worker->decided[slot] != hash)
	{
		bool may_reject =
			*options.reject_vendor == '\0' || strcmp(options.reject_vendor, vendor_id) == 0;

		worker->decided[slot] = hash;
		worker->confirmed_it[slot] =
			!(may_reject && by_chance(options.reject_percent)) &&
			(shelf_vendor(vendor_id) == NULL ||
			 shelf_take(vendor_id, json_object_get(order, "lines"), options.strict_shelf));
	}
	return worker->confirmed_it[slot];
}

static void
make_reply(Worker *worker, Taken *taken, const json_t *order)
{
	const json_t *order_id = json_object_get(order, "orderId");
	const json_t *attempt = json_object_get(order, "attempt");
	const char   *vendor_id = json_string_value(json_object_get(order, "vendorId"));
	json_t       *reply;

	if (!json_is_integer(order_id) || !json_is_integer(attempt) || vendor_id == NULL ||
		!json_is_array(json_object_get(order, "lines")))
	{
		taken->dead_reason = strdup("orderId, vendorId, attempt or lines is missing");
		return;
	}
	taken->copies = strcmp(options.silent_vendor, vendor_id) == 0 ? 0
					: by_chance(options.duplicate_percent)        ? 2
																  : 1;
	taken->due_ms =
		monotonic_ms() + (by_chance(options.late_percent) ? options.late_ms : options.delay_ms);
	reply = json_pack("{s:I, s:s, s:I}", "orderId", json_integer_value(order_id), "vendorId",
					  vendor_id, "attempt", json_integer_value(attempt));
	if (decide(worker, order, json_integer_value(order_id), json_integer_value(attempt), vendor_id))
		json_object_set_new(reply, "status", json_string("confirmed"));
	else
	{
		json_object_set_new(reply, "status", json_string("rejected"));
		json_object_set_new(reply, "reason", json_string(options.reject_reason));
	}
	taken->reply = json_dumps(reply, JSON_COMPACT);
	json_decref(reply);
}

static void
on_delivery(void *context, uint64_t tag, const BrokerMessage *message)
{
	Worker      *worker = context;
	Taken       *taken = &worker->taken[worker->count];
	json_error_t error;
	json_t      *order = json_loadb(message->body, message->body_bytes, 0, &error);

	assert(worker->count < options.prefetch);
	*taken = (Taken){.tag = tag,
					 .traceparent = message->traceparent ? strdup(message->traceparent) : NULL};
	if (order == NULL)
		taken->dead_reason = strdup(error.text);
	else
		make_reply(worker, taken, order);
	if (taken->dead_reason != NULL)
	{
		taken->copies = 1;
		taken->bytes = message->body_bytes;
		taken->body = malloc(message->body_bytes + 1);
		if (taken->body != NULL)
			memcpy(taken->body, message->body, message->body_bytes);
	}
	worker->count++;
	json_decref(order);
}

static uint64_t
send_reply(Worker *worker, const Taken *taken)
{
	const BrokerHeader trace = {
		.name = "traceparent", .kind = AMQP_HEADER_TEXT, .text = taken->traceparent};
	const BrokerHeader reason = {
		.name = "x-reason", .kind = AMQP_HEADER_TEXT, .text = taken->dead_reason};

	if (taken->dead_reason != NULL)
	{
		log_warning("a message of %s is no order: %s", QUEUE_PLACED, taken->dead_reason);
		return broker_publish(worker->broker, &(BrokerMessage){.exchange = "",
															   .routing_key = QUEUE_PLACED_DEAD,
															   .mandatory = true,
															   .headers = &reason,
															   .nheaders = 1,
															   .body = taken->body,
															   .body_bytes = taken->bytes});
	}
	return broker_publish(worker->broker, &(BrokerMessage){.exchange = "",
														   .routing_key = QUEUE_REPLIES,
														   .mandatory = true,
														   .type = "vendor.reply",
														   .headers = &trace,
														   .nheaders = taken->traceparent != NULL,
														   .body = taken->reply,
														   .body_bytes = strlen(taken->reply)});
}

static void
free_taken(Taken *taken)
{
	free(taken->reply); /* NOLINT(clang-analyzer-unix.Malloc): it takes two elements of the array
						   for one */
	free(taken->dead_reason);
	free(taken->body);
	free(taken->traceparent);
	*taken = (Taken){0};
}

/* Sends all replies that are due, waits for the broker to have them, and acknowledges their orders.
 */
static bool
reply_to_due(Worker *worker)
{
	long long now = monotonic_ms();
	int       count = worker->count; /* more may come while we wait */
	int       sent = 0;
	int       kept = 0;
	bool      ok = true;

	for (int i = 0; i < count; i++)
	{
		Taken *taken = &worker->taken[i];

		if (taken->due_ms > now)
			continue;
		for (int copy = 0; copy < taken->copies; copy++)
		{
			if (send_reply(worker, taken) == 0)
				return false;
		}
		taken->sent = true;
		sent++;
	}
	if (sent == 0)
		return true;
	if (!broker_wait_confirms(worker->broker, CONFIRM_TIMEOUT_MS))
		return false;
	if (sent == count)
		ok = broker_ack(worker->broker, worker->taken[count - 1].tag, count);
	for (int i = 0; i < worker->count; i++)
	{
		Taken *taken = &worker->taken[i];

		if (!taken->sent)
		{
			Taken keep = *taken;

			*taken = (Taken){0};
			worker->taken[kept++] = keep;
			continue;
		}
		if (sent < count)
			ok = ok && broker_ack(worker->broker, taken->tag, 1);
		free_taken(taken);
	}
	worker->count = kept;
	return ok;
}

static int
wait_ms(const Worker *worker)
{
	long long wait = 500;

	for (int i = 0; i < worker->count; i++)
	{
		long long left = worker->taken[i].due_ms - monotonic_ms();

		wait = left < wait ? left : wait;
	}
	return wait > 0 ? (int) wait : 0;
}

static void *
work(void *unused)
{
	Worker            *worker = calloc(1, sizeof(Worker));
	const BrokerEvents events = {.context = worker, .on_delivery = on_delivery};
	Backoff            backoff = {.delay_ms_min = 100, .delay_ms_max = 5000};

	(void) unused;
	assert(worker != NULL);
	log_set_role("worker");
	worker->taken = calloc(options.prefetch, sizeof(Taken));
	assert(worker->taken != NULL);
	while (!stop_requested())
	{
		worker->broker =
			broker_open(options.rabbitmq_url, "vendor-sim", CONFIRM_TIMEOUT_MS, &events);
		if (worker->broker != NULL && broker_declare(worker->broker, NULL) &&
			broker_consume(worker->broker, QUEUE_PLACED, options.prefetch))
		{
			backoff_reset(&backoff);
			while (!stop_requested() && broker_process(worker->broker, wait_ms(worker)) &&
				   reply_to_due(worker))
				;
		}
		broker_close(worker->broker);
		for (int i = 0; i < worker->count; i++)
			free_taken(&worker->taken[i]);
		worker->count = 0;
		if (!stop_requested())
			stop_wait_ms(backoff_next(&backoff));
	}
	free(worker->taken);
	free(worker);
	return NULL;
}

int
main(int argc, char **argv)
{
	const HttpLimits limits = {.connections_max = 1000,
							   .connections_per_address_max = 1000,
							   .header_bytes_max = 16384,
							   .body_bytes_max = 65536,
							   .bodies_bytes_max = 64 << 20,
							   .idle_timeout_s = 30};
	BrokerNodes      nodes;
	const char      *complaint;
	sigset_t         signals;
	HttpServer      *server;
	pthread_t        worker = 0;
	int              nwords;
	int              number;

	if (!settings_load(settings, "",
					   "vendor-sim - simulated vendors: their stock feeds and their worker.", argc,
					   argv, NULL, 0, &nwords))
		return EX_USAGE;
	complaint = broker_nodes_parse(&nodes, options.rabbitmq_url);
	broker_nodes_free(&nodes);
	if (complaint != NULL)
	{
		fprintf(stderr, "RABBITMQ_URL %s\n", complaint);
		return EX_USAGE;
	}
	if (!broker_set_tls(&options.amqp_tls))
		return EX_USAGE;
	signal(SIGPIPE, SIG_IGN);
	srandom(1);
	shelf_init();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (!stop_init())
		return EX_OSERR;
	server = http_start(options.http_listen, options.port, &limits, handle);
	if (server == NULL)
		return EX_OSERR;
	if (options.worker && pthread_create(&worker, NULL, work, NULL) != 0)
		return EX_OSERR;
	sigwait(&signals, &number);
	stop_request();
	if (options.worker)
		pthread_join(worker, NULL);
	http_stop(server);
	log_info("stopped");
	return EX_OK;
}
