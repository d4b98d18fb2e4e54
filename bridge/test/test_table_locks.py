"""REINDEX locks a table against writers and then each index against everybody: who has read one and writes the table afterwards deadlocks with it.

Each function that writes therefore takes its lock on a table before it looks into one of its indexes."""

import concurrent.futures

import psycopg
from conftest import wait_until
from every_call import CALLS, OTHERS, all_calls, given_a_bit_of_everything


def tables_of(world):
    return [table for table, in world.db.execute("SELECT relname FROM pg_class WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind = 'r' ORDER BY 1")]


def read_before(world, db, sql, table):
    """The indexes of the table into which the statement has looked when it comes to write the table; None if it writes another one, or none."""
    with concurrent.futures.ThreadPoolExecutor() as pool, world.db.transaction(force_rollback=True):
        world.db.execute(f"LOCK TABLE order_aggregator.{table} IN SHARE MODE")     # as REINDEX does first
        db.execute("DISCARD PLANS")     # who plans looks into all indexes
        call = pool.submit(db.execute, sql)
        waits = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
        wait_until(lambda: call.done() or world.db.execute(waits, [db.info.backend_pid]).fetchone(), what=f"{sql} to end, or to wait for {table}")
        if call.done():
            call.result()
            return None
        return [index for index, in world.db.execute("""SELECT i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_locks AS l ON l.relation = i.indexrelid
            WHERE l.granted AND l.pid = %s AND i.indrelid = ('order_aggregator.' || %s)::regclass""", [db.info.backend_pid, table])]


def test_every_function_that_writes_is_tried(world):
    volatile = {name for name, in world.db.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'order_aggregator'::regnamespace AND provolatile = 'v'")}
    assert volatile == OTHERS | {name.split()[0] for name in CALLS}


def test_tables_are_locked_before_their_indexes_are_read(world):
    feed, written, deadlocks = given_a_bit_of_everything(world), {}, []
    with psycopg.connect(world.url) as db:
        for name, sql in all_calls(feed).items():
            for table in tables_of(world):
                indexes = read_before(world, db, sql, table)
                db.rollback()
                if indexes is not None:
                    written.setdefault(name, set()).add(table)
                    deadlocks += [f"{name} has read {index} before it writes {table}" for index in indexes]
    assert deadlocks == []
    # the measure itself: each found something to do
    assert set(CALLS) - set(written) == {"make_outbox_partitions"}
    assert {"orders", "hold", "stock", "stock_lane"} <= written["place_order"] and "outbox_0" in written["settle_shortages"] & written["apply_vendor_replies"]
    world.consistent()
