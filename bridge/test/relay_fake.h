/*
 * relay_fake.h
 *		For unit tests of the relay: a broker, a database and a clock that do as they are told.
 */
#ifndef BRIDGE_RELAY_FAKE_H
#define BRIDGE_RELAY_FAKE_H

#include "base/metrics.h"
#include "relay/relay_state.h"

#define FAKE_SENT_MAX    1024
#define FAKE_HEADERS_MAX 40
#define FAKE_TRIALS_MAX  32
#define FAKE_TEXT_BYTES  500000

/* A message as the broker got it. */
typedef struct FakeSent
{
	char         message_id[40];
	char         routing_key[80];
	char         body[80];
	size_t       body_bytes;
	bool         mandatory;
	uint64_t     timestamp;
	int          nheaders;
	BrokerHeader headers[FAKE_HEADERS_MAX];
} FakeSent;

/* A connection for one event. It says nothing of it unless it is told to. */
typedef struct FakeTrial
{
	BrokerEvents  events;
	char          message_id[40];
	bool          acks, nacks, returns; /* returned ones are acknowledged, too */
	bool          is_lost, is_blocked;
	bool          is_bound;
	BrokerRefusal refusal;
	bool          is_closed;
} FakeTrial;

typedef struct Fake
{
	long long now_ms;
	bool      stop;
	int       stops_at; /* 0, or a stop is requested once so many events were sent */

	/* the broker */
	bool          is_lost;
	int           given_up;
	bool          acknowledges; /* all that it has, whenever it is listened to */
	int           nacknowledged;
	bool          cannot_publish;
	int           blocked_for; /* so often it is said to be blocked */
	int           processed;
	int           declared;
	int           bound;
	int           nsent;
	FakeSent      sent[FAKE_SENT_MAX];
	BrokerRefusal refusal;
	FakeTrial     trials[FAKE_TRIALS_MAX];
	int           ntrials;
	bool          cannot_connect;
	int           refused; /* connections, for that */
	int           doubts;

	/* the database */
	bool        is_disconnected;
	bool        is_locked; /* an error is somebody's lock */
	int         lock_ms;   /* for which such a query waits */
	DbOutcome   outcome;
	PGresult   *answers[16]; /* to the next queries that have one */
	int         nanswers;
	int         nqueries;
	int         fails_from; /* 0, or the number of the first query that fails */
	const char *asked[16];  /* the first queries */
	const char *sql;        /* the last query's */
	char        params[7][FAKE_TEXT_BYTES];
	bool        are_null[7];
	char        checkpoint[7][FAKE_TEXT_BYTES]; /* the last one's parameters */
	int         ncheckpoints;
	bool        rings; /* with each answer */

	int64_t metrics[METRIC_COUNT];
	double  observed[HISTOGRAM_COUNT];
	int     nobserved[HISTOGRAM_COUNT];
	int     nbackoffs;
	int     begins, progresses, rests; /* the role has work, goes on, has none */
	int     waited_ms;
	char    lines[2][FAKE_TEXT_BYTES]; /* the first errors since the last query */
	int     nlines;
	char    log[FAKE_TEXT_BYTES]; /* the last line */
} Fake;

extern Fake fake;

/* fake_relay begins anew: a relay with nothing under way, and settings with round numbers. */
extern Relay *fake_relay(void);

/* An event of the outbox; null headers and times stay away. */
typedef struct FakeEvent
{
	int64_t     event_id;
	const char *routing_key;
	bool        mandatory;
	const char *headers;
	const char *payload;
	int64_t     created_at_us;
	const char *placed_at;
} FakeEvent;

/* fake_rows makes a page's rows: message_id is "m" and the event's id. */
extern PGresult *fake_rows(const FakeEvent *events, int count);

/* fake_keys makes rows of events first, first + 1, ... with those routing keys. */
extern PGresult *fake_keys(int64_t first, int count, const char *const *routing_keys);

/*
 * fake_texts makes an answer of so many rows of one text each, fake_row one of a row of so many,
 * which may be null. fake_answer has the database give it to the next query that has none yet,
 * fake_forget_answers takes back what nobody has asked for.
 */
extern PGresult *fake_texts(int count, const char *const *texts);
extern PGresult *fake_row(int count, const char *const *texts);
extern void      fake_answer(PGresult *result);
extern void      fake_forget_answers(void);

/* fake_confirm and fake_return: the broker says this of a publish. */
extern void fake_confirm(Relay *relay, uint64_t tag, bool is_ack);
extern void fake_return(Relay *relay, const char *message_id);

/* fake_take_answers has the relay take what the broker has said, without waiting for more; the test
 * fails if it cannot. Returns how many events of the window were retired. */
extern int fake_take_answers(Relay *relay);

#endif /* BRIDGE_RELAY_FAKE_H */
