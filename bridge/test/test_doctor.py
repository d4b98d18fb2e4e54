"""Settings from a file, what check-config says of them, and what the doctor finds missing: each cause by its name."""

import json
import pathlib
import urllib.parse

import psycopg
import pytest
from conftest import free_port, wait_until
from psycopg import sql
from test_database import address_of, two_hosts, url_with_hosts
from test_tls import Authority, TlsProxy


def config(tmp_path, text):
    path = tmp_path / "bridge.conf"
    path.write_text(text)
    return f"--config={path}"


def test_settings_from_a_file_come_after_the_environment_and_flags(world, tmp_path):
    port = free_port()
    words = config(tmp_path, f"# a comment\n; another\n\nLOG_LEVEL = 'warning'\n PORT={port}\nSTUCK_AFTER_S=\"7\"\nRABBITMQ_URL=amqp://nobody@nowhere\n")
    bridge = world.bridge("--roles=http", words)       # PORT and RABBITMQ_URL are in the environment
    bridge.wait_for("/readyz")
    assert not bridge.logged("Z info ") and bridge.port != port
    result = world.command("check-config", words, "--log-level=nothing")
    assert result.returncode == 64 and 'LOG_LEVEL must be debug, info, warning or error, not "nothing"' in result.stderr


@pytest.mark.parametrize("text, complaint", [
    ("PORT", "line 1 of {path} must be KEY=value"), ("PROT=3000", "line 1 of {path} names no setting"), ("\nPORT=\"3000", "line 2 of {path} has a quote that is not closed"),
    ("LOG_LEVEL='info' # loud", "line 1 of {path} has a quote that is not closed, or more behind one"), ("STUCK_AFTER_S=soon\nREQUEST_TIMEOUT_S=never", "STUCK_AFTER_S must be a whole number")])
def test_a_bad_file_names_its_lines(world, tmp_path, text, complaint):
    result = world.command("check-config", config(tmp_path, text))
    assert result.returncode == 64 and complaint.format(path=tmp_path / "bridge.conf") in result.stderr
    if "never" in text:      # all that are wrong, not the first one
        assert "REQUEST_TIMEOUT_S must be a whole number" in result.stderr


def test_check_config(world, tmp_path):
    result = world.command("check-config")
    assert (result.returncode, result.stdout) == (0, "the settings are in order\n")
    assert "--config: /nowhere cannot be read" in world.command("check-config", "--config=/nowhere").stderr
    assert 'there is no role "cook"' in world.command("check-config", "--roles=cook").stderr
    assert world.command("check-config", "--roles=relay", HTTP_TOKENS_FILE="/nowhere").returncode == 0     # as run takes it
    both = world.command("check-config", DATABASE_URL="", READ_DATABASE_URL="colour=red").stderr
    assert "DATABASE_URL must be set" in both and "READ_DATABASE_URL is not" in both
    assert "FEED_CA_FILE cannot be read" in world.command("check-config", FEED_CA_FILE="/nowhere").stderr
    (tmp_path / "bad.conf").write_text("PROT=3000\n")
    wrong = {"--config": tmp_path / "bad.conf", "--port": "abc", "--log-level": "loud", "--roles": "cook", "--read-database-url-file": "/no1", "--relay-database-url": "colour=red", "--database-url-file": "/no2",
             "--rabbitmq-url-file": "/no3", "--amqp-ca-file": "/no4", "--amqp-key-file": "/no8", "--http-tokens-file": "/no5", "--feed-headers-file": "/no6", "--feed-ca-file": "/no7",
             "--feed-allow-addresses": "everybody"}
    result = world.command("check-config", *(f"{flag}={value}" for flag, value in wrong.items()))      # all of it, not what it meets first
    assert result.returncode == 64 and result.stdout == ""
    for word in ("line 1 of", "--port", "LOG_LEVEL", "cook", *(f"/no{n}" for n in (1, 2, 3, 5, 6, 7)), "AMQP_CA_FILE", "AMQP_KEY_FILE", "both or neither", "RELAY_DATABASE_URL is not", "FEED_ALLOW_ADDRESSES"):
        assert word in result.stderr, (word, result.stderr)


