"""The sync role against good, bad and hostile vendors."""

import gzip
import http.server
import json
import threading
import time

import pytest
import requests
from conftest import wait_until

GOOD = json.dumps([{"id": "x", "name": "X", "quantity": 5, "price": 2.5}]).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        Handler.seen.append((self.path, dict(self.headers)))
        if self.path == "/good":
            if self.headers.get("If-None-Match") == '"v1"':
                self.answer(304, b"")
            else:
                self.answer(200, GOOD, ETag='"v1"')
        elif self.path == "/html":
            self.answer(200, b"<html>sorry</html>", Content_Type="text/html")
        elif self.path == "/object":
            self.answer(200, b'{"products": []}')
        elif self.path == "/error":
            self.answer(500, b"[]")
        elif self.path == "/redirect":
            self.answer(302, b"", Location="/good")
        elif self.path == "/nested":
            self.answer(200, b"[" * 100000)
        elif self.path == "/large":
            self.answer(200, b"[" + b" " * 3_000_000 + b"]")
        elif self.path == "/nul":
            self.answer(200, b'[{"id": "x", "quantity": 500, "price": 1}]\0[')
        elif self.path == "/bomb":
            self.answer(200, gzip.compress(b"[" + b" " * 300_000_000), **{"Content-Encoding": "gzip"})
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b" " * 65536)
            except OSError:
                pass
        elif self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            try:
                for _ in range(30):
                    self.wfile.write(b" ")
                    time.sleep(0.2)
            except OSError:
                pass
        elif self.path == "/slow":
            time.sleep(5)

    def log_message(self, *words):
        pass


@pytest.fixture
def feeds():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_bad_vendor_harms_nothing_but_its_own_entry(world, feeds):
    bad = ["html", "object", "error", "redirect", "nested", "large", "slow", "nul", "bomb", "endless", "drip"]
    for name in ["good", *bad]:
        world.db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)", [name, name, f"{feeds}/{name}"])
    world.db.execute("SELECT order_aggregator.register_vendor('gone', 'gone', 'http://127.0.0.1:1/stock')")
    bridge = world.ready_bridge(SYNC_TIMEOUT_S="2", FEED_BYTES_MAX="1000000")
    results = {r["vendorId"]: r for r in requests.post(f"{bridge.url}/vendors/sync", timeout=20).json()["results"]}
    assert results["good"]["error"] is None
    for name in [*bad, "gone"]:
        assert results[name]["status"] == "failed" and results[name]["error"], name
    stock = requests.get(f"{bridge.url}/products", timeout=5).json()["data"]
    assert [(p["id"], p["quantity"], p["price"]) for p in stock] == [("x", 5, "2.50")]
    vendors = {v["id"]: v["lastSync"] for v in requests.get(f"{bridge.url}/vendors", timeout=5).json()}
    assert vendors["error"]["error"] == "the vendor answered with status 500"
    assert bridge.process.poll() is None


def test_one_vendor_and_conditional_requests(world, feeds):
    world.db.execute("SELECT order_aggregator.register_vendor('good', 'good', %s)", [f"{feeds}/good"])
    bridge = world.ready_bridge("--roles=http")
    first = requests.post(f"{bridge.url}/vendors/good/sync", timeout=5).json()["results"]
    second = requests.post(f"{bridge.url}/vendors/good/sync", timeout=5).json()["results"]
    assert [first[0]["status"], second[0]["status"]] == ["applied", "unchanged"]
    assert requests.post(f"{bridge.url}/vendors/nobody/sync", timeout=5).status_code == 404


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
