"""How a bridge begins and ends: its descriptors, its signals, and who reads its log."""

import fcntl
import os
import signal
import socket
import subprocess

import pytest
import requests
from conftest import BUILD, PATIENCE_S, die_with_the_test, free_port, wait_until


def test_what_was_closed_is_not_taken_for_the_log(world):
    port = free_port()

    def begin():
        die_with_the_test()
        os.closerange(0, 3)
    process = subprocess.Popen([BUILD / "order-bridge", "run", "--roles=http"], env={**os.environ, **world.env, "PORT": str(port)}, preexec_fn=begin)
    try:
        wait_until(lambda: answers(port), what="the bridge")
        assert [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in range(3)] == ["/dev/null"] * 3
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0


def answers(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=PATIENCE_S).status_code == 200
    except requests.ConnectionError:
        return False


def test_signals_are_heard_while_the_database_hangs(world):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://somebody@127.0.0.1:{listener.getsockname()[1]}/shop"
        bridge = world.program("--roles=relay", DATABASE_URL=url)
        connection, _ = listener.accept()
        bridge.process.send_signal(signal.SIGHUP)
        bridge.stop()
        connection.close()


FORGOTTEN = {
    "everything": (None, "may not use order_aggregator: run GRANT order_aggregator_bridge TO", {"http": False, "relay": False, "replies": False}),
    "all but orders": ("order_aggregator_shop", "asking for the relay's lock: ERROR", {"http": True, "relay": False})}


@pytest.mark.parametrize("group, told, ready", FORGOTTEN.values(), ids=FORGOTTEN)
def test_a_role_whose_login_may_not_do_its_work_is_not_ready(world, group, told, ready):
    """A grant was forgotten: a balancer must not send anybody there, and a relay that may not lead stands by for none."""
    login = f"{world.name}_login"
    world.db.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{world.db.info.password}'")
    try:
        if group is not None:
            world.db.execute(f"GRANT {group} TO {login}")
        bridge = world.bridge(DATABASE_URL=world.servers.url_of(world.name, login))

        def roles():
            found = requests.get(f"{bridge.url}/readyz", timeout=PATIENCE_S).json()["roles"]
            return {role: found[role] == "ready" for role in ready}
        wait_until(lambda: bridge.log_path.read_text().count(told) >= 6, what="all to have asked again")
        wait_until(lambda: roles() == ready, what="what they tell")
        world.db.execute(f"GRANT order_aggregator_bridge TO {login}")
        wait_until(lambda: all(roles().values()), what="all to work")
        bridge.stop()
    finally:
        world.db.execute(f"DROP ROLE {login}")


def test_a_log_that_nobody_reads_stops_nothing(world):
    port, (reader, writer) = free_port(), os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([BUILD / "order-bridge", "run", "--roles=http"], stdout=subprocess.DEVNULL, stderr=writer,
                               env={**os.environ, **world.env, "PORT": str(port)}, preexec_fn=die_with_the_test)
    os.close(writer)

    def fill():
        for _ in range(100):    # a line each, of some hundred bytes
            assert answers(port)
    try:
        wait_until(lambda: answers(port), what="the bridge")
        fill()
        lines = os.read(reader, 65536)
        assert b"dropped" not in lines and lines.endswith(b"\n")
        assert answers(port)
        wait_until(lambda: b" lines of the log were dropped: nobody read them" in os.read(reader, 65536), what="the log to tell of it")
        fill()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
        os.close(reader)
