"""The sync role against good, bad and hostile vendors."""

import concurrent.futures
import datetime
import email.utils
import functools
import gzip
import http.server
import itertools
import json
import random
import signal
import ssl
import subprocess
import threading
import time

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, SANITIZED, preloaded, wait_until

HALF = b" " * 200_000
TINY = b"id,quantity\n" + b"abcd,1\n" * 280_000
GOOD = json.dumps([{"id": "x", "name": "X", "quantity": 5, "price": 2.5}]).encode()


@functools.cache
def bomb():
    return gzip.compress(b"[" + b" " * 300_000_000)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: the hostile ones below, and whatever a test puts into pages: path -> (body, headers)."""

    protocol_version = "HTTP/1.1"
    seen, pages, drip2_seconds, is_over = [], {}, 0, threading.Event()
    away = ""
    halves, late_headers, asked_at = threading.Semaphore(0), {}, 0

    def answer(self, status, body, **headers):
        self.send_response_only(status)
        for name, value in {"Date": self.date_time_string(), **{name.replace("_", "-"): value for name, value in headers.items()}}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, pieces, pause=0):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(piece)
                time.sleep(pause)
        except OSError:
            pass
        self.close_connection = True

    def do_GET(self):
        Handler.seen.append((self.path, dict(self.headers)))
        if self.path in Handler.pages:
            body, headers = Handler.pages[self.path]
            self.answer(200, body if isinstance(body, bytes) else json.dumps(body).encode(), **headers)
        elif self.path == "/good":
            if self.headers.get("If-None-Match") == '"v1"':
                self.answer(304, b"")
            else:
                self.answer(200, GOOD, ETag='"v1"')
        elif self.path == "/html":
            self.answer(200, b"<html>sorry</html>", Content_Type="text/html")
        elif self.path == "/object":
            self.answer(200, b'{"products": []}')
        elif self.path == "/types":
            self.answer(200, b'[[], "x", {"id": {"a": 1}, "quantity": 5}, {"id": "y", "quantity": [5]}, {"id": "z", "quantity": true}, {"id": 7, "quantity": 1},'
                             b' {"id": "t1", "quantity": 0}, {"id": "t2", "quantity": 0}, {"id": "t3", "quantity": 0}, {"id": "t4", "quantity": 0}, {"id": "t5", "quantity": 0}, {"id": "t6", "quantity": 0}]')
        elif self.path == "/empty":
            self.answer(200, b"")
        elif self.path == "/charset":
            self.answer(200, GOOD, Content_Type="application/json; charset=\xff\xfe")
        elif self.path == "/cut":
            self.answer(200, GOOD[:-1])
        elif self.path == "/error":
            self.answer(500, b"[]")
        elif self.path == "/unasked":
            self.answer(304, b"")
        elif self.path == "/paged":
            self.answer(200, GOOD, Link='</paged?page=2>; rel="next", </paged?page=9>; rel="last"')
        elif self.path == "/redirect":
            self.answer(302, b"", Location="/good")
        elif self.path == "/away":
            self.answer(302, b"", Location=Handler.away)
        elif self.path == "/nested":
            self.stream(b"[" * 65536 for _ in range(16384))     # a gigabyte
        elif self.path == "/nested-objects":
            self.stream([b"[", *[b'{"id":' * 10000] * 100])
        elif self.path == "/large":
            self.answer(200, b"[" + b" " * 3_000_000 + b"]")
        elif self.path == "/nul":
            self.answer(200, b'[{"id": "x", "quantity": 500, "price": 1}]\0[')
        elif self.path == "/bomb":
            self.answer(200, bomb(), **{"Content-Encoding": "gzip"})
        elif self.path == "/endless":
            self.stream(b" " * 65536 for _ in range(1 << 20))
        elif self.path == "/drip":
            self.stream(itertools.repeat(b" "), pause=0.2)
        elif self.path == "/drip2":
            time.sleep(Handler.drip2_seconds)
            self.answer(200, GOOD)
        elif self.path == "/late":
            Handler.asked_at = time.time()
            time.sleep(1)
            self.answer(200, GOOD, **Handler.late_headers)
        elif self.path.startswith("/half-"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(HALF) * 2))
            self.end_headers()
            self.wfile.write(b"[" + HALF[1:])
            Handler.halves.release()
            Handler.is_over.wait()
            self.wfile.write(HALF[:-1] + b"]")
        elif self.path.startswith("/tiny-"):
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            self.send_header("Content-Length", str(len(TINY) + 1))
            self.end_headers()
            self.wfile.write(TINY)      # which may have to wait
            Handler.is_over.wait()
        elif self.path == "/slow":
            Handler.is_over.wait()
        else:
            self.answer(404, b"")

    def log_message(self, *words):
        pass


@pytest.fixture
def feeds():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.seen.clear()
    Handler.pages.clear()
    Handler.is_over.clear()
    Handler.late_headers = {}
    yield f"http://127.0.0.1:{server.server_port}"
    Handler.is_over.set()
    server.shutdown()


BAD = {"bomb": "the feed is larger than FEED_BYTES_MAX", "cut": "the feed is not JSON: parse error: premature EOF", "empty": "the feed is empty",
       "endless": "the feed is larger than FEED_BYTES_MAX", "error": "the vendor answered with status 500", "gone": "Failed to connect",
       "html": "the feed is not JSON: lexical error", "large": "the feed is larger than FEED_BYTES_MAX", "nested": "the feed is nested too deep",
       "nested-objects": "the feed is nested too deep", "nul": "the feed is not JSON: parse error: trailing garbage", "object": "the feed is not a JSON array",
       "paged": "the feed goes on in a next page (Link: rel=next): pages are not followed", "redirect": "the vendor answered with status 302",
       "unasked": "the vendor answered with status 304 to a question without a condition"}


def test_a_bad_vendor_harms_nothing_but_its_own_entry(world, feeds):
    bomb()
    for name in ["good", "types", *BAD]:
        world.db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)", [name, name, f"{feeds}/{name}"])
    world.db.execute("UPDATE order_aggregator.vendor SET stock_url = 'http://127.0.0.1:1/stock' WHERE vendor_id = 'gone'")
    bridge = world.ready_bridge("--roles=http", FEED_BYTES_MAX="1000000", SYNC_TIMEOUT_S=str(PATIENCE_S), REQUEST_TIMEOUT_S=str(2 * PATIENCE_S))
    results = {r["vendorId"]: r for r in requests.post(f"{bridge.url}/vendors/sync", timeout=2 * PATIENCE_S).json()["results"]}
    assert results["good"]["error"] is None
    assert (results["types"]["status"], results["types"]["items"]) == ("applied", 12)
    skipped = requests.get(f"{bridge.url}/vendors/types/syncs", timeout=PATIENCE_S).json()["syncs"][0]["skipped"]
    assert sorted((item["index"], item["rule"]) for item in skipped) == [
        (0, "not_an_object"), (1, "not_an_object"), (2, "id_unreadable"), (3, "quantity_unreadable"),
        (4, "quantity_unreadable"), (5, "id_unreadable")]
    assert SANITIZED or bridge.memory_kb() < 200_000, f"{bridge.memory_kb()} kB"
    for name, error in BAD.items():
        assert results[name]["status"] == "failed" and results[name]["error"].startswith(error), (name, results[name])
    stock = requests.get(f"{bridge.url}/products", timeout=PATIENCE_S).json()["data"]
    assert [(p["id"], p["quantity"], p["price"]) for p in stock if p["vendorId"] == "good"] == [("x", 5, "2.50")]
    assert {(p["price"], p["isPriced"], p["quantity"]) for p in stock if p["vendorId"] == "types"} == {(None, False, 0)}
    vendors = {v["id"]: v["lastSync"] for v in requests.get(f"{bridge.url}/vendors", timeout=PATIENCE_S).json()}
    assert vendors["error"]["error"] == "the vendor answered with status 500"
    assert bridge.process.poll() is None


def test_whatever_bytes_an_error_quotes_it_is_written_down(world, feeds):
    register(world, feeds, "charset")
    bridge = world.ready_bridge("--roles=http")
    error = 'the feed\'s charset "\\xff\\xfe" is not known'
    assert sync(bridge, "charset") == {"vendorId": "charset", "status": "failed", "items": None, "error": error}
    assert world.value("SELECT sync_failures FROM order_aggregator.vendor") == 1
    assert requests.get(f"{bridge.url}/vendors", timeout=PATIENCE_S).json()[0]["lastSync"]["error"] == error
    assert world.command("sync").returncode == 1


def test_a_pull_by_hand_that_is_cut_off_by_a_stop_is_not_done(world, feeds):
    register(world, feeds, "good", "slow")
    bridge = world.ready_bridge("--roles=http", SYNC_TIMEOUT_S=str(PATIENCE_S), REQUEST_TIMEOUT_S=str(PATIENCE_S))
    with concurrent.futures.ThreadPoolExecutor() as clients:
        answers = [clients.submit(requests.post, f"{bridge.url}/{path}", timeout=PATIENCE_S) for path in ("vendors/slow/sync", "vendors/sync")]
        wait_until(lambda: sum(path == "/slow" for path, _ in Handler.seen) == 2, what="both pulls")
        bridge.stop()
        assert [answer.result().status_code for answer in answers] == [503, 503]


def test_a_feed_by_hand_that_a_stop_leaves_half_applied_is_given_up(world, feeds):
    """It would go on running for whoever pulls next, and is no call that has changed nothing."""
    Handler.pages["/many"] = ([{"id": f"p{n:05}", "quantity": 1} for n in range(5000)], {})
    register(world, feeds, "many")
    bridge = world.ready_bridge("--roles=http", SYNC_TIMEOUT_S=str(PATIENCE_S), REQUEST_TIMEOUT_S=str(PATIENCE_S))
    with psycopg.connect(world.url) as other, concurrent.futures.ThreadPoolExecutor() as clients:
        other.execute("INSERT INTO order_aggregator.product (product_id, name) VALUES ('p03000', 'p03000')")    # its part has to wait
        answer = clients.submit(requests.post, f"{bridge.url}/vendors/many/sync", timeout=PATIENCE_S)
        wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.stock") > 0, what="a part of it")
        bridge.stop()
        assert answer.result().status_code == 503 and "nothing was changed" not in answer.result().text
        assert world.value("SELECT status FROM order_aggregator.feed_sync") == "failed"
        other.rollback()


def test_vendors_that_hang_keep_no_other_s_pull_by_hand_waiting(world, feeds):
    register(world, feeds, "good", "slow")
    bridge = world.ready_bridge("--roles=http", SYNC_TIMEOUT_S=str(PATIENCE_S), REQUEST_TIMEOUT_S=str(PATIENCE_S))
    with concurrent.futures.ThreadPoolExecutor() as clients:
        for _ in range(3):
            clients.submit(requests.post, f"{bridge.url}/vendors/slow/sync", timeout=PATIENCE_S)
        wait_until(lambda: sum(path == "/slow" for path, _ in Handler.seen) == 3, what="the pulls that hang")
        assert sync(bridge, "good")["status"] == "applied"
        bridge.stop()


def test_a_vendor_that_never_ends_is_given_up_and_the_others_are_not(world, feeds):
    register(world, feeds, "good", "slow", "drip")
    bridge = world.ready_bridge("--roles=http", SYNC_TIMEOUT_S="5", REQUEST_TIMEOUT_S=str(PATIENCE_S))
    results = {r["vendorId"]: r for r in requests.post(f"{bridge.url}/vendors/sync", timeout=PATIENCE_S).json()["results"]}
    assert (results["good"]["status"], results["slow"]["status"], results["drip"]["status"]) == ("applied", "failed", "failed")
    assert {results[name]["error"] for name in ("slow", "drip")} == {"the feed did not come whole within SYNC_TIMEOUT_S"}


def test_one_vendor_and_conditional_requests(world, feeds):
    world.db.execute("SELECT order_aggregator.register_vendor('good', 'good', %s)", [f"{feeds}/good"])
    bridge = world.ready_bridge("--roles=http")
    first = requests.post(f"{bridge.url}/vendors/good/sync", timeout=PATIENCE_S).json()["results"]
    second = requests.post(f"{bridge.url}/vendors/good/sync", timeout=PATIENCE_S).json()["results"]
    assert [first[0]["status"], second[0]["status"]] == ["applied", "unchanged"]
    assert requests.post(f"{bridge.url}/vendors/nobody/sync", timeout=PATIENCE_S).status_code == 404


def test_every_vendor_is_pulled_on_its_interval(world, feeds):
    world.db.execute("SELECT order_aggregator.register_vendor('good', 'good', %s)", [f"{feeds}/good"])
    world.db.execute("UPDATE order_aggregator.vendor SET sync_interval = '1 second'")
    world.ready_bridge("--roles=http,sync")
    wait_until(lambda: sum(path == "/good" for path, _ in Handler.seen) >= 3, what="three pulls")


def test_sync_as_a_command(world, feeds):
    world.db.execute("SELECT order_aggregator.register_vendor('good', 'good', %s)", [f"{feeds}/good"])
    result = world.command("sync")
    assert result.returncode == 0 and json.loads(result.stdout)[0]["items"] == 1
    world.db.execute("SELECT order_aggregator.register_vendor('bad', 'bad', %s)", [f"{feeds}/error"])
    assert world.command("sync").returncode == 1
    status = json.loads(world.command("status").stdout)
    assert [v["vendor_id"] for v in status["vendors"]] == ["bad", "good"]


def test_sync_as_a_command_tells_of_a_feed_that_is_held(world, feeds):
    Handler.pages["/emptied"] = ([{"id": f"p{n}", "quantity": 1} for n in range(20)], {})
    register(world, feeds, "emptied")
    assert world.command("sync").returncode == 0
    Handler.pages["/emptied"] = ([], {})
    assert world.command("sync").returncode == 1


def register(world, feeds, *pages, **mapping):
    """Registers vendors whose feeds are pages of those names."""
    for page in pages:
        world.db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)", [page, page, f"{feeds}/{page}"])
        if mapping:
            world.db.execute("SELECT order_aggregator.configure_vendor(%s, feed_mapping => %s)", [page, psycopg.types.json.Jsonb(mapping)])


def sync(bridge, vendor):
    return requests.post(f"{bridge.url}/vendors/{vendor}/sync", timeout=PATIENCE_S).json()["results"][0]


def stock(world, vendor):
    return world.db.execute("SELECT product_id, on_hand, price::float, is_active FROM order_aggregator.stock WHERE vendor_id = %s ORDER BY 1", [vendor]).fetchall()


def test_a_mapping_finds_what_is_nested(world, feeds):
    Handler.pages["/deep"] = ({"at": "2026-01-02T03:04:05Z", "data": {"count": 2, "products": [
        {"sku": 17, "stock": {"available": "5", "ordered": 9}, "cost": "1.50", "title": "Seventeen", "id": "no", "quantity": 99},
        {"sku": "b", "stock": {"available": 2}, "cost": 3, "tags": [{"sku": "inner", "stock": {"available": 1}}]},
        {"sku": "c", "stock": 4}], "next": None}}, {})
    register(world, feeds, "deep", items="$.data.products", id="sku", quantity="stock.available", price="cost", name="title", asOf="$.at")
    bridge = world.ready_bridge("--roles=http")
    assert sync(bridge, "deep") == {"vendorId": "deep", "status": "applied", "items": 3, "error": None}
    assert stock(world, "deep") == [("17", 5, 1.5, True), ("b", 2, 3.0, True)]
    assert world.value("SELECT name FROM order_aggregator.product WHERE product_id = '17'") == "Seventeen"
    assert world.value("SELECT as_of = '2026-01-02T03:04:05Z' FROM order_aggregator.feed_sync")
    assert world.value("SELECT skipped->0->>'rule' FROM order_aggregator.feed_sync") == "quantity_missing"
    # an array that is not where it should be, and a time that is none
    Handler.pages["/deep"] = ({"data": {"products": {"sku": "x"}}}, {})
    assert sync(bridge, "deep")["error"] == "there is no array where the items should be"
    Handler.pages["/deep"] = ({"at": "noon", "data": {"products": []}}, {})
    assert "noon" in sync(bridge, "deep")["error"]
    assert stock(world, "deep") == [("17", 5, 1.5, True), ("b", 2, 3.0, True)]


def test_csv(world, feeds):
    Handler.pages["/plain"] = ('\ufeffid,name,quantity,price\r\nx,"The ""X"", new",5,1.25\r\ny,,7,\r\nz,Z,many,1\r\n'.encode(), {"Content-Type": "text/csv; charset=utf-8"})
    Handler.pages["/mapped"] = ("sku;qty;unit.cost\nx;5;1.5\nu\u00e9;6;2\n".encode(), {})
    Handler.pages["/none"] = (b"<html>\n", {"Content-Type": "text/csv"})
    Handler.pages["/latin"] = (b"id,quantity\ncaf\xe9,5\nx,6\n", {"Content-Type": "text/csv"})
    register(world, feeds, "plain", "none", "latin")
    register(world, feeds, "mapped", format="csv", delimiter=";", id="sku", quantity="qty", price="unit.cost")
    bridge = world.ready_bridge("--roles=http")
    assert sync(bridge, "plain")["items"] == 3
    assert stock(world, "plain") == [("x", 5, 1.25, True), ("y", 7, 0.0, True)]
    assert world.value("SELECT name FROM order_aggregator.product WHERE product_id = 'x'") == 'The "X", new'
    assert sync(bridge, "mapped")["items"] == 2
    assert stock(world, "mapped") == [("u\u00e9", 6, 2.0, True), ("x", 5, 1.5, True)] or stock(world, "mapped") == [("x", 5, 1.5, True), ("u\u00e9", 6, 2.0, True)]
    assert sync(bridge, "none")["error"] == "the CSV has no column for the id"
    assert sync(bridge, "latin")["items"] == 2 and stock(world, "latin") == [("x", 6, 0.0, True)]


def test_the_time_of_the_count(world, feeds):
    """From the feed, its Last-Modified, its Date, the request; never from a clock that is ahead."""
    def http_date(ahead_s):
        return email.utils.formatdate(time.time() + ahead_s, usegmt=True)

    def age(headers):
        Handler.pages["/dated"] = ([{"id": "x", "quantity": 5}], headers)
        world.db.execute("UPDATE order_aggregator.vendor SET synced_as_of = NULL, feed_told_at = NULL")
        assert sync(bridge, "dated")["status"] == "applied"
        return world.value("SELECT extract(epoch FROM finished_at - as_of)::float FROM order_aggregator.feed_sync ORDER BY sync_id DESC LIMIT 1")

    register(world, feeds, "dated")
    bridge = world.ready_bridge("--roles=http")
    # an hour apart: no machine takes that long
    assert 3599 < age({"Last-Modified": http_date(-3600)}) < 7000
    assert 0 < age({}) < 3000                                       # the Date
    assert 3599 < age({"Date": http_date(-3600)}) < 7000            # a clock that is behind: too early harms nobody
    assert 0 < age({"Date": http_date(7200)}) < 3000
    assert 3599 < age({"Date": http_date(7200), "Last-Modified": http_date(3600)}) < 7000
    assert 0 < age({"Date": http_date(0), "Last-Modified": http_date(3600)}) < 3000
    world.db.execute("SELECT order_aggregator.configure_vendor('dated', feed_mapping => '{\"asOf\": \"$.at\", \"items\": \"$.items\"}')")
    Handler.pages["/dated"] = ({"items": [], "at": email.utils.format_datetime(email.utils.localtime())}, {})
    world.db.execute("UPDATE order_aggregator.vendor SET synced_as_of = NULL, feed_told_at = NULL")
    assert sync(bridge, "dated")["status"] == "held"
    assert sync(bridge, "dated")["status"] == "applied"
    # older than what was applied: it changes nothing
    Handler.pages["/dated"] = ({"items": [{"id": "x", "quantity": 1}], "at": "2020-01-01T00:00:00Z"}, {})
    assert sync(bridge, "dated") == {"vendorId": "dated", "status": "stale", "items": None, "error": None}
    assert stock(world, "dated") == [("x", 5, 0.0, False)]


def vendor(bridge, name):
    return next(v for v in requests.get(f"{bridge.url}/vendors", timeout=PATIENCE_S).json() if v["id"] == name)


def test_a_time_that_goes_back_is_a_failure_in_the_end(world, feeds):
    register(world, feeds, "dated")
    bridge = world.ready_bridge("--roles=http")

    def pull(quantity, modified):
        Handler.pages["/dated"] = ([{"id": "x", "quantity": quantity, "price": 1}], {"Last-Modified": modified})
        return sync(bridge, "dated")

    assert pull(5, "Thu, 01 Jan 2026 12:00:00 GMT")["status"] == "applied"
    assert [pull(4, "Thu, 01 Jan 2026 11:00:00 GMT")["status"] for _ in range(2)] == ["stale", "stale"]
    failed = pull(4, "Thu, 01 Jan 2026 11:00:00 GMT")
    assert failed["status"] == "failed" and failed["error"].startswith("the feed's time has gone back: it was counted at 2026-01-01T11:00:00.000000Z (Last-Modified)")
    assert vendor(bridge, "dated")["failures"] == 1 and stock(world, "dated")[0][1] == 5
    assert pull(4, "Thu, 01 Jan 2026 13:00:00 GMT")["status"] == "applied"


def test_a_time_that_stands_still_subtracts_what_was_confirmed_once(world, feeds):
    """Three units are confirmed, and the vendor counts them off: under the same Last-Modified."""
    register(world, feeds, "frozen")
    bridge = world.ready_bridge("--roles=http")

    def pull(quantity):
        Handler.pages["/frozen"] = ([{"id": "x", "quantity": quantity, "price": 1}], {"Last-Modified": "Thu, 01 Jan 2026 12:00:00 GMT"})
        assert sync(bridge, "frozen")["status"] == "applied"
        return stock(world, "frozen")[0][1]

    assert pull(10) == 10
    order = world.value("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 3}]')")
    world.db.execute("SELECT order_aggregator.confirm_order(%s)", [order])
    assert [pull(10), pull(10)] == [7, 7]       # the vendor does not know of them yet
    assert [pull(7), pull(7)] == [7, 7]         # now it does
    assert pull(6) == 6
    world.consistent()


def test_a_time_that_stands_still_ahead_of_ours_sells_nothing_twice(world, feeds):
    """Local time called GMT: the file is of noon, as it says, and it is ten o'clock."""
    register(world, feeds, "frozen")
    bridge = world.ready_bridge("--roles=http")
    modified = email.utils.formatdate(time.time() + 7200, usegmt=True)

    def pull(quantity):
        Handler.pages["/frozen"] = ([{"id": "x", "quantity": quantity, "price": 1}], {"Last-Modified": modified})
        assert sync(bridge, "frozen")["status"] == "applied"
        return stock(world, "frozen")[0][1]

    assert pull(10) == 10
    order = world.value("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 3}]')")
    world.db.execute("SELECT order_aggregator.confirm_order(%s)", [order])
    assert [pull(10), pull(10), pull(10)] == [7, 7, 7]
    assert [pull(7), pull(7)] == [7, 7]
    world.consistent()


