"""GET requests are answered from a standby, and whoever has done something still sees it."""

import os
import pathlib
import signal
import threading

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, wait_until
from pgbouncer import PgBouncer
from test_database import address_of, pg_ctl, standby, url_with_hosts


@pytest.fixture
def replica(world):
    world.stock(a={"x": 100000})
    with standby(world, streams=True) as url:
        yield url


def url_of_bridge(world, url):
    """That server, as the bridge's role."""
    here, there = psycopg.conninfo.conninfo_to_dict(world.env["DATABASE_URL"]), psycopg.conninfo.conninfo_to_dict(url)
    return psycopg.conninfo.make_conninfo(**{**here, "port": there["port"]})


def bridge_of(world, replica):
    return world.ready_bridge("--roles=http", READ_DATABASE_URL=url_of_bridge(world, replica))


def send(bridge, method, path, **more):
    return requests.request(method, bridge.url + path, timeout=PATIENCE_S, **more)


def place(bridge):
    answer = send(bridge, "POST", "/order", json={"productId": "x", "quantity": 1})
    assert answer.status_code == 201, answer.text
    return answer.json()["orderId"]


def sees_its_own(world, bridge, other, times):
    """What was just done is seen, by whatever bridge, and whatever way it was done."""
    for _ in range(times):
        order = place(bridge)
        assert send(other, "GET", f"/order/{order}").json()["status"] == "pending"
        assert send(bridge, "POST", f"/order/{order}/cancel", json={"reason": "test"}).status_code == 200
        assert send(other, "GET", f"/order/{order}").json()["status"] == "cancelled"
        order = world.value("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')")
        assert send(other, "GET", f"/order/{order}").json()["status"] == "pending"
        free = world.value("SELECT available FROM order_aggregator.product_stock WHERE product_id = 'x'")
        assert send(other, "GET", "/products/x").json()["available"] == free
        assert send(other, "GET", "/products").json()["data"][0]["quantity"] == free


def processes_of(world):
    """The standby's."""
    postmaster = int((world.tmp_path / "standby" / "postmaster.pid").read_text().split()[0])
    return [postmaster, *(int(pid) for pid in pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]


def on_standby(bridge):
    return bridge.metric("reads_on_standby_total")


def comes_back(world, bridge, before):
    """The standby is read from again."""
    def is_read_from():
        sees_its_own(world, bridge, bridge, 1)
        return on_standby(bridge) > before
    wait_until(is_read_from, what="the standby to be read from again")


def test_whoever_has_done_something_sees_it(world, replica):
    bridge, other = world.ready_bridge("--roles=http"), bridge_of(world, replica)
    sees_its_own(world, bridge, other, 30)
    assert on_standby(other) > 30 and on_standby(bridge) == bridge.metric("reads_on_primary_total") == 0


def test_one_that_is_behind_is_not_read_from(world, replica):
    bridge = bridge_of(world, replica)
    sees_its_own(world, bridge, bridge, 3)
    with psycopg.connect(replica, autocommit=True) as db:
        db.execute("SELECT pg_wal_replay_pause()")
        wait_until(lambda: db.execute("SELECT pg_get_wal_replay_pause_state()").fetchone()[0] == "paused", what="the pause")
        place(bridge)
        before, on_primary = on_standby(bridge), bridge.metric("reads_on_primary_total")
        sees_its_own(world, bridge, bridge, 5)
        assert on_standby(bridge) == before and bridge.metric("reads_on_primary_total") >= on_primary + 15
        db.execute("SELECT pg_wal_replay_resume()")

    comes_back(world, bridge, before)


def test_one_that_is_damaged_costs_no_request(world, replica):
    """The primary is well."""
    order = world.value("SELECT order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')")
    path = world.value("SELECT pg_relation_filepath('order_aggregator.orders')")
    world.db.execute("SELECT FROM order_aggregator.orders")     # the first to read a page writes it to the WAL, where there are checksums: 18's default
    world.db.execute("CHECKPOINT")
    end = world.value("SELECT pg_current_wal_insert_lsn()")
    with psycopg.connect(replica, autocommit=True) as db:       # nothing is to be replayed over the damage
        wait_until(lambda: db.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]).fetchone()[0], what="the order and the checkpoint")
        db.execute("CHECKPOINT")
    folder = world.tmp_path / "standby"
    pg_ctl(folder, "stop", "-m", "fast")
    with open(folder / path, "r+b") as file:
        file.write(b"\x55" * 8192)
    pg_ctl(folder, "start")
    with psycopg.connect(replica, autocommit=True) as db, pytest.raises(psycopg.errors.DataCorrupted):
        db.execute("SELECT * FROM order_aggregator.orders")
    bridge = bridge_of(world, replica)
    wait_until(lambda: bridge.logged("the standby is there"), what="the standby")

    def meets_it():
        answer = send(bridge, "GET", f"/order/{order}")
        assert answer.status_code == 200, answer.text
        return bridge.logged("sqlstate=XX001")
    wait_until(meets_it, what="the damaged page to be read")
    world.consistent()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
