"""The path of an order through the programs, as their clients see it."""

import json
import os
import re
import subprocess
import sys

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, TOP, die_with_the_test, wait_until


def order_of(bridge, order_id):
    return requests.get(f"{bridge.url}/order/{order_id}", timeout=PATIENCE_S).json()


def wait_closed(bridge, order_id):
    return wait_until(lambda: (lambda o: o if o["status"] != "pending" else None)(order_of(bridge, order_id)), what="the order to close")


def register_sample_vendors(world, sim):
    for vendor in ("A", "B"):
        world.db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)",
                         [f"vendor-{vendor.lower()}", f"Vendor {vendor}", f"{sim.url}/vendor{vendor}/stock"])


def test_both_older_bodies_are_placed_pending_and_confirmed_by_the_worker(world):
    sim = world.vendors()
    register_sample_vendors(world, sim)
    bridge = world.ready_bridge()
    synced = requests.get(f"{bridge.url}/vendorSync", timeout=PATIENCE_S).json()
    assert [(r["vendorId"], r["error"]) for r in synced["results"]] == [("vendor-a", None), ("vendor-b", None)]

    products = requests.get(f"{bridge.url}/products", timeout=PATIENCE_S).json()
    assert products["isSuccess"] and len(products["data"]) == 10

    answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={
        "products": [{"vendorProductId": "product-1", "quantity": 2}, {"vendorProductId": "product-3", "quantity": 4},
                     {"vendorProductId": "product-5", "quantity": 9}], "customerId": "Custoemr Beta"})
    assert answer.status_code == 201
    order = answer.json()["order"]
    assert answer.headers["Location"] == f"/order/{order['id']}" and answer.json()["orderId"] == order["id"]
    assert (order["status"], order["totalAmount"], order["customerId"]) == ("pending", "4827.89", "Custoemr Beta")
    assert [(line["productId"], line["quantity"]) for line in order["lines"]] == [("product-1", 2), ("product-3", 4), ("product-5", 9)]
    assert wait_closed(bridge, order["id"])["status"] == "confirmed"

    answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "product-1", "quantity": 2})
    assert answer.status_code == 201
    closed = wait_closed(bridge, answer.json()["orderId"])
    assert [h["event"] for h in closed["history"]][0] == "placed" and closed["status"] == "confirmed"
    world.consistent()


def test_too_much_is_refused_with_what_there_is(world):
    world.stock(a={"x": 3}, b={"x": 4})
    bridge = world.ready_bridge()
    answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 2000})
    problem = answer.json()
    assert answer.status_code == 409 and answer.headers["Content-Type"] == "application/problem+json"
    assert problem["error"] == "Insufficient stock" and problem["details"]["available"] == 7
    assert [v["vendorId"] for v in problem["details"]["vendors"]] == ["a", "b"]
    world.consistent()


def test_one_line_too_large_leaves_the_others_unreserved(world):
    """The older system's invalid order."""
    world.stock(a={"product-1": 100, "product-3": 100})
    bridge = world.ready_bridge()
    answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={
        "products": [{"vendorProductId": "product-1", "quantity": 2000}, {"vendorProductId": "product-3", "quantity": 4}], "customerId": "Custoemr Beta"})
    assert answer.status_code == 409 and answer.json()["details"]["productId"] == "product-1"
    assert world.value("SELECT sum(reserved) FROM order_aggregator.stock") == 0 and world.statuses() == {}
    world.consistent()


def test_what_is_between_bridge_and_database_is_no_field_of_a_client_s(world):
    world.stock(a={"x": 3})
    bridge = world.ready_bridge()
    answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 9, "dropRefusal": True}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 400 and answer.json()["field"] == "dropRefusal"
    assert world.value("SELECT count(*) FROM order_aggregator.idempotency") == 0


def test_the_readme_s_worker_confirms_what_it_takes(world):
    world.stock(a={"x": 3}, b={"x": 3})
    bridge = world.ready_bridge()
    code = re.search(r"```python\n(.*?)```", (TOP / "README.md").read_text(), re.DOTALL)[1]
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **world.env}, preexec_fn=die_with_the_test)
    try:
        answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 5})
        closed = wait_closed(bridge, answer.json()["orderId"])
    finally:
        worker.kill()
        worker.wait(timeout=PATIENCE_S)
    assert closed["status"] == "confirmed" and {hold["vendorId"] for hold in closed["holds"]} == {"a", "b"}
    world.consistent()


def test_an_order_that_cannot_be_closed_is_in_the_log(world):
    world.stock(a={"x": 3})
    world.db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]', hold_for => '1 second')")
    world.db.execute("ALTER TABLE order_aggregator.hold ADD CONSTRAINT mine CHECK (status <> 'released')")
    bridge = world.ready_bridge("--roles=http,housekeeping")
    wait_until(lambda: bridge.logged("warning") and bridge.logged("1 order cannot be expired"), what="the warning")
    world.db.execute("ALTER TABLE order_aggregator.hold DROP CONSTRAINT mine")
    wait_until(lambda: world.statuses() == {"expired": 1}, what="it to expire")


