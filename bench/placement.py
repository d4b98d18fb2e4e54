#!/usr/bin/python3
"""Placement: place_order and place_orders against a plpgsql function and COPY; `make bench-placement` runs it.

All by pgbench on one private server, durable commits on, the same order of one
line over 10 000 products (evenly, Zipf 1.0) and over one. Prints a table, writes
build/bench/placement.json, and ends every load with check_consistency().

Environment: BENCH_SECONDS (10), BENCH_GROWTH_ORDERS (10000000; 0 leaves growth_10m out).
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import psycopg

TOP = pathlib.Path(__file__).resolve().parent.parent
RUN = TOP / ".run" / "bench"
OUT = TOP / "build" / "bench"
SECONDS = int(os.environ.get("BENCH_SECONDS", 10))
GROWTH = int(os.environ.get("BENCH_GROWTH_ORDERS", 10_000_000))
PRODUCTS, BATCH, BATCHES = 10_000, 1000, 200
PICK = {"uniform": "floor(random() * %d)::int" % PRODUCTS, "zipf": "least(%d, floor(exp(random() * ln(%d + 1)))::int) - 1" % (PRODUCTS, PRODUCTS),
        "hot": "0"}

figures = []


def servers(command):
    subprocess.run([TOP / "scripts" / "servers", command, RUN], check=True, stdout=subprocess.DEVNULL)


def connect():
    env = dict(line.removeprefix("export ").split("=", 1) for line in (RUN / "env").read_text().splitlines())
    url = env["DATABASE_URL"].strip("'")
    return url, psycopg.connect(url, autocommit=True)


def pgbench(url, script, clients, tag):
    """Runs a script and returns (transactions, seconds, p50 ms, p99 ms)."""
    path = OUT / f"{tag}.sql"
    path.write_text(script)
    for old in OUT.glob("pgbench_log.*"):
        old.unlink()
    text = subprocess.run(["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "1" if clients == 1 else "2", "-T", str(SECONDS),
                           "-f", path, "-l", "--log-prefix", OUT / "pgbench_log", url], check=True, capture_output=True, text=True).stdout
    latencies = sorted(int(line.split()[2]) for log in OUT.glob("pgbench_log.*") for line in log.read_text().splitlines())
    tps = next(float(line.split()[2]) for line in text.splitlines() if line.startswith("tps"))
    return len(latencies), len(latencies) / tps, latencies[len(latencies) // 2] / 1000, latencies[int(len(latencies) * 0.99)] / 1000


def check(db):
    problems = db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall()
    if problems:
        sys.exit(f"check_consistency(): {problems[:5]}")


def empty(db, batches):
    """A fresh extension with 10 000 products, and batches of requests as text in a table."""
    db.execute("SET client_min_messages = warning")
    db.execute("DROP EXTENSION IF EXISTS order_aggregator")
    db.execute("CREATE EXTENSION order_aggregator")
    db.execute("SELECT order_aggregator.register_vendor('vendor-a', 'A')")
    db.execute("""SELECT order_aggregator.sync_vendor_stock('vendor-a', jsonb_agg(jsonb_build_object(
                  'id', 'product-' || n, 'quantity', 1000000000, 'price', 9.99))) FROM generate_series(0, %s - 1) AS n""", [PRODUCTS])
    db.execute("VACUUM ANALYZE order_aggregator.stock, order_aggregator.product")
    if batches:
        db.execute("DROP TABLE IF EXISTS bench.batch")
        db.execute("CREATE TABLE bench.batch (n int PRIMARY KEY, requests text)")
        db.execute(f"""INSERT INTO bench.batch SELECT b, (SELECT jsonb_agg(jsonb_build_object('customerId', 'customer ' || r, 'products',
                       jsonb_build_array(jsonb_build_object('productId', 'product-' || {PICK[batches]}, 'quantity', 1))))::text
                       FROM generate_series(1, {BATCH}) AS r WHERE b = b) FROM generate_series(1, {BATCHES}) AS b""")
    db.execute("CHECKPOINT")


def report(name, accepted, rejected, seconds, p50, p99, baseline=None):
    value = accepted / seconds
    against = next((f for f in figures if f["name"] == baseline), None)
    figures.append({"name": name, "value": round(value), "unit": "orders/s", "baseline": baseline,
                    "ratio": round(value / against["value"], 2) if against else None,
                    "accepted": accepted, "rejected": rejected, "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)})
    ratio = f"{value / against['value']:8.2f} × {baseline}" if against else ""
    print(f"{name:22} {value:10,.0f} orders/s  accepted {accepted:9,}  rejected {rejected:7,}  p50 {p50:7.2f} ms  p99 {p99:7.2f} ms  {ratio}", flush=True)


def run_plpgsql(url, db, spread):
    db.execute((TOP / "bench" / "plpgsql.sql").read_text())
    db.execute("INSERT INTO bench.stock SELECT 'product-' || n, 'vendor-a', 9.99, 1000000000 FROM generate_series(0, %s - 1) AS n", [PRODUCTS])
    db.execute("VACUUM ANALYZE bench.stock")
    db.execute("CHECKPOINT")
    number = f"random(0, {PRODUCTS - 1})" if spread == "uniform" else "0"
    done, seconds, p50, p99 = pgbench(url, f"\\set n {number}\nSELECT bench.place_order('customer 7', 'product-' || :n, 1);\n", 16, f"plpgsql_{spread}")
    accepted = db.execute("SELECT count(*) FROM bench.orders").fetchone()[0]
    report(f"plpgsql_{spread}", accepted, done - accepted, seconds, p50, p99)


def run_place_order(url, db, spread):
    empty(db, None)
    number = f"random(0, {PRODUCTS - 1})" if spread == "uniform" else "0"
    script = f"""\\set n {number}
