"""An allocation, a send, a receive or a query of the bridge fails: the nth, for n from 1 until an order goes its way without it.

Whether the bridge goes on or dies: no order is lost, none is placed twice, and it works again.
By default some n are tried (KINDS); `make check-nth` tries them all (NTH_STEP=1).
"""

import json
import mmap
import os
import signal
import struct

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, SANITIZED, preloaded, wait_until

KINDS = {"allocation": ("a", 61), "send": ("s", 7), "receive": ("r", 7), "query": ("q", 5)}     # and the step by default


class NthCall:
    """Which call of the bridge fails; see nth_call.c."""

    def __init__(self, path):
        path.write_bytes(bytes(24))
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 24)
        self.settings = {"NTH_CALL": str(path), **preloaded("nth_call")}

    def arm(self, kind, n):
        struct.pack_into("qqq", self.memory, 0, 0, n, 0)
        struct.pack_into("q", self.memory, 0, ord(kind))

    def disarm(self):
        """Has a call failed?"""
        struct.pack_into("q", self.memory, 0, 0)
        return struct.unpack_from("q", self.memory, 16)[0] == 1


class Order:
    """Goes its way by HTTP, one step after the other, each asked for again until it is done."""

    def __init__(self, n):
        self.n, self.id, self.steps = n, None, [self.place, self.place_without_key, self.is_confirmed, self.look, self.send_back, self.pull]
        self.told_key, self.others, self.unanswered = None, 0, 0
        self.trace = {"traceparent": f"00-{n:032x}-{n:016x}-01"}

    def ask(self, method, bridge, path, **more):
        """The answer; None if there is none, or one that says to try again."""
        try:
            answer = requests.request(method, bridge.url + path, timeout=PATIENCE_S, **more)
        except requests.RequestException:
            return None
        assert answer.status_code in (200, 201, 500, 503), f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.status_code < 300 else None

    def place(self, bridge, world):
        answer = self.ask("POST", bridge, "/order", json={"productId": "x", "quantity": 1, "idempotencyKey": f"key {self.n}"}, headers=self.trace)
        if answer is not None:
            self.id = answer["orderId"]
        return answer is not None

    def place_without_key(self, bridge, world):
        """What is said not to have been done was not; else a key to ask with is told."""
        headers = self.trace | ({"Idempotency-Key": self.told_key} if self.told_key else {})
        try:
            answer = requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1}, headers=headers, timeout=PATIENCE_S)
        except requests.RequestException:
            self.unanswered, self.told_key = self.unanswered + 1, None
            return False
        assert answer.status_code in (201, 503), f"{answer.status_code} {answer.text}"
        self.others += answer.status_code == 201
        self.told_key = answer.headers.get("Idempotency-Key", self.told_key)
        return answer.status_code == 201

    def is_confirmed(self, bridge, world):
        return world.value("SELECT status FROM order_aggregator.orders WHERE order_id = %s", self.id) == "confirmed"

    def look(self, bridge, world):
        answer = self.ask("GET", bridge, f"/order/{self.id}")
        assert answer is None or (answer["id"], answer["status"]) == (self.id, "confirmed"), answer
        return answer is not None

    def send_back(self, bridge, world):
        return self.ask("POST", bridge, f"/order/{self.id}/return", json={"restock": False}, headers={"Idempotency-Key": f"return {self.n}"}) is not None

    def pull(self, bridge, world):
        """A feed, which is JSON."""
        answer = self.ask("POST", bridge, "/vendors/fed/sync")
        return answer is not None and answer["results"][0]["status"] in ("applied", "unchanged")

    def goes_on(self, bridge, world):
        while self.steps and self.steps[0](bridge, world):
            self.steps.pop(0)
        return not self.steps


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be loaded first")
@pytest.mark.parametrize("kind", KINDS)
def test_the_nth_call_fails(world, tmp_path, kind):
    world.stock(a={"x": 1_000_000})
    queue, nth = world.listen("order.confirmed"), NthCall(tmp_path / "nth_call")
    feed = f"{world.vendors().url}/vendorA/stock"
    world.db.execute(f"SELECT order_aggregator.register_vendor('fed', 'F', '{feed}'); UPDATE order_aggregator.vendor SET next_sync_at = 'infinity' WHERE vendor_id = 'fed'")
    settings = {**nth.settings, "ASK_AGAIN_S": "1", "RELAY_LEASE_S": "3"}
    bridge = world.ready_bridge(**settings)
    n, orders, deaths = 1, [], []
    letter, step = KINDS[kind]
    step = int(os.environ.get("NTH_STEP", step))

    def goes_on():
        nonlocal bridge
        if bridge.process.poll() is not None:
            assert bridge.process.returncode not in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL), bridge.log_path.read_text()
            deaths.append(n)
            bridge = world.ready_bridge(**settings)
        return orders[-1].goes_on(bridge, world)
    while True:
        orders.append(Order(n))
        nth.arm(letter, n)
        wait_until(goes_on, what=f"order {n}")
        if not nth.disarm():
            break
        n += step
    assert len(orders) > 4, "hardly anything has failed"
    print(f"{len(orders)} orders, up to call {n}; the bridge died at {deaths}")
    bridge.wait_for("/readyz")
    ids = [order.id for order in orders]
    placed = {row[0] for row in world.db.execute("SELECT order_id FROM order_aggregator.orders").fetchall()}
    assert len(set(ids)) == len(ids) and set(ids) <= placed
    others = sum(order.others for order in orders)
    assert others <= len(placed) - len(ids) <= others + sum(order.unanswered for order in orders)
    assert sorted(ids) == [row[0] for row in world.db.execute("SELECT order_id FROM order_aggregator.order_return ORDER BY 1").fetchall()]
    told = world.take_orders(queue, ids)
    assert {json.loads(body)["orderId"] for _, body, _ in told} >= set(ids)
    assert all(properties.headers["traceparent"].startswith("00-") for properties, _, _ in told)
    world.consistent()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be loaded first")
@pytest.mark.parametrize("wanted", [None, "variable", "url", "service"])
def test_a_ticket_is_looked_for_only_if_it_is_wanted(world, tmp_path, wanted):
    """Kerberos' library reads through NULL where memory is short, and libpq asks it at each connection by TCP."""
    nth = NthCall(tmp_path / "nth_call")
    (tmp_path / "services").write_text("\n".join(["[shop]", "gssencmode=prefer", *(f"{name}={value}" for name, value in psycopg.conninfo.conninfo_to_dict(world.url).items())]))
    settings = {"variable": {"PGGSSENCMODE": "prefer"}, "url": {"DATABASE_URL": f"{world.url}?gssencmode=prefer"},
                "service": {"DATABASE_URL": "service = shop", "PGSERVICEFILE": str(tmp_path / "services")}}.get(wanted, {})
    nth.arm("t", 1)
    found = world.command("status", **nth.settings, **settings)
    assert (found.returncode, nth.disarm()) == (0, wanted is not None), found.stderr
