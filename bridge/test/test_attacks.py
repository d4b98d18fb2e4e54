"""What a stranger would try: a role with nothing but CONNECT, another's vendor, a web page, a feed's URL, a reply, sheer size.

In make check each attack has a world of its own; `make attack` runs them all against what `make up` has started.
"""

import contextlib
import http.server
import itertools
import json
import os
import re
import secrets
import socket
import subprocess
import threading
import urllib.parse

import pika
import psycopg
import pytest
import requests
from conftest import BUILD, PATIENCE_S, SANITIZED, TOP, Servers, World, wait_until

ATTACK = "ATTACK" in os.environ
EVIL = {"Origin": "https://evil.example"}


class Running(World):
    """What `make up` has started, as a world; nothing of it is emptied."""

    def __init__(self, servers, tmp_path):
        self.servers, self.tmp_path, self.programs, self.listening = servers, tmp_path, [], []
        self.name = f"attack_{secrets.token_hex(3)}"
        self.url = servers.env["DATABASE_URL"]
        self.env = {"DATABASE_URL": servers.url_of("order_aggregator", "order_bridge"), "RABBITMQ_URL": servers.env["RABBITMQ_URL"]}
        self.connect()

    def end(self):
        pass


class Target:
    """A shop under attack: its database, its bridge, and a vendor and a product of the attack's own."""

    def __init__(self, world, url):
        self.world, self.url, self.db = world, url, world.db
        self.port = urllib.parse.urlsplit(url).port
        self.mark = f"attack-{secrets.token_hex(4)}"
        self.vendor, self.product = f"{self.mark}-v", f"{self.mark}-p"
        self.db.execute("SELECT order_aggregator.register_vendor(%s, 'Attacked')", [self.vendor])
        self.feed(1000)
        self.began = self.started_at()

    def feed(self, count, vendor=None):
        self.db.execute("SELECT order_aggregator.sync_vendor_stock(%s, %s)",
                        [vendor or self.vendor, psycopg.types.json.Jsonb([{"id": self.product, "quantity": count, "price": 1}])])

    def place(self):
        return self.world.value("SELECT order_aggregator.place_order('c', %s)", psycopg.types.json.Jsonb([{"productId": self.product, "quantity": 1}]))

    def status(self, order_id):
        return self.world.value("SELECT status FROM order_aggregator.orders WHERE order_id = %s", order_id)

    def orders(self):
        return self.world.value("SELECT count(*) FROM order_aggregator.order_line WHERE product_id = %s", self.product)

    def started_at(self):
        return self.world.value("SELECT pg_postmaster_start_time()")

    @property
    def order(self):
        return {"productId": self.product, "quantity": 1}

    def request(self, method, path, **more):
        return requests.request(method, self.url + path, timeout=PATIENCE_S, allow_redirects=False, **more)

    @contextlib.contextmanager
    def login(self, *groups):
        """A connection of a new role that is in these groups and has nothing else; and its name."""
        name, password = f"{self.mark.replace('-', '_')}_{secrets.token_hex(2)}", secrets.token_hex(8)
        self.db.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {f'IN ROLE {chr(44).join(groups)}' if groups else ''}")
        url = urllib.parse.urlsplit(self.world.url)
        try:
            with psycopg.connect(url._replace(netloc=f"{name}:{password}@{url.hostname}:{url.port}").geturl(), autocommit=True) as db:
                yield db, name
        finally:
            self.db.execute("DELETE FROM order_aggregator.vendor_login WHERE login = %s", [name])
            self.db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")

    def end(self):
        assert self.started_at() == self.began, "the server was restarted: something crashed"
        self.db.execute("SELECT order_aggregator.cancel_order(order_id, 'over') FROM order_aggregator.orders JOIN order_aggregator.order_line USING (order_id) "
                        "WHERE product_id = %s AND status = 'pending'", [self.product])
        self.db.execute("SELECT order_aggregator.configure_vendor(%s, is_active => false)", [self.vendor])
        if ATTACK:
            self.take_away_dead_letters()
        self.world.consistent()


    def take_away_dead_letters(self):
        """Those of this attack; the others go back."""
        channel = self.world.channel()
        for method, _, body in channel.consume("orders.replies.dead", inactivity_timeout=0.2):
            if method is None:
                break
            if self.mark.encode() in body[:500]:
                channel.basic_ack(method.delivery_tag)
        channel.connection.close()


@pytest.fixture(scope="session")
def up():
    return Servers() if ATTACK else None


@pytest.fixture
def target(request, tmp_path):
    if ATTACK:
        world = Running(request.getfixturevalue("up"), tmp_path)
        url = world.servers.env["HTTP_URL"]
    else:
        world = request.getfixturevalue("world")
        url = world.ready_bridge("--roles=http,relay,replies,housekeeping").url      # it pulls no feed but those that are asked for
    target = Target(world, url)
    yield target
    for program in world.programs:
        if program.process.poll() is None and ATTACK:
            program.stop()
    target.end()


def refused(db, sql, *parameters):
    """The SQLSTATE that the statement fails with."""
    with pytest.raises(psycopg.Error) as failure:
        db.execute(sql, parameters)
    return failure.value.sqlstate


# ---- the database ----