def test_the_feed_s_own_time_goes_before_its_header_s(world, feeds):
    """A file that says when it was made, served with the date of its first day; only a time that cannot be yet is not believed."""
    register(world, feeds, "made")
    bridge = world.ready_bridge("--roles=http")
    world.db.execute("SELECT order_aggregator.configure_vendor('made', feed_mapping => '{\"asOf\": \"$.at\", \"items\": \"$.items\"}')")

    def pull(quantity, ahead_s):
        at = email.utils.format_datetime(email.utils.localtime() + datetime.timedelta(seconds=ahead_s))
        Handler.pages["/made"] = ({"items": [{"id": "x", "quantity": quantity, "price": 1}], "at": at}, {"Last-Modified": "Thu, 01 Jan 2026 12:00:00 GMT"})
        assert sync(bridge, "made")["status"] == "applied"
        return stock(world, "made")[0][1], world.value("SELECT as_of_rule FROM order_aggregator.feed_sync ORDER BY sync_id DESC LIMIT 1")

    assert pull(10, 3600) == (10, "Last-Modified")
    order = world.value("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 3}]')")
    world.db.execute("SELECT order_aggregator.confirm_order(%s)", [order])
    assert pull(10, -60) == (7, "asOf")
    world.db.execute("UPDATE order_aggregator.hold SET settled_at = settled_at - interval '1 hour'")
    assert pull(7, -60) == (7, "asOf")      # it was counted since
    world.consistent()


