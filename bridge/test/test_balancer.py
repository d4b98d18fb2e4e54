"""Two bridges behind HAProxy: one after the other is started anew, and no client sees it."""

import csv
import io
import os
import shutil
import socket
import subprocess
import threading
import urllib.parse

import pytest
import requests
from conftest import PATIENCE_S, TOP, free_port, runs, wait_until
from nginx import nginx
from test_locks import in_threads, lock_stock, locked

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"

BRIDGES = ("10.0.0.1:3000", "10.0.0.2:3000")     # as docs/operations.md has them


def documented(before, replaced):
    """The example that follows those words in docs/operations.md, with something else in place of what is replaced."""
    text = (TOP / "docs" / "operations.md").read_text().split(f"{before}:\n\n```\n")[1].split("```")[0]
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


class Balancer:
    """HAProxy before some ports of this machine."""

    def __init__(self, folder, ports):
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.names = {f"b{n}": port for n, port in enumerate(ports, 1)}
        config = documented("`bridge/test/test_balancer.py` runs)", {":3000\n    default": f"127.0.0.1:{self.port}\n    default",
                                                                     **{bridge: f"127.0.0.1:{port}" for bridge, port in zip(BRIDGES, ports)}})
        (folder / "haproxy.cfg").write_text(f"global\n    stats socket {folder}/stats\n{config}")
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", folder / "haproxy.cfg"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        preexec_fn=runs.end_with_parent)

    def up(self):
        """The ports that it sends requests to."""
        try:
            with socket.socket(socket.AF_UNIX) as stats:
                stats.connect(str(self.folder / "stats"))
                stats.sendall(b"show stat\n")
                text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
        except OSError:
            return set()
        rows = csv.DictReader(io.StringIO(text.removeprefix("# ")))
        return {self.names[row["svname"]] for row in rows if row["svname"] in self.names and row["status"].startswith("UP")}


@pytest.fixture
def balanced(world):
    folder = world.tmp_path / "haproxy"
    folder.mkdir()
    ports = [free_port() for _ in range(2)]
    bridges = {port: world.ready_bridge(PORT=str(port), DRAIN_S="2") for port in ports}
    balancer = Balancer(folder, ports)
    try:
        wait_until(lambda: balancer.up() == set(ports), what="both bridges to be up")
        yield balancer, bridges
    finally:
        balancer.process.kill()
        balancer.process.wait()


def test_bridges_are_started_anew_without_one_failed_request(world, balanced):
    world.stock(a={"x": 1_000_000})
    world.vendors()
    balancer, bridges = balanced
    stop, done, failed = threading.Event(), [0] * 6, []

    def client(number):
        session = requests.Session()
        while not stop.is_set():
            try:
                placed = session.post(f"{balancer.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S)
                read = session.get(f"{balancer.url}/order/{placed.json().get('orderId')}", timeout=PATIENCE_S)
                if (placed.status_code, read.status_code) != (201, 200):
                    failed.append((placed.status_code, read.status_code, placed.text[:200]))
            except requests.RequestException as error:
                failed.append(repr(error))
            done[number] += 1

    threads = [threading.Thread(target=client, args=[n]) for n in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        for port in list(bridges) * 2:
            before = list(done)
            bridges[port].process.terminate()
            wait_until(lambda: balancer.up() == set(bridges) - {port}, what="the balancer to see it leave")
            assert bridges[port].process.wait(timeout=PATIENCE_S) == 0
            bridges[port] = world.ready_bridge(PORT=str(port), DRAIN_S="2")
            wait_until(lambda: balancer.up() == set(bridges), what="it to be back")
            wait_until(lambda: all(now > then for now, then in zip(done, before)), what="requests of every client")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    wait_until(lambda: world.statuses() == {"confirmed": sum(done)}, what="all to be confirmed")
    world.consistent()


def test_a_bridge_that_is_killed_is_left_out(world, balanced):
    """What it was asked and has not answered is a 502; asked again with its key, it is placed once."""
    world.stock(a={"x": 1_000_000})
    balancer, bridges = balanced
    port, statuses = next(iter(bridges)), [None] * 8

    def post(n):
        return requests.post(f"{balancer.url}/order", json={"productId": "x", "quantity": 1}, headers={"Idempotency-Key": f"key {n}"}, timeout=PATIENCE_S).status_code

    with locked(world, lock_stock("x")):
        waiting = in_threads(len(statuses), lambda n: statuses.__setitem__(n, post(n)))
        wait_until(lambda: sum(bridge.metric("orders_set_aside") for bridge in bridges.values()) == len(statuses), what="all orders to wait")
        dying = bridges[port].metric("orders_set_aside")
        assert 0 < dying < len(statuses)
        bridges[port].kill()
        wait_until(lambda: balancer.up() == set(bridges) - {port}, what="the balancer to see it gone")
    for thread in waiting:
        thread.join()
    assert sorted(statuses) == [201] * (len(statuses) - int(dying)) + [502] * int(dying)
    assert [post(n) for n in range(20)] == [201] * 20
    assert world.statuses() == {"pending": 20}
    world.consistent()


def test_orders_are_taken_while_the_broker_is_away(world, balanced):
    """The relay and the replies are not ready then, in no bridge; who sends requests to bridges does not mind."""
    world.stock(a={"x": 1_000_000})
    balancer, bridges = balanced
    world.servers.kill("rabbitmq")
    try:
        for port in bridges:
            wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE_S).status_code == 503, what="the bridge to miss the broker")
        for n in range(20):
            assert requests.post(f"{balancer.url}/order", json={"productId": "x", "quantity": 1}, timeout=PATIENCE_S).status_code == 201
        assert balancer.up() == set(bridges)
    finally:
        world.servers.start("rabbitmq")
    world.consistent()


