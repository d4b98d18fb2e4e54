#!/usr/bin/python3
"""The main job, end to end, on private real servers; `make demo` runs it.

Starts PostgreSQL, RabbitMQ, the vendor simulator and the bridge in .run/demo,
syncs the vendors, places orders over HTTP and SQL, shows what became of each,
and stops everything again. Exits 1 if anything is not as it should be.
"""

import concurrent.futures
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import psycopg
import requests
import runs

TOP = pathlib.Path(__file__).resolve().parent.parent
RUN = TOP / ".run" / "demo"
BOLD, DIM, GREEN, RED, PLAIN = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else [""] * 5

phases = []
failures = []


class phase:
    """Times a part of the demo and prints its title."""

    def __init__(self, title):
        self.title = title

    def __enter__(self):
        print(f"\n{BOLD}{self.title}{PLAIN}", flush=True)
        self.began = time.monotonic()

    def __exit__(self, *error):
        phases.append((self.title, time.monotonic() - self.began))


def servers(*words, **env):
    subprocess.run([TOP / "scripts" / "servers", *words], check=True, env={**os.environ, **env}, stdout=subprocess.DEVNULL)


def read_env():
    env = {}
    for line in (RUN / "env").read_text().splitlines():
        name, value = line.removeprefix("export ").split("=", 1)
        env[name] = value.strip("'")
    return env


def expect(condition, what):
    if not condition:
        failures.append(what)
        print(f"  {RED}✗ {what}{PLAIN}")


