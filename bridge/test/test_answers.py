"""What is answered: strict JSON whatever was asked, one outcome for one key, 503 for what passes, and the same through a proxy."""

import json
import os
import signal
import socket
import threading

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, Proxy, free_port, wait_until
from nginx import nginx
from test_http import EventSource, ORDER


def strict(answer):
    """The answer's JSON, read as strictly as can be."""
    def refuse(text):
        raise ValueError(f"{text} is no JSON")
    def unique(pairs):
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)
    return json.loads(answer.content.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)


# ---- documents ----

NASTY = ['"', "\\", "\\u0000", "a\"b\\c/", "\u2028\u2029", "😀", "é", "</script>", "'", "%00", "{}", "\u007f"[:0] + "nbsp\u00a0", "x" * 128]


def test_every_document_parses_strictly_whatever_was_asked(world):
    world.stock(a={name: 1000 for name in NASTY})
    bridge = world.ready_bridge("--roles=http")
    for number, name in enumerate(NASTY):
        answer = requests.post(f"{bridge.url}/order", json={"productId": name, "quantity": 1, "customerId": name}, timeout=PATIENCE_S)
        assert answer.status_code == 201 and strict(answer)["order"]["customerId"] == name, name
        order_id = strict(answer)["orderId"]
        order = strict(requests.get(f"{bridge.url}/order/{order_id}", timeout=PATIENCE_S))
        assert order["customerId"] == name and order["lines"][0]["productId"] == name
        assert strict(requests.post(f"{bridge.url}/order", json={"productId": name, "quantity": 5000}, timeout=PATIENCE_S))["details"]["productId"] == name
        assert strict(requests.post(f"{bridge.url}/order/{order_id}/cancel", json={"reason": name}, timeout=PATIENCE_S))["status"] == "cancelled"
        document = strict(requests.get(f"{bridge.url}/order/{order_id}", timeout=PATIENCE_S))
        assert document.get("reason") == name, document
        assert strict(requests.post(f"{bridge.url}/order", json={"productId": "x", "quantity": 1, name: 1}, timeout=PATIENCE_S))["status"] == 400
    assert {p["id"] for p in strict(requests.get(f"{bridge.url}/products", timeout=PATIENCE_S))["data"]} == set(NASTY)
    for path in ("/vendors", "/readyz", "/healthz", "/openapi.json", "/vendors/a/syncs", "/nothing", "/products?limit=0", "/products?after=%22%5C"):
        strict(requests.get(bridge.url + path, timeout=PATIENCE_S))


def test_one_session_reads_what_another_goes_on_changing(world):
    """Past the index entries of rows that are dead by now, thousands of times: the server's memory stays whole."""
    world.stock(a={"x": 1_000_000})
    with psycopg.connect(world.url, autocommit=True) as reader:
        for _ in range(300):
            orders = [world.value("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')") for _ in range(8)]
            for status in ("pending", "cancelled"):
                documents = reader.execute("SELECT document FROM order_aggregator.order_documents(%s) ORDER BY request_no", [orders]).fetchall()
                assert [(d["id"], d["status"]) for d, in documents] == [(order, status) for order in orders]
                for order in orders if status == "pending" else []:
                    world.db.execute("SELECT order_aggregator.cancel_order(%s, 'no')", [order])
    world.consistent()


@pytest.mark.parametrize("number", ["007", "0000000000000000001", "1e1", "+1", "1.0", "-1", " 1", "0x1", "99999999999999999999", "٣"])
def test_ids_that_are_numbers_in_other_ways(world, number):
    world.stock(a={"x": 100})
    assert world.place(10) == 10
    world.db.execute("SELECT order_aggregator.confirm_order(n) FROM generate_series(1, 3) AS n")
    bridge = world.ready_bridge("--roles=http")
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/return")):
        answer = requests.request(method, f"{bridge.url}/order/{number}{path}", timeout=PATIENCE_S)
        assert answer.status_code in (200, 404, 409) and strict(answer), (method, path)
        if answer.status_code == 200:
            assert strict(answer).get("orderId", strict(answer).get("id")) == 7 == int(number)


