"""Private real servers, a fresh database for each test, and the programs under test."""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import pika
import psycopg
import pytest
import requests

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "scripts"), str(TOP / "bridge" / "chaos")]
import runs

RUN = pathlib.Path(os.environ.get("CHECK_RUN", TOP / ".run" / "check"))
BUILD = pathlib.Path(os.environ.get("BRIDGE_BUILD", TOP / "build"))
SANITIZED = BUILD.name in ("asan", "tsan")      # then how much memory is taken says nothing
QUEUES = ["orders.placed", "orders.placed.dead", "orders.replies", "orders.replies.dead"]
PATIENCE_S = 60     # what must happen has happened by then, also on a slow machine that is busy; nothing is asserted to be quick
numbers = itertools.count(int(time.time()))
runs.forget_settings()


def wait_until(condition, seconds=PATIENCE_S, what="the condition"):
    """Polls until the condition is true and returns its value; fails after that many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def preloaded(name):
    """The environment of a program that has that library of bridge/Makefile loaded first."""
    library = BUILD / "test" / f"{name}.so"
    assert library.exists()     # a program that cannot load it runs without
    return {"LD_PRELOAD": str(library)}


@contextlib.contextmanager
def many_files(count):
    """This process may have that many files open for the time being; without the right to, the test is skipped."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def pytest_configure():
    """Told to end, a run takes down what its tests have started, as it does when it is interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def claimed(items):
    """Of several test runs at a time, with the folder CHECK_CLAIMS in common, each takes what no other has taken."""
    claims = os.environ.get("CHECK_CLAIMS")
    for item in items:
        if claims is not None:
            try:
                (pathlib.Path(claims) / hashlib.sha256(item.nodeid.encode()).hexdigest()).touch(exist_ok=False)
            except FileExistsError:
                continue    # it is seen to
        yield item


def pytest_runtestloop(session):
    """As pytest's own, of the tests that are ours to run."""
    if session.config.option.collectonly or session.testsfailed:
        return None
    items = claimed(session.items)
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


