"""The database as its keepers handle it: dumped, restored in other ways, upgraded from the first version."""

import collections
import concurrent.futures
import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, RUN, Proxy, free_port, wait_until

QUERY_THREADS = 4       # two that read, two that change
# every object of the extension, each as one line of text
CATALOGUE = """
WITH class AS (SELECT oid, oid::regclass AS name, relkind, reloptions, relacl, relam FROM pg_class WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind NOT IN ('i', 'I', 't')),
member AS (SELECT classid, objid, objsubid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'order_aggregator'))
SELECT concat_ws(' ', 'table', name, relkind, reloptions, relacl, amname) FROM class LEFT JOIN pg_am ON pg_am.oid = relam
UNION ALL
SELECT concat_ws(' ', 'column', name, row_number() OVER (PARTITION BY name ORDER BY attnum), attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
	attgenerated, attstorage, attacl, pg_get_expr(adbin, adrelid))
FROM class JOIN pg_attribute ON attrelid = class.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT concat_ws(' ', 'constraint', name, conname, pg_get_constraintdef(pg_constraint.oid)) FROM class JOIN pg_constraint ON conrelid = class.oid
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid)) FROM class JOIN pg_index ON indrelid = class.oid
UNION ALL
SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(pg_trigger.oid), tgenabled) FROM class JOIN pg_trigger ON tgrelid = class.oid WHERE NOT tgisinternal
UNION ALL
SELECT concat_ws(' ', 'function', pg_get_functiondef(oid), proacl) FROM pg_proc WHERE pronamespace = 'order_aggregator'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'view', name, pg_get_viewdef(class.oid)) FROM class WHERE relkind = 'v'
UNION ALL
SELECT concat_ws(' ', 'sequence', name, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle) FROM class JOIN pg_sequence ON seqrelid = class.oid
UNION ALL
SELECT concat_ws(' ', 'comment', pg_describe_object(classoid, objoid, d.objsubid), description) FROM pg_description AS d JOIN member ON classid = classoid AND objid = objoid
UNION ALL
SELECT concat_ws(' ', 'dumped', t.oid::regclass, t.condition) FROM pg_extension, unnest(extconfig, extcondition) AS t(oid, condition) WHERE extname = 'order_aggregator'
UNION ALL
SELECT concat_ws(' ', 'member', pg_describe_object(classid, objid, objsubid)) FROM member
"""


def catalogue(db):
    rows = [row[0] for row in db.execute(CATALOGUE)]
    assert len(rows) > 300
    return sorted(rows)


def afresh(world, options=""):
    """Drops the test's database and makes it again, empty."""
    world.db.close()
    with psycopg.connect(world.servers.env["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {world.name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {world.name} {options}")


def as_released(world):
    """The test's database has the extension as it was in 1.0."""
    world.db.execute("DROP EXTENSION IF EXISTS order_aggregator CASCADE")
    world.db.execute("CREATE EXTENSION order_aggregator VERSION '1.0'")


def shell(*words, **more):
    return subprocess.run(words, check=True, capture_output=True, **more)


def stock_by_hand(world, **vendors):
    """world.stock() for the tables of 1.0, which a newer library brings no feed into."""
    for priority, (vendor, items) in enumerate(vendors.items()):
        world.db.execute("SELECT order_aggregator.register_vendor(%s, %s, NULL, %s)", [vendor, vendor, priority])
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="an earlier version"):
            world.db.execute("SELECT order_aggregator.sync_vendor_stock(%s, '[]')", [vendor])
        for product, quantity in items.items():
            world.db.execute("INSERT INTO order_aggregator.product (product_id, name) VALUES (%s, %s)", [product, product])
            world.db.execute("INSERT INTO order_aggregator.stock (product_id, vendor_id, vendor_sku, price, on_hand) VALUES (%s, %s, %s, %s, %s)",
                             [product, vendor, product, 1 + priority, quantity])


def busy_world(world, return_key="'r1'", stock=None):
    """Rows in every table that a dump has to take along."""
    vendors = {"a": {f"p{n}": 5 for n in range(300)}, "b": {"x": 100, "y": 100}}
    (stock or type(world).stock)(world, **vendors)
    world.db.execute("SELECT order_aggregator.map_product('a', 'sku-1', 'p1')")
    assert world.place(20) == 20
    world.db.execute("SELECT order_aggregator.confirm_order(n) FROM generate_series(1, 5) AS n")
    world.db.execute("SELECT order_aggregator.cancel_order(6, 'by the shop')")
    world.db.execute(f"""SELECT order_aggregator.return_order(1, '[{{"productId": "x", "quantity": 1}}]', true, {return_key})""")
    world.db.execute("""SELECT order_aggregator.place_order('c', '[{"productId": "y", "quantity": 1}]', 'k1')""")
    world.consistent()


TABLES = ["vendor", "product", "stock", "product_map", "feed_sync", "orders", "order_line", "hold", "idempotency", "order_return", "outbox"]


def rows(world):
    return {table: world.db.execute(f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)), count(*) FROM order_aggregator.{table} AS t").fetchone() for table in TABLES}


@pytest.mark.parametrize("how", ["plain", "jobs", "of the extension alone", "of schema and extension", "the schema, then the data"])
def test_every_documented_dump_restores_all_rows(world, tmp_path, how):
    busy_world(world)
    before, url = rows(world), world.url
    assert all(count > 0 for _, count in before.values()), before
    words = {"plain": [], "jobs": ["-Fc"], "the schema, then the data": ["-Fc"], "of the extension alone": ["-e", "order_aggregator"], "of schema and extension": ["-e", "order_aggregator", "-n", "order_aggregator"]}[how]
    shell("pg_dump", *words, "-f", tmp_path / "dump", url)
    afresh(world)
    if how == "jobs":
        shell("pg_restore", "-j4", "--exit-on-error", "-d", url, tmp_path / "dump")
    elif how == "the schema, then the data":
        shell("pg_restore", "--schema-only", "--exit-on-error", "-d", url, tmp_path / "dump")
        shell("pg_restore", "--data-only", "-j4", "--exit-on-error", "-d", url, tmp_path / "dump")
    else:
        shell("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", tmp_path / "dump", url)
    world.connect()
    assert rows(world) == before
    world.consistent()
    # goes on where it was: ids, keys and events
    assert world.value("""SELECT order_aggregator.place_order('c', '[{"productId": "y", "quantity": 1}]', 'k1')""") == 21
    assert world.value("""SELECT order_aggregator.place_order('c', '[{"productId": "x", "quantity": 1}]')""") > 21
    world.consistent()


