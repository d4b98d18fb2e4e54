/*
 * main.c
 *		order-bridge: commands, threads, signals. Only this file exits.
 */
#include <assert.h>
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/service.h"
#include "base/stop.h"
#include "check_settings.h"
#include "doctor.h"
#include "housekeeping/housekeeping.h"
#include "http/listeners.h"
#include "http/placer.h"
#include "http/queries.h"
#include "http/routes.h"
#include "http/server_tls.h"
#include "http/standby.h"
#include "http/tokens.h"
#include "link/broker.h"
#include "link/primary_watch.h"
#include "link/statements.h"
#include "relay/relay.h"
#include "replies/replies.h"
#include "sync/feed_headers.h"
#include "sync/sync.h"

#define READ_THREADS       2
#define CHANGE_THREADS     2
#define LIST_THREADS       2
#define SYNC_THREADS       4   /* so many vendors keep one waiting */
#define READS_MAX          256 /* answered by one statement at most */
#define LISTS_MAX          64
#define QUERY_JOBS_MAX     1000
#define LIST_JOBS_MAX      100
#define THREADS_MAX        32
#define REDRIVE_MAX        100000
#define COMMAND_TIMEOUT_MS 600000 /* of a statement, which may look at all orders */
#define LAST_REQUESTS_MS   5000   /* for what clients have begun to send when we are told to stop */
#define STOP_S             30     /* all but the wait for the requests that are under way */

static const char synopsis[] = "run | sync | status | redrive | check-config | doctor";
static const char about[] =
	"order-bridge - relays committed orders to RabbitMQ, takes vendors' replies back, pulls their "
	"stock feeds and serves HTTP."
	"\v"
	"Commands:\n"
	"  run      run the roles until SIGTERM, and finish what is under way\n"
	"  sync     pull every vendor's feed once, print the results, exit 1 if one failed\n"
	"  status   print the relay's checkpoint, orders and vendors as JSON\n"
	"  redrive  put parked events and dead replies back on their way\n"
	"  check-config  say what is wrong with the settings, connect to nothing\n"
	"  doctor   connect to everything and say what is missing\n\n"
	"Each setting is an environment variable too, or a line of the file that --config names; the "
	"flag wins, then the environment.";

/* ---------- run ---------- */

typedef struct Threads
{
	pthread_t ids[THREADS_MAX];
	int       count;
} Threads;

static bool
start_thread(Threads *threads, void *(*run)(void *), void *argument)
{
	int error;

	assert(threads->count < THREADS_MAX);
	error = pthread_create(&threads->ids[threads->count], NULL, run, argument);
	if (error != 0)
	{
		log_error("cannot start a thread: %s", strerror(error));
		return false;
	}
	threads->count++;
	return true;
}

/* Tokens and certificate; false, after a line in the log, if one of those that are named is bad. */
static bool
load_http_files(void)
{
	bool ok = *config.http_tokens_file == '\0' || tokens_load(config.http_tokens_file);

	return (*config.http_tls_cert_file == '\0' ||
			server_tls_load(config.http_tls_cert_file, config.http_tls_key_file)) &&
		   ok;
}

static bool
load_feed_headers(void)
{
	return *config.feed_headers_file == '\0' || feed_headers_load(config.feed_headers_file);
}

/* Goes on for a while, and says that others should be asked; the next signal to stop ends it. */
static void
drain(void)
{
	struct timespec left = {.tv_sec = config.drain_s};
	sigset_t        stop_signals;

	stop_announce();
	if (config.drain_s == 0)
		return;
	sigemptyset(&stop_signals);
	sigaddset(&stop_signals, SIGTERM);
	sigaddset(&stop_signals, SIGINT);
	log_info("told to stop: going on for %d s, not ready for more", config.drain_s);
	(void) sigtimedwait(&stop_signals, NULL, &left);
}

/* Waits for SIGTERM or SIGINT, then asks all to stop; the next one (after drain()) leaves at once.
 * SIGHUP has tokens, headers and the certificate read again. */
