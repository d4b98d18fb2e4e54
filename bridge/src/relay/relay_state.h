/*
 * relay_state.h
 *		What the files of the relay share: one relay, its window and its pages.
 *
 *		relay.c			the role: standing by, leading, sleeping
 *		relay_window.c	from the outbox: checkpoint, windows, pages of events
 *		relay_pages.c	to the broker: pages under way, and what it says of them
 *		relay_message.c	an event as a message
 *		relay_refused.c	what the broker does not take: parked, deferred
 *		relay_closed.c	what it closes the channel over: sent one by one
 *		relay_silent.c	what it does not answer for: queues that hang
 *		relay_memory.c	what was sent, if the database has lost it since
 */
#ifndef BRIDGE_RELAY_STATE_H
#define BRIDGE_RELAY_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "link/broker.h"
#include "base/backoff.h"
#include "link/db.h"
#include "relay/snapshot.h"

#define PAGES_MAX        4
#define FULL_KEYS_MAX    64
#define SET_ASIDE_MAX    1024
#define KEY_BYTES_MAX    256
#define SILENT_KEYS_MAX  256
#define TRIALS_MAX       8
#define LOSSES_MAX       3
#define UNWRITTEN_MAX    8
#define REPLY_TEXT_BYTES 48 /* NO_ROUTE, or the like */

typedef struct RelayMemory RelayMemory;

typedef enum EventState
{
	EVENT_TO_SEND,  /* not published yet, or refused with a nack */
	EVENT_SENT,     /* published; the broker has not answered */
	EVENT_RETURNED, /* no queue takes it; its ack is still to come */
	EVENT_UNROUTED, /* no queue took it, though ours should have; its ack is still to come */
	EVENT_TO_PARK,  /* no queue takes it, and the broker is done with it */
	EVENT_TO_DEFER, /* of a silent key, not sent */
	EVENT_DONE,     /* confirmed */
	EVENT_ASIDE     /* parked or deferred: the broker does not have it */
} EventState;

typedef struct PageEvent
{
	EventState state;
	int        nacks;      /* how often the broker has refused it */
	bool       is_tried;   /* by another connection, or one like it was, since it is unanswered */
	int        reply_code; /* of one that came back, and the broker's words */
	char       reply_text[REPLY_TEXT_BYTES];
} PageEvent;

/* One page of events on its way. */
typedef struct Page
{
	PGresult  *rows;
	int        count;
	size_t     bytes;
	PageEvent *events;
	int        unanswered;  /* EVENT_SENT, EVENT_RETURNED and EVENT_UNROUTED */
	int        refused;     /* to be sent again: nacked, or unrouted */
	int        to_write;    /* to be parked or deferred */
	int        skipped;     /* set aside before, or of a silent key, and not sent at all */
	bool       is_deferred; /* of deferred events, not of the window */
	bool       declared;    /* what we declare was declared anew for this page */
	long long  due_ms;      /* when the broker must have answered for all of it */
	long long  resend_ms;   /* when what was refused is to be sent again */
} Page;

/* Which event a publish was. */
typedef struct Sent
{
	Page *page;
	int   event;
} Sent;

/* A routing key of which a queue was full lately. */
typedef struct FullKey
{
	char      key[KEY_BYTES_MAX];
	long long until_ms;
} FullKey;

/* A routing key of which a queue hangs, or over which the broker closes the channel. */
typedef struct SilentKey
{
	char      key[KEY_BYTES_MAX];
	long long try_ms;           /* then one of its events may be tried */
	int       losses;           /* connections lost over that */
	char      words[256];       /* the broker's, if it closes the channel; else empty */
	bool      others_are_taken; /* since it did: it is the key that is at fault, not we */
} SilentKey;

/* An event on its way over a connection of its own. */
typedef struct Trial
{
	Broker   *broker; /* NULL: no trial */
	char      key[KEY_BYTES_MAX];
	int64_t   event_id;
	bool      is_answered;
	bool      is_returned;
	bool      is_taken;
	long long began_ms;
	long long due_ms; /* when it must have been answered */
} Trial;

/* What is to become of the event over which the broker has closed our channel. */
typedef enum Verdict
{
	VERDICT_NONE,
	VERDICT_PARK, /* the broker will never take it */
	VERDICT_DEFER /* it may be us, or the broker, not the event */
} Verdict;

typedef struct Suspect
{
	int64_t event_id; /* 0: none */
	bool    is_deferred;
	int     losses; /* connections lost in a row while it alone was under way */
	Verdict verdict;
	int     code;
	char    text[256];
} Suspect;

