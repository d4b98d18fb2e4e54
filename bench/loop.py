#!/usr/bin/python3
"""The whole loop: placed, relayed, answered by the vendor simulator, confirmed; `make bench-loop` runs it.

PostgreSQL, RabbitMQ, the bridge, the simulator and the load share this machine.
loop_orders: orders confirmed a second while batches of place_orders() keep a bounded number under way;
longest_gap_ms: the longest time in which none was, as the bridge's counter says it, asked for every 10 ms by a thread of its own, whatever the load
waits for; longest_disk_ms, longest_stolen_ms: for how long the disk under this load, and the host, held up a small write meanwhile (stalls.py);
loop_mean_second, loop_slowest_second: the mean and the fewest of all seconds of that but the first, in which the way fills, the one's ratio to the
other; loop_cpu_us: who spends how much processor time for one order on its way, and loop_wal_bytes of WAL; loop_wal_bytes_of: the same orders' way
one step after the other, and what each step writes but for the full pages after a checkpoint.
loop_latency: LATENCY_ORDERS a round, 100 a second by place_order(), from when each was due, also if the one before it was late, until its
order.confirmed event is in the hands of a consumer, which is one hop more than the database's own "confirmed".
fsync_floor, insert_floor, raw_publish: what disk, PostgreSQL and RabbitMQ can do at all (floors.py), in each round.
BENCH_ROUNDS rounds: medians with their range; what was spent is of all of them.

Environment: LOOP_SECONDS (30), LATENCY_ORDERS (1000), BENCH_ROUNDS (5).
"""

import contextlib
import json
import os
import re
import statistics
import threading
import time

import pika
import requests
from common import Figures, check, connect, empty, fresh, longest_gap_ms, make_wal_files, percentile, servers, settings
from floors import add_floors, fsync_floor, insert_floor, make_raw_publish, raw_publish, write_bodies
from spent import Spent, wal
from stalls import Stalls

SECONDS, ROUNDS = int(os.environ.get("LOOP_SECONDS", 30)), int(os.environ.get("BENCH_ROUNDS", 5))
PRODUCTS, BATCH, UNDER_WAY = 10_000, 500, 4_000
LATENCY_ORDERS, LATENCY_RATE = int(os.environ.get("LATENCY_ORDERS", 1_000)), 100
RAW_MESSAGES, WAL_ORDERS = 50_000, 20_000


def applied(session):
    """How many of the vendors' answers the bridge has applied."""
    text = session.get(settings()["HTTP_URL"] + "/metrics", timeout=10).text
    return int(re.search(r"^order_bridge_replies_applied_total (\d+)", text, re.MULTILINE)[1])


