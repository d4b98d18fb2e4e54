"""A private nginx, for tests."""

import contextlib
import os
import shutil
import socket
import subprocess

from conftest import runs, wait_until

PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"


@contextlib.contextmanager
def nginx(folder, port, servers):
    """The URL of one that has these servers in its configuration; one of them listens on the port."""
    folder.mkdir(mode=0o755)
    paths = "".join(f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\nhttp {{ access_log off; {paths}\n{servers} }}\n")
    process = subprocess.Popen([PROGRAM, "-c", folder / "nginx.conf", "-e", folder / "error.log", "-g", "user root;" if os.geteuid() == 0 else ""],
                               preexec_fn=runs.end_with_parent)
    try:
        wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, what="nginx")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
