"""PgBouncer between the bridge and PostgreSQL: by transactions for all roles but the relay, which needs a session."""

import collections
import http.server
import json
import threading

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, wait_until
from pgbouncer import PgBouncer
from test_database import ask_at_once, promote, standby, take_nobody_new, two_hosts
from test_faults import REFUSE_AT_COMMIT
from test_http import ORDER
from test_locks import in_threads, locked


@pytest.fixture
def pooler(world, tmp_path, request):
    """With two server processes for the world's database (by sessions: enough for all)."""
    mode = getattr(request, "param", "transaction")
    pooler = PgBouncer(tmp_path / "pgbouncer", [world.env["DATABASE_URL"], world.url], mode, 2 if mode == "transaction" else 40)
    pooler.settings = {"DATABASE_URL": pooler.url_of(world.env["DATABASE_URL"]), "RELAY_DATABASE_URL": world.env["DATABASE_URL"]}
    yield pooler
    pooler.kill()


def test_a_relay_without_a_session_refuses_to_start(world, pooler):
    for settings, name in (({"RELAY_DATABASE_URL": ""}, "DATABASE_URL"), ({"RELAY_DATABASE_URL": pooler.settings["DATABASE_URL"]}, "RELAY_DATABASE_URL")):
        result = world.command("run", **{**pooler.settings, **settings})
        assert result.returncode == 64 and f"\n{name}: the role relay needs a session of its own" in result.stderr, result.stderr
    assert world.ready_bridge("--roles=http,replies,sync,housekeeping", **{**pooler.settings, "RELAY_DATABASE_URL": ""})


@pytest.mark.parametrize("pooler", ["session"], indirect=True)
def test_a_pooler_by_sessions_serves_all_but_the_relay(world, pooler):
    """There may be several behind one address, each with sessions of its own, which nobody can see from here."""
    world.stock(a={"x": 10})
    world.vendors()
    assert world.command("run", "--roles=relay", DATABASE_URL=pooler.settings["DATABASE_URL"]).returncode == 64
    world.ready_bridge(**pooler.settings)
    assert world.place(10) == 10
    wait_until(lambda: world.statuses() == {"confirmed": 10}, what="all to be confirmed")


def test_a_pooler_that_is_away_is_no_reason_to_give_up(world, pooler):
    """Only who has seen two different processes knows that there is a pooler."""
    world.stock(a={"x": 10})
    pooler.kill()
    bridge = world.program("--roles=relay", **{**pooler.settings, "RELAY_DATABASE_URL": pooler.settings["DATABASE_URL"]})
    wait_until(lambda: bridge.logged("cannot connect to PostgreSQL"), what="the first try")
    assert bridge.process.poll() is None
    pooler.start()
    wait_until(lambda: bridge.logged("relay needs a session of its own"), what="the reason")
    assert bridge.process.poll() is None


def left_behind(pooler):
    """What the pool's server processes have that a new one has not."""
    held = [psycopg.connect(pooler.settings["DATABASE_URL"]) for _ in range(2)]      # each in a transaction: both processes
    found, pids = [], set()
    for db in held:
        pids.add(db.execute("SELECT pg_backend_pid()").fetchone()[0])
        found += db.execute("SELECT name, setting FROM pg_settings WHERE source = 'session' AND context <> 'internal' AND name NOT IN ('application_name', 'client_encoding')").fetchall()
        found += db.execute("SELECT 'listens', pg_listening_channels() UNION ALL SELECT 'prepared', name FROM pg_prepared_statements").fetchall()
        found += db.execute("SELECT 'advisory lock', objid::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()").fetchall()
        found += db.execute("SELECT 'temporary table', relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()").fetchall()
    for db in held:
        db.close()
    assert len(pids) == 2
    return found


