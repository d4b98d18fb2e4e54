"""Somebody leaves a transaction open. It stops what needs just that row, and nothing else; readiness tells of progress."""

import contextlib
import json
import os
import signal
import threading

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, wait_until
from test_sync import Handler, feeds, register, sync  # noqa: F401 (a fixture)

ORDER = {"productId": "x", "quantity": 1}


@contextlib.contextmanager
def locked(world, sql):
    """Somebody's transaction that has run a statement and stays open."""
    with psycopg.connect(world.url) as other:
        other.execute(sql)
        yield
        other.rollback()


def lock_stock(product):
    return f"SELECT FROM order_aggregator.stock WHERE product_id = '{product}' FOR UPDATE"


def answer(order_id, **more):
    return json.dumps({"orderId": order_id, "vendorId": "a", "attempt": 1, "status": "confirmed", **more})


def ready(bridge):
    return requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code


# ---- replies ----

@pytest.mark.parametrize("lock", ["SELECT FROM order_aggregator.orders WHERE order_id = 1 FOR UPDATE", lock_stock("x")], ids=["order", "stock"])
def test_replies_to_what_is_locked_stop_no_others(world, lock):
    world.stock(a={"x": 10, "y": 1000})
    assert world.place(1, "x") == 1 and world.place(200, "y") == 200
    bridge = world.ready_bridge()
    reconnects = bridge.metric("reconnects_total")
    with locked(world, lock):
        world.reply(*(answer(n) for n in range(1, 202)))
        wait_until(lambda: world.statuses().get("confirmed") == 200, what="the others")
        wait_until(lambda: bridge.metric("replies_set_aside") == 1, what="the gauge")
        assert ready(bridge) == 200 and world.statuses() == {"confirmed": 200, "pending": 1}
    wait_until(lambda: world.statuses() == {"confirmed": 201}, what="the one that was locked")
    wait_until(lambda: bridge.metric("replies_set_aside") == 0, what="the gauge")
    assert bridge.metric("reconnects_total") == reconnects and world.depth("orders.replies") == 0
    world.consistent()


def test_more_stuck_replies_than_we_may_hold_stop_no_others(world):
    world.stock(a={"x": 1000, "y": 1000})
    assert world.place(300, "x") == 300 and world.place(50, "y") == 50
    bridge = world.ready_bridge(REPLIES_PREFETCH="40")
    with locked(world, lock_stock("x")):
        world.reply(*(answer(n) for n in range(1, 351)))
        wait_until(lambda: world.statuses().get("confirmed") == 50, what="those behind the stuck ones")
        assert ready(bridge) == 200
    wait_until(lambda: world.statuses() == {"confirmed": 350}, what="all")
    wait_until(lambda: world.depth("orders.replies") == 0, what="the queue to be empty")
    assert world.value("SELECT sum(on_hand + reserved) FROM order_aggregator.stock") == 1650
    world.consistent()


def test_a_rejection_needs_all_offers_of_its_product_and_waits_for_them_alone(world):
    world.stock(a={"x": 5, "y": 5}, b={"x": 5, "y": 5})
    assert world.place(2, "x") == 2 and world.place(2, "y") == 2
    world.ready_bridge()
    with locked(world, "SELECT FROM order_aggregator.stock WHERE product_id = 'x' AND vendor_id = 'b' FOR UPDATE"):
        world.reply(answer(1, status="rejected"), answer(2), answer(3, status="rejected"), answer(4))
        wait_until(lambda: world.statuses() == {"confirmed": 2, "pending": 2}, what="what needs no locked row")
        assert world.value("SELECT count(*) FROM order_aggregator.hold WHERE order_id = 1") == 1
        assert world.value("SELECT max(attempt) FROM order_aggregator.hold WHERE order_id = 3") == 2
    wait_until(lambda: world.value("SELECT max(attempt) FROM order_aggregator.hold WHERE order_id = 1") == 2, what="the other vendor")
    world.consistent()