def test_a_user_s_columns_are_there_before_the_rows(world, tmp_path):
    """A dump leaves the tables of an extension to the extension: what was added to them is added again, then the rows come."""
    def add():
        world.db.execute("ALTER TABLE order_aggregator.orders ADD COLUMN channel text NOT NULL DEFAULT 'web', ADD CHECK (total_amount < 1000000)")
        world.db.execute("ALTER TABLE order_aggregator.stock ADD COLUMN available bigint GENERATED ALWAYS AS (on_hand - reserved) STORED")
        world.db.execute("ALTER TABLE order_aggregator.outbox ADD COLUMN note text DEFAULT 'n'")
        world.db.execute("CREATE INDEX orders_by_channel ON order_aggregator.orders (channel)")
    add()
    busy_world(world)
    before = rows(world)
    shell("pg_dump", "-Fc", "-f", tmp_path / "dump", world.url)
    afresh(world)
    world.connect()
    world.db.execute("CREATE EXTENSION order_aggregator")
    add()
    answer = subprocess.run(["pg_restore", "-j4", "-d", world.url, tmp_path / "dump"], capture_output=True, text=True)
    assert re.findall(r"ERROR: .*", answer.stderr) == ['ERROR:  schema "order_aggregator" already exists'], answer.stderr
    assert rows(world) == before
    assert world.place(5, "y") == 5
    assert world.value("SELECT count(*) FROM order_aggregator.outbox WHERE note IS NULL") == 0
    assert world.value("SELECT count(*) FROM order_aggregator.stock WHERE available <> on_hand - reserved") == 0
    world.consistent()


def test_our_tables_are_heaps_whatever_others_are_by_default(world):
    """Rows are written past the executor, as heaps take them."""
    world.db.execute("DROP EXTENSION order_aggregator CASCADE")
    world.db.execute("CREATE ACCESS METHOD another TYPE TABLE HANDLER heap_tableam_handler")
    world.db.execute("SET default_table_access_method = another")
    world.db.execute("CREATE EXTENSION order_aggregator")
    world.db.execute("SELECT order_aggregator.make_outbox_partitions(3)")
    found = dict(world.db.execute("SELECT relname, amname FROM pg_class JOIN pg_am ON pg_am.oid = relam WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind = 'r'"))
    assert set(found.values()) == {"heap"} and "outbox_3" in found and len(found) > 12


def test_a_dump_of_the_schema_alone_fails_loudly(world, tmp_path):
    """pg_dump -n leaves the extension itself out; nothing may look restored."""
    busy_world(world)
    shell("pg_dump", "-n", "order_aggregator", "-f", tmp_path / "dump", world.url)
    afresh(world)
    answer = subprocess.run(["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", tmp_path / "dump", world.url], capture_output=True, text=True)
    world.connect()
    assert answer.returncode != 0 and "order_aggregator" in answer.stderr
    assert world.value("SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'order_aggregator')") == 0


@pytest.mark.parametrize("before", ["ADD COLUMN note text", "ADD COLUMN note int", "ADD COLUMN seen boolean NOT NULL DEFAULT true, ADD COLUMN at timestamptz DEFAULT now()"])
@pytest.mark.parametrize("is_dropped", [False, True])
def test_an_upgrade_puts_its_columns_behind_a_user_s(world, before, is_dropped):
    """So ours have other numbers than in a fresh installation, and the library finds them by name."""
    as_released(world)
    for table in ("vendor", "product", "stock"):
        world.db.execute(f"ALTER TABLE order_aggregator.{table} {before}")
        if is_dropped:
            world.db.execute(f"ALTER TABLE order_aggregator.{table} DROP COLUMN IF EXISTS note, DROP COLUMN IF EXISTS seen, DROP COLUMN IF EXISTS at")
    world.db.execute("SELECT order_aggregator.register_vendor('a', 'A'), order_aggregator.register_vendor('b', 'B')")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        world.db.execute("SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 5, \"price\": 1}]')")
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    world.db.execute("SELECT order_aggregator.sync_vendor_stock(v, '[{\"id\": \"x\", \"quantity\": 100, \"price\": 1}, {\"id\": \"free\", \"quantity\": 5}]') FROM unnest('{a,b}'::text[]) AS v")
    assert world.db.execute("SELECT DISTINCT product_id, is_priced, counted, lanes, lanes_max, in_lanes FROM order_aggregator.stock ORDER BY 1").fetchall() == [
        ("free", False, 5, None, None, None), ("x", True, 100, None, None, None)]
    world.db.execute("SELECT order_aggregator.configure_product('x', lanes => '4')")
    world.db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]') FROM generate_series(1, 20)")
    assert world.value("SELECT sum(in_lanes) FROM order_aggregator.stock") > 0
    world.db.execute("SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 80, \"price\": 2}, {\"id\": \"free\", \"quantity\": 5, \"price\": 3}]')")
    assert world.db.execute("SELECT is_priced, counted, lanes, lanes_max FROM order_aggregator.stock WHERE vendor_id = 'a' ORDER BY product_id").fetchall() == [
        (True, 5, None, None), (True, 80, 4, 4)]
    document = world.db.execute("SELECT document FROM order_aggregator.product_documents('{x}')").fetchone()[0]
    assert all(offer["isPriced"] and offer["confirmedAt"] for offer in document["offers"]), document
    assert world.db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []


def test_upgraded_is_the_same_as_made_anew(world):
    anew = catalogue(world.db)
    afresh(world)
    world.connect()
    as_released(world)
    assert catalogue(world.db) != anew
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    assert catalogue(world.db) == anew


SYMBOLS = "SELECT prosrc, probin FROM pg_proc JOIN pg_language AS l ON l.oid = prolang WHERE lanname = 'c' AND pronamespace = 'order_aggregator'::regnamespace"