def test_what_was_changed_in_the_very_second_is_asked_for_anew(world, feeds):
    """Its time, and a tag made of its time, may stand for two files."""
    register(world, feeds, "young", "older", "hashed")
    bridge = world.ready_bridge("--roles=http")
    now = time.time()
    for name, age, tag in (("young", 0, '"6745a1b2-1f"'), ("older", 5, '"6745a1b2-1f"'), ("hashed", 0, '"a94a8fe5ccb19ba6"')):
        Handler.pages[f"/{name}"] = ([{"id": "x", "quantity": 9, "price": 1}],
                                     {"Date": email.utils.formatdate(now, usegmt=True), "Last-Modified": email.utils.formatdate(now - age, usegmt=True), "ETag": tag})
        for _ in range(2):
            assert sync(bridge, name)["status"] == "applied"
    asked = {path: headers for path, headers in Handler.seen}
    assert "If-Modified-Since" not in asked["/young"] and "If-None-Match" not in asked["/young"]
    assert "If-Modified-Since" in asked["/older"] and asked["/older"]["If-None-Match"] == '"6745a1b2-1f"'
    assert "If-Modified-Since" not in asked["/hashed"] and asked["/hashed"]["If-None-Match"] == '"a94a8fe5ccb19ba6"'


def test_a_long_text_in_pieces_is_read_once(world, feeds):
    """Pictures within the feed: each piece of one was read with all pieces before it, a minute for each of these; SYNC_TIMEOUT_S is 10 s."""
    register(world, feeds, "pictures")
    pictures = [{"id": f"p{n}", "quantity": n, "image": "a" * 30_000_000} for n in range(2)]
    Handler.pages["/pictures"] = (gzip.compress(json.dumps(pictures).encode()), {"Content-Encoding": "gzip"})
    bridge = world.ready_bridge("--roles=http")
    assert sync(bridge, "pictures")["status"] == "applied"
    assert [row[:2] for row in stock(world, "pictures")] == [("p0", 0), ("p1", 1)]