def test_a_table_that_is_locked_makes_the_role_not_ready_until_it_goes_on(world):
    world.stock(a={"x": 10})
    assert world.place(5) == 5
    bridge = world.ready_bridge("--roles=http,replies", STUCK_AFTER_S="2")
    with locked(world, "LOCK TABLE order_aggregator.hold IN ACCESS EXCLUSIVE MODE"):
        world.reply(*(answer(n) for n in range(1, 6)))
        wait_until(lambda: ready(bridge) == 503, what="readiness to tell of it")
        roles = requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).json()["roles"]
        assert roles == {"http": "ready", "replies": "not ready"}
        text = requests.get(f"{bridge.url}/metrics", timeout=PATIENCE_S).text
        assert 'order_bridge_role_ready{role="replies"} 0' in text and 'order_bridge_role_ready{role="http"} 1' in text
    wait_until(lambda: world.statuses() == {"confirmed": 5} and ready(bridge) == 200, what="the role to go on")


@pytest.mark.parametrize("what", ["PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()), pg_catalog.pg_sleep(60)",
                                  "RAISE 'again' USING ERRCODE = '40001'"], ids=["ends its session", "conflicts"])
def test_a_reply_that_cannot_be_applied_however_often_holds_up_no_other(world, what):
    world.stock(a={"x": 100})
    assert world.place(20) == 20
    world.db.execute(f"""CREATE FUNCTION public.ends(bigint, text) RETURNS boolean LANGUAGE plpgsql AS
                         $$ BEGIN IF $1 = 7 AND $2 <> 'pending' THEN {what}; END IF; RETURN true; END $$""")
    world.db.execute("ALTER TABLE order_aggregator.orders ADD CONSTRAINT culprit CHECK (public.ends(order_id, status))")
    world.ready_bridge("--roles=http,replies")
    world.reply(*(answer(n) for n in range(1, 21)))
    wait_until(lambda: world.statuses() == {"confirmed": 19, "pending": 1}, what="the others")
    world.reply(json.dumps({"orderId": 99, "vendorId": "a", "attempt": 1, "status": "confirmed"}))
    wait_until(lambda: world.depth("orders.replies.dead") == 1, what="a later one")
    world.db.execute("ALTER TABLE order_aggregator.orders DROP CONSTRAINT culprit")
    wait_until(lambda: world.statuses() == {"confirmed": 20}, what="the culprit, which is none any more")
    world.consistent()


# ---- housekeeping ----

def test_expiry_goes_on_beside_stuck_orders_however_many(world):
    world.stock(a={"x": 5000, "y": 100})
    world.db.execute("SET order_aggregator.hold_for = 1")
    assert world.place(2500, "x") == 2500
    assert world.place(20, "y") == 20
    with locked(world, lock_stock("x")):
        bridge = world.ready_bridge("--roles=http,housekeeping")
        wait_until(lambda: world.statuses().get("expired") == 20, what="the orders behind the stuck ones")
        assert ready(bridge) == 200
        assert world.value("SELECT reserved FROM order_aggregator.stock WHERE product_id = 'y'") == 0
    wait_until(lambda: world.statuses() == {"expired": 2520}, what="the stuck ones")
    world.consistent()


def test_a_locked_stock_row_stops_neither_partitions_nor_questions_nor_shortages(world):
    world.stock(a={"x": 5, "z": 5}, b={"z": 5})
    world.db.execute("SELECT order_aggregator.configure_vendor('a', on_shortage => 'resource')")
    world.db.execute("SET order_aggregator.hold_for = 1")
    assert world.place(1, "x") == 1
    world.db.execute("SET order_aggregator.hold_for = 1000")
    assert world.place(2, "z") == 2
    world.vendors("--silent-vendor=a")
    with locked(world, lock_stock("x")):
        world.db.execute("SELECT setval('order_aggregator.event_id_seq', (1 << 20) - 3)")
        bridge = world.ready_bridge(ASK_AGAIN_S="1")
        wait_until(lambda: world.value("SELECT to_regclass('order_aggregator.outbox_2') IS NOT NULL"), what="partitions")
        wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.vendor_retry WHERE order_id > 1") > 0, what="questions")
        wait_until(lambda: ready(bridge) == 200, what="readiness")
        world.db.execute("UPDATE order_aggregator.stock SET on_hand = 1 WHERE product_id = 'z' AND vendor_id = 'a'")
        world.db.execute("INSERT INTO order_aggregator.shortage VALUES ('a', 'z'), ('a', 'x')")
        wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.hold WHERE vendor_id = 'b'") >= 1, what="the other vendor")
    wait_until(lambda: world.statuses().get("expired") == 1, what="the stuck one")
    world.consistent()


