/* events, and the relay */

CREATE OR REPLACE FUNCTION publish_event(routing_key text, payload jsonb,
	headers jsonb DEFAULT '{}', mandatory boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME', 'oa_publish_event'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION publish_event(text, jsonb, jsonb, boolean) IS
'Puts an event of your own into the outbox and returns its id; it is relayed to the topic '
'exchange "orders" if the transaction commits. headers: an object of strings, numbers and '
'booleans. 22023: malformed argument.';

CREATE OR REPLACE FUNCTION make_outbox_partitions(ahead int DEFAULT 1)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_make_outbox_partitions'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION make_outbox_partitions(int) IS
'Makes the outbox partition of the next event and that many more; returns how many were missing.';

CREATE OR REPLACE FUNCTION drop_outbox_partitions(older_than interval)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_drop_outbox_partitions'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION drop_outbox_partitions(interval) IS
'Drops outbox partitions that are full, wholly relayed and older than that, the oldest four at '
'most; returns how many. Forgets parked and deferred events that were sent again before then. '
'Waits at most 100 ms for a lock.';

CREATE OR REPLACE FUNCTION outbox_head() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END
	FROM order_aggregator.event_id_seq AS s
$$;
COMMENT ON FUNCTION outbox_head() IS 'The last event id given out, whether committed or not.';

CREATE OR REPLACE FUNCTION outbox_tail() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT min(o.event_id) FROM order_aggregator.outbox AS o
	HAVING (SELECT c.dropped_until FROM order_aggregator.relay_checkpoint AS c) IS NOT NULL
$$;
COMMENT ON FUNCTION outbox_tail() IS
'The first event that is kept, if earlier ones were dropped; else NULL.';

CREATE OR REPLACE FUNCTION next_xid()
RETURNS xid8
AS 'MODULE_PATHNAME', 'oa_next_xid'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION next_xid() IS
'The transaction id that will be given out next. A snapshot''s xmax is lower while transactions '
'run that began after the last one that ended.';

CREATE OR REPLACE FUNCTION outbox_top() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(max(o.event_id), 0) FROM order_aggregator.outbox AS o $$;
COMMENT ON FUNCTION outbox_top() IS
'The highest event id there is; above outbox_head() only if events came by another way than our '
'functions.';

CREATE OR REPLACE FUNCTION unrelayed_since() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT c.relayed_until FROM order_aggregator.relay_checkpoint AS c),
		(SELECT o.created_at FROM order_aggregator.outbox AS o ORDER BY o.event_id LIMIT 1))
$$;
COMMENT ON FUNCTION unrelayed_since() IS
'Events that were committed since then may not be relayed yet: of a relay that has never got that '
'far it is the time of the first event that is kept; NULL if there is none.';

CREATE OR REPLACE FUNCTION event_bytes(payload json)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_event_bytes'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION event_bytes(json) IS 'How long a payload is, without reading it.';

CREATE OR REPLACE FUNCTION relay_try_lead()
RETURNS boolean
AS 'MODULE_PATHNAME', 'oa_relay_try_lead'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION relay_try_lead() IS
'Makes this session the one whose relay is at work, until it ends; false if another is.';

CREATE OR REPLACE FUNCTION relay_fall_asleep()
RETURNS void
AS 'MODULE_PATHNAME', 'oa_relay_fall_asleep'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION relay_fall_asleep() IS
'From now on, until relay_wake_up() or the end of the session, transactions that write events '
'ring the doorbell: NOTIFY order_aggregator.';

CREATE OR REPLACE FUNCTION relay_wake_up()
RETURNS void
AS 'MODULE_PATHNAME', 'oa_relay_wake_up'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION relay_wake_up() IS 'Ends relay_fall_asleep().';

CREATE OR REPLACE FUNCTION relay_acquire(holder text)
RETURNS relay_checkpoint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- the first snapshot sees nothing: every event is still to be relayed
	INSERT INTO order_aggregator.relay_checkpoint AS c (epoch, holder, snapshot, system_identifier)
	SELECT 1, relay_acquire.holder, '3:3:', s.system_identifier FROM pg_catalog.pg_control_system()
		AS s
	ON CONFLICT (only_row) DO UPDATE
	SET epoch = c.epoch + 1, holder = EXCLUDED.holder,
		system_identifier = EXCLUDED.system_identifier,
		snapshot = CASE WHEN c.system_identifier = EXCLUDED.system_identifier THEN c.snapshot
			ELSE EXCLUDED.snapshot END,
		window_snapshot = CASE WHEN c.system_identifier = EXCLUDED.system_identifier
			THEN c.window_snapshot END,
		relayed_until = CASE WHEN c.system_identifier = EXCLUDED.system_identifier
			THEN c.relayed_until END,
		window_event_id = CASE WHEN c.system_identifier = EXCLUDED.system_identifier
			THEN c.window_event_id END,
		restored_upto = CASE WHEN c.system_identifier = EXCLUDED.system_identifier
			THEN c.restored_upto
						ELSE order_aggregator.outbox_head() END
	RETURNING c.*