class Servers:
    """The private PostgreSQL and RabbitMQ that all tests share."""

    def __init__(self):
        self.run("base")
        self.env = dict(line.removeprefix("export ").split("=", 1) for line in (RUN / "env").read_text().splitlines())
        self.env = {name: value.strip("'") for name, value in self.env.items()}
        with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as admin:
            admin.execute("DROP DATABASE IF EXISTS test_template")
            admin.execute("CREATE DATABASE test_template")
        with psycopg.connect(self.url_of("test_template"), autocommit=True) as template:
            template.execute("CREATE EXTENSION order_aggregator")

    def url_of(self, database, role=None):
        url = urllib.parse.urlsplit(self.env["DATABASE_URL"])
        return url._replace(netloc=f"{role or url.username}:{url.password}@{url.hostname}:{url.port}", path=f"/{database}").geturl()

    def run(self, command, *names):
        subprocess.run([TOP / "scripts" / "servers", command, RUN, *names], check=True, stdout=subprocess.DEVNULL)

    def kill(self, name):
        self.run("kill", name)

    def start(self, name):
        self.run("start", name)

    def rabbitmqctl(self, *words):
        return subprocess.run([TOP / "scripts" / "servers", "rabbitmqctl", RUN, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def servers():
    return Servers()


def die_with_the_test():
    """A program must not outlive a test run that is killed."""
    runs.end_with_parent(signal.SIGKILL)


class Program:
    """A program under test, with its log."""

    def __init__(self, name, words, env, tmp_path, folder=BUILD):
        self.port = int(env.get("PORT") or free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = tmp_path / f"{name}-{self.port}.log"
        self.log = open(self.log_path, "a")
        self.process = subprocess.Popen([folder / name, *words], env={**os.environ, **env, "PORT": str(self.port)},
                                        stdout=self.log, stderr=self.log, preexec_fn=die_with_the_test)

    def wait_for(self, path):
        def answers():
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                return requests.get(self.url + path, timeout=PATIENCE_S).status_code == 200
            except requests.ConnectionError:
                return False
        wait_until(answers, what=f"{self.url}{path}")
        return self

    def metrics(self):
        """All of one answer: {name: value}."""
        lines = [line.rsplit(" ", 1) for line in requests.get(f"{self.url}/metrics", timeout=PATIENCE_S).text.splitlines() if not line.startswith("#")]
        return {name.removeprefix("order_bridge_"): float(value) for name, value in lines}

    def metric(self, name):
        return self.metrics()[name]

    def unanswered(self):
        """How many requests it has received and not answered, but for the one that asks; each that has come counts, whatever was asked meanwhile."""
        found = self.metrics()
        return found["http_requests_total"] - found["http_request_seconds_count"] - 1

    def memory_kb(self, which="VmHWM"):
        """What it takes of memory: the most that it ever had, or now (VmRSS)."""
        return int(re.search(rf"{which}:\s+(\d+)", open(f"/proc/{self.process.pid}/status").read())[1])

    def logged(self, text):
        return text in self.log_path.read_text()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_S)

    def stop(self):
        """Tells it to stop. That it ends well is looked at: a sanitizer has it end otherwise."""
        end = self.kill(signal.SIGTERM)
        assert end == 0, self.log_path.read_text()


class Proxy:
    """Stands between a program and the broker; can cut a connection inside a frame, or stop reading."""

    def __init__(self, url):
        self.upstream = pika.URLParameters(url)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener_address = self.listener.getsockname()
        self.url = url.replace(f":{self.upstream.port}/", f":{self.listener_address[1]}/")
        self.cut_after = None       # bytes from the program that still pass
        self.cut_on = None          # bytes of the program's that cut its connection, and never arrive
        self.cuts = 0
        self.counting = threading.Lock()    # the program may have several connections
        self.flows = threading.Event()
        self.flows.set()
        self.held = threading.Event()   # something has come from the program that does not flow
        self.ends = set()               # open sockets
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.upstream.host, self.upstream.port))
            self.ends |= {client, server}
            threading.Thread(target=self.pump, args=[client, server, True], daemon=True).start()
            threading.Thread(target=self.pump, args=[server, client, False], daemon=True).start()

    def count(self, data):
        """What of the program's bytes passes, and whether the connection is cut behind it."""
        with self.counting:
            if self.cut_after is None:
                return data, False
            data, self.cut_after = data[:self.cut_after], self.cut_after - len(data)
            is_cut = self.cut_after <= 0
            if is_cut:
                self.cut_after, self.cuts = None, self.cuts + 1
            return data, is_cut

    def pump(self, source, target, from_program):
        tail = b""
        try:
            while True:
                if from_program:
                    select.select([source], [], [])
                    if not self.flows.is_set():
                        self.held.set()
                    self.flows.wait()
                data = source.recv(4096)
                data, is_cut = self.count(data) if from_program else (data, False)
                culprit = self.cut_on
                if from_program and culprit is not None:
                    if culprit in tail + data:
                        break
                    tail = (tail + data)[-len(culprit):]
                target.sendall(data)
                if is_cut or not data:
                    break
        except OSError:
            pass
        self.cut(source, target)

    def cut(self, *ends):
        for end in ends:
            self.ends.discard(end)
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def connections(self):
        return len(self.ends) // 2

    def die(self):
        """Refuses connections, and cuts those that there are."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut(*list(self.ends))

    def revive(self):
        self.listener = socket.create_server(self.listener_address)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.flows.set()
        self.listener.close()


class World:
    """One test's database, queues and programs."""

    def __init__(self, servers, tmp_path):
        self.servers, self.tmp_path, self.programs, self.listening = servers, tmp_path, [], []
        self.name = f"test_{next(numbers)}"
        with psycopg.connect(servers.env["DATABASE_URL"], autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {self.name} TEMPLATE test_template")
        # the programs' own; the bridge gets by with its role
        self.env = {"DATABASE_URL": servers.url_of(self.name, "order_bridge"), "RABBITMQ_URL": servers.env["RABBITMQ_URL"],
                    "FEED_ALLOW_ADDRESSES": "loopback"}
        self.url = servers.url_of(self.name)
        self.connect()
        self.purge()

    def connect(self):
        self.db = psycopg.connect(self.url, autocommit=True)

    def value(self, sql, *parameters):
        return self.db.execute(sql, parameters).fetchone()[0]

    def stock(self, **vendors):
        """Registers vendors and gives each its stock: stock(a={"x": 5})."""
        for priority, (vendor, items) in enumerate(vendors.items()):
            self.db.execute("SELECT order_aggregator.register_vendor(%s, %s, NULL, %s)", [vendor, vendor, priority])
            self.db.execute("SELECT order_aggregator.sync_vendor_stock(%s, %s)",
                            [vendor, psycopg.types.json.Jsonb([{"id": p, "quantity": q, "price": 1 + priority} for p, q in items.items()])])

    def place(self, count, product="x"):
        """Places so many orders of one unit in one transaction and returns how many were served."""
        return self.value("""SELECT count(order_id) FROM order_aggregator.place_orders(
                             (SELECT jsonb_agg(jsonb_build_object('productId', %s::text, 'quantity', 1)) FROM generate_series(1, %s)))""",
                          product, count)

    def relayed_all(self):
        """True once the relay has written down that the broker has every event that there is."""
        return self.value("SELECT published >= order_aggregator.outbox_head() FROM order_aggregator.relay_checkpoint")

    def statuses(self):
        return dict(self.db.execute("SELECT status, count(*) FROM order_aggregator.orders GROUP BY 1").fetchall())

    def consistent(self):
        assert self.db.execute("SELECT * FROM order_aggregator.check_consistency()").fetchall() == []

    # the broker

    def channel(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.env["RABBITMQ_URL"]))
        return connection.channel()

    @contextlib.contextmanager
    def login(self, name, write=".*", read=".*"):
        """A RabbitMQ user that may write and read what these patterns say, and configure nothing; gives what connects as it and opens a channel."""
        url = urllib.parse.urlsplit(self.env["RABBITMQ_URL"])
        self.servers.rabbitmqctl("add_user", name, "secret")
        try:
            self.servers.rabbitmqctl("set_permissions", "-p", "/", name, "", write, read)
            yield lambda: pika.BlockingConnection(pika.URLParameters(url._replace(netloc=f"{name}:secret@{url.hostname}:{url.port}").geturl())).channel()
        finally:
            self.servers.rabbitmqctl("delete_user", name)

    def broker_major(self):
        """The major version of RabbitMQ."""
        return int(self.channel().connection._impl.server_properties["version"].split(".")[0])

    def purge(self):
        for queue in QUEUES:
            channel = self.channel()
            try:
                channel.queue_purge(queue)
            except pika.exceptions.ChannelClosedByBroker:
                continue  # not there yet
            channel.connection.close()

    def depth(self, queue):
        channel = self.channel()
        count = channel.queue_declare(queue, passive=True).method.message_count
        channel.connection.close()
        return count

    def listen(self, *keys):
        """A durable queue of the test's own bound to some keys; read it with take()."""
        channel = self.channel()
        channel.exchange_declare("orders", "topic", durable=True)
        queue = f"{self.name}.{next(numbers)}"
        self.listening.append(queue)
        channel.queue_declare(queue, durable=True)
        for key in keys:
            channel.queue_bind(queue, "orders", key)
        channel.connection.close()
        return queue

    def take(self, queue):
        """All messages now in the queue, as (properties, body, routing key)."""
        channel, messages = self.channel(), []
        count = channel.queue_declare(queue, passive=True).method.message_count
        for method, properties, body in channel.consume(queue) if count else []:
            messages.append((properties, body, method.routing_key))
            if len(messages) == count:      # what came later goes back
                channel.basic_ack(method.delivery_tag, multiple=True)
                break
        channel.connection.close()
        return messages

    def take_orders(self, queue, order_ids):
        """All messages of the queue once there are events of all these orders among them; how many there are says nothing, some come twice."""
        messages, wanted = [], set(order_ids)

        def complete():
            messages.extend(self.take(queue))
            return wanted <= {json.loads(body)["orderId"] for _, body, _ in messages}
        wait_until(complete, what=f"the events of {len(wanted)} orders")
        return messages

    def reply(self, *bodies, queue="orders.replies"):
        channel = self.channel()
        channel.confirm_delivery()      # a channel that is closed takes along what the queue has not taken
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(message_id="test"), mandatory=True)
        channel.connection.close()

    # the programs

    def program(self, *words, **env):
        """A bridge that is not waited for."""
        self.programs.append(Program("order-bridge", ["run", *words], {**self.env, "EXPIRE_INTERVAL_MS": "100", **env}, self.tmp_path))
        return self.programs[-1]

    def bridge(self, *words, **env):
        program = self.program(*words, **env)
        return program.wait_for("/healthz") if not words or "http" in words[0] else program

    def ready_bridge(self, *words, **env):
        return self.bridge(*words, **env).wait_for("/readyz")

    def faulty_bridge(self, fault, **env):
        """A bridge that is killed at a fault point (fault.h)."""
        program = Program("order-bridge", ["run"], {**self.env, "EXPIRE_INTERVAL_MS": "100", "FAULT": fault, **env}, self.tmp_path, BUILD / "faults")
        self.programs.append(program)
        return program

    def vendors(self, *words):
        program = Program("vendor-sim", words, self.env, self.tmp_path)
        self.programs.append(program)
        return program.wait_for("/vendor")

    def command(self, *words, **env):
        return subprocess.run([BUILD / "order-bridge", *words], env={**os.environ, **self.env, **env}, capture_output=True, text=True, timeout=PATIENCE_S)

    def close(self):
        ends = {program.log_path: program.kill(signal.SIGTERM) for program in self.programs if program.process.poll() is None}
        self.db.close()
        channel = self.channel()
        for queue in self.listening:
            channel.queue_delete(queue)
        channel.connection.close()
        with psycopg.connect(self.servers.env["DATABASE_URL"], autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
        for log_path, end in ends.items():      # by a sanitizer too
            assert end == 0, log_path.read_text()


@pytest.fixture
def world(servers, tmp_path):
    world = World(servers, tmp_path)
    yield world
    world.close()