def test_a_session_that_has_the_library_of_before_an_update_runs_none_of_its_code(world, tmp_path):
    """A session keeps the library it has loaded, and looks for functions there: it must find none of those that the update has made."""
    as_released(world)
    before = set(world.db.execute(SYMBOLS))
    assert len(before) > 30
    # a library that has what 1.0's has, and nothing else
    source, library = tmp_path / "before.c", tmp_path / "before.so"
    source.write_text('#include "postgres.h"\n#include "fmgr.h"\nPG_MODULE_MAGIC;\n' + "".join(
        f"PG_FUNCTION_INFO_V1({symbol}); Datum {symbol}(PG_FUNCTION_ARGS) {{ elog(ERROR, \"old code runs\"); }}\n" for symbol, _ in before))
    shell("gcc", "-shared", "-fPIC", f"-I{shell('pg_config', '--includedir-server').stdout.decode().strip()}", "-o", library, source)
    for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    after = set(world.db.execute(SYMBOLS))
    assert len(after) > len(before)
    world.db.execute("UPDATE pg_proc SET probin = %s WHERE probin = '$libdir/order_aggregator'", [str(library)])
    world.connect()
    for sql in ("SELECT order_aggregator.cancel_order(1, 'x')", "INSERT INTO order_aggregator.vendor (vendor_id, name) VALUES ('a', 'A'); DELETE FROM order_aggregator.vendor"):
        with pytest.raises(psycopg.errors.UndefinedFunction, match="could not find function"):
            world.db.execute(sql)
    assert not {symbol for symbol, _ in before} & {symbol for symbol, _ in after}


def test_a_vendor_that_is_fed_by_hand_is_sold_after_an_update_as_before(world):
    """A vendor with a URL has a day for its next feed, as every vendor of 1.1; 1.0 knew no such limit."""
    as_released(world)
    world.db.execute("SELECT order_aggregator.register_vendor('hand', 'H'), order_aggregator.register_vendor('url', 'U', 'http://127.0.0.1/')")
    world.db.execute("UPDATE order_aggregator.vendor SET synced_as_of = now()")
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    assert world.db.execute("SELECT vendor_id, stale_after::text, stale_at - confirmed_at = '1 day' FROM order_aggregator.vendor ORDER BY 1").fetchall() == [
        ("hand", "00:00:00", None), ("url", "1 day", True)]
    world.db.execute("SELECT order_aggregator.sync_vendor_stock('hand', '[{\"id\": \"x\", \"quantity\": 5, \"price\": 1}]')")
    assert world.value("SELECT stale_at FROM order_aggregator.vendor WHERE vendor_id = 'hand'") is None


def test_a_database_of_1_0_that_is_not_in_utf8_is_restored_into_one_that_is(world, tmp_path):
    """It is updated all the same, and told that pg_restore -C would make a database where the extension is refused."""
    afresh(world, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    world.connect()
    as_released(world)
    world.db.execute("SELECT order_aggregator.register_vendor('a', 'Müller')")
    warnings = []
    world.db.add_notice_handler(lambda notice: warnings.append((notice.message_primary, notice.message_hint)))
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    assert [hint for text, hint in warnings if "needs a database in UTF8" in text and "pg_restore -C" in hint]
    shell("pg_dump", "-Fc", "-f", tmp_path / "dump", world.url)
    afresh(world)
    world.connect()
    shell("pg_restore", "--exit-on-error", "-d", world.url, tmp_path / "dump")
    assert world.value("SELECT name FROM order_aggregator.vendor") == "Müller"


def test_upgrading_keeps_every_row_and_goes_on(world):
    afresh(world)
    world.connect()
    as_released(world)
    busy_world(world, "NULL", stock_by_hand)      # the new library with the old schema, as between installing and updating
    world.db.execute("INSERT INTO order_aggregator.stock (product_id, vendor_id, vendor_sku, price, on_hand) VALUES ('y', 'a', 'y', 0, 7)")
    old = {table: world.value(f"SELECT count(*) FROM order_aggregator.{table}") for table in TABLES}
    queue = world.listen("order.placed.b")
    bridge = world.bridge()
    wait_until(lambda: bridge.logged("has order_aggregator 1.0, and this bridge needs 1.1: run ALTER EXTENSION order_aggregator UPDATE"), what="the word")
    assert set(requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).json()["roles"].values()) == {"not ready"}
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    bridge.wait_for("/readyz")
    # what 1.0 had no price for comes last now
    assert world.value("SELECT is_priced FROM order_aggregator.vendor_offer WHERE product_id = 'y' AND vendor_id = 'a'") is False
    wait_until(lambda: world.depth(queue) == 21, what="the events of before")
    assert {table: world.value(f"SELECT count(*) FROM order_aggregator.{table}") for table in TABLES} == old
    world.consistent()
    assert world.value("""SELECT order_aggregator.place_order('c', '[{"productId": "y", "quantity": 1}]', 'k1')""") == 21
    assert world.place(1) == 1
    wait_until(lambda: world.depth(queue) == 22, what="the next")
    world.consistent()


# ---- strangers in our schema, and what others have been given on it ----

@pytest.fixture
def clerk(world):
    """A role that is nobody, but for what a test gives it; the world's database begins without the extension."""
    name = f"clerk_of_{world.name}"
    afresh(world)
    world.connect()
    world.db.execute(f"CREATE ROLE {name}")
    yield name
    world.connect()     # it may be another database by now
    if world.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", name):
        world.db.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


GREEDY = """
CREATE FUNCTION order_aggregator.captured(numeric, int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'captured as %', current_user; END $$;
CREATE OPERATOR order_aggregator.>= (LEFTARG = numeric, RIGHTARG = int, FUNCTION = order_aggregator.captured)"""
TRAPS = {"schema": f"SET ROLE {{clerk}}; CREATE SCHEMA order_aggregator; {GREEDY}", "an empty schema": "SET ROLE {clerk}; CREATE SCHEMA order_aggregator",
         "operator": f"CREATE SCHEMA order_aggregator; GRANT ALL ON SCHEMA order_aggregator TO {{clerk}}; SET ROLE {{clerk}}; {GREEDY}",
         "type": "CREATE SCHEMA order_aggregator; GRANT ALL ON SCHEMA order_aggregator TO {clerk}; SET ROLE {clerk}; CREATE DOMAIN order_aggregator.money AS text"}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_a_schema_that_may_be_a_trap_is_not_installed_into(world, clerk, trap):
    """The scripts run as a superuser, with the schema on their path: an operator in it that fits exactly is taken before PostgreSQL's own."""
    world.db.execute(f"GRANT CREATE ON DATABASE {world.name} TO {clerk}")
    world.db.execute(trap.format(clerk=clerk))
    world.db.execute("RESET ROLE")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="belongs to a role that is no superuser") as refused:
        world.db.execute("CREATE EXTENSION order_aggregator")
    assert refused.value.diag.message_hint
    world.db.execute("DROP SCHEMA order_aggregator CASCADE")
    world.db.execute("CREATE EXTENSION order_aggregator")