static void *
watch_signals(void *set)
{
	int seen = 0;

	log_set_role("signals");
	for (;;)
	{
		int number;

		if (sigwait(set, &number) != 0)
			continue;
		if (number == SIGHUP)
		{
			if (*config.http_tokens_file != '\0' && !tokens_load(config.http_tokens_file))
				log_warning("the tokens stay as they were");
			if (*config.http_tls_cert_file != '\0' &&
				!server_tls_load(config.http_tls_cert_file, config.http_tls_key_file))
				log_warning("the certificate stays as it was");
			if (!load_feed_headers())
				log_warning("the headers for feeds stay as they were");
			continue;
		}
		if (seen++ > 0)
		{
			log_warning("told to stop twice: leaving at once");
			_exit(EX_TEMPFAIL);
		}
		service_extend_stop(config.drain_s + config.request_timeout_s + STOP_S);
		drain();
		stop_request();
		log_info("told to stop: finishing what is under way");
	}
	return NULL;
}

typedef struct HttpRole
{
	HttpServer *server;
	ApiIntakes  intakes;
	PlacerLane  lanes[2];
	QueryWorker workers[QUEUE_COUNT][2]; /* who take what is slow, and who do not */
	Threads     threads;
} HttpRole;

/* That a bridge is not ready is an answer, and no failure of the request. */
static void
count_request(const HttpExchange *exchange, int status, double seconds)
{
	const char *first = http_segment_count(exchange) == 1 ? http_segment(exchange, 0) : "";
	bool        has_failed = status >= 500 && strcmp(first, "readyz") != 0;

	metric_add(METRIC_HTTP_SERVER_ERRORS, has_failed);
	metric_add(METRIC_HTTP_REFUSED, has_failed && status == 503);
	metric_observe(HISTOGRAM_HTTP_SECONDS, seconds);
}

static bool
create_intakes(ApiIntakes *intakes)
{
	size_t bytes_max = (size_t) config.intake_bytes_max;

	static const int jobs_max[QUEUE_COUNT] = {[QUEUE_CHANGES] = QUERY_JOBS_MAX,
											  [QUEUE_READS] = QUERY_JOBS_MAX,
											  [QUEUE_PRODUCTS] = QUERY_JOBS_MAX,
											  [QUEUE_LISTS] = LIST_JOBS_MAX,
											  [QUEUE_SYNCS] = LIST_JOBS_MAX};

	for (ApiQueue queue = QUEUE_NONE + 1; queue < QUEUE_COUNT; queue++)
	{
		int max = jobs_max[queue] > 0 ? jobs_max[queue] : config.intake_max;

		intakes->queues[queue] = intake_create(max, bytes_max);
		if (intakes->queues[queue] == NULL)
			return false;
	}
	return true;
}

static bool
start_workers(HttpRole *http, ApiQueue queue, int nslow, int nquick, int jobs_max)
{
	QueryWorker *workers = http->workers[queue];

	workers[0] = (QueryWorker){http->intakes.queues[queue], jobs_max, true};
	workers[1] = (QueryWorker){http->intakes.queues[queue], jobs_max, false};
	for (int i = 0; i < nslow + nquick; i++)
	{
		if (!start_thread(&http->threads, queries_run, &workers[i >= nslow]))
			return false;
	}
	return true;
}

static bool
start_http(HttpRole *http)
{
	const HttpLimits limits = {.connections_max = config.connections_max,
							   .shares_port = true,
							   .connections_per_address_max = config.connections_per_address_max,
							   .header_bytes_max = config.header_bytes_max,
							   .log_requests = config.access_log,
							   .with_tls = *config.http_tls_cert_file != '\0',
							   .admit = api_admit,
							   .tick = api_tick,
							   .on_replied = count_request,
							   .body_bytes_max = config.body_bytes_max,
							   .bodies_bytes_max = config.bodies_bytes_max,
							   .idle_timeout_s = config.request_timeout_s};

	role_set_ready(ROLE_HTTP, false); /* until orders can be placed */
	if (!create_intakes(&http->intakes))
		return false;
	http->lanes[0] =
		(PlacerLane){http->intakes.queues[QUEUE_ORDERS], http->intakes.queues[QUEUE_ASIDE]};
	http->lanes[1] =
		(PlacerLane){http->intakes.queues[QUEUE_ASIDE], http->intakes.queues[QUEUE_ASIDE]};
	for (int i = 0; i < 2; i++)
	{
		if (!start_thread(&http->threads, placer_run, &http->lanes[i]))
			return false;
	}
	if (!start_workers(http, QUEUE_READS, 1, READ_THREADS - 1, READS_MAX) ||
		!start_workers(http, QUEUE_PRODUCTS, 1, READ_THREADS - 1, READS_MAX) ||
		!start_workers(http, QUEUE_CHANGES, 1, CHANGE_THREADS - 1, 1) ||
		!start_workers(http, QUEUE_LISTS, 1, LIST_THREADS - 1, LISTS_MAX) ||
		!start_workers(http, QUEUE_SYNCS, SYNC_THREADS, 0, 1) ||
		!start_thread(&http->threads, listeners_run, NULL))
		return false;
	if (*config.read_database_url != '\0' && !start_thread(&http->threads, standby_watch_run, NULL))
		return false;
	api_init(&http->intakes);
	http->server = http_start(config.http_listen, config.port, &limits, api_handle);
	return http->server != NULL;
}

