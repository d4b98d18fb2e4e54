-- the outbox: own events, partitions, parked events
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT publish_event('mine.created', '{"a": [1, 2]}', '{"tenant": "t1", "n": 4}', true), publish_event('mine.changed', '"text"');
SELECT event_id, txid = pg_current_xact_id() AS mine, order_id, routing_key, mandatory, headers, payload FROM outbox;
BEGIN; SELECT publish_event('mine.lost', '{}'); ROLLBACK;
BEGIN; SELECT count(publish_event('mine.many', '{}')) FROM generate_series(1, 300);
SELECT count(DISTINCT right(message_id::text, 17)) AS random_parts FROM outbox WHERE routing_key = 'mine.many'; ROLLBACK;
SELECT routing_key FROM outbox ORDER BY event_id;
-- partitions are made when needed, or ahead
SELECT relname FROM pg_class WHERE relname LIKE 'outbox%' AND relkind = 'r';
SELECT make_outbox_partitions(2), make_outbox_partitions(2);
SELECT setval('event_id_seq', 1048574);
SELECT publish_event('n' || n, '{}') FROM generate_series(1, 4) AS n;
SELECT tableoid::regclass, event_id, routing_key FROM outbox WHERE event_id > 2 ORDER BY 2;
-- parked and redriven under the same message_id
SELECT park_event(1, 312, 'NO_ROUTE');
SELECT event_id, routing_key, reply_code, reply_text, redriven_at IS NULL AS waits FROM parked_event;
SELECT redrive_parked_events(), redrive_parked_events();
SELECT count(*), count(DISTINCT message_id) FROM outbox WHERE routing_key = 'mine.created';
SELECT headers FROM outbox WHERE routing_key = 'mine.created' ORDER BY event_id;
-- nothing is dropped before it is relayed, or before its time; what was parked and is sent is forgotten
SELECT count(*) AS sent_again FROM parked_event WHERE redriven_at IS NOT NULL;
SELECT drop_outbox_partitions('0 seconds');
SELECT (relay_acquire('test')).epoch;
SELECT relay_advance(1, pg_current_snapshot(), 1048579, NULL, NULL, 0, now());
SELECT relay_advance(0, pg_current_snapshot(), 1048579, NULL, NULL, 0, now()) AS fenced;
SELECT drop_outbox_partitions('1 hour'), drop_outbox_partitions('0 seconds');
SELECT count(*) AS sent_again FROM parked_event WHERE redriven_at IS NOT NULL;
SELECT min(event_id) FROM outbox;
SELECT * FROM check_consistency();
-- what the broker would close the channel over is refused beforehand; a payload is measured as it is sent
SELECT publish_event('mine', '{}', '{"CC": "x"}');
SELECT publish_event('mine', '{}', '{"BCC": true}');
SELECT publish_event('mine', '{}', '{"cc": "x", "Bcc": "y", "CCC": 1}') IS NOT NULL AS taken;
SELECT publish_event('mine', to_jsonb(repeat(E'\u0001', 2796203)));
SELECT publish_event('mine', to_jsonb(repeat('x', 16777215)));
SELECT publish_event('mine', to_jsonb(repeat('x', 16777214))) IS NOT NULL AS taken;
-- a page ends with the event that brings it to its bytes
SELECT event_id, octet_length(payload) AS bytes FROM relay_events(0, '3', '{}', pg_current_snapshot(), 5, 1);
SELECT count(*) FROM relay_events(0, '3', '{}', pg_current_snapshot(), 100, 100000000);
SELECT count(*), max(octet_length(payload)) FROM relay_events(0, '3', '{}', pg_current_snapshot(), 100);
SELECT array_agg(event_id) FROM relay_events(0, '3', '{}', pg_current_snapshot(), 100, 100000000, 1048578);
-- deferred: sent again by itself, until the broker takes it; parked if it will not
SELECT defer_events(ARRAY[1048577, 1048578], 'full');
SELECT event_id, routing_key, reply_text, tries, retry_at > now() AS later FROM deferred_event ORDER BY 1;
SELECT count(*) FROM unroutable_event WHERE event_id IN (1048577, 1048578);
SELECT count(*) FROM deferred_events(10, 1000000);
UPDATE parked_event SET retry_at = now() WHERE retry_at IS NOT NULL;
SELECT event_id, routing_key, mandatory, payload FROM deferred_events(10, 1000000);
-- however often it has been tried
UPDATE parked_event SET tries = 1024 WHERE event_id = 1048577;
SELECT defer_events(ARRAY[1048577], 'full');
SELECT tries, retry_at - now() BETWEEN '7 seconds' AND '8 seconds' AS pauses FROM deferred_event WHERE event_id = 1048577;
SELECT deferred_events_sent(ARRAY[1048577]), park_event(1048578, 406, 'PRECONDITION_FAILED');
SELECT event_id FROM deferred_event;
SELECT event_id, reply_code, redriven_at IS NULL AS waits FROM parked_event WHERE event_id > 100 ORDER BY 1;
-- events that are not where the relay looks for them
SELECT setval('event_id_seq', 1048580);
SELECT * FROM check_consistency();
SELECT relay_advance(1, pg_current_snapshot(), 1048581, NULL, NULL, 0, now());
SELECT * FROM check_consistency();
SELECT setval('event_id_seq', 1048581);
SELECT relay_advance(1, pg_current_snapshot(), outbox_head(), NULL, NULL, 0, now());
DELETE FROM outbox WHERE event_id = 1048577;
INSERT INTO outbox (event_id, txid, message_id, routing_key, mandatory, payload, created_at)
VALUES (1048577, pg_current_xact_id(), gen_random_uuid(), 'below', false, '{}', now());
SELECT * FROM check_consistency();
-- events that a relay has sent and this database has never had; what was dropped with its partition is not missed
SELECT missing_events(array_agg(event_id), array_agg(message_id), array_agg((extract(epoch FROM created_at) * 1000000)::bigint)) FROM outbox;
SELECT missing_events('{1,2,3}', ARRAY[(SELECT message_id FROM outbox ORDER BY event_id LIMIT 1), gen_random_uuid(), gen_random_uuid()], ARRAY[1, (extract(epoch FROM now()) * 1000000)::bigint, 1]);
SELECT missing_events('{}', '{}', '{}');
-- a key of a user's own, as a logical replica wants it, and the next partition all the same; made where our tables are
ALTER TABLE outbox ADD PRIMARY KEY (event_id);
CREATE INDEX outbox_by_day ON outbox (created_at);
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE scratch LOCATION '';
SET default_tablespace = 'scratch';
SELECT setval('event_id_seq', 5 * 1048576);
SELECT make_outbox_partitions(2);
RESET default_tablespace;
DROP TABLESPACE scratch;
SELECT c.relname, c.reltablespace, i.indexrelid::regclass, i.indisprimary, i.indisvalid FROM pg_class AS c JOIN pg_index AS i ON i.indrelid = c.oid
WHERE c.relname IN ('outbox_5', 'outbox_6') ORDER BY 1, 3;
SELECT publish_event('mine', '{}') > 5 * 1048576 AS is_there;
-- what is written to a partition that is none any more nobody would see
ALTER TABLE outbox DETACH PARTITION outbox_5;
SELECT publish_event('mine', '{}');
SELECT make_outbox_partitions(0);
ALTER TABLE outbox ATTACH PARTITION outbox_5 FOR VALUES FROM (5242880) TO (6291456);
SELECT publish_event('mine', '{}') > 5 * 1048576 AS is_there;