def test_an_update_refuses_what_a_stranger_has_put_beside_our_functions(world, clerk):
    as_released(world)
    world.db.execute("CREATE FUNCTION order_aggregator.ours() RETURNS int LANGUAGE sql AS 'SELECT 1'")      # a superuser's may stay
    world.db.execute(f"GRANT ALL ON SCHEMA order_aggregator TO {clerk}; SET ROLE {clerk}; {GREEDY}; RESET ROLE")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="belongs to a role that is no superuser"):
        world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    world.db.execute("DROP OPERATOR order_aggregator.>= (numeric, int)")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="captured"):
        world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    world.db.execute("DROP FUNCTION order_aggregator.captured")
    world.db.execute(f"ALTER SCHEMA order_aggregator OWNER TO {clerk}")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="schema order_aggregator belongs"):
        world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    world.db.execute("ALTER SCHEMA order_aggregator OWNER TO CURRENT_USER")
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")


def test_the_extension_comes_into_the_schema_that_it_left(world, clerk):
    """DROP EXTENSION keeps the schema, and whoever was let into it; but nobody can make anything there."""
    world.db.execute("CREATE EXTENSION order_aggregator")
    world.db.execute(f"GRANT CREATE, USAGE ON SCHEMA order_aggregator TO {clerk} WITH GRANT OPTION")
    world.db.execute("CREATE FUNCTION order_aggregator.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    world.db.execute("DROP EXTENSION order_aggregator")
    world.db.execute("CREATE EXTENSION order_aggregator")
    assert world.db.execute("SELECT has_schema_privilege(%s, 'order_aggregator', 'USAGE'), has_schema_privilege(%s, 'order_aggregator', 'CREATE')", [clerk, clerk]).fetchone() == (True, False)


GIVEN = """
SELECT c.relname::text, a.privilege_type FROM pg_class AS c, aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'order_aggregator'::regnamespace AND a.grantee = %s::regrole
UNION ALL
SELECT p.proname, a.privilege_type FROM pg_proc AS p, aclexplode(p.proacl) AS a
WHERE p.pronamespace = 'order_aggregator'::regnamespace AND a.grantee = %s::regrole"""


def given(world, role):
    """What the role has been given by name in our schema: pairs of object and privilege."""
    return set(world.db.execute(GIVEN, [role, role]).fetchall())


def give_by_default(world, role):
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        world.db.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {role} WITH GRANT OPTION")


def test_nobody_is_given_our_objects_by_default(world, clerk):
    give_by_default(world, clerk)
    world.db.execute("CREATE EXTENSION order_aggregator")
    assert given(world, clerk) == set()
    world.db.execute("SELECT order_aggregator.make_outbox_partitions(2)")
    assert given(world, clerk) == set()
    assert world.value("SELECT count(*) FROM pg_init_privs, aclexplode(initprivs) AS a WHERE a.grantee = %s::regrole", clerk) == 0


def test_an_update_keeps_what_was_granted_and_gives_nothing_new(world, clerk):
    """Also on what is no part of the extension, whoever has it."""
    as_released(world)
    world.db.execute(f"GRANT SELECT ON order_aggregator.orders TO {clerk}")
    world.db.execute("CREATE VIEW order_aggregator.mine AS SELECT 1; GRANT SELECT ON order_aggregator.mine TO PUBLIC")
    world.db.execute("CREATE FUNCTION order_aggregator.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    give_by_default(world, clerk)
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    assert given(world, clerk) == {("orders", "SELECT")}
    assert world.value("SELECT has_table_privilege('public', 'order_aggregator.mine', 'SELECT') AND has_function_privilege('public', 'order_aggregator.mine()', 'EXECUTE')")
    assert not world.value("SELECT has_table_privilege('public', 'order_aggregator.order_summary', 'SELECT') OR has_function_privilege('public', 'order_aggregator.cancel_order(bigint, text)', 'EXECUTE')")


def restored(world, tmp_path):
    """The world's database dumped, made anew, and restored without an error."""
    shell("pg_dump", "-f", tmp_path / "dump", world.url)
    afresh(world)
    shell("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", tmp_path / "dump", world.url)
    world.connect()


def test_grants_of_before_an_update_are_in_its_dumps(world, clerk, tmp_path):
    """PostgreSQL takes the privileges of an object that a script grants on for the extension's own, and leaves them out of dumps."""
    as_released(world)
    world.db.execute(f"GRANT USAGE ON SCHEMA order_aggregator TO {clerk}; GRANT SELECT ON order_aggregator.orders, order_aggregator.order_summary TO {clerk}")
    world.db.execute(f"GRANT UPDATE (name) ON order_aggregator.vendor TO {clerk}; GRANT EXECUTE ON FUNCTION order_aggregator.cancel_order TO {clerk}")
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    before = given(world, clerk)
    assert len(before) == 3
    restored(world, tmp_path)
    assert given(world, clerk) == before
    assert world.db.execute("SELECT has_schema_privilege(%s, 'order_aggregator', 'USAGE'), has_column_privilege(%s, 'order_aggregator.vendor', 'name', 'UPDATE')", [clerk, clerk]).fetchone() == (True, True)


def test_a_role_that_is_gone_is_in_no_dump_after_an_update(world, clerk, tmp_path):
    as_released(world)
    world.db.execute(f"GRANT SELECT ON order_aggregator.orders TO {clerk}; GRANT UPDATE (name) ON order_aggregator.vendor TO {clerk}")
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    world.db.execute(f"DROP OWNED BY {clerk}; DROP ROLE {clerk}")
    restored(world, tmp_path)


def test_an_updated_database_has_the_initial_privileges_of_a_new_one(world, clerk):
    def initial():
        return sorted(world.db.execute("""
            SELECT pg_describe_object(classoid, objoid, objsubid), array_agg(concat(a.grantee::regrole, a.privilege_type, a.is_grantable) ORDER BY a.grantee, a.privilege_type)
            FROM pg_init_privs, aclexplode(initprivs) AS a WHERE objoid >= 16384 GROUP BY 1""").fetchall())
    as_released(world)
    world.db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA order_aggregator TO {clerk}")
    world.db.execute("ALTER EXTENSION order_aggregator UPDATE")
    updated = initial()
    afresh(world)
    world.connect()
    world.db.execute("CREATE EXTENSION order_aggregator")
    assert updated == initial() and len(updated) > 80


def test_dump_and_restore_loses_nothing_and_repeats_under_the_same_message_id(world):
    """Restored elsewhere, transaction ids mean nothing any more. A second cluster is played by another system_identifier."""
    world.stock(a={"x": 100})
    world.place(10)
    queue = world.listen("order.placed.a")
    bridge = world.ready_bridge()
    wait_until(lambda: world.depth(queue) == 10, what="the events")
    bridge.stop()
    world.place(5)      # not relayed before the dump
    world.db.execute("SELECT order_aggregator.confirm_order(1)")
    dump = subprocess.run(["pg_dump", world.url], check=True, capture_output=True, text=True).stdout
    old_ids = {p.message_id for p, _, _ in world.take(queue)}

    afresh(world)
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", world.url], input=dump, check=True,
                   capture_output=True, text=True)
    world.connect()
    world.consistent()
    world.db.execute("UPDATE order_aggregator.relay_checkpoint SET system_identifier = system_identifier + 1")
    # transaction ids of the old cluster were far ahead
    world.db.execute("SET session_replication_role = replica")
    world.db.execute("UPDATE order_aggregator.outbox SET txid = (txid::text::bigint + 4000000000)::text::xid8")
    world.db.execute("UPDATE order_aggregator.relay_checkpoint SET snapshot = '4000100000:4000100000:'")
    world.db.execute("RESET session_replication_role")
    assert world.place(3) == 3
    first = jumped([world.value("SELECT min(order_id) FROM order_aggregator.orders WHERE order_id > 15")])
    bridge = world.ready_bridge()
    messages = world.take_orders(queue, [*range(11, 16), *range(first, first + 3)])
    world.place(2)
    messages += world.take_orders(queue, (first + 3, first + 4))
    assert bridge.logged("restored from another cluster")
    repeated = {p.message_id for p, body, _ in messages if json.loads(body)["orderId"] <= 10}
    assert repeated <= old_ids
    world.consistent()


# ---- ids after a fail-over ----

PLACE = "SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')"


def ids_of(url, count=2, key=None):
    with psycopg.connect(url, autocommit=True) as db:
        return [db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]', %s)", [key and f"{key} {n}"]).fetchone()[0] for n in range(count)]


def jumped(ids, last=0):
    """The first of ids that follow one another after a jump from the last one."""
    block, first = divmod(ids[0], 1_000_000_000)
    assert 1 <= block - last // 1_000_000_000 <= 20_000 and first == 1 and sorted(ids) == list(range(ids[0], ids[0] + len(ids)))
    return ids[0]


def stepped_down():
    """Who runs the servers, if we are root."""
    owner = (RUN / "postgresql").stat()
    return {"user": owner.st_uid, "group": owner.st_gid} if owner.st_uid != 0 and shutil.os.geteuid() == 0 else {}


def pg_ctl(folder, *words):
    shell(next((RUN / "pgroot").glob("usr/lib/postgresql/*/bin/pg_ctl")), "-D", folder, "-l", folder / "log", "-w", *words, **stepped_down())


@contextlib.contextmanager
def standby(world, before=lambda: None, streams=False, name="standby"):
    """The URL of a standby that has what before() does; and all that comes after it only if it streams."""
    folder, port = world.tmp_path / name, free_port()
    before()
    shell("pg_basebackup", "-d", world.servers.env["DATABASE_URL"], "-D", folder, "-R", "-X", "stream", "-c", "fast")
    with open(folder / "postgresql.auto.conf", "a") as settings:
        settings.write(f"port = {port}\nunix_socket_directories = ''\n" + ("" if streams else "primary_conninfo = ''\n"))
    if stepped_down():
        shell("chown", "-R", f"{stepped_down()['user']}:{stepped_down()['group']}", folder)
        for path in list(folder.parents)[:-2]:
            path.chmod(path.stat().st_mode | 0o055)
    pg_ctl(folder, "start")
    try:
        url = urllib.parse.urlsplit(world.url)
        yield url._replace(netloc=f"{url.username}:{url.password}@{url.hostname}:{port}").geturl()
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):        # it may be dead
            pg_ctl(folder, "stop", "-m", "immediate")


