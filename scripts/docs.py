#!/usr/bin/python3
"""The parts of the docs that are made of the code: settings, metrics, man pages, routes in openapi.json, the table of files, Debian's default file and instance unit.

    docs.py             writes them
    docs.py --check     says which of them differs from the code, exits 1 if one does
"""

import json
import pathlib
import re
import sys
import textwrap

TOP = pathlib.Path(__file__).resolve().parent.parent
PROBLEM = {"$ref": "#/components/responses/Problem"}
TEXT = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'


def joined(literals):
    """C string literals in a row, as one text."""
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literals)).replace('\\"', '"').replace("\\\\", "\\")


def settings(path):
    """A table of settings: (environment variable, flag, kind, default, minimum, maximum, meaning)."""
    source = (TOP / path).read_text()
    # rows that both programs have
    shared = (TOP / "bridge/src/base/tls_files.h").read_text().split("#define AMQP_TLS_SETTINGS(files)")[1].split("#endif")[0]
    source = re.sub(r"AMQP_TLS_SETTINGS\([\w.]+\)", lambda _: shared.replace("\\\n", "\n").replace("&(files).", "&files."), source)
    entries = re.findall(rf'\{{\s*"([A-Z_]+)",\s*"([a-z-]+)",\s*SETTING_(\w+),\s*&[\w.]+,\s*"([^"]*)",\s*(-?\w+),\s*(-?\w+),\s*{TEXT}\}}', source)
    assert len(entries) == len(re.findall(r"SETTING_\w+,\s*&", source)), f"{path}: a setting is not understood"
    return [(env, flag, kind, default, low, high, joined(text)) for env, flag, kind, default, low, high, text in entries]


def metrics():
    source = (TOP / "bridge/src/base/metrics.c").read_text()
    found = re.findall(rf'\[METRIC_\w+\]\s*=\s*\{{\s*"(\w+)",\s*"(\w+)",\s*{TEXT},\s*(NULL|{TEXT})\}}', source)
    assert len(found) == len(re.findall(r"^\t\[METRIC_\w+\]\s*=", source, re.M)), "a metric is not understood"
    rows = [(name, kind, joined(text), joined(alarm)) for name, kind, text, alarm, _ in found]
    for name, text in re.findall(rf'\[HISTOGRAM_\w+\]\s*=\s*\{{\s*"(\w+)",\s*{TEXT}', source):
        rows.append((name, "histogram", joined(text), ""))
    rows.append(('role_ready{role="..."}', "gauge", "1 if the role can work and makes progress.", "0 for a minute"))
    rows.append(('role_stuck_seconds{role="..."}', "gauge", "How long the role has had work and has finished none.", "above STUCK_AFTER_S"))
    assert all(f"order_bridge_{name}" in (TOP / "bridge/src/base/roles.c").read_text() for name in ("role_ready", "role_stuck_seconds"))
    return rows


