#!/usr/bin/python3
"""The relay, outbox to confirmed by the broker, against rabbitmq-c alone; `make bench-relay` runs it.

raw_publish: bench/raw_publish.c publishes the same bodies, with the same window, to a quorum queue of its own.
relay_events: the bridge starts over an outbox full of them; from the first checkpoint until the last.
The two take turns, BENCH_ROUNDS times. longest_gap_ms is the longest time without a confirm, or between two checkpoints.
place_order_alone and doorbell_cost: place_order by 16 pgbench clients while no relay listens, and while one
listens and drains, PostgreSQL and its clients having one core and the broker and the bridge the other, both
times: what the doorbell and the relay's reading cost the transactions. place_order_shared and relay_beside: the
same with all of them on all cores, which adds what the broker's work takes from PostgreSQL on a small machine.

Environment: RELAY_EVENTS (100000), BENCH_ROUNDS (5), BENCH_SECONDS (10).
"""

import os
import subprocess
import time

from common import RUN, Figures, check, connect, empty, fresh, longest_gap_ms, measured, pgbench, place_order_script, servers
from floors import WINDOW, add_floors, depth, forget, fsync_floor, make_raw_publish, raw_publish, write_bodies

EVENTS = int(os.environ.get("RELAY_EVENTS", 100_000))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", 5))
PRODUCTS = 10_000


def place(db, count):
    for _ in range(count // 1000):
        db.execute("""SELECT count(*) FROM order_aggregator.place_orders((SELECT jsonb_agg(jsonb_build_object('customerId', 'customer ' || r,
                      'products', jsonb_build_array(jsonb_build_object('productId', 'product-' || r, 'quantity', 1)))) FROM generate_series(1, 1000) AS r))""")


def published(db):
    return db.execute("SELECT coalesce(max(published), 0) FROM order_aggregator.relay_checkpoint").fetchone()[0]


def relay_round(db):
    """The bridge starts over so many events; from the first of its checkpoints until it has them all."""
    place(db, EVENTS)
    before = published(db)
    forget("orders.placed")
    os.environ["ROLES"] = "http,relay"
    servers("start", "bridge")
    while published(db) == before:
        time.sleep(0.001)
    at_start, started, samples = published(db), time.monotonic(), [(0, 0)]
    while at_start + samples[-1][1] < before + EVENTS:
        time.sleep(0.005)
        samples.append((time.monotonic() - started, published(db) - at_start))
    servers("stop", "bridge")
    assert depth("orders.placed") == EVENTS
    seconds, count = samples[-1]
    return {"value": count / seconds, "longest_gap_ms": longest_gap_ms(samples)}


def relay_against_raw(figures, db):
    place(db, EVENTS)
    write_bodies(db, EVENTS)
    empty(db, PRODUCTS)
    rounds = [{"fsync_floor": fsync_floor(), "raw_publish": raw_publish(EVENTS), "relay_events": relay_round(db)} for _ in range(ROUNDS)]
    check(db)
    add_floors(figures, rounds)
    figures.add_rounds("relay_events", [r["relay_events"] for r in rounds], "events/s", {"ratio": "raw_publish"}, window=WINDOW)


def place_orders_one_by_one(core):
    return measured(*pgbench(place_order_script(PRODUCTS), 16, "doorbell", core))


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
    figures.add_rounds(alone_name, alone, "orders/s")
    figures.add_rounds(listening_name, listening, "orders/s", {"ratio": alone_name})


def main():
    figures = Figures("relay")
    fresh()
    make_raw_publish()
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
