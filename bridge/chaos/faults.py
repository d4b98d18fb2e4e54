"""What goes wrong. Each fault is done, kept up for a while, and put right again."""

import concurrent.futures
import contextlib
import itertools
import os
import random
import signal
import subprocess
import time

import psycopg

OURS = "application_name LIKE 'order-bridge%' OR application_name LIKE 'chaos%'"


class Faults:
    """The faults that a stage can have; play() does one of them, and returns False if it could not be done."""

    def __init__(self, stage, feeds, worker, auditor, seed):
        self.stage, self.feeds, self.worker, self.auditor = stage, feeds, worker, auditor
        self.random = random.Random(f"{seed} faults")
        # how often: those after which all is soon there again more than others, so that there are many
        self.kinds = {
            "bridge killed": (3, self.bridge_killed),
            "bridge told to stop": (4, self.bridge_told_to_stop),
            "bridge frozen": (3, self.bridge_frozen),
            "broker killed": (2, self.broker_killed),
            "broker frozen": (1, self.broker_frozen),
            "broker's memory full": (1, self.broker_memory_full),
            "broker's disk full": (1, self.broker_disk_full),
            "broker closes all connections": (1, self.broker_closes),
            "database killed": (3, self.database_killed),
            "database frozen": (1, self.database_frozen),
            "backend killed": (1, self.backend_killed),
            "all backends ended": (6, self.backends_ended),
            "stock locked": (4, self.stock_locked),
            "old transaction": (1, self.old_transaction),
            "table rewritten": (4, self.table_rewritten),
            "index rebuilt": (6, self.index_rebuilt),
            "dump": (1, self.dump),
            "feeds fail": (4, self.feeds_fail),
            "network slow": (4, lambda: self.network("slow", 4)),
            "network silent": (3, lambda: self.network("silent", 5)),
            "network cut": (3, lambda: self.network("cut", 3)),
            "vendor's clock wrong": (4, self.clock_wrong),
            "vendors disconnected": (6, self.vendors_disconnected),
            "vendors gone": (3, self.vendors_gone),
            "vendors frozen": (1, self.vendors_frozen),
        }
        if len(stage.bridges) > 1:
            self.kinds["two leaders"] = (3, self.two_leaders)
        if len(stage.brokers) > 1:
            self.kinds["broker cut off"] = (1, self.broker_cut_off)
        if len(stage.databases) > 1:
            self.kinds |= {
                "machine of the database killed": (1, self.machine_killed),
                "standby killed": (1, self.standby_killed),
                "standby frozen": (1, self.standby_frozen),
                "replication silent": (1, self.replication_silent),
                "switch-over": (1, self.switchover),
                "etcd killed": (3, self.etcd_killed),
                "etcd frozen": (1, self.etcd_frozen),
                "patroni killed": (1, self.patroni_killed),
                "patroni frozen": (1, self.patroni_frozen),
            }
        else:
            self.kinds["disk full"] = (1, self.disk_full)

        only = os.environ.get("SOAK_FAULTS", "")
        self.kinds = {kind: how for kind, how in self.kinds.items() if any(word in kind for word in only.split(","))}

    def by_chance(self):
        """Each kind once, and then for ever any."""
        yield from self.random.sample([*self.kinds], len(self.kinds))
        while True:
            yield self.random.choices([*self.kinds], [weight for weight, _ in self.kinds.values()])[0]

    def play(self, kind):
        return self.kinds[kind][1]() is not False

    def some_bridge(self):
        return self.random.choice(self.stage.bridges)

    def some_broker(self):
        return self.random.choice(self.stage.brokers)

    def while_(self, seconds):
        time.sleep(self.random.uniform(0.2, 1) * seconds)

    # processes

    def killed(self, name, seconds):
        self.stage.run("kill", name)
        self.while_(seconds)
        self.stage.run("start", name)

    @contextlib.contextmanager
    def freezing(self, name):
        self.stage.run("freeze", name)
        try:
            yield
        finally:
            self.stage.run("thaw", name)

    def frozen(self, name, seconds):
        with self.freezing(name):
            self.while_(seconds)

    def bridge_killed(self):
        self.killed(self.some_bridge(), 1)

    def bridge_told_to_stop(self):
        name = self.some_bridge()
        self.stage.run("stop", name)
        end = self.stage.last_line(name)
        assert end.endswith(" stopped"), f"it did not end in order: {end}"
        self.stage.run("start", name)

    def bridge_frozen(self):
        self.frozen(self.some_bridge(), 5)

    def two_leaders(self):
        """The bridge whose relay leads is frozen until another one leads, and wakes up as a leader."""
        with self.freezing(self.stage.relay_leader()):
            self.stage.relay_leader()

    def broker_killed(self):
        self.killed(self.some_broker(), 2)

    def broker_frozen(self):
        self.frozen(self.some_broker(), 6)

    def database_killed(self):
        """The server that leads: at once it is started again, or another one leads."""
        if len(self.stage.databases) == 1:
            self.killed(self.stage.leader(), 1)
        else:
            self.stage.run("kill", f"{self.stage.leader()}.server")

    def database_frozen(self):
        """Longer than its lease sometimes: then there is another leader when it wakes up."""
        self.frozen(self.stage.leader(), 4 if len(self.stage.databases) == 1 else 14)

    def disk_full(self):
        def told():
            return self.stage.log(self.stage.leader()).count("No space left on device")
        before = told()
        with self.stage.disk_full():
            self.while_(6)
        return told() > before

    def machine_killed(self):
        """The server and who looks after it: only time tells that it is dead."""
        self.killed(self.stage.leader(), 12)

    def standby_killed(self):
        self.killed(self.stage.follower(), 3)

    def standby_frozen(self):
        self.frozen(self.stage.follower(), 6)

    def replication_silent(self):
        """The follower's server and its Patroni run, and what the leader sends it stays on the way."""
        pid = self.stage.walreceiver()
        if pid is None:
            return False
        os.kill(pid, signal.SIGSTOP)
        try:
            self.while_(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def switchover(self):
        self.stage.run("switchover")

    def etcd_killed(self):
        self.killed("etcd", 6)

    def etcd_frozen(self):
        self.frozen("etcd", 6)

    def patroni_killed(self):
        """Its server goes on. If it goes on beyond the lease, without a watchdog, there are two leaders, and a bridge that has not met
        the new one may answer from the past of the old one (docs/operations.md): no longer than that here."""
        self.killed(f"{self.stage.leader()}.patroni", 3)

    def patroni_frozen(self):
        self.frozen(f"{self.stage.leader()}.patroni", 14)

    # connections

    def alarm(self, setting, raised, normal):
        name = self.some_broker()
        self.stage.rabbitmqctl(name, setting, raised)
        try:
            self.while_(3)
        finally:
            self.stage.rabbitmqctl(name, setting, normal)

    def broker_memory_full(self):
        self.alarm("set_vm_memory_high_watermark", "0.00001", "0.4")

    def broker_disk_full(self):
        self.alarm("set_disk_free_limit", "100000GB", "200MB")

    def broker_closes(self):
        with concurrent.futures.ThreadPoolExecutor() as together:
            list(together.map(lambda name: self.stage.rabbitmqctl(name, "close_all_connections", "chaos"), self.stage.brokers))

    def broker_cut_off(self):
        """A node that all others refuse, and that refuses them: it pauses, being the minority, and is to come back by itself."""
        name = self.some_broker()
        others = self.stage.rabbitmqctl(name, "eval", "nodes().")
        self.stage.rabbitmqctl(name, "eval", f"[{{erlang:set_cookie(N, 'not theirs'), erlang:disconnect_node(N)}} || N <- {others}].")
        try:
            assert self.stage.wait_until(lambda: "false" in self.stage.rabbitmqctl(name, "eval", "rabbit:is_running().")), f"{name} alone goes on"
            self.while_(6)
        finally:
            self.stage.rabbitmqctl(name, "eval", f"[erlang:set_cookie(N, erlang:get_cookie()) || N <- {others}].")

    def network(self, mode, seconds):
        """Between all bridges and all servers."""
        self.stage.network.turn(mode)
        try:
            self.while_(seconds)
        finally:
            self.stage.network.turn("well")

    def backends_ended(self):
        with self.stage.connect() as db:
            db.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND ({OURS})")

    def backend_killed(self):
        """By kill -9: the server ends all others too, and recovers."""
        with self.stage.connect() as db:
            pid = db.execute(f"SELECT pid FROM pg_stat_activity WHERE {OURS} ORDER BY random() LIMIT 1").fetchone()[0]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def vendors_disconnected(self):
        for consumer in (self.worker, self.auditor):
            consumer.cut.set()

    def vendors_gone(self):
        """Nobody answers, and no feed does either."""
        self.feeds.fault = "gone"
        try:
            self.without(self.worker.here, 6)
        finally:
            self.feeds.fault = None

    def vendors_frozen(self):
        """They keep what they were asked, and their connection, until the broker misses their heartbeats."""
        self.without(self.worker.awake, 12)

    def without(self, event, seconds):
        event.clear()
        try:
            self.while_(seconds)
        finally:
            event.set()

    # what others do in the database

    def stock_locked(self):
        """Somebody's transaction has locked rows of the stock and stays open."""
        with contextlib.suppress(psycopg.Error), self.stage.connect() as db, db.transaction():
            db.execute("SELECT FROM order_aggregator.stock WHERE product_id = ANY (%s) FOR UPDATE", [[f"p{n}" for n in self.random.sample(range(12), 3)]])
            self.while_(4)
            return True
        return False

    def old_transaction(self):
        """One that reads, and keeps all that is dead from being removed."""
        with contextlib.suppress(psycopg.Error), self.stage.connect() as db, db.transaction():
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            db.execute("SELECT count(*) FROM order_aggregator.orders")
            self.while_(8)
            return True
        return False

    def run_sql(self, sql):
        with contextlib.suppress(psycopg.errors.OperationalError, psycopg.errors.LockNotAvailable), self.stage.connect() as db:
            db.execute("SET lock_timeout = '5s'")
            db.execute(sql)
            return True
        return False

    def table_rewritten(self):
        return self.run_sql(self.random.choice(["VACUUM (FULL, ANALYZE) order_aggregator.stock", "VACUUM FULL order_aggregator.orders", "VACUUM FULL order_aggregator.hold",
                                         "CLUSTER order_aggregator.order_line USING order_line_pkey"]))

    def index_rebuilt(self):
        return self.run_sql(self.random.choice(["REINDEX TABLE CONCURRENTLY order_aggregator.orders", "REINDEX TABLE order_aggregator.stock", "REINDEX TABLE CONCURRENTLY order_aggregator.hold"]))

    def dump(self):
        return subprocess.run(["pg_dump", "-Fc", "--no-sync", "-f", os.devnull, self.stage.database_url], check=False, capture_output=True, timeout=120).returncode == 0

    # the vendors' side

    def feeds_fail(self):
        self.feeds.fault = self.random.choice(["fails", "hangs", "cut"])
        try:
            self.while_(4)
        finally:
            self.feeds.fault = None

    def clock_wrong(self):
        self.feeds.clock_off_s = self.random.choice([-7200, -30, 30, 7200])
        try:
            self.while_(5)
        finally:
            self.feeds.clock_off_s = 0


class Outages:
    """How long no order was accepted at a door, and no event came to the broker's other side, while a fault of a kind was there."""

    DOORS = ("sql", "http", "event")

    def __init__(self, ledger, auditor):
        self.ledger, self.auditor, self.times = ledger, auditor, {}

    def wait_for_orders(self, patience_s):
        """Until each door has accepted one that was asked for now, and an event has come; False: there was none."""
        began, deadline = time.monotonic(), time.monotonic() + patience_s
        while not set(self.DOORS) <= {door for door, asked_at, _ in self.since(began) if asked_at >= began}:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def since(self, moment):
        """Orders answered since then, refused or not, and events."""
        events = itertools.takewhile(lambda at: at >= moment, reversed(self.auditor.moments))
        with self.ledger.lock:
            return [*itertools.takewhile(lambda entry: entry[2] >= moment, reversed(self.ledger.answers)), *(("event", at, at) for at in events)]

    def note(self, kind, began):
        """The longest gap of each door from then until now, and the longest that an order which was answered meanwhile had been asked for."""
        answers, now = self.since(began), time.monotonic()
        gaps = {}
        for door in self.DOORS:
            moments = [began, *sorted(answered for d, _, answered in answers if d == door), now]
            gaps[door] = max(b - a for a, b in zip(moments, moments[1:]))
        gaps["slowest"] = max(answered - asked_at for _, asked_at, answered in answers)
        for what, seconds in gaps.items():
            self.times.setdefault(kind, {}).setdefault(what, []).append(seconds)
        return gaps

    def of_kinds(self, kinds, doors):
        """All gaps at those doors under faults whose names match."""
        return [seconds for kind, gaps in self.times.items() if kinds.fullmatch(kind) for door in doors for seconds in gaps[door]]


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]
