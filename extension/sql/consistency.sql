/* check_consistency(), and its parts that are about orders and about stock */

CREATE OR REPLACE FUNCTION suspect_orders(first_order_id bigint, last_order_id bigint,
	since timestamptz, expiry timestamptz)
RETURNS bigint[]
AS 'MODULE_PATHNAME', 'oa_suspect_orders'
LANGUAGE C STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION suspect_orders(bigint, bigint, timestamptz, timestamptz) IS
'Orders of which something may not add up, the first 10 000: what check_orders() looks at. since: '
'events until then may have been dropped; expiry: what is pending and ran out before is late.';

CREATE OR REPLACE FUNCTION outbox_dropped_until()
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'oa_outbox_dropped_until'
LANGUAGE C STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION outbox_dropped_until() IS
'When the last events that were dropped with their partition had been relayed, whatever the '
'snapshot; no more is dropped until the transaction ends.';

CREATE OR REPLACE FUNCTION check_orders(first_order_id bigint DEFAULT NULL,
	last_order_id bigint DEFAULT NULL)
RETURNS TABLE (problem text, subject text, detail jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH kept AS (
		SELECT order_aggregator.outbox_dropped_until() AS since,
			-- an older snapshot has orders that were closed since
			CASE pg_catalog.current_setting('transaction_isolation')
				WHEN 'read committed' THEN pg_catalog.clock_timestamp() ELSE pg_catalog.now() END
				- coalesce(pg_catalog.current_setting('order_aggregator.expiry_grace', true),
					'5min')::interval AS expiry
	), found AS MATERIALIZED (
		SELECT order_aggregator.suspect_orders($1, $2, kept.since, kept.expiry) AS orders FROM kept
	), suspect AS MATERIALIZED (
		SELECT DISTINCT s.order_id FROM found, pg_catalog.unnest(found.orders) AS s(order_id)
	), own_order AS (
		SELECT o.* FROM suspect AS s JOIN order_aggregator.orders AS o USING (order_id)
	), own_line AS (
		SELECT l.* FROM suspect AS s JOIN order_aggregator.order_line AS l USING (order_id)
	), own_hold AS (
		SELECT h.* FROM suspect AS s JOIN order_aggregator.hold AS h USING (order_id)
	), event AS (
		SELECT e.order_id, e.routing_key, count(*) AS times,
			count(*) FILTER (WHERE e.created_at > (SELECT kept.since FROM kept)) AS kept_times
		FROM order_aggregator.outbox AS e
		WHERE EXISTS (SELECT FROM suspect) AND e.order_id IN (SELECT s.order_id FROM suspect AS s)
		  AND (e.headers IS NULL OR e.headers->>'x-again' IS NULL)
		GROUP BY 1, 2
	), hold_of_order AS (
		SELECT h.order_id, sum(h.quantity * h.unit_price) FILTER (WHERE h.status <> 'rejected')
			AS amount,
			count(*) FILTER (WHERE h.status = 'open') AS open,
			count(*) FILTER (WHERE h.status = 'confirmed') AS confirmed,
			count(*) FILTER (WHERE h.status IN ('released', 'returned')) AS given_back
		FROM own_hold AS h
		GROUP BY 1
	), hold_of_line AS (
		SELECT h.order_id, h.line_no, min(h.product_id) AS product_id,
			max(h.product_id) AS other_product_id,
			coalesce(sum(h.quantity) FILTER (WHERE h.status <> 'rejected'), 0) AS quantity
		FROM own_hold AS h
		GROUP BY 1, 2
	)
	-- so many that not each is looked at; which ones they are is not known
	SELECT 'more orders do not add up than were looked at', 'orders',
		jsonb_build_object('lookedAt', cardinality(f.orders), 'last',
			f.orders[cardinality(f.orders)])
	FROM found AS f WHERE cardinality(f.orders) >= 10000
	-- 3: the holds agree with the order's state
	UNION ALL
	SELECT 'holds disagree with the order''s state', 'order ' || o.order_id,
		jsonb_build_object('status', o.status, 'open', coalesce(h.open, 0), 'confirmed',
			coalesce(h.confirmed, 0),
						   'givenBack', coalesce(h.given_back, 0))
	FROM own_order AS o LEFT JOIN hold_of_order AS h USING (order_id)
	WHERE CASE o.status
			WHEN 'pending' THEN coalesce(h.open, 0) = 0 OR h.given_back > 0
			WHEN 'confirmed' THEN coalesce(h.confirmed, 0) = 0 OR h.open > 0 OR h.given_back > 0
			ELSE h.open > 0 OR h.confirmed > 0 END
	UNION ALL
	SELECT 'state is not one of the five, or closing time is wrong', 'order ' || o.order_id,
		jsonb_build_object('status', o.status, 'closedAt', o.closed_at)
	FROM own_order AS o
	WHERE o.status NOT IN ('pending', 'confirmed', 'rejected', 'cancelled', 'expired')
	   OR (o.status = 'pending') <> (o.closed_at IS NULL)
	-- 4: the holds of a line add up to it
	UNION ALL
	SELECT 'holds of a line do not add up', 'order ' || l.order_id || ' line ' || l.line_no,
		jsonb_build_object('productId', l.product_id, 'quantity', l.quantity, 'held',
			coalesce(h.quantity, 0),
						   'heldProductId', h.product_id)
	FROM own_line AS l
	JOIN own_order AS o USING (order_id)
	LEFT JOIN hold_of_line AS h ON h.order_id = l.order_id AND h.line_no = l.line_no
	WHERE CASE WHEN o.allow_partial THEN coalesce(h.quantity, 0) > l.quantity
		ELSE coalesce(h.quantity, 0) <> l.quantity END
	   OR h.product_id <> l.product_id OR h.other_product_id <> l.product_id
	UNION ALL
	SELECT 'order line without an order', 'order ' || l.order_id || ' line ' || l.line_no, NULL
	FROM own_line AS l LEFT JOIN own_order AS o USING (order_id)
	WHERE o.order_id IS NULL
	UNION ALL
	SELECT 'hold without an order line', 'order ' || h.order_id || ' line ' || h.line_no, NULL
	FROM hold_of_line AS h LEFT JOIN own_line AS l USING (order_id, line_no)
	WHERE l.order_id IS NULL
	-- 5: the total is the sum of the holds
	UNION ALL
	SELECT 'total differs from the holds', 'order ' || o.order_id,
		jsonb_build_object('totalAmount', o.total_amount::text, 'held', coalesce(h.amount, 0)::text)
	FROM own_order AS o LEFT JOIN hold_of_order AS h USING (order_id)
	WHERE o.total_amount <> coalesce(h.amount, 0)
	-- 6: nothing is held long after its expiry
	UNION ALL
	SELECT 'pending long after its expiry', 'order ' || o.order_id,
		jsonb_build_object('expiresAt', o.expires_at)
	FROM own_order AS o
	WHERE o.status = 'pending'
	  AND o.expires_at < (SELECT kept.expiry FROM kept)
	-- 7: each state change has exactly one event
	UNION ALL
	SELECT 'a state change has not exactly one event', 'order ' || want.order_id,
		jsonb_build_object('event', want.routing_key, 'expected', want.times, 'found',
			coalesce(e.kept_times, 0))
	FROM (SELECT h.order_id, 'order.placed.' || h.vendor_id AS routing_key,
		count(DISTINCT h.attempt) AS times
		  FROM own_hold AS h JOIN own_order AS o USING (order_id), kept
		  WHERE h.held_at > kept.since
		  GROUP BY 1, 2
		  UNION ALL
		  SELECT o.order_id, 'order.' || o.status, 1
		  FROM own_order AS o, kept
		  WHERE o.status <> 'pending' AND o.closed_at > kept.since) AS want
	LEFT JOIN event AS e USING (order_id, routing_key)
	WHERE coalesce(e.kept_times, 0) <> want.times
	UNION ALL
	SELECT 'an event without its state change', 'order ' || e.order_id,
		jsonb_build_object('event', e.routing_key, 'found', e.times)
	FROM event AS e LEFT JOIN own_order AS o USING (order_id)
	WHERE (e.routing_key IN ('order.confirmed', 'order.rejected', 'order.cancelled',
		'order.expired')
		   AND e.routing_key IS DISTINCT FROM 'order.' || o.status)
	   OR (e.routing_key LIKE 'order.placed.%'
		   AND NOT EXISTS (SELECT FROM own_hold AS h
						   WHERE h.order_id = e.order_id AND 'order.placed.'
						       || h.vendor_id = e.routing_key))
$$;
COMMENT ON FUNCTION check_orders(bigint, bigint) IS
'check_consistency() of these orders alone, with their lines, holds and events (NULL: from the '
'first, to the last): some 3 s for a million of them. From the first, it reads all events that are '
'kept; else those since the first of these orders.';

CREATE OR REPLACE FUNCTION check_stock()
RETURNS TABLE (problem text, subject text, detail jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH held AS (
		SELECT h.product_id, h.vendor_id, sum(h.quantity) AS quantity
		FROM order_aggregator.orders AS o JOIN order_aggregator.hold AS h USING (order_id)
		WHERE o.status = 'pending' AND h.status = 'open'
		GROUP BY 1, 2
	), lane AS (
		SELECT n.product_id, n.vendor_id, sum(n.free + n.reserved) AS units,
			sum(n.reserved) AS reserved
		FROM order_aggregator.stock_lane AS n
		GROUP BY 1, 2
	)
	-- 1: reserved is the sum of the open holds
	SELECT 'reserved differs from open holds', s.product_id || ' at ' || s.vendor_id,
		jsonb_build_object('reserved', s.reserved + coalesce(n.reserved, 0), 'held',
			coalesce(h.quantity, 0))
	FROM order_aggregator.stock AS s LEFT JOIN held AS h USING (product_id, vendor_id)
	LEFT JOIN lane AS n USING (product_id, vendor_id)
	WHERE s.reserved + coalesce(n.reserved, 0) <> coalesce(h.quantity, 0)
	UNION ALL
	SELECT 'lanes have not what was given to them',
		coalesce(s.product_id, n.product_id) || ' at ' || coalesce(s.vendor_id, n.vendor_id),
		jsonb_build_object('inLanes', coalesce(s.in_lanes, 0), 'found', coalesce(n.units, 0))
	FROM order_aggregator.stock AS s FULL JOIN lane AS n USING (product_id, vendor_id)
	WHERE s.product_id IS NULL OR coalesce(s.in_lanes, 0) <> coalesce(n.units, 0)
	UNION ALL
	SELECT 'lanes have more than there is', s.product_id || ' at ' || s.vendor_id,
		jsonb_build_object('onHand', s.on_hand, 'reserved', s.reserved, 'inLanes', s.in_lanes)
	FROM order_aggregator.stock AS s JOIN lane AS n USING (product_id, vendor_id)
	WHERE n.units > n.reserved AND s.reserved + s.in_lanes > s.on_hand
	UNION ALL
	SELECT 'open hold without a stock row', h.product_id || ' at ' || h.vendor_id,
		jsonb_build_object('held', h.quantity)
	FROM held AS h LEFT JOIN order_aggregator.stock AS s USING (product_id, vendor_id)
	WHERE s.product_id IS NULL
	UNION ALL
	SELECT 'stock of what does not exist', s.product_id || ' at ' || s.vendor_id, NULL
	FROM order_aggregator.stock AS s
	WHERE NOT EXISTS (SELECT FROM order_aggregator.product AS p WHERE p.product_id = s.product_id)
	   OR NOT EXISTS (SELECT FROM order_aggregator.vendor AS v WHERE v.vendor_id = s.vendor_id)
	UNION ALL
	SELECT 'a mapping of a vendor that does not exist', m.vendor_sku || ' at ' || m.vendor_id, NULL
	FROM order_aggregator.product_map AS m
	WHERE NOT EXISTS (SELECT FROM order_aggregator.vendor AS v WHERE v.vendor_id = m.vendor_id)
	UNION ALL
	SELECT 'a feed of a vendor that does not exist', 'feed ' || f.sync_id,
		jsonb_build_object('vendorId', f.vendor_id)
	FROM order_aggregator.feed_sync AS f
	WHERE NOT EXISTS (SELECT FROM order_aggregator.vendor AS v WHERE v.vendor_id = f.vendor_id)
	-- 2: no negative counter
	UNION ALL
	SELECT 'negative counter', s.product_id || ' at ' || s.vendor_id,
		jsonb_build_object('onHand', s.on_hand, 'reserved', s.reserved)
	FROM order_aggregator.stock AS s WHERE s.on_hand < 0 OR s.reserved < 0
	UNION ALL
	SELECT 'negative counter', n.product_id || ' at ' || n.vendor_id || ' lane ' || n.lane,
		jsonb_build_object('free', n.free, 'reserved', n.reserved)
	FROM order_aggregator.stock_lane AS n WHERE n.free < 0 OR n.reserved < 0
$$;
COMMENT ON FUNCTION check_stock() IS
'check_consistency() of the stock alone: what is reserved is what pending orders hold, no counter '
'is negative. Takes as long as there are offers and pending orders, however many orders there are.';

CREATE OR REPLACE FUNCTION check_consistency()
RETURNS TABLE (problem text, subject text, detail jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- 1 and 2: the stock, its lanes, and what pending orders hold of it
	SELECT c.problem, c.subject, c.detail FROM order_aggregator.check_stock() AS c
	-- 3 to 7: the orders, their lines, holds and events
	UNION ALL
	SELECT c.problem, c.subject, c.detail FROM order_aggregator.check_orders() AS c
	-- every event is where the relay looks for it
	UNION ALL
	SELECT 'the sequence of event ids was set back', 'event ' || c.low_event_id,
		jsonb_build_object('lastEventId', order_aggregator.outbox_head())
	FROM order_aggregator.relay_checkpoint AS c
	WHERE c.low_event_id > order_aggregator.outbox_head()
	UNION ALL
	SELECT 'an event was not written by this database', 'event ' || e.event_id,
		jsonb_build_object('lastEventId', order_aggregator.outbox_head())
	FROM order_aggregator.outbox AS e
	WHERE e.event_id > (SELECT order_aggregator.outbox_head())
	UNION ALL
	SELECT 'an event below the relay''s checkpoint was not relayed', 'event ' || e.event_id,
		jsonb_build_object('event', e.routing_key)
	FROM order_aggregator.outbox AS e, order_aggregator.relay_checkpoint AS c
	WHERE e.event_id <= c.low_event_id AND e.event_id > c.restored_upto
	  AND NOT pg_catalog.pg_visible_in_snapshot(e.txid, c.snapshot)
	-- 8: no more came back than was sold
	UNION ALL
	SELECT 'more was returned than was sold', 'order ' || r.order_id || ' line ' || r.line_no,
		jsonb_build_object('vendorId', r.vendor_id, 'returned', r.quantity, 'sold',
			coalesce(h.quantity, 0))
	FROM (SELECT r.order_id, r.line_no, r.vendor_id, r.attempt, sum(r.quantity) AS quantity
		  FROM order_aggregator.order_return AS r GROUP BY 1, 2, 3, 4) AS r
	LEFT JOIN order_aggregator.hold AS h ON h.order_id = r.order_id AND h.line_no = r.line_no
		AND h.vendor_id = r.vendor_id
		AND h.attempt = r.attempt AND h.status = 'confirmed'
	WHERE r.quantity > coalesce(h.quantity, 0)
	-- whoever takes the name of a role that is gone would answer for its vendor
	UNION ALL
	SELECT 'a login that may answer for a vendor is no role', 'login ' || l.login,
		jsonb_build_object('vendorId', l.vendor_id)
	FROM order_aggregator.vendor_login AS l
	WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = l.login)
	UNION ALL
	SELECT 'a login may answer for a vendor that does not exist', 'login ' || l.login,
		jsonb_build_object('vendorId', l.vendor_id)
	FROM order_aggregator.vendor_login AS l LEFT JOIN order_aggregator.vendor AS v USING (vendor_id)
	WHERE v.vendor_id IS NULL
	-- 9: a key has one outcome
	UNION ALL
	SELECT 'idempotency key points to no order', 'key ' || i.key,
		jsonb_build_object('orderId', i.order_id)
	FROM order_aggregator.idempotency AS i LEFT JOIN order_aggregator.orders AS o USING (order_id)
	WHERE i.order_id IS NOT NULL AND o.order_id IS NULL
	UNION ALL
	SELECT 'an order has more than one idempotency key', 'order ' || i.order_id, jsonb_agg(i.key)
	FROM order_aggregator.idempotency AS i
	WHERE i.order_id IS NOT NULL AND i.action IS NULL
	GROUP BY i.order_id HAVING count(*) > 1
$$;
COMMENT ON FUNCTION check_consistency() IS
'Every broken invariant as one row; no row when all is well. Reads everything: 2 to 4 s for '
'a million orders.';
