-- settlement: confirm, reject, source anew, cancel, expire
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS order_aggregator;
CREATE EXTENSION order_aggregator;
RESET client_min_messages;
SET search_path = order_aggregator, public;
SELECT register_vendor('a', 'Vendor A', NULL, 10), register_vendor('b', 'Vendor B', NULL, 20);
SELECT sync_vendor_stock('a', '[{"id": "x", "quantity": 10, "price": 2}, {"id": "y", "quantity": 10, "price": 1}]') IS NOT NULL AS a,
       sync_vendor_stock('b', '[{"id": "x", "quantity": 10, "price": 3}]') IS NOT NULL AS b;
-- confirmed: the units leave both counters
SELECT place_order('c', '[{"productId": "x", "quantity": 2}]');
SELECT * FROM apply_vendor_replies('[{"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed"}]');
SELECT * FROM apply_vendor_replies('[{"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 1, "vendorId": "a", "attempt": 1, "status": "rejected", "reason": "changed my mind"}]');
SELECT on_hand, reserved FROM stock WHERE product_id = 'x' AND vendor_id = 'a';
-- rejected by one, served by the other; the first one's second thoughts come too late
SELECT place_order('c', '[{"productId": "x", "quantity": 3}]');
SELECT * FROM apply_vendor_replies('[{"orderId": 2, "vendorId": "a", "attempt": 1, "status": "rejected", "reason": "broken"}]');
SELECT * FROM apply_vendor_replies('[{"orderId": 2, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 2, "vendorId": "a", "attempt": 1, "status": "rejected"}, {"orderId": 2, "vendorId": "b", "attempt": 2, "status": "confirmed"}]');
SELECT status, total_amount FROM orders WHERE order_id = 2;
-- split over two vendors: confirmed only when both have; the second rejects and nobody else can
SELECT place_order('c', '[{"productId": "x", "quantity": 15}]');
SELECT confirm_order(3, 'a');
SELECT reject_order(3, 'b', 'fire');
SELECT status, total_amount, close_reason FROM orders WHERE order_id = 3;
SELECT vendor_id, attempt, quantity, status, reason FROM hold WHERE order_id = 3 ORDER BY vendor_id;
SELECT vendor_id, on_hand, reserved FROM stock WHERE product_id = 'x' ORDER BY 1;
-- the attempts are limited
SET order_aggregator.max_attempts = 1;
SELECT place_order('c', '[{"productId": "x", "quantity": 1}]');
SELECT reject_order(4, 'a', 'no');
RESET order_aggregator.max_attempts;
-- a partial order goes on with what it has
SELECT sync_vendor_stock('b', '[{"id": "w", "quantity": 1, "price": 9}]') IS NOT NULL AS b;
SELECT place_order('c', '[{"productId": "y", "quantity": 2}, {"productId": "w", "quantity": 4}]', allow_partial => true);
SELECT reject_order(5, 'b', 'gone'), (SELECT total_amount FROM orders WHERE order_id = 5) AS total_before;
SELECT total_amount FROM orders WHERE order_id = 5;
SELECT confirm_order(5);
-- cancelled
SELECT place_order('c', '[{"productId": "y", "quantity": 5}]');
SELECT cancel_order(6, 'customer called');
SELECT cancel_order(6, 'again');
SELECT * FROM apply_vendor_replies('[{"orderId": 6, "vendorId": "a", "attempt": 1, "status": "confirmed"}]');
-- expired; confirmation comes too late
SELECT place_order('c', '[{"productId": "y", "quantity": 5}]', hold_for => '1 microsecond');
SELECT pg_sleep(0.001), expire_orders(), expire_orders();
SELECT * FROM apply_vendor_replies('[{"orderId": 7, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 7, "vendorId": "a", "attempt": 1, "status": "rejected"}]');
SELECT product_id, vendor_id, on_hand, reserved FROM stock ORDER BY 1, 2;
-- what can never be applied
SELECT * FROM apply_vendor_replies('[{"orderId": 999, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 1, "vendorId": "b", "attempt": 1, "status": "confirmed"}, {"orderId": 1, "vendorId": "a", "attempt": 2, "status": "confirmed"}, {"orderId": "1"}, {"orderId": 1.5, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 1, "vendorId": "a", "attempt": 1, "status": "maybe"}, {"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed", "note": 1}, 7, {"orderId": 1, "vendorId": "a", "attempt": 0, "status": "confirmed"}, {"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed", "reason": 4}]');
SELECT event_id, order_id, routing_key, payload::jsonb - 'placedAt' - 'expiresAt' - 'customerId' - 'lines' AS payload FROM outbox WHERE order_id IS NOT NULL ORDER BY 1;
SELECT jsonb_path_query_array(history::jsonb, '$[*].event') AS history FROM order_summary WHERE order_id IN (2, 3) ORDER BY order_id;
SELECT * FROM check_consistency();
-- by hand
SELECT confirm_order(999);
SELECT confirm_order(1);
SELECT confirm_order(NULL);
SELECT place_order('c', '[{"productId": "y", "quantity": 1}]');
SELECT reject_order(8, 'b', 'not asked');
-- units that a failed order gives back serve the next order of the same batch
SELECT sync_vendor_stock('b', '[{"id": "p", "quantity": 1, "price": 9}, {"id": "q", "quantity": 1, "price": 9}]') IS NOT NULL AS b,
       sync_vendor_stock('a', '[{"id": "p", "quantity": 1, "price": 1}, {"id": "y", "quantity": 9, "price": 1}]') IS NOT NULL AS a;
