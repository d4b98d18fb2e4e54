"""amqps:// and HTTPS: real certificates, and the wrong ones. A proxy that ends TLS stands before RabbitMQ."""

import concurrent.futures
import datetime
import os
import secrets
import signal
import socket
import ssl
import subprocess
import threading
import urllib.parse

import psycopg
import pytest
import requests
from conftest import PATIENCE_S, wait_until
from test_http import BODY, ORDER


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    """A CA of the test's own, and what it has signed."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key, self.certificate = folder / f"{name}.key", folder / f"{name}.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", self.key, "-out", self.certificate)

    def sign(self, name, subject="localhost", life=(-1, 1)):
        """A key and certificate for that name, good from and until so many days from now."""
        key, request, certificate, names = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}", "-keyout", key, "-out", request)
        names.write_text(f"subjectAltName=DNS:{subject}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        begins, ends = ((datetime.datetime.utcnow() + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ") for days in life)
        (self.folder / "index.txt").write_text("")
        (self.folder / "serial").write_text(f"{secrets.randbits(64):032x}")
        config = self.folder / "ca.cnf"
        config.write_text(f"[ca]\ndefault_ca=c\n[c]\ndatabase={self.folder}/index.txt\nserial={self.folder}/serial\nnew_certs_dir={self.folder}\ndefault_md=sha256\n"
                          "policy=p\n[p]\ncommonName=supplied\n")
        openssl("ca", "-batch", "-config", config, "-in", request, "-cert", self.certificate, "-keyfile", self.key, "-extfile", names, "-out", certificate, "-notext",
                "-startdate", begins, "-enddate", ends)
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
    bridge.stop()
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
    key, certificate = authority.sign("broker", "elsewhere.example" if wrong == "name" else "localhost", life=(-3, -1) if wrong == "date" else (-1, 1))
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


# ---------- HTTP ----------

def https(world, key, certificate, *words, **env):
    """A bridge that serves HTTPS; not waited for, which Program does by HTTP."""
    bridge = world.program("--roles=http", *words, HTTP_TLS_CERT_FILE=str(certificate), HTTP_TLS_KEY_FILE=str(key), **env)
    wait_until(lambda: bridge.logged("listening on"), what="the server")
    bridge.secure_url = f"https://localhost:{bridge.port}"
    return bridge


def ready(bridge, authority):
    wait_until(lambda: requests.get(bridge.secure_url + "/readyz", verify=authority.certificate, timeout=PATIENCE_S).ok, what="readiness")
    return bridge


def serial(bridge):
    """The serial number of the certificate that a new connection gets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S) as s, context.wrap_socket(s) as secure:
        return secure.getpeercert(binary_form=True)


def test_orders_by_https(world, authority):
    world.stock(a={"x": 100000})
    bridge = ready(https(world, *authority.sign("shop")), authority)
    session = requests.Session()
    session.verify, session.trust_env = str(authority.certificate), False
    for _ in range(20):      # on one connection
        assert session.post(bridge.secure_url + "/order", json=ORDER, timeout=PATIENCE_S).status_code == 201
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        codes = list(pool.map(lambda _: requests.post(bridge.secure_url + "/order", json=ORDER, verify=authority.certificate, timeout=PATIENCE_S).status_code, range(200)))
    assert set(codes) == {201} and world.statuses() == {"pending": 220}
    # a body of many records, and an answer of many
    assert requests.post(bridge.secure_url + "/order", data=b" " * 200000 + BODY, headers={"Content-Type": "application/json"}, verify=authority.certificate,
                         timeout=PATIENCE_S).status_code == 201
    world.stock(b={f"p{n:05}": 1 for n in range(5000)})
    assert len(requests.get(bridge.secure_url + "/products", verify=authority.certificate, timeout=PATIENCE_S).json()["data"]) == 5001
    world.consistent()


@pytest.mark.parametrize("wrong", ["name", "date", "authority"])
def test_a_client_sees_who_is_not_the_shop(world, authority, tmp_path, wrong):
    (tmp_path / "other").mkdir()
    key, certificate = authority.sign("shop", "elsewhere.example" if wrong == "name" else "localhost", life=(-3, -1) if wrong == "date" else (-1, 1))
    trusted = Authority(tmp_path / "other", "other") if wrong == "authority" else authority
    bridge = https(world, key, certificate)
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(bridge.secure_url + "/healthz", verify=trusted.certificate, timeout=PATIENCE_S)


