"""What the benchmarks share: a private server folder, the figures and their file, the check at the end of each load."""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

import psycopg

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "scripts"))
import runs

RUN = TOP / ".run" / "bench"
OUT = TOP / "build" / "bench" / os.environ.get("BENCH_FOLDER", "")
SECONDS = int(os.environ.get("BENCH_SECONDS", 10))


def servers(command, *words):
    subprocess.run([TOP / "scripts" / "servers", command, RUN, *words], check=True, stdout=subprocess.DEVNULL)


def fresh():
    """Stops and forgets what an earlier run has left; what is started from now on is stopped, too, when we are told to end."""
    runs.begin(RUN)
    OUT.mkdir(parents=True, exist_ok=True)
    servers("down")
    shutil.rmtree(RUN, ignore_errors=True)


def settings():
    """DATABASE_URL and the others, as scripts/servers has written them."""
    return {name: value.strip("'") for name, value in
            (line.removeprefix("export ").split("=", 1) for line in (RUN / "env").read_text().splitlines())}


def connect():
    return psycopg.connect(settings()["DATABASE_URL"], autocommit=True)


def check(db):
    """Ends the benchmark if anything was lost, done twice or oversold."""
    problems = db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall()
    if problems:
        sys.exit(f"check_consistency(): {problems[:5]}")


def make_wal_files(db):
    """A server that has run for a while has its WAL files, as many as a load needs from one checkpoint's end to the next's, which is max_wal_size;
    making one holds up all commits for some 10 ms, or some 100 on a slow disk."""
    db.execute("ALTER SYSTEM SET min_wal_size = '4GB'")
    db.execute("SELECT pg_reload_conf()")
    db.execute("CREATE SCHEMA IF NOT EXISTS bench; CREATE TABLE IF NOT EXISTS bench.filler (n int)")
    for n in range(min(260, 30 * SECONDS)):
        db.execute("INSERT INTO bench.filler VALUES (%s)", [n])
        db.execute("SELECT pg_switch_wal()")
    for n in range(2):
        db.execute("INSERT INTO bench.filler VALUES (%s)", [n])
        db.execute("CHECKPOINT")


def empty(db, products, quantity=1_000_000_000):
    """A fresh extension with one vendor that has so many of each product-0 .. product-(n-1)."""
    db.execute("SET client_min_messages = warning")
    db.execute("DROP EXTENSION IF EXISTS order_aggregator")
    db.execute("CREATE EXTENSION order_aggregator")
    db.execute("SELECT order_aggregator.register_vendor('bench', 'Bench')")
    db.execute("""SELECT order_aggregator.sync_vendor_stock('bench', jsonb_agg(jsonb_build_object(
                  'id', 'product-' || n, 'quantity', %s::bigint, 'price', 9.99))) FROM generate_series(0, %s - 1) AS n""", [quantity, products])
    db.execute("VACUUM ANALYZE order_aggregator.stock, order_aggregator.product")
    db.execute("CHECKPOINT")


def empty_plpgsql(db, products):
    """The baseline's own tables (plpgsql.sql), with the same stock."""
    db.execute((TOP / "bench" / "plpgsql.sql").read_text())
    db.execute("INSERT INTO bench.stock SELECT 'product-' || n, 'vendor-a', 9.99, 1000000000 FROM generate_series(0, %s - 1) AS n", [products])
    db.execute("VACUUM ANALYZE bench.stock")
    db.execute("CHECKPOINT")


def place_order_script(products):
    """For pgbench: one order of one unit of one of so many products."""
    return f"""\\set n random(0, {products - 1})
SELECT order_aggregator.place_order('customer 7', ('[{{"productId": "product-' || :n || '", "quantity": 1}}]')::jsonb);
"""