def test_one_that_dies_costs_no_request(world, replica, number):
    bridge = bridge_of(world, replica)
    order, stopping, statuses = place(bridge), threading.Event(), []

    def read():
        while not stopping.is_set():
            statuses.append(send(bridge, "GET", f"/order/{order}").status_code)
    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    wait_until(lambda: on_standby(bridge) > 20, what="reads from the standby")
    pids = processes_of(world)
    for pid in pids:
        os.kill(pid, number)
    try:
        before = len(statuses)
        wait_until(lambda: len(statuses) > before + 200, what="more reads")
        stopping.set()
        for reader in readers:
            reader.join()
        assert set(statuses) == {200}
        sees_its_own(world, bridge, bridge, 2)
    finally:
        if number == signal.SIGSTOP:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("more", [{}, {"target_session_attrs": "prefer-standby"}], ids=["by default", "prefer-standby"])
def test_a_standby_among_several_hosts_is_found_again(world, replica, more):
    """While it hangs the primary is all there is, which may even be connected to; but it is not stayed with."""
    here, there = (psycopg.conninfo.conninfo_to_dict(url) for url in (world.env["DATABASE_URL"], replica))
    hosts = psycopg.conninfo.make_conninfo(**{**here, "host": f"{here['host']},{here['host']}", "port": f"{here['port']},{there['port']}", **more})
    bridge = world.ready_bridge("--roles=http", READ_DATABASE_URL=hosts)
    comes_back(world, bridge, 0)
    pids = processes_of(world)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    tried = f"port={here['port']}" if more else "not in hot standby mode"
    wait_until(lambda: [line for line in bridge.log_path.read_text().splitlines() if " http.standby " in line and tried in line], what="the primary to be tried")
    before = on_standby(bridge)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    comes_back(world, bridge, before)


def test_one_of_several_that_stays_behind_is_left(world, replica):
    """It is connected to, and well, and will never catch up: the other one is read from."""
    with standby(world, streams=True, name="other") as other:
        hosts = url_with_hosts(world.env["DATABASE_URL"], address_of(replica), address_of(other))
        bridge = world.ready_bridge("--roles=http", READ_DATABASE_URL=hosts)
        comes_back(world, bridge, 0)
        with psycopg.connect(replica, autocommit=True) as db:
            db.execute("SELECT pg_wal_replay_pause()")
            before = on_standby(bridge)
            comes_back(world, bridge, before)
            db.execute("SELECT pg_wal_replay_resume()")