def test_two_bridges_share_a_pool_of_two(world, pooler):
    """All they do at once, many clients, the pooler killed in between; nothing is lost, and nothing stays behind in the pool."""
    world.stock(a={"x": 5000, "y": 5000})
    world.vendors()
    bridges = [world.ready_bridge(**pooler.settings) for _ in range(2)]
    answers, failed = [], []

    def work(n):
        url = bridges[n % 2].url
        for m in range(25):
            try:
                answer = requests.post(f"{url}/order", json={"productId": "xy"[m % 2], "quantity": 1}, headers={"Idempotency-Key": f"{n} {m}"}, timeout=PATIENCE_S)
                answers.append(answer.status_code)
                if answer.status_code == 201:
                    order = answer.json()["orderId"]
                    assert requests.get(f"{url}/order/{order}", timeout=PATIENCE_S).status_code in (200, 503)
                    if m % 5 == 0:
                        assert requests.post(f"{url}/order/{order}/cancel", timeout=PATIENCE_S).status_code in (200, 409, 503)
                assert requests.get(f"{url}/products?limit=5", timeout=PATIENCE_S).status_code in (200, 503)
            except (AssertionError, requests.RequestException) as error:
                failed.append(repr(error))

    threads = in_threads(12, work)
    wait_until(lambda: len(answers) > 60, what="some orders")
    pooler.kill()
    pooler.start()
    for thread in threads:
        thread.join()
    assert failed == [] and set(answers) <= {201, 503} and answers.count(201) > 100
    for n in range(12):     # what was refused, or is not known, is asked again with its key
        for m in range(25):
            url = f"{bridges[n % 2].url}/order"
            body = {"productId": "xy"[m % 2], "quantity": 1}
            wait_until(lambda: requests.post(url, json=body, headers={"Idempotency-Key": f"{n} {m}"}, timeout=PATIENCE_S).status_code == 201, what="the order")
    wait_until(lambda: set(world.statuses()) <= {"confirmed", "cancelled"}, what="all to be settled")
    assert sum(world.statuses().values()) == 300
    assert left_behind(pooler) == []
    world.consistent()


def test_time_outs_hold_through_the_pool(world, pooler):
    """They are set for each transaction: a lock is waited for no longer than without the pooler."""
    world.stock(a={"x": 10})
    assert world.place(2) == 2
    bridge = world.ready_bridge("--roles=http", **pooler.settings)
    answers = []
    with locked(world, "LOCK TABLE order_aggregator.orders"):
        threads = in_threads(2, lambda n: answers.append(requests.get(f"{bridge.url}/order/{n + 1}", timeout=PATIENCE_S).status_code))
        wait_until(lambda: bridge.logged("reading orders: ") and bridge.logged("sqlstate=55P03"), what="the lock time-out")
        assert answers == []
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201
    assert left_behind(pooler) == []


def test_what_the_commit_refuses_is_no_order(world, pooler):
    world.stock(a={"x": 10})
    world.db.execute(REFUSE_AT_COMMIT)
    bridge = world.ready_bridge("--roles=http", **pooler.settings)
    answer = requests.post(f"{bridge.url}/order", json=ORDER, headers={"Idempotency-Key": "k"}, timeout=PATIENCE_S)
    assert answer.status_code == 500 and world.statuses() == {}, answer.text
    world.db.execute("DROP TRIGGER refuse ON order_aggregator.idempotency")
    assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201


