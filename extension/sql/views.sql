/* views */

CREATE OR REPLACE VIEW vendor_offer AS
SELECT s.product_id, p.name AS product_name, s.vendor_id, v.name AS vendor_name, s.vendor_sku,
	CASE WHEN s.is_priced THEN s.price END AS price,
	s.on_hand, s.reserved + l.reserved AS reserved, greatest(s.buffer, v.buffer) AS buffer,
	CASE WHEN s.is_active AND v.is_active AND (v.stale_at > now()) IS NOT FALSE
			AND (s.is_priced OR coalesce(nullif(current_setting('order_aggregator.sell_unpriced',
				true), '')::boolean, true))
		THEN greatest(0, s.on_hand - s.reserved - l.reserved - greatest(s.buffer, v.buffer)) ELSE 0
		END
			AS available,
	s.is_active AND v.is_active AS is_active, s.as_of, s.is_priced, v.confirmed_at, v.stale_at
FROM stock AS s JOIN vendor AS v USING (vendor_id) JOIN product AS p USING (product_id)
CROSS JOIN LATERAL (SELECT CASE WHEN s.in_lanes > 0
	THEN (SELECT coalesce(sum(n.reserved), 0)::bigint FROM stock_lane AS n
		WHERE n.product_id = s.product_id AND n.vendor_id = s.vendor_id) ELSE 0 END) AS l(reserved);
COMMENT ON VIEW vendor_offer IS
'One row a vendor''s offer of a product; available is what an order can take now, price NULL if '
'nobody has told it. confirmed_at: when a feed last confirmed it; at stale_at it is not sold any '
'more.';

CREATE OR REPLACE VIEW product_stock AS
SELECT o.product_id, o.product_name, sum(o.available)::bigint AS available,
	sum(o.on_hand)::bigint AS on_hand,
	sum(o.reserved)::bigint AS reserved, min(o.price) FILTER (WHERE o.available > 0)
		AS lowest_price,
	count(*) FILTER (WHERE o.is_active) AS vendors
FROM vendor_offer AS o
GROUP BY o.product_id, o.product_name;
COMMENT ON VIEW product_stock IS 'Stock added up over vendors.';

CREATE OR REPLACE VIEW order_summary AS
SELECT o.order_id, o.customer_id, o.status, o.total_amount, o.strategy, o.allow_partial,
	o.placed_at, o.expires_at,
	o.closed_at, o.close_reason,
	(SELECT coalesce(json_agg(json_build_object('lineNo', l.line_no, 'productId', l.product_id,
		'quantity', l.quantity)
							  ORDER BY l.line_no), '[]')
	 FROM order_line AS l WHERE l.order_id = o.order_id) AS lines,
	(SELECT coalesce(json_agg(json_build_object('lineNo', h.line_no, 'productId', h.product_id,
		'vendorId', h.vendor_id,
							  'attempt', h.attempt, 'quantity', h.quantity, 'unitPrice',
							      h.unit_price::text, 'status', h.status,
							  'heldAt', h.held_at, 'settledAt', h.settled_at, 'reason', h.reason)
							  ORDER BY h.attempt, h.line_no, h.vendor_id), '[]')
	 FROM hold AS h WHERE h.order_id = o.order_id) AS holds,
	(SELECT coalesce(json_agg(json_build_object('returnId', r.return_id, 'lineNo', r.line_no,
		'productId', r.product_id,
							  'vendorId', r.vendor_id, 'quantity', r.quantity, 'unitPrice',
							      r.unit_price::text, 'restocked', r.restocked,
							  'returnedAt', r.returned_at) ORDER BY r.return_id, r.line_no,
							      r.vendor_id), '[]')
	 FROM order_return AS r WHERE r.order_id = o.order_id) AS returns,
	(SELECT json_agg(json_build_object('at', e.at, 'event', e.event, 'vendorId', e.vendor_id,
		'attempt', e.attempt, 'reason', e.reason)
					 ORDER BY e.at, e.step, e.event COLLATE "C", e.return_id NULLS FIRST,
						e.vendor_id COLLATE "C" NULLS FIRST, e.attempt NULLS FIRST,
						e.reason COLLATE "C" NULLS FIRST)
	 FROM (SELECT o.placed_at AS at, 1 AS step, 'placed' AS event, NULL AS vendor_id,
	     NULL::int AS attempt, NULL AS reason, NULL::bigint AS return_id
		   UNION ALL
		   SELECT DISTINCT h.held_at, 2, 'held', h.vendor_id, h.attempt, NULL, NULL::bigint
		   FROM hold AS h WHERE h.order_id = o.order_id
		   UNION ALL
		   SELECT r.retried_at, 3, 'asked again', r.vendor_id, r.attempt, NULL, NULL
		   FROM vendor_retry AS r WHERE r.order_id = o.order_id
		   UNION ALL
		   SELECT DISTINCT h.settled_at, 4, h.status, h.vendor_id, h.attempt, h.reason, NULL::bigint
		   FROM hold AS h WHERE h.order_id = o.order_id AND h.settled_at IS NOT NULL
		   UNION ALL
		   SELECT o.closed_at, 5, o.status, NULL, NULL, o.close_reason, NULL
		   WHERE o.closed_at IS NOT NULL
		   UNION ALL
		   SELECT r.returned_at, 6, 'returned', r.vendor_id, NULL,
			sum(r.quantity) || ' units sent back' || CASE WHEN r.restocked THEN ', for sale again'
				ELSE '' END, r.return_id
		   FROM order_return AS r WHERE r.order_id = o.order_id
		   GROUP BY r.returned_at, r.return_id, r.vendor_id, r.restocked) AS e) AS history
