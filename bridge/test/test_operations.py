"""What an administrator does to the tables while orders run: nothing is lost, and every index agrees with its table."""

import contextlib
import json
import random
import re
import subprocess
import threading

import psycopg
import pytest
from conftest import TOP, wait_until
from storage import damages
from test_database import standby

TABLES = ["orders", "order_line", "hold", "stock", "stock_lane", "outbox_0", "idempotency", "vendor"]
ONE = "SELECT order_aggregator.place_order('c', jsonb_build_array(jsonb_build_object('productId', %s::text, 'quantity', 1)))"
TWO = """SELECT order_aggregator.place_order('c', jsonb_build_array(jsonb_build_object('productId', %s::text, 'quantity', 1),
         jsonb_build_object('productId', %s::text, 'quantity', 2)), %s)"""
BATCH = """SELECT count(order_id) FROM order_aggregator.place_orders(
           (SELECT jsonb_agg(jsonb_build_object('productId', 'p' || mod(n, 20), 'quantity', 1)) FROM generate_series(1, 50) AS n))"""
AGAIN = {"40001", "40P01", "55P03"}     # serialization, deadlock, lock


class Load:
    """Clients of all kinds, each with a session that it keeps: single orders, batches, keys, settlement, at all isolation levels."""

    def __init__(self, world, clients=4):
        world.stock(a={f"p{n}": 1_000_000 for n in range(20)}, b={f"p{n}": 1_000_000 for n in range(20)})
        world.db.execute("SELECT order_aggregator.configure_product('p0', lanes => 4)")
        self.world, self.stop, self.done, self.failed = world, threading.Event(), [0] * clients, []
        self.threads = [threading.Thread(target=self.work, args=[n]) for n in range(clients)]

    def work(self, number):
        draw = random.Random(number)
        with psycopg.connect(self.world.url, autocommit=True, prepare_threshold=None) as db:
            db.isolation_level = [None, psycopg.IsolationLevel.REPEATABLE_READ, None, psycopg.IsolationLevel.SERIALIZABLE][number % 4]
            while not self.stop.is_set():
                try:
                    with db.transaction():
                        self.step(db, draw, number)
                    self.done[number] += 1
                except psycopg.Error as error:
                    if error.sqlstate not in AGAIN:
                        self.failed.append(f"{error.sqlstate} {error}")
                        return

    def step(self, db, draw, number):
        kind, products = draw.randrange(8), [f"p{draw.randrange(20)}" for _ in range(2)]
        if kind < 4:
            order, = db.execute(ONE, [products[0]]).fetchone()
            if kind == 0:
                db.execute("SELECT order_aggregator.confirm_order(%s)", [order])
            elif kind == 1:
                db.execute("SELECT order_aggregator.cancel_order(%s, 'test')", [order])
        elif kind == 4:
            db.execute(TWO, [*draw.sample([f"p{n}" for n in range(20)], 2), f"{number} {self.done[number]}"])
        elif kind == 5:
            db.execute(BATCH)
        elif kind == 6:
            with pytest.raises(psycopg.Error), db.transaction():     # what is rolled back with its savepoint
                db.execute(ONE, [products[0]])
                db.execute("SELECT 1 / 0")
            db.execute(ONE, [products[0]])
        else:
            db.execute("SELECT order_aggregator.sync_vendor_stock('b', (SELECT jsonb_agg(jsonb_build_object('id', 'p' || n, 'quantity', 1000000 - %s, 'price', 2)) "
                       "FROM generate_series(0, 19) AS n))", [draw.randrange(9)])

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def some_more(self):
        """Until every client has done something since, or one has failed."""
        before = list(self.done)
        wait_until(lambda: self.failed or all(now > then + 2 for now, then in zip(self.done, before)), what="orders of every client")
        assert self.failed == []

    def __exit__(self, *error):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.failed == []


def indexes_agree(world):
    """Each row is in each index once, in order; each row can be read."""
    world.db.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    assert damages(world.db) == []
    world.consistent()