def test_placed_event_has_the_contract_s_properties_and_body(world):
    world.stock(a={"x": 3})
    queue = world.listen("order.placed.a", "order.confirmed")
    bridge = world.ready_bridge()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 2, "customerId": "c"}, headers={"traceparent": trace})
    wait_until(lambda: world.depth(queue) == 1, what="the event")
    [(properties, body, key)] = world.take(queue)
    assert key == "order.placed.a" and properties.type == key and properties.content_type == "application/json"
    assert properties.delivery_mode == 2 and len(properties.message_id) == 36 and properties.timestamp > 1_600_000_000
    assert properties.headers == {"traceparent": trace}
    placed = json.loads(body)
    assert placed["lines"] == [{"lineNo": 1, "productId": "x", "vendorSku": "x", "quantity": 2, "unitPrice": "1.00"}]
    assert (placed["orderId"], placed["vendorId"], placed["attempt"], placed["customerId"]) == (1, "a", 1, "c")
    assert placed["placedAt"].endswith("Z") and placed["expiresAt"].endswith("Z")

    world.reply(json.dumps({"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed"}))
    assert wait_closed(bridge, 1)["status"] == "confirmed"
    wait_until(lambda: world.depth(queue) == 1, what="order.confirmed")


def test_headers_of_an_event_of_one_s_own_keep_their_kinds(world):
    queue = world.listen("mine.#")
    world.ready_bridge()
    headers = {"empty": "", "text": "Gr\u00f6\u00dfe \u20ac", "whole": 7, "most": 2**63 - 1, "beyond": 10**22, "yes": True, "no": False}
    for n in range(2):      # one by itself, and some together
        world.db.execute("SELECT order_aggregator.publish_event('mine.' || n, to_jsonb(n), %s) FROM generate_series(0, %s) AS n", [json.dumps(headers), 9 * n])
    wait_until(lambda: world.depth(queue) == 11, what="the events")
    for properties, body, key in world.take(queue):
        assert properties.headers == headers        # "beyond" is a double; pika makes whole numbers of those (and knows none below 0)
        assert isinstance(properties.headers["yes"], bool) and not isinstance(properties.headers["whole"], bool)
        assert (properties.type, key) == (f"mine.{json.loads(body)}",) * 2


def test_a_vendor_rejects_and_another_serves(world):
    world.stock(cheap={"x": 5}, dear={"x": 5})
    world.vendors("--reject-vendor=cheap", "--reject-percent=100", "--duplicate-percent=100")
    bridge = world.ready_bridge()
    assert world.place(5) == 5
    wait_until(lambda: world.statuses() == {"confirmed": 5}, what="all to be confirmed")
    assert [h["vendorId"] for h in order_of(bridge, 1)["holds"]] == ["cheap", "dear"]
    world.consistent()


def test_a_silent_vendor_s_orders_expire_and_its_late_confirmation_is_answered(world):
    world.stock(quiet={"x": 5})
    queue = world.listen("order.cancelled.quiet")
    bridge = world.ready_bridge()
    answer = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 5, "holdFor": "200 ms"})
    assert wait_closed(bridge, answer.json()["orderId"])["status"] == "expired"
    world.reply(json.dumps({"orderId": 1, "vendorId": "quiet", "attempt": 1, "status": "confirmed"}))
    wait_until(lambda: world.depth(queue) == 2, what="two cancellations: at expiry, and to the late confirmation")
    assert requests.get(f"{bridge.url}/products/x", timeout=PATIENCE_S).json()["available"] == 5
    world.consistent()


def test_cancel_and_unknown_orders(world):
    world.stock(a={"x": 3})
    bridge = world.ready_bridge()
    requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 2})
    assert requests.post(f"{bridge.url}/order/1/cancel", timeout=PATIENCE_S, json={"reason": "no need"}).status_code == 200
    assert order_of(bridge, 1)["reason"] == "no need"
    assert requests.post(f"{bridge.url}/order/1/cancel", timeout=PATIENCE_S).status_code == 409
    assert requests.post(f"{bridge.url}/order/1/cancel", timeout=PATIENCE_S, json={"why": 1}).status_code == 400
    for path in ("/order/99", "/order/x", "/order/99999999999999999999", "/products/none", "/nothing"):
        assert requests.get(bridge.url + path, timeout=PATIENCE_S).status_code == 404
    assert requests.post(f"{bridge.url}/order/99/cancel", timeout=PATIENCE_S).status_code == 404
    world.consistent()