SELECT place_order('fails', '[{"productId": "p", "quantity": 1}, {"productId": "q", "quantity": 1}]') AS fails \gset
SELECT place_order('goes on', '[{"productId": "p", "quantity": 1}]') AS goes_on \gset
SELECT outcome FROM apply_vendor_replies(jsonb_build_array(
	jsonb_build_object('orderId', :fails, 'vendorId', 'a', 'attempt', 1, 'status', 'confirmed'),
	jsonb_build_object('orderId', :fails, 'vendorId', 'b', 'attempt', 1, 'status', 'rejected'),
	jsonb_build_object('orderId', :goes_on, 'vendorId', 'b', 'attempt', 1, 'status', 'rejected')));
SELECT customer_id, o.status, vendor_id, attempt, h.status AS hold FROM orders AS o JOIN hold AS h USING (order_id)
WHERE product_id = 'p' ORDER BY order_id, attempt;
-- a vendor that stays silent is asked again, with the same words, as often as the interval passes
SELECT place_order('silence', '[{"productId": "y", "quantity": 1}]') AS silent \gset
SELECT ask_silent_vendors('1 hour');
UPDATE orders SET placed_at = placed_at - interval '2 hours' WHERE order_id = :silent;
UPDATE hold SET held_at = held_at - interval '2 hours' WHERE order_id = :silent;
SELECT ask_silent_vendors('1 hour') AS not_relayed;
SELECT epoch FROM relay_acquire('test');
SELECT relay_advance(1, '3:3:', 0, NULL, NULL, 0, now());
INSERT INTO parked_event SELECT event_id, message_id, routing_key, NULL, payload, created_at, 312, 'NO_ROUTE' FROM outbox WHERE order_id = :silent;
SELECT ask_silent_vendors('1 hour') AS no_queue_takes_it;
-- but that of another order says nothing of this one
UPDATE parked_event SET payload = jsonb_set(payload::jsonb, '{orderId}', '1')::json;
SELECT ask_silent_vendors('1 hour'), ask_silent_vendors('1 hour') AS not_yet;
DELETE FROM parked_event;
SELECT vendor_id, attempt FROM vendor_retry WHERE order_id = :silent;
SELECT count(*), count(DISTINCT payload::jsonb - 'placedAt') AS bodies, count(DISTINCT message_id) AS message_ids, max(headers->>'x-again') AS again, bool_and(mandatory) AS mandatory
FROM outbox WHERE order_id = :silent;
SELECT event FROM order_summary, json_to_recordset(history) AS h(event text) WHERE order_id = :silent;
SELECT confirm_order(:silent), ask_silent_vendors('1 hour') AS nobody;
-- each question has all lines of its order, vendor and attempt
SELECT sync_vendor_stock('a', '[{"id": "s1", "quantity": 9, "price": 1}, {"id": "s2", "quantity": 9, "price": 1}]') IS NOT NULL AS a,
       sync_vendor_stock('b', '[{"id": "s3", "quantity": 9, "price": 1}, {"id": "s4", "quantity": 9, "price": 1}]') IS NOT NULL AS b;