def test_tables_are_rewritten_and_indexes_made_anew_while_orders_run(world):
    with Load(world) as load:
        load.some_more()
        for table in TABLES:
            for sql in ("REINDEX TABLE CONCURRENTLY order_aggregator.{}", "VACUUM FULL order_aggregator.{}", "VACUUM (FREEZE, INDEX_CLEANUP ON) order_aggregator.{}",
                        "REINDEX TABLE order_aggregator.{}"):
                world.db.execute(sql.format(table))
                load.some_more()
        world.db.execute("CLUSTER order_aggregator.orders USING orders_pkey")
        world.db.execute("CLUSTER order_aggregator.stock USING stock_pkey")
        load.some_more()
    indexes_agree(world)


def test_a_user_s_own_indexes_and_columns_come_and_go_while_orders_run(world):
    """Sessions that have kept what they knew of the table's indexes learn of each."""
    world.db.execute("CREATE FUNCTION public.plain(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN lower($1); END $$")
    indexes = {"by_customer": "orders (customer_id)", "by_day": "orders USING brin (placed_at)", "by_expression": "orders (public.plain(customer_id))",
               "only_open": "hold (vendor_id) WHERE status = 'open'", "by_product": "order_line USING hash (product_id)", "by_price": "stock (price)",
               "by_reserved": "stock (reserved) WHERE reserved > 0", "one_each": "UNIQUE orders (order_id, customer_id)", "by_key": "outbox_0 (routing_key)"}
    with Load(world) as load:
        load.some_more()
        for name, what in indexes.items():
            unique, what = ("UNIQUE", what.removeprefix("UNIQUE ")) if what.startswith("UNIQUE ") else ("", what)
            world.db.execute(f"CREATE {unique} INDEX CONCURRENTLY {name} ON order_aggregator.{what}")
            load.some_more()
        for table in ("orders", "hold", "order_line", "stock", "outbox"):
            world.db.execute(f"ALTER TABLE order_aggregator.{table} ADD COLUMN note text, ADD COLUMN seen boolean DEFAULT false")
            load.some_more()
        for name in indexes:
            world.db.execute(f"REINDEX INDEX CONCURRENTLY order_aggregator.{name}")
        load.some_more()
        indexes_agree(world)     # while they run, too
        for name in list(indexes)[::2]:
            world.db.execute(f"DROP INDEX CONCURRENTLY order_aggregator.{name}")
            load.some_more()
        world.db.execute("ALTER TABLE order_aggregator.orders DROP COLUMN note")
        load.some_more()
    indexes_agree(world)
    count = world.value("SELECT count(*) FROM order_aggregator.orders")
    for hint, sql in (("seqscan", "SELECT count(*) FROM order_aggregator.orders WHERE placed_at > '2000-01-01'"),
                      ("seqscan", "SELECT count(*) FROM order_aggregator.orders WHERE order_id > 0 AND customer_id = 'c'")):
        world.db.execute(f"SET enable_{hint} = off")
        found = world.value(sql)
        world.db.execute(f"RESET enable_{hint}")
        assert found in (count, world.value(sql))


# ---- what others make of the database ----

@contextlib.contextmanager
def another_database(world, suffix):
    name = f"{world.name}_{suffix}"
    world.db.execute(f"CREATE DATABASE {name}")
    try:
        yield name, world.servers.url_of(name)
    finally:
        world.db.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_dump_taken_while_orders_run_is_of_one_moment(world, tmp_path):
    with Load(world) as load, another_database(world, "restored") as (_, url):
        load.some_more()
        dump = tmp_path / "dump"
        subprocess.run(["pg_dump", "-Fc", "-f", dump, world.url], check=True)
        load.some_more()
        subprocess.run(["pg_restore", "-j4", "-d", url, dump], check=True)
        load.some_more()
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
            orders, = db.execute("SELECT count(*) FROM order_aggregator.orders").fetchone()
            assert 0 < orders < world.value("SELECT count(*) FROM order_aggregator.orders")
            assert db.execute(ONE, ["p1"]).fetchone()[0] > world.value("SELECT max(order_id) FROM order_aggregator.orders")
    world.consistent()


