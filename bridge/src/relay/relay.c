/*
 * relay.c
 *		The relay role: committed events, from the outbox to RabbitMQ.
 *
 *		standby --lock--> leading: drain -> idle -> (bell, poll) -> drain ...
 *		   ^                 |
 *		   +-- any connection lost, or fenced
 *
 * How it drains: relay_window.c. How it publishes: relay_pages.c. What becomes of
 * what the broker does not take: relay_refused.c.
 */
#include "relay/relay.h"

#include <assert.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/roles.h"
#include "base/stop.h"
#include "link/statements.h"
#include "relay/relay_state.h"

#define STANDBY_POLL_MS    1000
#define ALL_HAVE_LOOKED_MS (STANDBY_POLL_MS * 3 / 2)
#define TRIALS_POLL_MS     100
#define NAP_MS_MIN         2
#define NAP_MS_MAX         200
#define NOTE_MS            5000
#define TIMEOUT_MS                                                                                 \
	20000 /* of a statement: pages are small, and another relay is to take over from one that      \
			 hangs */

/* ---------- idling ---------- */

/* Waits for the bell, a stop, or the time; keeps the broker's heartbeat. False if a connection is
 * lost. */
static bool
wait_for_bell(Relay *relay, int timeout_ms)
{
	struct pollfd waits[3] = {{.fd = PQsocket(relay->db.connection), .events = POLLIN},
							  {.fd = broker_descriptor(relay->broker), .events = POLLIN},
							  {.fd = stop_descriptor(), .events = POLLIN}};

	/* a bell may have come with the answer to an earlier query: then the socket is quiet */
	db_hear_bells(&relay->db);
	if (!relay->db.has_rung && !broker_has_frames(relay->broker))
		poll(waits, 3, timeout_ms);
	if (!relay_listen(relay, 0))
		return false;
	if (!PQconsumeInput(relay->db.connection))
	{
		log_warning("lost PostgreSQL while idle: %s", PQerrorMessage(relay->db.connection));
		db_close(&relay->db);
		return false;
	}
	db_hear_bells(&relay->db);
	return true;
}

/*
 * Says that we sleep, looks once more, and sleeps until the bell or the poll
 * interval; what is found wakes us before it is published. A transaction that looked for a sleeper
 * before we said so rings no bell; until all that ran then have ended we only nap.
 */
static bool
idle(Relay *relay)
{
	uint64_t  unrung_below;
	long long until;
	int       nap_ms = NAP_MS_MIN;
	int       published;

	if (!relay_fall_asleep(relay) || !relay_drain(relay, &published))
		return false;
	/* tells how far we are also when nothing comes */
	if (monotonic_ms() >= relay->note_due_ms)
	{
		if (!relay_write_checkpoint(relay, 0) || !relay_look_for_misplaced(relay))
			return false;
		relay->note_due_ms = monotonic_ms() + NOTE_MS;
	}
	unrung_below = relay->next_xid;
	until = monotonic_ms() + config.relay_poll_ms;
	if (relay->may_have_deferred && relay->deferred_due_ms < until)
		until = relay->deferred_due_ms;
	while (relay->is_asleep && !relay->db.has_rung && !stop_requested() && monotonic_ms() < until)
	{
		bool      may_be_unrung = relay->snapshot.xmin < unrung_below;
		long long left = until - monotonic_ms();
		int       wait_ms = left < relay_lease_ms() / 3 ? (int) left : relay_lease_ms() / 3;

		if (relay_has_trials(relay) && wait_ms > TRIALS_POLL_MS)
			wait_ms = TRIALS_POLL_MS;

		if (!wait_for_bell(relay, may_be_unrung && nap_ms < wait_ms ? nap_ms : wait_ms))
			return false;
		if (may_be_unrung && !relay->db.has_rung)
		{
			nap_ms = nap_ms * 2 < NAP_MS_MAX ? nap_ms * 2 : NAP_MS_MAX;
			if (!relay_drain(relay, &published))
				return false;
		}
	}
	return relay_wake_up(relay);
}

/* ---------- leading ---------- */

static bool
connect_broker(Relay *relay)
{
	broker_close(relay->broker);
	relay->broker = broker_open(config.rabbitmq_url, "order-bridge relay",
								relay_publish_timeout_ms(), relay_broker_events(relay));
	/* which may have taken long: it is not to end the lease */
	if (relay->broker != NULL && relay_keep_lease(relay) && broker_declare(relay->broker, NULL))
	{
		relay_note_connected(relay);
		return true;
	}
	broker_close(relay->broker);
	relay->broker = NULL;
	return false;
}

/* From now on the server ends our session, and gives back its lock, if it hears nothing of us. */
static bool
take_lease(Relay *relay)
{
	char        milliseconds[12];
	const char *params[1] = {milliseconds};
	PGresult   *result;
	bool        ok;

	snprintf(milliseconds, sizeof(milliseconds), "%d", relay_lease_ms());
	ok = db_query(&relay->db, "taking the relay's lease", SQL_RELAY_LEASE, 1, params, &result) ==
		 DB_OK;
	PQclear(result);
	return ok;
}

