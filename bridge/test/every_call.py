"""One call of each function that writes, and a database in which each of them finds something to do."""

DOCUMENT = """'[{"customerId": "c", "products": [{"productId": "x", "quantity": 1}], "idempotencyKey": "k"}]'"""
REPLIES = """'[{"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed"}, {"orderId": 2, "vendorId": "a", "attempt": 1, "status": "rejected"}]'"""
FEED = """'[{"id": "x", "name": "X", "quantity": 1}, {"id": "new", "quantity": 5}]'"""
ARRAYS = "'{0,1}', '{new,x}', '{n,NULL}', '{5,1}', '{2,NULL}', '{NULL,NULL}'"

# what a call does to the database of given_a_bit_of_everything()
CALLS = {
    "accept_feed": "accept_feed('a')",
    "apply_feed_part": f"apply_feed_part(:feed, NULL, NULL, {ARRAYS})",
    "apply_vendor_replies": f"apply_vendor_replies({REPLIES})",
    "apply_vendor_replies_skip_locked": f"apply_vendor_replies_skip_locked({REPLIES})",
    "ask_silent_vendors": "ask_silent_vendors('1 us')",
    "begin_feed": "begin_feed('a', now(), 'asOf', NULL, NULL, 2, 0, 2, '{x,new}')",
    "cancel_order": "cancel_order(1, 'why')",
    "cancel_order_once": "cancel_order_once(1, 'why', 'once')",
    "claim_due_feeds": "claim_due_feeds('1 min', 9)",
    "configure_product": "configure_product('x', buffer => 1, low_threshold => 9, lanes => 4::text)",
    "configure_product of a vendor": "configure_product('x', buffer => 1, vendor_id => 'a')",
    "configure_vendor": """configure_vendor('a', '1 min', '{"decimal": "."}', 1, 'reject', true, 'a', '{order_bridge}', '1 h', 50)""",
    "confirm_order": "confirm_order(1, 'a')",
    "confirm_order by all": "confirm_order(1)",
    "defer_events": "defer_events('{1,2}', 'full')",
    "deferred_events_sent": "deferred_events_sent('{3}')",
    "drop_outbox_partitions": "drop_outbox_partitions('1 us')",
    "expire_orders": "expire_orders()",
    "expire_orders_skip_locked": "expire_orders_skip_locked()",
    "finish_feed": "finish_feed(:feed)",
    "forget_feed_syncs": "forget_feed_syncs('1 us')",
    "forget_idempotency_keys": "forget_idempotency_keys('1 us')",
    "leave_order_ids": "leave_order_ids()",
    "make_outbox_partitions": "make_outbox_partitions(3)",
    "map_product": "map_product('a', 'sku', 'x')",
    "map_products": """map_products('a', '[{"vendorSku": "sku", "productId": "y"}]')""",
    "park_event": "park_event(1, 404, 'no')",
    "place_order": """place_order('c', '[{"productId": "x", "quantity": 1}, {"productId": "lanes", "quantity": 2}]', 'key', hold_for => '1 min')""",
    "place_order_documents": f"place_order_documents({DOCUMENT})",
    "place_order_documents_skip_locked": f"place_order_documents_skip_locked({DOCUMENT})",
    "place_orders": f"place_orders({DOCUMENT})",
    "postpone_feed": "postpone_feed('a', :feed, 'later', '1 min')",
    "publish_event": "publish_event('shop.told', '{}')",
    "record_feed_pull": "record_feed_pull('a', :feed, 'failed', 'why', 1, '1 min')",
    "redrive_parked_events": "redrive_parked_events()",
    "register_vendor": "register_vendor('a', 'another', 'http://127.0.0.1/', 3)",
    "reject_order": "reject_order(1, 'a', 'none left')",
    "relay_acquire": "relay_acquire('me')",
    "relay_advance": "relay_advance(1, pg_current_snapshot(), 1, pg_current_snapshot(), 2, 1, now())",
    "return_order": "return_order(3, idempotency_key => 'r')",
    "settle_shortages": "settle_shortages()",
    "settle_shortages_skip_locked": "settle_shortages_skip_locked()",
    "sync_vendor_stock": f"sync_vendor_stock('a', {FEED})",
    "tell_stale_vendors": "tell_stale_vendors()",
}
# write nothing, or are called by those above; what the owner alone may, once
OTHERS = {"guard_hold", "guard_order", "guard_outbox", "guard_reference", "guard_stock", "ring_doorbell", "settle_closed_orders", "next_xid", "open_to_public",
          "outbox_head", "refused_feed", "relay_fall_asleep", "relay_try_lead", "relay_wake_up"}
# by hand
STATEMENTS = {
    "order cancelled by hand": "UPDATE order_aggregator.orders SET status = 'cancelled' WHERE order_id = 1",
    "orders expired by hand": "UPDATE order_aggregator.orders SET status = 'expired' WHERE order_id IN (1, 2)",
    "stock set by hand": "UPDATE order_aggregator.stock SET on_hand = on_hand + 5 WHERE product_id = 'x'",
}


def given_a_bit_of_everything(world):
    """Returns the running feed. Orders 1, 2 pending, 3 confirmed, 4 to be expired; offers with and without lanes, too few of one; a running feed, a stale one; events parked and deferred."""
    world.stock(a={"x": 50, "y": 50, "lanes": 50, "short": 1}, b={"x": 50, "short": 5}, c={"z": 1})
    db = world.db
    for sql in ("SELECT order_aggregator.configure_product('lanes', lanes => '4')",
                "SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')",
                "SELECT order_aggregator.place_order('c', '[{\"productId\": \"lanes\", \"quantity\": 1}, {\"productId\": \"x\", \"quantity\": 1}]', 'first')",
                "SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')",
                "SELECT order_aggregator.confirm_order(3)",
                "SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]', hold_for => '1 ms')",
                "SELECT order_aggregator.place_order('c', '[{\"productId\": \"short\", \"quantity\": 1}]')",
                "SELECT order_aggregator.configure_vendor('a', on_shortage => 'resource', drop_limit => 100)",
                "SELECT order_aggregator.register_vendor('b', 'b', 'http://127.0.0.1/', 1)",
                "SELECT order_aggregator.configure_vendor('c', stale_after => '1 ms')",
                "SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 40}, {\"id\": \"lanes\", \"quantity\": 40}, {\"id\": \"short\", \"quantity\": 0}]')",
                "SELECT order_aggregator.park_event(2, 404, 'no')", "SELECT order_aggregator.defer_events('{3}', 'full')"):
        db.execute(sql)
    return world.value("SELECT order_aggregator.begin_feed('a', now())")


def all_calls(feed):
    """name -> SQL; feed: the running one."""
    calls = {name: f"SELECT * FROM order_aggregator.{call}".replace(":feed", str(feed)) for name, call in CALLS.items()}
    return calls | STATEMENTS
