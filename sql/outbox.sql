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
-- nothing is dropped before it is relayed, or before its time
SELECT drop_outbox_partitions('0 seconds');
SELECT (relay_acquire('test')).epoch;
SELECT relay_advance(1, pg_current_snapshot(), 1048579, NULL, NULL, 0, now());
SELECT relay_advance(0, pg_current_snapshot(), 1048579, NULL, NULL, 0, now()) AS fenced;
SELECT drop_outbox_partitions('1 hour'), drop_outbox_partitions('0 seconds');
SELECT min(event_id) FROM outbox;
SELECT * FROM check_consistency();