def pgbench(script, clients, tag, core=None, seconds=SECONDS, mode="prepared", url=None):
    """Runs a script for so many seconds and returns (transactions, seconds, p50 ms, p99 ms, longest time without a transaction's end in ms,
    from the beginning of the first one on)."""
    path = OUT / f"{tag}.sql"
    path.write_text(script)
    for old in OUT.glob("pgbench_log.*"):
        old.unlink()
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    text = subprocess.run([*pinned, "pgbench", "-n", "-M", mode, "-c", str(clients), "-j", "1" if clients == 1 else "2", "-T", str(seconds),
                           "-f", path, "-l", "--log-prefix", OUT / "pgbench_log", url or settings()["DATABASE_URL"]],
                          check=True, capture_output=True, text=True).stdout
    log = [[int(word) for word in line.split()[2:6]] for path in OUT.glob("pgbench_log.*") for line in path.read_text().splitlines()]
    latencies = [us / 1000 for us, _, _, _ in log]
    ends = sorted((epoch * 1_000_000 + us, took) for took, _, epoch, us in log)
    moments = [min(end - took for end, took in ends), *(end for end, _ in ends)]
    gap = max(after - before for before, after in zip(moments, moments[1:])) / 1000
    tps = next(float(line.split()[2]) for line in text.splitlines() if line.startswith("tps"))
    return len(latencies), len(latencies) / tps, percentile(latencies, 0.5), percentile(latencies, 0.99), gap


def measured(done, seconds, p50, p99, gap, accepted=None):
    """A round of a load, of what pgbench() returns."""
    return {"value": (done if accepted is None else accepted) / seconds, "p50_ms": p50, "p99_ms": p99, "longest_gap_ms": gap}


def longest_gap_ms(samples):
    """The longest time in which a counter stood still, of (seconds, count) from its beginning on."""
    last = longest = count = 0
    for at, found in samples:
        if found > count:
            longest, last, count = max(longest, at - last), at, found
    return max(longest, samples[-1][0] - last) * 1000


def wrk(url, script, connections, seconds, threads=2, **env):
    """Runs a script of this folder and returns its summary; ends the benchmark if a request failed."""
    text = subprocess.run(["wrk", "-t", str(min(threads, connections)), "-c", str(connections), "-d", f"{seconds}s", "--timeout", "20s", "--latency",
                           "-s", TOP / "bench" / script, url], check=True, capture_output=True, text=True,
                          env={**os.environ, **{name: str(value) for name, value in env.items()}}).stdout
    summary = json.loads(next(line for line in text.splitlines() if line.startswith("JSON"))[5:])
    if summary["errors"] > 0:
        sys.exit(text)
    return summary


class Figures:
    """The figures of one benchmark, printed as they come and written to build/bench/<name>.json."""

    def __init__(self, name):
        self.name, self.rows, self.rounds = name, [], {}

    def value(self, name):
        return next(row["value"] for row in self.rows if row["name"] == name)

    def add(self, name, value, unit, baseline=None, places=0, **more):
        """Takes down a figure; its ratio to the baseline, an earlier figure, is kept with it."""
        value = round(value, places) if places else round(value)
        ratio = round(value / self.value(baseline), 2) if baseline else None
        self.rows.append({"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, **more})
        details = "  ".join(f"{key} {v:,}" if isinstance(v, (int, float)) else str(v) for key, v in more.items())
        print(f"{name:42} {value:12,} {unit:10} {details}  {f'{ratio} × {baseline}' if baseline else ''}", flush=True)

    def add_rounds(self, name, rounds, unit, baselines=None, places=0, **more):
        """Takes down the median and range of a load's rounds: dicts with a value, and what else was measured, of which the median is kept, or
        the largest if its name begins with "longest". The ratio to each of the baselines ({"ratio": name}) is the median of the ratios of
        the same round."""
        values = [r["value"] for r in rounds]
        value, lowest, highest = (round(v, places) if places else round(v) for v in (statistics.median(values), min(values), max(values)))
        row = {"name": name, "value": value, "unit": unit, "lowest": lowest, "highest": highest,
               "baseline": (baselines or {}).get("ratio"), "ratio": None, **more}
        for key in rounds[0].keys() - {"value"}:
            row[key] = round((max if key.startswith("longest") else statistics.median)(r[key] for r in rounds), 2)
        for key, baseline in (baselines or {}).items():
            ratios = sorted(value / of for value, of in zip(values, self.rounds[baseline]))
            row[key], row[f"{key}_range"] = round(statistics.median(ratios), 2), [round(ratios[0], 2), round(ratios[-1], 2)]
        self.rounds[name] = values
        self.rows.append(row)
        details = "  ".join(f"{key} {v}" for key, v in row.items() if key not in ("name", "value", "unit", "baseline") and v is not None)
        print(f"{name:30} {value:10,} {unit:10} {details}", flush=True)

    def write(self):
        (OUT / f"{self.name}.json").write_text(json.dumps({"figures": self.rows}, indent=1))


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]
