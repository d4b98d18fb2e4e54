"""The HTTP shim holds its ground: tokens, limits, slow and hostile clients, and what good HTTP services do."""

import json
import re
import signal
import socket
import time

import jsonschema
import psycopg
import pytest
import requests
from conftest import PATIENCE_S, SANITIZED, TOP, many_files, wait_until

ORDER = {"productId": "x", "quantity": 1}


def raw(program, data, is_all=False):
    """Sends bytes on a connection of its own, with its end if that is all, and returns what comes back until the server closes it."""
    with socket.create_connection(("127.0.0.1", program.port), timeout=PATIENCE_S) as s:
        answer = b""
        try:
            s.sendall(data)
            if is_all:
                s.shutdown(socket.SHUT_WR)
            while piece := s.recv(65536):
                answer += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
    return answer


def statuses(answer):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


@pytest.fixture
def shop(world):
    """A world with a bridge that takes orders only."""
    world.stock(a={"x": 1000000})
    world.shop = world.ready_bridge("--roles=http", LOG_LEVEL="debug")
    return world


# ---- tokens ----

TOKENS = """# who may do what
reader-0123456789abcdef   read
buyer-0123456789abcdef\tread,order   # the shop
chief-0123456789abcdef    read,order,admin
"""


def bearer(name):
    return {"Authorization": f"Bearer {name}-0123456789abcdef"}


def test_tokens_and_scopes(world, tmp_path):
    world.stock(a={"x": 10})
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    bridge = world.ready_bridge("--roles=http", HTTP_TOKENS_FILE=str(tokens))

    def status(method, path, headers=None, **more):
        return requests.request(method, bridge.url + path, headers=headers, timeout=PATIENCE_S, **more).status_code

    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert status("GET", path) == 200
    for headers in (None, bearer("nobody"), {"Authorization": "Bearer "}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer reader-0123456789abcde"},
                    {"Authorization": "Bearer reader-0123456789abcdef0"}, {"Authorization": "Bearer " + "x" * 5000}):
        answer = requests.get(f"{bridge.url}/products", headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer") and answer.json()["field"] == "Authorization"
    assert status("GET", "/products", bearer("reader")) == 200
    answer = requests.post(f"{bridge.url}/order", json=ORDER, headers=bearer("reader"), timeout=PATIENCE_S)
    assert answer.status_code == 403 and 'scope="order"' in answer.headers["WWW-Authenticate"]
    assert world.statuses() == {}
    assert status("POST", "/order", bearer("buyer"), json=ORDER) == 201
    assert status("POST", "/vendors/sync", bearer("buyer")) == 403
    assert status("POST", "/vendors/sync", bearer("chief")) == 200
    assert status("GET", "/metrics", bearer("reader")) == 200

    tokens.write_text("later-0123456789abcdef read\n")
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: status("GET", "/products", bearer("later")) == 200, what="the new token")
    assert status("GET", "/products", bearer("reader")) == 401
    tokens.write_text("short read\n")
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: bridge.logged("the tokens stay as they were"), what="the bad file to be refused")
    assert status("GET", "/products", bearer("later")) == 200
    tokens.unlink()
    tokens.mkdir()
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: bridge.logged("HTTP_TOKENS_FILE: cannot read"), what="the folder to be refused")
    assert status("GET", "/products", bearer("later")) == 200


def test_a_revoked_token_hears_nothing_more(world, tmp_path):
    world.stock(a={"x": 10})
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS + "clerk-0123456789abcdef read\n")
    bridge = world.ready_bridge("--roles=http", HTTP_TOKENS_FILE=str(tokens))
    revoked, narrowed, kept = [EventSource(bridge, headers=bearer(name)) for name in ("reader", "clerk", "buyer")]
    assert world.place(1) == 1
    last = {source.next(1)[0][0] for source in (revoked, narrowed, kept)}
    assert len(last) == 1

    tokens.write_text("clerk-0123456789abcdef order\nbuyer-0123456789abcdef read\n")
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: bridge.logged("2 bearer tokens read"), what="the tokens to be read again")
    assert world.place(1) == 1
    assert kept.next(1)[0][1] == "order.placed.a"       # on the same stream
    for source in (revoked, narrowed):
        with pytest.raises((StopIteration, requests.RequestException)):
            source.next(1)
    wait_until(lambda: requests.get(f"{bridge.url}/metrics", headers=bearer("buyer"), timeout=PATIENCE_S).text.count("order_bridge_listeners 1\n") == 1,
               what="their places to be free")
    assert EventSource(bridge, *last, headers=bearer("reader")).answer.status_code == 401
    assert EventSource(bridge, *last, headers=bearer("clerk")).answer.status_code == 403