def test_a_dump_restored_in_place_gives_no_id_out_again(world, tmp_path):
    """The orders since the dump are lost, and what their vendors still answer must not meet others."""
    world.stock(a={"x": 100})
    before = world.place(3)
    dump = tmp_path / "dump"
    subprocess.run(["pg_dump", "-Fc", "-f", dump, world.url], check=True)
    lost = [world.value(ONE, "x") for _ in range(5)]
    world.db.close()
    subprocess.run(["pg_restore", "--clean", "--if-exists", "-d", world.url, dump], check=True)
    world.connect()
    assert world.value("SELECT count(*) FROM order_aggregator.orders") == before
    first = world.value(ONE, "x")
    assert first > max(lost) + 1000
    assert world.value(ONE, "x") == first + 1       # once
    world.consistent()


@contextlib.contextmanager
def no_prepared_left(world):
    try:
        yield
    finally:
        for gid, in world.db.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()").fetchall():
            world.db.execute(f"ROLLBACK PREPARED '{gid}'")


def prepare(world, name, product, quantity):
    with psycopg.connect(world.url) as db:
        db.execute("SELECT order_aggregator.place_order('c', jsonb_build_array(jsonb_build_object('productId', %s::text, 'quantity', %s::int)))", [product, quantity])
        db.execute(f"PREPARE TRANSACTION '{world.name} {name}'")


def test_prepared_transactions_outlive_a_crash(world):
    """Each holds its stock until it is decided, whatever becomes of the server; its events come when it is committed."""
    world.stock(a={"x": 10, "y": 100})
    world.db.execute("SELECT order_aggregator.configure_product('y', lanes => 4)")
    orders = [world.value(ONE, "y")]
    queue = world.listen("order.placed.*")
    world.ready_bridge("--roles=relay,http")
    with no_prepared_left(world):
        prepare(world, "x committed", "x", 2)
        prepare(world, "y committed", "y", 2)
        prepare(world, "y rolled back", "y", 3)
        for _ in range(2):      # before the crash, and after it
            with psycopg.connect(world.url, autocommit=True) as other, pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("SET lock_timeout = '200ms'")
                other.execute(ONE, ["x"])
            orders.append(world.value(ONE, "y"))        # another lane
            world.servers.kill("postgresql")
            world.servers.start("postgresql")
            world.connect()
        for gid, in world.db.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()").fetchall():
            world.db.execute(f"{'ROLLBACK' if 'rolled back' in gid else 'COMMIT'} PREPARED '{gid}'")
        lines = world.db.execute("SELECT product_id, quantity FROM order_aggregator.order_line ORDER BY 1, 2").fetchall()
        assert lines == [("x", 2), ("y", 1), ("y", 1), ("y", 1), ("y", 2)]
        assert world.db.execute("SELECT product_id, reserved FROM order_aggregator.product_stock ORDER BY 1").fetchall() == [("x", 2), ("y", 5)]
        world.take_orders(queue, [row[0] for row in world.db.execute("SELECT order_id FROM order_aggregator.orders").fetchall()])
    world.consistent()


def of_the_docs(first):
    """The block of docs/operations.md that begins like that."""
    return next(block for block in re.findall(r"```sql\n(.*?)```", (TOP / "docs/operations.md").read_text(), re.S) if block.startswith(first))