@pytest.mark.parametrize("letter", ["x", "ä", "😀"])
def test_a_stranger_is_not_told_his_own_megabyte(world, letter):
    world.stock(a={"x": 100})
    assert world.place(1) == 1
    world.db.execute("SELECT order_aggregator.confirm_order(1)")
    bridge = world.ready_bridge("--roles=http", HTTP_HOSTS="*")
    name = letter * (900_000 // len(letter.encode()))
    long = {name: 1}
    for path, body in (("/order", long), ("/order", {"products": [{"productId": "x", "quantity": 1, **long}]}), ("/order/1/cancel", long), ("/order/1/return", long),
                       ("/order/1/return", {"lines": [long]}), ("/order/1/return", {"lines": [{"productId": name, "quantity": 7}]}),
                       ("/order", {"productId": name, "quantity": 1}), ("/order", {"productId": "x", "quantity": 1, "strategy": name}),
                       ("/order", {"productId": "x", "quantity": 1, "holdFor": name}), ("/order", {"productId": "x", "quantity": 1, "traceparent": name}),
                       ("/order", {"productId": "x", "quantity": 1, "idempotencyKey": name}), ("/order/1/cancel", {"idempotencyKey": name})):
        answer = requests.post(bridge.url + path, data=json.dumps(body, ensure_ascii=False).encode(), headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
        assert answer.status_code in (201, 400, 404, 409), (path, answer.text[:300])
        assert strict(answer) and len(answer.text) < 2000, path
        if name in body:
            assert answer.status_code == 400 and strict(answer)["field"] == letter * 128 + "...", path
    duplicates = b'{"%s": 1, "%s": 1}' % (name.encode(), name.encode())
    answer = requests.post(f"{bridge.url}/order", data=duplicates, headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
    assert answer.status_code in (400, 413) and len(answer.text) < 2000
    for path in ("/products?limit=" + "1" * 3000, "/readyz?role=" + "x" * 3000, "/products/" + "x" * 3000, "/order/" + "1" * 3000, "/" + "x" * 3000, "/vendors/" + "x" * 3000 + "/syncs"):
        answer = requests.get(bridge.url + path, timeout=PATIENCE_S)
        assert answer.status_code in (400, 404) and len(answer.text) < 2000, path
    assert bridge.log_path.stat().st_size < 50_000


# ---- keys ----

def test_one_key_has_one_outcome_whatever_it_was_used_for(world):
    world.stock(a={"x": 100})
    assert world.place(3) == 3
    world.db.execute("SELECT order_aggregator.confirm_order(1)")
    bridge = world.ready_bridge("--roles=http")

    def post(path, body=None, key=None):
        answer = requests.post(bridge.url + path, json=body, headers={"Idempotency-Key": key} if key else None, timeout=PATIENCE_S)
        return answer.status_code, strict(answer)

    line = {"lines": [{"productId": "x", "quantity": 1}]}
    first = post("/order/2/cancel", {"reason": "r"}, "k1")
    assert first[0] == 200 and post("/order/2/cancel", {"reason": "r"}, "k1") == first
    assert post("/order/2/cancel", {"reason": "another"}, "k1")[0] == 422
    assert post("/order/3/cancel", {"reason": "r"}, "k1")[0] == 422
    assert post("/order/2/cancel", {"reason": "r"}, "k2")[0] == 409
    assert post("/order/2/cancel", {"reason": "r", "idempotencyKey": "k1"}) == first
    world.db.execute("SELECT order_aggregator.sync_vendor_stock('a', '[{\"id\": \"x\", \"quantity\": 100}]')")
    assert post("/order", {"productId": "x", "quantity": 1}, "k1")[0] == 422
    placed = post("/order", {"productId": "x", "quantity": 5}, "k3")
    assert placed[0] == 201 and post(f"/order/{placed[1]['orderId']}/cancel", None, "k3")[0] == 422
    assert post("/order/1/return", line, "k3")[0] == 422
    for path, body in (("/order/1/return", line), ("/order/3/cancel", {"reason": "r"}), ("/order", {"productId": "x", "quantity": 1})):
        status, problem = post(path, {**body, "idempotencyKey": "k4"}, "k5")
        assert (status, problem["field"]) == (400, "Idempotency-Key"), path
    assert world.value("SELECT count(*) FROM order_aggregator.order_return") == 0
    assert world.statuses() == {"confirmed": 1, "cancelled": 1, "pending": 2}
    world.consistent()


def changers(world):
    """The bridge's sessions that change orders."""
    return [row[0] for row in world.db.execute("""SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                                                  AND application_name = 'order-bridge queries' AND query ~ 'cancel_order_once|return_order'""")]


def test_an_unknown_outcome_names_the_key_to_repeat_with(world):
    """The server process hangs in the middle; it may have done it, and in the end it has."""
    world.stock(a={"x": 100})
    assert world.place(4) == 4
    world.db.execute("SELECT order_aggregator.confirm_order(1)")
    world.db.execute("SELECT order_aggregator.confirm_order(2)")
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="3")
    for path, body in (("/order/1/return", {"lines": [{"productId": "x", "quantity": 1}]}), ("/order/3/cancel", {"reason": "r"})):
        with psycopg.connect(world.url) as other:
            other.execute("SELECT FROM order_aggregator.orders WHERE order_id = 4 FOR UPDATE")
            busy = [threading.Thread(target=requests.post, args=[f"{bridge.url}/order/4/cancel"]) for _ in range(2)]
            for thread in busy:
                thread.start()
            wait_until(lambda: len(changers(world)) == 2, what="both of its threads to have a session")
        for thread in busy:
            thread.join()
        pids = changers(world)
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = requests.post(bridge.url + path, json=body, timeout=PATIENCE_S)
            assert answer.status_code == 503 and strict(answer)["title"] == "Outcome unknown" and answer.headers["Retry-After"]
            key = answer.headers["Idempotency-Key"]
            assert key in strict(answer)["detail"]
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: requests.post(bridge.url + path, json=body, headers={"Idempotency-Key": key}, timeout=PATIENCE_S).status_code == 200, what="the same, once")
        assert requests.post(bridge.url + path, json=body, headers={"Idempotency-Key": key}, timeout=PATIENCE_S).status_code == 200
    assert world.value("SELECT sum(quantity) FROM order_aggregator.order_return") == 1
    assert world.statuses() == {"confirmed": 2, "cancelled": 2}
    world.consistent()


# ---- what passes ----

@pytest.mark.parametrize("state", ["53100", "58030"])
def test_a_database_that_cannot_now_is_503_and_no_storm(world, state):
    world.stock(a={"x": 1000})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="3")
    world.db.execute(f"""CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room' USING ERRCODE = '{state}'; END $$""")
    world.db.execute("CREATE TRIGGER full_disk BEFORE INSERT ON order_aggregator.idempotency FOR EACH ROW EXECUTE FUNCTION full_disk()")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status_code for a in answers} == {503} and all(a.headers["Retry-After"] and strict(a) for a in answers)
    assert bridge.log_path.read_text().count("placing orders") < 60
    answer = requests.post(f"{bridge.url}/order/1/cancel", timeout=PATIENCE_S)
    assert answer.status_code == 503 and answer.headers["Retry-After"]
    world.db.execute("DROP TRIGGER full_disk ON order_aggregator.idempotency")
    assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201
    assert world.statuses() == {"pending": 1}
    world.consistent()


