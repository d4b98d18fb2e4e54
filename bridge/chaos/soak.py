#!/usr/bin/python3
"""Orders run while something breaks every few seconds; in the end all accounts must agree, to the unit.

    soak.py [--cluster] [--each]     --each: every kind of fault once, with its times, in place of chance

SOAK_MINUTES (10) and SOAK_SEED (today's number) choose how long and which faults: a seed chooses
the same faults again, though not the same instants. SOAK_FAULTS=killed,frozen
has only those faults whose names contain one of the words. Exits 1 if anything was
lost, done twice, oversold or otherwise wrong. Recovery times are printed, beside what was asked:
they are the machine's, too.
"""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time

import psycopg
from accounts import compare
from clients import HttpClient, Ledger, Restocker, SqlClient
from faults import Faults, Outages, percentile
from storage import damages
from stage import TOP, WHOLE_S, Cluster, OneNode
from vendors import Auditor, Feeds, Vendor, Worker, PRODUCTS, VENDORS

sys.path.insert(0, str(TOP / "scripts"))
import runs     # noqa: E402

PATIENCE_S = 90     # in the end, for each thing that is waited for
PAUSE_S = float(os.environ.get("SOAK_PAUSE_S", 0.03))       # of a client between two orders
SHOWN = 20
MINUTES_FOR_ALL = 5     # of a soak after which every kind of end must have been met
# what was asked: until orders are accepted again, and events come
ASKED = [("a database that dies, freezes or hands over", re.compile("(database killed|database frozen|machine of the database killed|switch-over).*|.*, another leads"), ("sql", "http"), 10),
         ("a broker's death", re.compile("broker killed.*"), ("sql", "http", "event"), 5)]


def say(text):
    print(text, flush=True)


