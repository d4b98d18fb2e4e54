/*
 * reply.c
 *		Vendors' replies.
 *
 * apply_vendor_replies() decides for each reply, in order, what it means for
 * the holds it names; settlement.c then carries all of it out at once. A reply
 * that can change nothing says why:
 *
 *		applied		the holds changed
 *		duplicate	the same answer was given before
 *		late		the order, or this part of it, was decided otherwise
 *		stale		for an earlier attempt, which another vendor has taken over
 *		invalid		can never be applied: malformed, or of nothing we asked
 *		busy		another transaction has locked the order or stock of it; nothing changed
 *
 * A reply is read with tolerance wherever its meaning is clear: it is an answer,
 * and the vendor will not give it again.
 */

#include "postgres.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "settlement/settlement.h"
#include "store/check.h"
#include "store/plans.h"
#include "utils/builtins.h"
#include "store/json.h"
#include "store/symbols.h"

OA_FUNCTION(oa_apply_vendor_replies);
OA_FUNCTION(oa_apply_vendor_replies_skip_locked);

#define REPLIES_MAX 10000

typedef struct Reply
{
	int64       order_id;
	char       *vendor_id;
	int         attempt;
	bool        is_confirmation;
	char       *reason;
	const char *outcome; /* NULL: not decided yet */
	char       *detail;
} Reply;

/* ---------- parsing ---------- */

static void
invalid(Reply *reply, char *detail)
{
	if (reply->outcome != NULL)
		return;
	reply->outcome = "invalid";
	reply->detail = detail;
}

/* The member as a text without the blanks around it; NULL if it is neither a text nor a number. */
static char *
member_text(JsonbContainer *object, const char *key)
{
	JsonbValue value;
	char      *text;
	char      *end;

	if (!json_member(object, key, &value))
		return NULL;
	if (value.type == jbvNumeric)
		return numeric_text(value.val.numeric);
	if (value.type != jbvString)
		return NULL;
	text = pnstrdup(value.val.string.val, value.val.string.len);
	text += strspn(text, " \t\r\n");
	end = text + strlen(text);
	while (end > text && strchr(" \t\r\n", end[-1]) != NULL)
		end--;
	*end = '\0';
	return text;
}

/* A number, or a text of one. */
static bool
member_whole(JsonbContainer *object, const char *key, int64 max, int64 *number)
{
	char *text = member_text(object, key);

	return text != NULL && text_to_whole(text, 1, max, number);
}

/* What the vendor says of why, as much of it as we keep; whatever it is, it is no reason to lose
 * the answer. */
static char *
reason_of(JsonbContainer *object)
{
	JsonbValue value;
	char      *text;

	if (!json_member(object, "reason", &value) || value.type == jbvNull)
		return NULL;
	if (value.type == jbvString)
		text = pnstrdup(value.val.string.val, value.val.string.len);
	else
	{
		Jsonb *json = JsonbValueToJsonb(&value);

		text = JsonbToCString(NULL, &json->root, VARSIZE(json));
	}
	text[pg_mbcliplen(text, strlen(text), REASON_CHARS_MAX)] = '\0';
	return text;
}

static void
parse_reply(Reply *reply, JsonbContainer *object)
{
	int64 number;
	char *text;

	if (!member_whole(object, "orderId", PG_INT64_MAX, &reply->order_id))
		invalid(reply, "orderId must be a whole number");
	text = member_text(object, "vendorId");
	if (text == NULL || !is_vendor_id(text, strlen(text)))
		invalid(reply, "vendorId must be a string of 1 to 64 of A-Z a-z 0-9 _ -");
	else
		reply->vendor_id = text;
	if (!member_whole(object, "attempt", PG_INT32_MAX, &number))
		invalid(reply, "attempt must be a whole number from 1");
	else
		reply->attempt = (int) number;
	text = member_text(object, "status");
	reply->is_confirmation = text != NULL && pg_strcasecmp(text, "confirmed") == 0;
	if (!reply->is_confirmation && (text == NULL || pg_strcasecmp(text, "rejected") != 0))
		invalid(reply, "status must be confirmed or rejected");
	reply->reason = reason_of(object);
}