def wait_closed(http, order_id, seconds=15):
    """Polls an order until it is not pending any more, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        order = http.get(f"/order/{order_id}").json()
        if order["status"] != "pending" or time.monotonic() > deadline:
            return order
        time.sleep(0.01)


def milliseconds(db, order_id):
    return db.execute("""SELECT extract(epoch FROM closed_at - placed_at) * 1000
                         FROM order_aggregator.orders WHERE order_id = %s""", [order_id]).fetchone()[0]


def show(order, took):
    colour = GREEN if order["status"] == "confirmed" else RED
    print(f"  order {order['id']:<3} {colour}{order['status']:<10}{PLAIN} after {took:8.1f} ms   total {order['totalAmount']:>10}   "
          f"{order['customerId'] or 'no customer'}")
    for hold in order["holds"]:
        reason = f" – {hold['reason']}" if hold["reason"] else ""
        print(f"{DIM}      {hold['quantity']:>3} × {hold['productId']} at {hold['unitPrice']} from {hold['vendorId']}, "
              f"attempt {hold['attempt']}: {hold['status']}{reason}{PLAIN}")


class Http:
    def __init__(self, base):
        self.base, self.session = base, requests.Session()

    def get(self, path):
        return self.session.get(self.base + path, timeout=20)

    def post(self, path, body=None, **headers):
        return self.session.post(self.base + path, json=body, headers=headers, timeout=20)


def sync(http):
    for result in http.get("/vendorSync").json()["results"]:
        print(f"  {result['vendorId']}: {result['status']}, {result['items']} items")
        expect(result["status"] in ("applied", "unchanged"), f"sync of {result['vendorId']}")
    products = http.get("/products").json()["data"]
    print(f"  {len(products)} offers of {len({p['id'] for p in products})} products in stock")


def place_and_confirm(http, db):
    bodies = [
        {"customerId": "Customer Beta", "products": [{"vendorProductId": "product-1", "quantity": 2},
                                                     {"vendorProductId": "product-3", "quantity": 4},
                                                     {"vendorProductId": "product-5", "quantity": 9}]},
        {"productId": "product-2", "quantity": 2},
    ]
    for body in bodies:
        answer = http.post("/order", body)
        expect(answer.status_code == 201, f"POST /order answered {answer.status_code}")
        order = wait_closed(http, answer.json()["orderId"])
        expect(order["status"] == "confirmed", f"order {order['id']} is {order['status']}")
        show(order, milliseconds(db, order["id"]))
    order_id = db.execute("""SELECT order_aggregator.place_order('Customer SQL',
                             '[{"productId": "product-7", "quantity": 3}]')""").fetchone()[0]
    order = wait_closed(http, order_id)
    expect(order["status"] == "confirmed", f"order {order['id']} is {order['status']}")
    show(order, milliseconds(db, order_id))


def reject(http, db):
    answer = http.post("/order", {"customerId": "Customer Greedy", "products": [{"vendorProductId": "product-1", "quantity": 2000}]})
    expect(answer.status_code == 409, "an order of 2000 was not refused")
    print(f"  refused with {answer.status_code}: “{answer.json()['detail']}”")

    answer = http.post("/order", {"customerId": "Customer Gamma", "products": [{"productId": "cake", "quantity": 1}]})
    order = wait_closed(http, answer.json()["orderId"])
    expect(order["status"] == "confirmed" and order["holds"][-1]["vendorId"] == "vendor-baker", "no other vendor served")
    print("  the cheapest vendor rejects, another one serves:")
    show(order, milliseconds(db, order["id"]))

    answer = http.post("/order", {"customerId": "Customer Delta", "products": [{"productId": "pie", "quantity": 1}]})
    order = wait_closed(http, answer.json()["orderId"])
    expect(order["status"] == "rejected", f"order {order['id']} is {order['status']}")
    print("  the only vendor rejects:")
    show(order, milliseconds(db, order["id"]))


def expire(http, db):
    answer = http.post("/order", {"customerId": "Customer Patient", "holdFor": "1 second",
                                  "products": [{"productId": "tea", "quantity": 5}]})
    order = wait_closed(http, answer.json()["orderId"])
    expect(order["status"] == "expired", f"order {order['id']} is {order['status']}")
    show(order, milliseconds(db, order["id"]))
    free = http.get("/products/tea").json()["available"]
    expect(free == 10, f"{free} units of tea are free, not 10")
    print(f"  its stock is free again: {free} of 10")


def crowd(http, db, env):
    """500 orders from 16 clients for 300 units of one product: exactly 300 are served."""
    def one(number):
        began = time.monotonic()
        answer = Http(env["HTTP_URL"]).post("/order", {"productId": "ticket", "quantity": 1})
        return answer.status_code, (time.monotonic() - began) * 1000

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(500)))
    took = time.monotonic() - began
    served = sum(1 for status, _ in answers if status == 201)
    refused = sum(1 for status, _ in answers if status == 409)
    print(f"  {served} placed, {refused} refused in {took:.2f} s; median {statistics.median(ms for _, ms in answers):.1f} ms an answer")
    expect((served, refused) == (300, 200), f"{served} served and {refused} refused, not 300 and 200")
    deadline = time.monotonic() + 20
    left = 1
    while left and time.monotonic() < deadline:
        left = db.execute("SELECT count(*) FROM order_aggregator.orders WHERE status = 'pending'").fetchone()[0]
        time.sleep(0.05)
    p50, p99 = db.execute("""SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - placed_at) * 1000)
                             FROM order_aggregator.orders AS o JOIN order_aggregator.order_line AS l USING (order_id)
                             WHERE l.product_id = 'ticket'""").fetchone()[0]
    expect(left == 0, f"{left} orders are still pending")
    print(f"  all confirmed by the vendor; placed to confirmed: median {p50:.1f} ms, 99th percentile {p99:.1f} ms")


def check_consistency(db):
    problems = db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall()
    for problem in problems:
        print(f"  {RED}{problem}{PLAIN}")
    expect(not problems, "check_consistency() found problems")
    orders = db.execute("SELECT status, count(*) FROM order_aggregator.orders GROUP BY 1 ORDER BY 1").fetchall()
    print("  " + ", ".join(f"{count} {status}" for status, count in orders))
    if not problems:
        print(f"  {GREEN}nothing oversold, nothing lost, nothing done twice{PLAIN}")


def own_vendors(db):
    db.execute("""
        SELECT order_aggregator.register_vendor('vendor-picky', 'Rejects everything', NULL, 50);
        SELECT order_aggregator.register_vendor('vendor-baker', 'Serves what others reject', NULL, 60);
        SELECT order_aggregator.register_vendor('vendor-quiet', 'Never answers', NULL, 70);
        SELECT order_aggregator.sync_vendor_stock('vendor-picky', '[{"id": "cake", "quantity": 9, "price": 3.50}, {"id": "pie", "quantity": 9, "price": 4}]');
        SELECT order_aggregator.sync_vendor_stock('vendor-baker', '[{"id": "cake", "quantity": 9, "price": 4.20}, {"id": "ticket", "quantity": 300, "price": 25}]');
        SELECT order_aggregator.sync_vendor_stock('vendor-quiet', '[{"id": "tea", "quantity": 10, "price": 2.10}]')""")


def main():
    with phase("Servers"):
        servers("down", RUN)
        shutil.rmtree(RUN, ignore_errors=True)
        servers("up", RUN, VENDOR_SIM_OPTIONS="--reject-vendor=vendor-picky --reject-percent=100 --silent-vendor=vendor-quiet")
        env = read_env()
        print(f"  private PostgreSQL and RabbitMQ; the bridge at {env['HTTP_URL']}, the vendor simulator at {env['VENDOR_URL']}")
    http = Http(env["HTTP_URL"])
    with psycopg.connect(env["DATABASE_URL"], autocommit=True) as db:
        with phase("Vendors' stock feeds"):
            own_vendors(db)
            sync(http)
        with phase("Orders, over HTTP and SQL: pending, then confirmed by their vendors"):
            place_and_confirm(http, db)
        with phase("Orders that cannot be served"):
            reject(http, db)
        with phase("An order whose vendor never answers: it expires"):
            expire(http, db)
        with phase("500 orders for 300 tickets, from 16 clients"):
            crowd(http, db, env)
        with phase("check_consistency()"):
            check_consistency(db)


def finish():
    with phase("Stopping"):
        servers("down", RUN)
    print(f"\n{BOLD}Where the time went{PLAIN}")
    for title, seconds in phases:
        print(f"  {seconds:7.2f} s  {title}")
    if failures:
        print(f"\n{RED}{len(failures)} things were not as they should be{PLAIN}")
        sys.exit(1)


if __name__ == "__main__":
    runs.forget_settings()
    runs.begin(RUN)
    try:
        main()
    except BaseException as error:
        failures.append(repr(error))
        print(f"{RED}{error!r}{PLAIN}")
    finish()
