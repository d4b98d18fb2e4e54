#!/usr/bin/python3
"""The whole loop: placed, relayed, answered by the vendor simulator, confirmed; `make bench-loop` runs it.

PostgreSQL, RabbitMQ, the bridge, the simulator and the load share this machine.
loop_orders: orders confirmed a second while batches of place_orders() keep a bounded number under way;
loop_slowest_second: the fewest in any second of that, its ratio to the mean; loop_cpu_us: who spends
how much processor time for one order on its way, and loop_wal_bytes of WAL.
loop_latency: 100 orders a second by place_order(), from before the call until its order.confirmed event
is in the hands of a consumer, which is one hop more than the database's own "confirmed".
BENCH_ROUNDS rounds: medians with their range; what was spent is of all of them.

Environment: LOOP_SECONDS (30), BENCH_ROUNDS (5).
"""

import json
import os
import threading
import time

import pika
import requests
from common import Figures, check, connect, empty, fresh, make_wal_files, percentile, servers, settings
from spent import Spent

SECONDS, ROUNDS = int(os.environ.get("LOOP_SECONDS", 30)), int(os.environ.get("BENCH_ROUNDS", 5))
PRODUCTS, BATCH, UNDER_WAY = 10_000, 500, 4_000
LATENCY_ORDERS, LATENCY_RATE = 2_000, 100


def metric(name):
    for line in requests.get(settings()["HTTP_URL"] + "/metrics", timeout=10).text.splitlines():
        if line.startswith(f"order_bridge_{name} "):
            return int(line.split()[1])
    raise KeyError(name)


def sustained(db):
    """A round: (orders confirmed, seconds, the fewest in a second of it, what was spent as Spent tells it)."""
    batches = [json.dumps([{"customerId": f"customer {n}", "products": [{"productId": f"product-{(b * BATCH + n) % PRODUCTS}", "quantity": 1}]}
                           for n in range(BATCH)]) for b in range(PRODUCTS // BATCH)]
    placed = confirmed = 0
    before = metric("replies_applied_total")
    samples = []
    spent = Spent(db)
    started = time.monotonic()
    while time.monotonic() < started + SECONDS:
        confirmed = metric("replies_applied_total") - before
        samples.append((time.monotonic() - started, confirmed))
        while placed - confirmed + BATCH <= UNDER_WAY:
            db.execute("SELECT count(order_id) FROM order_aggregator.place_orders(%s::jsonb)", [batches[placed // BATCH % len(batches)]])
            placed += BATCH
        time.sleep(0.005)
    seconds, confirmed = time.monotonic() - started, metric("replies_applied_total") - before
    used = spent.since()
    by_second = [next(c for at, c in samples if at >= second) for second in range(1, int(samples[-1][0]))]
    slowest = min(later - earlier for earlier, later in zip(by_second, by_second[1:]))
    drain(db)
    check(db)
    return confirmed, seconds, slowest, used


def all_rounds(figures, db):
    rounds = [sustained(db) for _ in range(ROUNDS)]
    figures.add_rounds("loop_orders", [{"value": confirmed / seconds} for confirmed, seconds, *_ in rounds], "orders/s")
    figures.add_rounds("loop_slowest_second", [{"value": slowest} for _, _, slowest, _ in rounds], "orders/s", {"ratio": "loop_orders"})
    confirmed = sum(r[0] for r in rounds)
    cpu, wal_bytes, wal_records, full_pages = (sum(parts, type(parts[0])()) for parts in zip(*(used for *_, used in rounds)))
    for who, seconds in sorted(cpu.items(), key=lambda item: -item[1]):
        if seconds * 1_000_000 >= confirmed:
            figures.add("loop_cpu_us", seconds * 1_000_000 / confirmed, "µs/order", places=1, who=who)
    figures.add("loop_wal_bytes", wal_bytes / confirmed, "bytes/order", records=round(wal_records / confirmed, 2), full_pages=round(full_pages / confirmed, 3))


def drain(db):
    """Waits until all orders are confirmed."""
    deadline = time.monotonic() + 60
    while db.execute("SELECT EXISTS (SELECT FROM order_aggregator.orders WHERE status <> 'confirmed')").fetchone()[0]:
        assert time.monotonic() < deadline, "orders were left pending"
        time.sleep(0.2)


def latency(figures, db):
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
    placed_at = {}
    due = time.monotonic()
    for n in range(LATENCY_ORDERS):
        due += 1 / LATENCY_RATE
        time.sleep(max(0, due - time.monotonic()))
        start = time.monotonic()
        order_id = db.execute("SELECT order_aggregator.place_order('customer', %s::jsonb)",
                              [f'[{{"productId": "product-{n}", "quantity": 1}}]'], prepare=True).fetchone()[0]
        placed_at[order_id] = start
    consumer.join()
    times = [(confirmed_at[order_id] - start) * 1000 for order_id, start in placed_at.items()]
    check(db)
    figures.add("loop_latency_p50_ms", percentile(times, 0.5), "ms", places=2, orders=len(times), orders_per_second=LATENCY_RATE)
    figures.add("loop_latency_p99_ms", percentile(times, 0.99), "ms", places=2)


def main():
    figures = Figures("loop")
    fresh()
    try:
        servers("base")
        with connect() as db:
            make_wal_files(db)
            empty(db, PRODUCTS)
        servers("up")
        with connect() as db:
            latency(figures, db)
            all_rounds(figures, db)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