def test_what_was_asked_for_later_is_not_overtaken(world, feeds):
    register(world, feeds, "late")
    applied = "SELECT order_aggregator.begin_feed('late', now(), 'Date', %s, now() - make_interval(secs => %s), 1, 0, 1, '{x}', NULL, %s)"
    config = world.value("SELECT feed_config_no FROM order_aggregator.vendor")
    newer = world.value(applied, "b", 5, config)
    assert world.value(applied, "a", 9, config) is None         # while the newer one is under way
    world.value("SELECT order_aggregator.apply_feed_part(%s, NULL, NULL, '{0}', '{x}', '{NULL}', '{7}', '{1}', '{NULL}')", newer)
    assert world.value("SELECT order_aggregator.finish_feed(%s) ->> 'status'", newer) == "applied"
    assert world.value(applied, "a", 9, config) is None         # and after it
    overtaken = world.value("SELECT max(sync_id) FROM order_aggregator.feed_sync")
    world.db.execute("SELECT order_aggregator.record_feed_pull('late', %s, 'superseded', NULL, 5, '1 minute', NULL, %s)", [overtaken, config])
    assert world.value("SELECT last_sync_status FROM order_aggregator.vendor") == "applied"      # what became of the newer one
    assert [row[0] for row in world.db.execute("SELECT status FROM order_aggregator.feed_sync ORDER BY sync_id")] == ["applied", "superseded", "superseded"]
    assert world.value(applied, "c", 3600, config) is not None  # the clock of another bridge


