/* vendors, products and their feeds */

CREATE OR REPLACE FUNCTION register_vendor(vendor_id text, name text,
	stock_url text DEFAULT NULL, priority int DEFAULT 100)
RETURNS void
AS 'MODULE_PATHNAME', 'oa_register_vendor'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION register_vendor(text, text, text, int) IS
'Adds a vendor or changes its name, feed URL and priority (lower is asked first). 22023: '
'malformed argument.';

CREATE OR REPLACE FUNCTION configure_vendor(vendor_id text,
	sync_interval interval DEFAULT NULL, feed_mapping jsonb DEFAULT NULL,
	buffer bigint DEFAULT NULL, on_shortage text DEFAULT NULL, is_active boolean DEFAULT NULL,
	amqp_user text DEFAULT NULL, logins name[] DEFAULT NULL, stale_after interval DEFAULT NULL,
	drop_limit int DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'oa_configure_vendor'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION configure_vendor(text, interval, jsonb, bigint, text, boolean, text, name[],
	interval, int) IS
'Changes what is given of a vendor. sync_interval: between two pulls of its feed. feed_mapping: '
'where its feed has what, '
'{"format","delimiter","charset","items","asOf","timeZone","id","quantity","price","name"}, and '
'what its values mean, {"decimal","repeated"}; an empty object forgets it. buffer: units of each '
'of its offers that are kept back from sale. on_shortage: what to do with orders when a feed has '
'fewer units than they hold: keep, resource or reject. amqp_user: the RabbitMQ user whose answers '
'for the vendor count, and no others; an empty one: any. logins: the roles, members of '
'order_aggregator_vendor, that may answer for the vendor; an empty array: none. stale_after: how '
'long its offers are sold without a feed that confirms them; 0: for ever. drop_limit: a feed that '
'lacks more of its offers, in percent, is held back; 100: never. OA005: unknown vendor; 22023: '
'malformed argument.';

CREATE OR REPLACE FUNCTION configure_product(product_id text, buffer bigint DEFAULT NULL,
	low_threshold bigint DEFAULT NULL, vendor_id text DEFAULT NULL, lanes "any" DEFAULT NULL::text)
RETURNS void
AS 'MODULE_PATHNAME', 'oa_configure_product'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION configure_product(text, bigint, bigint, text, "any") IS
'Changes what is given of a product, or, with vendor_id, of that vendor''s offer of it. buffer: '
'units of each offer that are kept back from sale. low_threshold: available units at which '
'stock.low is told; -1: the setting''s. lanes: over so many rows the counters of each offer are '
'spread, so that orders do not wait for one another''s commit; ''auto'': as many as waiting asks '
'for; 0: none. OA002: unknown product or offer; 22023: malformed argument.';

CREATE OR REPLACE FUNCTION map_product(vendor_id text, vendor_sku text, product_id text)
RETURNS void
AS 'MODULE_PATHNAME', 'oa_map_product'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION map_product(text, text, text) IS
'Says which product a vendor''s SKU is, from its next feed on; product_id NULL: the SKU is the '
'product''s id again. 23505: another SKU of the vendor is that product; OA005: unknown vendor.';

CREATE OR REPLACE FUNCTION map_products(vendor_id text, mappings jsonb)
RETURNS int
AS 'MODULE_PATHNAME', 'oa_map_products'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION map_products(text, jsonb) IS
'map_product() for many, [{"vendorSku","productId"}]; returns how many.';

CREATE OR REPLACE FUNCTION sync_vendor_stock(vendor_id text, feed jsonb,
	as_of timestamptz DEFAULT NULL)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'oa_sync_vendor_stock'
LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION sync_vendor_stock(text, jsonb, timestamptz) IS
'Applies one whole stock feed, [{"id","name","quantity","price"}] or [{"productId","stock"}], '
'counted by the vendor at as_of (default: now). Returns '
'{"vendorId","status","asOf","asOfRule","items","new","changed","inactive","skippedItems",'
'"skipped","rules","oversold","error"}; '
'status: applied, or why nothing was changed: stale, failed, held. OA005: unknown vendor; 22023: '
'the feed is not an array; 42501: not the caller''s vendor.';

CREATE OR REPLACE FUNCTION claim_due_feeds(lease interval, max_feeds int)
RETURNS TABLE (vendor_id text, stock_url text, feed_mapping jsonb, etag text, last_modified text,
	config_no int)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	UPDATE order_aggregator.vendor AS v
	SET next_sync_at = pg_catalog.now() + claim_due_feeds.lease
	FROM (SELECT d.vendor_id FROM order_aggregator.vendor AS d
		  WHERE d.is_active AND d.stock_url IS NOT NULL AND d.next_sync_at <= pg_catalog.now()
			-- one that is being applied at length is left alone
			AND NOT EXISTS (SELECT FROM order_aggregator.feed_sync AS f
							WHERE f.vendor_id OPERATOR(pg_catalog.=) d.vendor_id
								AND f.status = 'running'
							  AND f.progressed_at > pg_catalog.now() - interval '30 seconds')
		  ORDER BY d.next_sync_at LIMIT claim_due_feeds.max_feeds FOR NO KEY UPDATE SKIP LOCKED)
		      AS due
	WHERE v.vendor_id OPERATOR(pg_catalog.=) due.vendor_id
	RETURNING v.vendor_id, v.stock_url, v.feed_mapping, v.feed_etag, v.feed_last_modified,
		v.feed_config_no
$$;
COMMENT ON FUNCTION claim_due_feeds(interval, int) IS
'Vendors whose feeds are due, for the caller alone until the lease is over: several bridges share '
'the work.';

CREATE OR REPLACE FUNCTION begin_feed(vendor_id text, as_of timestamptz,
	as_of_rule text DEFAULT NULL, told text DEFAULT NULL, pulled_at timestamptz DEFAULT NULL,
	items int DEFAULT NULL, unreadable int DEFAULT NULL, offers int DEFAULT NULL,
	skus text[] DEFAULT NULL, complaint text DEFAULT NULL, config_no int DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'oa_begin_feed'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION begin_feed(text, timestamptz, text, text, timestamptz, int, int, int, text[],
	text, int) IS
'Begins a feed that is applied in parts and returns its id; NULL if it is not to be applied: '
'refused_feed() says why. Supersedes a feed of the vendor that is still running. as_of_rule: who '
'says when it was counted; told: as the vendor wrote it; pulled_at: when it was asked for. items: '
'how many it has; unreadable: of these, without a count; complaint: mostly why; offers: different '
'SKUs; skus: these, or a sample; config_no: that of claim_due_feeds(). OA005: unknown vendor.';

CREATE OR REPLACE FUNCTION refused_feed()
RETURNS TABLE (sync_id bigint, status text, error text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.sync_id, f.status, f.error FROM order_aggregator.feed_sync AS f
	WHERE f.sync_id OPERATOR(pg_catalog.=) pg_catalog.currval(
		'order_aggregator.feed_sync_sync_id_seq')
$$;
COMMENT ON FUNCTION refused_feed() IS
'What became of the feed that this session had begin_feed() judge last.';

CREATE OR REPLACE FUNCTION accept_feed(vendor_id text)
RETURNS void
AS 'MODULE_PATHNAME', 'oa_accept_feed'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION accept_feed(text) IS
'Says that a feed of the vendor that is held back is right: the next one is applied however much '
'it lacks, and pulled at once. OA005: unknown vendor.';

CREATE OR REPLACE FUNCTION apply_feed_part(sync_id bigint, after_sku text, upto_sku text,
	indexes int[], skus text[], names text[], quantities text[], prices text[],
	complaints text[])
RETURNS int
AS 'MODULE_PATHNAME', 'oa_apply_feed_part'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION apply_feed_part(bigint, text, text, int[], text[], text[], text[], text[],
	text[]) IS
'Applies all items of a running feed with after_sku < SKU <= upto_sku (NULL: no bound); what the '
'vendor offers in that range and the items lack becomes inactive. The ranges of a feed must cover '
'all SKUs. Returns how many rows it wrote. OA004: the feed is not running any more.';

CREATE OR REPLACE FUNCTION finish_feed(sync_id bigint, etag text DEFAULT NULL,
	last_modified text DEFAULT NULL)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'oa_finish_feed'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION finish_feed(bigint, text, text) IS
'Ends a feed whose parts have all been applied and returns what sync_vendor_stock() does.';

CREATE OR REPLACE FUNCTION record_feed_pull(vendor_id text, sync_id bigint, status text,
	error text, circuit_failures int, circuit_open interval, retry_after interval DEFAULT NULL,
	config_no int DEFAULT NULL)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- before anything is read by an index, else REINDEX and we would wait for each other
	LOCK TABLE order_aggregator.vendor, order_aggregator.feed_sync IN ROW EXCLUSIVE MODE;
	-- the vendor before the feed, as begin_feed does
	SELECT FROM order_aggregator.vendor AS v
	WHERE v.vendor_id OPERATOR(pg_catalog.=) record_feed_pull.vendor_id FOR NO KEY UPDATE;
	UPDATE order_aggregator.feed_sync AS f
	SET status = record_feed_pull.status, error = record_feed_pull.error,
		finished_at = pg_catalog.clock_timestamp()
	WHERE f.sync_id = record_feed_pull.sync_id AND f.status = 'running';
	INSERT INTO order_aggregator.feed_sync (vendor_id, status, error, finished_at)
	SELECT record_feed_pull.vendor_id, record_feed_pull.status, record_feed_pull.error,
		pg_catalog.clock_timestamp()
	WHERE record_feed_pull.sync_id IS NULL;
	UPDATE order_aggregator.vendor AS v
	SET last_sync_at = n.at, last_sync_status = record_feed_pull.status,
		last_sync_error = record_feed_pull.error,
		sync_failures = CASE WHEN n.failed THEN v.sync_failures + 1 ELSE 0 END,
		circuit_open_until = CASE WHEN n.opens THEN n.at + n.open_for END,
		next_sync_at = n.at + CASE WHEN n.opens THEN n.open_for WHEN n.failed THEN n.pause
			ELSE v.sync_interval END,
		-- the vendor says that what was applied still holds
		feed_held_at = CASE WHEN n.confirms THEN NULL ELSE v.feed_held_at END,
		held_offers = CASE WHEN n.confirms THEN NULL ELSE v.held_offers END,
		drop_accepted = v.drop_accepted AND NOT n.confirms,
		confirmed_at = CASE WHEN n.confirms THEN n.at ELSE v.confirmed_at END,
		stale_at = CASE WHEN n.confirms THEN n.at + nullif(v.stale_after, '0') ELSE v.stale_at END,
		stale_told_at = CASE WHEN n.confirms THEN NULL ELSE v.stale_told_at END
	FROM (SELECT pg_catalog.clock_timestamp() AS at, record_feed_pull.status = 'failed' AS failed,
			record_feed_pull.status = 'failed'
				AND w.sync_failures + 1 >= record_feed_pull.circuit_failures AS opens,
			record_feed_pull.status = 'unchanged' AS confirms,
			greatest(record_feed_pull.circuit_open * (0.75 + pg_catalog.random() / 2),
				record_feed_pull.retry_after) AS open_for,
			greatest(least(interval '2 seconds' * 2 ^ least(w.sync_failures, 10),
				interval '10 minutes') * (0.75 + pg_catalog.random() / 2),
				record_feed_pull.retry_after) AS pause
		  FROM order_aggregator.vendor AS w
		      WHERE w.vendor_id OPERATOR(pg_catalog.=) record_feed_pull.vendor_id) AS n
	WHERE v.vendor_id OPERATOR(pg_catalog.=) record_feed_pull.vendor_id
	  -- whoever overtook it records what became of that
	  AND record_feed_pull.status <> 'superseded'
	  -- of another URL or mapping it says nothing
	  AND (record_feed_pull.config_no IS NULL
	      OR v.feed_config_no OPERATOR(pg_catalog.=) record_feed_pull.config_no);
	-- and the other one is still to be pulled
	UPDATE order_aggregator.vendor AS v SET next_sync_at = '-infinity'
	WHERE v.vendor_id OPERATOR(pg_catalog.=) record_feed_pull.vendor_id
		AND v.feed_config_no <> record_feed_pull.config_no
$$;
COMMENT ON FUNCTION record_feed_pull(text, bigint, text, text, int, interval, interval, int) IS
'Notes a pull of a vendor''s feed that brought nothing to finish: unchanged, stale, failed or '
'held; sync_id: its row of the history, NULL if it has none yet. retry_after: how long the vendor '
'wants to be left alone at least. After circuit_failures failures in a row the circuit opens: the '
'vendor is left alone for circuit_open, then tried once.';

CREATE OR REPLACE FUNCTION postpone_feed(vendor_id text, sync_id bigint, error text, by interval)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- before anything is read by an index, else REINDEX and we would wait for each other
	LOCK TABLE order_aggregator.vendor, order_aggregator.feed_sync IN ROW EXCLUSIVE MODE;
	-- the vendor before the feed, as begin_feed does
	SELECT FROM order_aggregator.vendor AS v
	WHERE v.vendor_id OPERATOR(pg_catalog.=) postpone_feed.vendor_id FOR NO KEY UPDATE;
	UPDATE order_aggregator.feed_sync AS f
	SET status = 'failed', error = postpone_feed.error, finished_at = pg_catalog.clock_timestamp()
	WHERE f.sync_id = postpone_feed.sync_id AND f.status = 'running';
	UPDATE order_aggregator.vendor AS v
	SET next_sync_at = coalesce(pg_catalog.clock_timestamp() + postpone_feed.by, v.next_sync_at)
	WHERE v.vendor_id OPERATOR(pg_catalog.=) postpone_feed.vendor_id
$$;
COMMENT ON FUNCTION postpone_feed(text, bigint, text, interval) IS
'Gives up a feed (sync_id NULL: none was begun) through no fault of the vendor''s, because '
'somebody''s lock was in its way, and has it pulled again after that time (NULL: when it is due).';

CREATE OR REPLACE FUNCTION tell_stale_vendors()
RETURNS bigint
AS 'MODULE_PATHNAME', 'oa_tell_stale_vendors'
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION tell_stale_vendors() IS
'Writes stock.stale.<vendor_id> for each vendor whose offers stopped selling because no feed has '
'confirmed them, once each time; returns for how many. One that somebody has locked is left to '
'the next call.';

CREATE OR REPLACE FUNCTION forget_feed_syncs(older_than interval)
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- before anything is read by an index, else REINDEX and we would wait for each other
	LOCK TABLE order_aggregator.feed_sync IN ROW EXCLUSIVE MODE;
	-- looks at so many, not at all, of what may be millions
	WITH gone AS (
		DELETE FROM order_aggregator.feed_sync AS f
		WHERE f.ctid = ANY (ARRAY(
			SELECT o.ctid FROM order_aggregator.feed_sync AS o
			WHERE o.sync_id IN (SELECT e.sync_id FROM order_aggregator.feed_sync AS e
					ORDER BY e.sync_id LIMIT 10000)
				AND o.finished_at < pg_catalog.now() - forget_feed_syncs.older_than
			FOR UPDATE SKIP LOCKED))
		RETURNING 1)
	SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION forget_feed_syncs(interval) IS
'Deletes, of the oldest 10000 pulls in the history of feeds, those that ended longer ago than '
'that; returns how many.';
