"""What an administrator does to the tables while orders run: nothing is lost, and every index agrees with its table."""

import random
import threading

import psycopg
import pytest
from conftest import wait_until

TABLES = ["orders", "order_line", "hold", "stock", "stock_lane", "idempotency", "vendor"]
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
    for index, in world.db.execute("""SELECT i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam
                                      WHERE i.indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind = 'r')
                                      AND a.amname = 'btree' AND i.indisvalid""").fetchall():
        world.db.execute("SELECT bt_index_check(%s::regclass, true)", [index])
    for table, in world.db.execute("SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind = 'r'").fetchall():
        assert world.db.execute("SELECT * FROM verify_heapam(%s::regclass)", [table]).fetchall() == [], table
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
               "by_reserved": "stock (reserved) WHERE reserved > 0", "one_each": "UNIQUE orders (order_id, customer_id)"}
    with Load(world) as load:
        load.some_more()
        for name, what in indexes.items():
            unique, what = ("UNIQUE", what.removeprefix("UNIQUE ")) if what.startswith("UNIQUE ") else ("", what)
            world.db.execute(f"CREATE {unique} INDEX CONCURRENTLY {name} ON order_aggregator.{what}")
            load.some_more()
        for table in ("orders", "hold", "order_line", "stock"):
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
