"""The private servers of make up: what a shell takes from them, and what they take from a shell."""

import os
import pathlib
import subprocess

from conftest import RUN, TOP


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
