/* what the tables, the columns that do not speak for themselves, and the triggers are for */

COMMENT ON TABLE vendor IS 'Third parties that hold stock, and how the pull of their feeds stands.';
COMMENT ON COLUMN vendor.vendor_no IS 'A small number for the vendor, for sourcing.';
COMMENT ON COLUMN vendor.priority IS
'Lower is asked first, where prices are equal or the strategy says so.';
COMMENT ON COLUMN vendor.buffer IS 'Units of each offer that are kept back from sale.';
COMMENT ON COLUMN vendor.on_shortage IS
'What becomes of orders when a feed has fewer units than they hold.';
COMMENT ON COLUMN vendor.synced_as_of IS
'When the count of the last feed was taken; older feeds are stale.';
COMMENT ON COLUMN vendor.stale_after IS
'How long its offers are sold without a feed that confirms them; 0: for ever.';
COMMENT ON COLUMN vendor.stale_at IS
'From then on they are not: confirmed_at, or the beginning of a first feed that has not ended, and '
'stale_after; NULL: never.';
COMMENT ON COLUMN vendor.stale_told_at IS 'When stock.stale was told of it.';
COMMENT ON COLUMN vendor.confirmed_at IS
'When a feed last confirmed what is on sale: one was applied, or the vendor said that it is '
'unchanged.';
COMMENT ON COLUMN vendor.drop_limit IS
'A feed that lacks more of the vendor''s offers, in percent, is held back.';
COMMENT ON COLUMN vendor.drop_accepted IS 'accept_feed() has said that the next one is right.';
COMMENT ON COLUMN vendor.feed_held_at IS 'The last feed was held back then.';
COMMENT ON COLUMN vendor.stale_feeds IS 'How many feeds in a row were older than what was applied.';
COMMENT ON COLUMN vendor.feed_told IS
'The time of the last feed that began, as the vendor wrote it.';
COMMENT ON COLUMN vendor.applied_told IS
'That of the last feed that was applied: one with the same has a time that stands still.';
COMMENT ON COLUMN vendor.feed_told_at IS
'The time that it told: one that tells an earlier one is stale.';
COMMENT ON COLUMN vendor.held_offers IS
'How many of the vendor''s offers the feed had that was held back.';
COMMENT ON COLUMN vendor.feed_config_no IS
'Counts changes of the vendor''s URL and mapping: what was pulled before one is not applied after '
'it.';
COMMENT ON COLUMN vendor.feed_pulled_at IS 'When the last feed that was applied was asked for.';
COMMENT ON COLUMN vendor.amqp_user IS 'The RabbitMQ user whose answers count; NULL: any.';
COMMENT ON TABLE vendor_login IS
'Which vendors a role of the database, a member of order_aggregator_vendor, may answer for.';
COMMENT ON TABLE product IS 'What can be ordered.';
COMMENT ON COLUMN product.low_threshold IS
'Available units at which stock.low is told; NULL: the setting''s.';
COMMENT ON TABLE product_map IS
'Which product a vendor''s SKU is; without an entry the SKU is the product''s id.';
COMMENT ON TABLE stock IS 'One row a vendor''s offer of a product. Only the functions write it.';
COMMENT ON COLUMN stock.on_hand IS 'Units on the vendor''s shelf, as far as is known.';
COMMENT ON COLUMN stock.reserved IS 'Units of those that open holds have.';
COMMENT ON COLUMN stock.lanes IS 'Over how many rows of stock_lane the offer is spread now.';
COMMENT ON COLUMN stock.lanes_max IS 'Over how many it may be; NULL or 0: none.';
COMMENT ON COLUMN stock.in_lanes IS
'Units, free and reserved, that are in stock_lane and not in this row''s counters.';
COMMENT ON TABLE stock_lane IS
'Parts of a hot offer''s units, so that orders of it need not wait for one another. Only the '
'functions write it.';
COMMENT ON COLUMN stock.as_of IS 'When the vendor counted last.';
COMMENT ON COLUMN stock.last_shipped_at IS
'When units were last confirmed; a feed counted before does not know of them.';
COMMENT ON COLUMN stock.counted IS
'What the vendor told last, at as_of; NULL: unknown, or the last feed had none.';
COMMENT ON COLUMN stock.is_priced IS
'Somebody has told the price; else it is 0, and the offer comes after all others.';
COMMENT ON COLUMN feed_sync.as_of_rule IS
'Who says that it was counted at as_of: asOf, Last-Modified, Date, request, previous pull, '
'caller.';
COMMENT ON COLUMN feed_sync.told IS 'Its time as the vendor wrote it.';
COMMENT ON COLUMN feed_sync.pulled_at IS 'When it was asked for.';
COMMENT ON COLUMN feed_sync.previous_pull_at IS
'Of a feed whose time stands still: counts that are new in it were made after that.';
COMMENT ON COLUMN feed_sync.rules IS 'What was done with its items, by rule, and how often.';
COMMENT ON TABLE feed_sync IS
'The history of feeds, one row a pull; it is "running" while its parts are applied.';
COMMENT ON TABLE shortage IS
'Offers of which more is held than the vendor says it has; settle_shortages() works on them.';
COMMENT ON TABLE orders IS
'What customers want. pending, then confirmed, rejected, cancelled or expired, once.';
COMMENT ON COLUMN orders.total_amount IS
'The sum of quantity times unit price over the holds that are not rejected.';
COMMENT ON COLUMN orders.traceparent IS 'W3C trace context of the request.';
COMMENT ON TABLE order_line IS 'One line a product of an order.';
COMMENT ON TABLE hold IS
'Units of a stock row that an order has: open, confirmed, rejected, released or returned.';
COMMENT ON COLUMN hold.attempt IS
'From 1; one more each time the order is sourced anew, in the last three digits.';
COMMENT ON COLUMN hold.unit_price IS 'As it was when the hold was made.';
COMMENT ON TABLE vendor_retry IS 'Each time that a silent vendor was asked again.';
COMMENT ON TABLE order_return IS 'Units that customers sent back after confirmation.';
COMMENT ON TABLE idempotency IS 'The outcome of each idempotency key.';
COMMENT ON COLUMN idempotency.action IS 'NULL: an order was placed; else what was done to it.';
COMMENT ON TABLE outbox IS
'Events, append-only, written in the transaction of their facts; partitioned by event id.';
COMMENT ON COLUMN outbox.txid IS
'The transaction that wrote it: the relay goes by what is visible in a snapshot.';
COMMENT ON COLUMN outbox.mandatory IS 'A queue must take it, else it is parked.';
COMMENT ON TABLE relay_checkpoint IS 'How far the relay has got, and its fencing epoch.';
COMMENT ON TABLE parked_event IS
'Events that the broker did not take: parked for good, or deferred until retry_at.';

COMMENT ON FUNCTION guard_order() IS
'Trigger of orders: refuses every change of state but the end of a pending order.';
COMMENT ON FUNCTION guard_hold() IS 'Trigger of hold: refuses every change of state that is none.';
COMMENT ON FUNCTION guard_stock() IS 'Trigger of stock: refuses negative counters.';
COMMENT ON FUNCTION guard_outbox() IS 'Trigger of outbox: refuses every update.';
COMMENT ON FUNCTION guard_reference() IS
'Trigger of vendor and product: keeps what stock refers to.';
COMMENT ON FUNCTION settle_closed_orders() IS
'Trigger of orders: settles the holds of orders that were closed by hand.';
COMMENT ON FUNCTION ring_doorbell() IS
'Trigger of outbox: wakes the relay for events that were inserted by hand.';