$$;
COMMENT ON FUNCTION relay_acquire(text) IS
'Makes the caller the relay: raises the fencing epoch, so that no earlier holder can advance the '
'checkpoint again.';

CREATE OR REPLACE FUNCTION relay_advance(epoch bigint, snapshot pg_snapshot,
	low_event_id bigint, window_snapshot pg_snapshot, window_event_id bigint, published bigint,
	relayed_until timestamptz)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE order_aggregator.relay_checkpoint AS c
	SET snapshot = relay_advance.snapshot, low_event_id = relay_advance.low_event_id,
		window_snapshot = relay_advance.window_snapshot,
			window_event_id = relay_advance.window_event_id,
		published = c.published + relay_advance.published, advanced_at = pg_catalog.now(),
		relayed_until = coalesce(relay_advance.relayed_until, c.relayed_until)
	WHERE c.epoch OPERATOR(pg_catalog.=) relay_advance.epoch
	RETURNING true
$$;
COMMENT ON FUNCTION relay_advance(bigint, pg_snapshot, bigint, pg_snapshot, bigint, bigint,
	timestamptz) IS
'Moves the checkpoint; returns NULL, and moves nothing, if another relay has taken over since.';

CREATE OR REPLACE FUNCTION relay_events(after_event_id bigint, from_xid xid8,
	finished xid8[], upto pg_snapshot, max_events int, max_bytes bigint DEFAULT 8388608,
	last_event_id bigint DEFAULT 9223372036854775807)
