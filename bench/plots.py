#!/usr/bin/python3
"""The plots of docs/performance.md; `make bench-plots` draws them anew.

docs/latency_of_load.svg: POST /order by HTTP_CONNECTIONS connections, evenly over 10 000 products, at tenths of what the bridge can take.
docs/one_product.svg: place_order on one product by 1 to 64 clients, with lanes and without, and the plpgsql function.

Environment: BENCH_SECONDS (5), HTTP_CONNECTIONS (128).
"""

import os

from common import TOP, Figures, check, connect, empty, empty_plpgsql, fresh, make_wal_files, pgbench, place_order_script, servers, wrk
from peers_of_http import Bridge
from svg import chart

SECONDS, CONNECTIONS = int(os.environ.get("BENCH_SECONDS", 5)), int(os.environ.get("HTTP_CONNECTIONS", 128))
PRODUCTS, CLIENTS = 10_000, [1, 2, 4, 8, 16, 32, 64]
SHARES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def latency_of_load(figures, db):
    empty(db, PRODUCTS)
    percentiles = {"p50": [], "p99": [], "longest": []}
    with Bridge() as running:
        def load(delay_ms):
            return wrk(running.url, "order.lua", CONNECTIONS, SECONDS, PRODUCTS=PRODUCTS, DELAY_MS=delay_ms)
        load(0)     # whatever is only slow the first time
        top = load(0)
        most = top["requests"] / top["us"] * 1e6
        for share in SHARES:
            found = load(CONNECTIONS / (most * share) * 1000 - top["p50"] * share)
            rate = found["requests"] / found["us"] * 1e6
            figures.add(f"post_order_at_{share:.0%}", rate, "orders/s", p50_ms=found["p50"], p99_ms=found["p99"], longest_ms=found["max"])
            for name, key in (("p50", "p50"), ("p99", "p99"), ("longest", "max")):
                percentiles[name].append((rate, found[key]))
    check(db)
    return chart(f"POST /order, {CONNECTIONS} connections: latency at a load", "orders per second", "milliseconds", percentiles, log_y=True)


def one_product(figures, db):
    lines = {"place_order, lanes => 'auto'": [], "place_order": [], "plpgsql function": []}
    for clients in CLIENTS:
        for name, points in lines.items():
            if name == "plpgsql function":
                empty_plpgsql(db, 1)
                script = "SELECT bench.place_order('customer 7', 'product-0', 1);\n"
            else:
                empty(db, 1)
                if "lanes" in name:
                    db.execute("SELECT order_aggregator.configure_product('product-0', lanes => 'auto')")
                script = place_order_script(1)
            done, seconds, p50, p99, gap = pgbench(script, clients, "one_product", seconds=SECONDS)
            if name != "plpgsql function":
                check(db)
            points.append((clients, done / seconds))
            figures.add(f"{name}, {clients} clients", done / seconds, "orders/s", p50_ms=round(p50, 2), p99_ms=round(p99, 2), longest_gap_ms=round(gap, 1))
    return chart("Orders of one product by single calls", "clients", "orders per second", lines, log_x=True)


def main():
    figures = Figures("plots")
    fresh()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        with connect() as db:
            make_wal_files(db)
            (TOP / "docs" / "one_product.svg").write_text(one_product(figures, db))
            (TOP / "docs" / "latency_of_load.svg").write_text(latency_of_load(figures, db))
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