def test_one_idempotency_key_has_one_answer_also_after_a_crash(world):
    world.stock(a={"x": 3})
    bridge = world.ready_bridge()
    body, headers = {"productId": "x", "quantity": 2}, {"Idempotency-Key": "k1"}
    first = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json=body, headers=headers)
    refused = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 9}, headers={"Idempotency-Key": "k2"})
    bridge.kill()
    bridge = world.ready_bridge()
    again = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json=body, headers=headers)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    world.db.execute("SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 50}]')")
    again = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 9}, headers={"Idempotency-Key": "k2"})
    assert (again.status_code, again.json()) == (409, refused.json())
    other = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={"productId": "x", "quantity": 1}, headers=headers)
    assert other.status_code == 422
    both = requests.post(f"{bridge.url}/order", timeout=PATIENCE_S, json={**body, "idempotencyKey": "k9"}, headers=headers)
    assert both.status_code == 400 and both.json()["field"] == "Idempotency-Key"
    assert world.statuses() == {"pending": 1}
    world.consistent()


BAD_BODIES = [
    (b"", 400, "body"), (b"not json", 400, "body"), (b"[]", 400, "body"), (b"7", 400, "body"), (b'{"productId": "x"', 400, "body"),
    (b'{"productId": "x", "quantity": 1\0}', 400, "body"),
    (b'{"productId": "\xff\xfe", "quantity": 1}', 400, "body"), (b'{"productId": "a\\u0000b", "quantity": 1}', 400, "body"),
    (b'{"productId": "\\ud800", "quantity": 1}', 400, "body"), (b'{"productId": "x", "quantity": 1, "quantity": 2}', 400, "body"),
    (b"[" * 5000, 400, "body"), (b"{}", 400, "products"), (b'{"products": []}', 400, "products"),
    (b'{"productId": "x", "quantity": 0}', 400, "quantity"), (b'{"productId": "x", "quantity": -1}', 400, "quantity"),
    (b'{"productId": "x", "quantity": 1.5}', 400, "quantity"), (b'{"productId": "x", "quantity": "1"}', 400, "quantity"),
    (b'{"productId": "x", "quantity": 99999999999999999999}', 400, "quantity"), (b'{"productId": "x", "quantity": 1e300}', 400, "quantity"),
    (b'{"productId": "x", "quantity": 1, "colour": 1}', 400, "colour"), (b'{"productId": "nowhere", "quantity": 1}', 404, "productId"),
    (b'{"products": [{"productId": "x", "quantity": 1, "size": 2}]}', 400, "products[0].size"),
    (b'{"productId": "x", "quantity": 1, "idempotencyKey": 7}', 400, "idempotencyKey"),
]


