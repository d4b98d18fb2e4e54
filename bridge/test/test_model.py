"""Random placing, confirming, rejecting, cancelling, expiring and syncing from many sessions, against a simple model.

Seeded: MODEL_SEED=7 MODEL_SECONDS=60 pytest bridge/test/test_model.py replays the choices of a run for longer.
"""

import os
import random
import threading
import time

import psycopg
import pytest
from conftest import wait_until
from psycopg.types.json import Jsonb

SEED = int(os.environ.get("MODEL_SEED", 1))
SECONDS = float(os.environ.get("MODEL_SECONDS", 5))
PRODUCTS = [f"p{n}" for n in range(6)]
VENDORS = ["a", "b", "c"]
SHELF = 400
LANES = [0, 4, "auto"]


class Vendor:
    """A vendor's true shelf. It takes units off before it replies, and puts them back when it is told it need not serve."""

    def __init__(self, name):
        self.name, self.lock = name, threading.Lock()
        self.shelf, self.decided, self.taken = {p: SHELF for p in PRODUCTS}, {}, {}
        self.heard, self.given_back, self.shortages = set(), set(), {}

    def decide(self, order, lines, chooser):
        """Confirms or rejects, the same way every time it is asked."""
        with self.lock:
            if order not in self.decided:
                enough = all(self.shelf[p] >= q for p, q in lines.items())
                if not enough:
                    self.shortages[order] = lines, dict(self.shelf), {o: units for o, units in self.taken.items() if o not in self.heard}
                self.decided[order] = "confirmed" if enough and chooser.random() < 0.8 else "rejected"
                if self.decided[order] == "confirmed":
                    self.taken[order] = lines
                    for product, quantity in lines.items():
                        self.shelf[product] -= quantity
            return self.decided[order]

    def put_back(self, order):
        with self.lock:
            for product, quantity in self.taken.pop(order, {}).items():
                self.shelf[product] += quantity
                self.given_back.add(order)

    def sold_short(self):
        """Shortages that are not its own doing: it may have taken units for an order that was over before its reply was heard."""
        return [(lines, shelf) for lines, shelf, unheard in self.shortages.values()
                if any(shelf[p] + sum(units.get(p, 0) for o, units in unheard.items() if o in self.given_back) < q for p, q in lines.items())]

    def feed(self):
        with self.lock:
            return time.time(), [{"id": p, "quantity": q, "price": 1 + VENDORS.index(self.name)} for p, q in self.shelf.items()]


