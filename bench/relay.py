#!/usr/bin/python3
"""The relay, outbox to confirmed by the broker, against rabbitmq-c alone; `make bench-relay` runs it.

raw_publish: bench/raw_publish.c publishes the same bodies, with the same window, to a quorum queue of its own.
relay_events: the bridge starts over an outbox full of them; from the first page until the checkpoint has them all.
The two take turns, and the medians are compared.
place_order_alone and doorbell_cost: place_order by 16 pgbench clients while no relay listens, and while one
listens and drains, PostgreSQL and its clients having one core and the broker and the bridge the other, both
times: what the doorbell and the relay's reading cost the transactions. place_order_shared and relay_beside: the
same with all of them on all cores, which adds what the broker's work takes from PostgreSQL on a small machine.

Environment: RELAY_EVENTS (100000), RELAY_ROUNDS (3), BENCH_SECONDS (10).
"""

import os
import statistics
import subprocess
import time

import pika
from common import OUT, RUN, SECONDS, TOP, Figures, check, connect, empty, fresh, pgbench, place_order_script, servers, settings

EVENTS = int(os.environ.get("RELAY_EVENTS", 100_000))
ROUNDS = int(os.environ.get("RELAY_ROUNDS", 3))
WINDOW, PRODUCTS = 1000, 10_000


def channel():
    return pika.BlockingConnection(pika.URLParameters(settings()["RABBITMQ_URL"])).channel()


def depth(queue):
    c = channel()
    count = c.queue_declare(queue, passive=True).method.message_count
    c.connection.close()
    return count


def forget(queue):
    """A queue that never held anything: a purged quorum queue still has its log."""
    c = channel()
    c.queue_delete(queue)
    c.connection.close()


def place(db, count):
    for _ in range(count // 1000):
        db.execute("""SELECT count(*) FROM order_aggregator.place_orders((SELECT jsonb_agg(jsonb_build_object('customerId', 'customer ' || r,
                      'products', jsonb_build_array(jsonb_build_object('productId', 'product-' || r, 'quantity', 1)))) FROM generate_series(1, 1000) AS r))""")


def published(db):
    return db.execute("SELECT coalesce(max(published), 0) FROM order_aggregator.relay_checkpoint").fetchone()[0]


def relay_round(db):
    place(db, EVENTS)
    before = published(db)
    forget("orders.placed")
    os.environ["ROLES"] = "http,relay"
    servers("start", "bridge")
    while published(db) == before:
        time.sleep(0.001)
    started, at_start = time.monotonic(), published(db)
    while published(db) < before + EVENTS:
        time.sleep(0.005)
    seconds = time.monotonic() - started
    servers("stop", "bridge")
    assert depth("orders.placed") == EVENTS
    return (before + EVENTS - at_start) / seconds


def raw_round(bodies):
    c = channel()
    c.exchange_declare("orders", "topic", durable=True)
    c.queue_declare("bench.raw", durable=True, arguments={"x-queue-type": "quorum"})
    c.queue_bind("bench.raw", "orders", "bench.raw")
    c.connection.close()
    seconds = float(subprocess.run([OUT / "raw_publish", settings()["RABBITMQ_URL"], "bench.raw", str(WINDOW), bodies],
                                   check=True, capture_output=True, text=True).stdout)
    assert depth("bench.raw") == EVENTS
    forget("bench.raw")
    return EVENTS / seconds


def relay_against_raw(figures, db):
    place(db, EVENTS)
    bodies = OUT / "bodies"
    with open(bodies, "w") as file:
        for (body,) in db.execute("SELECT payload::text FROM order_aggregator.outbox ORDER BY event_id LIMIT %s", [EVENTS]):
            file.write(body + "\n")
    empty(db, PRODUCTS)
    raw, relayed = [], []
    for _ in range(ROUNDS):
        raw.append(raw_round(bodies))
        relayed.append(relay_round(db))
    check(db)
    figures.add("raw_publish", statistics.median(raw), "messages/s", window=WINDOW, rounds=ROUNDS, slowest=round(min(raw)))
    figures.add("relay_events", statistics.median(relayed), "events/s", "raw_publish", window=WINDOW, rounds=ROUNDS, slowest=round(min(relayed)))


def place_orders_one_by_one(core):
    done, seconds, *_ = pgbench(place_order_script(PRODUCTS), 16, "doorbell", core)
    return done / seconds


def pin(name, core):
    """Keeps a server, its threads and its children to one core (None: lets them have all)."""
    root = int((RUN / f"{name}.pid").read_text().split()[0])
    children = subprocess.run(["pgrep", "-s", str(root)], capture_output=True, text=True).stdout.split()
    for pid in {str(root), *children}:
        subprocess.run(["taskset", "-a", "-c", "-p", f"0-{os.cpu_count() - 1}" if core is None else str(core), pid], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


def doorbell(figures, db, alone_name, listening_name, pinned):
    """Pinned: PostgreSQL and its clients have one core, the broker and the bridge the other, both times."""
    alone, listening = [], []
    client_core = 0 if pinned else None
    pin("rabbitmq", 1 if pinned else None)
    pin("postgresql", client_core)
    for _ in range(ROUNDS):
        empty(db, PRODUCTS)
        alone.append(place_orders_one_by_one(client_core))
        empty(db, PRODUCTS)
        forget("orders.placed")
        servers("start", "bridge")
        pin("bridge", 1 if pinned else None)
        listening.append(place_orders_one_by_one(client_core))
        servers("stop", "bridge")
        check(db)
    figures.add(alone_name, statistics.median(alone), "orders/s", rounds=ROUNDS, seconds=SECONDS)
    figures.add(listening_name, statistics.median(listening), "orders/s", alone_name, rounds=ROUNDS, seconds=SECONDS)


def main():
    figures = Figures("relay")
    fresh()
    subprocess.run(["gcc", "-O2", "-iquote", TOP / "bridge" / "src", "-o", OUT / "raw_publish", TOP / "bench" / "raw_publish.c", "-lrabbitmq"], check=True)
    try:
        servers("base")
        with connect() as db:
            empty(db, PRODUCTS)
            relay_against_raw(figures, db)
            doorbell(figures, db, "place_order_alone", "doorbell_cost", True)
            doorbell(figures, db, "place_order_shared", "relay_beside", False)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
