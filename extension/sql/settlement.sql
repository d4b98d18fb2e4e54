/* what becomes of orders */

CREATE OR REPLACE FUNCTION confirm_order(order_id bigint, vendor_id text DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'oa_confirm_order'
LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION confirm_order(bigint, text) IS
'Confirms the open holds of one vendor (default: of all) and returns the order''s status. A role '
'that may only answer for its own vendors (vendor_login) must name one of them. OA004: the order '
'is closed; OA005: unknown order, or the vendor holds nothing of it; 42501: not the caller''s '
'vendor.';

CREATE OR REPLACE FUNCTION reject_order(order_id bigint, vendor_id text, reason text)
RETURNS text
AS 'MODULE_PATHNAME', 'oa_reject_order'
LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION reject_order(bigint, text, text) IS
'Rejects the open holds of one vendor: another vendor takes over, or the order is rejected. '
'Returns the order''s status. OA004, OA005, 42501 as confirm_order().';

CREATE OR REPLACE FUNCTION cancel_order(order_id bigint, reason text)
RETURNS text
AS 'MODULE_PATHNAME', 'oa_cancel_order'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cancel_order(bigint, text) IS
'Cancels a pending order and releases its stock. OA004: the order is closed; OA005: unknown '
'order.';

CREATE OR REPLACE FUNCTION cancel_order_once(order_id bigint, reason text, idempotency_key text)
RETURNS text
AS 'MODULE_PATHNAME', 'oa_cancel_order_once'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION cancel_order_once(bigint, text, text) IS
'cancel_order() for the HTTP API: the same key with the same request returns the same status '
'again. OA003: the key was used with another request.';

CREATE OR REPLACE FUNCTION apply_vendor_replies(replies jsonb, user_ids text[] DEFAULT NULL)
RETURNS TABLE (reply_no int, outcome text, detail text)
AS 'MODULE_PATHNAME', 'oa_apply_vendor_replies'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_vendor_replies(jsonb, text[]) IS
'Applies many vendors'' replies, an array of {"orderId","vendorId","attempt","status","reason"}, '
'in one transaction. outcome: applied, duplicate, late, stale, or invalid (can never be applied). '
'reply_no counts from 1. user_ids: for each reply the AMQP user that the broker vouches for, or '
'NULL; where a vendor has an amqp_user, only its answers count. Without user_ids the caller '
'vouches for all of them.';

CREATE OR REPLACE FUNCTION apply_vendor_replies_skip_locked(replies jsonb,
	user_ids text[] DEFAULT NULL)
RETURNS TABLE (reply_no int, outcome text, detail text)
AS 'MODULE_PATHNAME', 'oa_apply_vendor_replies_skip_locked'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_vendor_replies_skip_locked(jsonb, text[]) IS
'apply_vendor_replies() that waits for nobody: where another transaction has locked the order, or '
'stock of it, the outcome is busy, and the reply may be tried again.';

CREATE OR REPLACE FUNCTION expire_orders(max_orders int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_expire_orders'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION expire_orders(int) IS
'Closes up to max_orders pending orders whose expires_at has passed, releases their stock and '
'returns how many.';

CREATE OR REPLACE FUNCTION expire_orders_skip_locked(max_orders int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_expire_orders_skip_locked'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION expire_orders_skip_locked(int) IS
'expire_orders() that waits for nobody: orders whose stock another transaction has locked are '
'passed over.';

CREATE OR REPLACE FUNCTION return_order(order_id bigint, lines jsonb DEFAULT NULL,
	restock boolean DEFAULT true, idempotency_key text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'oa_return_order'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION return_order(bigint, jsonb, boolean, text) IS
'Takes back units of a confirmed order, [{"productId","quantity"}] or '
'[{"lineNo","quantity","vendorId"}] (NULL: all that is left), and returns the return''s id. '
'restock: they can be sold again at once. The same key with the same request returns the same '
'return. OA003: the key was used with another request; OA004: the order is not confirmed, or has '
'fewer units left; OA005: unknown order; 22023: malformed argument.';

CREATE OR REPLACE FUNCTION has_silent_vendors(silent_for interval)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM order_aggregator.orders AS o
				   WHERE o.status = 'pending' AND o.expires_at > pg_catalog.now()
					 AND o.placed_at <= pg_catalog.now() - has_silent_vendors.silent_for)
$$;
COMMENT ON FUNCTION has_silent_vendors(interval) IS
'Whether ask_silent_vendors() may find something to do: an order has been pending for that long.';

CREATE OR REPLACE FUNCTION ask_silent_vendors(silent_for interval, max_orders int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_ask_silent_vendors'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION ask_silent_vendors(interval, int) IS
'Asks again every vendor that has not answered for that long for its part of a pending order, '
'then for twice that long, and so on, if the relay has sent the question and a queue took it: the '
'order.placed event goes out once more, with a message_id of its own and the header x-again, and '
'vendor_retry and the order''s history tell of it. Looks at no more than max_orders orders; '
'returns how many vendors were asked. 22023: malformed argument.';

CREATE OR REPLACE FUNCTION settle_shortages(max_orders int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_settle_shortages'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION settle_shortages(int) IS
'Where a feed has fewer units than orders hold, and the vendor''s on_shortage is resource or '
'reject, gives the newest of those orders to other vendors; what none can serve is kept, or '
'rejected. Looks at no more than max_orders orders; returns how many lost the vendor.';

CREATE OR REPLACE FUNCTION settle_shortages_skip_locked(max_orders int DEFAULT 1000)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_settle_shortages_skip_locked'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION settle_shortages_skip_locked(int) IS
'settle_shortages() that waits for nobody: orders that another transaction has locked, or stock '
'of which, are passed over.';