class Soak:
    def __init__(self, stage, seed):
        self.stage, self.seed, self.ledger = stage, seed, Ledger()
        self.vendors = {name: Vendor(name, seed) for name in VENDORS}
        self.feeds = Feeds(self.vendors)

    def begin(self):
        self.stage.up()
        with self.stage.connect() as db:
            db.execute("CREATE EXTENSION IF NOT EXISTS order_aggregator")
            for number, name in enumerate(VENDORS):
                db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s, %s)", [name, name, f"{self.feeds.url}/{name}", number])
                db.execute("SELECT order_aggregator.configure_vendor(%s, sync_interval => '2 seconds', on_shortage => 'keep')", [name])
        urls = self.stage.broker_urls
        self.auditor, self.worker = Auditor(urls, self.vendors, self.seed), Worker(urls, self.vendors, self.seed)
        self.auditor.declare()
        self.stage.start_bridges()
        with self.stage.connect() as db:
            self.wait("the first feeds", lambda: db.execute("SELECT count(*) FROM order_aggregator.stock").fetchone()[0] == len(VENDORS) * len(PRODUCTS))
            db.execute("SELECT order_aggregator.configure_product(%s, lanes => 'auto'::text)", [PRODUCTS[4]])
            db.execute("SELECT order_aggregator.configure_product(%s, lanes => 4)", [PRODUCTS[0]])
        self.clients = [kind(self.stage, self.ledger, f"{self.seed} {kind.__name__} {number}", PAUSE_S) for kind in (SqlClient, HttpClient) for number in range(3)]
        self.clients.append(Restocker(self.stage, self.ledger, f"{self.seed} restocker", 1, self.vendors))
        for thread in [self.auditor, self.worker, *self.clients]:
            thread.start()

    def wait(self, what, is_so):
        """What does not come in time is wrong by itself, and the accounts are compared all the same."""
        def holds():
            with contextlib.suppress(psycopg.OperationalError):
                return is_so()
        if not self.stage.wait_until(holds, PATIENCE_S):
            self.ledger.unexpected.append(f"waited {PATIENCE_S} s for {what}")

    def break_things(self, minutes, each):
        """Faults, one at a time: the next one comes when all that died is there again."""
        faults = Faults(self.stage, self.feeds, self.worker, self.auditor, self.seed)
        self.outages, self.faults, self.failed = Outages(self.ledger, self.auditor), 0, 0
        began = time.monotonic()
        kinds = iter([*faults.kinds]) if each else faults.by_chance()
        while each or time.monotonic() - began < minutes * 60:
            time.sleep(faults.random.uniform(0.1, 0.5))
            kind = next(kinds, None)
            if kind is None:
                break
            at = time.monotonic()
            try:
                leader = self.stage.leader()
                has_happened = faults.play(kind)
            except (OSError, subprocess.SubprocessError, psycopg.Error, AssertionError) as error:
                self.ledger.unexpected.append(f"{kind}: {error!r}")
                break
            if not self.stage.wait_until_whole():
                self.ledger.unexpected.append(f"not everything was there again {WHOLE_S} s after: {kind}")
                break
            if not self.outages.wait_for_orders(PATIENCE_S):
                self.ledger.unexpected.append(f"no order was accepted any more after: {kind}")
                break
            if not has_happened:
                self.failed += 1
                say(f"  {at - began:6.0f} s  {kind:45} could not be done")
                continue
            if self.stage.leader() != leader:
                kind += ", another leads"
            gaps = self.outages.note(kind, at)
            self.faults += 1
            say(f"  {at - began:6.0f} s  {kind:45} no order by SQL for {gaps['sql']:5.1f} s, by HTTP for {gaps['http']:5.1f} s, no event for {gaps['event']:5.1f} s; "
                f"the slowest order took {gaps['slowest']:5.1f} s; all there again after {time.monotonic() - at:5.1f} s")
        self.minutes = (time.monotonic() - began) / 60

    def end(self):
        """Everybody finishes what he has begun; what is still open is answered or cancelled."""
        for client in self.clients:
            client.stop(PATIENCE_S)
        for client in self.clients:
            client.join(2 * PATIENCE_S)
            if client.is_alive():
                self.ledger.unexpected.append(f"{type(client).__name__}: does not end")
        self.worker.is_patient = False
        with self.stage.connect() as db:
            def pending():
                return db.execute("SELECT count(*) FROM order_aggregator.orders WHERE status = 'pending'").fetchone()[0]
            self.wait("the vendors' answers", lambda: pending() == 0)

            def is_counted():
                stock = {(vendor, product): units for vendor, product, units in db.execute("SELECT vendor_id, product_id, on_hand FROM order_aggregator.stock").fetchall()}
                return stock == {(name, product): units for name, vendor in self.vendors.items() for product, units in vendor.shelf.items()}
            self.wait("the feeds to say what is on the vendors' shelves", is_counted)
            for name in VENDORS:        # no more feeds: they are events, too
                db.execute("SELECT order_aggregator.register_vendor(%s, %s, NULL)", [name, name])
            time.sleep(2)               # one may be under way

            def all_heard():
                return {str(m) for m, in db.execute("SELECT message_id FROM order_aggregator.outbox")} <= self.auditor.heard
            self.wait("the broker to have all events", all_heard)
            self.wait("replies that come too late", self.queues_are_empty)
            self.wait("what the vendors are told of them", all_heard)
        for thread in (self.worker, self.auditor):
            thread.stopping = True
            thread.join(PATIENCE_S)
            if thread.error is not None or thread.is_alive():
                self.ledger.unexpected.append(thread.error or f"{type(thread).__name__}: does not end")
        if self.depths()["orders.replies.dead"] > 0:
            self.ledger.unexpected.append("a vendor's answer is in orders.replies.dead")
        self.ledger.unexpected += self.stage.crashes()

    def depths(self):
        rows = self.stage.rabbitmqctl(self.stage.brokers[0], "list_queues", "name", "messages", "--no-table-headers").split("\n")
        return {name: int(depth) for name, depth in (row.split("\t") for row in rows if "\t" in row)}

    def queues_are_empty(self):
        depths = self.depths()
        return all(depths[queue] == 0 for queue in ("orders.placed", "orders.replies", Auditor.QUEUE))

    def damages(self):
        """Of any database's tables and indexes; the one that follows is looked at when it has all that the leader has."""
        with self.stage.connect(timeout_s=PATIENCE_S) as db:
            db.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
            end = db.execute("SELECT pg_current_wal_lsn()").fetchone()[0]
        found = []
        for url in self.stage.node_urls():
            with self.stage.connect(url, PATIENCE_S) as db:
                if self.stage.wait_until(lambda: db.execute("SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]).fetchone()[0], PATIENCE_S):
                    found += [f"{db.info.host}: {what}" for what in damages(db)]
                else:
                    found.append(f"{db.info.host}: has not followed within {PATIENCE_S} s")
        return found

    def report(self):
        with self.stage.connect(timeout_s=PATIENCE_S) as db:
            statuses = dict(db.execute("SELECT status, count(*) FROM order_aggregator.orders GROUP BY 1 ORDER BY 1").fetchall())
            ends = statuses | {"refused": len(self.ledger.refused), "returned": len(self.ledger.returned)}
            if self.minutes >= MINUTES_FOR_ALL:
                self.ledger.unexpected += [f"no order was {end}" for end in ("confirmed", "cancelled", "rejected", "expired", "refused", "returned") if not ends.get(end)]
            found = compare(db, self.ledger, self.vendors, self.auditor)
        found["otherwise wrong"] += self.damages()
        say(f"\n{self.faults} faults in {self.minutes:.1f} minutes ({self.failed} more could not be done); {len(self.ledger.placed)} orders accepted, {len(self.ledger.refused)} refused, {self.ledger.retries} asked again; "
            f"{statuses}; {self.worker.answers} answers; {len(self.auditor.heard)} events, {self.auditor.twice} of them more than once")
        say("the longest time without an accepted order, or an event, and of the slowest order, while it lasted, in seconds (median, 99th percentile):")
        for kind, doors in sorted(self.outages.times.items()):
            say(f"  {kind:45} {len(doors['sql']):3} times; " + "; ".join(f"{door} {percentile(gaps, 0.5):5.1f} {percentile(gaps, 0.99):5.1f}" for door, gaps in doors.items()))
        for what, kinds, doors, asked_s in ASKED if len(self.stage.brokers) > 1 else []:      # where another one is there
            gaps = self.outages.of_kinds(kinds, doors)
            if gaps:
                longest = percentile(gaps, 0.99)
                say(f"{what}: {longest:.1f} s (99th percentile; {asked_s} asked{', missed' if longest > asked_s else ''})")
        for kind, things in found.items():
            say(f"{kind}: {len(things)}")
            for thing in things[:SHOWN]:
                say(f"    {thing}")
        return sum(len(things) for things in found.values()) == 0


def main():
    words = sys.argv[1:]
    minutes, seed = float(os.environ.get("SOAK_MINUTES", 10)), os.environ.get("SOAK_SEED", str(int(time.time()) // 86400))
    name = "soak-cluster" if "--cluster" in words else "soak"
    folder = pathlib.Path(os.environ.get("SOAK_RUN", TOP / ".run" / name))
    runs.begin(folder)
    soak = Soak(Cluster(folder) if "--cluster" in words else OneNode(folder), seed)
    say(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g} in {folder}")
    try:
        soak.begin()
        soak.break_things(minutes, "--each" in words)
        soak.end()
        is_right = soak.report()
    finally:
        soak.stage.down()
    say("all accounts agree" if is_right else "SOMETHING IS WRONG: the logs are kept")
    sys.exit(not is_right)


if __name__ == "__main__":
    main()