def test_urls_from_files_of_their_own(world, tmp_path):
    """One line, blanks around it or not; it goes before the URL itself, and nothing of it is in a complaint."""
    path = tmp_path / "url"
    path.write_text(f" {world.env['DATABASE_URL']} \n")
    path.chmod(0o600)
    result = world.command("doctor", DATABASE_URL="postgres://nobody@nowhere.invalid/x", DATABASE_URL_FILE=str(path))
    assert result.returncode == 0 and "can be read by others" not in result.stderr
    path.chmod(0o644)
    assert f"DATABASE_URL_FILE: {path} can be read by others" in world.command("check-config", DATABASE_URL_FILE=str(path)).stderr
    for text, complaint in (("", "must hold one line"), (" \n\n", "must hold one line"), ("S3CRET\nmore\n", "must hold one line"), ("S3CRET\0more", "must hold one line"),
                            ("S3CRET" + "x" * 8192, "is longer than 8192 bytes"), ("S3CRET" + " " * 8192 + "\nmore", "is longer than 8192 bytes")):
        path.write_text(text)
        for setting in ("DATABASE_URL_FILE", "RABBITMQ_URL_FILE"):
            result = world.command("check-config", **{setting: str(path)})
            assert result.returncode == 64 and f"{setting}: {path} {complaint}" in result.stderr and "S3CRET" not in result.stderr
    result = world.command("check-config", RABBITMQ_URL_FILE="/nowhere")
    assert result.returncode == 64 and "RABBITMQ_URL_FILE: cannot read /nowhere" in result.stderr


def lines(result):
    return result.stdout.splitlines()


def test_the_doctor_finds_nothing_where_nothing_is_missing(world):
    result = world.command("doctor")
    assert result.returncode == 0 and lines(result)[-1] == "all is well", result.stdout
    assert all(line.startswith("ok ") for line in lines(result)[:-1])


def test_the_doctor_lets_a_short_life_be(world, tmp_path):
    """A certificate of six days that has five more is not about to end."""
    key, certificate = Authority(tmp_path, "authority").sign("shop", life=(-1, 5))
    result = world.command("doctor", HTTP_TLS_CERT_FILE=str(certificate), HTTP_TLS_KEY_FILE=str(key))
    assert result.returncode == 0 and "ok   HTTP_TLS_CERT_FILE: good for 5 days" in result.stdout, result.stdout


def test_the_doctor_finds_its_way_among_several_hosts(world):
    """As a bridge does: DATABASE_URL leads to the primary, READ_DATABASE_URL to the standby, whichever comes first."""
    with two_hosts(world) as (_, hosts, _):
        both = address_of(hosts).split(",")
        for order in (both, both[::-1]):
            url = url_with_hosts(hosts, *order)
            result = world.command("doctor", DATABASE_URL=url, READ_DATABASE_URL=url, RELAY_DATABASE_URL=f"{url}?connect_timeout=9")
            assert result.returncode == 0 and "ok   standby: " in result.stdout and "ok   relay: " in result.stdout, result.stdout


def test_the_doctor_says_of_each_host_why_it_is_not_to_be_had(world):
    url = urllib.parse.urlsplit(world.env["DATABASE_URL"])
    nowhere = free_port()
    result = world.command("doctor", DATABASE_URL=f"postgresql://{url.username}:wrong@{url.hostname}:{url.port},127.0.0.1:{nowhere}{url.path}")
    assert result.returncode == 1 and f"port {nowhere} failed: Connection refused" in result.stdout, result.stdout
    assert "password authentication failed" in result.stderr