def orders_of(world, ids):
    """Places orders, which get these ids."""
    assert ids_of(world.url, len(ids)) == ids


@pytest.mark.parametrize("key", [None, "key"])
def test_ids_that_another_timeline_may_have_given_are_not_given_again(world, key):
    """A standby that lost the last orders is promoted; a vendor's late answer to one of them confirms nothing."""
    world.stock(a={"x": 1000})
    with standby(world, lambda: orders_of(world, [1, 2])) as url:
        orders_of(world, [3, 4])
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SELECT count(*) FROM order_aggregator.order_documents('{1,2}')").fetchone()[0] == 2     # it may be read
            assert db.execute("SELECT pg_promote()").fetchone()[0]
            first = jumped(ids_of(url, key=key))
            assert db.execute(PLACE).fetchone()[0] == first + 2       # a session that was there before
            late = json.dumps([{"orderId": order, "vendorId": "a", "attempt": 1, "status": "confirmed"} for order in (3, 4)])
            assert db.execute("SELECT outcome FROM order_aggregator.apply_vendor_replies(%s)", [late]).fetchall() == [("invalid",), ("invalid",)]
            assert db.execute("SELECT DISTINCT status FROM order_aggregator.orders").fetchall() == [("pending",)]
            assert db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
        assert ids_of(url) == [first + 3, first + 4]
    orders_of(world, [5, 6])


def placed(bridge):
    """The id of an order that the bridge has accepted."""
    answer = requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S)
    return answer.json()["orderId"] if answer.status_code == 201 else None