typedef struct Relay
{
	Db      db;
	Broker *broker;
	Backoff backoff; /* between attempts to lead */
	char    holder[128];
	char    epoch[24];

	char     snapshot_text[65536]; /* the checkpoint */
	Snapshot snapshot;
	int64_t  head; /* transactions not running at the checkpoint have events above it only */
	int64_t  low;  /* nothing is left to relay up to here */
	char relayed_until[40]; /* what was committed before is with the broker; empty: not known yet */

	char     window_text[65536]; /* the window being drained; empty: none */
	Snapshot window;
	int64_t  window_head;
	int64_t  read_head; /* up to where its events can be, but for ids given out as it was opened */
	char window_opened[40]; /* the server's time then: what was committed before is in it, or was
							   before */
	uint64_t next_xid;      /* when the last window was opened */
	int64_t  cursor;        /* all of the window up to here is done */

	Page      pages[PAGES_MAX]; /* those under way: npages from first_page on, round the array */
	int       first_page;
	int       npages;
	Sent      sent[AMQP_UNCONFIRMED_MAX]; /* by tag */
	long long bind_due_ms;                /* when the queue of placed orders is to be bound again */
	long long note_due_ms;  /* when the checkpoint is to be written though no event came */
	long long stop_due_ms;  /* 0: no stop was requested yet */
	long long lease_due_ms; /* when the database must hear of us again */
	bool      is_asleep;    /* who commits an event rings the bell */
	bool      is_renewing;  /* it leads on over a new connection to the broker: nothing is amiss */

	int losses;        /* connections lost in a row with events under way */
	int careful_left;  /* so many events are sent one by one, each waited for */
	int cautious_left; /* so many are sent a few at a time: then a socket does not fill up before
						  we know why there is no answer */
	int unproven;      /* events of the window over which the channel was closed in a row, and
						  nothing taken since */
	bool         is_judging; /* the broker was just lost, and it is not known over which event */
	Suspect      suspect;
	Suspect      unwritten[UNWRITTEN_MAX]; /* found guilty, and something is in the way */
	int          nunwritten;
	FullKey      full_keys[FULL_KEYS_MAX];
	SilentKey    silent[SILENT_KEYS_MAX];
	int          nsilent;
	int          ndoubted; /* events put aside unsent within this while, though it may be us */
	long long    doubted_until_ms;
	Trial        trials[2 * TRIALS_MAX]; /* of what waits, and of silent keys */
	long long    trials_due_ms;          /* none before then */
	long long    connected_ms;           /* to the broker */
	long long    renew_ms;               /* when it is to be connected to anew; 0: no need */
	int          renewals;               /* in a row */
	RelayMemory *memory;                 /* of what was sent lately */
	int64_t set_aside[SET_ASIDE_MAX]; /* events of the window that a verdict has put aside, the last
										 so many */
	int       nset_aside;
	bool      may_have_deferred;
	long long deferred_due_ms; /* when to look for deferred events */
	long long aside_due_ms;    /* until then nothing is kept aside: something is in the way */
	int       aside_refusals;  /* in a row, for no lock of somebody's */
} Relay;

enum EventColumn
{
	COLUMN_EVENT_ID,
	COLUMN_MESSAGE_ID,
	COLUMN_ROUTING_KEY,
	COLUMN_MANDATORY,
	COLUMN_HEADERS,
	COLUMN_PAYLOAD,
	COLUMN_CREATED_AT_US,
	COLUMN_PLACED_AT /* of order.confirmed */
};

static inline const char *
event_column(const Page *page, int event, int column)
{
	return PQgetvalue(page->rows, event, column);
}

/* page_under_way returns the n-th oldest page under way. */
static inline Page *
page_under_way(Relay *relay, int n)
{
	return &relay->pages[(relay->first_page + n) % PAGES_MAX];
}

/* An event that the broker has, and has not answered for. */
typedef struct Waiting
{
	int   n; /* its page's number from the oldest */
	Page *page;
	int   event;
} Waiting;

#define WAITING_FIRST                                                                              \
	{                                                                                              \
		.event = -1                                                                                \
	}

/* relay_next_waiting goes on to the next one, from WAITING_FIRST; false if there is none. */
extern bool relay_next_waiting(Relay *relay, Waiting *at);

extern int64_t page_event_id(const Page *page, int event);
extern int64_t page_last_event_id(const Page *page);

/* ---------- relay_window.c ---------- */

/* relay_lease_ms is how long another relay waits before it takes over from one that is silent. */
extern int relay_lease_ms(void);