def test_beyond_loopback_only_with_tokens_or_by_name(world, tmp_path):
    result = world.command("run", "--roles=http", "--http-listen=0.0.0.0")
    assert result.returncode == 64 and "HTTP_TOKENS_FILE" in result.stderr
    world.ready_bridge("--roles=http", HTTP_LISTEN="0.0.0.0", HTTP_WITHOUT_TOKENS="yes")
    for text in ("short read\n", "long-enough-0123456789\n", "long-enough-0123456789 everything\n"):
        (tmp_path / "tokens").write_text(text)
        bridge = world.bridge("--roles=relay", HTTP_TOKENS_FILE=str(tmp_path / "tokens"))
        wait_until(lambda: bridge.logged("info relay connected to PostgreSQL"), what="a bridge that needs no tokens")
        bridge.stop()
        result = world.command("run", "--roles=http", f"--http-tokens-file={tmp_path / 'tokens'}")
        assert result.returncode == 64 and "line 1" in result.stderr, text


# ---- comforts ----

def test_etag_of_products(shop):
    first = requests.get(f"{shop.shop.url}/products", timeout=PATIENCE_S)
    assert first.headers["ETag"].startswith('"')
    again = requests.get(f"{shop.shop.url}/products", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'}, timeout=PATIENCE_S)
    assert again.status_code == 304 and again.content == b"" and again.headers["ETag"] == first.headers["ETag"]
    assert requests.get(f"{shop.shop.url}/products", headers={"If-None-Match": "*"}, timeout=PATIENCE_S).status_code == 304
    shop.place(1)
    changed = requests.get(f"{shop.shop.url}/products", headers={"If-None-Match": first.headers["ETag"]}, timeout=PATIENCE_S)
    assert changed.status_code == 200 and changed.headers["ETag"] != first.headers["ETag"]


def test_access_log_is_one_structured_line_a_request(shop):
    requests.post(f"{shop.shop.url}/order", json=ORDER, headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, timeout=PATIENCE_S)
    raw(shop.shop, b"GET /a%20b\"c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    wait_until(lambda: shop.shop.logged("path=/a%20b%22c status=404"), what="the line")
    assert re.search(r"request client=127\.0\.0\.1 method=POST path=/order status=201 bytes=\d+ us=\d+ traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
                     shop.shop.log_path.read_text())


def test_traceparent_goes_from_the_request_to_event_and_reply(world):
    world.stock(a={"x": 10})
    queue = world.listen("order.placed.a", "order.confirmed")
    world.vendors()
    bridge = world.ready_bridge()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    requests.post(f"{bridge.url}/order", json=ORDER, headers={"traceparent": trace}, timeout=PATIENCE_S)
    wait_until(lambda: world.depth(queue) == 2, what="both events")
    assert [properties.headers["traceparent"] for properties, _, _ in world.take(queue)] == [trace, trace]


def test_what_a_request_changes_has_its_traceparent(world):
    world.stock(a={"x": 10})
    queue = world.listen("order.cancelled", "order.returned")
    traces = [f"00-0af7651916cd43dd8448eb211c80319c-{n:016x}-01" for n in range(4)]
    orders = [world.value("SELECT order_id FROM order_aggregator.place_orders(jsonb_build_array(jsonb_build_object('productId', 'x', 'quantity', 1, 'traceparent', %s::text)))", traces[0])
              for _ in range(4)]
    world.value("SELECT order_aggregator.confirm_order(%s)", orders[0])
    bridge = world.ready_bridge("--roles=http,relay")
    for order, action, trace in ((orders[0], "return", traces[1]), (orders[1], "cancel", traces[2]), (orders[2], "cancel", "none, \u00fc"), (orders[3], "cancel", None)):
        headers = {} if trace is None else {"traceparent": trace.encode()}
        assert requests.post(f"{bridge.url}/order/{order}/{action}", headers=headers, timeout=PATIENCE_S).status_code in (200, 201)
    wait_until(lambda: world.depth(queue) == 4, what="the events")
    assert [properties.headers["traceparent"] for properties, _, _ in world.take(queue)] == [traces[1], traces[2], traces[0], traces[0]]


# ---- the API's own description ----

def json_schema(description):
    """OpenAPI 3.0 says nullable where JSON Schema has a type more."""
    if isinstance(description, list):
        return [json_schema(part) for part in description]
    if not isinstance(description, dict):
        return description
    schema = {name: json_schema(part) for name, part in description.items()}
    if schema.pop("nullable", False) is True and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema


def check_schema(schema, value, document, where):
    problems = list(jsonschema.Draft202012Validator({**json_schema(schema), "components": json_schema(document["components"])}).iter_errors(value))
    assert not problems, f"{where}: {problems[0].message} at {list(problems[0].absolute_path)}"


def test_openapi_describes_every_route_and_real_answers(shop):
    document = requests.get(f"{shop.shop.url}/openapi.json", timeout=PATIENCE_S).json()
    source = (TOP / "bridge" / "src" / "http" / "routes.c").read_text()
    routes = set(re.findall(r'\{"(GET|POST)", "(/[^"]*)", SCOPE', source))
    described = {(method.upper(), re.sub(r"\{[^}]*\}", "%", path)) for path, methods in document["paths"].items() for method in methods if method in ("get", "post")}
    assert routes == described and len(routes) > 10

    def check(method, path, template, **more):
        answer = requests.request(method, shop.shop.url + path, timeout=PATIENCE_S, **more)
        responses = document["paths"][template][method.lower()]["responses"]
        response = responses.get(str(answer.status_code)) or responses["default"]
        while "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        kind = answer.headers["Content-Type"].split(";")[0]
        assert kind in response["content"], f"{method} {path} {answer.status_code}: {kind}"
        if "json" in kind:
            check_schema(response["content"][kind].get("schema", {}), answer.json(), document, f"{method} {path} {answer.status_code}")
        return answer

    shop.db.execute("""SELECT order_aggregator.sync_vendor_stock('a', '[{"id": "x", "quantity": 1000000, "price": 1}, {"id": "unpriced", "quantity": 1}]')""")
    assert check("POST", "/order", "/order", json=ORDER).status_code == 201
    assert check("POST", "/order", "/order", json={"productId": "x", "quantity": 0}).status_code == 400
    assert check("POST", "/order", "/order", json={"productId": "nope", "quantity": 1}).status_code == 404
    assert check("POST", "/order", "/order", json={"productId": "x", "quantity": 10000000}).status_code == 409
    assert check("POST", "/order", "/order", data="x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert check("GET", "/order/1", "/order/{id}").status_code == 200
    assert check("GET", "/order/99", "/order/{id}").status_code == 404
    assert check("POST", "/order/1/cancel", "/order/{id}/cancel").status_code == 200
    assert check("POST", "/order/1/cancel", "/order/{id}/cancel").status_code == 409
    for path, template in (("/products", "/products"), ("/products/x", "/products/{id}"), ("/products/unpriced", "/products/{id}"), ("/vendors", "/vendors"), ("/healthz", "/healthz"),
                           ("/readyz", "/readyz"), ("/metrics", "/metrics"), ("/vendorSync", "/vendorSync")):
        assert check("GET", path, template).status_code == 200
    assert check("POST", "/vendors/sync", "/vendors/sync").status_code == 200
    assert check("POST", "/vendors/a/sync", "/vendors/{id}/sync").status_code == 404


# ---- hostile clients ----

def test_one_address_has_so_many_connections(shop):
    bridge = shop.ready_bridge("--roles=http", CONNECTIONS_PER_ADDRESS_MAX="5")

    def answers():
        sockets, found = [socket.create_connection(("127.0.0.1", bridge.port)) for _ in range(10)], []
        for s in sockets:
            s.settimeout(5)
            try:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                found.append(s.recv(1024)[:15])
            except OSError:
                found.append(b"")
        for s in sockets:
            s.close()
        assert found.count(b"HTTP/1.1 200 OK") <= 5 and set(found) == {b"", b"HTTP/1.1 200 OK"}
        return found
    # the connection that asked whether it is ready may be there for a moment yet, and counts
    wait_until(lambda: answers().count(b"HTTP/1.1 200 OK") == 5, what="five connections that are served")


def order_head(length, more=b""):
    return b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (length, more)


BODY = json.dumps(ORDER).encode()


def test_raw_bytes(shop):
    bridge = shop.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="4")
    close = b"Connection: close\r\n"
    assert statuses(raw(bridge, order_head(len(BODY), close) + BODY)) == [201]
    # pipelined: every one answered, in order
    assert statuses(raw(bridge, (order_head(len(BODY)) + BODY) * 5 + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [201] * 5 + [200]
    # chunked
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:7], BODY[7:])) + b"0\r\n\r\n"
    head = b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert statuses(raw(bridge, head + chunks)) == [201]
    assert shop.statuses() == {"pending": 7}
    # cut off in the middle, malformed chunks, two lengths, no such method or version: nothing is placed, nothing crashes
    for data in (order_head(len(BODY)) + BODY[:9], order_head(1000) + BODY, head + b"zz\r\n{}\r\n", head + b"ffffffffffffffffff\r\n", b"\x00" * 100, b"\r\n" * 50,
                 b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
                 b"BREW /order HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"GET /products HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", bytes(range(256)) * 4,
                 order_head(6, close) + b"\xff\xfe{}\xc3\x28", order_head(2, close) + b"[]", order_head(4, close) + b"null"):
        assert set(statuses(raw(bridge, data, is_all=True))) <= {400, 404, 405, 413, 415, 501, 505}, data[:60]
    # heads that are too large
    assert statuses(raw(bridge, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"y" * 60000 + b"\r\n\r\n"))[:1] in ([431], [413], [400])
    assert statuses(raw(bridge, b"GET /" + b"z" * 6000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [414]
    assert statuses(raw(bridge, order_head(2_000_000)))[:1] == [413]
    assert requests.get(f"{bridge.url}/healthz", timeout=PATIENCE_S).status_code == 200
    assert shop.statuses() == {"pending": 7}
    shop.consistent()


def test_2000_clients_of_a_byte_a_second_do_not_stop_an_ordinary_one(world):
    world.stock(a={"x": 1000000})
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="4")
    data, sent, orders, next_byte = order_head(len(BODY)) + BODY, 0, 0, 0

    def is_closed(s):
        s.setblocking(False)
        try:
            return s.recv(1024) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    with many_files(2500):
        slow = [socket.create_connection(("127.0.0.1", bridge.port)) for _ in range(2000)]
        # until the last one's time is over; none is waited for longer than a request may take
        while not all(is_closed(s) for s in slow):
            if time.monotonic() >= next_byte:
                next_byte = time.monotonic() + 1
                for s in slow:
                    try:
                        s.send(data[sent:sent + 1])
                    except OSError:
                        pass
                sent += 1
                assert sent < len(data), "they were given the time for a whole request"
            assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201
            orders += 1
        for s in slow:
            s.close()
    assert orders > 10 and world.statuses() == {"pending": orders}


def test_10000_connections_are_refused_politely(world):
    world.stock(a={"x": 1000})
    bridge = world.ready_bridge("--roles=http", CONNECTIONS_MAX="500", CONNECTIONS_PER_ADDRESS_MAX="5000", REQUEST_TIMEOUT_S="120")
    held, answers = [], []
    with many_files(12000):
        for _ in range(10000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", bridge.port))
            held.append(s)
        for s in held[600:900:50]:
            s.setblocking(True)
            s.settimeout(5)
            try:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                answers += statuses(s.recv(4096))
            except OSError:
                pass
        assert answers and set(answers) == {503}, answers
        for s in held:
            s.close()
    assert bridge.process.poll() is None
    wait_until(lambda: requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201, what="an ordinary client to be served again")


def test_metrics_have_histograms_and_the_dashboard_knows_them(world):
    world.stock(a={"x": 100})
    world.vendors()
    bridge = world.ready_bridge()
    world.db.execute("SELECT order_aggregator.publish_event('nobody.listens', '{}', '{}', true)")
    world.reply("{}")
    for _ in range(5):
        assert requests.post(f"{bridge.url}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201
    wait_until(lambda: world.statuses() == {"confirmed": 5}, what="the orders")

    def metrics():
        text = requests.get(f"{bridge.url}/metrics", timeout=PATIENCE_S).text
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}

    wait_until(lambda: metrics()["order_bridge_placed_to_confirmed_seconds_count"] == 5, what="the relay to see them")
    wait_until(lambda: metrics()["order_bridge_parked_events"] == 1 == metrics()["order_bridge_dead_letters"], what="the gauges")
    found = metrics()
    assert found["order_bridge_placed_to_published_seconds_count"] == 5
    assert found["order_bridge_place_batch_orders_sum"] >= 5       # more if one of them met a lock and was tried again
    assert 0 < found["order_bridge_placed_to_confirmed_seconds_sum"] < 50
    for name in {name.split("{")[0].removesuffix("_bucket") for name in found if "_bucket{" in name}:
        values = [value for key, value in found.items() if key.startswith(f"{name}_bucket")]
        assert values == sorted(values) and values[-1] == found[f"{name}_count"], name
    for name in re.findall(r"order_bridge_\w+", (TOP / "docs" / "grafana.json").read_text() + (TOP / "docs" / "alerts.yml").read_text()):
        assert name in {key.split("{")[0] for key in found}, name


def test_what_counts_as_refused_and_what_as_an_error(world):
    """An answer of /readyz is neither; whatever else is answered with 503 is refused."""
    bridge = world.bridge("--roles=http,relay", RABBITMQ_URL="amqp://127.0.0.1:1/", LISTENERS_MAX="1").wait_for("/healthz")
    assert [requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code for _ in range(3)] == [503] * 3
    answers = {role: requests.get(f"{bridge.url}/readyz?role={role}", timeout=PATIENCE_S).status_code for role in ("relay", "sync", "nobody", "")}
    assert answers == {"relay": 503, "sync": 503, "nobody": 400, "": 400}
    wait_until(lambda: requests.get(f"{bridge.url}/readyz?role=http", timeout=PATIENCE_S).status_code == 200, what="the role that can work")
    assert (bridge.metric("http_refused_total"), bridge.metric("http_server_errors_total")) == (0, 0)
    with requests.get(f"{bridge.url}/events", stream=True, timeout=PATIENCE_S) as first:
        assert first.status_code == 200
        assert requests.get(f"{bridge.url}/events", timeout=PATIENCE_S).status_code == 503
    assert (bridge.metric("http_refused_total"), bridge.metric("http_server_errors_total")) == (1, 1)


def test_events_that_nobody_has_ever_relayed_grow_old(world):
    began = time.monotonic()
    world.stock(a={"x": 100})
    bridge = world.ready_bridge("--roles=http,housekeeping")
    assert bridge.metric("outbox_backlog_seconds") <= round(time.monotonic() - began)
    world.place(3)
    wait_until(lambda: bridge.metric("outbox_backlog_events") >= 3, what="the events")
    wait_until(lambda: bridge.metric("outbox_backlog_seconds") >= 1, what="their age")


# ---- server-sent events ----

class EventSource:
    """Reads GET /events as a browser would."""

    def __init__(self, bridge, last_event_id=None, headers=None):
        resume = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        self.answer = requests.get(f"{bridge.url}/events", headers={**resume, **(headers or {})}, stream=True, timeout=PATIENCE_S)
        self.lines = self.answer.iter_lines(chunk_size=65536)
        self.begins_after = next(self.lines) if self.answer.status_code == 200 else None

    def next(self, count, seconds=PATIENCE_S):
        """The next events, as (id, event, data); heartbeats alone do not make it wait for ever."""
        found, event, deadline = [], {}, time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} events after {seconds} s"
            line = next(self.lines).decode()
            if line == "" and "data" in event:
                found.append((int(event["id"]), event["event"], json.loads(event["data"])))
                event = {}
            elif ": " in line:
                name, value = line.split(": ", 1)
                event[name] = value
        return found


@pytest.mark.skipif(SANITIZED, reason="memory under a sanitizer says nothing")
def test_listeners_have_an_event_in_common(world):
    bridge = world.ready_bridge("--roles=http", LISTENERS_MAX="100", LISTENERS_PER_ADDRESS_MAX="100")
    silent, reader = [EventSource(bridge) for _ in range(60)], EventSource(bridge)
    before = bridge.memory_kb()
    big = world.value("SELECT order_aggregator.publish_event('big', to_jsonb(repeat('x', 5000000)))")
    assert reader.next(1)[0][0] == big
    assert bridge.memory_kb() - before < 60_000
    assert [source.next(1)[0][0] for source in silent[:2]] == [big] * 2


def test_a_listener_that_changes_bridges_has_no_gap(world):
    """It may have seen more than the other one, whose looks at what is settled are some way behind."""
    first, second = [world.ready_bridge("--roles=http") for _ in range(2)]
    source, _ = EventSource(first), EventSource(second)
    for _ in range(20):
        with psycopg.connect(world.url) as running:
            running.execute("SELECT pg_current_xact_id()")
            time.sleep(0.2)     # a look or two: from now on both wait for its end
            second.process.send_signal(signal.SIGSTOP)
            world.db.execute("SELECT order_aggregator.publish_event('n', '{}')")
        seen = source.next(1)[0][0]
        with socket.create_connection(("127.0.0.1", second.port), timeout=PATIENCE_S) as client:
            client.sendall(f"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {seen}\r\n\r\n".encode())
            second.process.send_signal(signal.SIGCONT)
            greeting = b""
            while b"retry: 1000\n" not in greeting or not greeting.endswith(b"\n\r\n"):     # the end of a chunk
                greeting += client.recv(4096)
        assert f"id: {seen}\nretry: 1000\n\n".encode() in greeting, greeting


def test_events_are_streamed_in_order_and_resumed_from_history(world):
    world.stock(a={"x": 1000, "y": 10})
    bridge = world.ready_bridge("--roles=http", LISTENERS_MAX="3")
    first, second = EventSource(bridge), EventSource(bridge)
    assert first.answer.status_code == 200 and first.answer.headers["Content-Type"] == "text/event-stream"
    with psycopg.connect(world.url) as late:
        late.execute("SELECT order_aggregator.place_order('late', '[{\"productId\": \"y\", \"quantity\": 1}]')")
        world.place(3)
        time.sleep(0.5)     # time for the listeners to go wrong
        late.commit()       # a lower id that is committed later comes first all the same
    world.place(200)
    events = first.next(204)
    assert events == second.next(204) and [event for _, event, _ in events] == ["order.placed.a"] * 204
    ids = [number for number, _, _ in events]
    assert ids == sorted(ids) and [data["orderId"] for _, _, data in events] == list(range(1, 205))
    again = EventSource(bridge, ids[99])
    assert again.next(104) == events[100:]
    big = world.db.execute("SELECT order_aggregator.publish_event('big', to_jsonb(repeat('x', 6000000)))").fetchone()[0]
    assert [source.next(1)[0][0] for source in (first, again)] == [big, big]
    refused = requests.get(f"{bridge.url}/events", timeout=PATIENCE_S)
    assert refused.status_code == 503 and refused.headers["Retry-After"] == "5"
    assert requests.get(f"{bridge.url}/events", headers={"Last-Event-ID": "x"}, timeout=PATIENCE_S).status_code == 400
    assert "order_bridge_listeners 3" in requests.get(f"{bridge.url}/metrics", timeout=PATIENCE_S).text
    world.db.execute("SELECT order_aggregator.cancel_order(1, 'no')")
    assert [event for _, event, _ in again.next(2)] == ["order.cancelled.a", "order.cancelled"]
    for source in (first, second):
        source.answer.close()
    wait_until(lambda: "order_bridge_listeners 1" in requests.get(f"{bridge.url}/metrics", timeout=PATIENCE_S).text, what="the ones that left to be noticed")
    # a database that went back: its next events have ids that were seen before
    wait_until(lambda: world.value("SELECT count(*) FROM pg_locks WHERE virtualxid IS NOT NULL AND pid <> pg_backend_pid()") == 0, what="nobody to be at work")
    world.db.execute("SELECT setval('order_aggregator.event_id_seq', 5000)")
    ahead = EventSource(bridge)
    assert ahead.begins_after == b"id: 5000"
    world.db.execute(f"SELECT setval('order_aggregator.event_id_seq', {world.value('SELECT max(event_id) FROM order_aggregator.outbox')})")
    world.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'order-bridge listeners' AND datname = current_database()")
    lines = iter(lambda: next(ahead.lines), b"event: gap")
    assert b"retry: 1000" in list(lines)
    assert next(ahead.lines).startswith(b"data: ") and next(ahead.lines) == b""
    world.db.execute("SELECT order_aggregator.publish_event('anew', '{}')")
    assert ahead.next(1)[0][1] == "anew" and [event for _, event, _ in again.next(2)] == ["gap", "anew"]
    ahead.answer.close()
    beyond = EventSource(bridge, 99999)
    assert [next(beyond.lines) for _ in range(2)] == [b"retry: 1000", b"event: gap"]
    bridge.stop()
    with pytest.raises((StopIteration, requests.RequestException)):
        again.next(1)
