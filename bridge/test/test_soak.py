"""What the soak would see: accounts, logs and files that somebody has put wrong by hand."""

import os
import subprocess
import sys
import types

import psycopg
import pytest
from accounts import compare
from clients import HOLD_FOR, Ledger
from conftest import SANITIZED, preloaded, wait_until
from faults import Outages
from soak import ASKED
from stage import OneNode
from storage import damages
from vendors import Vendor

CONFIRMED, CANCELLED, REJECTED, EXPIRED, RETURNED = range(1, 6)


class Shop:
    """One order of each end, and all the accounts of it."""

    def __init__(self, world):
        self.world, self.ledger = world, Ledger()
        world.stock(a={"p0": 10}, b={"p0": 10})
        self.vendors = {name: Vendor(name, 1) for name in "ab"}
        for vendor in self.vendors.values():
            vendor.shelf, vendor.given = {"p0": 10}, {"p0": 10}
        for order in (CONFIRMED, CANCELLED, REJECTED, EXPIRED, RETURNED):
            self.place(order, "3 milliseconds" if order == EXPIRED else HOLD_FOR)
        self.answer(CONFIRMED, "a", 1, "confirmed")
        self.answer(RETURNED, "a", 1, "confirmed")
        self.answer(REJECTED, "a", 1, "rejected")
        self.answer(REJECTED, "b", 2, "rejected")
        self.ledger.returned[RETURNED] = world.value("SELECT order_aggregator.return_order(%s, NULL, false)", RETURNED)
        self.ledger.to_cancel.add(CANCELLED)
        world.value("SELECT order_aggregator.cancel_order(%s, 'chaos')", CANCELLED)
        wait_until(lambda: world.value("SELECT order_aggregator.expire_orders()") == 1, what="the order to expire")
        self.auditor = types.SimpleNamespace(heard={str(m) for m, in world.db.execute("SELECT message_id FROM order_aggregator.outbox")}, placed=set())

    def place(self, order, hold_for):
        request = {"products": [{"productId": "p0", "quantity": 1}], "idempotencyKey": f"key {order}", "holdFor": hold_for}
        assert self.world.value("SELECT order_aggregator.place_order('c', %s, %s, NULL, %s::interval)",
                                psycopg.types.json.Jsonb(request["products"]), request["idempotencyKey"], hold_for) == order
        self.ledger.accept(request, order, "sql", 0)

    def answer(self, order, name, attempt, status):
        vendor, part = self.vendors[name], (order, attempt)
        vendor.decided[part] = status
        if status == "confirmed":
            vendor.taken[part] = {"p0": 1}
            vendor.shelf["p0"] -= 1
        assert self.world.value("SELECT outcome FROM order_aggregator.apply_vendor_replies(%s)", psycopg.types.json.Jsonb(
            [{"orderId": order, "vendorId": name, "attempt": attempt, "status": status}])) == "applied"

    def found(self):
        return [text for texts in compare(self.world.db, self.ledger, self.vendors, self.auditor).values() for text in texts]


