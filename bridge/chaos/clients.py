"""The shop's clients: they place orders, cancel and return, and remember what they were told.

Whoever gets no answer asks again under the same key until there is one.
"""

import contextlib
import itertools
import os
import random
import socket
import threading
import time
import uuid

import psycopg
import requests
from psycopg.types.json import Jsonb
from vendors import PRODUCTS, SCARCE

ANSWER_S = 5        # a connection that says nothing for so long is given up
HOLD_FOR, HOLD_SHORT = "1800 seconds", "3 seconds"      # where nothing is asked for: the server's default; of some orders, which expire
AGAIN = ("08", "40001", "40P01", "53", "55P03", "57", "25006")      # SQLSTATEs that may pass


class Ledger:
    """What the clients were told; all of it must be found in the end."""

    def __init__(self):
        self.lock = threading.Lock()
        self.placed = {}            # key -> order
        self.units = {}             # order -> {product: units} that were asked for
        self.hold_for = {}          # order -> how long it was to be held
        self.refused = set()
        self.to_cancel, self.cancelled = set(), set()   # to_cancel: asked for, whatever became of it
        self.returned = {}          # order -> return
        self.answers = []           # (door, None where it was refused; asked at, answered at)
        self.unexpected = []
        self.retries = 0
        self.twice = []             # keys that were answered with two orders

    def accept(self, request, order, door, asked_at):
        with self.lock:
            if self.placed.setdefault(request["idempotencyKey"], order) != order:
                self.twice.append(request["idempotencyKey"])
            self.units[order] = {line["productId"]: line["quantity"] for line in request["products"]}
            self.hold_for[order] = request.get("holdFor", HOLD_FOR)
            self.answers.append((door, asked_at, time.monotonic()))

    def refuse(self, request, asked_at):
        with self.lock:
            self.refused.add(request["idempotencyKey"])
            self.answers.append((None, asked_at, time.monotonic()))

    def some_order(self, chooser):
        with self.lock:
            orders = list(self.placed.values())[-300:]
        return chooser.choice(orders) if orders else None


class Client(threading.Thread):
    """Does one thing after the other until it is told to stop, and then finishes the last."""

    door = None

    def __init__(self, stage, ledger, seed, pause_s):
        super().__init__(daemon=True)
        self.stage, self.ledger, self.random, self.pause_s = stage, ledger, random.Random(seed), pause_s
        self.stopping, self.give_up_at = False, None

    def run(self):
        try:
            while not self.stopping:
                self.do_something()
                time.sleep(self.random.uniform(0, 2 * self.pause_s))
        except Exception as error:          # shown at the end, which fails
            self.ledger.unexpected.append(f"{type(self).__name__}: {error!r}")

    def stop(self, patience_s):
        self.stopping, self.give_up_at = True, time.monotonic() + patience_s

    def again(self, attempt):
        """Asks until there is an answer: attempt returns None while there is none."""
        while True:
            answer = attempt()
            if answer is not None:
                return answer
            self.ledger.retries += 1
            if self.give_up_at is not None and time.monotonic() > self.give_up_at:
                raise AssertionError("no answer after all was there again")
            time.sleep(0.1)

    def request(self):
        products = self.random.sample(PRODUCTS, self.random.choice([1, 1, 1, 2, 3]))
        request = {"customerId": "chaos", "products": [{"productId": p, "quantity": self.random.randint(1, 3)} for p in products], "idempotencyKey": str(uuid.UUID(int=self.random.getrandbits(128)))}
        if self.random.random() < 0.05:
            request["holdFor"] = HOLD_SHORT
        if self.random.random() < 0.3:
            request["strategy"] = self.random.choice(["cheapest", "priority", "most_stock", "fewest_vendors", "single_vendor"])
        return request


