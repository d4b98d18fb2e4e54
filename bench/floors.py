"""What the machine itself can do, measured beside every load: the disk, PostgreSQL, RabbitMQ, the HTTP server. Each is a round for Figures.add_rounds."""

import os
import subprocess
import time

import pika
from common import OUT, TOP, measured, percentile, pgbench, settings, wrk
from peers_of_http import Bridge

UNITS = {"fsync_floor": "fsyncs/s", "insert_floor": "rows/s", "http_echo": "requests/s", "raw_publish": "messages/s"}
INSERT_SCRIPT = "\\set n random(0, 9999)\nINSERT INTO bench.floor VALUES ('product-' || :n, 1);\n"
WINDOW = 1000
WAL_FILE_BYTES = 16 << 20


def add_floors(figures, rounds):
    """Takes down what of UNITS the rounds have, dicts by name."""
    for name in [name for name in UNITS if name in rounds[0]]:
        more = {"window": WINDOW} if name == "raw_publish" else {}
        figures.add_rounds(name, [r[name] for r in rounds], UNITS[name], **more)


def fsync_floor(seconds=1, size=8192):
    """How often the disk makes so many bytes durable, one write after the other, in a file that is there already, as the server's WAL is.
    What stalls here is the disk, or the host whose disk it is."""
    block, times, offset = bytes(size), [], 0
    with (OUT / "fsync").open("wb", buffering=0) as file:
        file.write(bytes(WAL_FILE_BYTES))
        os.fsync(file.fileno())
        began = at = time.monotonic()
        while at < began + seconds:
            os.pwrite(file.fileno(), block, offset)
            os.fdatasync(file.fileno())
            offset = (offset + size) % WAL_FILE_BYTES
            before, at = at, time.monotonic()
            times.append((at - before) * 1000)
    return measured(len(times), at - began, percentile(times, 0.5), percentile(times, 0.99), max(times))


def make_floor(db):
    """The table of INSERT_SCRIPT, empty."""
    db.execute("CREATE SCHEMA IF NOT EXISTS bench; DROP TABLE IF EXISTS bench.floor; CREATE TABLE bench.floor (product_id text, quantity bigint)")


def insert_floor(db, seconds):
    """What the server can do at all: one row into a table without an index, by 16 clients."""
    make_floor(db)
    return measured(*pgbench(INSERT_SCRIPT, 16, "insert_floor", seconds=seconds))


def http_echo(connections, seconds):
    """What the bridge's HTTP server does at all: an answer that asks nobody."""
    with Bridge() as running:
        return as_requests(wrk(running.url, "get.lua", connections, seconds, PATH_BEFORE="/healthz", FIRST=0, COUNT=1, DELAY_MS=0, SUFFIX=""))


def as_requests(summary):
    """A round of requests, of wrk's summary."""
    return {"value": summary["requests"] / summary["us"] * 1e6, "p50_ms": summary["p50"], "p99_ms": summary["p99"], "longest_ms": summary["max"]}


def at_half(summary, what):
    """A round of requests below the top, of wrk's summary: how long they took, of so many a second."""
    found = as_requests(summary)
    return {"value": found["p99_ms"], "p50_ms": found["p50_ms"], "longest_ms": found["longest_ms"], f"{what}_per_second": found["value"]}


# ---------- RabbitMQ ----------

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


def make_raw_publish():
    subprocess.run(["gcc", "-O2", "-iquote", TOP / "bridge" / "src", "-o", OUT / "raw_publish", TOP / "bench" / "raw_publish.c", "-lrabbitmq"], check=True)


def write_bodies(db, count):
    """So many bodies of events, one a line, for raw_publish(): the first there are, again and again."""
    rows = db.execute("SELECT payload::text FROM order_aggregator.outbox ORDER BY event_id LIMIT %s", [count]).fetchall()
    (OUT / "bodies").write_text("".join(f"{rows[n % len(rows)][0]}\n" for n in range(count)))


def raw_publish(count):
    """The bodies published by rabbitmq-c and nothing else, to a quorum queue of their own, until the broker has confirmed them."""
    c = channel()
    c.exchange_declare("orders", "topic", durable=True)
    c.queue_declare("bench.raw", durable=True, arguments={"x-queue-type": "quorum"})
    c.queue_bind("bench.raw", "orders", "bench.raw")
    c.connection.close()
    seconds, gap = subprocess.run([OUT / "raw_publish", settings()["RABBITMQ_URL"], "bench.raw", str(WINDOW), OUT / "bodies"],
                                  check=True, capture_output=True, text=True).stdout.split()
    assert depth("bench.raw") == count
    forget("bench.raw")
    return {"value": count / float(seconds), "longest_gap_ms": float(gap)}