@pytest.mark.parametrize("breaks, seen", [
    (f"UPDATE order_aggregator.orders SET status = 'cancelled' WHERE order_id = {CONFIRMED}", f"order {CONFIRMED}: cancelled, and nobody has asked for it"),
    (f"UPDATE order_aggregator.orders SET expires_at = expires_at + '1 second' WHERE order_id = {CONFIRMED}", f"order {CONFIRMED} is held for 0:30:01, asked for was 0:30:00"),
    (f"UPDATE order_aggregator.hold SET settled_at = held_at WHERE order_id = {EXPIRED}", f"order {EXPIRED}: expired at "),
    (f"UPDATE order_aggregator.hold SET status = 'rejected' WHERE order_id = {EXPIRED}", f"order {EXPIRED}: expired at None"),
    (f"UPDATE order_aggregator.hold SET status = 'rejected' WHERE order_id = {CANCELLED}", f"vendor a: has not refused ({CANCELLED}, 1)"),
    (f"UPDATE order_aggregator.hold SET reason = 'rejected by the vendor: no reason given' WHERE order_id = {CANCELLED}", f"vendor a: has not refused ({CANCELLED}, 1)"),
    (f"DELETE FROM order_aggregator.hold WHERE order_id = {REJECTED}", f"order {REJECTED}: rejected, and no vendor has refused it"),
    (f"INSERT INTO order_aggregator.order_return SELECT 99, {CONFIRMED}, line_no, vendor_id, attempt, product_id, quantity, unit_price, restocked, returned_at, NULL "
     "FROM order_aggregator.order_return", f"return 99 of order {CONFIRMED}: nobody was told of it"),
], ids=["cancelled", "held longer", "expired early", "expired never", "refused", "refused at last", "rejected by nobody", "returned"])
def test_accounts_that_do_not_agree_are_seen(world, breaks, seen):
    shop = Shop(world)
    assert shop.found() == []
    with world.db.transaction(force_rollback=True):
        world.db.execute("SET LOCAL session_replication_role = replica")     # without the triggers that would refuse it
        world.db.execute(breaks)
        assert [text for text in shop.found() if text.startswith(seen)] != []


def test_an_index_that_misses_a_row_is_seen(world):
    world.db.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    world.db.execute("CREATE TABLE order_aggregator.mine (n int PRIMARY KEY)")
    assert damages(world.db) == []
    ready = "UPDATE pg_index SET indisready = %s WHERE indexrelid = 'order_aggregator.mine_pkey'::regclass"
    world.db.execute(ready, [False])
    world.db.execute("INSERT INTO order_aggregator.mine VALUES (1)")
    world.db.execute(ready, [True])
    found, = damages(world.db)
    assert found.startswith("mine_pkey: ") and "lacks matching index tuple" in found


def test_a_crash_is_excused_only_while_the_disk_is_full(tmp_path):
    """Not by one that came before or after, and only the database's own."""
    full = 'PANIC:  could not write to file "pg_wal/xlogtemp.1": No space left on device\nserver process was terminated by signal 6: Aborted\n'
    before, meanwhile, after = "well\nPANIC:  before\n", full, "well\nPANIC:  after\n"
    (tmp_path / "postgresql.log").write_text(before + meanwhile + after)
    (tmp_path / "bridge.log").write_text("x" * len(before) + "\nterminated by signal 6\n")
    stage = OneNode(tmp_path)
    assert len(stage.crashes()) == 5
    stage.without_space.append(("postgresql", len(before), len(before + meanwhile)))
    assert stage.crashes() == ["bridge: terminated by signal 6", "postgresql: PANIC:  before", "postgresql: PANIC:  after"]
    (tmp_path / "postgresql.log").write_text(before + meanwhile.replace("signal 6", "signal 11") + after)
    assert "postgresql: server process was terminated by signal 11: Aborted" in stage.crashes()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be loaded first")
def test_a_full_disk_does_not_keep_a_log_from_telling_of_it(tmp_path):
    control, out, log = tmp_path / "control", tmp_path / "out", tmp_path / "log"
    control.write_bytes(b"\1")
    with out.open("w") as standard_output, log.open("w") as standard_error:
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'told\\n'); os.write(1, b'kept')"], stdout=standard_output, stderr=standard_error,
                       env={**os.environ, **preloaded("full_disk"), "FULL_DISK": str(control)}, check=False)
    assert out.read_text() == "" and log.read_text().startswith("told\n") and "No space left on device" in log.read_text()


def test_whatever_makes_another_database_lead_counts_as_its_outage():
    outages = Outages(None, None)
    outages.times = {kind: {"sql": [seconds], "http": [0], "event": [0]} for seconds, kind in enumerate(
        ("database killed", "database killed, another leads", "etcd frozen, another leads", "etcd frozen", "broker killed, another leads", "broker frozen"), 1)}
    (_, databases, _, _), (_, brokers, _, _) = ASKED
    assert sorted(outages.of_kinds(databases, ["sql"])) == [1, 2, 3, 5]
    assert outages.of_kinds(brokers, ["sql"]) == [5]
