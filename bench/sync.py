#!/usr/bin/python3
"""A vendor's feed of 100 000 items, and orders meanwhile; `make bench-sync` runs it.

copy_feed: COPY of the same rows (product and stock) into tables with the same columns, checks and indexes.
first_load, second_load: POST /vendors/{id}/sync, from the request to the answer: the feed is pulled over HTTP from a
server on this machine, taken apart and applied; the second has 1 % of the items changed. Medians of ROUNDS.
order_p99_ms: POST /order of other products at a steady rate, without feeds and while one feed after the other is
loaded first and second; fsync_floor: what the disk does by itself, for as long. All BENCH_ROUNDS times: medians with their range.

Environment: SYNC_ITEMS (100000), BENCH_ROUNDS (5), BENCH_SECONDS (10), ORDER_RATE (500).
"""

import io
import json
import multiprocessing
import http.server
import os
import threading
import time

import requests
from common import SECONDS, Figures, check, connect, empty, fresh, make_wal_files, servers, settings, wrk
from floors import add_floors, fsync_floor

ITEMS = int(os.environ.get("SYNC_ITEMS", 100_000))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 5))
RATE = int(os.environ.get("ORDER_RATE", 500))
CONNECTIONS, PRODUCTS = 32, 10_000


def items(prefix, changed):
    """A feed; of a changed one 1 % of the counts are others."""
    return [{"id": f"{prefix}-{n:06}", "name": f"Product {n} of {prefix}", "quantity": n % 500 + (7 if changed and n % 100 == 0 else 0), "price": 9.99}
            for n in range(ITEMS)]


class Vendor:
    """Serves /<vendor>/first and /<vendor>/second, each made when it is first asked for, in a process of its own."""

    def __init__(self):
        ready = multiprocessing.Queue()
        self.process = multiprocessing.Process(target=self.serve, args=[ready], daemon=True)
        self.process.start()
        self.url = f"http://127.0.0.1:{ready.get()}"

    def make(self, vendor_ids):
        """Has the feeds made, so that no one waits for that."""
        for vendor_id in vendor_ids:
            for which in ("first", "second"):
                requests.get(f"{self.url}/{vendor_id}/{which}", timeout=60)

    @staticmethod
    def serve(ready):
        made = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                _, vendor, which = self.path.split("/")
                if self.path not in made:
                    made[self.path] = json.dumps(items(vendor, which == "second")).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(made[self.path])))
                self.end_headers()
                self.wfile.write(made[self.path])

            def log_message(self, *words):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        ready.put(server.server_port)
        server.serve_forever()


def copy_feed(db):
    """COPY of what the first load writes; seconds."""
    rows = items("copied", False)
    products, stock = io.StringIO(), io.StringIO()
    for item in rows:
        products.write(f"{item['id']}\t{item['name']}\n")
        stock.write(f"{item['id']}\tcopied\t{item['id']}\t{item['price']}\t{item['quantity']}\t2026-01-01\n")
    db.execute("DROP SCHEMA IF EXISTS bench CASCADE")
    db.execute("CREATE SCHEMA bench")
    for table in ("product", "stock"):
        db.execute(f"CREATE TABLE bench.{table} (LIKE order_aggregator.{table} INCLUDING ALL) WITH (fillfactor = {50 if table == 'stock' else 100})")
    db.execute("CHECKPOINT")
    started = time.monotonic()
    with db.transaction():
        for table, columns, text in (("product", "product_id, name", products), ("stock", "product_id, vendor_id, vendor_sku, price, on_hand, as_of", stock)):
            with db.cursor().copy(f"COPY bench.{table} ({columns}) FROM STDIN") as copy:
                copy.write(text.getvalue())
    return time.monotonic() - started