def test_what_is_no_standby_of_ours_is_not_read_from(world, replica):
    """One that leads by itself now, another database, the primary itself."""
    bridge = bridge_of(world, replica)
    sees_its_own(world, bridge, bridge, 2)
    with psycopg.connect(replica, autocommit=True) as db:
        assert db.execute("SELECT pg_promote()").fetchone()[0]
        before = on_standby(bridge)
        wait_until(lambda: bridge.logged("is not in hot standby mode"), what="another look at it")
        sees_its_own(world, bridge, bridge, 3)      # its timeline is ahead of ours now
        assert on_standby(bridge) == before
        assert "READ_DATABASE_URL: is no standby" in world.command("doctor", READ_DATABASE_URL=url_of_bridge(world, replica)).stdout
    for url, complaint in ((world.servers.url_of("test_template", "order_bridge"), "is another database"), (world.env["DATABASE_URL"], "is no standby")):
        bridge = world.ready_bridge("--roles=http", READ_DATABASE_URL=url)
        sees_its_own(world, bridge, bridge, 2)
        assert on_standby(bridge) == 0
        assert f"READ_DATABASE_URL: {complaint}" in world.command("doctor", READ_DATABASE_URL=url).stdout


def test_a_standby_behind_a_pooler_is_not_read_from(world, replica):
    """It may be several: one says how far it is, and another one is read."""
    url = url_with_hosts(world.env["DATABASE_URL"], address_of(replica))
    pooler = PgBouncer(world.tmp_path / "pgbouncer", [replica, url], "transaction", 2)
    url = pooler.url_of(url)
    bridge = world.ready_bridge("--roles=http", READ_DATABASE_URL=url)
    sees_its_own(world, bridge, bridge, 2)
    wait_until(lambda: bridge.logged("READ_DATABASE_URL is behind a pooler"), what="the complaint")
    assert on_standby(bridge) == 0
    assert "READ_DATABASE_URL: is behind a pooler" in world.command("doctor", READ_DATABASE_URL=url).stdout
    bridge.stop()
    pooler.close()


def test_the_doctor_knows_a_standby(world, replica):
    assert "standby: GET requests are answered from it" in world.command("doctor", READ_DATABASE_URL=url_of_bridge(world, replica)).stdout
    result = world.command("run", READ_DATABASE_URL="host=x nonsense")
    assert result.returncode == 64 and "READ_DATABASE_URL is not a connection string" in result.stderr


def test_reads_that_are_ended_there_come_to_the_primary(world, replica):
    """As those are that conflict with what the standby replays."""
    bridge, stopping = bridge_of(world, replica), threading.Event()
    order = place(bridge)
    sees_its_own(world, bridge, bridge, 2)

    def end_them():
        with psycopg.connect(replica, autocommit=True) as db:
            while not stopping.is_set():
                db.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'order-bridge queries' AND state = 'active'")
    ender = threading.Thread(target=end_them)
    ender.start()
    assert {send(bridge, "GET", f"/order/{order}").status_code for _ in range(300)} == {200}
    stopping.set()
    ender.join()
    comes_back(world, bridge, on_standby(bridge))


def test_a_standby_of_a_primary_that_was_replaced_is_not_read_from(world):
    """As a primary that comes back, before it is set back: it has replayed more than the new one has written, and lacks what that has."""
    world.stock(a={"x": 100000})
    with standby(world, streams=True) as behind, standby(world, name="next") as ahead:
        with psycopg.connect(ahead, autocommit=True) as db, psycopg.connect(behind, autocommit=True) as old:
            assert db.execute("SELECT pg_promote()").fetchone()[0]
            for _ in range(3):
                world.db.execute("SELECT pg_switch_wal(), order_aggregator.place_order('c', '[{\"productId\": \"x\", \"quantity\": 1}]')")
            lsn = world.value("SELECT pg_current_wal_lsn()")
            wait_until(lambda: old.execute("SELECT pg_last_wal_replay_lsn() >= %s", [lsn]).fetchone()[0], what="the old standby")
        bridge = world.ready_bridge("--roles=http", DATABASE_URL=url_of_bridge(world, ahead), READ_DATABASE_URL=url_of_bridge(world, behind))
        wait_until(lambda: bridge.logged("the standby is there"), what="the standby")
        for _ in range(20):
            assert send(bridge, "GET", f"/order/{place(bridge)}").status_code == 200
        assert on_standby(bridge) == 0
        bridge.stop()
