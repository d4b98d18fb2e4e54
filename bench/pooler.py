#!/usr/bin/python3
"""place_order through PgBouncer (by transactions) against directly; `make bench-pooler` runs it.

PgBouncer stands beside PostgreSQL and reaches it by its Unix socket; place_order_pooled_tcp is by TCP. Its pool has 16 sessions.
insert_direct and insert_pooled are the same with a one-row INSERT in place of place_order: what PgBouncer itself costs here.
By pgbench with 16 clients (the _many: 128, of a pool of 16) over TCP and statements that are not prepared, which PgBouncer before 1.21
cannot keep, by the extended protocol and by the simple one, which has a fifth of the messages; one private server, durable commits on,
all on this machine: PgBouncer's thread takes its time from the same cores. BENCH_ROUNDS rounds in turns, the median of the rounds' ratios with their range.
place_order_direct_prepared is what a client gains that has a session of its own.

Environment: BENCH_SECONDS (5), BENCH_ROUNDS (5).
"""

import contextlib
import os
import pathlib
import sys
import tempfile

from common import OUT, RUN, TOP, Figures, check, connect, empty, fresh, measured, pgbench, place_order_script, servers, settings
from floors import INSERT_SCRIPT, make_floor

sys.path.insert(0, str(TOP / "bridge" / "test"))
from pgbouncer import PgBouncer     # noqa: E402

SECONDS, ROUNDS = int(os.environ.get("BENCH_SECONDS", 5)), int(os.environ.get("BENCH_ROUNDS", 5))
CLIENTS, MANY, PRODUCTS = 16, 128, 10_000


def load(db, tag, script=place_order_script(PRODUCTS), clients=CLIENTS, **how):
    empty(db, PRODUCTS)
    found = measured(*pgbench(script, clients, tag, seconds=SECONDS, **how))
    check(db)
    return found


def baseline(name):
    return "place_order_direct_simple" if name.endswith("tcp") else name.replace("pooled", "direct")


def restart(folder):
    """Has PostgreSQL listen in a folder that anybody may enter, and take as many clients as there are."""
    pathlib.Path(folder).chmod(0o777)
    with connect() as db:
        make_floor(db)
        db.execute(f"ALTER SYSTEM SET max_connections = {MANY + 50}")
        db.execute(f"ALTER SYSTEM SET unix_socket_directories = '{folder}'")
    servers("stop", "postgresql")
    servers("base")


def main():
    figures = Figures("pooler")
    OUT.mkdir(parents=True, exist_ok=True)
    fresh()
    stack = contextlib.ExitStack()
    try:
        servers("base")
        sockets = stack.enter_context(tempfile.TemporaryDirectory())
        restart(sockets)
        servers("stop", "rabbitmq")     # it is not part of this
        direct = settings()["DATABASE_URL"]
        url, tcp = (stack.enter_context(contextlib.closing(PgBouncer(RUN / f"pgbouncer-{n}", [direct], "transaction", CLIENTS, host))).url_of(direct)
                    for n, host in enumerate((sockets, None)))
        with connect() as db:
            ways = {"place_order_direct_prepared": {}}
            for mode, suffix in (("extended", ""), ("simple", "_simple")):
                ways |= {f"place_order_direct{suffix}": {"mode": mode}, f"place_order_pooled{suffix}": {"mode": mode, "url": url}}
            ways |= {f"place_order_{way}_many": {"mode": "extended", "clients": MANY, "url": to} for way, to in (("direct", direct), ("pooled", url))}
            ways |= {"place_order_pooled_tcp": {"mode": "simple", "url": tcp}}
            ways |= {f"insert_{way}": {"mode": "simple", "script": INSERT_SCRIPT, "url": to} for way, to in (("direct", direct), ("pooled", url))}
            rounds = []
            for n in range(ROUNDS):
                names = [*ways] if n % 2 == 0 else [*ways][::-1]
                rounds.append({name: load(db, name, **ways[name]) for name in names})
            for name in ways:
                figures.add_rounds(name, [r[name] for r in rounds], "orders/s", {"ratio": baseline(name)} if "pooled" in name else None)
    finally:
        stack.close()
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