/* relay_keep_lease asks the database something if it has not heard of us for long; false if it is
 * lost. */
extern bool relay_keep_lease(Relay *relay);
extern void relay_renew_lease(Relay *relay);

/* relay_execute runs a statement without parameters or result. */
extern bool relay_execute(Relay *relay, const char *doing, const char *sql);

/* relay_fall_asleep and relay_wake_up: whoever commits an event meanwhile rings the bell, which
 * costs them all. False if the database is lost. */
extern bool relay_fall_asleep(Relay *relay) __attribute__((warn_unused_result));
extern bool relay_wake_up(Relay *relay) __attribute__((warn_unused_result));

/* relay_acquire reads where the last relay was and fences it off. */
extern bool relay_acquire(Relay *relay);

/* relay_write_checkpoint writes where we are; false if the connection is lost, or another relay has
 * taken over. */
extern bool relay_write_checkpoint(Relay *relay, int published) __attribute__((warn_unused_result));

/*
 * relay_drain relays until nothing is left; *published counts the events. False if
 * a connection is lost or a stop is requested.
 */
extern bool relay_drain(Relay *relay, int *published) __attribute__((warn_unused_result));

/* relay_look_for_misplaced notices events that came by another way than our functions. */
extern bool relay_look_for_misplaced(Relay *relay) __attribute__((warn_unused_result));

/* ---------- relay_pages.c ---------- */

extern const BrokerEvents *relay_broker_events(Relay *relay);

/* relay_page_room is how many events another page may have now, and how many bytes; 0 while there
 * is no room. */
extern int relay_page_room(Relay *relay, size_t *bytes);

/* relay_rows_bytes adds up the payloads. */
extern size_t relay_rows_bytes(const PGresult *rows);

/* relay_add_page publishes the rows, which it takes over, as a page. */
extern bool relay_add_page(Relay *relay, PGresult *rows, bool is_deferred)
	__attribute__((warn_unused_result));

/*
 * relay_take_answers waits a little for the broker if "wait", publishes again what
 * it refused and is due, and retires the oldest pages that are done: *published counts
 * their events of the window, *progressed tells of any. False if a connection is lost or
 * the broker is overdue.
 */
extern bool relay_take_answers(Relay *relay, bool wait, int *published, bool *progressed)
	__attribute__((warn_unused_result));

/* relay_listen handles what the broker says for up to timeout_ms; false if either connection is
 * lost. */
extern bool relay_listen(Relay *relay, int timeout_ms) __attribute__((warn_unused_result));

extern void relay_free_pages(Relay *relay);

/* ---------- relay_refused.c ---------- */

/* What has become of something that is to be written down of events that are kept aside. */
typedef enum Aside
{
	ASIDE_WRITTEN,
	ASIDE_LATER, /* somebody's lock, or a rule of the user's, is in the way */
	ASIDE_FAILED /* the database counts as lost */
} Aside;

/* relay_write_aside parks those of the page that no queue takes, until they are redriven, and
 * defers those that it has not sent. False if the database is lost; the page waits as long as
 * something is in the way. */
extern bool relay_write_aside(Relay *relay, Page *page) __attribute__((warn_unused_result));

/* relay_park keeps the event aside until it is redriven. */
extern Aside relay_park(Relay *relay, int64_t event_id, int reply_code, const char *reply_text)
	__attribute__((warn_unused_result));

/* relay_defer keeps the events aside; they are sent again later, or soon if the broker takes others
 * like them. */
extern Aside relay_defer(Relay *relay, const int64_t *event_ids, int count, const char *why,
						 bool others_were_taken) __attribute__((warn_unused_result));

/* relay_deferred_sent: the broker has them now. */
extern Aside relay_deferred_sent(Relay *relay, const int64_t *event_ids, int count)
	__attribute__((warn_unused_result));

/* relay_send_deferred publishes deferred events that are due, if there is room. */
extern bool relay_send_deferred(Relay *relay) __attribute__((warn_unused_result));

/* relay_note_full and relay_is_full: a queue that takes the key's events is, or was lately, full.
 */
extern void relay_note_full(Relay *relay, const char *routing_key);
extern bool relay_is_full(const Relay *relay, const char *routing_key);

/* relay_note_connected: to the broker, just now. */
extern void relay_note_connected(Relay *relay);

/* relay_is_to_renew: is the broker to be connected to anew, because what it refuses it has refused
 * since it was connected to? For when nothing is under way. */
extern bool relay_is_to_renew(const Relay *relay);

/* ---------- relay_closed.c ---------- */