def test_a_clock_that_is_ahead_and_a_time_that_stands_still_are_not_stale(world, feeds):
    """By how much the clock is ahead is known to a second only, and so the same time is another one each time."""
    register(world, feeds, "ahead")
    bridge = world.ready_bridge("--roles=http")

    def pull():
        Handler.pages["/ahead"] = ([{"id": "x", "quantity": 5, "price": 1}],
                                   {"Date": email.utils.formatdate(time.time() + 3, usegmt=True), "Last-Modified": "Thu, 01 Jan 2026 12:00:00 GMT"})
        time.sleep(0.15)        # another part of the second
        return sync(bridge, "ahead")["status"]

    assert {pull() for _ in range(12)} == {"applied"}


def test_what_was_pulled_before_a_change_is_not_applied_after_it_and_the_vendor_is_due_at_once(world, feeds):
    """Not only when the lease of the pull that was under way is over, which takes a minute more than a feed may."""
    register(world, feeds, "late")
    world.ready_bridge("--roles=http,sync", SYNC_TIMEOUT_S=str(2 * PATIENCE_S))
    wait_until(lambda: any(path == "/late" for path, _ in Handler.seen), what="the pull")
    world.db.execute("SELECT order_aggregator.configure_vendor('late', feed_mapping => '{\"price\": \"cost\"}')")
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.feed_sync WHERE status = 'applied'") == 1, what="the feed, as it is to be read")
    assert [row[0] for row in world.db.execute("SELECT status FROM order_aggregator.feed_sync ORDER BY sync_id")] == ["superseded", "applied"]
    assert world.value("SELECT is_priced FROM order_aggregator.stock") is False


def test_a_feed_that_lacks_almost_everything_is_held_back_and_seen(world, feeds):
    everything = [{"id": f"p{n:03}", "quantity": 5, "price": 1} for n in range(2000)]
    Handler.pages["/shop"] = (everything, {"ETag": '"whole"'})
    register(world, feeds, "shop")
    bridge = world.ready_bridge("--roles=http,housekeeping")
    assert sync(bridge, "shop")["status"] == "applied"
    # as many items, of which a sample says that almost none is known
    Handler.pages["/shop"] = ([{**item, "id": f"{item['id']}" if n < 100 else f"0{item['id']}"} for n, item in enumerate(everything)], {})
    held = sync(bridge, "shop")
    assert held["status"] == "held" and held["error"].startswith("held back: of 2000 offers the feed has 100;")
    assert world.value("SELECT count(*) FROM order_aggregator.stock WHERE is_active") == 2000
    assert vendor(bridge, "shop")["heldAt"] and vendor(bridge, "shop")["failures"] == 0 and vendor(bridge, "shop")["lastSync"]["status"] == "held"
    wait_until(lambda: bridge.metric("feeds_held") == 1, what="the gauge")
    assert requests.get(f"{bridge.url}/vendors/shop/syncs", timeout=PATIENCE_S).json()["syncs"][0]["error"] == held["error"]
    # the whole one again: nobody was hurt
    Handler.pages["/shop"] = (everything, {})
    assert sync(bridge, "shop")["status"] == "applied" and vendor(bridge, "shop")["heldAt"] is None
    # held once more, and said to be right
    Handler.pages["/shop"] = (everything[:1], {})
    assert sync(bridge, "shop")["status"] == "held"
    world.db.execute("SELECT order_aggregator.accept_feed('shop')")
    assert sync(bridge, "shop")["status"] == "applied"
    assert world.value("SELECT count(*) FROM order_aggregator.stock WHERE is_active") == 1


def test_offers_that_no_feed_confirms_are_not_sold_and_the_next_feed_brings_them_back(world, feeds):
    register(world, feeds, "good")
    bridge = world.ready_bridge("--roles=http,housekeeping,relay")
    world.db.execute("SELECT order_aggregator.configure_vendor('good', stale_after => '10 minutes')")
    assert sync(bridge, "good")["status"] == "applied"
    events = world.listen("stock.stale.*")
    world.db.execute("UPDATE order_aggregator.vendor SET confirmed_at = confirmed_at - interval '1 hour', stale_at = stale_at - interval '1 hour'")

    def order():
        return requests.post(f"{bridge.url}/order", json={"products": [{"productId": "x", "quantity": 1}]}, timeout=PATIENCE_S).status_code

    assert order() == 409 and vendor(bridge, "good")["isStale"]
    offer = requests.get(f"{bridge.url}/products/x", timeout=PATIENCE_S).json()["offers"][0]
    assert offer["available"] == 0 and offer["onHand"] == 5 and offer["confirmedAt"] == vendor(bridge, "good")["confirmedAt"]
    assert json.loads(wait_until(lambda: world.take(events), what="the event")[0][1])["vendorId"] == "good"
    wait_until(lambda: bridge.metric("vendors_stale") == 1, what="the gauge")
    # unchanged is as good as counted anew
    assert sync(bridge, "good")["status"] == "unchanged"
    assert not vendor(bridge, "good")["isStale"] and order() == 201
    wait_until(lambda: bridge.metric("vendors_stale") == 0, what="the gauge")