def test_what_is_no_passing_trouble_is_answered_at_once(world):
    world.stock(a={"x": 1000})
    bridge = world.ready_bridge("--roles=http")
    world.db.execute("ALTER FUNCTION order_aggregator.place_order_documents(jsonb) RENAME TO elsewhere")
    answer = requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S)
    assert answer.status_code == 500 and strict(answer)
    assert bridge.log_path.read_text().count("placing orders") == 1


# ---- two-phase commit ----

def test_a_transaction_can_be_prepared_whether_the_relay_sleeps_or_not(world):
    world.stock(a={"x": 100})
    queue = world.listen("order.placed.a")
    placed = 0

    def two_phase():
        name = f"{world.name}_{placed}"
        with psycopg.connect(world.url, autocommit=True) as db:
            db.execute("BEGIN")
            db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')")
            db.execute(f"PREPARE TRANSACTION '{name}'")
            db.execute(f"COMMIT PREPARED '{name}'")

    two_phase()     # no relay
    bridge = world.ready_bridge("--roles=http,relay")
    wait_until(lambda: world.depth(queue) == 1, what="the first")
    for placed in range(1, 6):
        wait_until(lambda: world.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 28513 AND objid = 2 AND objsubid = 3 AND granted") == 1,
                   what="the relay to sleep")
        two_phase()
        wait_until(lambda: world.depth(queue) == placed + 1, what="the next, found by the poll")
    assert bridge.process.poll() is None
    world.consistent()


