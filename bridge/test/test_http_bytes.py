"""Requests byte by byte, against RFC 9110 and RFC 9112: what a front proxy may read differently is refused, and its connection ends."""

import ctypes
import ctypes.util
import json
import re
import socket

import pytest
import requests
from conftest import PATIENCE_S
from test_http import BODY, raw, statuses


def library_version():
    """Of libmicrohttpd, as a tuple of numbers."""
    library = ctypes.CDLL(ctypes.util.find_library("microhttpd") or "libmicrohttpd.so.12")
    library.MHD_get_version.restype = ctypes.c_char_p
    return tuple(int(number) for number in library.MHD_get_version().decode().split("."))


# 1.0 refuses more by itself: with other statuses, with a page in place of a problem document, or by hanging up. Refused it is all the same.
IS_1_0 = library_version() >= (1, 0)
# of which the value is none, as 1.0 knows; 0.9 looks for "chunked" and nothing else
BLANKS = {"chunks with a blank behind": b" ", "chunks with a tab behind": b"\t"}
SMUGGLED = b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def order(*fields, body=BODY, version=b"HTTP/1.1", host=b"Host: x"):
    """An order with those header fields, and a second one behind it that must never be reached by way of the first one's body."""
    if not any(field.startswith(b"Content-Type") for field in fields):
        fields = (b"Content-Type: application/json", *fields)
    return b"".join(line + b"\r\n" for line in (b"POST /order " + version, host, *fields) if line) + b"\r\n" + body


def length(body=BODY):
    return b"Content-Length: %d" % len(body)