def test_what_is_done_once_a_minute_is_tried_again_soon_if_it_failed(world):
    """Else the bridge would be "not ready" for a minute after each fail-over."""
    with locked(world, "LOCK TABLE order_aggregator.idempotency"):
        bridge = world.bridge("--roles=http,housekeeping", STUCK_AFTER_S="1")
        wait_until(lambda: bridge.log_path.read_text().count("forgetting idempotency keys: ERROR") >= 3, what="two more tries")
        wait_until(lambda: ready(bridge) == 503, what="the failure to show")
    wait_until(lambda: ready(bridge) == 200, what="readiness")


def test_whoever_reads_the_outbox_for_long_leaves_bridges_that_are_ready(world):
    """A dump: what is old is dropped after it, and nothing waits for that."""
    world.db.execute("SELECT order_aggregator.make_outbox_partitions(1), order_aggregator.relay_acquire('test')")
    world.db.execute("SELECT order_aggregator.relay_advance(1, pg_current_snapshot(), 1 << 20, NULL, NULL, 0, now())")
    with locked(world, "SELECT count(*) FROM order_aggregator.outbox"):
        bridge = world.ready_bridge("--roles=http,housekeeping", STUCK_AFTER_S="1")
        wait_until(lambda: bridge.logged("dropping outbox partitions: ERROR"), what="the lock to be met")
        now = world.value("SELECT clock_timestamp()")
        wait_until(lambda: world.value("""SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order-bridge housekeeping'
                                          AND datname = current_database() AND query_start > %s::timestamptz + interval '2 s'""", now), what="more of its rounds")
        assert ready(bridge) == 200
        assert world.value("SELECT to_regclass('order_aggregator.outbox_0') IS NOT NULL")
    world.programs[0].stop()
    world.ready_bridge("--roles=http,housekeeping")
    wait_until(lambda: world.value("SELECT to_regclass('order_aggregator.outbox_0') IS NULL"), what="it to be dropped")


def test_what_is_done_every_second_is_tried_again_every_second(world):
    """However long it has failed: what has expired is to be free soon after the lock is."""
    for name, arguments in (("expire_orders", "int"), ("make_outbox_partitions", "int")):
        world.db.execute(f"ALTER FUNCTION order_aggregator.{name}({arguments}) RENAME TO {name}_away")
    bridge = world.bridge("--roles=housekeeping")
    wait_until(lambda: bridge.log_path.read_text().count("making outbox partitions: ERROR") >= 5, what="what is done every 5 s")
    assert bridge.log_path.read_text().count("expiring orders: ERROR") >= 10


# ---- HTTP ----

def post(bridge, product="x", **more):
    return requests.post(f"{bridge.url}/order", json={"productId": product, "quantity": 1}, timeout=PATIENCE_S, **more)


def in_threads(count, work):
    threads = [threading.Thread(target=work, args=[n]) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_one_locked_product_holds_up_no_order_for_another(world):
    world.stock(a={"x": 1000, **{f"p{n}": 1000 for n in range(50)}})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="30")
    stuck, good = [], []

    def buy(n):
        for m in range(30):
            good.append(post(bridge, f"p{(n * 7 + m) % 50}").status_code)

    with locked(world, lock_stock("x")):
        waiting = in_threads(20, lambda n: stuck.append(post(bridge).status_code))
        for thread in in_threads(8, buy):
            thread.join()
        assert good == [201] * 240 and stuck == []
    for thread in waiting:
        thread.join()
    assert stuck == [201] * 20 and world.statuses() == {"pending": 260}
    world.consistent()


def test_an_order_for_a_locked_product_is_placed_once_the_lock_is_gone(world):
    world.stock(a={"x": 10})
    bridge = world.ready_bridge("--roles=http")
    answers = []
    with locked(world, lock_stock("x")):
        threads = in_threads(5, lambda n: answers.append(post(bridge).status_code))
        wait_until(lambda: bridge.metric("orders_set_aside") == 5, what="them to be set aside")
        assert answers == []
    for thread in threads:
        thread.join()
    assert answers == [201] * 5 and world.statuses() == {"pending": 5}
    world.consistent()


def test_an_order_that_had_to_wait_leaves_a_bridge_that_is_ready(world):
    world.stock(a={"x": 10})
    bridge = world.ready_bridge("--roles=http")
    answers = []
    with locked(world, lock_stock("x")):
        thread, = in_threads(1, lambda n: answers.append(post(bridge).status_code))
        wait_until(lambda: bridge.metric("orders_set_aside") == 1, what="it to be set aside")
    thread.join()
    assert answers == [201]
    assert bridge.metric('role_stuck_seconds{role="http"}') == 0