def test_a_logical_replica_has_the_same_rows_and_may_take_over(world):
    """We write rows by ourselves: what is decoded of them is what there is."""
    publication = of_the_docs("CREATE PUBLICATION order_aggregator")
    tables = re.findall(r"order_aggregator\.\w+", publication)
    with psycopg.connect(world.url, autocommit=True) as db:
        db.execute("ALTER SYSTEM SET wal_level = logical")
    try:
        world.servers.kill("postgresql")
        world.servers.start("postgresql")
        world.connect()
        with another_database(world, "replica") as (_, url), psycopg.connect(url, autocommit=True) as replica:
            replica.execute("CREATE EXTENSION order_aggregator")
            world.db.execute(publication)
            world.db.execute("SET statement_timeout = '60s'")        # it waits for all transactions of the cluster
            world.value("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')::text", world.name)
            # in one cluster the slot is made beforehand
            replica.execute(f"CREATE SUBSCRIPTION ours CONNECTION '{world.url}' PUBLICATION order_aggregator WITH (create_slot = false, slot_name = {world.name}, copy_data = false)")
            try:
                with Load(world) as load:
                    for _ in range(5):
                        load.some_more()
                back = world.value(ONE, "p1")
                world.db.execute("SELECT order_aggregator.confirm_order(%s), order_aggregator.return_order(%s, '[{\"lineNo\": 1, \"quantity\": 1}]')", [back, back])
                pending = world.value(ONE, "p1")
                wait_until(lambda: world.value("SELECT confirmed_flush_lsn >= pg_current_wal_lsn() FROM pg_replication_slots WHERE slot_name = %s", world.name), what="the replica")
                for table in tables:
                    rows = f"SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)), count(*) FROM {table} AS t"
                    assert replica.execute(rows).fetchone() == world.db.execute(rows).fetchone(), table
                assert replica.execute("SELECT count(*) > 100 FROM order_aggregator.orders").fetchone()[0]
            finally:
                replica.execute("ALTER SUBSCRIPTION ours DISABLE")
                replica.execute("ALTER SUBSCRIPTION ours SET (slot_name = NONE)")
                replica.execute("DROP SUBSCRIPTION ours")
                wait_until(lambda: world.value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s AND active", world.name) == 0, what="the slot")
                world.value("SELECT pg_drop_replication_slot(%s)::text", world.name)
            replica.execute(of_the_docs("SELECT setval('order_aggregator.vendor_vendor_no_seq'"))
            assert replica.execute(ONE, ["p1"]).fetchone()[0] > pending + 500_000_000
            assert replica.execute("SELECT order_aggregator.confirm_order(%s)", [pending]).fetchone() == ("confirmed",)
            assert replica.execute("SELECT order_aggregator.return_order(%s, '[{\"lineNo\": 1, \"quantity\": 1}]')", [pending]).fetchone()[0] > 1
            replica.execute("SELECT order_aggregator.register_vendor('new', 'New')")
            assert replica.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
        world.consistent()
    finally:
        world.db.execute("ALTER SYSTEM RESET wal_level")
        world.servers.kill("postgresql")
        world.servers.start("postgresql")
        world.connect()


def test_a_hot_standby_refuses_to_write_and_may_be_read(world):
    world.stock(a={"x": 10})
    order = world.value(ONE, "x")
    with standby(world) as url, psycopg.connect(url, autocommit=True) as db:
        for sql in ("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')",
                    "SELECT order_aggregator.place_orders('[{\"productId\": \"x\", \"quantity\": 1}]')",
                    f"SELECT order_aggregator.confirm_order({order})", f"SELECT order_aggregator.cancel_order({order}, 'test')", f"SELECT order_aggregator.return_order({order})",
                    f"SELECT order_aggregator.apply_vendor_replies('[{json.dumps({'orderId': order, 'vendorId': 'a', 'attempt': 1, 'status': 'confirmed'})}]')",
                    "SELECT order_aggregator.expire_orders()", "SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 5}]')",
                    "SELECT order_aggregator.register_vendor('b', 'B')", "SELECT order_aggregator.publish_event('mine', '{}')"):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                db.execute(sql)
        assert db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
        assert db.execute("SELECT status FROM order_aggregator.order_summary").fetchall() == [("pending",)]
        assert db.execute("SELECT available FROM order_aggregator.product_stock").fetchall() == [(9,)]