def test_events_that_a_fail_over_has_lost_are_named(world):
    """The bridge has both hosts; it goes on with the promoted one, and tells which events the broker has of what is lost."""
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.*")
    with standby(world, lambda: orders_of(world, [1, 2])) as url:
        here = world.env["DATABASE_URL"]
        bridge = world.ready_bridge(DATABASE_URL=url_with_hosts(here, address_of(here), address_of(url), query="connect_timeout=2"))
        orders_of(world, [3, 4])
        messages = world.take_orders(queue, [1, 2, 3, 4])
        world.servers.kill("postgresql")
        try:
            with psycopg.connect(url, autocommit=True) as db:
                assert db.execute("SELECT pg_promote()").fetchone()[0]
                wait_until(lambda: bridge.metric("events_lost_total") == 2, what="the lost events")
                for properties, body, key in messages:
                    order = json.loads(body)["orderId"]
                    assert bridge.logged(f"message_id={properties.message_id} key={key} order={order} may be with the broker") == (order > 2)
                order = wait_until(lambda: placed(bridge), what="an order")
                jumped([order])
                world.take_orders(queue, [order])
                # a connection that is lost is no fail-over
                db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'order-bridge relay'")
                world.take_orders(queue, [wait_until(lambda: placed(bridge), what="an order")])
                assert bridge.metric("events_lost_total") == 2
                assert db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
        finally:
            bridge.stop()
            world.servers.start("postgresql")
            world.connect()


def test_a_database_that_was_set_back_is_noticed(world):
    """A copy of its files is put in their place: the cluster and its timeline are those of before, and what came since is gone."""
    world.stock(a={"x": 1000})
    queue = world.listen("order.placed.*")
    folder, copy = world.tmp_path / "standby", world.tmp_path / "copy"
    with standby(world, lambda: orders_of(world, [1, 2])) as url:
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SELECT pg_promote()").fetchone()[0]
        first = jumped(ids_of(url))
        bridge = world.ready_bridge(DATABASE_URL=url)
        messages = world.take_orders(queue, [1, 2, first, first + 1])
        pg_ctl(folder, "stop", "-m", "fast")
        shell("cp", "-a", folder, copy)
        pg_ctl(folder, "start")
        messages = world.take_orders(queue, [wait_until(lambda: placed(bridge), what="an order") for _ in range(2)])
        pg_ctl(folder, "stop", "-m", "immediate")
        shutil.rmtree(folder)
        copy.rename(folder)
        pg_ctl(folder, "start")
        wait_until(lambda: bridge.metric("events_lost_total") == 2, what="the lost events")
        for properties, body, key in messages:
            assert bridge.logged(f"message_id={properties.message_id} key={key} order={json.loads(body)['orderId']} may be with the broker")
        order = wait_until(lambda: placed(bridge), what="an order")
        assert order // 1_000_000_000 > first // 1_000_000_000
        world.take_orders(queue, [order])
        with psycopg.connect(url, autocommit=True) as db:
            late = json.dumps([{"orderId": first + n, "vendorId": "a", "attempt": 1, "status": "confirmed"} for n in (2, 3)])
            assert db.execute("SELECT outcome FROM order_aggregator.apply_vendor_replies(%s)", [late]).fetchall() == [("invalid",), ("invalid",)]
            assert db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []
        assert bridge.metric("events_lost_total") == 2
        bridge.stop()


def url_with_hosts(url, *hosts, query=""):
    """That URL with others, each host:port, in place of its own host."""
    url = urllib.parse.urlsplit(url)
    return url._replace(netloc=f"{url.username}:{url.password}@{','.join(hosts)}", query=query).geturl()


def address_of(url):
    """host:port."""
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def ask_at_once(bridge, order, count):
    """The statuses of so many reads and cancels of an order at the same time."""
    with concurrent.futures.ThreadPoolExecutor(2 * count) as pool:
        reads = [pool.submit(requests.get, f"{bridge.url}/order/{order}", timeout=PATIENCE_S) for _ in range(count)]
        cancels = [pool.submit(requests.post, f"{bridge.url}/order/{order}/cancel", json={"reason": "test"}, timeout=PATIENCE_S) for _ in range(count)]
        return {answer.result().status_code for answer in reads + cancels}


def all_have_asked(world, bridge):
    """Has each thread that reads or changes a connection? What is asked at once may be taken by one of them alone."""
    ask_at_once(bridge, 2, 8)
    return world.db.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order-bridge queries' AND datname = current_database()").fetchone()[0] >= QUERY_THREADS


@contextlib.contextmanager
def two_hosts(world):
    """A standby that has the orders 1 and 2, DATABASE_URL with the world's server and the standby, and the proxy that stands before the former."""
    world.stock(a={"x": 1000})
    here = world.env["DATABASE_URL"]
    proxy = Proxy(f"amqp://{address_of(here)}/")
    with standby(world, lambda: orders_of(world, [1, 2])) as url:
        yield url, url_with_hosts(here, f"127.0.0.1:{proxy.listener_address[1]}", address_of(url)), proxy
    proxy.close()


def promote(world, url, role):
    """Makes the standby a primary; the bridge's role loses its connection to the one before, and is the first to meet it."""
    with psycopg.connect(url, autocommit=True) as db:
        assert db.execute("SELECT pg_promote()").fetchone()[0]
    world.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s AND datname = current_database()", [f"order-bridge {role}%"])


def take_nobody_new(proxy):
    """The connections there are go on."""
    proxy.listener.shutdown(socket.SHUT_RDWR)
    proxy.listener.close()


@contextlib.contextmanager
def replaced(world, is_frozen=False, **env):
    """A bridge with connections to two primaries, the later one first met by take_over(); a proxy stands before the old one."""
    with two_hosts(world) as (url, hosts, proxy):
        # longer than a request may take; the placer has to wait for it
        bridge = world.ready_bridge("--roles=http", DATABASE_URL=f"{hosts}?connect_timeout=20", **env)
        wait_until(lambda: all_have_asked(world, bridge), what="connections of all threads")

        def take_over():
            if is_frozen:
                proxy.flows.clear()     # it takes connections, and says nothing
            else:
                take_nobody_new(proxy)
            promote(world, url, "placer")
            order = wait_until(lambda: placed(bridge), what="an order with the new primary")
            jumped([order])
            return order
        yield bridge, proxy, take_over
        bridge.kill()       # whatever hangs at the old one
    assert world.statuses() == {"pending": 1, "cancelled": 1}


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_primary_that_has_been_replaced_is_asked_no_more(world, is_frozen):
    """It may be alive, and not know yet: once one connection is to the new one, no other answers from the past, nor waits for it."""
    with replaced(world, is_frozen, REQUEST_TIMEOUT_S="5") as (bridge, _, take_over):
        order = take_over()
        assert ask_at_once(bridge, order, 16) == {200, 409}     # only one can cancel it


