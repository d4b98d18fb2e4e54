/* what cannot just be replaced */

-- who is there already stays as it is; what was a foreign key is what only our functions write, and
-- what check_consistency() proves: pg_restore -j loads the tables in any order
ALTER TABLE stock DROP CONSTRAINT stock_product_id_fkey, DROP CONSTRAINT stock_vendor_id_fkey;
ALTER TABLE product_map DROP CONSTRAINT product_map_vendor_id_fkey;
ALTER TABLE feed_sync DROP CONSTRAINT feed_sync_vendor_id_fkey;

ALTER TABLE parked_event
	ADD COLUMN mandatory	boolean NOT NULL DEFAULT true,
	ADD COLUMN retry_at		timestamptz,
	ADD COLUMN tries		int NOT NULL DEFAULT 0;
CREATE INDEX parked_event_retry_idx ON parked_event (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX parked_event_sent_idx ON parked_event (redriven_at) WHERE redriven_at IS NOT NULL;
CREATE INDEX parked_event_waiting_idx ON parked_event (event_id) WHERE redriven_at IS NULL
	AND retry_at IS NULL;
-- of an order; a stranger's event may have anything for its id
CREATE INDEX parked_event_order_idx ON parked_event ((left(payload ->> 'orderId', 20)))
	WHERE redriven_at IS NULL;

ALTER TABLE idempotency ADD COLUMN action text;

ALTER TABLE vendor
	ADD COLUMN amqp_user		text,
	ADD COLUMN stale_after		interval NOT NULL DEFAULT '1 day' CHECK (stale_after >= '0'),
	ADD COLUMN stale_at			timestamptz,
	ADD COLUMN stale_told_at	timestamptz,
	ADD COLUMN confirmed_at		timestamptz,
	ADD COLUMN drop_limit		int NOT NULL DEFAULT 90 CHECK (drop_limit BETWEEN 0 AND 100),
	ADD COLUMN drop_accepted	boolean NOT NULL DEFAULT false,
	ADD COLUMN feed_held_at		timestamptz,
	ADD COLUMN stale_feeds		int NOT NULL DEFAULT 0,
	ADD COLUMN feed_told		text,
	ADD COLUMN applied_told		text,
	ADD COLUMN feed_pulled_at	timestamptz,
	ADD COLUMN feed_told_at		timestamptz,
	ADD COLUMN held_offers		int,
	ADD COLUMN feed_config_no	int NOT NULL DEFAULT 0;
-- whoever is fed by hand is fed when somebody has the time; whoever else had a feed has its time
-- from now on; what 1.0 made of it is not to be confirmed by a 304: each is pulled anew
UPDATE vendor SET stale_after = '0' WHERE stock_url IS NULL;
UPDATE vendor SET confirmed_at = now(), stale_at = now() + nullif(stale_after, '0')
	WHERE synced_as_of IS NOT NULL;
UPDATE vendor SET feed_told_at = synced_as_of, feed_etag = NULL, feed_last_modified = NULL,
	next_sync_at = '-infinity';

-- 1.0 wrote 0 where nobody had told a price
ALTER TABLE stock
	ADD COLUMN is_priced	boolean NOT NULL DEFAULT true,
	ADD COLUMN counted		bigint,
	ADD COLUMN lanes		bigint CHECK (lanes >= 0),
	ADD COLUMN lanes_max	bigint CHECK (lanes_max >= lanes),
	ADD COLUMN in_lanes		bigint CHECK (in_lanes >= 0);
ALTER TABLE product
	ADD COLUMN lanes		bigint CHECK (lanes >= 0),
	ADD COLUMN lanes_max	bigint CHECK (lanes_max >= lanes);
UPDATE stock SET is_priced = false WHERE price = 0;

ALTER TABLE feed_sync
	ADD COLUMN as_of_rule	text,
	ADD COLUMN rules		jsonb NOT NULL DEFAULT '{}',
	ADD COLUMN told			text,
	ADD COLUMN pulled_at	timestamptz,
	ADD COLUMN previous_pull_at	timestamptz,
	DROP CONSTRAINT feed_sync_status_check,
	ADD CONSTRAINT feed_sync_status_check
		CHECK (status IN ('running', 'applied', 'unchanged', 'stale', 'failed', 'superseded',
			'held'));
UPDATE feed_sync SET status = 'superseded', finished_at = now() WHERE status = 'running';

CREATE TABLE vendor_login (
	login		name NOT NULL,
	vendor_id	text COLLATE "C" NOT NULL,
	PRIMARY KEY (login, vendor_id)
) USING heap;
SELECT pg_catalog.pg_extension_config_dump('vendor_login', '');

CREATE TABLE stock_lane (
	product_id	text COLLATE "C" NOT NULL,
	vendor_id	text COLLATE "C" NOT NULL,
	lane		int NOT NULL CHECK (lane >= 0),
	free		bigint NOT NULL CHECK (free >= 0),
	reserved	bigint NOT NULL CHECK (reserved >= 0),
	PRIMARY KEY (product_id, vendor_id, lane)
) USING heap WITH (fillfactor = 10);
SELECT pg_catalog.pg_extension_config_dump('stock_lane', '');

CREATE SEQUENCE timeline_seq AS bigint;
SELECT pg_catalog.pg_extension_config_dump('timeline_seq', '');

-- another signature
DROP FUNCTION configure_product(text, bigint, bigint, text);
DROP FUNCTION configure_vendor(text, interval, jsonb, bigint, text, boolean);
DROP FUNCTION apply_vendor_replies(jsonb);
DROP FUNCTION begin_feed(text, timestamptz);
DROP FUNCTION claim_due_feeds(interval, int);
DROP FUNCTION record_feed_pull(text, bigint, text, text, int, interval);
DROP FUNCTION relay_events(bigint, xid8, xid8[], pg_snapshot, int);