/* relay_note_loss judges what a lost broker connection has to do with what was under way. Before
 * relay_free_pages. */
extern void relay_note_loss(Relay *relay);

/* relay_execute_verdict parks or defers the event that was found guilty; once there is a checkpoint
 * to move. False if the database is lost. */
extern bool relay_execute_verdict(Relay *relay) __attribute__((warn_unused_result));

/* relay_write_verdicts writes down those that something was in the way of; false if the database is
 * lost. */
extern bool relay_write_verdicts(Relay *relay) __attribute__((warn_unused_result));

/* relay_waits_for_verdict: is one on an event of the page still to be written down? Deferred events
 * are kept as they are. */
extern bool relay_waits_for_verdict(const Relay *relay, const Page *page);

/* relay_forget_verdicts: what was found guilty, and set aside, is so no more: the ids are those of
 * other events now, or another relay has judged since. */
extern void relay_forget_verdicts(Relay *relay);

/* relay_is_set_aside: has a verdict put the event aside, so that the window is done with it? */
extern bool relay_is_set_aside(const Relay *relay, int64_t event_id);

/* relay_is_judged: is the page's event not to be sent, for it was found guilty? */
extern bool relay_is_judged(const Relay *relay, const Page *page, int event);

/* relay_note_taken: the broker has taken events; relay_note_passed: they are not sent. */
extern void relay_note_taken(Relay *relay, int count);
extern void relay_note_passed(Relay *relay, int count);

/* ---------- relay_silent.c ---------- */

/* relay_suspect tries what the broker owes us answers for, over connections of its own; false once
 * all were tried, and our connection is to be left because a queue hangs. */
extern bool relay_suspect(Relay *relay) __attribute__((warn_unused_result));

/* relay_waits_for_silent: is there something under way that is known to come to nothing? */
extern bool relay_waits_for_silent(Relay *relay);

/* relay_attend_trials handles what has become of trials; false if the database is lost. */
extern bool relay_attend_trials(Relay *relay) __attribute__((warn_unused_result));
extern bool relay_has_trials(const Relay *relay);
extern void relay_end_trials(Relay *relay);

/* relay_note_refused_key: the broker has closed the channel over an event of that key, with those
 * words, and may not over others. */
extern void relay_note_refused_key(Relay *relay, const char *routing_key, const char *words);

/* relay_note_taken_keys: what is done of the page the broker has taken, so it does not refuse all,
 * nor any of those keys. */
extern void relay_note_taken_keys(Relay *relay, const Page *page);

/* relay_silent_words says why an event of that key is deferred. */
extern const char *relay_silent_words(Relay *relay, const char *routing_key);

/* relay_is_in_doubt: are so many events put aside unsent of keys that the broker refuses, and
 * nothing taken since, that more of the window are to wait? It may be us. */
extern bool relay_is_in_doubt(const Relay *relay);

/* relay_defer_silent defers what is of silent keys, before the page is published; of each whose
 * time has come it tries one. False if the database is lost. */
extern bool relay_defer_silent(Relay *relay, Page *page) __attribute__((warn_unused_result));

/* ---------- relay_memory.c ---------- */

/* relay_remember: the event is sent, or about to be. */
extern void relay_remember(Relay *relay, const Page *page, int event);

/*
 * relay_look_back says which of the events that were sent the database has never had, if it is
 * another one than before, its timeline another, or it was set back: after a fail-over that lost
 * transactions, or after a restore. To be called with each new connection; false if it is lost.
 */
extern bool relay_look_back(Relay *relay) __attribute__((warn_unused_result));

extern void relay_forget(Relay *relay);

/* relay_pages.c, relay_again.c */
static inline int
relay_broker_timeout_ms(void)
{
	return config.broker_timeout_s * 1000;
}

/* A publish that blocks must not outlast the lease. */
static inline int
relay_publish_timeout_ms(void)
{
	int two_thirds = relay_lease_ms() / 3 * 2;

	return relay_broker_timeout_ms() < two_thirds ? relay_broker_timeout_ms() : two_thirds;
}

extern bool relay_publish_again(Relay *relay, Page *page);
extern bool relay_is_overdue(Relay *relay);
extern void relay_put_off(Relay *relay); /* the broker has all of its time again */
extern bool relay_publish_page(Relay *relay, Page *page);

/* relay_publish_to returns the publish's tag; 0 if the connection is lost. */
extern uint64_t relay_publish_to(Broker *broker, const Page *page, int event);

#endif /* BRIDGE_RELAY_STATE_H */