def test_a_role_with_nothing_can_do_nothing(target):
    order = target.place()
    with target.login() as (db, _):
        for name, arguments in target.db.execute("""SELECT p.proname, coalesce((SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ')
                                                    FROM unnest(p.proargtypes) AS t), '') FROM pg_proc AS p
                                                    WHERE p.pronamespace = 'order_aggregator'::regnamespace AND p.prorettype <> 'trigger'::regtype""").fetchall():
            assert refused(db, f"SELECT order_aggregator.{name}({arguments})") == "42501", name
        for (name,) in target.db.execute("SELECT relname FROM pg_class WHERE relnamespace = 'order_aggregator'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')").fetchall():
            assert refused(db, f"SELECT * FROM order_aggregator.{name}") == "42501", name
            assert refused(db, f"DELETE FROM order_aggregator.{name}") == "42501", name
    assert target.status(order) == "pending"


@pytest.mark.parametrize("function", ["guard_order", "guard_hold", "guard_stock", "guard_outbox", "guard_reference", "settle_closed_orders", "ring_doorbell"])
def test_a_trigger_function_on_a_strangers_table(target, function):
    """Columns of other types would be read as ours: a crash. Columns of the right ones: real holds released."""
    order = target.place()
    with target.login() as (db, _):
        for table in ("orders (order_id text, customer_id int, status int, closed_at text, vendor_id int, product_id int, on_hand text, reserved int)",
                      "orders (LIKE order_aggregator.orders)"):
            with contextlib.suppress(psycopg.Error):        # LIKE needs a right that the stranger lacks
                db.execute(f"CREATE TEMP TABLE {table}")
        for timing, transition in (("BEFORE INSERT OR UPDATE", ""), ("AFTER UPDATE", "REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders")):
            row = "STATEMENT" if transition else "ROW"
            assert refused(db, f"CREATE TRIGGER settle {timing} ON pg_temp.orders {transition} FOR EACH {row} EXECUTE FUNCTION order_aggregator.{function}()") == "42501"
    # and nobody else gains by it: the owner's own attempt is an error, not a crash
    with psycopg.connect(target.world.url, autocommit=True) as db:
        db.execute("CREATE TEMP TABLE orders (order_id bigint, customer_id text, status text, closed_at text)")
        db.execute("INSERT INTO pg_temp.orders VALUES (%s, NULL, 'pending', NULL)", [order])
        db.execute(f"CREATE TRIGGER guard_update BEFORE UPDATE ON pg_temp.orders FOR EACH ROW EXECUTE FUNCTION order_aggregator.{function}()")
        assert refused(db, "UPDATE pg_temp.orders SET status = 'cancelled'") == "39P01"
        db.execute("DROP TRIGGER guard_update ON pg_temp.orders")
        db.execute("CREATE TRIGGER settle AFTER UPDATE ON pg_temp.orders REFERENCING OLD TABLE AS old_orders NEW TABLE AS new_orders "
                   f"FOR EACH STATEMENT EXECUTE FUNCTION order_aggregator.{function}()")
        assert refused(db, "UPDATE pg_temp.orders SET status = 'cancelled'") == "39P01"
    assert target.status(order) == "pending"


def test_a_vendors_login_has_its_own_parts_alone(target):
    other = f"{target.mark}-w"
    order = target.place()
    target.db.execute("SELECT order_aggregator.register_vendor(%s, 'Other')", [other])
    with target.login("order_aggregator_vendor") as (db, name):
        target.db.execute("SELECT order_aggregator.configure_vendor(%s, logins => %s::name[])", [other, [name]])
        # it is let in, and sees nothing of the other's
        assert db.execute("SELECT count(*) FROM order_aggregator.vendor_order").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM order_aggregator.vendor_stock").fetchone() == (0,)
        for sql in (f"SELECT order_aggregator.confirm_order({order})", f"SELECT order_aggregator.confirm_order({order}, '{target.vendor}')",
                    f"SELECT order_aggregator.reject_order({order}, '{target.vendor}', 'x')", f"SELECT order_aggregator.sync_vendor_stock('{target.vendor}', '[]')",
                    f"SELECT order_aggregator.cancel_order({order}, 'x')", "SELECT * FROM order_aggregator.order_summary", "SELECT * FROM order_aggregator.vendor_login",
                    f"SELECT order_aggregator.configure_vendor('{target.vendor}', logins => '{{{name}}}')", "SELECT order_aggregator.apply_vendor_replies('[]')",
                    "SET ROLE order_aggregator_admin", "SELECT order_aggregator.place_orders('[]')"):
            assert refused(db, sql) == "42501", sql
        # an order that is another's looks as one that is not there
        assert refused(db, f"SELECT order_aggregator.confirm_order({order}, '{other}')") == "OA005"
        assert refused(db, f"SELECT order_aggregator.confirm_order(9000000000000, '{other}')") == "OA005"
        target.db.execute("SELECT order_aggregator.configure_vendor(%s, logins => %s::name[])", [target.vendor, [name]])
        assert db.execute("SELECT order_id, status FROM order_aggregator.vendor_order").fetchall() == [(order, "open")]
        assert db.execute(f"SELECT order_aggregator.confirm_order({order}, '{target.vendor}')").fetchone() == ("confirmed",)
        # what decides of others' orders is not its to set
        for setting in ("max_attempts", "max_vendors_per_order", "low_stock", "hold_for_max"):
            assert refused(db, f"SET order_aggregator.{setting} = 1") == "42501", setting
        target.db.execute("SELECT order_aggregator.configure_vendor(%s, logins => '{}'), order_aggregator.configure_vendor(%s, logins => '{}', is_active => false)", [target.vendor, other])


@pytest.mark.parametrize("key", ["order.confirmed", "order.placed.vendor-a", "order.cancelled.vendor-a", "order", "stock.synced.vendor-a", "stock.low.x", "order."])
def test_no_event_of_ours_can_be_forged(target, key):
    with target.login("order_aggregator_admin") as (db, _):
        assert refused(db, "SELECT order_aggregator.publish_event(%s, '{}')", key) == "22023"


