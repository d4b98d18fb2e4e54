/* who may do what: what is not granted here is closed */

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA order_aggregator FROM PUBLIC;
GRANT USAGE ON SCHEMA order_aggregator TO PUBLIC;
GRANT SELECT ON vendor_offer, product_stock, order_summary, unroutable_event TO PUBLIC;
GRANT EXECUTE ON FUNCTION register_vendor(text, text, text, int), configure_vendor(text, interval, jsonb, bigint, text, boolean),
	configure_product(text, bigint, bigint, text), map_product(text, text, text), map_products(text, jsonb),
	sync_vendor_stock(text, jsonb, timestamptz),
	place_order(text, jsonb, text, text, interval, boolean), place_orders(jsonb),
	confirm_order(bigint, text), reject_order(bigint, text, text), cancel_order(bigint, text), apply_vendor_replies(jsonb),
	expire_orders(int), return_order(bigint, jsonb, boolean, text),
	publish_event(text, jsonb, jsonb, boolean), check_consistency()
	TO PUBLIC;