class SqlClient(Client):
    """By SQL, with a connection that is given up like any driver's with a time-out."""

    door, db = "sql", None

    def __init__(self, *words):
        super().__init__(*words)
        self.urls = itertools.cycle(self.stage.database_urls())

    def do_something(self):
        self.random.choices([self.place, self.place_many, self.cancel, self.send_back], [20, 4, 1, 1])[0]()

    def query(self, sql, parameters):
        """The first column of all rows, or the SQLSTATE; None if there is no answer."""
        try:
            if self.db is None or self.db.closed:
                # of several hosts psycopg before 3.1.13 tries no other one after a time-out
                self.db = psycopg.connect(next(self.urls), autocommit=True, connect_timeout=2, application_name="chaos shop")
            watch = threading.Timer(ANSWER_S, self.hang_up, [self.db])
            watch.start()
            try:
                return self.db.execute(sql, parameters).fetchall()
            finally:
                watch.cancel()
        except psycopg.Error as error:
            if error.sqlstate is None or error.sqlstate.startswith(AGAIN):
                if self.db is not None and (error.sqlstate is None or error.sqlstate == "25006"):
                    self.hang_up(self.db)       # a leader no more
                    self.db = None
                return None
            return error.sqlstate

    @staticmethod
    def hang_up(db):
        with contextlib.suppress(OSError, psycopg.Error, ValueError):
            with socket.socket(fileno=os.dup(db.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)

    def place(self):
        request, asked_at = self.request(), time.monotonic()
        answer = self.again(lambda: self.query(
            "SELECT order_aggregator.place_order(%s, %s, %s, %s, %s::interval)",
            [request["customerId"], Jsonb(request["products"]), request["idempotencyKey"], request.get("strategy"), request.get("holdFor")]))
        self.answered(request, asked_at, answer if isinstance(answer, str) else answer[0][0])

    def place_many(self):
        requests_, asked_at = [self.request() for _ in range(self.random.randint(2, 12))], time.monotonic()
        rows = self.again(lambda: self.query("SELECT order_id, error->>'code' FROM order_aggregator.place_orders(%s) ORDER BY request_no", [Jsonb(requests_)]))
        if isinstance(rows, str):
            self.ledger.unexpected.append(f"place_orders: {rows}")
            return
        for request, (order, code) in zip(requests_, rows, strict=True):
            self.answered(request, asked_at, code if order is None else order)

    def answered(self, request, asked_at, answer):
        if answer == "OA001":
            self.ledger.refuse(request, asked_at)
        elif isinstance(answer, str):
            self.ledger.unexpected.append(f"place_order: {answer}")
        else:
            self.ledger.accept(request, answer, self.door, asked_at)

    def cancel(self):
        order = self.ledger.some_order(self.random)
        if order is None:
            return
        self.ledger.to_cancel.add(order)
        answer = self.again(lambda: self.query("SELECT order_aggregator.cancel_order(%s, 'chaos')", [order]))
        if answer == [("cancelled",)]:
            self.ledger.cancelled.add(order)
        elif answer != "OA004":
            self.ledger.unexpected.append(f"cancel_order: {answer}")

    def send_back(self):
        """The units are in the next feed: they are not sold before."""
        order = self.ledger.some_order(self.random)
        if order is None:
            return
        answer = self.again(lambda: self.query("SELECT order_aggregator.return_order(%s, NULL, false, %s)", [order, f"return of {order}"]))
        if isinstance(answer, str):
            if answer != "OA004":
                self.ledger.unexpected.append(f"return_order: {answer}")
        else:
            self.ledger.returned[order] = answer[0][0]


class HttpClient(Client):
    door = "http"

    def do_something(self):
        self.random.choices([self.place, self.cancel, self.look], [20, 1, 2])[0]()

    def send(self, method, path, **more):
        """The answer; None if there is none that counts."""
        try:
            answer = requests.request(method, self.random.choice(self.stage.http_urls) + path, timeout=(2, ANSWER_S), **more)
        except requests.RequestException:
            return None
        return None if answer.status_code == 503 else answer

    def place(self):
        request, asked_at = self.request(), time.monotonic()
        answer = self.again(lambda: self.send("POST", "/order", json=request))
        if answer.status_code == 201:
            self.ledger.accept(request, answer.json()["orderId"], self.door, asked_at)
        elif answer.status_code == 409:
            self.ledger.refuse(request, asked_at)
        else:
            self.ledger.unexpected.append(f"POST /order: {answer.status_code} {answer.text}")

    def cancel(self):
        order = self.ledger.some_order(self.random)
        if order is None:
            return
        self.ledger.to_cancel.add(order)
        answer = self.again(lambda: self.send("POST", f"/order/{order}/cancel", json={"reason": "chaos"}, headers={"Idempotency-Key": f"cancel of {order}"}))
        if answer.status_code == 200:
            self.ledger.cancelled.add(order)
        elif answer.status_code != 409:
            self.ledger.unexpected.append(f"cancel: {answer.status_code} {answer.text}")

    def look(self):
        """An order that was accepted is found."""
        order = self.ledger.some_order(self.random)
        if order is None:
            return
        answer = self.again(lambda: self.send("GET", f"/order/{order}"))
        if answer.status_code != 200:
            self.ledger.unexpected.append(f"GET /order/{order}: {answer.status_code}")


class Restocker(Client):
    """New goods for the vendors, so that what is scarce is sold out again and again."""

    def __init__(self, stage, ledger, seed, pause_s, vendors):
        super().__init__(stage, ledger, seed, pause_s)
        self.vendors = vendors

    def do_something(self):
        self.random.choice([*self.vendors.values()]).restock(self.random.choice(SCARCE), self.random.randint(5, 40))