def test_no_answer_of_a_primary_that_has_been_replaced_is_waited_for(world):
    """Whoever waits for one that hangs goes to the new one as soon as another connection has met it."""
    with replaced(world, REQUEST_TIMEOUT_S="600") as (bridge, proxy, take_over), concurrent.futures.ThreadPoolExecutor() as pool:
        proxy.flows.clear()
        waiting = pool.submit(requests.get, f"{bridge.url}/order/1", timeout=PATIENCE_S)
        assert proxy.held.wait(PATIENCE_S)
        take_over()
        assert waiting.result().status_code == 200
        assert bridge.logged("reading orders: the primary has been replaced")


def test_another_primary_is_looked_for_while_one_hangs(world):
    """No connection is lost, no time-out is over, and none asks anew: only by looking is the new one found."""
    with two_hosts(world) as (url, hosts, proxy), concurrent.futures.ThreadPoolExecutor() as pool:
        bridge = world.ready_bridge("--roles=http", DATABASE_URL=f"{hosts}?connect_timeout=600", REQUEST_TIMEOUT_S="600")
        wait_until(lambda: all_have_asked(world, bridge), what="connections of all threads")
        proxy.flows.clear()
        waiting = pool.submit(requests.get, f"{bridge.url}/order/1", timeout=PATIENCE_S)
        assert proxy.held.wait(PATIENCE_S)
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SELECT pg_promote()").fetchone()[0]
        assert waiting.result().status_code == 200
        assert bridge.logged("reading orders: the primary has been replaced")
        bridge.kill()


def test_another_primary_is_looked_for_while_the_earlier_one_answers(world):
    """It has been replaced, and does not know: who only reads would learn nothing of later orders for as long as it lives."""
    with two_hosts(world) as (url, hosts, _):
        bridge = world.ready_bridge("--roles=http", DATABASE_URL=hosts)
        wait_until(lambda: all_have_asked(world, bridge), what="connections of all threads")
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SELECT pg_promote()").fetchone()[0]
            order = db.execute("""SELECT order_aggregator.place_order('late', '[{"productId": "x", "quantity": 1}]')""").fetchone()[0]
        wait_until(lambda: requests.get(f"{bridge.url}/order/{order}", timeout=PATIENCE_S).status_code == 200, what="the later order")
        assert ask_at_once(bridge, order, 16) == {200, 409}     # only one can cancel it
        assert not bridge.logged("cannot connect"), "looking is no news"
        bridge.kill()       # its connections to the old one
    assert world.statuses() == {"pending": 1, "cancelled": 1}


def test_what_a_session_has_prepared_may_change(world):
    """A function whose results are others than they were, and the whole extension made anew, under a bridge that goes on."""
    world.stock(a={"x": 100})
    bridge = world.ready_bridge("--roles=http")

    def goes_round():
        order = requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S)
        assert order.status_code == 201, order.text
        url = f"{bridge.url}/order/{order.json()['orderId']}"
        for _ in range(10):         # by whichever session
            assert requests.get(url, timeout=PATIENCE_S).json()["status"] == "pending"
        assert requests.get(f"{bridge.url}/products/x", timeout=PATIENCE_S).status_code == 200
        assert requests.post(f"{url}/cancel", timeout=PATIENCE_S).json()["status"] == "cancelled"
    goes_round()
    world.db.execute("""
        ALTER EXTENSION order_aggregator DROP FUNCTION order_aggregator.order_documents(bigint[]);
        ALTER FUNCTION order_aggregator.order_documents(bigint[]) RENAME TO earlier_documents;
        CREATE OR REPLACE FUNCTION order_aggregator.order_documents(order_ids bigint[]) RETURNS TABLE (request_no bigint, document jsonb)
        LANGUAGE sql SECURITY DEFINER AS 'SELECT request_no, document::jsonb FROM order_aggregator.earlier_documents(order_ids)'""")
    goes_round()
    assert bridge.logged("reading orders: ERROR:  cached plan must not change result type")
    world.consistent()
    world.db.execute("DROP EXTENSION order_aggregator CASCADE")
    world.db.execute("DROP FUNCTION order_aggregator.order_documents, order_aggregator.earlier_documents")
    world.db.execute("CREATE EXTENSION order_aggregator")
    world.stock(a={"x": 100})
    goes_round()
    assert not bridge.logged("the connection")
    world.consistent()


def test_hosts_without_a_port_have_the_usual_one(world):
    """libpq takes one host with its port, or all hosts with all ports: the URL's list of ports is not for one of its hosts."""
    bridge = world.program("--roles=relay", DATABASE_URL=url_with_hosts(world.env["DATABASE_URL"], f"127.0.0.1:{free_port()}", "127.0.0.1"))
    wait_until(lambda: bridge.log_path.read_text().count("cannot connect to PostgreSQL") >= 6, what="several attempts")
    assert not bridge.logged("could not match") and bridge.logged("port 5432 failed")


