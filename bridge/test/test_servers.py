"""The private servers: what a shell takes from them, and what they take from a shell; who has them, one run at a time."""

import os
import pathlib
import subprocess
import sys

from conftest import PATIENCE_S, RUN, TOP, runs, wait_until


def simulator(**env):
    """Starts the vendor simulator if it does not run as it is asked for; its process id, and whether it works on orders."""
    subprocess.run([TOP / "scripts" / "servers", "start", RUN, "vendor-sim"], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **env})
    pid = (RUN / "vendor-sim.pid").read_text().split()[0]
    settings = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return pid, b"WORKER=yes" in settings, settings


def test_the_shell_gets_four_lines_and_the_bridge_its_own(servers):
    assert list(servers.env) == ["DATABASE_URL", "RABBITMQ_URL", "HTTP_URL", "VENDOR_URL"]
    own = dict(line.split("=", 1) for line in (RUN / "bridge.env").read_text().splitlines())
    assert list(own) == ["DATABASE_URL", "RABBITMQ_URL"] and "//order_bridge:" in own["DATABASE_URL"]
    assert (RUN / "env").stat().st_mode & 0o77 == 0 and (RUN / "bridge.env").stat().st_mode & 0o77 == 0


def test_the_simulator_s_worker_is_as_it_was_asked_for_last(servers):
    try:
        first, works, settings = simulator(WORKER="0", HTTP_LISTEN="127.0.0.9", DATABASE_URL_FILE="/nowhere")
        assert not works and not any(setting.startswith((b"HTTP_LISTEN=", b"DATABASE_URL_FILE=")) for setting in settings)
        assert simulator(WORKER="0")[0] == first
        second, works, _ = simulator(WORKER="1")
        assert works and second != first
        assert simulator()[:2] == (second, True)
    finally:
        servers.run("stop", "vendor-sim")


BEGINS = """
import pathlib, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
import runs
folder = pathlib.Path(sys.argv[2])
runs.begin(folder / "run")
"""
RUNS_ON = BEGINS + """
child = subprocess.Popen(["sleep", "600"])
runs.children.append(child)
try:
    print(child.pid, flush=True)
    child.wait()
    time.sleep(600)
finally:
    time.sleep(1)       # as stopping servers takes a while
    (folder / "stopped").touch()
"""
FOLLOWS = BEGINS + """
print((folder / "stopped").exists())
"""


def test_a_run_whose_make_was_killed_ends_and_the_next_one_waits_for_it(tmp_path):
    (tmp_path / "first.py").write_text(RUNS_ON)
    (tmp_path / "second.py").write_text(FOLLOWS)
    words = [TOP / "scripts", tmp_path]
    (tmp_path / "Makefile").write_text(f"run:\n\t@{sys.executable} {tmp_path}/first.py {words[0]} {words[1]}\n")
    with subprocess.Popen(["make", "-C", tmp_path, "run"], stdout=subprocess.PIPE, text=True) as make:
        child = next(line for line in make.stdout if line.strip().isdigit()).strip()
        second = subprocess.Popen([sys.executable, tmp_path / "second.py", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert "is at work in" in second.stderr.readline()
        make.kill()
        assert second.communicate(timeout=PATIENCE_S)[0] == "True\n"
        wait_until(lambda: not pathlib.Path(f"/proc/{child}").exists(), what="its child to end")


def children_of(pid):
    return [runs.name_of(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_who_starts_servers_waits_for_who_does_so_already(tmp_path):
    """One whose caller was killed goes on: what it starts is not to be overlooked by who stops them."""
    (tmp_path / "lock").touch()
    with subprocess.Popen(["flock", tmp_path / "lock", "cat"], stdin=subprocess.PIPE) as first:
        wait_until(lambda: subprocess.run(["flock", "-n", tmp_path / "lock", "true"]).returncode == 1, what="the first")
        down = subprocess.Popen([TOP / "scripts" / "servers", "down", tmp_path])
        wait_until(lambda: "flock" in children_of(down.pid), what="the second to wait")
        assert down.poll() is None
        first.stdin.close()
        assert down.wait(PATIENCE_S) == 0