def test_nginx_as_it_is_documented(world):
    """Orders, those of a browser on the same site too, and the event stream; a bridge that is stopped is gone round."""
    world.stock(a={"x": 1_000_000})
    ports, port = [free_port() for _ in range(2)], free_port()
    bridges = [world.ready_bridge(PORT=str(p), HTTP_HOSTS=f"127.0.0.1:{port}") for p in ports]
    config = documented("turns away from what refuses connections", {"listen 3000": f"listen 127.0.0.1:{port}",
                                                                     **{bridge: f"127.0.0.1:{own}" for bridge, own in zip(BRIDGES, ports)}})
    with nginx(world.tmp_path / "nginx", port, config) as url:
        def placed():
            order = requests.post(f"{url}/order", json={"productId": "x", "quantity": 1}, headers={"Origin": url}, timeout=PATIENCE_S)
            assert order.status_code == 201, order.text
            return order.json()["orderId"]
        orders = [placed() for _ in range(4)]
        with requests.get(f"{url}/events", headers={"Last-Event-ID": "0"}, stream=True, timeout=PATIENCE_S) as events:
            lines = events.iter_lines()
            for order in orders:
                assert any(f'"orderId": {order},'.encode() in line for line in lines)
        bridges[0].process.terminate()
        assert bridges[0].process.wait(timeout=PATIENCE_S) == 0
        for _ in range(10):
            placed()
    world.consistent()


def test_what_has_begun_when_a_bridge_is_told_to_stop_is_served(world):
    """Half of a request is there, and no new connection is taken any more: the rest still counts."""
    world.stock(a={"x": 10})
    bridge = world.ready_bridge("--roles=http")
    url = urllib.parse.urlsplit(bridge.url)
    body = b'{"productId": "x", "quantity": 1}'
    with socket.create_connection((url.hostname, url.port), timeout=PATIENCE_S) as client:
        client.sendall(b"POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        assert requests.get(f"{bridge.url}/healthz", timeout=PATIENCE_S).status_code == 200    # and so it has been read
        bridge.process.terminate()

        def refuses():
            try:
                socket.create_connection((url.hostname, url.port), timeout=PATIENCE_S).close()
            except ConnectionRefusedError:
                return True
        wait_until(refuses, what="the bridge to take no more")
        client.sendall(body[10:])
        answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 201 ") and b"\r\nConnection: close\r\n" in answer, answer
    assert bridge.process.wait(timeout=PATIENCE_S) == 0
    assert world.statuses() == {"pending": 1}


def test_the_service_manager_is_asked_for_time(world, tmp_path):
    """systemd kills what has not ended in time; a request under way may take longer, drained or not."""
    for drain_s in (0, 2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / f"notify{drain_s}"))
            manager.settimeout(PATIENCE_S)
            bridge = world.ready_bridge("--roles=http", DRAIN_S=str(drain_s), REQUEST_TIMEOUT_S="120", NOTIFY_SOCKET=str(tmp_path / f"notify{drain_s}"))
            os.kill(bridge.process.pid, 15)
            said = b""
            while b"EXTEND_TIMEOUT_USEC=" not in said:
                said += manager.recv(4096) + b"\n"
            assert b"EXTEND_TIMEOUT_USEC=%d\n" % ((drain_s + 120 + 30) * 1_000_000) in said
            assert bridge.process.wait(timeout=PATIENCE_S) == 0


def test_a_second_signal_ends_the_wait(world):
    bridge = world.ready_bridge("--roles=http", DRAIN_S="600")
    os.kill(bridge.process.pid, 15)
    wait_until(lambda: requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).status_code == 503, what="not to be ready any more")
    answer = requests.get(f"{bridge.url}/products", timeout=PATIENCE_S)
    assert answer.status_code == 200 and answer.headers["Connection"] == "close"
    bridge.stop()