def test_advisory_locks_of_a_stranger_stop_nobody(target):
    queue = target.world.listen(f"order.placed.{target.vendor}")
    with target.login() as (db, _):
        for number in range(-1, 6):
            db.execute("SELECT pg_advisory_lock(28513, %s), pg_advisory_lock(%s), pg_advisory_lock(28513::bigint << 32 | %s)", [number, number, max(number, 0)])
        target.place()
        wait_until(lambda: target.world.depth(queue) == 1, what="the event")
    if ATTACK:
        channel = target.world.channel()
        channel.queue_delete(queue)
        channel.connection.close()


def test_a_hold_has_a_longest_time(target):
    with target.login("order_aggregator_shop") as (db, _):
        db.execute("SET order_aggregator.hold_for_max = '360 days'")        # before the library is there to say no
        assert refused(db, "SELECT order_aggregator.place_order('c', %s, hold_for => '30 days')", psycopg.types.json.Jsonb([target.order])) == "22023"
        assert refused(db, "SET order_aggregator.hold_for_max = '360 days'") == "42501"
        db.execute("SET order_aggregator.hold_for = '20d'")
        order = db.execute("SELECT order_aggregator.place_order('c', %s)", [psycopg.types.json.Jsonb([target.order])]).fetchone()[0]
    assert target.world.value("SELECT expires_at - placed_at <= '7 days' FROM order_aggregator.orders WHERE order_id = %s", order)
    assert target.request("POST", "/order", json={**target.order, "holdFor": "30 days"}).status_code == 400


def test_a_batch_has_so_many_lines(target):
    """A million lines of one call would be a million lines of memory."""
    with target.login("order_aggregator_shop") as (db, _):
        assert refused(db, """SELECT count(*) FROM order_aggregator.place_orders((SELECT jsonb_agg(r) FROM (SELECT jsonb_build_object('products',
                              (SELECT jsonb_agg(jsonb_build_object('productId', 'p' || l, 'quantity', 1)) FROM generate_series(1, 1000) AS l)) AS r
                              FROM generate_series(1, 1000)) AS q))""") == "22023"


def test_the_catalogue_is_what_the_docs_say(target):
    """docs/security.md: the table of who may do what, and nothing beside it."""
    text = (TOP / "docs" / "security.md").read_text()
    documented = {}
    for name, groups in re.findall(r"^\| `(\w+)`(?:\(\))? \|([^|\n]*)\|", text, re.M):
        documented[name] = set(groups.split())
    actual = {}
    for name, group in target.db.execute("""
            SELECT p.proname, replace(coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC'), 'order_aggregator_', '')
            FROM pg_proc AS p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
            WHERE p.pronamespace = 'order_aggregator'::regnamespace AND a.grantee <> p.proowner
            UNION
            SELECT c.relname, replace(coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'PUBLIC'), 'order_aggregator_', '') || CASE a.privilege_type WHEN 'SELECT' THEN '' ELSE ': ' || a.privilege_type END
            FROM pg_class AS c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) AS a
            WHERE c.relnamespace = 'order_aggregator'::regnamespace AND a.grantee <> c.relowner AND c.relkind IN ('r', 'p', 'v', 'S') AND NOT c.relispartition""").fetchall():
        actual.setdefault(name, set()).add(group)
    # what a group is a member of it has too
    for groups in actual.values():
        if groups & {"reader", "shop", "vendor"}:
            groups.add("admin")
    for name, in target.db.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'order_aggregator'::regnamespace").fetchall():
        actual.setdefault(name, set())
    assert actual == documented


