"""A call of the extension into the server fails: the nth of each function that writes, for n from 1 until it does its work.

Whatever it was, the transaction or the savepoint is undone as if nothing had been, and the session goes on: the same call then does its work.
By default each NTH_STEP-th n is tried; `make check-nth` tries them all.
"""

import os

import psycopg
import pytest
from conftest import TOP
from every_call import all_calls, given_a_bit_of_everything

STEP = int(os.environ.get("NTH_STEP", 61))
LIBRARY = TOP / "build" / "test" / "failing_calls"


class Session:
    """One in which calls can be made to fail."""

    def __init__(self, world):
        self.db = psycopg.connect(world.url, prepare_threshold=None)

    def fails(self, sql, n, in_savepoint):
        """Has the nth call of the statement failed? Its transaction goes on, with nothing done."""
        self.db.execute("SAVEPOINT before") if in_savepoint else self.db.rollback()
        self.db.execute("SELECT public.fail_call(%s)", [n])
        try:
            self.db.execute(sql)
        except psycopg.errors.OutOfMemory:
            self.db.execute("ROLLBACK TO before") if in_savepoint else self.db.rollback()
        return self.db.execute("SELECT public.has_failed()").fetchone()[0]

    def works(self, sql):
        """And leaves the database as it was."""
        self.db.execute(sql)
        assert self.db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
        self.db.rollback()


def use_library(world):
    """The database's functions are those of the library with the calls that fail."""
    world.db.execute("UPDATE pg_proc SET probin = %s WHERE probin = '$libdir/order_aggregator'", [str(LIBRARY)])
    for function in ("fail_call(bigint) RETURNS void", "has_failed() RETURNS boolean"):
        world.db.execute(f"CREATE FUNCTION public.{function} AS '{LIBRARY}' LANGUAGE C STRICT")
    world.connect()     # this session has the ordinary one


@pytest.mark.parametrize("in_savepoint", [False, True], ids=["transaction", "savepoint"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new session", "old session"])
def test_the_nth_call_into_the_server_fails(world, is_new, in_savepoint):
    use_library(world)
    failed, session = {}, Session(world)
    calls = all_calls(given_a_bit_of_everything(world))
    for name, sql in calls.items():
        n = 1
        while session.fails(sql, n, in_savepoint):
            session.works(sql)
            n, failed[name] = n + STEP, failed.get(name, 0) + 1
            if is_new:
                session.db.close()
                session = Session(world)
        session.db.rollback()
    print(failed)
    assert failed["place_order"] >= 2 and failed["sync_vendor_stock"] >= 2, "hardly anything has failed"
    in_c = {row[0] for row in world.db.execute("""SELECT proname FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
                                                  WHERE lanname = 'c' AND pronamespace = 'order_aggregator'::regnamespace""").fetchall()}
    never = sorted((calls.keys() & in_c) - failed.keys())
    assert never == []
    session.db.close()
    world.consistent()