FROM orders AS o;
COMMENT ON VIEW order_summary IS 'Orders with their lines, holds, returns and history.';

CREATE OR REPLACE VIEW unroutable_event AS
SELECT event_id, message_id, routing_key, created_at, reply_code, reply_text, parked_at
FROM parked_event
WHERE redriven_at IS NULL AND retry_at IS NULL;
COMMENT ON VIEW unroutable_event IS
'Events that no queue took, or that the broker refused, with its words; redrive_parked_events() '
'sends them again.';

CREATE OR REPLACE VIEW deferred_event AS
SELECT event_id, message_id, routing_key, created_at, reply_text, parked_at, tries, retry_at
FROM parked_event
WHERE retry_at IS NOT NULL;
COMMENT ON VIEW deferred_event IS
'Events that the broker did not take because a queue was full or hung, or that it forbids; the '
'relay sends them again at retry_at.';

CREATE OR REPLACE VIEW vendor_sync AS
SELECT vendor_id, name, priority, is_active,
	-- what may be a secret is not shown
	regexp_replace(regexp_replace(stock_url, '^([a-z]+://)[^/?#]*@', '\1'), '[?#].*', '?...')
		AS stock_url, sync_interval, synced_as_of, last_sync_at, last_sync_status,
	last_sync_error, last_sync_items, sync_failures,
	CASE WHEN circuit_open_until IS NULL THEN 'closed' WHEN circuit_open_until > now() THEN 'open'
		ELSE 'half-open' END AS circuit,
	circuit_open_until, next_sync_at, confirmed_at, stale_after, stale_at,
		(stale_at <= now()) IS TRUE AS is_stale, drop_limit, feed_held_at
FROM vendor;
COMMENT ON VIEW vendor_sync IS 'Vendors with the result of their last sync.';

-- What a vendor's login sees: its own. The barrier keeps a caller's function from being shown
-- rows that are left out.
CREATE OR REPLACE VIEW vendor_order WITH (security_barrier) AS
SELECT h.vendor_id, h.order_id, h.attempt, h.line_no, h.product_id,
	(SELECT s.vendor_sku FROM stock AS s WHERE s.product_id = h.product_id
		AND s.vendor_id = h.vendor_id) AS vendor_sku,
	h.quantity, h.unit_price, h.status, h.held_at, h.settled_at, h.reason, o.customer_id,
		o.status AS order_status, o.placed_at,
	o.expires_at
FROM hold AS h JOIN orders AS o USING (order_id)
WHERE h.vendor_id = ANY (ARRAY(
	SELECT l.vendor_id FROM vendor_login AS l WHERE l.login = current_user));
COMMENT ON VIEW vendor_order IS
'The caller''s own parts of orders, one row a hold: what the vendors that vendor_login gives it '
'were asked for, and what became of it.';

CREATE OR REPLACE VIEW vendor_stock WITH (security_barrier) AS
SELECT s.vendor_id, s.product_id, s.vendor_sku, CASE WHEN s.is_priced THEN s.price END AS price,
	s.on_hand, s.reserved + CASE WHEN s.in_lanes > 0
		THEN (SELECT coalesce(sum(n.reserved), 0)::bigint FROM stock_lane AS n
			WHERE n.product_id = s.product_id AND n.vendor_id = s.vendor_id) ELSE 0 END AS reserved,
	s.buffer, s.is_active, s.as_of, s.is_priced
FROM stock AS s
WHERE s.vendor_id = ANY (ARRAY(
	SELECT l.vendor_id FROM vendor_login AS l WHERE l.login = current_user));
COMMENT ON VIEW vendor_stock IS
'The caller''s own offers: those of the vendors that vendor_login gives it.';