/* Whose is the lock that makes a relay the leader? */
typedef enum Lead
{
	LEAD_IS_OURS,
	LEAD_IS_ANOTHERS,
	LEAD_UNKNOWN /* the database is lost, or refuses to tell: then perhaps nobody leads */
} Lead;

static Lead
try_to_lead(Relay *relay)
{
	PGresult *result;
	Lead      lead = LEAD_UNKNOWN;

	if (db_query(&relay->db, "asking for the relay's lock", SQL_RELAY_TRY_LEAD, 0, NULL, &result) ==
		DB_OK)
		lead = *PQgetvalue(result, 0, 0) == 't' ? LEAD_IS_OURS : LEAD_IS_ANOTHERS;
	PQclear(result);
	return lead;
}

/* Before the first look at the outbox; nobody hears a bell before. */
static bool
listen_for_bells(Relay *relay)
{
	return relay_execute(relay, "listening for the bell", SQL_RELAY_LISTEN);
}

/* Drains and idles until a connection is lost or a stop is requested. */
static void
lead(Relay *relay)
{
	int published;

	log_info("leading, epoch %s", relay->epoch);
	metric_set(METRIC_RELAY_LEADS, 1);
	relay->may_have_deferred = true;
	relay->deferred_due_ms = 0;
	relay->is_asleep = false;
	role_set_ready(ROLE_RELAY, true);
	while (!stop_requested() && relay_drain(relay, &published) && idle(relay))
		backoff_reset(&relay->backoff);
	metric_set(METRIC_RELAY_LEADS, 0);
}

/* Connects if need be, says first what the database has lost, and takes its lease: from then on
 * nobody has the lock, or waits for it, whom the server does not hear of. False: to stop. */
static bool
connect_database(Relay *relay)
{
	while (!db_is_connected(&relay->db))
	{
		if (!db_connect_until_stopped(&relay->db))
			return false;
		if (relay_look_back(relay) && take_lease(relay))
			break;
		db_close(&relay->db);
		stop_wait_ms(backoff_next(&relay->backoff));
	}
	return !stop_requested();
}

/* Without a broker so long that another relay, which may reach it, finds the lock free; while we
 * keep the lock not so long that the server would end our session. */
static int
pause_ms(Relay *relay, bool has_broker)
{
	int pause = backoff_next(&relay->backoff);
	int lease_third = relay_lease_ms() / 3;

	if (relay->is_judging)
		return pause < lease_third ? pause : lease_third;
	return has_broker || pause > ALL_HAVE_LOOKED_MS ? pause : ALL_HAVE_LOOKED_MS;
}

/* Another relay works, or nobody can tell: we stand by, which is our work, and what we had begun is
 * its; of the broker nobody would hear anything meanwhile. */
static void
stand_by(Relay *relay, bool another_leads)
{
	broker_close(relay->broker);
	relay->broker = NULL;
	role_rests(ROLE_RELAY);
	role_set_ready(ROLE_RELAY, another_leads);
	stop_wait_ms(STANDBY_POLL_MS);
}

void *
relay_run(void *unused)
{
	Relay *relay = calloc(1, sizeof(Relay));
	Lead   lead_is;
	bool   has_broker;

	(void) unused;
	assert(relay != NULL);
	log_set_role("relay");
	gethostname(relay->holder, sizeof(relay->holder) - 16);
	snprintf(relay->holder + strlen(relay->holder), 16, " %d", (int) getpid());
	db_init(&relay->db, config.relay_database_url, "order-bridge relay", SQL_RELAY_SESSION);
	relay->backoff = (Backoff){.delay_ms_min = 100, .delay_ms_max = 5000};
	relay->db.timeout_ms = TIMEOUT_MS;
	role_set_ready(ROLE_RELAY, false);

	while (connect_database(relay))
	{
		lead_is = try_to_lead(relay);
		if (lead_is != LEAD_IS_OURS)
		{
			stand_by(relay, lead_is == LEAD_IS_ANOTHERS);
			continue;
		}
		relay->is_judging = false;
		has_broker = connect_broker(relay);
		if (has_broker && listen_for_bells(relay) && relay_acquire(relay) &&
			relay_execute_verdict(relay))
			lead(relay);
		relay_end_trials(relay);
		role_set_ready(ROLE_RELAY, relay->is_renewing);
		relay->is_renewing = false;
		/* gives back the lock; but whoever leads next would begin anew to look for what costs us
		 * the broker's connections */
		if (!relay->is_judging)
			db_close(&relay->db);
		if (!stop_requested())
		{
			metric_add(METRIC_RECONNECTS, 1);
			stop_wait_ms(pause_ms(relay, has_broker));
		}
	}
	broker_close(relay->broker);
	db_close(&relay->db);
	snapshot_free(&relay->snapshot);
	snapshot_free(&relay->window);
	relay_forget(relay);
	free(relay);
	return NULL;
}