def test_the_older_system_s_settings(world, tmp_path):
    """DB_HOST and the others in place of DATABASE_URL, with whatever a password may have in it; from its .env too."""
    url = urllib.parse.urlsplit(world.env["DATABASE_URL"])
    role, password = f"older_{world.name}", "it's a \\ 'word'"
    world.db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
    world.db.execute(f"GRANT order_aggregator_bridge TO {role}")
    world.stock(a={"x": 10})
    older = {"DB_HOST": url.hostname, "DB_PORT": url.port, "DB_NAME": url.path[1:], "DB_USER": role}
    result = world.command("status", DATABASE_URL="", DB_PASSWORD=password, **{name: str(value) for name, value in older.items()})
    assert result.returncode == 0 and "parkedEvents" in json.loads(result.stdout), result
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in older.items()) + 'DB_PASSWORD="it\'s a \\\\ \'word\'"\nRABBITMQ_URL=amqp://localhost\nPORT=3000\n')
    bridge = world.ready_bridge(f"--config={tmp_path / '.env'}", DATABASE_URL="")     # PORT and RABBITMQ_URL are the test's own
    world.vendors()
    world.place(3)
    wait_until(lambda: world.statuses() == {"confirmed": 3}, what="all to be confirmed")
    assert world.value("SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = %s", role)
    bridge.stop()
    world.db.execute(f"DROP ROLE {role}")


def test_a_file_of_settings_with_a_password_is_its_owner_s_alone(world, tmp_path):
    words = [("DB_PASSWORD=s3cret", "DB_PASSWORD"), ("DATABASE_URL=postgres://u:s3cret@h/x", "DATABASE_URL"), ("DATABASE_URL='host=h password=s3cret'", "DATABASE_URL"),
             ("RABBITMQ_URL=amqp://u:s3cret@h", "RABBITMQ_URL"), ("DB_PASSWORD=", None), ("DATABASE_URL=postgres://u@h:5432/x", None), ("RABBITMQ_URL=amqp://h:5672", None),
             ("HTTP_ORIGINS=https://shop.example:8443", None)]
    for text, setting in words:
        for mode in (0o644, 0o640, 0o600):
            path = tmp_path / "bridge.conf"
            path.write_text(text + "\n")
            path.chmod(mode)
            said = world.command("check-config", f"--config={path}").stderr
            assert ("can be read by others than its owner" in said) == (setting is not None and mode != 0o600), (text, oct(mode), said)
            assert setting is None or mode == 0o600 or f"{setting}: {path}" in said
            assert "s3cret" not in said


def with_url(world, **parts):
    url = urllib.parse.urlsplit(world.env["DATABASE_URL"])
    user, password, port = parts.get("user", url.username), parts.get("password", url.password), parts.get("port", url.port)
    return url._replace(netloc=f"{user}:{password}@{url.hostname}:{port}", path=f"/{parts.get('database', url.path[1:])}").geturl()