/* Takes in nothing more, lets every waiting request be answered, then closes. */
static void
stop_http(HttpRole *http)
{
	if (http->server != NULL)
	{
		http_quiesce(http->server);
		http_wait_until_quiet(http->server, LAST_REQUESTS_MS);
	}
	for (ApiQueue queue = QUEUE_NONE + 1; queue < QUEUE_COUNT; queue++)
		intake_close(http->intakes.queues[queue]);
	for (int i = 0; i < http->threads.count; i++)
		pthread_join(http->threads.ids[i], NULL);
	if (http->server != NULL)
		http_stop(http->server);
}

/* Waits for a while. A server thread that does not go round any more is told of by silence. */
static void
wait_watched(HttpServer *server)
{
	int alive_ms = service_alive_ms();

	if (alive_ms > 0 && (server == NULL || http_is_alive(server)))
		service_alive();
	stop_wait_ms(alive_ms > 0 ? alive_ms : 60000);
}

/* False, after a complaint, if the relay could never work as the settings are. What is away may be
 * all right later; whoever is told to stop meanwhile need not know. */
static bool
can_relay(void)
{
	bool        has_own = config.relay_database_url != config.database_url;
	const char *complaint = NULL;
	Db          own;
	Db          other;

	db_init(&own, config.relay_database_url, "order-bridge relay", SQL_RELAY_SESSION);
	db_init(&other, config.database_url, "order-bridge relay", NULL);
	if (db_connect(&own))
	{
		if (has_own && !stop_requested() && db_connect(&other) && !db_is_same(&own, &other, true))
			complaint = "would relay the events of another database than DATABASE_URL is";
	}
	else if (own.lacks_session)
		complaint = DB_LACKS_SESSION;
	if (complaint != NULL)
		fprintf(stderr, "%s: the role relay %s\n", has_own ? "RELAY_DATABASE_URL" : "DATABASE_URL",
				complaint);
	db_close(&own);
	db_close(&other);
	return complaint == NULL;
}

static int
run(void)
{
	static void *(*const role_runs[ROLE_COUNT])(void *) = {[ROLE_RELAY] = relay_run,
														   [ROLE_REPLIES] = replies_run,
														   [ROLE_SYNC] = sync_run,
														   [ROLE_HOUSEKEEPING] = housekeeping_run};
	static sigset_t signals;
	bool            wanted[ROLE_COUNT] = {false};
	pthread_t       watcher;
	Threads         threads = {.count = 0};
	HttpRole        http = {.server = NULL};
	bool            ok = true;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (!check_roles(wanted) || (wanted[ROLE_HTTP] && !load_http_files()))
		return EX_USAGE;
	if (pthread_create(&watcher, NULL, watch_signals, &signals) != 0)
		return EX_OSERR;
	if (wanted[ROLE_RELAY] && !can_relay())
		return EX_USAGE;
	if (stop_requested())
		return EX_OK;

	if (wanted[ROLE_HTTP])
		ok = start_http(&http);
	ok = ok && start_thread(&threads, primary_watch_run, (void *) config.database_url);
	for (int role = 0; ok && role < ROLE_COUNT; role++)
	{
		if (wanted[role] && role_runs[role] != NULL)
			ok = start_thread(&threads, role_runs[role], NULL);
	}
	if (ok)
		service_ready();
	while (ok && !stop_requested())
		wait_watched(http.server);
	service_stopping();
	stop_request();
	if (wanted[ROLE_HTTP] && http.intakes.queues[QUEUE_SYNCS] != NULL)
		stop_http(&http);
	for (int i = 0; i < threads.count; i++)
		pthread_join(threads.ids[i], NULL);
	log_info("stopped");
	return ok ? EX_OK : EX_OSERR;
}