def on_key(world, key, what):
    """A trigger of the user's that does this with an order that has that key."""
    world.db.execute(f"""CREATE SEQUENCE public.times; GRANT USAGE ON SEQUENCE public.times TO PUBLIC;
                         CREATE FUNCTION culprit() RETURNS trigger LANGUAGE plpgsql AS $$
                         BEGIN IF NEW.key = '{key}' THEN {what} END IF; RETURN NEW; END $$;
                         CREATE TRIGGER culprit BEFORE INSERT ON order_aggregator.idempotency FOR EACH ROW EXECUTE FUNCTION culprit()""")


def placers(db, more="true"):
    return [row[0] for row in db.execute(f"""SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                                             AND application_name LIKE 'order-bridge placer%' AND {more}""")]


@contextlib.contextmanager
def sleepers_end(world):
    """Meanwhile the server process of an order that sleeps comes to its end."""
    over, ended = threading.Event(), []
    with psycopg.connect(world.url, autocommit=True) as db:
        def end():
            while not over.wait(0.01):
                for pid in placers(db, "wait_event = 'PgSleep'"):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                        ended.append(pid)

        thread = threading.Thread(target=end)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    assert ended


@pytest.mark.parametrize("what, they_end", [("PERFORM pg_sleep(60);", False), ("PERFORM pg_sleep(60);", True), ("RAISE 'again' USING ERRCODE = '40001';", False)],
                         ids=["takes for ever", "ends its session", "fails each time"])
def test_one_order_that_cannot_be_placed_does_not_take_its_batch_along(world, what, they_end):
    world.stock(a={"x": 1000})
    on_key(world, "key 1", what)
    bridge = world.ready_bridge("--roles=http")
    assert post(bridge).status_code == 201
    stopped, answers = placers(world.db), {}
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    before = in_threads(1, lambda n: post(bridge))
    wait_until(lambda: bridge.metric('role_stuck_seconds{role="http"}') > 0, what="an order to be under way")
    threads = in_threads(6, lambda n: answers.update({n: post(bridge, headers={"Idempotency-Key": f"key {n}"}).status_code}))
    wait_until(lambda: bridge.metric("intake_depth") == 6, what="a batch to gather behind it")
    with sleepers_end(world) if they_end else contextlib.nullcontext():
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for n in (0, 2, 3, 4, 5):
            threads[n].join()
            assert answers[n] == 201
        world.db.execute("ALTER TABLE order_aggregator.idempotency DISABLE TRIGGER culprit")
        threads[1].join()
    before[0].join()
    assert answers[1] in (201, 503)
    world.consistent()


HOLDERS = 50


def test_many_short_locks_hold_an_order_up_no_longer_than_one(world):
    """Each is held for less than an order waits for one; together they are not: those behind them are set aside."""
    world.stock(a={"y": 1000, **{f"p{n:02}": 1000 for n in range(HOLDERS)}})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="8")
    over, others = threading.Event(), []

    def hold(n):
        with psycopg.connect(world.url) as other:
            while not over.is_set():
                other.execute(lock_stock(f"p{n:02}"))
                over.wait(0.2)
                other.rollback()

    holders = in_threads(HOLDERS, hold)
    try:
        wait_until(lambda: world.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'") >= HOLDERS / 2,
                   what="the locks")
        orders = in_threads(HOLDERS, lambda n: others.append(post(bridge, f"p{n:02}").status_code))
        for _ in range(5):
            assert post(bridge, "y").status_code == 201
    finally:
        over.set()
    for thread in [*orders, *holders]:
        thread.join()
    assert set(others) == {201}
    world.consistent()


def test_an_order_that_is_refused_when_it_is_repeated_may_have_been_placed(world):
    world.stock(a={"x": 10})
    on_key(world, "key 1", "IF nextval('public.times') = 1 THEN PERFORM pg_sleep(60); END IF; RAISE 'not you' USING ERRCODE = '42501';")
    bridge = world.ready_bridge("--roles=http")
    with sleepers_end(world):
        answer = post(bridge, headers={"Idempotency-Key": "key 1"})
    assert answer.status_code == 503 and answer.json()["title"] == "Outcome unknown" and answer.headers["Idempotency-Key"] == "key 1"
    world.consistent()


