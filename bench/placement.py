#!/usr/bin/python3
"""Placement: place_order and place_orders against a plpgsql function and COPY; `make bench-placement` runs it.

All by pgbench on one private server, durable commits on, the same order of one
line over 10 000 products (evenly, Zipf 1.0) and over one. Prints a table, writes
build/bench/placement.json, and ends every load with check_consistency().

The loads come in turns, BENCH_ROUNDS times: a figure is the median of its rounds
with their range, a ratio the median of the ratios within a round, longest_gap_ms
the longest time of all rounds in which no transaction ended; fsync_floor and
batch_flush_floor (as much as a batch's WAL) have the disk's own, longest_disk_ms and
longest_stolen_ms for how long the disk under this load, and the host, held up a small write meanwhile (stalls.py).

growth_10m: batches again, with 10 million orders stored and shared_buffers of a quarter of the memory; growth_10m_*: single calls
and what bench/reads.py asks, against the same before (before_growth, before_growth_*). All that is stored is pending; POST /order, the relay and
the loop are not part of it.
A virtual machine may have to ask its host for the memory that its page cache grows
into, so each round of batches comes just after a large file was written and removed
(file_floor, MB/s), before as after. lookup_floor: orders a second that PostgreSQL's own index scans find, with lines and holds, of all.

Environment: BENCH_SECONDS (5), BENCH_ROUNDS (5), BENCH_GROWTH_ORDERS (10000000; 0 leaves growth_10m out).
"""

import os
import pathlib
import tempfile
import time

from common import Figures, check, connect, empty, empty_plpgsql, fresh, make_wal_files, measured, pgbench, place_order_script, servers
from floors import as_requests, fsync_floor, insert_floor
from peers_of_http import Bridge
from reads import LOADS, get
from stalls import Stalls

SECONDS, ROUNDS = int(os.environ.get("BENCH_SECONDS", 5)), int(os.environ.get("BENCH_ROUNDS", 5))
GROWTH = int(os.environ.get("BENCH_GROWTH_ORDERS", 10_000_000))
PRODUCTS, BATCH, BATCHES = 10_000, 1000, 200
BATCH_WAL_BYTES = 1 << 20       # docs/performance.md, who spends what
PICK = {"uniform": "floor(random() * %d)::int" % PRODUCTS, "zipf": "least(%d, floor(exp(random() * ln(%d + 1)))::int) - 1" % (PRODUCTS, PRODUCTS),
        "hot": "0"}
BATCH_SCRIPT = f"""\\set n random(1, {BATCHES})
SELECT * FROM order_aggregator.place_orders((SELECT requests::jsonb FROM bench.batch WHERE n = :n));
"""
GROWTH_ROUNDS = min(ROUNDS, 3)
BATCHES_ALONE = ""      # the name of their figure is growth_10m
RECENT = 100_000
SPREADS = {"uniform": PRODUCTS, "hot": 1}     # of how many products one is chosen

figures = Figures("placement")


def empty_with_batches(db, spread):
    """A fresh extension, and batches of requests as text in a table."""
    empty(db, PRODUCTS)
    db.execute("DROP TABLE IF EXISTS bench.batch")
    db.execute("CREATE TABLE bench.batch (n int PRIMARY KEY, requests text)")
    db.execute(f"""INSERT INTO bench.batch SELECT b, (SELECT jsonb_agg(jsonb_build_object('customerId', 'customer ' || r, 'products',
                   jsonb_build_array(jsonb_build_object('productId', 'product-' || {PICK[spread]}, 'quantity', 1))))::text
                   FROM generate_series(1, {BATCH}) AS r WHERE b = b) FROM generate_series(1, {BATCHES}) AS b""")
    db.execute("CHECKPOINT")


def plpgsql(db, spread):
    empty_plpgsql(db, PRODUCTS)
    found = pgbench(f"\\set n random(0, {SPREADS[spread] - 1})\nSELECT bench.place_order('customer 7', 'product-' || :n, 1);\n", 16,
                    f"plpgsql_{spread}", seconds=SECONDS)
    return measured(*found, accepted=db.execute("SELECT count(*) FROM bench.orders").fetchone()[0])


def orders_stored(db):
    return db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]


def placing(db, script, clients, tag):
    """Clients that place orders: a round of it, and how many calls it was."""
    before = orders_stored(db)
    with Stalls() as stalls:
        found = pgbench(script, clients, tag, seconds=SECONDS)
    return {**measured(*found, accepted=orders_stored(db) - before), **stalls.longest}, found[0]


def give_lanes(db, lanes):
    """So many, as text, to the hot product; None: as it is."""
    if lanes is not None:
        db.execute("SELECT order_aggregator.configure_product('product-0', lanes => %s::text)", [lanes])


def place_order(db, spread, lanes=None):
    empty(db, PRODUCTS)
    give_lanes(db, lanes)
    found, _ = placing(db, place_order_script(SPREADS[spread]), 16, f"place_order_{spread}")
    check(db)
    return found


