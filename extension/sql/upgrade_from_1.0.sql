/* what cannot just be replaced */

-- who is there already stays as it is; what was a foreign key is what only our functions write, and what
-- check_consistency() proves: pg_restore -j loads the tables in any order
ALTER TABLE stock DROP CONSTRAINT stock_product_id_fkey, DROP CONSTRAINT stock_vendor_id_fkey;
ALTER TABLE product_map DROP CONSTRAINT product_map_vendor_id_fkey;
ALTER TABLE feed_sync DROP CONSTRAINT feed_sync_vendor_id_fkey;

ALTER TABLE parked_event
	ADD COLUMN mandatory	boolean NOT NULL DEFAULT true,
	ADD COLUMN retry_at		timestamptz,
	ADD COLUMN tries		int NOT NULL DEFAULT 0;
CREATE INDEX parked_event_retry_idx ON parked_event (retry_at) WHERE retry_at IS NOT NULL;

ALTER TABLE idempotency ADD COLUMN action text;

ALTER TABLE vendor ADD COLUMN amqp_user text;
CREATE TABLE vendor_login (
	login		name NOT NULL,
	vendor_id	text COLLATE "C" NOT NULL,
	PRIMARY KEY (login, vendor_id)
);
SELECT pg_catalog.pg_extension_config_dump('vendor_login', '');

-- another signature
DROP FUNCTION configure_vendor(text, interval, jsonb, bigint, text, boolean);
DROP FUNCTION apply_vendor_replies(jsonb);
DROP FUNCTION relay_events(bigint, xid8, xid8[], pg_snapshot, int);