class Session(threading.Thread):
    """One session that does random things until it is over; remembers what it was told."""

    def __init__(self, world, number, vendors, over):
        super().__init__()
        self.vendors, self.over = vendors, over
        self.random, self.url = random.Random(SEED * 1000 + number), world.url
        self.placed, self.errors, self.refused, self.settled = [], [], 0, 0

    def run(self):
        try:
            with psycopg.connect(self.url, autocommit=True) as self.db:
                while not self.over.is_set():
                    self.random.choices([self.place, self.place_many, self.reply, self.cancel, self.expire, self.sync],
                                        [6, 3, 8, 1, 1, 1])[0]()
        except Exception as error:      # shown by the test, which fails
            self.errors.append(repr(error))

    def lines(self):
        return [{"productId": p, "quantity": self.random.randint(1, 4)} for p in self.random.sample(PRODUCTS, self.random.randint(1, 4))]

    def request(self):
        return {"products": self.lines(), "strategy": self.random.choice(["cheapest", "priority", "most_stock", "fewest_vendors", "single_vendor"]),
                "allowPartial": self.random.random() < 0.2, "holdFor": self.random.choice(["1 hour", "50 milliseconds"])}

    def place(self):
        try:
            self.placed.append(self.db.execute("SELECT order_aggregator.place_order('c', %s)", [Jsonb(self.lines())]).fetchone()[0])
        except psycopg.Error as error:
            assert error.sqlstate == "OA001", error
            self.refused += 1

    def place_many(self):
        requests = [self.request() for _ in range(self.random.randint(1, 20))]
        for order_id, error in self.db.execute("SELECT order_id, error FROM order_aggregator.place_orders(%s)", [Jsonb(requests)]):
            if order_id is None:
                assert error["code"] == "OA001", error
                self.refused += 1
            else:
                self.placed.append(order_id)

    def returned(self):
        """The vendors have read order.cancelled of these, which came before any order that takes the units again."""
        for order_id, vendor, attempt in self.db.execute("""SELECT DISTINCT order_id, vendor_id, attempt FROM order_aggregator.hold
                                                            WHERE status = 'returned'""").fetchall():
            self.vendors[vendor].put_back((order_id, attempt))

    def reply(self):
        holds = {}
        for order_id, vendor, attempt, product, quantity in self.db.execute("""
                SELECT order_id, vendor_id, attempt, product_id, quantity FROM order_aggregator.hold
                WHERE (order_id, vendor_id, attempt) IN (SELECT order_id, vendor_id, attempt FROM order_aggregator.hold
                                                         WHERE status = 'open' AND order_id %% 7 = %s LIMIT 10)""", [self.random.randrange(7)]):
            holds.setdefault((order_id, vendor, attempt), {})[product] = quantity
        self.returned()
        replies = [{"orderId": o, "vendorId": v, "attempt": a, "status": self.vendors[v].decide((o, a), lines, self.random)}
                   for (o, v, a), lines in holds.items()]
        self.random.shuffle(replies)
        replies += replies[:2]      # some come twice
        answers = self.db.execute("SELECT outcome FROM order_aggregator.apply_vendor_replies(%s)", [Jsonb(replies)]).fetchall()
        for reply, (outcome,) in zip(replies, answers):
            assert outcome != "invalid"
            self.settled += outcome == "applied"
            if outcome in ("late", "stale"):    # it was short for an order that was over already: nothing was sold
                self.vendors[reply["vendorId"]].shortages.pop((reply["orderId"], reply["attempt"]), None)
            if outcome in ("applied", "duplicate"):
                self.vendors[reply["vendorId"]].heard.add((reply["orderId"], reply["attempt"]))
            if outcome in ("late", "stale") and reply["status"] == "confirmed":
                self.vendors[reply["vendorId"]].put_back((reply["orderId"], reply["attempt"]))

    def cancel(self):
        if self.placed:
            try:
                self.db.execute("SELECT order_aggregator.cancel_order(%s, 'model')", [self.random.choice(self.placed)])
            except psycopg.Error as error:
                assert error.sqlstate == "OA004", error

    def expire(self):
        self.db.execute("SELECT order_aggregator.expire_orders(20)")

    def sync(self):
        vendor = self.random.choice(VENDORS)
        taken_at, feed = self.vendors[vendor].feed()
        time.sleep(self.random.random() * 0.02)     # it travels
        self.db.execute("SELECT order_aggregator.sync_vendor_stock(%s, %s, to_timestamp(%s))", [vendor, Jsonb(feed), taken_at])


def spread(world, products, lanes):
    """Half of the products: orders of both kinds come together."""
    for product in products[::2]:
        world.db.execute("SELECT order_aggregator.configure_product(%s, lanes => %s::text)", [product, lanes])


