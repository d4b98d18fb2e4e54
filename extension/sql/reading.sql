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