def chunked(*pieces, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


REFUSED = {
    "blank before the colon of Content-Length": (order(b"Content-Length : %d" % len(SMUGGLED), body=SMUGGLED), [400]),
    "tab before the colon of Content-Length": (order(b"Content-Length\t: %d" % len(SMUGGLED), body=SMUGGLED), [400]),
    "blank before the colon of a key": (order(b"Idempotency-Key : k", length()), [400]),
    "blank before a name": (order(b" Idempotency-Key: k", length()), [400]),
    "no name": (order(b": k", length()), [400]),
    "no colon": (order(b"Idempotency-Key", length()), [400]),
    "a name that is no token": (order(b"X(1): k", length()), [400]),
    "a name in another alphabet": (order("Schlüssel: k".encode(), length()), [400]),
    "two lengths that differ": (order(length(), b"Content-Length: 0"), [400]),
    "two lengths, the first one zero": (order(b"Content-Length: 0", length()), [400]),
    "two lengths that agree": (order(length(), length()), [400]),
    "a list of lengths": (order(b"Content-Length: %d, %d" % (len(BODY), len(BODY))), [400]),
    "a length with a sign": (order(b"Content-Length: +%d" % len(BODY)), [400]),
    "a negative length": (order(b"Content-Length: -1"), [400]),
    "a hexadecimal length": (order(b"Content-Length: 0x10"), [400]),
    "no length": (order(b"Content-Length:"), [400]),
    "a length beyond 64 bits": (order(b"Content-Length: 18446744073709551617"), [413]),
    "length and chunks": (order(length(), b"Transfer-Encoding: chunked", body=chunked(BODY)), [400]),
    "chunks and length": (order(b"Transfer-Encoding: chunked", length(), body=chunked(BODY)), [400]),
    "another coding": (order(b"Transfer-Encoding: gzip", body=b""), [501]),
    "another coding, then chunks": (order(b"Transfer-Encoding: gzip, chunked", body=chunked(BODY)), [501]),
    "chunks, then another coding": (order(b"Transfer-Encoding: chunked, gzip", body=chunked(BODY)), [501]),
    **({} if IS_1_0 else {name: (order(b"Transfer-Encoding: chunked" + blank, body=chunked(BODY)), [400]) for name, blank in BLANKS.items()}),
    "identity": (order(b"Transfer-Encoding: identity", body=BODY), [501]),
    "chunks twice": (order(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=chunked(BODY)), [400]),
    "chunks twice in one": (order(b"Transfer-Encoding: chunked, chunked", body=chunked(BODY)), [501]),
    "chunks with a parameter": (order(b"Transfer-Encoding: chunked;q=1", body=chunked(BODY)), [501]),
    "chunks in HTTP/1.0": (order(b"Transfer-Encoding: chunked", body=chunked(BODY), version=b"HTTP/1.0"), [400]),
    "no coding": (order(b"Transfer-Encoding:", body=BODY), [501]),
    "a body with a coding": (order(length(), b"Content-Encoding: gzip"), [415]),
    "a NUL in a value": (order(b"Idempotency-Key: k\0more", length()), [400]),
    "a NUL in the last value": (order(length(), b"Idempotency-Key: k\0more"), [400]),
    "a NUL in a name": (order(b"Idempotency\0-Key: k", length()), [400]),
    "a bare CR in a value": (order(b"Idempotency-Key: k\rX: y", length()), [400]),
    "a control character in a value": (order(b"Idempotency-Key: k\x01", length()), [400]),
    "a value that goes on in the next line": (order(b"Idempotency-Key: k", b" more", length()), [400]),
    "the last value goes on in the next line": (order(length(), b"Idempotency-Key: k", b"\tmore"), [400]),
    "a length that goes on in the next line": (order(b"Content-Length: 1", b" 0"), [400]),
    "two keys": (order(b"Idempotency-Key: k", b"Idempotency-Key: l", length()), [400]),
    "two types": (order(b"Content-Type: application/json", b"Content-Type: text/plain", length()), [400]),
    "no host": (order(length(), host=b""), [400]),
    "two hosts": (order(b"Host: y", length()), [400]),
    "a host with a path": (order(length(), host=b"Host: x/y"), [400]),
    "a host with a user": (order(length(), host=b"Host: a@b"), [400]),
    "an expectation that nobody knows": (order(b"Expect: a miracle", length()), [417]),
    "HTTP/2.0": (order(length(), version=b"HTTP/2.0"), [505]),
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", [400, 505]),
    "lower case": (order(length(), version=b"http/1.1"), [400, 505]),
    "a NUL in the target": (b"GET /products/x\0y HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "%00 in the target": (b"GET /products/x%00y HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "%00 in a parameter": (b"GET /products?after=x%00y HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "half a percent code": (b"GET /products/x%4 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "no percent code": (b"GET /products/x%zz HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "bytes that are no text": (b"GET /products/x%ff HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "raw bytes that are no text": (b"GET /products/x\xff HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "an overlong slash": (b"GET /products/x%c0%af HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a fragment": (b"GET /products/x#y HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a blank in the target": (b"GET /products/x y HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a tab in the target": (b"GET /products/x\ty HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "no slash": (b"GET products HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "no target": (b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a parameter twice": (b"GET /products?limit=1&limit=2 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "another scheme": (b"GET ftp://x/products HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "a head of more than HEADER_BYTES_MAX": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 17000 + b"\r\n\r\n", [431]),
    "an order with a head of more than that": (order(b"X: " + b"y" * 20000, length()), [431]),
    "an order with a head of nearly twice that": (order(b"X: " + b"y" * 32300, length()), [431]),
    "101 header fields": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n", [431]),
}


@pytest.fixture(scope="module")
def bridge(request, servers, tmp_path_factory):
    from conftest import World
    world = World(servers, tmp_path_factory.mktemp("bytes"))
    world.stock(a={"x": 1000000, "a/b": 5, "a+b": 6, "ü": 7, "a b": 8})
    program = world.ready_bridge("--roles=http")
    program.world = world
    yield program
    world.consistent()
    world.close()


def orders(bridge):
    return bridge.world.value("SELECT count(*) FROM order_aggregator.orders")


@pytest.mark.parametrize("name", REFUSED)
def test_refused(bridge, name):
    """With a good request behind it, which must not be served: the connection ends."""
    data, expected = REFUSED[name]
    if IS_1_0 and expected in ([501], [413]):
        expected = [*expected, 400]
    before = orders(bridge)
    answer = raw(bridge, data + SMUGGLED)
    # libmicrohttpd 0.9.75 says what it refuses itself twice, and hangs up on what is no request line at all
    assert set(statuses(answer)) <= set(expected), answer
    # where the head leaves no room for an answer, there is none
    assert answer or name in ("HTTP/0.9", "no target", "lower case", "an order with a head of nearly twice that") or (IS_1_0 and name == "a NUL in the target"), "hung up without a word"
    assert orders(bridge) == before, "something was placed"
    assert requests.get(f"{bridge.url}/healthz", timeout=PATIENCE_S).status_code == 200


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 61])
def test_what_is_refused_does_not_depend_on_how_it_is_cut(bridge, size):
    for name in ("blank before the colon of a key", "a NUL in a value", "a value that goes on in the next line", "two lengths that differ", "length and chunks",
                 "a NUL in the target"):
        data, expected = REFUSED[name]
        found = statuses(in_pieces(bridge, data, size))
        assert found == expected or (IS_1_0 and name == "a NUL in the target" and found == []), name


def in_pieces(bridge, data, size):
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for start in range(0, len(data), size):
                s.sendall(data[start:start + size])
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.settimeout(2)
        answer = b""
        try:
            while piece := s.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


CLOSE = b"Connection: close"
SERVED = {
    "blanks around values": order(b"Idempotency-Key: \t blanks \t ", b"Content-Length:   %d" % len(BODY), CLOSE),
    "no blank after the colon": order(b"Content-Length:%d" % len(BODY), CLOSE),
    "names in any case": order(b"CONTENT-LENGTH: %d" % len(BODY), b"idempotency-key: case", CLOSE),
    "an empty value": order(b"X-Empty:", length(), CLOSE),
    "bytes beyond ASCII in a value": order("X-Name: Müller".encode(), b"X-Latin: M\xfcller", length(), CLOSE),
    "the same field twice where that is a list": order(b"Accept: text/html", b"Accept: application/json", length(), CLOSE),
    "chunks": order(b"Transfer-Encoding: chunked", CLOSE, body=chunked(BODY[:5], BODY[5:])),
    **({name: order(b"Transfer-Encoding: chunked" + blank, CLOSE, body=chunked(BODY)) for name, blank in BLANKS.items()} if IS_1_0 else {}),
    "Chunked": order(b"Transfer-Encoding: Chunked", CLOSE, body=chunked(BODY)),
    "chunks with an extension": order(b"Transfer-Encoding: chunked", CLOSE, body=b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "chunks with a trailer": order(b"Transfer-Encoding: chunked", CLOSE, body=chunked(BODY, end=b"0\r\nX-Sum: 1\r\n\r\n")),
    "HTTP/1.0": order(length(), version=b"HTTP/1.0"),
    "HTTP/1.0 without a host": order(length(), version=b"HTTP/1.0", host=b""),
    "an empty host": order(length(), CLOSE, host=b"Host:"),
    "a host with a port": order(length(), CLOSE, host=b"Host: [::1]:3000"),
    "an absolute target": b"POST http://shop.localhost:80/order HTTP/1.1\r\nHost: shop.localhost\r\nContent-Type: application/json\r\n%s\r\nConnection: close\r\n\r\n%s" % (length(), BODY),
    "an encoded letter": b"POST /%%6frder HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\nConnection: close\r\n\r\n%s" % (length(), BODY),
    "a query that nobody asked for": b"POST /order?utm=1&b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\nConnection: close\r\n\r\n%s" % (length(), BODY),
    "identity as coding of the body": order(length(), b"Content-Encoding: identity", CLOSE),
    "empty lines before the request": b"\r\n\r\n" + order(length(), CLOSE),
}


@pytest.mark.parametrize("name", SERVED)
def test_served(bridge, name):
    before = orders(bridge)
    answer = raw(bridge, SERVED[name])
    if IS_1_0 and (name == "empty lines before the request" or (name == "chunks with an extension" and statuses(answer) == [400])):    # README, Limits
        assert statuses(answer) in ([], [400]) and orders(bridge) == before
        return
    assert statuses(answer) == [201] or re.match(rb"HTTP/1\.[01] 201 ", answer), answer
    assert orders(bridge) == before + 1


@pytest.mark.parametrize("size", [1, 2, 5, 13, 64])
def test_what_is_served_does_not_depend_on_how_it_is_cut(bridge, size):
    before = orders(bridge)
    many = [b"X-%d: %s" % (n, b"v" * n) for n in range(50)]
    assert statuses(in_pieces(bridge, order(*many, length(), CLOSE), size)) == [201]
    assert statuses(in_pieces(bridge, order(b"Transfer-Encoding: chunked", CLOSE, body=chunked(BODY[:9], BODY[9:])), size)) == [201]
    assert orders(bridge) == before + 2


def test_blanks_around_a_key_are_not_part_of_it(bridge):
    first, second = (json.loads(raw(bridge, order(key, length(), CLOSE)).split(b"\r\n\r\n", 1)[1])["orderId"]
                     for key in (b"Idempotency-Key: one key", b"Idempotency-Key: \tone key \t"))
    assert first == second


def test_a_chunk_that_is_none_ends_the_connection(bridge):
    before = orders(bridge)
    for body in (b"zz\r\n", b"-1\r\n", b"+5\r\n", b"0x5\r\n", b" 5\r\n", b"5 \r\n", b"ffffffffffffffffff\r\n", b";a\r\n", b"\r\n", b"5\r\nabcdefg\r\n0\r\n\r\n"):
        found = statuses(raw(bridge, order(b"Transfer-Encoding: chunked", body=body) + SMUGGLED))
        assert found in ([400], [413], []), body
    assert orders(bridge) == before


def test_expect_100_continue(bridge):
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S) as s:
        s.sendall(order(length(), b"Expect: 100-continue", CLOSE, body=b""))
        assert s.recv(1000).startswith(b"HTTP/1.1 100 ")
        s.sendall(BODY)
        assert s.recv(1000).startswith(b"HTTP/1.1 201 ")


@pytest.mark.parametrize("path, units", [("a%2Fb", 5), ("a%2fb", 5), ("a+b", 6), ("a%2Bb", 6), ("%C3%BC", 7), ("a%20b", 8), ("%78", 999900)])
def test_ids_with_any_character_can_be_asked_for(bridge, path, units):
    answer = json.loads(raw(bridge, b"GET /products/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode()).split(b"\r\n\r\n", 1)[1])
    assert answer["onHand"] == units if units < 10 else answer["id"] == "x"


def test_paths_that_look_like_others_are_others(bridge):
    for path in ("/products/", "/products//", "//products", "/products/x/", "/./products", "/products/../products", "/products%2Fx", "/" + "a/" * 20, "/"):
        assert statuses(raw(bridge, b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())) == [404], path
    assert statuses(raw(bridge, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [204]


def test_head_is_get_without_the_body_and_changes_nothing(bridge):
    for path in ("/products", "/products/x", "/vendors", "/healthz", "/openapi.json", "/metrics"):
        get, head = requests.get(bridge.url + path, timeout=PATIENCE_S), requests.head(bridge.url + path, timeout=PATIENCE_S)
        assert head.status_code == get.status_code == 200 and head.content == b"", path
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        assert path == "/metrics" or head.headers["Content-Length"] == get.headers["Content-Length"]
    bridge.world.db.execute("SELECT order_aggregator.register_vendor('fed', 'fed', 'http://127.0.0.1:1/')")
    before = bridge.world.value("SELECT count(*) FROM order_aggregator.feed_sync")
    answer = requests.head(f"{bridge.url}/vendorSync", timeout=PATIENCE_S)
    assert answer.status_code == 405 and answer.headers["Allow"] == "GET, OPTIONS"
    assert requests.head(f"{bridge.url}/order", timeout=PATIENCE_S).status_code == 405
    assert bridge.world.value("SELECT count(*) FROM order_aggregator.feed_sync") == before


def test_what_is_known_already_is_told_with_its_length(bridge):
    """RFC 9110, 8.6: with a 304 it is that of the document, for caches."""
    whole = requests.get(f"{bridge.url}/products", timeout=PATIENCE_S)
    known = raw(bridge, b"GET /products HTTP/1.1\r\nHost: x\r\nIf-None-Match: " + whole.headers["ETag"].encode() + b"\r\nConnection: close\r\n\r\n")
    head, body = known.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 304 ") and b"Content-Length: " + whole.headers["Content-Length"].encode() in head.split(b"\r\n") and body == b""


def test_a_refusal_is_a_problem_document(bridge):
    answer = raw(bridge, REFUSED["two keys"][0])
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"Content-Type: application/problem+json" in head and b"Connection: close" in head
    assert json.loads(body) == {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "a header field is there twice",
                                "error": "Bad Request", "details": "a header field is there twice", "field": "Idempotency-Key"}
