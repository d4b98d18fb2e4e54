"""The servers that are played with: one of each, or the cluster."""

import contextlib
import os
import re
import pathlib
import shutil
import subprocess
import time
import urllib.parse

import psycopg
import requests
from network import Network

TOP = pathlib.Path(__file__).resolve().parent.parent.parent

WHOLE_S = 120       # after a fault everything is there again within that
COMMAND_S = 300     # a script's command, of which each wait has a bound of its own
CRASHED = re.compile(r"terminated by signal (4|6|7|8|11)\b|TRAP: |PANIC: |runtime error: ")    # 9 and 15 are ours
WITHOUT_SPACE = re.compile(r"terminated by signal 6\b|PANIC: ")
# everything that lasts minutes in a shop lasts seconds here
PROGRAM_ENV = {"EXPIRE_INTERVAL_MS": "500", "ASK_AGAIN_S": "5", "REQUEST_TIMEOUT_S": "5", "CIRCUIT_OPEN_S": "3", "BROKER_TIMEOUT_S": "5", "RELAY_LEASE_S": "3"}


class Stage:
    """Starts, stops and kills by a script of ours, and knows where everything is."""

    script, databases, brokers, bridges = None, [], [], []

    def __init__(self, folder):
        self.folder, self.network, self.program_env = pathlib.Path(folder), Network(), dict(PROGRAM_ENV)
        self.without_space = []         # (log, from, to): the bytes in which its server may give itself up

    def run(self, command, *words):
        subprocess.run([TOP / "scripts" / self.script, command, self.folder, *words], check=True, env={**os.environ, **self.program_env}, stdout=subprocess.DEVNULL,
                       timeout=COMMAND_S)

    def read(self, command, *words):
        return subprocess.run([TOP / "scripts" / self.script, command, self.folder, *words], check=True, capture_output=True, text=True, timeout=COMMAND_S).stdout

    def up(self):
        self.run("down")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.run("base")
        self.env = self.read_env("env")
        self.database_url, self.broker_urls = self.env["DATABASE_URL"], self.env["RABBITMQ_URL"].split(",")
        for name, url in self.read_env("bridge.env").items():
            self.program_env[f"BRIDGE_{name}"] = self.through_network(url)
        self.http_urls = [self.env[name] for name in ("HTTP_URL", "HTTP_URL_2") if name in self.env]

    def read_env(self, name):
        lines = (self.folder / name).read_text().splitlines()
        return {key.removeprefix("export "): value.strip("'") for key, value in (line.split("=", 1) for line in lines)}

    def through_network(self, url):
        """The same URL, each of its addresses by way of the network that may be cut."""
        return re.sub(r"(127\.0\.0\.\d+):(\d+)", lambda match: f"127.0.0.1:{self.network.through(match[1], int(match[2]))}", url)

    def start_bridges(self):
        for name in self.bridges:
            self.run("start", name)
        assert self.wait_until_whole(), "the bridges do not become ready"

    def down(self):
        self.run("down")

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def last_line(self, name):
        """Of a log."""
        with (self.folder / f"{name}.log").open("rb") as file:
            file.seek(-min(4096, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read().decode(errors="replace").rstrip().rsplit("\n", 1)[-1]

    def crashes(self):
        """What the logs tell of crashes that were not ours."""
        return [f"{path.stem}: {line}" for path in sorted(self.folder.glob("*.log")) for place, line in self.lines_of(path)
                if CRASHED.search(line) and not (WITHOUT_SPACE.search(line) and self.was_without_space(path.stem, place))]

    @staticmethod
    def lines_of(path):
        """The lines of a log, each with the byte where it begins."""
        place = 0
        for line in path.read_bytes().split(b"\n"):
            yield place, line.decode(errors="replace")
            place += len(line) + 1

    def was_without_space(self, name, place):
        return any(log == name and begin <= place < end for log, begin, end in self.without_space)

    def connect(self, url=None, timeout_s=2):
        """To the database that leads, or to that of the URL."""
        return psycopg.connect(url or self.database_url, autocommit=True, connect_timeout=timeout_s)

    def database_urls(self):
        """The same database by each of its hosts."""
        url = urllib.parse.urlsplit(self.database_url)
        login, hosts = url.netloc.rsplit("@", 1)
        return [url._replace(netloc=f"{login}@{host}").geturl() for host in hosts.split(",")]

    def node_urls(self):
        """Of each database by itself, whether it leads or not."""
        return [url.replace("target_session_attrs=read-write", "target_session_attrs=any") for url in self.database_urls()]

    def rabbitmqctl(self, name, *words):
        return self.read("rabbitmqctl", *self.words_of_broker(name), *words)

    def words_of_broker(self, name):
        return []

    def bridges_are_ready(self):
        for url in self.http_urls:
            try:
                if requests.get(f"{url}/readyz", timeout=3).status_code != 200:
                    return False
            except requests.RequestException:
                return False
        return True

    def relay_leader(self):
        """The bridge whose relay says that it leads; waits until one of those that answer does."""
        def leading():
            for name, url in zip(self.bridges, self.http_urls):
                with contextlib.suppress(requests.RequestException):
                    if "order_bridge_relay_leads 1\n" in requests.get(f"{url}/metrics", timeout=0.5).text:
                        return name
            return None
        name = self.wait_until(leading)
        assert name, f"no relay led for {WHOLE_S} s"
        return name

    def is_whole(self):
        return self.bridges_are_ready()

    def wait_until_whole(self):
        """Until the next fault would be the only one; False if it does not come to that."""
        return self.wait_until(self.is_whole)

    @staticmethod
    def wait_until(condition, seconds=WHOLE_S):
        """The condition's value once it is true, or the false one that it had in the end."""
        began = time.monotonic()
        while not (value := condition()) and time.monotonic() - began < seconds:
            time.sleep(0.2)
        return value


class OneNode(Stage):
    script, databases, brokers, bridges = "servers", ["postgresql"], ["rabbitmq"], ["bridge"]

    def __init__(self, folder):
        super().__init__(folder)
        self.full_disk = self.folder.with_name(f"{self.folder.name}.full_disk")
        self.program_env["FULL_DISK"] = str(self.full_disk)

    def up(self):
        self.full_disk.parent.mkdir(parents=True, exist_ok=True)
        self.set_disk_full(False)
        super().up()

    @contextlib.contextmanager
    def disk_full(self):
        """The server may crash over it, even for good; then it is started again."""
        name = self.leader()
        log = self.folder / f"{name}.log"
        began = log.stat().st_size
        self.set_disk_full(True)
        try:
            yield
        finally:
            self.set_disk_full(False)
            self.run("start", name)
            self.wait_until(self.is_written)
            self.without_space.append((name, began, log.stat().st_size))

    def is_written(self):
        """What the database is given to write is on its disk."""
        with contextlib.suppress(psycopg.Error), self.connect() as db:
            return db.execute("SELECT pg_logical_emit_message(true, 'chaos', 'written')").fetchone()

    def set_disk_full(self, is_full):
        """No file of PostgreSQL grows while it is; see full_disk.c."""
        with open(self.full_disk, "r+b" if self.full_disk.exists() else "wb") as file:
            file.write(bytes([is_full]))

    def leader(self):
        return "postgresql"


class Cluster(Stage):
    script, databases, brokers, bridges = "cluster", ["pg1", "pg2"], ["rabbit1", "rabbit2", "rabbit3"], ["bridge1", "bridge2"]

    def leader(self):
        """Waits until there is one that answers."""
        name = self.wait_until(lambda: self.read("leader").strip().replace("none", ""))
        assert name, f"no database led for {WHOLE_S} s"
        return name

    def walreceiver(self):
        """The process by which a database follows the leader; None if there is none."""
        for url in self.node_urls():
            with contextlib.suppress(psycopg.Error), self.connect(url) as db:
                found = db.execute("SELECT pid FROM pg_stat_wal_receiver").fetchone()
                if found is not None:
                    return found[0]
        return None

    def follower(self):
        return next(name for name in self.databases if name != self.leader())

    def words_of_broker(self, name):
        return [name]

    def is_whole(self):
        """A leader that somebody follows in step, all nodes of the broker, both bridges."""
        with contextlib.suppress(psycopg.Error, subprocess.CalledProcessError):
            with self.connect() as db:
                if db.execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'").fetchone()[0] != 1:
                    return False
            return self.read("is-whole").strip() == "yes" and self.bridges_are_ready()
        return False
