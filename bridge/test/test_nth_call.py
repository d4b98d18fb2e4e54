"""An allocation, a send, a receive or a query of the bridge fails: the nth, for n from 1 until an order goes its way without it.

Whether the bridge goes on or dies: no order is lost, none is placed twice, and it works again.
By default each NTH_STEP-th n is tried; `make check-nth` tries them all.
"""

import json
import mmap
import os
import struct

import pytest
import requests
from conftest import BUILD, PATIENCE_S, wait_until

STEP = int(os.environ.get("NTH_STEP", 61))
LIBRARY = BUILD / "test" / "nth_call.so"
KINDS = {"allocation": "a", "send": "s", "receive": "r", "query": "q"}


class NthCall:
    """Which call of the bridge fails; see nth_call.c."""

    def __init__(self, path):
        path.write_bytes(bytes(24))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 24)
        self.settings = {"NTH_CALL": str(path), "LD_PRELOAD": str(LIBRARY)}

    def arm(self, kind, n):
        struct.pack_into("qqq", self.memory, 0, 0, n, 0)
        struct.pack_into("q", self.memory, 0, ord(kind))

    def disarm(self):
        """Has a call failed?"""
        struct.pack_into("q", self.memory, 0, 0)
        return struct.unpack_from("q", self.memory, 16)[0] == 1


def accepted(bridge, n):
    """The id of the order of the nth key, asked for again until there is one; None if the bridge has died."""
    try:
        answer = requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1, "idempotencyKey": f"key {n}"}, timeout=PATIENCE_S)
    except requests.RequestException:
        return None
    assert answer.status_code in (201, 500, 503), f"{answer.status_code} {answer.text}"
    return answer.json()["orderId"] if answer.status_code == 201 else None


@pytest.mark.skipif(not LIBRARY.exists(), reason="not with a sanitizer")
@pytest.mark.parametrize("kind", KINDS)
def test_the_nth_call_fails(world, tmp_path, kind):
    world.stock(a={"x": 1_000_000})
    queue, nth = world.listen("order.confirmed"), NthCall(tmp_path / "nth_call")
    world.vendors()
    settings = {**nth.settings, "ASK_AGAIN_S": "1", "RELAY_LEASE_S": "1"}
    bridge = world.ready_bridge(**settings)
    n, orders, deaths = 1, {}, 0

    def goes_its_way():
        """The nth order is accepted and confirmed."""
        nonlocal bridge, deaths
        if bridge.process.poll() is not None:
            deaths += 1
            bridge = world.ready_bridge(**settings)
        if n not in orders:
            order = accepted(bridge, n)
            if order is not None:
                orders[n] = order
        return n in orders and world.value("SELECT status FROM order_aggregator.orders WHERE order_id = %s", orders[n]) == "confirmed"
    while True:
        nth.arm(KINDS[kind], n)
        wait_until(goes_its_way, what=f"order {n}")
        if not nth.disarm():
            break
        n += STEP
    assert n > 1, "nothing has failed"
    print(f"{len(orders)} orders, up to call {n}; the bridge died {deaths} times")
    bridge.wait_for("/readyz")
    assert len(set(orders.values())) == len(orders) == world.value("SELECT count(*) FROM order_aggregator.orders")
    assert {json.loads(body)["orderId"] for _, body, _ in world.take_orders(queue, orders.values())} == set(orders.values())
    world.consistent()