def test_bad_bodies_get_an_error_that_names_the_field_and_change_nothing(world):
    world.stock(a={"x": 100})
    bridge = world.ready_bridge()
    for body, status, field in BAD_BODIES:
        answer = requests.post(f"{bridge.url}/order", data=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["field"]) == (status, field), body
        assert answer.json()["status"] == status and answer.headers["Content-Type"] == "application/problem+json"
    huge = requests.post(f"{bridge.url}/order", data=b" " * 2_000_000, headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
    assert huge.status_code == 413
    typed = requests.post(f"{bridge.url}/order", data=b"{}", headers={"Content-Type": "text/plain"}, timeout=PATIENCE_S)
    assert typed.status_code == 415
    wrong = requests.get(f"{bridge.url}/order", timeout=PATIENCE_S)
    assert wrong.status_code == 405 and "POST" in wrong.headers["Allow"]
    assert requests.options(f"{bridge.url}/products", timeout=PATIENCE_S).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert requests.head(f"{bridge.url}/products", timeout=PATIENCE_S).status_code == 200
    assert requests.get(f"{bridge.url}/products?limit=0", timeout=PATIENCE_S).json()["field"] == "limit"
    assert world.statuses() == {} and world.value("SELECT reserved FROM order_aggregator.stock") == 0
    assert requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200


BAD_ACTIONS = [
    ("cancel", {"reason": "x" * 2000}, 400, "reason"), ("cancel", {"reason": 7}, 400, "reason"), ("cancel", {"colour": 1}, 400, "colour"),
    ("cancel", {"reason": "again", "idempotencyKey": "k"}, 422, "idempotencyKey"),
    ("return", {"idempotencyKey": "k"}, 422, "idempotencyKey"), ("return", {"idempotencyKey": "k" * 300}, 400, "idempotencyKey"), ("cancel", {"idempotencyKey": "k\n"}, 400, "idempotencyKey"),
    ("return", {"lines": []}, 400, "lines"), ("return", {"lines": {}}, 400, "lines"), ("return", {"restock": 1}, 400, "restock"),
    ("return", {"lines": ["x"]}, 400, "lines[0]"), ("return", {"lines": [{"quantity": 1}]}, 400, "lines[0].productId"),
    ("return", {"lines": [{"productId": "x", "quantity": 1}, {"productId": "x", "quantity": 0}]}, 400, "lines[1].quantity"),
    ("return", {"lines": [{"productId": "x", "quantity": 1.5}]}, 400, "lines[0].quantity"), ("return", {"lines": [{"productId": 7, "quantity": 1}]}, 400, "lines[0].productId"),
    ("return", {"lines": [{"productId": "x", "quantity": 1, "size": 2}]}, 400, "lines[0].size"),
]


def test_bad_cancels_and_returns_get_an_error_that_names_the_field_and_change_nothing(world):
    world.stock(a={"x": 100})
    bridge = world.ready_bridge("--roles=http")
    assert world.place(2) == 2
    world.db.execute("SELECT order_aggregator.confirm_order(1)")
    assert requests.post(f"{bridge.url}/order/2/cancel", json={"reason": "once", "idempotencyKey": "k"}, timeout=PATIENCE_S).status_code == 200
    for action, body, status, field in BAD_ACTIONS:
        answer = requests.post(f"{bridge.url}/order/{1 if action == 'return' else 2}/{action}", json=body, timeout=PATIENCE_S)
        assert (answer.status_code, answer.json().get("field")) == (status, field), (action, body, answer.text)
    # and in SQL it is the error's column
    with pytest.raises(psycopg.errors.InvalidParameterValue) as error:
        world.db.execute("""SELECT order_aggregator.return_order(1, '[{"productId": "x", "quantity": 0}]')""")
    assert error.value.diag.column_name == "lines[0].quantity"
    assert world.statuses() == {"confirmed": 1, "cancelled": 1} and world.value("SELECT count(*) FROM order_aggregator.order_return") == 0
    world.consistent()


def test_products_come_in_pages(world):
    world.stock(a={f"p{n}": n for n in range(5)}, b={f"p{n}": n for n in range(5)})
    bridge = world.ready_bridge()
    seen, after = [], ""
    while after is not None:
        page = requests.get(f"{bridge.url}/products", params={"after": after, "limit": 3}, timeout=PATIENCE_S).json()
        seen += [(p["id"], p["vendorId"]) for p in page["data"]]
        after = page["next"]
    assert seen == [(f"p{n}", v) for n in range(5) for v in "ab"]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_go_by_the_order_they_are_in(world, limit):
    """Ids of which one is the start of another, or that have the cursor's own slash in them."""
    ids = ["ABC", "ABC-1", "ABC/1", "ABC.", "AB", "ABCD", "Z", "a", "ü", "A b", "ABC-", "A/", "A//x"]
    world.stock(a={i: 1 for i in ids}, **{"b-2": {i: 1 for i in ids}, "B": {i: 1 for i in ids}})
    bridge = world.ready_bridge("--roles=http")
    seen, after = [], ""
    while after is not None:
        page = requests.get(f"{bridge.url}/products", params={"after": after, "limit": limit}, timeout=PATIENCE_S).json()
        assert len(page["data"]) <= limit
        seen += [(p["id"], p["vendorId"]) for p in page["data"]]
        after = page["next"]
    assert seen == sorted(((i, v) for i in ids for v in ("a", "b-2", "B")), key=lambda pair: (pair[0].encode(), pair[1].encode()))


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/vendors", "/healthz"])
def test_other_routes_answer(world, path):
    bridge = world.ready_bridge()
    answer = requests.get(bridge.url + path, timeout=PATIENCE_S)
    assert answer.status_code == 200 and answer.text
    if path == "/openapi.json":
        assert "/order/{id}/cancel" in answer.json()["paths"]


def test_vendor_simulator_routes(world):
    sim = world.vendors("--worker=no")
    feed = requests.get(f"{sim.url}/vendorB/stock", timeout=PATIENCE_S).json()
    assert set(feed[0]) == {"id", "name", "quantity", "price"}
    assert {v["id"] for v in requests.get(f"{sim.url}/vendor", timeout=PATIENCE_S).json()} == {"vendor-a", "vendor-b"}
    assert requests.post(f"{sim.url}/vendor/vendor-a/stock", json={"productId": "new", "stock": 7}, timeout=PATIENCE_S).status_code == 200
    assert {"productId": "new", "stock": 7} in requests.get(f"{sim.url}/vendor/vendor-a/stock", timeout=PATIENCE_S).json()
    for body in ({"productId": "new", "stock": -1}, {"productId": "new"}, {"stock": 1}, []):
        assert requests.post(f"{sim.url}/vendor/vendor-a/stock", json=body, timeout=PATIENCE_S).status_code == 400
    assert requests.get(f"{sim.url}/vendor/nobody/stock", timeout=PATIENCE_S).status_code == 404
