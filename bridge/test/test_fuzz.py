"""Mutated requests, replies and feeds against the extension: an error that says why, or a sane result; never a crash, never a broken invariant.

Seeded: FUZZ_SEED=7 FUZZ_SECONDS=300 pytest bridge/test/test_fuzz.py replays a run for longer.
"""

import copy
import json
import os
import random
import time

import psycopg
import requests

SEED = int(os.environ.get("FUZZ_SEED", time.time() // 86400))
SECONDS = float(os.environ.get("FUZZ_SECONDS", 5))
ODD = [None, True, False, 0, -1, 1, 2, 1.5, 1e308, -1e-9, 10**9, 10**9 + 1, 2**63 - 1, 2**63, 10**40, "", " ", "x", "y", "a", "é" * 64, "x" * 129, "\u0001", "\\", '"',
       "'; DROP TABLE orders; --", "9" * 500, [], {}, [[]], [{}], {"": ""}, "confirmed", "rejected", "cheapest", "1 hour", "infinity", "-1 day", "vendor_a", "2026-13-45"]
SEEDS = {
    "place_orders": [{"customerId": "c", "products": [{"productId": "x", "quantity": 1}, {"vendorProductId": "y", "quantity": 2}], "idempotencyKey": "k", "strategy": "priority",
                      "holdFor": "1 hour", "allowPartial": True, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {"productId": "x", "quantity": 1}],
    "apply_vendor_replies": [{"orderId": 1, "vendorId": "a", "attempt": 1, "status": "confirmed", "reason": "r"}, {"orderId": 2, "vendorId": "b", "attempt": 1, "status": "rejected"}],
    "sync_vendor_stock": [{"id": "x", "name": "X", "quantity": 50, "price": 9.99}, {"productId": "y", "stock": 5}, {"id": "z", "quantity": 1, "price": "1.25"}],
}


def places(value, path=()):
    """Every place in a JSON value, as (container, key)."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in list(items):
        yield value, key
        yield from places(member)


def odd(chooser):
    return copy.deepcopy(chooser.choice(ODD))


def mutated(chooser, seed):
    value = copy.deepcopy(seed)
    for _ in range(chooser.randint(1, 4)):
        spots = list(places(value))
        if not spots:
            return odd(chooser)
        container, key = chooser.choice(spots)
        act = chooser.randint(0, 4)
        if act <= 1:
            container[key] = odd(chooser)
        elif act == 2:
            del container[key]
        elif act == 3 and isinstance(container, dict):
            container[str(chooser.choice(ODD))[:100]] = odd(chooser)
        elif isinstance(container, list):
            container.extend(copy.deepcopy(container)[:50])
    return value if chooser.random() > 0.02 else odd(chooser)


def test_mutated_json_against_the_functions_and_http(world):
    world.stock(a={"x": 1000000, "y": 1000}, b={"x": 10})
    bridge = world.ready_bridge("--roles=http", ACCESS_LOG="no")
    session = requests.Session()
    chooser = random.Random(SEED)
    until, calls, refused = time.monotonic() + SECONDS, 0, 0
    print(f"FUZZ_SEED={SEED}")
    while time.monotonic() < until:
        name = chooser.choice(list(SEEDS))
        value = mutated(chooser, SEEDS[name])
        calls += 1
        try:
            if name == "sync_vendor_stock":
                world.db.execute("SELECT order_aggregator.sync_vendor_stock('b', %s)", [psycopg.types.json.Jsonb(value)])
            else:
                world.db.execute(f"SELECT * FROM order_aggregator.{name}(%s)", [psycopg.types.json.Jsonb(value)])
        except psycopg.Error as error:
            refused += 1
            assert error.sqlstate and (error.sqlstate[:2] in ("22", "OA")), (name, error.sqlstate, str(error), json.dumps(value))
        if name == "place_orders" and isinstance(value, list) and value:
            answer = session.post(f"{bridge.url}/order", data=json.dumps(value[0]), headers={"Content-Type": "application/json"}, timeout=10)
            assert answer.status_code in (201, 400, 404, 409, 422), (answer.status_code, answer.text, json.dumps(value[0]))
            assert answer.status_code == 201 or {"type", "title", "status", "detail", "error", "details"} <= answer.json().keys()
    assert calls > 100 and refused > 0
    world.consistent()