def test_a_key_that_someone_s_transaction_uses_holds_up_no_other(world):
    world.stock(a={"x": 1000})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="4")
    with locked(world, "INSERT INTO order_aggregator.idempotency (key, request_hash, order_id) VALUES ('k', 1, 1)"):
        stuck = []
        threads = in_threads(3, lambda n: stuck.append(post(bridge, headers={"Idempotency-Key": "k"}).status_code))
        for _ in range(30):
            assert post(bridge).status_code == 201
        for thread in threads:
            thread.join()
        assert stuck == [503] * 3
    assert post(bridge, headers={"Idempotency-Key": "k"}).status_code == 201
    world.consistent()


def test_stuck_cancels_and_returns_hold_up_no_reads_and_no_other_cancels(world):
    world.stock(a={"x": 1000, "y": 1000})
    assert world.place(60, "x") == 60 and world.place(20, "y") == 20
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="60")
    with locked(world, lock_stock("x")):
        stuck = []
        threads = in_threads(60, lambda n: stuck.append(requests.post(f"{bridge.url}/order/{n + 1}/cancel", timeout=2 * PATIENCE_S).status_code))
        wait_until(lambda: bridge.unanswered() == 60, what="the cancels")
        for order in range(61, 81):
            assert requests.get(f"{bridge.url}/order/{order}", timeout=PATIENCE_S).status_code == 200
            assert requests.get(f"{bridge.url}/products", timeout=PATIENCE_S).status_code == 200
            assert requests.post(f"{bridge.url}/order/{order}/cancel", timeout=PATIENCE_S).status_code == 200
        assert stuck == []
    for thread in threads:
        thread.join()
    assert stuck == [200] * 60 and world.statuses() == {"cancelled": 80}
    world.consistent()


@pytest.mark.parametrize("what", ["order", "cancel"])
def test_what_is_ended_before_its_time_is_tried_again(world, what):
    """By somebody; or by PostgreSQL itself, when a lock is granted just as the time to wait for it is up."""
    world.stock(a={"x": 10})
    assert world.place(1, "x") == 1
    bridge = world.ready_bridge("--roles=http")
    end_it = """SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name ~ '^order-bridge (queries|placer)' AND state = 'active' AND wait_event_type = 'Lock'"""

    def has_been_ended():
        world.db.execute(end_it)
        return bridge.log_path.read_text().count("sqlstate=57014") >= 5
    with locked(world, lock_stock("x")):
        statuses = []
        thread, = in_threads(1, lambda n: statuses.append(post(bridge).status_code if what == "order" else requests.post(f"{bridge.url}/order/1/cancel", timeout=PATIENCE_S).status_code))
        wait_until(has_been_ended, what="it to be ended several times")
    thread.join()
    assert statuses == [201 if what == "order" else 200]
    world.consistent()


def test_reads_that_wait_together_are_answered_each_with_its_own(world):
    """While orders are locked they gather, and are then read by few statements; whatever was asked for, nobody gets another's answer."""
    world.stock(a={"x": 1000, "y": 1000, "{\"w\\,}": 5, "NULL": 6})
    assert world.place(40, "x") == 40
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="60")
    asked = [str(n + 1000 if n % 3 == 0 else n) for n in range(1, 41)] + ["7", "0007", "41", "999999999999999999", "9999999999999999999", "x", "-1", "1e3", "%ff", "{1,2}", "%7B%22"]
    found, products = {}, {}

    def get(kind, name, answers):
        answers[name] = requests.get(f"{bridge.url}/{kind}/{name}", timeout=PATIENCE_S)

    with locked(world, "LOCK TABLE order_aggregator.orders"):
        waiting = in_threads(len(asked), lambda n: get("order", asked[n], found))
        reads = sum(name.isdigit() and len(name) < 19 for name in asked)
        wait_until(lambda: bridge.unanswered() + ("%ff" in found) == reads, what="the reads")      # what is no text is not counted as received
        names = ["x", "y", "%7B%22w%5C,%7D", "NULL", "nothing", "%ff", "%00"] * 3
        for thread in in_threads(len(names), lambda n: get("products", names[n], products)):
            thread.join()
        assert [products[n].json()["id"] for n in names[:4]] == ["x", "y", "{\"w\\,}", "NULL"]
        assert [products[n].status_code for n in names[4:7]] == [404, 400, 400]
        assert {name for name in found if name.isdigit() and len(name) < 19} == set()
    for thread in waiting:
        thread.join()
    for name in asked:
        is_there = name.isdigit() and len(name) < 19 and 1 <= int(name) <= 40
        assert found[name].status_code == (200 if is_there else 400 if name == "%ff" else 404), name
        assert not is_there or found[name].json()["id"] == int(name)