def broken(world, tmp_path, how):
    """Breaks something; returns the doctor's settings and what he must say."""
    broker = urllib.parse.urlsplit(world.env["RABBITMQ_URL"])
    if how == "the database is away":
        return {"DATABASE_URL": with_url(world, port=free_port())}, "DATABASE_URL: connection to server"
    if how == "the password is another":
        return {"DATABASE_URL": with_url(world, password="wrong")}, "password authentication failed"
    if how == "there is no such database":
        return {"DATABASE_URL": with_url(world, database="nowhere")}, 'database "nowhere" does not exist'
    if how == "the extension is not there":
        return {"DATABASE_URL": with_url(world, database="postgres")}, "extension: not in database postgres: CREATE EXTENSION order_aggregator"
    if how == "the extension is an older one":
        world.db.execute("DROP EXTENSION order_aggregator CASCADE")
        world.db.execute("CREATE EXTENSION order_aggregator VERSION '1.0'")
        return {}, "extension: 1.0, and this bridge needs 1.1: ALTER EXTENSION order_aggregator UPDATE"
    if how == "the role has no rights":
        role = f"poor_{world.name}"
        world.db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'poor'")
        return {"DATABASE_URL": with_url(world, user=role, password="poor")}, f"may not use schema order_aggregator: GRANT order_aggregator_bridge TO {role}"
    if how == "the role lacks one right":
        role = f"poorer_{world.name}"
        world.db.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'poor'")
        world.db.execute(f"GRANT order_aggregator_reader TO {role}")
        return {"DATABASE_URL": with_url(world, user=role, password="poor")}, "may not use apply_feed_part, "
    if how == "commits are not waited for":
        with psycopg.connect(world.url, autocommit=True) as db:
            db.execute(f"ALTER DATABASE {db.info.dbname} SET synchronous_commit = off")
        return {}, "synchronous_commit is off"
    if how == "transactions are read only":
        with psycopg.connect(world.url, autocommit=True) as db:
            db.execute(f"ALTER DATABASE {db.info.dbname} SET default_transaction_read_only = on")
        return {}, "transactions are read only"
    if how == "the broker is away":
        return {"RABBITMQ_URL": f"amqp://localhost:{free_port()}"}, "RABBITMQ_URL: the broker cannot be used"
    if how == "the broker knows us not":
        return {"RABBITMQ_URL": broker._replace(netloc=f"nobody:wrong@{broker.hostname}:{broker.port}").geturl()}, "RABBITMQ_URL: the broker cannot be used"
    if how == "the broker is somebody else":
        authority, other = (Authority(tmp_path, name) for name in ("authority", "other"))
        world.proxy = TlsProxy(world.env["RABBITMQ_URL"], *authority.sign("broker"))
        return {"RABBITMQ_URL": world.proxy.url, "AMQP_CA_FILE": str(other.certificate)}, "RABBITMQ_URL: the broker cannot be used"
    if how == "a vendor is not confirmed":
        world.stock(a={"x": 1})
        world.db.execute("UPDATE order_aggregator.vendor SET stale_at = now()")
        return {}, "vendors: not sold, because no feed confirms them: a"
    if how == "a feed fails":
        world.stock(a={"x": 1})
        world.db.execute("SELECT order_aggregator.record_feed_pull('a', NULL, 'failed', 'no', 5, '1 hour')")
        return {}, "feeds that fail or are held back: a"
    if how.startswith("our certificate"):
        _, certificate = Authority(tmp_path, "authority").sign("shop", life=(-90, -1 if "ended" in how else 20))
        return {"HTTP_TLS_CERT_FILE": str(certificate), "HTTP_TLS_KEY_FILE": str(certificate)}, f"HTTP_TLS_CERT_FILE: {certificate} {'expired' if 'ended' in how else 'expires in'}"
    assert how == "a file is gone"
    return {"FEED_CA_FILE": str(pathlib.Path(tmp_path) / "gone")}, "FEED_CA_FILE:"


@pytest.mark.parametrize("how", [
    "the database is away", "the password is another", "there is no such database", "the extension is not there", "the extension is an older one", "the role has no rights",
    "the role lacks one right", "commits are not waited for", "transactions are read only", "the broker is away", "the broker knows us not", "the broker is somebody else",
    "a vendor is not confirmed", "a feed fails", "a file is gone", "our certificate has ended", "our certificate ends soon"])
def test_the_doctor_names_what_is_missing(world, tmp_path, how):
    env, word = broken(world, tmp_path, how)
    result = world.command("doctor", **env)
    bad = [line for line in lines(result) if line.startswith("BAD")]
    assert result.returncode == 1 and lines(result)[-1] == "not all is well"
    assert len(bad) == 1 and word in bad[0], result.stdout


def test_the_doctor_tries_every_broker_and_the_relay_s_own_url(world, servers):
    url = world.env["RABBITMQ_URL"]
    result = world.command("doctor", RABBITMQ_URL=f"{url}, {url}")
    assert result.returncode == 0 and "connected to number 2 too" in result.stdout, result.stdout
    dead = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    for urls, number in ((f"{url},{dead}", 2), (f"{dead},{url}", 1)):
        result = world.command("doctor", RABBITMQ_URL=urls)
        assert result.returncode != 0 and f"RABBITMQ_URL: broker {number} cannot be used" in result.stdout, result.stdout
    other = servers.url_of("test_template", "order_bridge")
    result = world.command("doctor", RELAY_DATABASE_URL=other)
    assert result.returncode != 0 and "RELAY_DATABASE_URL: is another database than DATABASE_URL" in result.stdout, result.stdout
    result = world.command("run", "--roles=relay", RELAY_DATABASE_URL=other)
    assert result.returncode == 64 and "RELAY_DATABASE_URL: the role relay would relay the events of another database" in result.stderr