@pytest.mark.parametrize("dead", [[0], [1], [0, 1], [0, 2]])
def test_a_host_that_closes_at_once_is_passed_over(world, dead):
    """As a proxy does whose server is dead: libpq does not go on to the next host then."""
    here, listeners = world.env["DATABASE_URL"], []

    def closes(listener):
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()
    hosts = [address_of(here)] * (len(dead) + 1)
    for place in dead:
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        hosts[place] = f"127.0.0.1:{listeners[-1].getsockname()[1]}"
        threading.Thread(target=closes, args=[listeners[-1]], daemon=True).start()
    world.stock(a={"x": 10})
    url = url_with_hosts(here, *hosts)
    bridge = world.ready_bridge(DATABASE_URL=url)
    assert wait_until(lambda: placed(bridge), what="an order")
    for command in ("status", "sync", "redrive", "doctor"):     # which try once
        result = world.command(command, DATABASE_URL=url)
        assert result.returncode == 0, (command, result)
    bridge.stop()
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_host_that_hangs_is_passed_over(world):
    """What was connected to it goes to the other one, and does not wait for it again."""
    here = world.env["DATABASE_URL"]
    proxy = Proxy(f"amqp://{address_of(here)}/")
    world.stock(a={"x": 100})
    hosts = url_with_hosts(here, f"127.0.0.1:{proxy.listener_address[1]}", address_of(here), query="connect_timeout=600")
    bridge = world.ready_bridge(DATABASE_URL=hosts, REQUEST_TIMEOUT_S="5")
    assert wait_until(lambda: placed(bridge), what="an order") and proxy.connections() > 0
    proxy.flows.clear()
    assert wait_until(lambda: placed(bridge), what="an order by the other host")
    # and if that connection is lost
    world.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'order-bridge%' AND datname = current_database()")
    assert wait_until(lambda: placed(bridge), what="an order by the other host again")
    bridge.kill()       # whatever else hangs
    proxy.close()


def test_a_bridge_is_ready_after_an_outage_though_nobody_orders_any_more(world):
    """A balancer sends it nothing before it is ready: what waited in vain, and was answered, must not keep it from being so."""
    world.stock(a={"x": 100000})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="2", STUCK_AFTER_S="1")
    stopping, answers = threading.Event(), collections.Counter()

    def order():
        while not stopping.is_set():
            answers[requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S).status_code] += 1
    clients = [threading.Thread(target=order) for _ in range(20)]
    for client in clients:
        client.start()
    wait_until(lambda: answers[201] > 100, what="orders")
    world.servers.kill("postgresql")
    try:
        wait_until(lambda: answers[503] > 60, what="the outage to be long: three times what each waits")
    finally:
        stopping.set()
        for client in clients:
            client.join()
        world.servers.start("postgresql")
        world.connect()
    wait_until(lambda: requests.get(f"{bridge.url}/readyz?role=http", timeout=PATIENCE_S).status_code == 200, what="readiness")
    assert bridge.metric("orders_set_aside") == 0
    assert set(answers) == {201, 503}
    world.consistent()


def test_requests_are_answered_in_time_while_all_hosts_hang(world):
    """Four that take connections and say nothing: trying them takes eight seconds, in which no request may be in hand."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        hosts = url_with_hosts(world.env["DATABASE_URL"], *(f"127.0.0.1:{server.getsockname()[1]}" for server in silent), query="connect_timeout=2")
        bridge = world.bridge("--roles=http", DATABASE_URL=hosts, REQUEST_TIMEOUT_S="2")

        def order():
            return requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S)

        def cancel():
            return requests.post(f"{bridge.url}/order/1/cancel", json={"reason": "r"}, timeout=PATIENCE_S)

        def ask(call):
            began = time.monotonic()
            status = call().status_code
            return status, time.monotonic() - began
        with concurrent.futures.ThreadPoolExecutor(16) as clients:
            results = []

            def asks_until_all_hosts_were_tried():
                calls = [clients.submit(ask, call) for call in (order, cancel) for _ in range(8)]
                results.extend(call.result() for call in calls)
                lines = bridge.log_path.read_text().splitlines()
                return all(sum("cannot connect" in line and f" {thread} " in line for line in lines) > len(silent) for thread in ("http.placer", "http.queries"))
            wait_until(asks_until_all_hosts_were_tried, what="all hosts to be tried, and the first one once more")
    assert {status for status, _ in results} == {503}
    assert max(seconds for _, seconds in results) < 7


def test_a_host_that_hangs_is_left_alone_for_a_while(world):
    """Meanwhile the others are asked again and again, of which one is promoted some day."""
    with standby(world) as url, socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = url_with_hosts(world.env["DATABASE_URL"], f"127.0.0.1:{silent.getsockname()[1]}", address_of(url), query="connect_timeout=2")
        bridge = world.bridge("--roles=http", DATABASE_URL=hosts)

        def attempts(text):
            lines = bridge.log_path.read_text().splitlines()
            return sum("cannot connect" in line and "http.placer " in line and text in line for line in lines)
        wait_until(lambda: attempts(address_of(url).rpartition(":")[2]) >= 12, what="attempts with the standby")
        assert 1 <= attempts("timeout expired") <= 6
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SELECT pg_promote()").fetchone()[0]
        wait_until(lambda: requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200, what="readiness")
        bridge.kill()


def test_the_first_orders_may_be_the_lost_ones(world):
    """A database without an order: one that was made of another beside it begins with 1, one that is promoted or restored elsewhere does not."""
    world.stock(a={"x": 1000})
    identity = world.value("SELECT last_value FROM order_aggregator.timeline_seq WHERE is_called")
    world.db.execute("SELECT setval('order_aggregator.timeline_seq', %s)", [identity - (77 << 16)])     # another database's
    assert ids_of(world.url) == [1, 2]
    last = 2
    for other in (identity - 1, identity - (1 << 40) - 1, identity // 2):      # another timeline's, another cluster's
        world.db.execute("SELECT setval('order_aggregator.order_id_seq', 1, false), setval('order_aggregator.timeline_seq', %s)", [other])
        last = jumped(ids_of(world.url), last)      # behind the orders that there are, too
    world.consistent()


def test_many_sessions_jump_once(world):
    """Whatever becomes of the transaction that was first."""
    world.stock(a={"x": 1000})
    assert ids_of(world.url) == [1, 2]
    world.db.execute("SELECT setval('order_aggregator.timeline_seq', 1)")       # as if these ids were another cluster's
    with psycopg.connect(world.url) as first:
        before = jumped([first.execute(PLACE).fetchone()[0]])
        first.rollback()
        with psycopg.connect(world.url) as second:
            assert second.execute(PLACE).fetchone()[0] == before + 1
        assert first.execute(PLACE).fetchone()[0] == before + 2
    found, sessions = [], [psycopg.connect(world.url, autocommit=True) for _ in range(8)]
    world.db.execute("SELECT setval('order_aggregator.timeline_seq', 1)")
    threads = [threading.Thread(target=lambda db: found.append(db.execute(PLACE).fetchone()[0]), args=[db]) for db in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = min(found)
    assert after > before + 900_000_000 and sorted(found) == list(range(after, after + 8))
    world.consistent()