def load(vendor_id, which, vendor):
    """Pulls and applies one of the vendor's two feeds; seconds."""
    with connect() as db:
        db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)", [vendor_id, vendor_id, f"{vendor.url}/{vendor_id}/{which}"])
    started = time.monotonic()
    result = requests.post(f"{settings()['HTTP_URL']}/vendors/{vendor_id}/sync", timeout=60).json()["results"][0]
    seconds = time.monotonic() - started
    assert result["status"] == "applied" and result["items"] == ITEMS, result
    return seconds


def loads(figures, db, vendor):
    copied, first, second = [], [], []
    vendor.make([f"vendor-{n}" for n in range(ROUNDS)])
    for n in range(ROUNDS):
        copied.append(copy_feed(db))
        db.execute("CHECKPOINT")
        first.append(load(f"vendor-{n}", "first", vendor))
        db.execute("CHECKPOINT")
        second.append(load(f"vendor-{n}", "second", vendor))
    changed = db.execute("SELECT changed_items FROM order_aggregator.feed_sync ORDER BY sync_id DESC LIMIT 1").fetchone()[0]
    assert changed == ITEMS // 100, changed
    for name, seconds, baseline in (("copy_feed", copied, None), ("first_load", first, "copy_feed"), ("second_load", second, "first_load")):
        figures.add_rounds(name, [{"value": s} for s in seconds], "s", baseline and {"ratio": baseline}, places=3, items=ITEMS)


def order_load():
    """POST /order at a steady rate; wrk's summary, latencies in ms."""
    return wrk(settings()["HTTP_URL"], "order.lua", CONNECTIONS, SECONDS, threads=1, PRODUCTS=PRODUCTS, DELAY_MS=CONNECTIONS / RATE * 1000)


def order_round(db, vendor, vendor_ids):
    """POST /order without feeds, then while those vendors are loaded, first and second, one after the other."""
    make_wal_files(db)
    disk = fsync_floor(SECONDS)
    order_load()     # what is touched for the first time after a checkpoint costs more
    quiet = order_load()
    over, done = threading.Event(), []

    def feed():
        for vendor_id in vendor_ids:
            for which in ("first", "second"):
                if over.is_set():
                    return
                done.append(load(vendor_id, which, vendor))

    feeding = threading.Thread(target=feed)
    feeding.start()
    busy = order_load()
    still_feeding = feeding.is_alive()
    over.set()
    feeding.join()
    assert still_feeding, "the feeds were over before the orders"
    assert busy["requests"] > 0.95 * quiet["requests"], f"orders were held up: {busy['requests']} instead of {quiet['requests']}"
    return disk, quiet, busy, done


def orders_meanwhile(figures, db, vendor):
    vendor_ids = [[f"vendor-{round}-{n}" for n in range(SECONDS)] for round in range(ROUNDS)]
    vendor.make([vendor_id for round in vendor_ids for vendor_id in round])
    rounds = [order_round(db, vendor, ids) for ids in vendor_ids]
    add_floors(figures, [{"fsync_floor": r[0]} for r in rounds])
    for name, which, baseline in (("order_p99_ms_alone", 1, None), ("order_p99_ms", 2, {"ratio": "order_p99_ms_alone"})):
        figures.add_rounds(name, [{"value": r[which]["p99"], "p50_ms": r[which]["p50"], "longest_ms": r[which]["max"], "orders": r[which]["requests"]} for r in rounds],
                           "ms", baseline, places=2)
    figures.add_rounds("order_p99_ratio", [{"value": busy["p99"] / quiet["p99"]} for _, quiet, busy, _ in rounds], "x", places=2)
    figures.add("feeds_meanwhile", sum(len(done) for *_, done in rounds), "feeds")


def main():
    figures = Figures("sync")
    fresh()
    vendor = Vendor()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        with connect() as db:
            empty(db, PRODUCTS)
            os.environ["ROLES"] = "http"
            servers("start", "bridge")
            loads(figures, db, vendor)
            orders_meanwhile(figures, db, vendor)
            check(db)
    finally:
        servers("down")
        vendor.process.terminate()
    figures.write()


if __name__ == "__main__":
    main()
