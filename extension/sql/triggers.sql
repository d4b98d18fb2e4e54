/* triggers that refuse what must never happen, and those that follow a change by hand */

CREATE OR REPLACE FUNCTION guard_order() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_guard_order' LANGUAGE C;
CREATE OR REPLACE FUNCTION guard_hold() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_guard_hold' LANGUAGE C;
CREATE OR REPLACE FUNCTION guard_stock() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_guard_stock' LANGUAGE C;
CREATE OR REPLACE FUNCTION guard_outbox() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_guard_outbox' LANGUAGE C;
CREATE OR REPLACE FUNCTION guard_reference() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_guard_reference'
LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
CREATE OR REPLACE FUNCTION settle_closed_orders() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_settle_closed_orders'
LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
CREATE OR REPLACE FUNCTION ring_doorbell() RETURNS trigger AS 'MODULE_PATHNAME',
	'oa_ring_doorbell' LANGUAGE C;

-- The WHEN clauses keep the rows that need no look away from the functions. No trigger looks at
-- what is inserted into
-- orders: a restore inserts closed ones.
CREATE OR REPLACE TRIGGER guard_update BEFORE UPDATE ON orders FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION guard_order();
CREATE OR REPLACE TRIGGER settle AFTER UPDATE ON orders REFERENCING OLD TABLE
	AS old_orders NEW TABLE AS new_orders
	FOR EACH STATEMENT EXECUTE FUNCTION settle_closed_orders();
CREATE OR REPLACE TRIGGER guard_update BEFORE UPDATE ON hold FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION guard_hold();
CREATE OR REPLACE TRIGGER guard_insert BEFORE INSERT ON stock FOR EACH ROW
	WHEN (NEW.on_hand < 0 OR NEW.reserved < 0) EXECUTE FUNCTION guard_stock();
CREATE OR REPLACE TRIGGER guard_update BEFORE UPDATE ON stock FOR EACH ROW
	WHEN (NEW.on_hand < 0 OR NEW.reserved < 0) EXECUTE FUNCTION guard_stock();
CREATE OR REPLACE TRIGGER guard_reference BEFORE DELETE OR UPDATE OF vendor_id ON vendor
	FOR EACH ROW EXECUTE FUNCTION guard_reference();
CREATE OR REPLACE TRIGGER guard_reference BEFORE DELETE OR UPDATE OF product_id ON product
	FOR EACH ROW EXECUTE FUNCTION guard_reference();
CREATE OR REPLACE TRIGGER guard_update BEFORE UPDATE ON outbox
	FOR EACH ROW EXECUTE FUNCTION guard_outbox();
CREATE OR REPLACE TRIGGER ring_doorbell AFTER INSERT ON outbox
	FOR EACH STATEMENT EXECUTE FUNCTION ring_doorbell();