RETURNS TABLE (event_id bigint, message_id uuid, routing_key text, mandatory boolean, headers text,
	payload text,
			   created_at_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.event_id, e.message_id, e.routing_key, e.mandatory, e.headers::text, e.payload::text,
		(extract(epoch FROM e.created_at) * 1000000)::bigint
	FROM (SELECT p.*, sum(order_aggregator.event_bytes(p.payload)) OVER before AS bytes_before
		  FROM (SELECT o.event_id, o.message_id, o.routing_key, o.mandatory, o.headers, o.payload,
		      o.created_at
				FROM order_aggregator.outbox AS o
				WHERE o.event_id > relay_events.after_event_id
				  AND o.event_id <= relay_events.last_event_id
				  AND (o.txid >= relay_events.from_xid OR o.txid = ANY (relay_events.finished))
				  AND (pg_catalog.pg_visible_in_snapshot(o.txid, relay_events.upto)
					   OR (relay_events.from_xid = '3'
						   AND o.event_id <= (SELECT c.restored_upto
						       FROM order_aggregator.relay_checkpoint AS c)))
				ORDER BY o.event_id
				LIMIT relay_events.max_events) AS p
		  WINDOW before AS (ORDER BY p.event_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
		      AS e
	WHERE e.bytes_before IS NULL OR e.bytes_before < relay_events.max_bytes
	ORDER BY e.event_id
$$;
COMMENT ON FUNCTION relay_events(bigint, xid8, xid8[], pg_snapshot, int, bigint, bigint) IS
'One page of the events committed between two snapshots: those of transactions from from_xid on, '
'or among the finished ones that the earlier snapshot saw running, and visible in upto. Ends with '
'the event that brings its payloads to max_bytes. All events from after_event_id to last_event_id '
'are looked at, whosever they are, if the page is not full before.';

CREATE OR REPLACE FUNCTION settled_events(after_event_id bigint, upto_event_id bigint,
	max_events int)
RETURNS TABLE (event_id bigint, routing_key text, payload text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.event_id, e.routing_key, e.payload::text
	FROM (SELECT p.*, sum(order_aggregator.event_bytes(p.payload)) OVER before AS bytes_before
		  FROM (SELECT o.event_id, o.routing_key, o.payload
				FROM order_aggregator.outbox AS o
				WHERE o.event_id > settled_events.after_event_id
					AND o.event_id <= settled_events.upto_event_id
				ORDER BY o.event_id
				LIMIT settled_events.max_events) AS p
		  WINDOW before AS (ORDER BY p.event_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
		      AS e
	WHERE e.bytes_before IS NULL OR e.bytes_before < 1000000
	ORDER BY e.event_id
$$;
COMMENT ON FUNCTION settled_events(bigint, bigint, int) IS
'Events by id, for listeners, about a megabyte at most; the caller sees to it that no transaction '
'with an id up to upto_event_id still runs.';

CREATE OR REPLACE FUNCTION park_event(event_id bigint, reply_code int, reply_text text)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- one that was deferred may be in the outbox no more
	UPDATE order_aggregator.parked_event AS p
	SET reply_code = park_event.reply_code, reply_text = park_event.reply_text,
		parked_at = pg_catalog.now(),
		redriven_at = NULL, retry_at = NULL
	WHERE p.event_id OPERATOR(pg_catalog.=) park_event.event_id;
	INSERT INTO order_aggregator.parked_event AS p
		(event_id, message_id, routing_key, mandatory, headers, payload, created_at, reply_code,
			reply_text)
	SELECT o.event_id, o.message_id, o.routing_key, o.mandatory, o.headers, o.payload, o.created_at,
		park_event.reply_code, park_event.reply_text
	FROM order_aggregator.outbox AS o
	WHERE o.event_id OPERATOR(pg_catalog.=) park_event.event_id
	ON CONFLICT (event_id) DO NOTHING
$$;
COMMENT ON FUNCTION park_event(bigint, int, text) IS
'Keeps aside an event that the broker cannot route, or refuses for good, with the broker''s '
'words.';

CREATE OR REPLACE FUNCTION defer_events(event_ids bigint[], reply_text text,
	others_were_taken boolean DEFAULT false)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO order_aggregator.parked_event AS p
		(event_id, message_id, routing_key, mandatory, headers, payload, created_at, reply_code,
			reply_text, retry_at)
	SELECT o.event_id, o.message_id, o.routing_key, o.mandatory, o.headers, o.payload, o.created_at,
		0, defer_events.reply_text, pg_catalog.now() + interval '1 second'
	FROM order_aggregator.outbox AS o
	WHERE o.event_id OPERATOR(pg_catalog.=) ANY (defer_events.event_ids)
	ON CONFLICT (event_id) DO NOTHING;
	UPDATE order_aggregator.parked_event AS p
	SET tries = CASE WHEN defer_events.others_were_taken THEN 0 ELSE p.tries + 1 END,
		redriven_at = NULL, reply_text = defer_events.reply_text,
		retry_at = pg_catalog.now() + CASE WHEN defer_events.others_were_taken
			THEN interval '100 milliseconds'
									  ELSE interval '1 second' * 2 ^ least(p.tries, 3) END
	WHERE p.event_id OPERATOR(pg_catalog.=) ANY (defer_events.event_ids)
$$;
COMMENT ON FUNCTION defer_events(bigint[], text, boolean) IS
'Keeps aside events that the broker does not take now, because a queue is full or hangs, or it '
'forbids them: the relay sends them again, after a second first, after eight at last; soon if the '
'broker takes others like them.';

CREATE OR REPLACE FUNCTION deferred_events(max_events int, max_bytes bigint)
RETURNS TABLE (event_id bigint, message_id uuid, routing_key text, mandatory boolean, headers text,
	payload text,
			   created_at_us bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.event_id, e.message_id, e.routing_key, e.mandatory, e.headers::text, e.payload::text,
		(extract(epoch FROM e.created_at) * 1000000)::bigint
	FROM (SELECT p.*, sum(order_aggregator.event_bytes(p.payload)) OVER before AS bytes_before
		  FROM (SELECT * FROM order_aggregator.parked_event AS d
				WHERE d.retry_at <= pg_catalog.now()
				ORDER BY d.retry_at, d.event_id
				LIMIT deferred_events.max_events) AS p
		  WINDOW before AS (ORDER BY p.event_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
		      AS e
	WHERE e.bytes_before IS NULL OR e.bytes_before < deferred_events.max_bytes
	ORDER BY e.event_id
$$;
COMMENT ON FUNCTION deferred_events(int, bigint) IS
'Deferred events that are due, as relay_events() returns them.';

CREATE OR REPLACE FUNCTION deferred_events_sent(event_ids bigint[])
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE order_aggregator.parked_event AS p
	SET redriven_at = pg_catalog.now(), retry_at = NULL
	WHERE p.event_id OPERATOR(pg_catalog.=) ANY (deferred_events_sent.event_ids) AND p.retry_at
		IS NOT NULL
$$;
COMMENT ON FUNCTION deferred_events_sent(bigint[]) IS 'The broker has them now.';

CREATE OR REPLACE FUNCTION missing_events(event_ids bigint[], message_ids uuid[],
	created_at_us bigint[])
RETURNS SETOF int
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT sent.place::int
	FROM ROWS FROM (unnest(missing_events.event_ids), unnest(missing_events.message_ids),
			unnest(missing_events.created_at_us)) WITH ORDINALITY
		AS sent(event_id, message_id, created_at_us, place)
	WHERE NOT EXISTS (SELECT FROM order_aggregator.outbox AS o
					  WHERE o.event_id = sent.event_id AND o.message_id = sent.message_id)
		AND sent.created_at_us > coalesce((SELECT extract(epoch FROM c.dropped_until) * 1000000
			FROM order_aggregator.relay_checkpoint AS c), 0)
	ORDER BY sent.place
$$;
COMMENT ON FUNCTION missing_events(bigint[], uuid[], bigint[]) IS
'Which of the events that a relay has sent this database has never had, by their places from 1: '
'those of transactions that a fail-over or a restore has lost. What was dropped with its partition '
'is not missed.';

CREATE OR REPLACE FUNCTION redrive_parked_events(max_events int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_redrive_parked_events'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION redrive_parked_events(int) IS
'Puts parked events back into the outbox under their own message_id and returns how many. '
'Deferred ones come back by themselves.';
