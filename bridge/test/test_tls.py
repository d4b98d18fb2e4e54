"""amqps://: real certificates, and the wrong ones. A proxy that ends TLS stands before RabbitMQ."""

import datetime
import socket
import ssl
import subprocess
import threading
import urllib.parse

import pytest
from conftest import wait_until


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    """A CA of the test's own, and what it has signed."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                "-keyout", self.key, "-out", self.certificate)

    def sign(self, name, subject="localhost", days=1):
        """A key and certificate for that name; of -1 days it has expired."""
        key, request, certificate, names = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}", "-keyout", key, "-out", request)
        names.write_text(f"subjectAltName=DNS:{subject}\n")
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", max(days, 1), "-extfile", names, "-out", certificate)
        if days < 0:        # signed as of long ago
            long_ago = datetime.datetime(2020, 1, 1)
            (self.folder / "index.txt").write_text("")
            (self.folder / "serial").write_text("1000")
            config = self.folder / "ca.cnf"
            config.write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.folder}/index.txt\nserial={self.folder}/serial\nnew_certs_dir={self.folder}\ndefault_md=sha256\n"
                              "policy=p\n[p]\ncommonName=supplied\n")
            openssl("ca", "-batch", "-config", config, "-in", request, "-cert", self.certificate, "-keyfile", self.key, "-extfile", names, "-out", certificate, "-notext",
                    "-startdate", long_ago.strftime("%Y%m%d%H%M%SZ"), "-enddate", (long_ago + datetime.timedelta(days=2)).strftime("%Y%m%d%H%M%SZ"))
        return key, certificate


class TlsProxy:
    """Takes amqps at a port of localhost and passes on what is in it to the broker."""

    def __init__(self, broker_url, key, certificate, wants=None):
        url = urllib.parse.urlsplit(broker_url)
        self.target = (url.hostname, url.port)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        if wants is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(wants)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = url._replace(scheme="amqps", netloc=f"{url.username}:{url.password}@localhost:{self.listener.getsockname()[1]}").geturl()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            client = self.context.wrap_socket(client, server_side=True)
            broker = socket.create_connection(self.target)
        except OSError:
            return client.close()
        threading.Thread(target=self.pump, args=(client, broker), daemon=True).start()
        self.pump(broker, client)

    def pump(self, source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


def proxy(world, *words, **more):
    return TlsProxy(world.env["RABBITMQ_URL"], *words, **more)


def test_orders_go_round_by_tls(world, authority):
    end = proxy(world, *authority.sign("broker"))
    world.stock(a={"x": 1000})
    bridge = world.ready_bridge(RABBITMQ_URL=end.url, AMQP_CA_FILE=str(authority.certificate))
    world.vendors(f"--rabbitmq-url={end.url}", f"--amqp-ca-file={authority.certificate}")
    assert world.place(300) == 300
    wait_until(lambda: world.statuses() == {"confirmed": 300}, what="all confirmations")
    world.consistent()
    assert bridge.stop() == 0
    end.close()


def test_the_system_s_certificates_are_trusted_by_default(world, authority):
    end = proxy(world, *authority.sign("broker"))
    world.ready_bridge(RABBITMQ_URL=end.url, SSL_CERT_FILE=str(authority.certificate))
    end.close()


def test_a_broker_that_wants_to_know_us(world, authority):
    key, certificate = authority.sign("bridge", "bridge")
    end = proxy(world, *authority.sign("broker"), wants=authority.certificate)
    nobody = world.bridge(RABBITMQ_URL=end.url, AMQP_CA_FILE=str(authority.certificate))
    wait_until(lambda: nobody.logged("cannot connect to RabbitMQ") or nobody.logged("logging in to RabbitMQ"), what="the refusal")
    world.ready_bridge(RABBITMQ_URL=end.url, AMQP_CA_FILE=str(authority.certificate), AMQP_CERT_FILE=str(certificate), AMQP_KEY_FILE=str(key))
    end.close()


@pytest.mark.parametrize("wrong, word", [("name", "is for another name than RABBITMQ_URL's"), ("date", "has expired"), ("authority", "whom AMQP_CA_FILE trusts")])
def test_who_is_not_the_broker_gets_nothing(world, authority, tmp_path, wrong, word):
    key, certificate = authority.sign("broker", "elsewhere.example" if wrong == "name" else "localhost", days=-1 if wrong == "date" else 1)
    (tmp_path / "other").mkdir()
    trusted = Authority(tmp_path / "other", "other") if wrong == "authority" else authority
    end = proxy(world, key, certificate)
    bridge = world.bridge(RABBITMQ_URL=end.url, AMQP_CA_FILE=str(trusted.certificate))
    line = wait_until(lambda: next((line for line in bridge.log_path.read_text().splitlines() if "cannot connect to RabbitMQ" in line), None), what="the complaint")
    assert word in line
    assert not bridge.logged("connected to RabbitMQ host")
    end.close()


@pytest.mark.parametrize("settings, word", [({"AMQP_CA_FILE": "/nowhere"}, "AMQP_CA_FILE cannot be read"), ({"AMQP_CERT_FILE": "/etc/passwd"}, "AMQP_CERT_FILE and AMQP_KEY_FILE must be given both or neither"),
                                            ({"AMQP_CERT_FILE": "/nowhere", "AMQP_KEY_FILE": "/nowhere"}, "AMQP_CERT_FILE cannot be read")])
def test_bad_settings_are_named(world, settings, word):
    result = world.command("status", **settings)
    assert result.returncode == 64 and word in result.stderr


def test_what_is_no_certificate_is_named(world, authority, tmp_path):
    end = proxy(world, *authority.sign("broker"))
    (tmp_path / "empty").write_text("nothing\n")
    bridge = world.bridge(RABBITMQ_URL=end.url, AMQP_CA_FILE=str(tmp_path / "empty"))
    wait_until(lambda: bridge.logged("AMQP_CA_FILE: there is no certificate in"), what="the complaint")
    end.close()
