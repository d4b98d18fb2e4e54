"""Whom bench-http and bench-reads ask: order-bridge with the role http, and a Node service (peers/server.js)."""

import os
import socket
import subprocess
import time

from common import TOP, runs, servers, settings


class Node:
    """The peer, while it runs."""

    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.process = subprocess.Popen(["node", "server.js"], cwd=TOP / "bench" / "peers",
                                        env={**os.environ, "DATABASE_URL": settings()["DATABASE_URL"], "PORT": str(self.port), "NODE_ENV": "production"},
                                        preexec_fn=runs.end_with_parent)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except ConnectionRefusedError:
                assert self.process.poll() is None, "the Node service did not start"
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Bridge:
    """order-bridge with the role http, while it runs."""

    def __enter__(self):
        os.environ["ROLES"] = "http"
        servers("start", "bridge")
        self.url = settings()["HTTP_URL"]
        return self

    def __exit__(self, *_):
        servers("stop", "bridge")