def single_calls(db):
    """16 clients, one call an order."""
    loads = {"insert_floor": lambda: insert_floor(db, SECONDS)}
    loads |= {f"plpgsql_{spread}": lambda spread=spread: plpgsql(db, spread) for spread in SPREADS}
    loads |= {"place_order_uniform": lambda: place_order(db, "uniform"), "place_order_hot": lambda: place_order(db, "hot", "auto"),
              "place_order_hot_without_lanes": lambda: place_order(db, "hot")}
    baselines = {"place_order_uniform": {"ratio": "plpgsql_uniform", "ratio_to_floor": "insert_floor"},
                 "place_order_hot": {"ratio": "plpgsql_hot", "ratio_to_uniform": "place_order_uniform"},
                 "place_order_hot_without_lanes": {"ratio": "plpgsql_hot"}}
    rounds = [{"fsync_floor": fsync_floor(), **{name: load() for name, load in loads.items()}} for _ in range(ROUNDS)]
    figures.add_rounds("fsync_floor", [r["fsync_floor"] for r in rounds], "fsyncs/s")
    for name in loads:
        figures.add_rounds(name, [r[name] for r in rounds], "orders/s", baselines.get(name))


def place_orders(db, spread, lanes=None):
    empty_with_batches(db, spread)
    give_lanes(db, lanes)
    found, _ = placing(db, BATCH_SCRIPT, 1, f"place_orders_{spread}")
    check(db)
    return found


def place_orders_refused(db):
    """Batches of 1 000 requests of which 999 cannot be served."""
    empty_with_batches(db, "uniform")
    db.execute(r"""UPDATE bench.batch SET requests = (SELECT jsonb_agg(CASE WHEN i = 1 THEN r ELSE jsonb_set(r, '{products,0,quantity}', '1000000000') END)
                   FROM jsonb_array_elements(requests::jsonb) WITH ORDINALITY AS r(r, i))::text""")
    db.execute("UPDATE order_aggregator.stock SET on_hand = 100000")
    found, calls = placing(db, BATCH_SCRIPT, 1, "refused")
    check(db)
    return {**found, "value": calls * BATCH / SECONDS}


def batches(db):
    """One client, 1 000 orders a call; and each time COPY of what that has left. The hot product with 16 lanes too,
    and batches that are refused but for one order."""
    copies = {"uniform": "copy_limit", "zipf": "copy_zipf", "hot": "copy_hot"}
    rounds = []
    for _ in range(ROUNDS):
        rounds.append({"batch_flush_floor": fsync_floor(SECONDS, BATCH_WAL_BYTES)})
        for spread in PICK:
            rounds[-1][f"place_orders_{spread}"] = place_orders(db, spread)
            rounds[-1][copies[spread]] = copy(db)
        rounds[-1]["place_orders_hot_with_lanes"] = place_orders(db, "hot", "16")
        rounds[-1]["place_orders_999_refused"] = place_orders_refused(db)
    figures.add_rounds("batch_flush_floor", [r["batch_flush_floor"] for r in rounds], "flushes/s")
    for spread in PICK:
        name, limit = f"place_orders_{spread}", copies[spread]
        figures.add_rounds(limit, [r[limit] for r in rounds], "orders/s")
        figures.add_rounds(name, [r[name] for r in rounds], "orders/s",
                           {"ratio": "plpgsql_hot" if spread == "hot" else "plpgsql_uniform", "ratio_to_copy": limit})
    figures.add_rounds("place_orders_hot_with_lanes", [r["place_orders_hot_with_lanes"] for r in rounds], "orders/s", {"ratio": "place_orders_hot"})
    figures.add_rounds("place_orders_999_refused", [r["place_orders_999_refused"] for r in rounds], "requests/s", {"ratio": "place_orders_uniform"})


def copy(db):
    """COPY of the rows that a run has left into empty tables with the same indexes."""
    tables = ["orders", "order_line", "hold", "outbox"]
    folder = data_directory(db)
    orders = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    for table in tables:
        db.execute(f"COPY (SELECT * FROM order_aggregator.{table}) TO '{folder}/{table}.bench'")
        db.execute(f"DROP TABLE IF EXISTS bench.copy_{table}")
        db.execute(f"CREATE TABLE bench.copy_{table} (LIKE order_aggregator.{'outbox_0' if table == 'outbox' else table} INCLUDING ALL)")
    db.execute("CHECKPOINT")
    seconds = db.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0]
    with db.transaction():
        for table in tables:
            db.execute(f"COPY bench.copy_{table} FROM '{folder}/{table}.bench'")
    seconds = float(db.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0] - seconds)
    for table in tables:
        db.execute(f"DROP TABLE bench.copy_{table}")
    return {"value": orders / seconds}


def place_until(db, count):
    while db.execute("SELECT last_value FROM order_aggregator.event_id_seq").fetchone()[0] < count:
        db.execute("SELECT count(*) FROM bench.batch AS b, LATERAL order_aggregator.place_orders(b.requests::jsonb)")
    db.execute("VACUUM ANALYZE")
    db.execute("CHECKPOINT")