/* ---------- the other commands ---------- */

static int
run_sync(void)
{
	Db      db;
	json_t *results = json_array();
	json_t *result;
	size_t  i;
	bool    ok;

	db_init(&db, config.database_url, "order-bridge sync", NULL);
	ok = db_connect(&db) && sync_now(&db, NULL, results);
	if (ok)
	{
		json_dumpf(results, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_array_foreach(results, i, result)
	{
		ok = ok && !json_is_string(json_object_get(result, "error"));
	}
	json_decref(results);
	db_close(&db);
	return ok ? EX_OK : EXIT_FAILURE;
}

/* Runs one statement that returns one value, and prints it behind the label. */
static bool
print_value(const char *label, const char *sql, int nparams, const char *const *params)
{
	Db        db;
	PGresult *result = NULL;
	bool      ok;

	db_init(&db, config.database_url, "order-bridge", NULL);
	db.timeout_ms = COMMAND_TIMEOUT_MS;
	ok = db_connect(&db) && db_query(&db, label, sql, nparams, params, &result) == DB_OK;
	if (ok)
		printf("%s%s\n", label, PQgetvalue(result, 0, 0));
	PQclear(result);
	db_close(&db);
	return ok;
}

static int
run_redrive(void)
{
	const char *params[1] = {"100000"};
	bool        ok = print_value("parked events redriven: ", SQL_REDRIVE_PARKED, 1, params);
	int         replies = replies_redrive(REDRIVE_MAX);

	if (replies >= 0)
		printf("dead replies redriven: %d\n", replies);
	return ok && replies >= 0 ? EX_OK : EXIT_FAILURE;
}

static bool
can_read_feed_authorities(void)
{
	return settings_can_read("FEED_CA_FILE", config.feed_ca_file);
}

/* The settings by themselves were looked at; what is left are the files that they name. */
static int
check_config(bool ok)
{
	bool wanted[ROLE_COUNT] = {false};

	if (!check_roles(wanted))
	{
		ok = false;
		wanted[ROLE_HTTP] = true; /* it may be meant */
	}
	ok &= !wanted[ROLE_HTTP] || load_http_files();
	ok &= load_feed_headers();
	ok &= can_read_feed_authorities();
	if (ok)
		puts("the settings are in order");
	return ok ? EX_OK : EX_USAGE;
}

int
main(int argc, char **argv)
{
	char *words[1];
	int   nwords;
	bool  ok;

	if (!log_hold_descriptors())
		return EX_OSERR;
	ok = settings_load(config_settings, synopsis, about, argc, argv, words, 1, &nwords);
	ok &= check_settings();
	if (nwords == 1 && strcmp(words[0], "check-config") == 0)
		return check_config(ok);
	if (!ok)
		return EX_USAGE;
	if (nwords == 0)
	{
		fprintf(stderr, "order-bridge: say what to do: %s\n", synopsis);
		return EX_USAGE;
	}
	signal(SIGPIPE, SIG_IGN);
	srandom((unsigned) (getpid() ^ time(NULL)));
	/* the doctor is there to tell of more than one thing */
	if (!load_feed_headers() || (strcmp(words[0], "doctor") != 0 && !can_read_feed_authorities()))
		return EX_USAGE;
	if (!stop_init() || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
		return EX_OSERR;

	if (strcmp(words[0], "run") == 0)
		return run();
	if (strcmp(words[0], "sync") == 0)
		return run_sync();
	if (strcmp(words[0], "status") == 0)
		return print_value("", SQL_STATUS, 0, NULL) ? EX_OK : EXIT_FAILURE;
	if (strcmp(words[0], "redrive") == 0)
		return run_redrive();
	if (strcmp(words[0], "doctor") == 0)
		return doctor_run() ? EX_OK : EXIT_FAILURE;
	fprintf(stderr, "order-bridge: there is no command \"%s\"; there are %s\n", words[0], synopsis);
	return EX_USAGE;
}