def test_all_feeds_together_have_so_much_memory(world, feeds):
    """Four of the largest, and one more that is furthest; the others wait, and none is given up for that."""
    register(world, feeds, *(f"half-{n:02}" for n in range(20)))
    bridge = world.ready_bridge("--roles=http,sync", FEED_BYTES_MAX="400000", SYNC_TIMEOUT_S=str(2 * PATIENCE_S))
    for _ in range(20):
        assert Handler.halves.acquire(timeout=PATIENCE_S)
    wait_until(lambda: bridge.metric("feed_bytes") >= 1_600_000, what="the memory to be full")
    time.sleep(1)       # time for more to come
    assert bridge.metric("feed_bytes") < 1_600_000 + 200_000 + 16384 * 20
    with psycopg.connect(world.url) as other:       # what has come cannot be applied, and frees nothing
        other.execute("LOCK TABLE order_aggregator.feed_sync IN ACCESS EXCLUSIVE MODE")
        Handler.is_over.set()
        wait_until(lambda: bridge.metric("feeds_set_aside") >= 1, what="a feed to wait for the database")
        time.sleep(4)
        assert bridge.metric("feed_bytes") < 1_600_000 + 400_000 + 16384 * 20
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.vendor WHERE last_sync_status IS NOT NULL") == 20, what="all feeds")
    assert dict(world.db.execute("SELECT last_sync_status, count(*) FROM order_aggregator.vendor GROUP BY 1").fetchall()) == {"applied": 20}
    wait_until(lambda: bridge.metric("feed_bytes") == 0, what="the memory to be free")


@pytest.mark.skipif(SANITIZED, reason="memory under a sanitizer says nothing")
def test_what_small_items_become_is_part_of_the_memory(world, feeds):
    """Of a row of seven bytes an item of 48 is made."""
    register(world, feeds, *(f"tiny-{n:02}" for n in range(20)))
    bridge = world.ready_bridge("--roles=http,sync", FEED_BYTES_MAX="4000000", SYNC_TIMEOUT_S=str(2 * PATIENCE_S))
    wait_until(lambda: bridge.metric("feed_bytes") >= 16_000_000, what="the memory to be full")
    time.sleep(3)       # time for more to come
    assert bridge.metric("feed_bytes") < 60_000_000     # one goes on to its end
    assert bridge.memory_kb() < 90_000
    Handler.is_over.set()
    bridge.stop()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer wants to be loaded first")
@pytest.mark.parametrize("date", ["right", "ahead as well"])
def test_no_count_is_later_than_its_request_whatever_our_clock_says(world, feeds, date):
    """What was confirmed between the two would not be subtracted, and be sold twice."""
    register(world, feeds, "late")
    bridge = world.ready_bridge("--roles=http", **preloaded("clock_ahead"))
    Handler.late_headers = {} if date == "right" else {"Date": email.utils.formatdate(time.time() + 3601, usegmt=True)}
    assert sync(bridge, "late")["status"] == "applied"
    as_of = world.value("SELECT as_of FROM order_aggregator.feed_sync").timestamp()
    assert Handler.asked_at - PATIENCE_S < as_of <= Handler.asked_at


@pytest.mark.parametrize("what", ["slow", "many"])
def test_what_an_outage_of_the_database_cut_off_is_pulled_at_once(world, feeds, what):
    """Be it on its way or half applied; not when the lease is over, which may be minutes."""
    Handler.pages["/many"] = ([{"id": f"p{n:05}", "quantity": 1} for n in range(5000)], {})
    register(world, feeds, what)
    with psycopg.connect(world.url) as other:
        other.execute("INSERT INTO order_aggregator.product (product_id, name) VALUES ('p03000', 'p03000')")    # its part has to wait
        world.ready_bridge("--roles=http,sync", SYNC_TIMEOUT_S="600")
        wait_until(lambda: any(path == f"/{what}" for path, _ in Handler.seen), what="the pull")
        wait_until(lambda: what == "slow" or world.value("SELECT count(*) FROM order_aggregator.stock") > 0, what="the first part")
        world.db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'order-bridge sync' AND datname = current_database()")
        wait_until(lambda: sum(path == f"/{what}" for path, _ in Handler.seen) == 2, what="the next pull")


def test_headers_from_a_file_and_redirects(world, feeds, tmp_path):
    secrets = tmp_path / "headers"
    secrets.write_text(f"# keys\ngood {feeds} Authorization: Bearer first\ngood {feeds} X-Shop: 7\n")
    secrets.chmod(0o600)
    register(world, feeds, "good")
    world.db.execute("SELECT order_aggregator.register_vendor('other', 'other', %s)", [f"{feeds}/good"])
    bridge = world.ready_bridge("--roles=http", FEED_HEADERS_FILE=str(secrets), FEED_REDIRECTS_MAX="2")
    sync(bridge, "good")
    headers = Handler.seen[-1][1]
    assert (headers["Authorization"], headers["X-Shop"]) == ("Bearer first", "7")
    sync(bridge, "other")
    assert "Authorization" not in Handler.seen[-1][1]
    # read again on SIGHUP; a bad file changes nothing
    secrets.write_text(f"good {feeds} Authorization: Bearer second\n")
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: sync(bridge, "good") and Handler.seen[-1][1].get("Authorization") == "Bearer second", what="the new key")
    secrets.write_text("good Authorization: Bearer third\n")     # for whom?
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: bridge.logged("line 1 of"), what="the complaint")
    sync(bridge, "good")
    assert Handler.seen[-1][1]["Authorization"] == "Bearer second"
    # redirects are followed where that is allowed, but not with a vendor's keys
    world.db.execute("UPDATE order_aggregator.vendor SET stock_url = %s, feed_etag = NULL", [f"{feeds}/redirect"])
    assert sync(bridge, "other")["status"] == "applied"
    assert sync(bridge, "good")["error"] == "the vendor answered with status 302"
    assert "first" not in bridge.log_path.read_text() and "second" not in bridge.log_path.read_text()