def settings_page():
    lines = ["# Settings", "", "Made by `make docs` from the tables in `bridge/src/base/config.c` and `bridge/sim/vendor_sim.c`.",
             "Each is an environment variable, a flag (`PORT=3000`, `--port=3000`) and a line of the file that",
             "`--config` names; the flag wins, then the environment. A bad one is refused at start by name.", ""]
    for title, path in (("order-bridge", "bridge/src/base/config.c"), ("vendor-sim", "bridge/sim/vendor_sim.c")):
        lines += [f"## {title}", "", "| setting | default | from, to | meaning |", "| --- | --- | --- | --- |"]
        for env, _, kind, default, low, high, text in settings(path):
            limits = f"{low}, {high}" if kind == "NUMBER" else ""
            lines.append(f"| `{env}` | {f'`{default}`' if default else ''} | {limits} | {text.replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)


def metrics_page():
    lines = ["# Metrics", "", "Made by `make docs` from `bridge/src/base/metrics.c` and `roles.c`. `GET /metrics`; every name",
             "begins with `order_bridge_`. [alerts.yml](alerts.yml) has the alarms as rules for Prometheus.", "",
             "| metric | kind | meaning | alarm |", "| --- | --- | --- | --- |"]
    lines += [f"| `{name}` | {kind} | {text} | {alarm} |" for name, kind, text, alarm in metrics()]
    return "\n".join(lines) + "\n"


def default_file():
    """debian/order-bridge.default: every setting with its meaning, commented out, but for what must not stand in a file that everybody can read."""
    lines = ["# Settings of order-bridge, made by `make docs`. What stands here without a # holds; the environment and",
             "# flags go before it. Secrets have files of their own in /etc/order-bridge (README.Debian): the service",
             "# reads DATABASE_URL, RABBITMQ_URL and HTTP_TOKENS_FILE from there, whatever this file says, which",
             "# everybody can read: no passwords, not in a URL either.", ""]
    for env, _, kind, default, low, high, text in settings("bridge/src/base/config.c"):
        if env == "DB_PASSWORD":
            continue
        limits = f" ({low} to {high})" if kind == "NUMBER" else ""
        lines += textwrap.wrap(text[0].upper() + text[1:] + limits, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        lines += [f"#{env}={default}", ""]
    return "\n".join(lines)


def instance_unit():
    """The same service, its settings and secrets by instance."""
    text = (TOP / "debian/order-bridge.service").read_text()
    for alone, by_instance in (("=order-bridge:", "=order-bridge %i:"), ("/etc/order-bridge/", "/etc/order-bridge/%i/"),
                               ("/etc/default/order-bridge ", "/etc/default/order-bridge-%i "), ("RuntimeDirectory=order-bridge\n", "RuntimeDirectory=order-bridge-%i\n")):
        assert alone in text, f"debian/order-bridge.service: {alone} is not in it"
        text = text.replace(alone, by_instance)
    # a user of its own, so that no other bridge may share its port, and a broker that somebody has named
    text = text.replace("DynamicUser=yes\n", "DynamicUser=yes\nUser=order-bridge-%i\n")
    text = re.sub(r"^SetCredential=.*\n", "", text, flags=re.M)
    return text


def escaped(text):
    return text.replace("\\", "\\e").replace("-", "\\-")


def options(path):
    lines = []
    for env, flag, kind, default, low, high, text in settings(path):
        limits = f", from {low} to {high}" if kind == "NUMBER" else ""
        lines += [".TP", f"\\fB\\-\\-{escaped(flag)}\\fR=\\fIVALUE\\fR, \\fB{env}\\fR",
                  escaped(text) + (f" (default {escaped(default)}{limits})" if default else "")]
    return "\n".join(lines)


def commands(path):
    """What --help says of them."""
    source = (TOP / path).read_text()
    found = re.findall(r'^\t"  ([\w-]+) +(.*?)(?:\\n)+"$', source, re.M)
    assert [name for name, _ in found] == re.search(r'synopsis\[\] = "([^"]*)"', source)[1].split(" | "), "the commands of --help are not understood"
    return "".join(f".TP\n.B {escaped(name)}\n{escaped(text)}\n" for name, text in found)


def made(text, what, part):
    """The page with that part of it made anew."""
    begin, end = f'.\\" the {what} are made by "make docs"\n', f'.\\" end of the {what}\n'
    return text[:text.index(begin) + len(begin)] + part + text[text.index(end):]


def man_page(name, path, main=None):
    text = made((TOP / "docs" / f"{name}.1").read_text(), "options", options(path) + "\n")
    return made(text, "commands", commands(main)) if main else text


def job_of(path):
    """What a file's head says of its job: its first paragraph."""
    head = path.read_text()
    text = re.search(r"^ \*\t\t((?:\S[^\n]*\n \*\t\t)*\S[^\n]*)\n", head, re.M)[1]
    return re.sub(r"\s*\n \*\t\t", " ", text)


FOLDERS = [
    ("extension/src", "the extension, from the top down", ["", "feed", "settlement", "placement", "reading", "outbox", "store"]),
    ("bridge/src", "the daemon: a folder a role, then what they stand on", ["", "http", "relay", "replies", "sync", "housekeeping", "link", "base"]),
    ("bridge/sim", "the vendor simulator", [""]),
]


def readme():
    path = TOP / "README.md"
    text = path.read_text()
    begin, end = "<!-- files: made by make docs -->\n", "<!-- end of files -->\n"
    lines = []
    for tree, title, folders in FOLDERS:
        missing = {str(file.parent.relative_to(TOP / tree)) for file in (TOP / tree).glob("**/*.c")} - {folder or "." for folder in folders}
        assert not missing, f"README's map lacks {missing} of {tree}"
        lines += [f"**`{tree}/`**, {title}", "", "| file | its job |", "| --- | --- |"]
        for folder in folders:
            for file in sorted((TOP / tree / folder).glob("*.c")):
                lines.append(f"| `{folder + '/' if folder else ''}{file.name}` | {job_of(file)} |")
        lines.append("")
    return text[:text.index(begin) + len(begin)] + "\n" + "\n".join(lines) + text[text.index(end):]


# statuses that every route of a kind may answer with
ANY, WITH_TOKEN, WITH_BODY, THAT_WAITS = ["403", "421", "default"], ["401"], ["413", "415"], ["500", "503"]


def routes():
    """The table of routes: (method, path, scope or None, whether it waits for the database, its own errors, operationId, summary)."""
    source = (TOP / "bridge/src/http/routes.c").read_text()
    table = source[source.index("static const Route routes[] = {"):]
    table = table[:table.index("\n};")]
    found = re.findall(r'\{"(\w+)", "([^"]*)", SCOPE_(\w+), \w+, \w+, QUEUE_(\w+),\s*\{[^}]*\},\s*"([^"]*)", "([^"]*)", "([^"]*)"\}', table)
    assert len(found) == table.count("SCOPE_"), "a route is not understood"
    return [(method, path, None if scope == "NONE" else scope.lower(), queue != "NONE", errors.split(), operation, summary)
            for method, path, scope, queue, errors, operation, summary in found]


def openapi():
    """The description with what the table of routes says of each; schemas and examples are its own."""
    document = json.loads((TOP / "bridge/openapi.json").read_text())
    described = {(method.upper(), re.sub(r"\{\w+\}", "%", path)): operation for path, methods in document["paths"].items() for method, operation in methods.items()}
    table = routes()
    assert set(described) == {(method, path) for method, path, *_ in table}, f"openapi.json and routes.c differ: {set(described) ^ {(m, p) for m, p, *_ in table}}"
    for method, path, scope, waits, errors, operation_id, summary in table:
        operation = described[method, path]
        operation["operationId"], operation["summary"] = operation_id, summary
        statuses = {*ANY, *errors, *(WITH_TOKEN if scope else []), *(WITH_BODY if method == "POST" else []), *(THAT_WAITS if waits else [])}
        responses = {status: answer for status, answer in operation["responses"].items() if status < "400" or (status in statuses and answer != PROBLEM)}
        operation["responses"] = dict(sorted({**{status: PROBLEM for status in statuses}, **responses}.items()))
        operation["security"] = [{"token": []}] if scope else []
        operation.pop("x-scope", None)
        if scope:
            operation["x-scope"] = scope
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def without_rule():
    """Metrics that have an alarm, and no rule in docs/alerts.yml."""
    rules = set(re.findall(r"order_bridge_(\w+)", (TOP / "docs/alerts.yml").read_text()))
    return [name for name, _, _, alarm in metrics() if alarm and name.split("{")[0] not in rules]


def main():
    pages = {
        "bridge/openapi.json": openapi(),
        "docs/settings.md": settings_page(),
        "docs/metrics.md": metrics_page(),
        "docs/order-bridge.1": man_page("order-bridge", "bridge/src/base/config.c", "bridge/src/main.c"),
        "docs/vendor-sim.1": man_page("vendor-sim", "bridge/sim/vendor_sim.c"),
        "README.md": readme(),
        "debian/order-bridge.default": default_file(),
        "debian/order-bridge@.service": instance_unit(),
    }
    differ = [name for name, text in pages.items() if not (TOP / name).exists() or (TOP / name).read_text() != text]
    if "--check" in sys.argv[1:]:
        for name in differ:
            print(f"{name} differs from the code: run make docs")
        lacking = without_rule()
        for name in lacking:
            print(f"docs/alerts.yml has no rule for {name}, which has an alarm")
        return 1 if differ or lacking else 0
    for name in differ:
        (TOP / name).write_text(pages[name])
        print(f"{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