SELECT place_order('silence', '[{"productId": "s1", "quantity": 1}, {"productId": "s3", "quantity": 2}, {"productId": "s2", "quantity": 3}, {"productId": "s4", "quantity": 4}]') AS silent \gset
SELECT place_order('silence', '[{"productId": "s2", "quantity": 5}, {"productId": "s1", "quantity": 6}]') - :silent AS another, place_order('silence', '[{"productId": "s3", "quantity": 7}]') - :silent AS third;
UPDATE orders SET placed_at = placed_at - interval '2 hours' WHERE order_id >= :silent;
UPDATE hold SET held_at = held_at - interval '2 hours' WHERE order_id >= :silent;
SELECT ask_silent_vendors('1 hour', 2) AS two_orders, ask_silent_vendors('1 hour', 2) AS the_third, ask_silent_vendors('1 hour', 2) AS nobody;
SELECT order_id - :silent AS nth, routing_key, count(*) AS questions, count(DISTINCT payload::jsonb -> 'lines') AS bodies,
	min(payload::jsonb #>> '{lines,0,quantity}') AS first, min(payload::jsonb #>> '{lines,1,quantity}') AS second, max(jsonb_array_length(payload::jsonb -> 'lines')) AS lines
FROM outbox WHERE order_id >= :silent GROUP BY 1, 2 ORDER BY 1, 2;
SELECT order_id - :silent AS nth, vendor_id, attempt, count(*) FROM vendor_retry WHERE order_id >= :silent GROUP BY 1, 2, 3 ORDER BY 1, 2;
-- however many others wait, it looks at those that are due, and not at all holds that there are
BEGIN;
SELECT sync_vendor_stock('a', '[{"id": "many", "quantity": 9000, "price": 1}]') IS NOT NULL AS a;
SELECT count(order_id) FROM place_orders((SELECT jsonb_agg(jsonb_build_object('productId', 'many', 'quantity', 1)) FROM generate_series(1, 3000)));
UPDATE hold SET held_at = held_at - interval '1 day' WHERE order_id > (SELECT max(order_id) - 10 FROM orders);
UPDATE orders SET placed_at = placed_at - interval '1 day' WHERE order_id > (SELECT max(order_id) - 10 FROM orders);
INSERT INTO parked_event (event_id, message_id, routing_key, payload, created_at, reply_code, reply_text)
SELECT -n, gen_random_uuid(), 'order.placed.a', json_build_object('orderId', repeat(n::text, 1000)), now(), 312, 'NO_ROUTE' FROM generate_series(1, 100) AS n;
UPDATE relay_checkpoint SET relayed_until = now();
SAVEPOINT before;
SELECT sum(seq_tup_read + idx_tup_fetch) AS read FROM pg_stat_xact_user_tables WHERE relname IN ('hold', 'parked_event') \gset
SELECT ask_silent_vendors('1 hour');
SELECT sum(seq_tup_read + idx_tup_fetch) - :read < 1000 AS few FROM pg_stat_xact_user_tables WHERE relname IN ('hold', 'parked_event');
ROLLBACK;
SELECT ask_silent_vendors('0');
SELECT ask_silent_vendors(NULL);
SELECT ask_silent_vendors('1 hour', 0);
SELECT * FROM check_consistency();
-- a reply is read with tolerance where its meaning is clear
SELECT sync_vendor_stock('a', '[{"id": "t", "quantity": 9, "price": 1}]') IS NOT NULL AS a;
SELECT place_order('c', '[{"productId": "t", "quantity": 1}]') AS last \gset
SELECT outcome, detail FROM apply_vendor_replies(jsonb_build_array(jsonb_build_object('orderId', :last || '.0', 'vendorId', ' a ', 'attempt', '1', 'status', ' Rejected ',
	'reason', repeat('ü', 600), 'extra', '{}'::jsonb)));
SELECT status, octet_length(reason), right(reason, 1) FROM hold WHERE order_id = :last;
SELECT place_order('c', '[{"productId": "t", "quantity": 1}]') AS last \gset
SELECT outcome, detail FROM apply_vendor_replies(jsonb_build_array(
	jsonb_build_object('orderId', :last, 'vendorId', 'a', 'attempt', 1, 'status', 'accepted'), jsonb_build_object('orderId', :last, 'vendorId', 'a', 'status', 'confirmed'),
	jsonb_build_object('orderId', :last || '.5', 'vendorId', 'a', 'attempt', 1, 'status', 'confirmed'), jsonb_build_object('orderId', :last, 'vendorId', 'a', 'attempt', 1, 'status', true),
	jsonb_build_object('orderId', :last, 'vendorId', 'a', 'attempt', 1, 'status', 'CONFIRMED', 'reason', '{"code": 7}'::jsonb)));
SELECT status, reason FROM hold WHERE order_id = :last;
-- a vendor with lines before and after another's is told once
SELECT sync_vendor_stock('a', '[{"id": "k1", "quantity": 5, "price": 1}, {"id": "k3", "quantity": 5, "price": 1}]') IS NOT NULL AS a,
       sync_vendor_stock('b', '[{"id": "k2", "quantity": 5, "price": 1}]') IS NOT NULL AS b;
SELECT place_order('c', '[{"productId": "k1", "quantity": 1}, {"productId": "k2", "quantity": 1}, {"productId": "k3", "quantity": 1}]') AS last \gset
SELECT line_no, vendor_id FROM hold WHERE order_id = :last ORDER BY 1;
SELECT cancel_order(:last, 'all of it');
SELECT routing_key, count(*) FROM outbox WHERE order_id = :last AND routing_key LIKE 'order.cancelled.%' GROUP BY 1 ORDER BY 1;
SELECT * FROM check_consistency();
-- an order that may be partial and keeps nothing is rejected, whatever the next one keeps
SELECT sync_vendor_stock('a', '[{"id": "u1", "quantity": 5, "price": 1}, {"id": "u2", "quantity": 5, "price": 1}]') IS NOT NULL AS a;
SELECT place_order('nothing left', '[{"productId": "u1", "quantity": 1}]', allow_partial => true) AS first \gset
SELECT place_order('all of it', '[{"productId": "u2", "quantity": 1}]', allow_partial => true) AS second \gset
SELECT outcome FROM apply_vendor_replies(jsonb_build_array(
	jsonb_build_object('orderId', :first, 'vendorId', 'a', 'attempt', 1, 'status', 'rejected'),
	jsonb_build_object('orderId', :second, 'vendorId', 'a', 'attempt', 1, 'status', 'confirmed')));
SELECT customer_id, status FROM orders WHERE order_id IN (:first, :second) ORDER BY order_id;
SELECT * FROM check_consistency();
-- "expire it now", as a user may say it by hand: times that no calendar has hold up nobody
SELECT sync_vendor_stock('a', '[{"id": "now", "quantity": 5, "price": 1}]') IS NOT NULL AS a;
SELECT place_order('at once', '[{"productId": "now", "quantity": 1}]') AS first \gset
SELECT place_order('never', '[{"productId": "now", "quantity": 1}]') AS second \gset
UPDATE orders SET expires_at = CASE order_id WHEN :first THEN '-infinity'::timestamptz ELSE 'infinity' END WHERE order_id IN (:first, :second);
SELECT document->>'expiresAt' AS expires_at FROM order_documents(ARRAY[:first, :second]) ORDER BY request_no;
SELECT expire_orders();
SELECT customer_id, status FROM orders WHERE order_id IN (:first, :second) ORDER BY order_id;
SELECT cancel_order(:second, 'no');
SELECT * FROM check_consistency();
-- an order that cannot be closed, here because somebody has changed its stock by hand, keeps no other from being closed
SELECT sync_vendor_stock('a', '[{"id": "e1", "quantity": 99, "price": 1}, {"id": "e2", "quantity": 9, "price": 1}, {"id": "now", "quantity": 5, "price": 1}]') IS NOT NULL AS a;
SELECT place_order('c', jsonb_build_array(jsonb_build_object('productId', CASE n WHEN 3 THEN 'e1' ELSE 'e2' END, 'quantity', 1)), hold_for => '1 microsecond') IS NOT NULL AS placed
FROM generate_series(1, 5) AS n;
UPDATE stock SET reserved = 0 WHERE product_id = 'e1';
SELECT pg_sleep(0.001);
\set VERBOSITY terse
SELECT expire_orders(), expire_orders_skip_locked();
\set VERBOSITY default
SELECT o.status, count(*) FROM orders AS o JOIN hold USING (order_id) WHERE product_id IN ('e1', 'e2') GROUP BY 1 ORDER BY 1;
-- nor do many: one call tries so many, the next one goes on behind them
SELECT count(place_order('c', jsonb_build_array(jsonb_build_object('productId', CASE WHEN n > 40 THEN 'e2' ELSE 'e1' END, 'quantity', 1)), hold_for => '1 microsecond')) FROM generate_series(1, 42) AS n;
UPDATE stock SET reserved = 0 WHERE product_id = 'e1';
SELECT pg_sleep(0.001);
\set VERBOSITY terse
SELECT expire_orders() AS behind, expire_orders() AS them;
\set VERBOSITY default
UPDATE stock SET reserved = 41 WHERE product_id = 'e1';
SELECT expire_orders();
SELECT * FROM check_consistency();
-- an event has the trace context of whoever caused it; else that of its order
SET order_aggregator.traceparent = '00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01';
SELECT place_order('traced', '[{"productId": "now", "quantity": 1}]') AS first, place_order('traced', '[{"productId": "now", "quantity": 1}]') AS second, place_order('traced', '[{"productId": "now", "quantity": 1}]') AS third \gset
SET order_aggregator.traceparent = '00-0af7651916cd43dd8448eb211c80319c-0000000000000002-01';
SELECT cancel_order(:first, 'traced'), confirm_order(:third);
SELECT return_order(:third) > 0 AS returned;
SET order_aggregator.traceparent = 'that is none';
SELECT cancel_order(:second, 'traced');
RESET order_aggregator.traceparent;
SELECT order_id - :first AS nth, routing_key, headers FROM outbox WHERE order_id IN (:first, :second, :third) ORDER BY event_id;
