#!/usr/bin/python3
"""POST /order against a Node service; `make bench-http` runs it.

The same wrk, the same order of one line, durable commits on, all on this machine: order-bridge (role http) against
Fastify with a pg pool of 16 that calls one plpgsql function writing the same facts (bench/peers/), over 10 000
products and on one. One client alone, too. BENCH_ROUNDS rounds in turns: medians with their range, and what disk, PostgreSQL and
HTTP can do at all in each (floors.py). Then as many rounds of the bridge at half of its top load. Every accepted order is counted in
the database, and check_consistency() ends each load.

At last the whole stack (relay, broker, vendor, replies) beside the bridge's HTTP, under busy connections of several numbers:
http_longest_gap_ms is the longest time without a single order, over all rounds; an average would hide it. It is by when orders were begun, of all
gaps that begin within the round's seconds: the load goes on for one more, so that their end is seen. longest_ms: the longest that a client
waited, as wrk says; longest_disk_ms, longest_stolen_ms: for how long the disk under this load, and the host, held up a small write (stalls.py).

Environment: BENCH_SECONDS (5), BENCH_ROUNDS (5), HTTP_CONNECTIONS (128), GAP_ROUNDS (20), GAP_SECONDS (3).
"""

import os
import resource
import socket

from common import Figures, check, connect, empty, empty_plpgsql, fresh, make_wal_files, percentile, servers, settings, wrk
from floors import add_floors, at_half, fsync_floor, http_echo, insert_floor
from peers_of_http import Bridge, Node
from stalls import Stalls

SECONDS, ROUNDS = int(os.environ.get("BENCH_SECONDS", 5)), int(os.environ.get("BENCH_ROUNDS", 5))
CONNECTIONS = int(os.environ.get("HTTP_CONNECTIONS", 128))
PRODUCTS = 10_000
MORE_SECONDS = 1        # of a load whose gaps are looked for
GAP_ROUNDS, GAP_SECONDS = int(os.environ.get("GAP_ROUNDS", 20)), int(os.environ.get("GAP_SECONDS", 3))
GAP_LOADS = [(64, 0), (127, 0), (128, 0), (129, 0), (256, 0), (512, 0), (128, 4000)]    # busy connections, and idle ones beside them


def place(url, products, connections, delay_ms=0, seconds=SECONDS):
    """Runs a load of orders and returns wrk's summary; latencies in ms."""
    return wrk(url, "order.lua", connections, seconds, PRODUCTS=products, DELAY_MS=delay_ms)


def longest_gap_ms(db, table, began, seconds):
    """The longest time without an order that began in the first seconds of a load, which is over by now."""
    return float(db.execute(f"""SELECT 1000 * max(extract(epoch FROM at - before)) FROM
        (SELECT at, lag(at) OVER (ORDER BY at) AS before FROM
            (SELECT DISTINCT placed_at AS at FROM {table} WHERE placed_at >= %(began)s
             UNION ALL VALUES (%(began)s::timestamptz), (clock_timestamp())) AS moments) AS steps
        WHERE before < %(began)s + %(seconds)s * interval '1 second'""",
                            {"began": began, "seconds": seconds}).fetchone()[0])


def now(db):
    return db.execute("SELECT clock_timestamp()").fetchone()[0]


def place_all(db, server, table, products):
    """A round of a load, of the orders that the database has."""
    with server() as running:
        began = now(db)
        summary = place(running.url, products, CONNECTIONS, seconds=SECONDS + MORE_SECONDS)
        gap = longest_gap_ms(db, table, began, SECONDS)
    stored = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    assert stored >= summary["requests"], (stored, summary)
    return {"value": summary["requests"] / summary["us"] * 1e6, "p50_ms": summary["p50"], "p99_ms": summary["p99"],
            "longest_gap_ms": gap, "longest_ms": summary["max"]}


def node(db, products):
    empty_plpgsql(db, PRODUCTS)
    return place_all(db, Node, "bench.orders", products)