def watch_reads(world, slow="0"):
    """Counts the statements that read orders in the sequence "reads"; with an order that is never read in time."""
    world.db.execute(f"""CREATE SEQUENCE public.reads;
        ALTER FUNCTION order_aggregator.order_documents(bigint[]) RENAME TO order_documents_indeed;
        CREATE FUNCTION order_aggregator.order_documents(ids bigint[]) RETURNS TABLE (request_no int, document json) LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            PERFORM nextval('public.reads');
            IF ids && '{{{slow}}}' THEN PERFORM pg_sleep(600); END IF;
            RETURN QUERY SELECT * FROM order_aggregator.order_documents_indeed(ids);
        END $$""")


def get_orders(bridge, orders):
    """Asks for all of them at once; the answers' status codes."""
    statuses = [None] * len(orders)

    def get(n):
        statuses[n] = requests.get(f"{bridge.url}/order/{orders[n]}", timeout=PATIENCE_S).status_code

    for thread in in_threads(len(orders), get):
        thread.join()
    return statuses


def test_one_slow_order_fails_nobody_else(world):
    world.stock(a={"x": 1000})
    assert world.place(40) == 40
    watch_reads(world, slow="1")
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="10")
    orders = [1 if n % 3 == 0 else 2 + n % 5 for n in range(60)]
    statuses = get_orders(bridge, orders)
    assert statuses == [503 if order == 1 else 200 for order in orders]


def test_reads_that_wait_are_few_statements(world):
    world.stock(a={"x": 1000})
    assert world.place(40) == 40
    watch_reads(world)
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="60")
    with locked(world, "LOCK TABLE order_aggregator.orders"):
        statuses = []
        waiting = threading.Thread(target=lambda: statuses.extend(get_orders(bridge, [1 + n % 20 for n in range(80)])))
        waiting.start()
        wait_until(lambda: bridge.unanswered() == 80, what="the reads")
        before = world.value("SELECT last_value FROM public.reads")
    waiting.join()
    assert statuses == [200] * 80
    assert world.value("SELECT last_value FROM public.reads") - before < 40


def test_lists_do_not_wait_for_lists_of_another_kind(world):
    """A worker has taken none that it is not answering."""
    world.stock(a={f"p{n:02}": 5 for n in range(30)})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="60")
    with locked(world, "LOCK TABLE order_aggregator.feed_sync"):
        slow = in_threads(6, lambda n: requests.get(f"{bridge.url}/vendors/v{n}/syncs", timeout=PATIENCE_S))
        wait_until(lambda: world.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0, what="a list that waits")
        for n in range(5):
            assert requests.get(f"{bridge.url}/products?limit={n + 1}", timeout=PATIENCE_S).status_code == 200
    for thread in slow:
        thread.join()


def test_lists_that_wait_together_are_answered_each_with_its_own(world):
    world.stock(a={f"p{n:02}": 5 for n in range(30)})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="60")
    asked = [("products", {"limit": limit, "after": after}) for limit in (1, 2, 30) for after in ("", "p05", "p05/a", "p2", "zzz")] * 2 + \
            [("vendors", {}), ("vendors/a/syncs", {}), ("vendors/nobody/syncs", {})] * 2
    expected = [requests.get(f"{bridge.url}/{path}", params=params, timeout=PATIENCE_S) for path, params in asked]
    answers = [None] * len(asked)

    def get(n):
        path, params = asked[n]
        answers[n] = requests.get(f"{bridge.url}/{path}", params=params, timeout=PATIENCE_S,
                                  headers={"If-None-Match": expected[n].headers["ETag"]} if n % 3 == 0 and path == "products" else {})

    with locked(world, "LOCK TABLE order_aggregator.vendor"):
        waiting = in_threads(len(asked), get)
        wait_until(lambda: bridge.unanswered() == len(asked), what="the lists")
        assert answers == [None] * len(asked)
    for thread in waiting:
        thread.join()
    for n, (path, _) in enumerate(asked):
        if n % 3 == 0 and path == "products":
            assert answers[n].status_code == 304 and answers[n].text == ""
        else:
            assert answers[n].status_code == expected[n].status_code and answers[n].text == expected[n].text


