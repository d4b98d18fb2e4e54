#!/usr/bin/python3
"""place_order through PgBouncer (by transactions, a pool of 16) against directly; `make bench-pooler` runs it.

By pgbench with 16 clients and statements that are not prepared, which PgBouncer before 1.21 cannot keep; one private server, durable
commits on, all on this machine: PgBouncer's thread takes its time from the same cores. BENCH_ROUNDS rounds in turns, the median of the
rounds' ratios with their range. place_order_direct_prepared is what a client gains that has a session of its own.

Environment: BENCH_SECONDS (5), BENCH_ROUNDS (5).
"""

import os
import shutil
import socket
import subprocess
import time
import urllib.parse

from common import OUT, RUN, Figures, check, connect, empty, fresh, pgbench, place_order_script, servers, settings

SECONDS, ROUNDS = int(os.environ.get("BENCH_SECONDS", 5)), int(os.environ.get("BENCH_ROUNDS", 5))
CLIENTS, PRODUCTS = 16, 10_000
PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


class Pooler:
    """A private PgBouncer; url is the database by way of it."""

    def __enter__(self):
        url = urllib.parse.urlsplit(settings()["DATABASE_URL"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder = RUN / "pgbouncer"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "users").write_text(f'"{url.username}" "{url.password}"\n')
        (self.folder / "ini").write_text(f"""[databases]
* = host={url.hostname} port={url.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.folder}/users
pool_mode = transaction
default_pool_size = {CLIENTS}
""")
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            for path in self.folder.iterdir():
                shutil.chown(path, "postgres")
        self.process = subprocess.Popen([PGBOUNCER, self.folder / "ini"], user="postgres" if os.geteuid() == 0 else None, stderr=subprocess.DEVNULL)
        self.url = url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{port}").geturl()
        self.wait()
        return self

    def wait(self):
        deadline = time.monotonic() + 30
        while subprocess.run(["psql", "-X", "-c", "SELECT", self.url], capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < deadline, "pgbouncer does not answer"
            time.sleep(0.1)

    def __exit__(self, *error):
        self.process.terminate()
        self.process.wait()


def load(db, tag, **how):
    empty(db, PRODUCTS)
    done, seconds, p50, p99, gap = pgbench(place_order_script(PRODUCTS), CLIENTS, tag, seconds=SECONDS, **how)
    check(db)
    return {"value": done / seconds, "p50_ms": p50, "p99_ms": p99, "longest_gap_ms": gap}


def main():
    figures = Figures("pooler")
    OUT.mkdir(parents=True, exist_ok=True)
    fresh()
    try:
        servers("base")
        servers("stop", "rabbitmq")     # it is not part of this
        with connect() as db, Pooler() as pooler:
            ways = {"place_order_direct_prepared": {}, "place_order_direct": {"mode": "extended"}, "place_order_pooled": {"mode": "extended", "url": pooler.url}}
            rounds = []
            for n in range(ROUNDS):
                names = [*ways] if n % 2 == 0 else [*ways][::-1]
                rounds.append({name: load(db, name, **ways[name]) for name in names})
            for name in ways:
                figures.add_rounds(name, [r[name] for r in rounds], "orders/s", {"ratio": "place_order_direct"} if name == "place_order_pooled" else None)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
