/* idempotency keys */

CREATE OR REPLACE FUNCTION forget_idempotency_keys(older_than interval)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH gone AS (
		DELETE FROM order_aggregator.idempotency AS i
		WHERE i.ctid = ANY (ARRAY(
			SELECT o.ctid FROM order_aggregator.idempotency AS o
			WHERE o.created_at < pg_catalog.now() - forget_idempotency_keys.older_than
			LIMIT 100000 FOR UPDATE SKIP LOCKED))
		RETURNING 1)
	SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION forget_idempotency_keys(interval) IS
'Deletes idempotency keys older than that, 100000 at most, and returns how many; a retry with one '
'of them would be a new order.';