static Reply *
parse_replies(Jsonb *json, int *count)
{
	JsonWalk walk;
	Reply   *replies;

	if (!json_is_array(json) || JB_ROOT_COUNT(json) > REPLIES_MAX)
		argument_error("replies",
					   psprintf("must be a JSON array of at most %d elements", REPLIES_MAX));
	replies = palloc0(sizeof(Reply) * Max(JB_ROOT_COUNT(json), 1));
	*count = 0;
	json_walk_begin(&walk, &json->root);
	while (json_walk_next(&walk))
	{
		Reply          *reply = &replies[(*count)++];
		JsonbContainer *object = json_object_of(&walk.value);

		if (object == NULL)
			invalid(reply, "the reply must be an object");
		else
			parse_reply(reply, object);
	}
	return replies;
}

/* ---------- who answers ---------- */

/* The AMQP user whose answers alone count for a vendor. */
typedef struct VendorUser
{
	char *vendor_id;
	char *amqp_user;
} VendorUser;

static int
compare_vendor_users(const void *a, const void *b)
{
	return strcmp(((const VendorUser *) a)->vendor_id, ((const VendorUser *) b)->vendor_id);
}

/* Those of the replies' vendors that have one, by vendor; returns how many. */
static int
read_vendor_users(const Reply *replies, int count, VendorUser **users)
{
	const char **ids = palloc(sizeof(char *) * Max(count, 1));
	Datum        values[1];
	int          nusers;

	for (int i = 0; i < count; i++)
		ids[i] = replies[i].vendor_id;
	values[0] = text_array(ids, count);
	plan_execute(PLAN_AMQP_USERS, values, NULL, SPI_OK_SELECT);
	nusers = (int) SPI_processed;
	*users = palloc(sizeof(VendorUser) * Max(nusers, 1));
	for (int i = 0; i < nusers; i++)
		(*users)[i] = (VendorUser){spi_string(i, 1), spi_string(i, 2)};
	qsort(*users, nusers, sizeof(VendorUser), compare_vendor_users);
	return nusers;
}

/* An answer counts only from whom it may come: the user that the broker vouches for. */
static void
check_users(Reply *replies, int count, ArrayType *user_ids)
{
	VendorUser *wanted;
	Datum      *users;
	bool       *nulls;
	int         nusers;
	int         nwanted;

	deconstruct_array(user_ids, TEXTOID, -1, false, TYPALIGN_INT, &users, &nulls, &nusers);
	if (nusers != count)
		argument_error(
			"user_ids",
			psprintf("must have an element for each of the %d replies, not %d", count, nusers));
	nwanted = read_vendor_users(replies, count, &wanted);
	for (int i = 0; i < count; i++)
	{
		VendorUser  key = {.vendor_id = replies[i].vendor_id};
		VendorUser *found =
			key.vendor_id == NULL
				? NULL
				: bsearch(&key, wanted, nwanted, sizeof(VendorUser), compare_vendor_users);

		if (found == NULL ||
			(!nulls[i] && strcmp(TextDatumGetCString(users[i]), found->amqp_user) == 0))
			continue;
		invalid(&replies[i],
				psprintf("vendorId %s answers as another AMQP user; this reply came %s%s",
						 replies[i].vendor_id, nulls[i] ? "without a user_id" : "from ",
						 nulls[i] ? "" : excerpt(TextDatumGetCString(users[i]))));
	}
}

/* ---------- deciding ---------- */

/* A reply to holds that are settled already. */
static void
decide_settled(Settlement *settlement, const SettledOrder *order, const Hold *hold, Reply *reply)
{
	HoldStatus status = hold_current_status(hold);
	bool       same_answer =
        reply->is_confirmation
				  ? status == HOLD_CONFIRMED
				  : status == HOLD_REJECTED ||
                  (status == HOLD_RELEASED && hold->reason != NULL &&
                   strncmp(hold->reason, VENDOR_REJECTED, strlen(VENDOR_REJECTED)) == 0);

	reply->detail =
		psprintf("order " INT64_FORMAT " is %s, and its part at %s was %s", order->facts.order_id,
				 order_status_name(order->status), hold->vendor_id, hold_status_name(status));
	if (same_answer)
	{
		reply->outcome = "duplicate";
		return;
	}
	reply->outcome = status == HOLD_REJECTED ? "stale" : "late";
	if (reply->is_confirmation)
		event_vendor_cancelled(settlement->events, &order->facts, hold->vendor_id, hold->attempt,
							   status == HOLD_REJECTED ? "the order has gone on without this vendor"
							   : order->close_reason
								   ? order->close_reason
								   : psprintf("order %s", order_status_name(order->status)));
}

