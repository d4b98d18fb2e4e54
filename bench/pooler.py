#!/usr/bin/python3
"""place_order through PgBouncer (by transactions, a pool of 16) against directly; `make bench-pooler` runs it.

By pgbench with 16 clients and statements that are not prepared, which PgBouncer before 1.21 cannot keep, by the extended protocol and by
the simple one, which has a fifth of the messages; one private server, durable commits on, all on this machine: PgBouncer's thread takes
its time from the same cores. BENCH_ROUNDS rounds in turns, the median of the rounds' ratios with their range.
place_order_direct_prepared is what a client gains that has a session of its own.

Environment: BENCH_SECONDS (5), BENCH_ROUNDS (5).
"""

import contextlib
import os
import sys

from common import OUT, RUN, TOP, Figures, check, connect, empty, fresh, pgbench, place_order_script, servers, settings

sys.path.insert(0, str(TOP / "bridge" / "test"))
from pgbouncer import PgBouncer     # noqa: E402

SECONDS, ROUNDS = int(os.environ.get("BENCH_SECONDS", 5)), int(os.environ.get("BENCH_ROUNDS", 5))
CLIENTS, PRODUCTS = 16, 10_000


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
        pooler = PgBouncer(RUN / "pgbouncer", [settings()["DATABASE_URL"]], "transaction", CLIENTS)
        with connect() as db, contextlib.closing(pooler):
            url = pooler.url_of(settings()["DATABASE_URL"])
            ways = {"place_order_direct_prepared": {}}
            for mode, suffix in (("extended", ""), ("simple", "_simple")):
                ways |= {f"place_order_direct{suffix}": {"mode": mode}, f"place_order_pooled{suffix}": {"mode": mode, "url": url}}
            rounds = []
            for n in range(ROUNDS):
                names = [*ways] if n % 2 == 0 else [*ways][::-1]
                rounds.append({name: load(db, name, **ways[name]) for name in names})
            for name in ways:
                figures.add_rounds(name, [r[name] for r in rounds], "orders/s", {"ratio": name.replace("pooled", "direct")} if "pooled" in name else None)
    finally:
        servers("down")
    figures.write()


if __name__ == "__main__":
    main()