def test_a_server_process_that_hangs_is_given_up(world):
    """Not dead, not waiting: stopped. No time-out of the server's own comes."""
    world.stock(a={"x": 100})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="5")
    assert post(bridge).status_code == 201
    pid = world.value("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'order-bridge placer'")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert post(bridge).status_code in (201, 503)
        wait_until(lambda: post(bridge).status_code == 201, what="orders to be placed again")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: world.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid) == 0, what="the process to end")
    world.consistent()


# ---- the relay ----

def test_advisory_locks_that_anyone_may_take_stop_nothing(world):
    world.stock(a={"x": 100})
    queue = world.listen("order.placed.a")
    everything = "SELECT pg_advisory_lock(28513, n), pg_advisory_lock((28513::bigint << 32) + n) FROM generate_series(0, 20) AS n"
    with psycopg.connect(world.url, autocommit=True) as other:
        other.execute(everything)
        bridge = world.ready_bridge(RELAY_POLL_MS="60000")
        for n in range(1, 6):
            assert world.place(1) == 1
            wait_until(lambda: world.depth(queue) == n, 30, "the order, woken by the bell")
        assert ready(bridge) == 200
        # a feed with new products
        world.db.execute("SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 100}, {\"id\": \"new\", \"quantity\": 1}]')")
    world.consistent()


# ---- feeds ----

def test_four_locked_rows_of_one_feed_cost_no_other_vendor_its_time(world, feeds):  # noqa: F811
    for n in range(4):
        Handler.pages[f"/locked{n}"] = ([{"id": f"p{n}", "quantity": 1}], {})
    register(world, feeds, "locked0", "locked1", "locked2", "locked3", "drip2")
    bridge = world.ready_bridge("--roles=http")
    requests.post(f"{bridge.url}/vendors/sync", timeout=PATIENCE_S)
    for n in range(4):
        Handler.pages[f"/locked{n}"] = ([{"id": f"p{n}", "quantity": 2}], {})
    Handler.drip2_seconds = 2       # beside the two seconds that each lock is waited for, more than a vendor has
    bridge = world.ready_bridge("--roles=http,sync", SYNC_TIMEOUT_S="6")
    with locked(world, "SELECT FROM order_aggregator.stock WHERE product_id LIKE 'p_' FOR UPDATE"):
        world.db.execute("UPDATE order_aggregator.vendor SET next_sync_at = now(), sync_interval = '1 second', last_sync_status = NULL, sync_failures = 0")
        wait_until(lambda: bridge.metric("feeds_set_aside") == 4, what="the stuck feeds")
        for _ in range(2):
            world.db.execute("UPDATE order_aggregator.vendor SET last_sync_at = NULL WHERE vendor_id = 'drip2'")
            wait_until(lambda: world.value("SELECT last_sync_at IS NOT NULL FROM order_aggregator.vendor WHERE vendor_id = 'drip2'"), what="the innocent vendor")
            assert world.db.execute("SELECT last_sync_status, sync_failures FROM order_aggregator.vendor WHERE vendor_id = 'drip2'").fetchone() == ("applied", 0)
    wait_until(lambda: world.value("SELECT sum(on_hand) FROM order_aggregator.stock WHERE product_id LIKE 'p_'") == 8, what="the stuck ones")
    assert world.value("SELECT max(sync_failures) FROM order_aggregator.vendor") == 0
    world.consistent()


def test_someone_s_open_feed_with_new_products_stops_no_other_feed(world, feeds):  # noqa: F811
    Handler.pages["/mine"] = ([{"id": "mine", "quantity": 1}], {})
    register(world, feeds, "mine")
    world.db.execute("SELECT order_aggregator.register_vendor('other', 'other')")
    world.db.execute("SELECT order_aggregator.make_outbox_partitions()")     # as housekeeping does
    bridge = world.ready_bridge("--roles=http")
    with locked(world, "SELECT order_aggregator.sync_vendor_stock('other', '[{\"id\": \"theirs\", \"quantity\": 1}]')"):
        assert sync(bridge, "mine")["status"] == "applied"
    world.consistent()
