-- feeds in parts, their history, and who is pulled when
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', 'http://a.example/stock'), register_vendor('b', 'Vendor B', 'http://b.example/stock');
SELECT begin_feed('a', '2026-01-01 10:00Z') AS feed \gset
SELECT apply_feed_part(:feed, NULL, 'm', '{0,3,1}', '{b,d,f}', '{The B,NULL,""}', '{5,6,7.000}', '{1.50,2e0,3}', '{NULL,NULL,NULL}') AS rows;
SELECT apply_feed_part(:feed, 'm', NULL, '{2,4,5,6}', '{p,q,NULL,r}', '{NULL,NULL,NULL,NULL}', '{1e2,-1,3,4}', '{NULL,NULL,NULL,1.23456}', '{NULL,NULL,NULL,NULL}') AS rows;
SELECT finish_feed(:feed, '"tag"', 'Thu, 01 Jan 2026 10:00:00 GMT');
SELECT product_id, name, price, on_hand FROM stock JOIN product USING (product_id) ORDER BY 1;
SELECT last_sync_status, last_sync_items, feed_etag, synced_as_of FROM vendor WHERE vendor_id = 'a';
-- what a range lacks is not offered any more; other ranges are not touched; names come later
SELECT begin_feed('a', '2026-01-01 11:00Z') AS feed \gset
SELECT feed_etag FROM vendor WHERE vendor_id = 'a';
SELECT apply_feed_part(:feed, 'c', 'm', '{0}', '{d}', '{The D}', '{6}', '{2}', '{NULL}') AS rows;
SELECT product_id, name, on_hand, is_active FROM stock JOIN product USING (product_id) ORDER BY 1;
-- an item beyond the range, arrays that differ, a feed that is not running
SELECT apply_feed_part(:feed, 'm', NULL, '{0}', '{a}', '{NULL}', '{6}', '{2}', '{NULL}');
SELECT apply_feed_part(:feed, 'm', NULL, '{0}', '{p}', '{NULL}', '{6}', '{2}', '{}');
SELECT apply_feed_part(:feed, 'm', NULL, '{0}', '{p}', '{NULL}', '{6}', '{2}', NULL);
SELECT apply_feed_part(99, NULL, NULL, '{}', '{}', '{}', '{}', '{}', '{}');
SELECT begin_feed('a', '2026-01-01 10:30Z') AS stale;
SELECT begin_feed('a', '2026-01-01 12:00Z') AS later \gset
SELECT apply_feed_part(:feed, 'm', NULL, '{}', '{}', '{}', '{}', '{}', '{}');
SELECT finish_feed(:feed);
-- a feed that fails half-way says so
SELECT record_feed_pull('a', :later, 'failed', 'the vendor went away', 3, '1 hour');
SELECT finish_feed(:later);
SELECT record_feed_pull('a', NULL, 'unchanged', NULL, 3, '1 hour');
SELECT as_of AT TIME ZONE 'UTC' AS as_of, status, error, items, new_items, changed_items, inactive_items, skipped_items, skipped FROM feed_sync ORDER BY sync_id;
SELECT begin_feed('nobody', now());
SELECT begin_feed('a', 'infinity');
-- who is due: each for one caller, until its interval is over
UPDATE vendor SET next_sync_at = '-infinity';
SELECT vendor_id, stock_url, etag FROM claim_due_feeds('1 minute', 10) ORDER BY 1;
SELECT vendor_id FROM claim_due_feeds('1 minute', 10);
-- after so many failures the circuit opens, and lets one pull through when its time is over
SELECT record_feed_pull('b', NULL, 'failed', 'no', 3, '1 hour');
SELECT sync_failures, circuit, next_sync_at - last_sync_at < '3 seconds' AS soon FROM vendor_sync WHERE vendor_id = 'b';
SELECT record_feed_pull('b', NULL, 'failed', 'no', 3, '1 hour'), record_feed_pull('b', NULL, 'failed', 'no', 3, '1 hour');
SELECT sync_failures, circuit, next_sync_at - last_sync_at > '40 minutes' AS late, next_sync_at = circuit_open_until AS with_the_circuit FROM vendor_sync WHERE vendor_id = 'b';
UPDATE vendor SET next_sync_at = now() - interval '1 second', circuit_open_until = now() - interval '1 second' WHERE vendor_id = 'b';
SELECT circuit FROM vendor_sync WHERE vendor_id = 'b';
SELECT vendor_id FROM claim_due_feeds('1 minute', 10);
SELECT record_feed_pull('b', NULL, 'failed', 'no', 3, '1 hour');
SELECT circuit FROM vendor_sync WHERE vendor_id = 'b';
SELECT record_feed_pull('b', NULL, 'unchanged', NULL, 3, '1 hour');
SELECT sync_failures, circuit, round(extract(epoch FROM next_sync_at - last_sync_at)) AS interval_s FROM vendor_sync WHERE vendor_id = 'b';
-- what is given of a vendor
SELECT configure_vendor('b', sync_interval => '5 minutes', feed_mapping => '{"items": "$.data.products", "id": "sku", "quantity": "stock.available", "price": "cost", "asOf": "$.at"}');
SELECT sync_interval, feed_mapping, next_sync_at FROM vendor WHERE vendor_id = 'b';
SELECT configure_vendor('b', feed_mapping => '{}');
SELECT sync_interval, feed_mapping FROM vendor WHERE vendor_id = 'b';
SELECT configure_vendor('b', feed_mapping => '{"items": "data"}');
SELECT configure_vendor('b', feed_mapping => '{"id": "a..b"}');
SELECT configure_vendor('b', feed_mapping => '{"quantity": "Art.-Nr.", "format": "json"}');
SELECT configure_vendor('b', feed_mapping => '{"items": "$.a.", "format": "csv"}');
SELECT configure_vendor('b', feed_mapping => '{"id": "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q"}');
BEGIN; SELECT configure_vendor('b', feed_mapping => '{"id": "Art.-Nr.", "quantity": "..", "price": "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q", "format": "csv"}'); ROLLBACK;
SELECT configure_vendor('b', feed_mapping => '{"sku": "a"}');
SELECT configure_vendor('b', feed_mapping => '{"id": 5}');
SELECT configure_vendor('b', feed_mapping => '{"format": "xml"}');
SELECT configure_vendor('b', feed_mapping => '[]');
SELECT configure_vendor('b', sync_interval => '0');
SELECT configure_vendor('b', sync_interval => '1 mon -29 days -12 hours');
SELECT configure_vendor('b', sync_interval => '300000 years');
SELECT count(*) FROM feed_sync WHERE finished_at IS NULL;
SELECT forget_feed_syncs('0 seconds') > 0 AS forgotten;
SELECT count(*) FROM feed_sync;
-- so many of the oldest at a time
INSERT INTO feed_sync (vendor_id, status, finished_at)
SELECT 'b', 'failed', CASE WHEN n <= 12000 THEN now() - interval '1 hour' ELSE now() END
FROM generate_series(1, 12005) AS n;
SELECT forget_feed_syncs('30 minutes'), count(*) FROM feed_sync;
SELECT forget_feed_syncs('30 minutes'), count(*) FROM feed_sync;
SELECT forget_feed_syncs('30 minutes'), count(*) FROM feed_sync;
