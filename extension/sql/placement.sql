/* placing orders */

-- without SET search_path, which would be a twelfth of it: see store/search_path.h

CREATE OR REPLACE FUNCTION place_order(customer_id text, products jsonb,
	idempotency_key text DEFAULT NULL, strategy text DEFAULT NULL,
	hold_for interval DEFAULT NULL, allow_partial boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME', 'oa_place_order'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER;
COMMENT ON FUNCTION place_order(text, jsonb, text, text, interval, boolean) IS
'Places one order, [{"productId","quantity"}], locks its stock and returns its id. OA001: '
'insufficient stock; OA002: unknown product; OA003: idempotency key reused; 22023: malformed '
'argument.';

CREATE OR REPLACE FUNCTION place_orders(requests jsonb)
RETURNS TABLE (request_no int, order_id bigint, status text, total_amount numeric, error jsonb)
AS 'MODULE_PATHNAME', 'oa_place_orders'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION place_orders(jsonb) IS
'Places many orders, an array of {"customerId","products","idempotencyKey",...}, in one '
'transaction. A request that cannot be served gets its error '
'({"code","message","detail","field"}) and disturbs no other. request_no counts from 1.';

CREATE OR REPLACE FUNCTION place_order_documents(requests jsonb)
RETURNS TABLE (request_no int, order_id bigint, document json, error jsonb)
AS 'MODULE_PATHNAME', 'oa_place_order_documents'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION place_order_documents(jsonb) IS
'place_orders() for the HTTP API: returns each order as the JSON document that POST /order '
'answers with.';

CREATE OR REPLACE FUNCTION place_order_documents_skip_locked(requests jsonb)
RETURNS TABLE (request_no int, order_id bigint, document json, error jsonb)
AS 'MODULE_PATHNAME', 'oa_place_order_documents_skip_locked'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION place_order_documents_skip_locked(jsonb) IS
'place_order_documents() that waits for nobody: a request for what another transaction has '
'locked, or with a key that one is using, gets the error 55P03, keeps no outcome under its key, '
'and may be tried again.';

-- whose ids they are from the first on: a standby may be promoted before it has seen any
CREATE FUNCTION begin_order_ids() RETURNS void
AS 'MODULE_PATHNAME', 'oa_begin_order_ids'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
SELECT begin_order_ids() FROM timeline_seq WHERE NOT is_called;
DROP FUNCTION begin_order_ids();

CREATE OR REPLACE FUNCTION leave_order_ids()
RETURNS void
AS 'MODULE_PATHNAME', 'oa_leave_order_ids'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION leave_order_ids() IS
'Order ids go on from one of the next twenty thousand thousand millions: after the database was '
'set back to an earlier point under its cluster (a snapshot of its disk, a copy of its files), '
'the next ones have been given to orders that are gone, and vendors may still answer for those. '
'A new cluster, timeline or database is noticed without it, and by a relay whatever it has sent '
'and is missing.';