def test_certificates_are_verified(world, feeds, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.db.execute("SELECT order_aggregator.register_vendor('tls', 'tls', %s)", [f"https://localhost:{server.server_port}/good"])
    try:
        assert "certificate" in sync(world.ready_bridge("--roles=http"), "tls")["error"]
        assert sync(world.ready_bridge("--roles=http", FEED_CA_FILE=str(certificate)), "tls")["status"] == "applied"
        # to another line as good, and to no worse one
        world.db.execute("UPDATE order_aggregator.vendor SET stock_url = replace(stock_url, 'good', 'away'), feed_etag = NULL")
        bridge = world.ready_bridge("--roles=http", FEED_CA_FILE=str(certificate), FEED_REDIRECTS_MAX="1")
        Handler.away = f"https://localhost:{server.server_port}/good"
        assert sync(bridge, "tls")["status"] == "applied"
        Handler.away = f"{feeds}/good"
        assert "rotocol" in sync(bridge, "tls")["error"]
    finally:
        server.shutdown()


def test_the_circuit_opens_and_closes(world, feeds):
    register(world, feeds, "error", "good")
    world.db.execute("UPDATE order_aggregator.vendor SET sync_interval = '1 second'")
    bridge = world.ready_bridge("--roles=http,sync", CIRCUIT_FAILURES="2", CIRCUIT_OPEN_S="2")

    opened = wait_until(lambda: (found := vendor(bridge, "error"))["circuit"] == "open" and found, what="an open circuit")
    assert opened["failures"] == 2 and opened["circuitOpenUntil"] == opened["nextSyncAt"]
    assert vendor(bridge, "good")["circuit"] == "closed"
    pulls = len([path for path, _ in Handler.seen if path == "/error"])
    wait_until(lambda: len([path for path, _ in Handler.seen if path == "/error"]) > pulls, what="the trial")
    failed = wait_until(lambda: (found := vendor(bridge, "error"))["failures"] >= 3 and found, what="its failure")
    assert failed["circuit"] == "open"
    Handler.pages["/error"] = ([{"id": "x", "quantity": 5}], {})
    wait_until(lambda: vendor(bridge, "error")["circuit"] == "closed", what="the trial that succeeds")
    assert vendor(bridge, "error")["failures"] == 0 and vendor(bridge, "error")["lastSync"]["status"] == "applied"


def test_a_slow_vendor_delays_no_other(world, feeds):
    register(world, feeds, "slow", "good")
    world.db.execute("UPDATE order_aggregator.vendor SET sync_interval = '1 second'")
    world.ready_bridge("--roles=http,sync", SYNC_TIMEOUT_S=str(2 * PATIENCE_S))
    wait_until(lambda: sum(path == "/slow" for path, _ in Handler.seen) >= 1, what="the slow pull")
    before = sum(path == "/good" for path, _ in Handler.seen)
    wait_until(lambda: sum(path == "/good" for path, _ in Handler.seen) - before >= 3, what="the other one's pulls, beside it")
    assert sum(path == "/slow" for path, _ in Handler.seen) == 1


def test_a_bridge_that_is_told_to_stop_leaves_its_vendors_to_the_next_one(world, feeds):
    """Not for as long as its leases last."""
    Handler.pages["/many"] = ([{"id": f"p{n:05}", "quantity": 1} for n in range(5000)], {})
    register(world, feeds, "slow", "many")
    with psycopg.connect(world.url) as other:
        other.execute("INSERT INTO order_aggregator.product (product_id, name) VALUES ('p03000', 'p03000')")    # its part has to wait
        bridge = world.ready_bridge("--roles=http,sync", SYNC_TIMEOUT_S=str(2 * PATIENCE_S))
        wait_until(lambda: any(path == "/slow" for path, _ in Handler.seen) and world.value("SELECT count(*) FROM order_aggregator.stock") > 0, what="one pull, and one feed")
        assert world.value("SELECT bool_and(next_sync_at > now() + interval '1 minute') FROM order_aggregator.vendor")
        bridge.stop()
        assert world.value("SELECT bool_and(next_sync_at <= clock_timestamp()) FROM order_aggregator.vendor")
        other.rollback()
    world.ready_bridge("--roles=http,sync")
    wait_until(lambda: world.value("SELECT last_sync_status = 'applied' FROM order_aggregator.vendor WHERE vendor_id = 'many'"), what="the whole feed")
    assert [row[0] for row in world.db.execute("SELECT status FROM order_aggregator.feed_sync WHERE vendor_id = 'many' ORDER BY sync_id")] == ["failed", "applied"]
    world.consistent()


def test_a_locked_vendor_delays_no_other(world, feeds):
    """Someone else's transaction holds one vendor's row when its feed has come: the others go on, and so does SIGTERM."""
    register(world, feeds, "late", "good")
    world.db.execute("UPDATE order_aggregator.vendor SET sync_interval = '1 second'")
    bridge = world.ready_bridge("--roles=http,sync")
    with psycopg.connect(world.url) as foreign:
        wait_until(lambda: any(path == "/late" for path, _ in Handler.seen), what="the late pull")
        foreign.execute("SELECT FROM order_aggregator.vendor WHERE vendor_id = 'late' FOR NO KEY UPDATE")
        before = sum(path == "/good" for path, _ in Handler.seen)
        wait_until(lambda: bridge.logged("lock timeout"), what="the lock timeout")
        wait_until(lambda: sum(path == "/good" for path, _ in Handler.seen) - before >= 2, what="pulls of the other vendor")
        bridge.stop()
    assert world.value("SELECT sync_failures FROM order_aggregator.vendor WHERE vendor_id = 'late'") == 0


def test_another_session_s_older_pull_leaves_a_running_feed_alone(world, feeds):
    Handler.pages["/dated"] = ([{"id": "x", "quantity": 1}], {"Last-Modified": "Thu, 01 Jan 2026 10:00:00 GMT"})
    register(world, feeds, "dated")
    bridge = world.ready_bridge("--roles=http")
    running = world.value("SELECT order_aggregator.begin_feed('dated', '2026-02-01')")
    assert sync(bridge, "dated")["status"] == "stale"
    Handler.pages["/dated"] = (b"<html>", {})
    assert sync(bridge, "dated")["status"] == "failed"
    assert [row[0] for row in world.db.execute("SELECT status FROM order_aggregator.feed_sync ORDER BY sync_id")] == ["running", "stale", "failed"]
    world.value("SELECT order_aggregator.apply_feed_part(%s, NULL, NULL, '{0}', '{x}', '{NULL}', '{5}', '{1}', '{NULL}')", running)
    assert world.value("SELECT order_aggregator.finish_feed(%s) ->> 'status'", running) == "applied"


def test_two_bridges_share_the_vendors(world, feeds):
    for n in range(20):
        Handler.pages[f"/v{n}"] = ([{"id": "x", "quantity": n}], {})
    register(world, feeds, *(f"v{n}" for n in range(20)))
    world.ready_bridge("--roles=http,sync")
    world.ready_bridge("--roles=http,sync")
    wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.vendor WHERE last_sync_status = 'applied'") == 20, what="all vendors")
    for _ in range(3):       # one or the other has looked anew
        world.db.execute("UPDATE order_aggregator.vendor SET next_sync_at = now(), last_sync_at = NULL WHERE vendor_id = 'v0'")
        wait_until(lambda: world.value("SELECT last_sync_at IS NOT NULL FROM order_aggregator.vendor WHERE vendor_id = 'v0'"), what="a pull that is due again")
    assert sorted(path for path, _ in Handler.seen) == sorted([f"/v{n}" for n in range(20)] + ["/v0"] * 3)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_feed_of_many_parts(world, feeds, shuffled):
    """Applied in parts: the same as at once, whatever its order; orders go on meanwhile."""
    items = [{"id": f"p{n:05}", "quantity": n % 100, "price": 1.5} for n in range(5000)]
    if shuffled:
        random.Random(7).shuffle(items)
    Handler.pages["/many"] = (items + [{"id": "p00007", "quantity": 9}, {"quantity": 1}], {})
    register(world, feeds, "many")
    world.stock(other={"x": 1_000_000})
    bridge = world.ready_bridge("--roles=http")
    assert sync(bridge, "many")["items"] == 5002
    history = requests.get(f"{bridge.url}/vendors/many/syncs", timeout=PATIENCE_S).json()["syncs"][0]
    assert (history["new"], history["changed"], history["skippedItems"]) == (5000, 0, 2)
    assert stock(world, "many") == [(f"p{n:05}", n % 100, 1.5, True) for n in range(5000)]
    kept = [item | {"quantity": item["quantity"] + (item["id"] < "p00050")} for item in items if not "p02000" <= item["id"] < "p03000"]
    Handler.pages["/many"] = (kept + [{"id": "zzz", "quantity": 1, "price": 1}], {})
    assert sync(bridge, "many")["items"] == 4001
    history = requests.get(f"{bridge.url}/vendors/many/syncs", timeout=PATIENCE_S).json()["syncs"][0]
    assert (history["new"], history["changed"], history["inactive"]) == (1, 50, 1000)
    assert [row[0] for row in stock(world, "many") if not row[3]] == [f"p{n:05}" for n in range(2000, 3000)]
    world.consistent()


def test_a_feed_that_breaks_off_half_way(world, feeds):
    """Killed between two parts: what was applied stands, the rest comes with the next pull, and nothing is taken for missing."""
    Handler.pages["/many"] = ([{"id": f"p{n:05}", "quantity": 1} for n in range(5000)], {"ETag": '"one"'})
    register(world, feeds, "many")
    with psycopg.connect(world.url) as other:
        other.execute("INSERT INTO order_aggregator.product (product_id, name) VALUES ('p03000', 'p03000')")    # its part has to wait
        bridge = world.ready_bridge("--roles=http,sync")
        wait_until(lambda: world.value("SELECT count(*) FROM order_aggregator.stock") > 0, what="the first part")
        bridge.kill()
        other.rollback()
    wait_until(lambda: world.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'order-bridge%%' AND datname = current_database()") == 0, what="its sessions")
    half = world.value("SELECT count(*) FROM order_aggregator.stock")
    assert 0 < half < 5000 and half == world.value("SELECT count(*) FROM order_aggregator.stock WHERE is_active")
    bridge = world.ready_bridge("--roles=http")
    assert sync(bridge, "many")["status"] == "applied"
    assert [row[0] for row in world.db.execute("SELECT status FROM order_aggregator.feed_sync ORDER BY sync_id")] == ["superseded", "applied"]
    assert world.value("SELECT count(*) FROM order_aggregator.stock WHERE is_active") == 5000
    world.consistent()


def test_another_session_holds_a_row(world, feeds):
    """The feed gives up its part after a while, instead of holding up orders behind it; the next pull brings it."""
    Handler.pages["/many"] = ([{"id": f"p{n:03}", "quantity": 1} for n in range(100)], {})
    register(world, feeds, "many")
    bridge = world.ready_bridge("--roles=http", REQUEST_TIMEOUT_S="5")
    sync(bridge, "many")
    Handler.pages["/many"] = ([{"id": f"p{n:03}", "quantity": 2} for n in range(100)], {})
    with psycopg.connect(world.url) as foreign:
        foreign.execute("SELECT FROM order_aggregator.stock WHERE product_id = 'p050' FOR UPDATE")
        result = sync(bridge, "many")
        assert result["status"] == "failed" and "lock timeout" in result["error"]
    assert sync(bridge, "many")["status"] == "applied"
    assert world.value("SELECT sum(on_hand) FROM order_aggregator.stock") == 200


def test_returns_over_http(world):
    world.stock(a={"x": 10})
    bridge = world.ready_bridge("--roles=http")
    world.db.execute("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 3}]')")

    def back(order, headers=None, **body):
        return requests.post(f"{bridge.url}/order/{order}/return", json=body, headers=headers, timeout=PATIENCE_S)

    assert back(1).status_code == 409
    world.db.execute("SELECT order_aggregator.confirm_order(1)")
    first = back(1, lines=[{"productId": "x", "quantity": 1}], headers={"Idempotency-Key": "k"})
    assert first.status_code == 200 and first.json() == {"message": "Units returned", "orderId": 1, "returnId": 1}
    assert back(1, lines=[{"productId": "x", "quantity": 1}], idempotencyKey="k").json()["returnId"] == 1
    assert back(1, lines=[{"lineNo": 1, "quantity": 1}], restock=False).json()["returnId"] == 2
    assert back(1, lines=[{"productId": "x", "quantity": 2}]).status_code == 409
    assert back(1, lines=5).json()["error"] and back(1, lines=5).status_code == 400
    assert back(1, lines=[{"productId": "x", "quantity": "1"}]).json()["details"] == "lines[0].quantity must be a whole number from 1 to 1000000000"
    assert back(1, colour="red").status_code == 400 and back(9).status_code == 404
    order = requests.get(f"{bridge.url}/order/1", timeout=PATIENCE_S).json()
    assert order["status"] == "confirmed" and [(r["quantity"], r["restocked"]) for r in order["returns"]] == [(1, True), (1, False)]
    assert [event["event"] for event in order["history"]] == ["placed", "held", "confirmed", "confirmed", "returned", "returned"]
    assert world.value("SELECT on_hand FROM order_aggregator.stock") == 8
    world.consistent()
