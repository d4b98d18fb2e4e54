"""What must come of a feed: a table of small ones, each pulled by the bridge and, where it is no matter of HTTP or of
paths, given to sync_vendor_stock().

feeds/table.json has a line for each file: what it is, the vendor's mapping, how it is served (headers, code, length),
and what must come of it. Before it the vendor offers 50 of each of x, y and z, at 9. Then x is what the line says: its
count, or null if nothing of it is sold; its price; the product's name. rule: what the history counts; status and error:
of a feed that is not applied, which changes nothing; pause: in seconds, until the next pull.
"""

import http.server
import json
import pathlib
import threading

import pytest
import requests
from conftest import PATIENCE_S, World
from psycopg.types.json import Jsonb

FEEDS = pathlib.Path(__file__).resolve().parent / "feeds"
TABLE = json.loads((FEEDS / "table.json").read_text())
BEFORE = [{"id": sku, "name": sku, "quantity": 50, "price": 9} for sku in "xyz"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        case = next(case for case in TABLE if f"/{case['name']}" == self.path)
        body, length = (FEEDS / case["file"]).read_bytes(), case.get("length", "true")
        self.send_response_only(case.get("code", 200))
        for name, value in {"Content-Type": "application/json", **case.get("headers", {})}.items():
            self.send_header(name, value)
        if length.lower() == "chunked":
            self.send_header("Transfer-Encoding", length)
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
        elif length != "none":
            self.send_header("Content-Length", str(len(body) + (length == "longer")))
        self.close_connection = length in ("none", "longer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def shop(servers, tmp_path_factory):
    """One shop and one bridge for all: each case has a vendor of its own."""
    world = World(servers, tmp_path_factory.mktemp("feeds"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    world.feeds = f"http://127.0.0.1:{server.server_port}"
    world.server = world.ready_bridge("--roles=http")
    yield world
    world.consistent()
    server.shutdown()
    world.close()


def pull(shop, vendor, case):
    return requests.post(f"{shop.server.url}/vendors/{vendor}/sync", timeout=PATIENCE_S).json()["results"][0]


def give(shop, vendor, case):
    return shop.value("SELECT order_aggregator.sync_vendor_stock(%s, %s::jsonb)", vendor, (FEEDS / case["file"]).read_text())


WAYS = {"pull": pull, "sql": give}


def offer(shop, vendor, product):
    """What is on sale of it: its count and price; None if nothing is."""
    row = shop.db.execute("SELECT on_hand, price::float FROM order_aggregator.vendor_offer WHERE vendor_id = %s AND product_id = %s AND is_active", [vendor, product]).fetchone()
    return row and list(row)


@pytest.mark.parametrize("way, case", [pytest.param(way, case, id=f"{way}-{case['name']}") for case in TABLE for way in case.get("ways", WAYS)])
def test_what_comes_of_a_feed(shop, way, case):
    vendor = f"{way}-{case['name']}"
    shop.db.execute("SELECT order_aggregator.register_vendor(%s, %s, %s)", [vendor, vendor, f"{shop.feeds}/{case['name']}"])
    if "mapping" in case:
        shop.db.execute("SELECT order_aggregator.configure_vendor(%s, feed_mapping => %s)", [vendor, Jsonb(case["mapping"])])
    shop.db.execute("SELECT order_aggregator.sync_vendor_stock(%s, %s, '2026-01-01')", [vendor, Jsonb(BEFORE)])
    if "product" in case:       # its name is still to come
        shop.db.execute("UPDATE order_aggregator.product SET name = product_id WHERE product_id = 'x'")
    result = WAYS[way](shop, vendor, case)
    status, error, rules, rule = shop.db.execute("SELECT status, error, rules, as_of_rule FROM order_aggregator.feed_sync WHERE vendor_id = %s ORDER BY sync_id DESC LIMIT 1", [vendor]).fetchone()
    assert result["status"] == status == case.get("status", "applied"), (result, error)
    if status != "applied":
        assert case["error"] in error and error == result["error"]
        assert [offer(shop, vendor, product) for product in "xyz"] == [[50, 9]] * 3
        assert shop.db.execute("SELECT last_sync_status, last_sync_error FROM order_aggregator.vendor WHERE vendor_id = %s", [vendor]).fetchone() == (status, error)
    else:
        on_sale = offer(shop, vendor, "x")
        assert (on_sale and on_sale[0]) == case["x"]
        assert case.get("price") in (None, on_sale and on_sale[1])
        assert case.get("rule") in (None, *rules), rules
        seventeen = offer(shop, vendor, "17")
        assert (seventeen and seventeen[0]) == case.get("17")
    if "product" in case:
        assert shop.value("SELECT name FROM order_aggregator.product WHERE product_id = 'x'") == case["product"]
    if "as_of" in case:
        assert shop.value("SELECT as_of = %s FROM order_aggregator.feed_sync WHERE vendor_id = %s ORDER BY sync_id DESC LIMIT 1", case["as_of"], vendor)
        assert rule == case["as_of_rule"]
    if "pause" in case:
        low, high = case["pause"]
        assert low <= shop.value("SELECT extract(epoch FROM next_sync_at - last_sync_at)::float FROM order_aggregator.vendor WHERE vendor_id = %s", vendor) <= high


def test_every_file_is_in_the_table():
    assert {path.name for path in FEEDS.iterdir()} == {"table.json", *(case["file"] for case in TABLE)}