# ---- brokers' URLs ----

class ProxyOn(Proxy):
    """A way to the broker by another address."""

    def __init__(self, url, address, family):
        super().__init__(url)
        self.listener.close()
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind((address, 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()


@pytest.mark.parametrize("form", ["amqp://{user}:{password}@{host}:{port}", "amqp://{user}:{password}@{host}:{port}/", "amqp://{user}:{password}@{host}:{port}/?heartbeat=30",
                                  "amqp://{user}:{coded}@{host}:{port}/%2f?heartbeat=5&connection_timeout=2000", "amqp://{user}:{password}@[::1]:{port6}/"])
def test_broker_urls_as_people_write_them_connect(world, form):
    url = world.env["RABBITMQ_URL"]
    user, rest = url.removeprefix("amqp://").split(":", 1)
    password, rest = rest.split("@", 1)
    host, port = rest.split("/")[0].split(":")
    port6 = ""
    if "port6" in form:
        try:
            proxy = ProxyOn(url, "::1", socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")
        port6 = proxy.port
    coded = "".join(f"%{ord(c):02X}" for c in password)
    bridge = world.bridge("--roles=http,relay,replies", RABBITMQ_URL=form.format(user=user, password=password, coded=coded, host=host, port=port, port6=port6))
    bridge.wait_for("/readyz")


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "amqp://u:S3CRET%zz@localhost", "amqp://u:S3CRET@localhost:port", "amqp://u:S3CRET@localhost?colour=red", "amqp://"])
def test_broker_urls_that_are_none_are_refused_at_start(world, url):
    for words in (["run"], ["sync"], ["redrive"]):
        result = world.command(*words, RABBITMQ_URL=url)
        assert result.returncode == 64 and result.stderr.startswith("RABBITMQ_URL "), result.stderr
        assert "S3CRET" not in result.stderr and result.stderr.count("\n") == 1


# ---- proxies ----

@pytest.fixture
def proxied(world):
    """nginx with nothing set but where to listen and what to pass."""
    bridge, port = world.ready_bridge(), free_port()
    with nginx(world.tmp_path / "nginx", port, f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {bridge.url}; }} }}") as url:
        world.proxied = type("Proxied", (), {"url": url})
        yield world


def test_events_come_through_nginx_with_its_defaults(proxied):
    proxied.stock(a={"x": 100})
    source = EventSource(proxied.proxied)
    for _ in range(3):
        assert proxied.place(1) == 1
        [(_, event, _)] = source.next(1)      # far less than any buffer holds, and nothing comes behind it
        assert event == "order.placed.a"
    source.answer.close()


def test_orders_go_through_nginx_with_its_defaults(proxied):
    proxied.stock(a={"x": 100, "a/b": 3})
    answer = requests.post(f"{proxied.proxied.url}/order", json=ORDER, headers={"Idempotency-Key": "k"}, timeout=PATIENCE_S)
    assert answer.status_code == 201 and requests.get(f"{proxied.proxied.url}{answer.headers['Location']}", timeout=PATIENCE_S).status_code == 200
    assert strict(requests.get(f"{proxied.proxied.url}/products/a%2Fb", timeout=PATIENCE_S))["available"] == 3
    # what nginx lets through of what it is given, we read as it does
    chunked = requests.post(f"{proxied.proxied.url}/order", data=iter([json.dumps(ORDER).encode()]), headers={"Content-Type": "application/json"}, timeout=PATIENCE_S)
    assert chunked.status_code == 201
    assert proxied.statuses() == {"pending": 2}