def test_what_is_no_tls_stops_nobody(world, authority):
    bridge = https(world, *authority.sign("shop"))
    idle = [socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S) for _ in range(50)]     # that never begin
    for data in (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 1000, b"\0" * 5000):
        with socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S) as s:
            s.sendall(data)
            s.settimeout(PATIENCE_S)
            try:
                assert b"HTTP/1.1 200" not in s.recv(1000)
            except ConnectionResetError:
                pass
    context = ssl.create_default_context(cafile=authority.certificate)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S) as s, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(s, server_hostname="localhost")
    assert requests.get(bridge.secure_url + "/healthz", verify=authority.certificate, timeout=PATIENCE_S).ok
    for s in idle:
        s.close()


def test_the_certificate_is_exchanged_while_the_server_runs(world, authority, tmp_path):
    key, certificate = authority.sign("shop")
    next_key, next_certificate = authority.sign("next")
    bridge = ready(https(world, key, certificate), authority)
    first = serial(bridge)
    context = ssl.create_default_context(cafile=authority.certificate)
    old = context.wrap_socket(socket.create_connection(("127.0.0.1", bridge.port), timeout=PATIENCE_S), server_hostname="localhost")

    def ask(connection):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b'"alive"}') and (piece := connection.recv(1000)):
            answer += piece
        return answer
    assert ask(old).startswith(b"HTTP/1.1 200 ")
    certificate.write_bytes(next_certificate.read_bytes())      # without its key
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: bridge.logged("the certificate stays as it was"), what="the refusal")
    assert serial(bridge) == first
    key.write_bytes(next_key.read_bytes())
    bridge.process.send_signal(signal.SIGHUP)
    wait_until(lambda: serial(bridge) == ssl.PEM_cert_to_DER_cert(next_certificate.read_text()), what="the new certificate")
    assert ask(old).startswith(b"HTTP/1.1 200 ")       # the old connection lives


@pytest.mark.parametrize("settings, word", [
    ({"HTTP_TLS_CERT_FILE": "/x"}, "HTTP_TLS_KEY_FILE must be set with HTTP_TLS_CERT_FILE"), ({"HTTP_TLS_KEY_FILE": "/x"}, "HTTP_TLS_CERT_FILE must be set with HTTP_TLS_KEY_FILE"),
    ({"HTTP_TLS_CERT_FILE": "/nowhere", "HTTP_TLS_KEY_FILE": "/nowhere"}, "HTTP_TLS_KEY_FILE: cannot read /nowhere"),
    ({"HTTP_TLS_CERT_FILE": "/etc/passwd", "HTTP_TLS_KEY_FILE": "/etc/passwd"}, "HTTP_TLS_CERT_FILE /etc/passwd"),
    ({"HTTP_LISTEN": "localhost"}, "HTTP_LISTEN must be an address of IPv4 or IPv6, or unix:/path"), ({"HTTP_LISTEN": "unix:http.sock"}, "HTTP_LISTEN must be a path from the root"),
    ({"HTTP_LISTEN": "unix:/" + "x" * 200}, "HTTP_LISTEN must have a path of at most 107 bytes"), ({"HTTP_LISTEN": "::"}, "HTTP_LISTEN=:: is not loopback"),
    ({"HTTP_LISTEN": "1::1::1"}, "HTTP_LISTEN must be an address")])
def test_bad_settings_of_http_are_named(world, settings, word):
    result = world.command("check-config", **settings)
    assert result.returncode == 64 and word in result.stderr, result.stderr


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


@needs_ipv6
def test_ipv6(world):
    world.stock(a={"x": 100})
    bridge = world.program("--roles=http", HTTP_LISTEN="::1")
    wait_until(lambda: bridge.logged(f"listening on http://[::1]:{bridge.port}"), what="the server")
    wait_until(lambda: requests.get(f"http://[::1]:{bridge.port}/readyz", timeout=PATIENCE_S).ok, what="readiness")
    assert requests.post(f"http://[::1]:{bridge.port}/order", json=ORDER, timeout=PATIENCE_S).status_code == 201
    wait_until(lambda: bridge.logged("request client=::1 method=POST"), what="the line in the log")
    bridge.stop()