@pytest.mark.parametrize("lanes", LANES)
def test_random_sessions_end_as_the_model_says(world, lanes):
    world.stock(**{v: {p: SHELF for p in PRODUCTS} for v in VENDORS})
    spread(world, PRODUCTS, lanes)
    vendors = {v: Vendor(v) for v in VENDORS}
    over = threading.Event()
    sessions = [Session(world, number, vendors, over) for number in range(8)]
    for session in sessions:
        session.start()
    try:
        time.sleep(SECONDS)
        wait_until(lambda: any(s.errors for s in sessions) or any(s.settled for s in sessions) and any(s.refused for s in sessions),
                   what="replies that settle, and orders that find too little")
    finally:
        over.set()
        for session in sessions:
            session.join()
    assert [e for s in sessions for e in s.errors] == []
    world.consistent()
    # no unit was sold that a vendor did not have
    assert [v.sold_short() for v in vendors.values()] == [[], [], []]
    # every order that a session was told of is there, once
    placed = [o for s in sessions for o in s.placed]
    assert len(placed) == len(set(placed)) == world.value("SELECT count(*) FROM order_aggregator.orders")
    # after the end of all orders and a last feed the counters are the shelves
    world.db.execute("SELECT order_aggregator.cancel_order(order_id, 'end') FROM order_aggregator.orders WHERE status = 'pending'")
    for order_id, vendor, attempt in world.db.execute("SELECT order_id, vendor_id, attempt FROM order_aggregator.hold WHERE status = 'returned'").fetchall():
        vendors[vendor].put_back((order_id, attempt))
    for name, vendor in vendors.items():
        sold = dict(world.db.execute("""SELECT product_id, sum(quantity)::int FROM order_aggregator.hold
                                        WHERE vendor_id = %s AND status = 'confirmed' GROUP BY 1""", [name]).fetchall())
        assert vendor.shelf == {p: SHELF - sold.get(p, 0) for p in PRODUCTS}
        world.db.execute("SELECT order_aggregator.sync_vendor_stock(%s, %s)", [name, Jsonb(vendor.feed()[1])])
        assert vendor.shelf == dict(world.db.execute("""SELECT product_id, on_hand FROM order_aggregator.stock
                                                        WHERE vendor_id = %s AND reserved = 0""", [name]).fetchall())
    world.consistent()


@pytest.mark.parametrize("lanes", LANES)
def test_more_demand_than_stock_sells_exactly_all_of_it(world, lanes):
    """By batches and by single calls, some of which are taken back."""
    world.stock(a={"x": 1000}, b={"x": 500})
    spread(world, ["x"], lanes)
    sold, errors = [], []

    def buy(number):
        chooser = random.Random(SEED + number)
        with psycopg.connect(world.url, autocommit=True) as db:
            for _ in range(60):
                requests = [{"productId": "x", "quantity": 1} for _ in range(chooser.randint(1, 8))]
                sold.append(db.execute("SELECT count(order_id) FROM order_aggregator.place_orders(%s)", [Jsonb(requests)]).fetchone()[0])

    def buy_singly(number):
        chooser = random.Random(SEED + number)
        with psycopg.connect(world.url, autocommit=True) as db:
            try:
                while True:
                    wanted = chooser.choice([1, 1, 2, 5])
                    db.execute("BEGIN")
                    order_id = db.execute("SELECT order_aggregator.place_order('c', %s, allow_partial => true)",
                                          [Jsonb([{"productId": "x", "quantity": wanted}])]).fetchone()[0]
                    got = db.execute("SELECT sum(quantity)::int FROM order_aggregator.hold WHERE order_id = %s", [order_id]).fetchone()[0]
                    keep = got < wanted or chooser.random() < 0.9
                    db.execute("COMMIT" if keep else "ROLLBACK")
                    sold.append(got if keep else 0)
            except psycopg.Error as error:
                errors.append(error.sqlstate)

    threads = [threading.Thread(target=buy_singly if n % 2 else buy, args=[n]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(errors) == {"OA001"}     # each single one until there was nothing left
    assert sum(sold) == 1500 == world.value("SELECT sum(reserved) FROM order_aggregator.vendor_offer")
    world.consistent()


@pytest.mark.parametrize("lanes", LANES)
def test_orders_in_opposite_product_order_never_deadlock(world, lanes):
    products = [f"p{n}" for n in range(50)]
    world.stock(a={p: 1_000_000 for p in products})
    spread(world, products, lanes)
    errors = []

    def buy(number):
        chooser = random.Random(SEED + number)
        with psycopg.connect(world.url, autocommit=True) as db:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                lines = [{"productId": p, "quantity": 1} for p in (products if number % 2 else products[::-1])[chooser.randrange(25):]]
                try:
                    db.execute("SELECT order_aggregator.place_order('c', %s)", [Jsonb(lines)])
                except psycopg.Error as error:
                    errors.append(error.sqlstate)

    threads = [threading.Thread(target=buy, args=[n]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    world.consistent()
