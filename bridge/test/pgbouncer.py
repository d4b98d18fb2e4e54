"""A private PgBouncer, for tests and benchmarks."""

import os
import re
import shutil
import signal
import subprocess
import urllib.parse

import psycopg
from conftest import free_port, runs, wait_until

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


class PgBouncer:
    """Stands before the server of some URLs, for their users; url_of() is the way through it. It goes to another host than the URLs' if told."""

    def __init__(self, folder, urls, mode, pool_size, host=None):
        self.urls = [urllib.parse.urlsplit(url) for url in urls]
        self.port, self.folder = free_port(), folder
        self.folder.mkdir(exist_ok=True)
        (self.folder / "users").write_text("".join(f'"{user}" "{password}"\n' for user, password in {url.username: url.password for url in self.urls}.items()))
        (self.folder / "ini").write_text(f"""[databases]
* = host={host or self.urls[0].hostname} port={self.urls[0].port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.folder}/users
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 1000
""")
        # it refuses to run as root, and whom it steps down to has to read them
        for path in [self.folder, *self.folder.iterdir(), *list(self.folder.parents)[:-2]] if os.geteuid() == 0 else []:
            path.chmod(path.stat().st_mode | 0o055 if path.is_dir() else 0o644)
        self.start()

    def start(self):
        self.process = subprocess.Popen([PROGRAM, self.folder / "ini"], user="nobody" if os.geteuid() == 0 else None, stderr=subprocess.DEVNULL,
                                        preexec_fn=runs.end_with_parent)
        wait_until(self.answers, what="pgbouncer")

    def answers(self):
        try:
            psycopg.connect(self.url_of(self.urls[0].geturl()), connect_timeout=2).close()
            return True
        except psycopg.OperationalError:
            return False

    def url_of(self, url):
        """The same URL by way of the pooler."""
        url = urllib.parse.urlsplit(url)
        return url._replace(netloc=f"{url.username}:{url.password}@127.0.0.1:{self.port}").geturl()

    def lead_to(self, port):
        """To a server at another port, from the next transaction on."""
        ini = self.folder / "ini"
        ini.write_text(re.sub(r"(?<= port=)\d+", str(port), ini.read_text(), count=1))
        self.process.send_signal(signal.SIGHUP)

    def kill(self):
        self.process.kill()
        self.process.wait()

    close = kill