SELECT order_aggregator.place_order('customer 7', ('[{{"productId": "product-' || :n || '", "quantity": 1}}]')::jsonb);
"""
    done, seconds, p50, p99 = pgbench(url, script, 16, f"place_order_{spread}")
    accepted = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    check(db)
    report(f"place_order_{spread}", accepted, done - accepted, seconds, p50, p99, f"plpgsql_{spread}")


def place_batches(url, db, tag):
    """One connection placing batches; returns (accepted, rejected, seconds, p50, p99)."""
    before = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    script = f"\\set n random(1, {BATCHES})\nSELECT * FROM order_aggregator.place_orders((SELECT requests::jsonb FROM bench.batch WHERE n = :n));\n"
    done, seconds, p50, p99 = pgbench(url, script, 1, tag)
    accepted = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0] - before
    check(db)
    return accepted, done * BATCH - accepted, seconds, p50, p99


def run_place_orders(url, db, spread):
    empty(db, spread)
    report(f"place_orders_{spread}", *place_batches(url, db, f"place_orders_{spread}"), "plpgsql_hot" if spread == "hot" else "plpgsql_uniform")


def run_refused(url, db):
    """Batches of 1 000 of which 999 cannot be served, against those that are all served."""
    empty(db, "uniform")
    db.execute(r"""UPDATE bench.batch SET requests = (SELECT jsonb_agg(CASE WHEN i = 1 THEN r ELSE jsonb_set(r, '{products,0,quantity}', '1000000000') END)
                   FROM jsonb_array_elements(requests::jsonb) WITH ORDINALITY AS r(r, i))::text""")
    db.execute("UPDATE order_aggregator.stock SET on_hand = 100000")
    accepted, rejected, seconds, p50, p99 = place_batches(url, db, "refused")
    served = next(f for f in figures if f["name"] == "place_orders_uniform")
    value = (accepted + rejected) / seconds
    figures.append({"name": "place_orders_999_refused", "value": round(value), "unit": "requests/s", "baseline": "place_orders_uniform",
                    "ratio": round(value / served["value"], 2), "accepted": accepted, "rejected": rejected, "p50_ms": p50, "p99_ms": p99})
    print(f"{'place_orders_999_refused':24} {value:8,.0f} requests/s  accepted {accepted:9,}  rejected {rejected:7,}  {value / served['value']:.2f} × place_orders_uniform")


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


def run_growth(url, db):
    """place_orders_uniform again, with 10 million orders in the tables."""
    empty(db, "uniform")
    while db.execute("SELECT last_value FROM order_aggregator.event_id_seq").fetchone()[0] < GROWTH:
        db.execute("SELECT count(*) FROM bench.batch AS b, LATERAL order_aggregator.place_orders(b.requests::jsonb)")
    db.execute("VACUUM ANALYZE")
    db.execute("CHECKPOINT")
    stored = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()[0]
    print(f"{stored:,} orders stored")
    report("growth_10m", *place_batches(url, db, "growth_10m"), "place_orders_uniform")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    servers("down")
    shutil.rmtree(RUN, ignore_errors=True)
    try:
        servers("base")
        servers("down")     # RabbitMQ is not part of this
        subprocess.run([TOP / "scripts" / "servers", "start", RUN, "postgresql"], check=True)
        url, db = connect()
        for spread in ("uniform", "hot"):
            run_plpgsql(url, db, spread)
        for spread in ("uniform", "hot"):
            run_place_order(url, db, spread)
        for spread in ("uniform", "zipf", "hot"):
            run_place_orders(url, db, spread)
        run_copy(db)
        limit = figures[-1]["value"]
        for figure in figures:
            if figure["name"].startswith("place_orders_"):
                figure["ratio_to_copy"] = round(figure["value"] / limit, 2)
                print(f"{figure['name']}: {figure['ratio_to_copy']} of COPY")
        run_refused(url, db)
        if GROWTH:
            run_growth(url, db)
    finally:
        servers("down")
    (OUT / "placement.json").write_text(json.dumps({"figures": figures}, indent=1))


if __name__ == "__main__":
    main()
