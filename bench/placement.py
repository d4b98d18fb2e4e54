#!/usr/bin/python3
"""Placement: place_order and place_orders against a plpgsql function and COPY; `make bench-placement` runs it.

All by pgbench on one private server, durable commits on, the same order of one
line over 10 000 products (evenly, Zipf 1.0) and over one. Prints a table, writes
build/bench/placement.json, and ends every load with check_consistency().

Environment: BENCH_SECONDS (10), BENCH_GROWTH_ORDERS (10000000; 0 leaves growth_10m out).
"""

import os

from common import Figures, check, connect, empty, empty_plpgsql, fresh, pgbench, place_order_script, servers

GROWTH = int(os.environ.get("BENCH_GROWTH_ORDERS", 10_000_000))
PRODUCTS, BATCH, BATCHES = 10_000, 1000, 200
PICK = {"uniform": "floor(random() * %d)::int" % PRODUCTS, "zipf": "least(%d, floor(exp(random() * ln(%d + 1)))::int) - 1" % (PRODUCTS, PRODUCTS),
        "hot": "0"}
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


def report(name, accepted, rejected, seconds, p50, p99, baseline=None):
    figures.add(name, accepted / seconds, "orders/s", baseline, accepted=accepted, rejected=rejected, p50_ms=round(p50, 2), p99_ms=round(p99, 2))


def run_plpgsql(db, spread):
    empty_plpgsql(db, PRODUCTS)
    done, seconds, p50, p99 = pgbench(f"\\set n random(0, {SPREADS[spread] - 1})\nSELECT bench.place_order('customer 7', 'product-' || :n, 1);\n",
                                      16, f"plpgsql_{spread}")
    accepted = db.execute("SELECT count(*) FROM bench.orders").fetchone()[0]
    report(f"plpgsql_{spread}", accepted, done - accepted, seconds, p50, p99)


def run_place_order(db, spread):
    empty(db, PRODUCTS)
    done, seconds, p50, p99 = pgbench(place_order_script(SPREADS[spread]), 16, f"place_order_{spread}")
    accepted = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    check(db)
    report(f"place_order_{spread}", accepted, done - accepted, seconds, p50, p99, f"plpgsql_{spread}")


def place_batches(db, tag):
    """One connection placing batches; returns (accepted, rejected, seconds, p50, p99)."""
    before = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    script = f"\\set n random(1, {BATCHES})\nSELECT * FROM order_aggregator.place_orders((SELECT requests::jsonb FROM bench.batch WHERE n = :n));\n"
    done, seconds, p50, p99 = pgbench(script, 1, tag)
    accepted = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0] - before
    check(db)
    return accepted, done * BATCH - accepted, seconds, p50, p99


def run_place_orders(db, spread):
    empty_with_batches(db, spread)
    report(f"place_orders_{spread}", *place_batches(db, f"place_orders_{spread}"), "plpgsql_hot" if spread == "hot" else "plpgsql_uniform")


def run_refused(db):
    """Batches of 1 000 of which 999 cannot be served, against those that are all served."""
    empty_with_batches(db, "uniform")
    db.execute(r"""UPDATE bench.batch SET requests = (SELECT jsonb_agg(CASE WHEN i = 1 THEN r ELSE jsonb_set(r, '{products,0,quantity}', '1000000000') END)
                   FROM jsonb_array_elements(requests::jsonb) WITH ORDINALITY AS r(r, i))::text""")
    db.execute("UPDATE order_aggregator.stock SET on_hand = 100000")
    accepted, rejected, seconds, p50, p99 = place_batches(db, "refused")
    figures.add("place_orders_999_refused", (accepted + rejected) / seconds, "requests/s", "place_orders_uniform", accepted=accepted,
                rejected=rejected, p50_ms=round(p50, 2), p99_ms=round(p99, 2))


def run_copy(db):
    """COPY of the rows that a run has left into empty tables with the same indexes."""
    tables = ["orders", "order_line", "hold", "outbox"]
    folder = db.execute("SELECT current_setting('data_directory')").fetchone()[0]
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
    report("copy_limit", orders, 0, seconds, seconds * 1000, seconds * 1000)


def run_growth(db):
    """place_orders_uniform again, with 10 million orders in the tables."""
    empty_with_batches(db, "uniform")
    while db.execute("SELECT last_value FROM order_aggregator.event_id_seq").fetchone()[0] < GROWTH:
        db.execute("SELECT count(*) FROM bench.batch AS b, LATERAL order_aggregator.place_orders(b.requests::jsonb)")
    db.execute("VACUUM ANALYZE")
    db.execute("CHECKPOINT")
    stored = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    print(f"{stored:,} orders stored")
    report("growth_10m", *place_batches(db, "growth_10m"), "place_orders_uniform")


def main():
    fresh()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        db = connect()
        for spread in SPREADS:
            run_plpgsql(db, spread)
        for spread in SPREADS:
            run_place_order(db, spread)
        for spread in ("uniform", "zipf", "hot"):
            run_place_orders(db, spread)
        run_copy(db)
        limit = figures.value("copy_limit")
        for row in figures.rows:
            if row["name"].startswith("place_orders_"):
                row["ratio_to_copy"] = round(row["value"] / limit, 2)
                print(f"{row['name']}: {row['ratio_to_copy']} of COPY")
        run_refused(db)
        if GROWTH:
            run_growth(db)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
