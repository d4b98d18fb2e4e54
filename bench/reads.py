#!/usr/bin/python3
"""GET /order/{id}, GET /products/{id} and GET /products?limit=100 against a Node service; `make bench-reads` runs it.

The same wrk, the same tables, all on this machine: order-bridge (role http) against Fastify with a pg pool of 16 and prepared statements that
asks the extension's views (bench/peers/), in turns, BENCH_ROUNDS rounds of BENCH_SECONDS. A figure is the median of the rounds, with their range;
its ratio is the median of the rounds' ratios. longest_ms is the longest time that any request took. Then as many rounds of the bridge at half of what it can.
node_*_function: the peer with the functions that the bridge calls, which it calls once a request (ratio_to_function). Every server is warmed up
by a second of the same load, and who is first changes from round to round.

Environment: BENCH_SECONDS (10), HTTP_CONNECTIONS (64), BENCH_ROUNDS (5).
"""

import os

from common import SECONDS, Figures, connect, empty, fresh, servers, wrk
from floors import add_floors, as_requests, at_half, http_echo
from peers_of_http import Bridge, Node

CONNECTIONS, ROUNDS = int(os.environ.get("HTTP_CONNECTIONS", 64)), int(os.environ.get("BENCH_ROUNDS", 5))
PRODUCTS, ORDERS = 10_000, 100_000
LOADS = {"get_order": ("/order/", 1, ORDERS), "get_product": ("/products/product-", 0, PRODUCTS), "list_products": ("/products?limit=100", 0, 1)}


def get(url, what, delay_ms=0, suffix=""):
    """Asks for one of so many things at random; what: their path, the first number and the count of them."""
    before, first, count = what
    summary = None
    for seconds in (1, SECONDS):
        summary = wrk(url, "get.lua", CONNECTIONS, seconds, PATH_BEFORE=before, FIRST=first, COUNT=count, DELAY_MS=delay_ms, SUFFIX=suffix)
    return summary


def add(figures, name, summaries, baselines=None):
    figures.add_rounds(name, [as_requests(summary) for summary in summaries], "requests/s", baselines)


def compare(figures, load):
    found = {"node": [], "function": [], "bridge": []}
    for n in range(ROUNDS):
        for server in ((Node, Bridge), (Bridge, Node))[n % 2]:
            with server() as running:
                if server is Bridge:
                    found["bridge"].append(get(running.url, LOADS[load]))
                    continue
                found["node"].append(get(running.url, LOADS[load]))
                if load != "list_products":
                    found["function"].append(get(running.url, LOADS[load], suffix="?by=function"))
    add(figures, f"node_{load}", found["node"])
    baselines = {"ratio": f"node_{load}"}
    if found["function"]:
        add(figures, f"node_{load}_function", found["function"])
        baselines["ratio_to_function"] = f"node_{load}_function"
    add(figures, load, found["bridge"], baselines)


def half_load(figures, load):
    """As many connections, each waiting long enough between two requests that they come to half of what they can."""
    with Bridge() as running:
        summaries = [get(running.url, LOADS[load], 2 * CONNECTIONS / figures.value(load) * 1000) for _ in range(ROUNDS)]
    figures.add_rounds(f"{load}_p99_ms_half_load", [at_half(summary, "requests") for summary in summaries], "ms", places=2)


def main():
    figures = Figures("reads")
    fresh()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        with connect() as db:
            empty(db, PRODUCTS)
            db.execute(f"""SELECT count(*) FROM generate_series(0, {ORDERS // 1000 - 1}) AS b, LATERAL order_aggregator.place_orders(
                           (SELECT jsonb_agg(jsonb_build_object('customerId', 'customer 7', 'products', jsonb_build_array(
                            jsonb_build_object('productId', 'product-' || (b * 1000 + r) % {PRODUCTS}, 'quantity', 1)))) FROM generate_series(1, 1000) AS r))""")
            db.execute("VACUUM ANALYZE")
            db.execute("CHECKPOINT")
            add_floors(figures, [{"http_echo": http_echo(CONNECTIONS, SECONDS)} for _ in range(ROUNDS)])
            for load in LOADS:
                compare(figures, load)
            for load in LOADS:
                half_load(figures, load)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