class Feeds(http.server.BaseHTTPRequestHandler):
    """/good has changed each time, /bad is never readable, /less lacks almost everything after the first time."""
    asked = collections.Counter()

    def do_GET(self):
        Feeds.asked[self.path] += 1
        n = Feeds.asked[self.path]
        items = [{"id": f"{self.path[1:]}-{i}", "quantity": n, "price": 1} for i in range(30)]
        if self.path == "/bad":
            items = [{"id": f"bad-{i}", "quantity": "many", "price": 1} for i in range(30)]
        if self.path == "/less" and n > 1:
            items = items[:1]
        body = json.dumps(items).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def test_each_feed_has_its_own_outcome_through_the_pool(world, pooler):
    """Several vendors and others' calls share the pool's sessions: what is refused is refused for the one it came from."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Feeds)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.stock(z={"x": 100000})
    vendors = {"bad": "failed", "less": "held", "good": "applied", "good2": "applied"}
    for vendor in vendors:
        world.db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)", [vendor, vendor, f"http://127.0.0.1:{server.server_port}/{vendor}"])
    stop = threading.Event()

    def call(_):
        with psycopg.connect(pooler.url_of(world.url), autocommit=True, prepare_threshold=None) as db:
            n = 0
            while not stop.is_set():     # each leaves its own last feed in the session that it gets
                n += 1
                db.execute("SELECT order_aggregator.sync_vendor_stock('z', jsonb_build_array(jsonb_build_object('id', 'x', 'quantity', %s::int, 'price', 1)))", [100000 + n % 7])

    try:
        threads = in_threads(3, call)
        for _ in range(15):
            result = world.command("sync", **pooler.settings)
            found = {entry["vendorId"]: entry["status"] for entry in json.loads(result.stdout)}
            assert found["bad"] == "failed" and found["good"] == found["good2"] == "applied", found
            assert found["less"] == ("held" if Feeds.asked["/less"] == 2 else "applied"), found     # held back until it comes again
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.shutdown()
    assert world.value("SELECT count(*) FROM order_aggregator.feed_sync WHERE vendor_id = 'bad' AND status <> 'failed'") == 0
    assert world.value("SELECT confirmed_at IS NULL FROM order_aggregator.vendor WHERE vendor_id = 'bad'")
    assert left_behind(pooler) == []
    world.consistent()


def test_single_calls_through_the_pool(world, pooler):
    """From clients of all kinds, with prepared statements off: no unit twice, and the pool is as it was."""
    world.stock(a={"x": 300})
    world.db.execute("SELECT order_aggregator.configure_product('x', lanes => 4)")
    sold = []

    def buy(_):
        with psycopg.connect(pooler.url_of(world.url), autocommit=True, prepare_threshold=None) as db:
            try:
                while True:
                    sold.append(db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')").fetchone()[0])
            except psycopg.Error as error:
                assert error.sqlstate == "OA001"

    threads = [threading.Thread(target=buy, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(sold)) == len(sold) == 300
    world.consistent()


def test_no_answer_of_a_primary_that_has_been_replaced_is_taken(world, pooler):
    """The pooler still leads to it: each transaction tells its timeline, and the relay has met a later one."""
    with two_hosts(world) as (url, hosts, proxy):
        bridge = world.ready_bridge("--roles=http,relay", REQUEST_TIMEOUT_S="5", **{**pooler.settings, "RELAY_DATABASE_URL": hosts})
        for _ in range(3):
            assert 200 in ask_at_once(bridge, 2, 8)     # each thread that reads or changes has a connection
        take_nobody_new(proxy)
        promote(world, url, "relay")
        wait_until(lambda: requests.get(f"{bridge.url}/order/1", timeout=PATIENCE_S).status_code == 503, what="no answer")
        assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 503
        with psycopg.connect(url, autocommit=True) as db:
            order = db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')").fetchone()[0]
        assert ask_at_once(bridge, order, 8) == {503}       # an error is an answer too: 404
        assert bridge.logged("reading orders: the primary has been replaced")
        bridge.kill()


def test_no_answer_of_a_standby_that_the_pooler_leads_to_is_taken(world, pooler):
    """A primary that was replaced comes back as a standby, and the pooler still leads to it: it is not asked to be one, and answers from its past."""
    world.stock(a={"x": 100})
    assert world.place(1) == 1
    with standby(world, streams=True) as url, psycopg.connect(url, autocommit=True) as db:
        bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="5", **pooler.settings)
        assert 200 in ask_at_once(bridge, 1, 8)
        db.execute("SELECT pg_wal_replay_pause()")
        wait_until(lambda: db.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()[0] == "paused", what="the pause")
        pooler.lead_to(psycopg.conninfo.conninfo_to_dict(url)["port"])
        # a pooler that could not log in at once says so for some seconds, and nobody has seen the standby yet
        wait_until(lambda: requests.get(f"{bridge.url}/order/1", timeout=PATIENCE_S).status_code == 503 and bridge.logged("behind the pooler there is a standby now"), what="no answer of the standby")
        assert world.place(1) == 1
        assert ask_at_once(bridge, 2, 8) == {503}       # 404 would be wrong
        assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 503
        pooler.lead_to(psycopg.conninfo.conninfo_to_dict(world.url)["port"])
        wait_until(lambda: requests.get(f"{bridge.url}/order/2", timeout=PATIENCE_S).status_code == 200, what="the primary")
        db.execute("SELECT pg_wal_replay_resume()")