# ---- web pages ----

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("headers", [{**EVIL, **JSON}, {"Origin": "null", **JSON}, {"Origin": "http://localhost:1", **JSON}, {"Origin": "http://127.0.0.1.evil.example", **JSON},
                                     {"Origin": "file://", **JSON}, {"Sec-Fetch-Site": "cross-site", **JSON}, {"Sec-Fetch-Site": "same-site", **JSON},
                                     {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", **JSON}, {"Host": "evil.example", **JSON},
                                     {"Host": "evil.example:3000", "Origin": "http://evil.example:3000", "Sec-Fetch-Site": "same-origin", **JSON}, {"Referer": "https://evil.example/", **JSON},
                                     {"Host": "127.0.0.1.evil.example", **JSON}, FORM, TEXT, {}, {"Content-Type": "multipart/form-data; boundary=x"},
                                     {"Content-Type": "application/jsonx"}, {"Content-Type": "text/plain; application/json"}],
                         ids=lambda headers: " ".join(f"{name}={value}" for name, value in headers.items()) or "nothing")
def test_a_page_of_another_site_changes_nothing(target, headers):
    order, body = target.place(), json.dumps(target.order).encode()
    for path, data in (("/order", body), (f"/order/{order}/cancel", b'{"reason": "x"}'), (f"/order/{order}/return", b"{}")):
        answer = target.request("POST", path, data=data, headers=headers)
        assert answer.status_code in (403, 415, 421), (path, answer.text)
        assert "Access-Control-Allow-Origin" not in answer.headers
    if headers:
        for path in ("/vendors/sync", f"/vendors/{target.vendor}/sync", f"/order/{order}/cancel"):
            assert target.request("POST", path, headers=headers).status_code in (403, 415, 421), path
    if headers.get("Content-Type") == "application/json":
        assert target.request("GET", "/vendorSync", headers=headers).status_code in (403, 421)
    assert target.status(order) == "pending" and target.orders() == 1


def test_a_browser_that_says_nothing_of_the_page_pulls_no_feed(target):
    """<img src=".../vendorSync" referrerpolicy="no-referrer"> where browsers send no Sec-Fetch-Site."""
    assert target.request("GET", "/vendorSync", headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/120.0"}).status_code == 403
    assert target.request("GET", "/vendorSync", headers={"User-Agent": "Mozilla/5.0", "Sec-Fetch-Site": "none"}).status_code == 200
    assert target.request("GET", "/vendorSync", headers={"User-Agent": "curl/7.88"}).status_code == 200


def test_a_program_may_call_itself_as_a_browser_does(target):
    """PowerShell does; a browser that changes something by another method says of which page."""
    agent = {"User-Agent": "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.1"}
    assert target.request("POST", "/order", json=target.order, headers=agent).status_code == 201
    assert target.request("POST", "/vendors/sync", headers=agent).status_code == 200
    assert target.request("POST", "/order", json=target.order, headers={**agent, "Referer": "http://elsewhere.example/"}).status_code == 403


def test_what_is_no_page_of_another_site_goes_on(target):
    own = f"127.0.0.1:{target.port}"
    for headers in ({}, {"Origin": f"http://{own}"}, {"Origin": f"https://{own}"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Host": "localhost"},
                    {"Host": f"localhost:{target.port}"}, {"Host": "order-bridge:3000"}, {"Host": "[::1]:3000"}, {"Referer": f"http://{own}/docs"},
                    {"Host": "localhost:443", "Origin": "https://localhost"}, {"Host": "localhost", "Origin": "http://localhost:80"}):
        assert target.request("POST", "/order", json=target.order, headers=headers).status_code == 201, headers
        assert target.request("GET", "/vendors", headers=headers).status_code == 200, headers
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"):
        assert target.request("POST", "/order", data=json.dumps(target.order), headers={"Content-Type": kind}).status_code == 201, kind
    # a link that is followed shows what it leads to; a picture does not
    assert target.request("GET", "/products", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}).status_code == 200
    assert target.request("GET", "/products", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert target.request("GET", "/healthz", headers={"Host": "bridge.shop.svc.cluster.local"}).status_code == 200
    assert target.request("GET", "/products", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status_code == 403
    # what is asked of a proxy counts by its own host, whatever the field says
    with socket.create_connection(("127.0.0.1", target.port), timeout=PATIENCE_S) as s:
        s.sendall(b"GET http://evil.example/products HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert s.makefile("rb").readline().split()[1] == b"421"


def test_preflights_and_origins_that_are_let_in(target):
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, idempotency-key"}
    answer = target.request("OPTIONS", "/order", headers={**EVIL, **ask})
    assert answer.status_code == 403 and not [name for name in answer.headers if name.lower().startswith("access-control")]
    bridge = target.world.ready_bridge("--roles=http", HTTP_ORIGINS="https://shop.example, http://localhost:5173", HTTP_HOSTS="api.example,127.0.0.1", HTTP_OLDER_ROUTES="no")
    answer = requests.options(f"{bridge.url}/order", headers={"Origin": "https://shop.example", **ask}, timeout=PATIENCE_S)
    assert answer.status_code == 204 and answer.headers["Access-Control-Allow-Origin"] == "https://shop.example" and "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "idempotency-key" in answer.headers["Access-Control-Allow-Headers"].lower() and answer.headers["Vary"] == "Origin"
    assert requests.get(f"{bridge.url}/products", timeout=PATIENCE_S).headers["Vary"] == "Origin"
    with requests.get(f"{bridge.url}/events", headers={"Origin": "https://shop.example"}, stream=True, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == "https://shop.example" and answer.headers["Vary"] == "Origin"
    answer = requests.post(f"{bridge.url}/order", json=target.order, headers={"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}, timeout=PATIENCE_S)
    assert answer.status_code == 201 and answer.headers["Access-Control-Allow-Origin"] == "https://shop.example" and "Location" in answer.headers["Access-Control-Expose-Headers"]
    for origin in ("https://shop.example.evil.example", "http://shop.example", "https://evil.example", "null"):
        answer = requests.post(f"{bridge.url}/order", json=target.order, headers={"Origin": origin}, timeout=PATIENCE_S)
        assert answer.status_code == 403 and "Access-Control-Allow-Origin" not in answer.headers, origin
    for host, status in (("api.example", 200), ("api.example:8443", 200), (f"127.0.0.1:{bridge.port}", 200), ("localhost", 421), ("evil.example", 421)):
        assert requests.get(f"{bridge.url}/products", headers={"Host": host}, timeout=PATIENCE_S).status_code == status, host
    assert requests.get(f"{bridge.url}/vendorSync", timeout=PATIENCE_S).status_code == 404


@pytest.mark.parametrize("setting, value", [("HTTP_ORIGINS", "shop.example"), ("HTTP_ORIGINS", "*"), ("HTTP_ORIGINS", "https://*.example"), ("HTTP_ORIGINS", "https://shop.example/"),
                                            ("HTTP_HOSTS", "http://shop.example"), ("FEED_ALLOW_ADDRESSES", "localhost"), ("FEED_ALLOW_ADDRESSES", "10.0.0.0/99")])
def test_settings_that_would_open_more_than_they_say(target, setting, value):
    answer = target.world.command("run", **{setting: value})
    assert answer.returncode != 0 and setting in answer.stderr


def test_one_address_is_not_all_of_them(target):
    """Listeners and connections of one address leave room for the others."""
    listening = []

    def listen(source):
        s = socket.create_connection(("127.0.0.1", target.port), timeout=PATIENCE_S, source_address=(source, 0))
        s.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        listening.append(s)
        return int(s.recv(12).split()[1])

    codes = [listen("127.0.0.1") for _ in range(130)]
    assert codes.count(200) <= 100 and codes.count(503) >= 30
    assert listen("127.0.0.2") == 200
    for s in listening:
        s.close()
    text = subprocess.run([BUILD / "order-bridge", "--help"], capture_output=True, text=True).stdout
    limits = {name: int(value) for name, value in re.findall(r"\((\w+),\s+default\s+(\d+)\)", text)}
    assert limits["CONNECTIONS_PER_ADDRESS_MAX"] <= limits["CONNECTIONS_MAX"] // 4 and limits["LISTENERS_PER_ADDRESS_MAX"] <= limits["LISTENERS_MAX"] // 4


def test_bodies_have_a_budget_together(target):
    bridge = target.world.ready_bridge("--roles=http", BODIES_BYTES_MAX="4000000", BODY_BYTES_MAX="1000000")
    clients = []
    for _ in range(20):
        s = socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S)
        s.sendall(b"POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900001\r\n\r\n" + b" " * 900000)
        clients.append(s)
    # an ordinary order has room all the same
    assert requests.post(f"{bridge.url}/order", json=target.order, timeout=PATIENCE_S).status_code == 201
    # and a large one what those that are refused have given back, though they wait for the rest of their bodies
    wait_until(lambda: requests.post(f"{bridge.url}/order", data=json.dumps(target.order) + " " * 400000, headers={"Content-Type": "application/json"},
                                     timeout=PATIENCE_S).status_code == 201, what="room for a large order")
    for s in clients:
        s.sendall(b"x")
    codes = [int(s.recv(12).split()[1]) for s in clients]
    assert codes.count(503) >= 16 and set(codes) == {503, 400}, codes
    for s in clients:
        s.close()
    wait_until(lambda: requests.post(f"{bridge.url}/order", json=target.order, timeout=PATIENCE_S).status_code == 201, what="room again")


def test_no_body_is_kept_that_nobody_asks_for(target, tmp_path):
    """Who has no token has no part of the budget, whatever he asks for."""
    tokens = tmp_path / "tokens"
    tokens.write_text("buyer-0123456789abcdef read,order,admin\n")
    tokens.chmod(0o600)
    bridge = target.world.ready_bridge("--roles=http", BODIES_BYTES_MAX="4000000", BODY_BYTES_MAX="1000000", HTTP_TOKENS_FILE=str(tokens))
    bearer = {"Authorization": "Bearer buyer-0123456789abcdef"}
    ways = {"POST /nothing": 404, "PUT /order": 405, "DELETE /products": 405, "OPTIONS /order": 204, "OPTIONS *": 204, "GET /healthz": 200, "GET /readyz": 200,
            "GET /openapi.json": 200, "HEAD /healthz": 200, "POST /healthz": 405, "GET /products": 401, "POST /order": 401}
    clients = []
    for size, way in itertools.product((900000, 500000, 250000, 120000, 60000, 16000), ways):      # which fill the budget up
        s = socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S)
        s.sendall(f"{way} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size + 1}\r\n\r\n".encode())
        with contextlib.suppress(OSError):      # 401 closes
            s.sendall(b" " * size)
        clients.append((s, way))
        # as large as no order is that always has room
        order = requests.post(f"{bridge.url}/order", data=json.dumps(target.order) + " " * 2000, headers={"Content-Type": "application/json", **bearer}, timeout=PATIENCE_S)
        assert order.status_code == 201, (way, order.text)
    for s, way in clients:
        with contextlib.suppress(OSError):
            s.sendall(b"x")
        if ways[way] == 401:
            continue
        assert int(s.recv(12).split()[1]) == ways[way], way
        # and the connection goes on, as without a body
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += s.recv(4096)
        head, rest = answer.split(b"\r\n\r\n", 1)
        length = 0 if way.startswith("HEAD") else int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1])
        while len(rest) < length:
            rest += s.recv(65536)
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert s.recv(12) == b"HTTP/1.1 200", way
    for s, _ in clients:
        s.close()
    # what is too long is so wherever it goes
    for method, path in (("POST", "/nothing"), ("GET", "/healthz")):
        for data in (b" " * 1000001, iter([b" " * 600000] * 2)):
            assert requests.request(method, bridge.url + path, data=data, timeout=PATIENCE_S).status_code == 413


def test_documents_that_nobody_takes_have_a_budget_together(world):
    world.stock(a={"x": 10, **{f"{n:04}{'p' * 100}": 1 for n in range(9000)}})
    bridge = world.ready_bridge("--roles=http", BODIES_BYTES_MAX="20000000")
    page = len(requests.get(f"{bridge.url}/products", timeout=PATIENCE_S).content)
    assert page > 4_000_000, "the system's buffers may take that"
    clients = []
    for n in range(30):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", bridge.port))
        s.sendall(f"GET /products?after=0{n:02} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        clients.append(s)
    wait_until(lambda: requests.get(f"{bridge.url}/products/x", timeout=PATIENCE_S).status_code == 503, what="the budget to be spent")
    # orders, and what keeps no document, go on
    assert requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S).status_code == 201
    assert requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 200
    for s in clients:
        s.close()
    wait_until(lambda: requests.get(f"{bridge.url}/products/x", timeout=PATIENCE_S).status_code == 200, what="room again")


@pytest.mark.skipif(SANITIZED, reason="memory under a sanitizer says nothing")
def test_answers_that_nobody_takes_have_a_budget_together(world):
    """Of orders, too: what is answered is bounded before it is made, whoever does not take it."""
    names = [f"{n:03}{'p' * 125}" for n in range(1000)]
    world.stock(a={"x": 1000, **{name: 1000 for name in names}})
    bridge = world.ready_bridge("--roles=http", BODIES_BYTES_MAX="4000000", REQUEST_TIMEOUT_S=str(4 * PATIENCE_S))
    body = json.dumps({"products": [{"productId": name, "quantity": 1} for name in names]}).encode()
    taken = requests.post(f"{bridge.url}/order", data=body, headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
    assert taken.status_code == 201 and len(taken.content) > 200_000
    before = bridge.memory_kb("VmRSS")
    clients, codes = [], []
    for _ in range(300):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)       # else the system's buffers take megabytes
        s.settimeout(PATIENCE_S)
        s.connect(("127.0.0.1", bridge.port))
        s.sendall(b"POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        codes.append(int(s.recv(12).split()[1]))
        clients.append(s)
    assert set(codes) == {201, 503} and codes.count(201) < 100, codes
    assert bridge.memory_kb() - before < 40_000
    assert world.statuses() == {"pending": 1 + codes.count(201)}        # what is refused is not done
    # an ordinary order goes on; nothing else that keeps an answer is begun
    ordinary = {"productId": "x", "quantity": 1}
    order = requests.post(f"{bridge.url}/order", json=ordinary, timeout=PATIENCE_S)
    assert order.status_code == 201
    for method, path in (("GET", "/products/x"), ("GET", "/metrics"), ("POST", f"{order.headers['Location']}/cancel"), ("POST", "/vendors/sync")):
        answer = requests.request(method, bridge.url + path, timeout=PATIENCE_S)
        assert answer.status_code == 503 and answer.headers["Retry-After"], path
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert requests.get(bridge.url + path, timeout=PATIENCE_S).status_code == 200
    for s in clients:
        s.close()
    wait_until(lambda: requests.get(f"{bridge.url}/products/x", timeout=PATIENCE_S).status_code == 200, what="room again")
    assert requests.post(f"{bridge.url}{order.headers['Location']}/cancel", timeout=PATIENCE_S).status_code == 200
    world.consistent()


def test_refused_orders_leave_nothing_behind(target):
    def count():
        return target.world.value("SELECT count(*) FROM order_aggregator.idempotency WHERE error IS NOT NULL")
    before = count()
    for body in ({"productId": target.product, "quantity": 100000}, {"productId": "no such product", "quantity": 1}, {"productId": "x", "quantity": 0}):
        assert target.request("POST", "/order", json=body).status_code in (400, 404, 409)
        target.db.execute("SELECT order_aggregator.place_orders(%s)", [psycopg.types.json.Jsonb([body])])
    assert count() == before
    # with a key of the client's own the outcome is kept
    for _ in range(2):
        assert target.request("POST", "/order", json={"productId": target.product, "quantity": 100000}, headers={"Idempotency-Key": target.mark}).status_code == 409
    assert count() == before + 1


# ---- feeds ----

class Listener:
    """An HTTP server of the inner network, on 127.0.0.2, that nobody should be made to ask; redirects to it from 127.0.0.1."""

    def __init__(self):
        seen = self.seen = []
        inner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append((self.server.server_address[0], self.path, dict(self.headers)))
                if self.path == "/redirect":
                    self.send_response(302)
                    self.send_header("Location", f"{inner.url}/inner")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = b'[{"id": "secret", "quantity": 1}]'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass

        self.servers = [http.server.ThreadingHTTPServer((address, 0), Handler) for address in ("127.0.0.2", "127.0.0.1")]
        self.port, self.outer_port = (server.server_port for server in self.servers)
        self.url, self.outer = f"http://127.0.0.2:{self.port}", f"http://127.0.0.1:{self.outer_port}"
        for server in self.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self):
        for server in self.servers:
            server.shutdown()


@pytest.fixture
def inner():
    listener = Listener()
    yield listener
    listener.close()


def feed_at(target, url=None):
    """The vendor's feed is there, and no other bridge, which may go elsewhere, is to pull it meanwhile."""
    with target.db.transaction():
        target.db.execute("SELECT order_aggregator.register_vendor(%s, 'Attacked', %s)", [target.vendor, url])
        target.db.execute("UPDATE order_aggregator.vendor SET next_sync_at = 'infinity' WHERE vendor_id = %s", [target.vendor])


def pull(bridge_url, vendor):
    return requests.post(f"{bridge_url}/vendors/{vendor}/sync", timeout=PATIENCE_S).json()["results"][0]


@pytest.mark.parametrize("host", ["127.0.0.2", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "[::ffff:127.0.0.2]", "127.0.0.2.", "0.0.0.0", "localhost", "[::1]", "[::]", "[::127.0.0.2]"])
def test_a_feed_is_no_window_into_the_inner_network(target, inner, host):
    bridge = target.world.ready_bridge("--roles=http", FEED_ALLOW_ADDRESSES="")
    feed_at(target, f"http://{host}:{inner.port}/stock")
    result = pull(bridge.url, target.vendor)
    assert result["status"] == "failed" and inner.seen == []
    assert "FEED_ALLOW_ADDRESSES" in result["error"] or "resolve" in result["error"] or "URL" in result["error"], result
    feed_at(target)


def test_a_redirect_leads_no_further_in(target, inner):
    bridge = target.world.ready_bridge("--roles=http", FEED_ALLOW_ADDRESSES="127.0.0.1", FEED_REDIRECTS_MAX="5")
    feed_at(target, f"{inner.outer}/redirect")
    assert "FEED_ALLOW_ADDRESSES" in pull(bridge.url, target.vendor)["error"]
    assert [(address, path) for address, path, _ in inner.seen] == [("127.0.0.1", "/redirect")]
    feed_at(target)


def test_a_vendors_key_goes_to_its_origin_alone(target, inner, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"{target.vendor} {inner.outer} Authorization: Bearer s3cret-key\n{target.vendor} feeds.example X-Key: s3cret-key\n")
    keys.chmod(0o600)
    bridge = target.world.ready_bridge("--roles=http", FEED_ALLOW_ADDRESSES="loopback", FEED_HEADERS_FILE=str(keys), FEED_REDIRECTS_MAX="5")
    for url in (inner.url, f"http://localhost:{inner.outer_port}", f"http://127.0.0.1@127.0.0.2:{inner.port}", f"https://127.0.0.1:{inner.outer_port}"):
        feed_at(target, f"{url}/stock")
        assert "FEED_HEADERS_FILE" in pull(bridge.url, target.vendor)["error"], url
    assert inner.seen == []
    feed_at(target, f"{inner.outer}/redirect")
    assert pull(bridge.url, target.vendor)["status"] == "failed"        # a redirect is not followed with a key
    feed_at(target, f"{inner.outer}/stock")
    assert pull(bridge.url, target.vendor)["status"] in ("applied", "stale")        # the Date has whole seconds
    assert {(address, headers.get("Authorization")) for address, _, headers in inner.seen} == {("127.0.0.1", "Bearer s3cret-key")}
    assert not bridge.logged("s3cret")
    feed_at(target)


@pytest.mark.parametrize("url", ["http://u:S3/CRET@feeds.example/x", "http://u:S3?CRET@feeds.example/x", "http://u:S3#CRET@feeds.example/x", "https://:443/x", "https://", "http://feeds.example:80x/"])
def test_a_feeds_url_that_hides_where_it_leads(target, url):
    with target.login("order_aggregator_admin") as (db, _):
        assert refused(db, "SELECT order_aggregator.register_vendor(%s, 'Attacked', %s)", target.vendor, url) == "22023"


def test_a_password_in_a_feeds_url_is_not_shown(target):
    target.db.execute("SELECT order_aggregator.register_vendor(%s, 'Attacked', 'https://user:S3CRET@feeds.example:8443/stock?token=S3CRET')", [target.vendor])
    with target.login("order_aggregator_reader") as (db, _):
        assert db.execute("SELECT stock_url FROM order_aggregator.vendor_sync WHERE vendor_id = %s", [target.vendor]).fetchone() == ("https://feeds.example:8443/stock?...",)
    assert "S3CRET" not in target.request("GET", "/vendors").text
    target.db.execute("SELECT order_aggregator.register_vendor(%s, 'Attacked')", [target.vendor])


# ---- answers over AMQP ----

def dead(target, count):
    """The reasons of what is in the dead queue for this attack's vendor, when there are so many; they stay there."""
    channel = target.world.channel()
    found = []
    for method, properties, body in channel.consume("orders.replies.dead", inactivity_timeout=PATIENCE_S):
        if method is None:
            break
        if target.vendor.encode() in body[:500]:
            found.append(properties)
        if len(found) == count:
            break
    channel.connection.close()      # what is not acknowledged goes back
    return found


def test_an_answer_counts_from_its_vendor_alone(target):
    mine, theirs = f"{target.mark}-wms", f"{target.mark}-evil"
    target.db.execute("SELECT order_aggregator.configure_vendor(%s, amqp_user => %s)", [target.vendor, mine])
    order = target.place()
    answer = json.dumps({"orderId": order, "vendorId": target.vendor, "attempt": 1, "status": "confirmed"}).encode()
    own = urllib.parse.urlsplit(target.world.env["RABBITMQ_URL"]).username
    with target.world.login(theirs) as connect:
        channel = connect()
        for properties in (pika.BasicProperties(), pika.BasicProperties(user_id=theirs), pika.BasicProperties(user_id=theirs, headers={"x-user-id": mine}),
                           pika.BasicProperties(headers={"x-user-id": mine})):
            channel.basic_publish("", "orders.replies", answer, properties)
        reasons = [p.headers["x-reason"] for p in dead(target, 4)]
        assert len(reasons) == 4 and all("another AMQP user" in reason for reason in reasons)
        # the broker itself refuses who claims to be another
        channel.basic_publish("", "orders.replies", answer, pika.BasicProperties(user_id=mine))
        with pytest.raises(pika.exceptions.AMQPError):
            channel.queue_declare("orders.replies", passive=True)
    assert target.status(order) == "pending"
    # redriven, they are still whose they were
    assert target.world.command("redrive").returncode == 0
    assert len(dead(target, 4)) == 4 and target.status(order) == "pending"
    assert all(p.headers.get("x-user-id") in ("", theirs) and p.user_id == own for p in dead(target, 4))
    with target.world.login(mine) as connect:
        channel = connect()
        channel.basic_publish("", "orders.replies", answer, pika.BasicProperties(user_id=mine))
        wait_until(lambda: target.status(order) == "confirmed", what="the vendor's own answer")


@pytest.mark.skipif(SANITIZED, reason="memory under a sanitizer says nothing")
def test_large_replies_are_buried_unread(target):
    """Eight of 60 MB took a gigabyte. They are dead before they are read, and at most one is held."""
    channel = target.world.channel()
    order = target.place()
    start = json.dumps({"orderId": order, "vendorId": target.vendor, "attempt": 1, "status": "confirmed"})[:-1]
    bridge = target.world.programs[0] if not ATTACK else None
    before = bridge.memory_kb("VmRSS") if bridge else 0
    channel.confirm_delivery()      # a channel that is closed takes along what the queue has not taken
    for _ in range(8):
        channel.basic_publish("", "orders.replies", start.encode() + b', "reason": "' + b"x" * 15_000_000 + b'"}')
    channel.connection.close()
    reasons = [p.headers["x-reason"] for p in dead(target, 8)]
    assert len(reasons) == 8 and all("REPLY_BYTES_MAX" in reason for reason in reasons)
    assert target.status(order) == "pending"
    if bridge:
        assert bridge.memory_kb() - before < 120_000
    channel = target.world.channel()
    if not ATTACK:
        channel.queue_purge("orders.replies.dead")
    channel.connection.close()


# ---- what is said ----

@pytest.mark.parametrize("setting, url", [("DATABASE_URL", "postgresql://u:S3CRET%zz@127.0.0.1/x"), ("DATABASE_URL", "postgresql://u:S3CRET@127.0.0.1:1/x?a"),
                                          ("DATABASE_URL", "postgresql://u:S3CRET@[::1/x"), ("DATABASE_URL", "host=127.0.0.1 password=S3CRET S3CRET"),
                                          ("DATABASE_URL", "host=127.0.0.1 password='S3CRET"), ("DATABASE_URL", "postgresql://u:S3C@S3CRET@db/x"), ("DATABASE_URL", "postgresql://u:S3CRET@h/x?S3CRET=1"),
                                          ("RABBITMQ_URL", "amqp://u:S3CRET%zz@127.0.0.1/"), ("RABBITMQ_URL", "amqp://u:S3CRET@127.0.0.1:x/"), ("RABBITMQ_URL", "amqp://u:S3CRET@[::1/"),
                                          ("RABBITMQ_URL", "http://u:S3CRET@127.0.0.1/"), ("RABBITMQ_URL", "amqp://u:S3CRET@127.0.0.1/?S3CRET=1"), ("RABBITMQ_URL", "S3CRET")])
def test_no_password_is_in_an_error(target, setting, url):
    answer = target.world.command("run", **{setting: url})
    assert answer.returncode != 0 and setting in answer.stderr and "S3CRET" not in answer.stderr + answer.stdout


def test_no_password_is_in_the_log_of_a_connection_that_fails(target):
    program = target.world.bridge("--roles=relay", DATABASE_URL="postgresql://user:S3CRET/x", RABBITMQ_URL="amqp://user:S3CRET@127.0.0.1:1/")
    wait_until(lambda: program.logged("warning relay cannot connect to PostgreSQL"), what="the failure")
    program.stop()
    assert not program.logged("S3CRET")


def test_a_log_shows_what_it_says(target):
    """Control characters and those that turn the line around are shown as what they are."""
    nasty = "\x1b[31m\u202egnp.exe\u2066\x9b2J\r\nfake line"
    bridge = target.world.ready_bridge("--roles=http,replies", LOG_LEVEL="debug")
    logs = [program.log_path for program in target.world.programs]      # whichever takes the reply
    order = target.place()
    target.world.channel().basic_publish("", "orders.replies", json.dumps({"orderId": order, "vendorId": f"{target.vendor}-x", "attempt": 1, "status": "confirmed", "reason": nasty}),
                                         pika.BasicProperties(message_id=nasty))
    if not ATTACK:
        wait_until(lambda: any("can never be applied" in path.read_text() for path in logs), what="the reply")
        assert any("\\u{1b}[31m\\u{202e}gnp.exe" in path.read_text() for path in logs)
    for name, value in (("traceparent", "\x1b[31mx"), ("Idempotency-Key", "k\u009b2J")):
        requests.post(f"{bridge.url}/order", json=target.order, headers={name: value.encode()}, timeout=PATIENCE_S)
    text = b"".join(path.read_bytes() for path in logs)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xe2\x80\xae|\xe2\x81\xa6|\xc2\x9b", text) and b"\nfake line" not in text


def test_a_file_of_tokens_that_others_may_read_is_warned_of(target, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("reader-0123456789abcdef read\n")
    tokens.chmod(0o644)
    bridge = target.world.bridge("--roles=http", HTTP_TOKENS_FILE=str(tokens))
    assert bridge.logged("can be read by others than its owner")
    answers = [requests.get(f"{bridge.url}/products", headers=headers, timeout=PATIENCE_S)
               for headers in ({}, {"Authorization": "Bearer reader-0123456789abcdeX"}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer " + "x" * 5000})]
    assert {(a.status_code, a.text, a.headers["WWW-Authenticate"]) for a in answers} == {(401, answers[0].text, answers[0].headers["WWW-Authenticate"])}
    # with tokens a page of a stranger has nothing to show; the host may be any
    assert requests.get(f"{bridge.url}/products", headers={"Host": "api.example", "Authorization": "Bearer reader-0123456789abcdef"}, timeout=PATIENCE_S).status_code == 200
    assert requests.get(f"{bridge.url}/products", headers={**EVIL, "Authorization": "Bearer reader-0123456789abcdef"}, timeout=PATIENCE_S).status_code == 403