@needs_ipv6
def test_ipv6_and_ipv4_at_one_port(world):
    bridge = world.bridge("--roles=http", HTTP_LISTEN="::", HTTP_WITHOUT_TOKENS="yes")     # waited for at 127.0.0.1
    assert requests.get(f"http://[::1]:{bridge.port}/healthz", timeout=PATIENCE_S).ok
    wait_until(lambda: bridge.logged("request client=127.0.0.1 ") and bridge.logged("request client=::1 "), what="the lines in the log")


def unix_get(path, target="/healthz"):
    return unix_ask(path, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())


def unix_post(path):
    head = f"POST /order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
    return unix_ask(path, head.encode() + BODY)


def unix_ask(path, request):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE_S)
        s.connect(str(path))
        s.sendall(request)
        answer = b""
        while piece := s.recv(65536):
            answer += piece
        return answer


def test_a_socket_in_the_file_system(world, tmp_path):
    path = tmp_path / "http.sock"
    bridge = world.program("--roles=http", HTTP_LISTEN=f"unix:{path}")
    wait_until(lambda: bridge.logged(f"listening on unix:{path}"), what="the server")
    assert unix_get(path).startswith(b"HTTP/1.1 200 ") and path.stat().st_mode & 0o777 == 0o660
    with concurrent.futures.ThreadPoolExecutor(32) as pool:      # the limit of connections is an address's: here there is none
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in pool.map(lambda _: unix_get(path), range(500)))
    # a second one does not take it away from the first
    second = world.program("--roles=http", HTTP_LISTEN=f"unix:{path}")
    wait_until(lambda: second.process.poll() is not None, what="the second one to give up")
    assert second.logged("Address already in use") and unix_get(path).startswith(b"HTTP/1.1 200 ")
    # what a killed one leaves is in nobody's way
    os.kill(bridge.process.pid, signal.SIGKILL)
    bridge.process.wait()
    assert path.exists()
    third = world.program("--roles=http", HTTP_LISTEN=f"unix:{path}")
    wait_until(lambda: third.logged("listening on"), what="the third")
    assert unix_get(path).startswith(b"HTTP/1.1 200 ")
    third.stop()
    assert not path.exists()


def test_a_bridge_that_ends_leaves_its_successor_s_socket_alone(world, tmp_path):
    """The old one answers what it has taken in, with a transaction in the way, while the next one serves."""
    path = tmp_path / "http.sock"
    world.stock(a={"x": 100})

    def start():
        bridge = world.program("--roles=http", HTTP_LISTEN=f"unix:{path}", HTTP_WITHOUT_TOKENS="yes", REQUEST_TIMEOUT_S="600")
        wait_until(lambda: bridge.logged("listening on"), what="the server")
        wait_until(lambda: unix_get(path, "/readyz").startswith(b"HTTP/1.1 200 "), what="readiness")
        return bridge
    old = start()
    with psycopg.connect(world.url) as other, concurrent.futures.ThreadPoolExecutor(1) as pool:
        other.execute("SELECT FROM order_aggregator.stock FOR UPDATE")
        waiting = pool.submit(unix_post, path)
        wait_until(lambda: world.value("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, what="the order to wait")
        old.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not path.exists(), what="the old one to take in nothing more")
        new = start()
        other.rollback()
        assert waiting.result().startswith(b"HTTP/1.1 201 ")
    assert old.process.wait(PATIENCE_S) == 0
    assert unix_get(path).startswith(b"HTTP/1.1 200 ") and new.process.poll() is None


def test_a_file_that_is_no_socket_stays(world, tmp_path):
    path = tmp_path / "precious"
    path.write_text("keep me")
    bridge = world.program("--roles=http", HTTP_LISTEN=f"unix:{path}")
    wait_until(lambda: bridge.process.poll() is not None, what="it to give up")
    assert path.read_text() == "keep me"