def warm_up(db):
    """Has what the reads need in shared_buffers, as it is on a server that has run for a while."""
    db.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
    db.execute("""SELECT sum(pg_prewarm(r)) FROM (VALUES ('orders'), ('order_line'), ('hold')) AS t(name),
                  LATERAL (SELECT to_regclass('order_aggregator.' || name) UNION ALL
                           SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass('order_aggregator.' || name)) AS of_table(r)""")


def last_order(db):
    return db.execute("SELECT max(order_id) FROM order_aggregator.orders").fetchone()[0]


def data_directory(db):
    return pathlib.Path(db.execute("SHOW data_directory").fetchone()[0])


def file_floor(db):
    """How fast the system takes a new file of 2 GB, 8 kB at a time, without a flush; its memory is free then, and the machine's own."""
    page = bytes(8192)
    with tempfile.TemporaryFile(dir=data_directory(db).parent, buffering=0) as file:
        began = time.monotonic()
        for _ in range(262_144):
            file.write(page)
        return {"value": 2048 / (time.monotonic() - began)}


def reads_of_growth(db):
    last = last_order(db)
    loads = {"get_order_recent": ("/order/", last - RECENT + 1, RECENT), "get_order": ("/order/", 1, last),
             "get_product": LOADS["get_product"], "list_products": LOADS["list_products"]}
    with Bridge() as bridge:
        found = {f"_{name}": as_requests(get(bridge.url, what)) for name, what in loads.items()}
    return {**found, "_lookup_floor": lookup_floor(db)}


def lookup_floor(db):
    """What PostgreSQL's own index scans can do of get_order: orders of all by chance, with their lines and holds, in one query."""
    count = 50_000
    last = last_order(db)
    with db.transaction():
        for way in ("hashjoin", "mergejoin", "seqscan", "bitmapscan", "memoize"):
            db.execute(f"SET LOCAL enable_{way} = off")
        began = time.monotonic()
        db.execute("""SELECT count(o.status), count(l.product_id), count(h.status)
                      FROM (SELECT 1 + floor(random() * %s)::bigint AS order_id FROM generate_series(1, %s) OFFSET 0) AS wanted
                      JOIN order_aggregator.orders AS o USING (order_id) JOIN order_aggregator.order_line AS l USING (order_id)
                      JOIN order_aggregator.hold AS h USING (order_id)""", [last, count])
        return {"value": count / (time.monotonic() - began)}


def placing_of_growth(db):
    single = {f"_place_order_{spread}": placing(db, place_order_script(products), 16, "growth")[0] for spread, products in SPREADS.items()}
    return {**single, "_file_floor": file_floor(db), BATCHES_ALONE: placing(db, BATCH_SCRIPT, 1, "growth")[0]}


def rounds_of_growth(db, prefix, baseline=None):
    """Reads, single calls and batches, with whatever is stored."""
    rounds = [reads_of_growth(db) for _ in range(GROWTH_ROUNDS)]
    for found in rounds:        # later, so that all reads are of as many orders
        found.update(placing_of_growth(db))
    for name in rounds[0]:
        unit = {"_file_floor": "MB/s", "_lookup_floor": "orders/s"}.get(name, "orders/s" if "place" in name or name == BATCHES_ALONE else "requests/s")
        figures.add_rounds(prefix + name, [found[name] for found in rounds], unit, baseline and {"ratio": baseline + name})


def give_memory():
    """A quarter of the machine's, as docs/operations.md has it for tables of that size."""
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 // 1024 ** 2
    with connect() as db:
        db.execute(f"ALTER SYSTEM SET shared_buffers = '{megabytes}MB'")
    servers("stop", "postgresql")
    servers("base")
    servers("stop", "rabbitmq")
    return megabytes


def run_growth(db):
    """Everything again, with 10 million orders in the tables."""
    empty_with_batches(db, "uniform")
    db.execute("SELECT order_aggregator.configure_product('product-0', lanes => 'auto')")
    place_until(db, RECENT)
    rounds_of_growth(db, "before_growth")
    place_until(db, GROWTH)
    stored = orders_stored(db)
    print(f"{stored:,} orders stored")
    warm_up(db)
    rounds_of_growth(db, "growth_10m", "before_growth")
    db.execute("CHECKPOINT")
    for name, sql in (("check_consistency_s", "SELECT count(*) FROM order_aggregator.check_consistency()"),
                      ("check_stock_s", "SELECT count(*) FROM order_aggregator.check_stock()"),
                      ("check_last_million_s", f"SELECT count(*) FROM order_aggregator.check_orders({last_order(db) - 1_000_000})")):
        began = time.monotonic()
        assert db.execute(sql).fetchone()[0] == 0
        figures.add(name, time.monotonic() - began, "s", places=1, stored=stored)


def main():
    fresh()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        with connect() as db:
            make_wal_files(db)
            single_calls(db)
            batches(db)
        if GROWTH:
            print(f"shared_buffers {give_memory()} MB")
            with connect() as db:
                run_growth(db)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