def bridge(db, products):
    empty(db, PRODUCTS)
    found = place_all(db, Bridge, "order_aggregator.orders", products)
    check(db)
    return found


def single(server):
    """One client alone: the median time an order takes."""
    with server() as running:
        summary = place(running.url, PRODUCTS, 1)
    return {"value": summary["p50"], "p99_ms": summary["p99"], "longest_ms": summary["max"]}


def in_turns(figures, db):
    floors = {"fsync_floor": fsync_floor, "insert_floor": lambda: insert_floor(db, SECONDS), "http_echo": lambda: http_echo(CONNECTIONS, SECONDS)}
    loads = {}
    for spread, products in (("uniform", PRODUCTS), ("hot", 1)):
        loads |= {f"node_{spread}": lambda products=products: node(db, products), f"http_{spread}": lambda products=products: bridge(db, products)}
    loads |= {"node_p50_ms_single": lambda: single(Node), "http_p50_ms_single": lambda: single(Bridge)}
    rounds = [{name: load() for name, load in {**floors, **loads}.items()} for _ in range(ROUNDS)]
    add_floors(figures, rounds)
    for name in loads:
        unit, places = ("ms", 3) if "ms" in name else ("orders/s", 0)
        figures.add_rounds(name, [r[name] for r in rounds], unit, {"ratio": name.replace("http", "node")} if name.startswith("http") else None, places=places)


def half_load(figures):
    """As many connections, each waiting long enough between two orders that they come to half of the top load."""
    wait_ms = 2 * CONNECTIONS / figures.value("http_uniform") * 1000
    with Bridge() as bridge:
        summaries = [place(bridge.url, PRODUCTS, CONNECTIONS, wait_ms) for _ in range(ROUNDS)]
    figures.add_rounds("http_p99_ms_half_load", [at_half(summary, "orders") for summary in summaries], "ms", places=2)


def idle_connections(url, count):
    host, port = url.removeprefix("http://").split(":")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return [socket.create_connection((host, int(port))) for _ in range(count)]


def gaps(figures, db):
    """All roles, the vendor simulator and the broker at work; see the head of this file."""
    os.environ.pop("ROLES", None)
    servers("up")
    url, longest = settings()["HTTP_URL"], []
    for busy, idle in GAP_LOADS:
        found, summaries = [], []
        with Stalls() as stalls:
            for _ in range(GAP_ROUNDS):
                held = idle_connections(url, idle)      # anew each time: the bridge closes what has been idle for long
                began = now(db)
                summaries.append(place(url, PRODUCTS, busy, seconds=GAP_SECONDS + MORE_SECONDS))
                found.append(longest_gap_ms(db, "order_aggregator.orders", began, GAP_SECONDS))
                for connection in held:
                    connection.close()
        beside = {"longest_ms": round(max(summary["max"] for summary in summaries), 2), **stalls.longest}
        orders_per_second = sum(summary["requests"] for summary in summaries) / sum(summary["us"] for summary in summaries) * 1e6
        figures.add(f"http_longest_gap_ms_{busy}" + (f"_beside_{idle}_idle" if idle else ""), max(found), "ms", rounds=GAP_ROUNDS,
                    median_ms=round(percentile(found, 0.5)), orders_per_second=round(orders_per_second), **beside)
        longest.append((max(found), beside))
    gap, beside = max(longest, key=lambda found: found[0])
    figures.add("http_longest_gap_ms", gap, "ms", rounds=GAP_ROUNDS * len(GAP_LOADS), **beside)


def main():
    figures = Figures("http")
    fresh()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        with connect() as db:
            make_wal_files(db)
            empty(db, PRODUCTS)
            in_turns(figures, db)
            empty(db, PRODUCTS)
            half_load(figures)
            check(db)
            empty(db, PRODUCTS)
            gaps(figures, db)
            check(db)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
