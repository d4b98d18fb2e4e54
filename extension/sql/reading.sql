/* reading for the HTTP API */

CREATE OR REPLACE FUNCTION order_documents(order_ids bigint[])
RETURNS TABLE (request_no int, document json)
AS 'MODULE_PATHNAME', 'oa_order_documents'
LANGUAGE C STRICT STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION order_documents(bigint[]) IS
'Orders as GET /order/{id} shows them: what order_summary has of each that there is. request_no '
'counts from 1.';

CREATE OR REPLACE FUNCTION product_documents(product_ids text[])
RETURNS TABLE (request_no int, document json)
AS 'MODULE_PATHNAME', 'oa_product_documents'
LANGUAGE C STRICT STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION product_documents(text[]) IS
'Products as GET /products/{id} shows them: what product_stock and vendor_offer have of each '
'that has an offer. request_no counts from 1.';

CREATE OR REPLACE FUNCTION replay_timeline()
RETURNS text
AS 'MODULE_PATHNAME', 'oa_replay_timeline'
LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION replay_timeline() IS
'The timeline of what a standby has replayed last, in hexadecimal, as names of WAL files begin; '
'NULL on a primary. A standby may have replayed more than its primary has written and lack what '
'that has: on the timeline of before.';