BATCHES = [json.dumps([{"customerId": f"customer {n}", "products": [{"productId": f"product-{(b * BATCH + n) % PRODUCTS}", "quantity": 1}]}
                       for n in range(BATCH)]) for b in range(PRODUCTS // BATCH)]


def place_batch(db, n):
    db.execute("SELECT count(order_id) FROM order_aggregator.place_orders(%s::jsonb)", [BATCHES[n % len(BATCHES)]])


class Confirmed(threading.Thread):
    """with Confirmed() as confirmed: a load. confirmed.count orders were so far; confirmed.samples: (seconds, count) from its beginning on."""

    def __enter__(self):
        self.over, self.session, self.samples = threading.Event(), requests.Session(), [(0, 0)]
        self.before, self.started = applied(self.session), time.monotonic()
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()
        self.session.close()

    def run(self):
        while not self.over.wait(0.01):
            asked = time.monotonic() - self.started
            count = applied(self.session) - self.before
            self.samples.append(((asked + time.monotonic() - self.started) / 2, count))

    @property
    def count(self):
        return self.samples[-1][1]

    def at(self, second):
        """As if the count had grown evenly between two samples."""
        (earlier, low), (later, high) = next(pair for pair in zip(self.samples, self.samples[1:]) if pair[1][0] >= second)
        return low + (high - low) * (second - earlier) / (later - earlier)


def sustained(db):
    """A round of loop_orders, of loop_mean_second and of loop_slowest_second, the orders confirmed, and what was spent as Spent tells it."""
    placed = 0
    spent = Spent(db)
    with Stalls() as stalls, Confirmed() as confirmed:
        while time.monotonic() < confirmed.started + SECONDS:
            while placed - confirmed.count + BATCH <= UNDER_WAY:
                place_batch(db, placed // BATCH)
                placed += BATCH
            time.sleep(0.005)
    used = spent.since()
    seconds, count = confirmed.samples[-1]
    by_second = [confirmed.at(second) for second in range(1, int(seconds) + 1)]
    after_first = [later - earlier for earlier, later in zip(by_second, by_second[1:])]
    drain(db)
    check(db)
    orders = {"value": count / seconds, "longest_gap_ms": longest_gap_ms(confirmed.samples), **stalls.longest}
    return orders, {"value": statistics.mean(after_first)}, {"value": min(after_first)}, count, used


def all_rounds(figures, db):
    write_bodies(db, RAW_MESSAGES)
    floors, rounds = [], []
    for _ in range(ROUNDS):
        floors.append({"fsync_floor": fsync_floor(), "insert_floor": insert_floor(db, 2), "raw_publish": raw_publish(RAW_MESSAGES)})
        rounds.append(sustained(db))
    add_floors(figures, floors)
    figures.add_rounds("loop_orders", [r[0] for r in rounds], "orders/s")
    figures.add_rounds("loop_mean_second", [r[1] for r in rounds], "orders/s")
    figures.add_rounds("loop_slowest_second", [r[2] for r in rounds], "orders/s", {"ratio": "loop_mean_second"})
    confirmed = sum(r[3] for r in rounds)
    cpu, wal_bytes, wal_records, full_pages = (sum(parts, type(parts[0])()) for parts in zip(*(r[4] for r in rounds)))
    for who, seconds in sorted(cpu.items(), key=lambda item: -item[1]):
        if seconds * 1_000_000 >= confirmed:
            figures.add("loop_cpu_us", seconds * 1_000_000 / confirmed, "µs/order", places=1, who=who)
    figures.add("loop_wal_bytes", wal_bytes / confirmed, "bytes/order", records=round(wal_records / confirmed, 2), full_pages=round(full_pages / confirmed, 3))


def wait_until(db, what, is_so):
    deadline = time.monotonic() + 60
    while not db.execute(f"SELECT {is_so}").fetchone()[0]:
        assert time.monotonic() < deadline, f"not {what} after a minute"
        time.sleep(0.2)


def drain(db):
    wait_until(db, "all confirmed", "NOT EXISTS (SELECT FROM order_aggregator.orders WHERE status <> 'confirmed')")


def wait_for_relay(db):
    wait_until(db, "relayed", "order_aggregator.outbox_head() <= (SELECT low_event_id FROM order_aggregator.relay_checkpoint)")


@contextlib.contextmanager
def bridge_with(roles):
    """Only while it runs: a backend that has ended has told what it wrote."""
    os.environ["ROLES"] = roles
    servers("start", "bridge")
    yield
    servers("stop", "bridge")


def wal_by_step(figures, db):
    """The same orders' way, one step after the other: what each writes into the WAL, without the full pages after a checkpoint."""
    def place():
        for n in range(WAL_ORDERS // BATCH):
            place_batch(db, n)

    def relay():
        with bridge_with("http,relay"):
            wait_for_relay(db)

    def settle():
        servers("start", "vendor-sim")
        with bridge_with("http,replies"):
            drain(db)

    wait_for_relay(db)
    servers("stop", "vendor-sim")
    servers("stop", "bridge")
    db.execute("ALTER SYSTEM SET full_page_writes = off")
    db.execute("SELECT pg_reload_conf()")
    db.execute("CHECKPOINT")    # which takes that up
    for who, step in (("placing", place), ("relay: order.placed", relay), ("replies", settle), ("relay: order.confirmed", relay)):
        before = wal(db)
        step()
        written, records, _ = (after - earlier for after, earlier in zip(wal(db), before))
        figures.add("loop_wal_bytes_of", written / WAL_ORDERS, "bytes/order", who=who, records=round(records / WAL_ORDERS, 2))
    check(db)


def latency_round(db):
    """How long each order of a round took from when it was due, in ms."""
    confirmed_at, ready = {}, threading.Event()

    def consume():
        connection = pika.BlockingConnection(pika.URLParameters(settings()["RABBITMQ_URL"]))
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "orders", "order.confirmed")
        ready.set()
        for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=5):
            if method is None:
                break
            confirmed_at[json.loads(body)["orderId"]] = time.monotonic()
            if len(confirmed_at) == LATENCY_ORDERS:
                break
        connection.close()

    consumer = threading.Thread(target=consume)
    consumer.start()
    ready.wait()
    due_at = {}
    due = time.monotonic()
    for n in range(LATENCY_ORDERS):
        due += 1 / LATENCY_RATE
        time.sleep(max(0, due - time.monotonic()))
        order_id = db.execute("SELECT order_aggregator.place_order('customer', %s::jsonb)",
                              [f'[{{"productId": "product-{n}", "quantity": 1}}]'], prepare=True).fetchone()[0]
        due_at[order_id] = due
    consumer.join()
    return [(confirmed_at[order_id] - due) * 1000 for order_id, due in due_at.items()]


def latency(figures, db):
    rounds = [latency_round(db) for _ in range(ROUNDS)]
    check(db)
    figures.add_rounds("loop_latency_p50_ms", [{"value": percentile(times, 0.5)} for times in rounds], "ms", places=2,
                       orders=LATENCY_ORDERS, orders_per_second=LATENCY_RATE)
    figures.add_rounds("loop_latency_p99_ms", [{"value": percentile(times, 0.99), "longest_ms": max(times)} for times in rounds], "ms", places=2)


def main():
    figures = Figures("loop")
    fresh()
    make_raw_publish()
    try:
        servers("base")
        with connect() as db:
            make_wal_files(db)
            empty(db, PRODUCTS)
        servers("up")
        with connect() as db:
            latency(figures, db)
            all_rounds(figures, db)
            wal_by_step(figures, db)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