static void
decide(Settlement *settlement, Reply *reply)
{
	SettledOrder *order = settlement_find(settlement, reply->order_id);
	Hold         *settled = NULL;
	bool          found = false;

	if (order == NULL)
	{
		invalid(reply, psprintf("orderId " INT64_FORMAT " is not an order", reply->order_id));
		return;
	}
	for (int i = 0; i < order->nholds; i++)
	{
		Hold *hold = &order->holds[i];

		if (hold->attempt != reply->attempt || strcmp(hold->vendor_id, reply->vendor_id) != 0)
			continue;
		found = true;
		if (hold_current_status(hold) != HOLD_OPEN)
		{
			settled = hold;
			continue;
		}
		hold->new_status = reply->is_confirmation ? HOLD_CONFIRMED : HOLD_REJECTED;
		hold->reason = reply->reason;
		reply->outcome = "applied";
	}
	if (!found)
		invalid(reply,
				psprintf("vendorId %s was not asked for order " INT64_FORMAT " at attempt %d",
						 reply->vendor_id, reply->order_id, reply->attempt));
	else if (reply->outcome == NULL)
		decide_settled(settlement, order, settled, reply);
}

static void
apply_replies(Reply *replies, int count, bool skip_locked)
{
	int64      *order_ids = palloc(sizeof(int64) * Max(count, 1));
	int         norders = 0;
	Settlement *settlement;

	for (int i = 0; i < count; i++)
	{
		if (replies[i].outcome == NULL)
			order_ids[norders++] = replies[i].order_id;
	}
	if (norders == 0)
		return;
	settlement = settlement_lock(order_ids, norders, skip_locked);
	for (int i = 0; i < count; i++)
	{
		if (replies[i].outcome == NULL && !settlement_is_busy(settlement, replies[i].order_id))
			decide(settlement, &replies[i]);
	}
	settlement_write(settlement);
	for (int i = 0; i < count; i++)
	{
		Reply *reply = &replies[i];

		if (reply->order_id == 0 || !settlement_is_busy(settlement, reply->order_id) ||
			(reply->outcome != NULL && strcmp(reply->outcome, "invalid") == 0))
			continue;
		reply->outcome = "busy";
		reply->detail = psprintf("another transaction has locked order " INT64_FORMAT
								 ", or stock that it holds",
								 reply->order_id);
	}
}

static Datum
apply_vendor_replies(FunctionCallInfo fcinfo, bool skip_locked)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Reply         *replies;
	int            count;

	require_argument(fcinfo, 0, "replies");
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	replies = parse_replies(PG_GETARG_JSONB_P(0), &count);
	if (PG_NARGS() > 1 && !PG_ARGISNULL(1)) /* 1.0 had one */
		check_users(replies, count, PG_GETARG_ARRAYTYPE_P(1));
	apply_replies(replies, count, skip_locked);
	for (int i = 0; i < count; i++)
	{
		Datum values[3] = {Int32GetDatum(i + 1), CStringGetTextDatum(replies[i].outcome)};
		bool  nulls[3] = {false, false, replies[i].detail == NULL};

		if (replies[i].detail != NULL)
			values[2] = CStringGetTextDatum(replies[i].detail);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	SPI_finish();
	return (Datum) 0;
}

Datum
oa_apply_vendor_replies(PG_FUNCTION_ARGS)
{
	begin_writing("apply_vendor_replies()");
	return apply_vendor_replies(fcinfo, false);
}

Datum
oa_apply_vendor_replies_skip_locked(PG_FUNCTION_ARGS)
{
	begin_writing("apply_vendor_replies_skip_locked()");
	return apply_vendor_replies(fcinfo, true);
}
