#!/usr/bin/python3
"""The rules of the house that no compiler knows: which folder may use which, how long a file is, what stands twice.

    lint.py             all rules over both trees; says what breaks one, exits 1 if anything does

The arrows: a folder uses those to the right of it, and itself.

    extension/src   (module start)  feed  settlement  placement  reading  outbox  store
    bridge/src      (main)  http  relay  replies  sync  housekeeping  link  base
    bridge/sim      all of bridge/src/link and base, and http's server
"""

import collections
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
ORDER = {
    "extension/src": ["", "feed", "settlement", "placement", "reading", "outbox", "store"],
    "bridge/src": ["", "http", "relay", "replies", "sync", "housekeeping", "link", "base"],
}
SIM_USES = {"http/server.h", "http/head.h"}
FILE_LINES_MAX = 500
TABLES = {"extension/src/store/plans.c", "bridge/src/link/statements.c", "bridge/src/base/config.c"}     # nothing but a table
LINE_CHARS_MAX = 100
FUNCTION_LINES_MAX = 70
SAME_LINES = 6
# what only one room may know
ONLY = [
    (r"#include <(?:rabbitmq-c/)?amqp", "bridge/src/link/broker_library.h", "rabbitmq-c"),
    (r"PG_VERSION_NUM", "extension/src/store/compat.h", "the server's version"),
    (r"#include <microhttpd", "bridge/src/http/server", "libmicrohttpd"),
    (r"MHD_VERSION", "bridge/src/http/server_state.h", "libmicrohttpd's version"),
    (r"#include <curl/", ("bridge/src/sync/", "bridge/src/link/broker_url", "bridge/src/main.c"), "libcurl"),
    (r'"\s*(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|REVOKE|GRANT|SET|LISTEN|NOTIFY) [^"]*[^". ][."; ]',
     ("extension/src/store/plans.", "bridge/src/link/statements."), "SQL text"),
]

complaints = []


def complain(path, number, text):
    complaints.append(f"{path.relative_to(TOP)}:{number}: {text}")


def sources(*folders):
    for folder in folders:
        yield from sorted(path for path in (TOP / folder).rglob("*.[ch]"))


def folder_of(tree, path):
    parent = path.relative_to(TOP / tree).parent
    return "" if str(parent) == "." else parent.parts[0]


def check_arrows():
    uses = collections.defaultdict(set)
    for tree, order in ORDER.items():
        for path in sources(tree):
            here = folder_of(tree, path)
            if here not in order:
                complain(path, 1, f"the folder {here} has no place in the order of {tree}")
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = re.match(r'#include "([^"]+)"', line)
                if not match or not (TOP / tree / match[1]).exists():
                    continue
                there = match[1].split("/")[0] if "/" in match[1] else ""
                # what all share stands at the top: the settings, read by main
                if there == "" and match[1] in ("config.h",):
                    continue
                if order.index(there) < order.index(here):
                    complain(path, number, f"{here or 'the top'} must not use {there or 'the top'}, which is above it")
                uses[path.relative_to(TOP / tree).as_posix()].add(match[1])
    for path in sources("bridge/sim"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'#include "([^"]+)"', line)
            if match and "/" in match[1] and match[1].split("/")[0] not in ("link", "base") and match[1] not in SIM_USES:
                complain(path, number, f"the simulator must not use {match[1]}")
    check_circles(uses)


def check_circles(uses):
    """Headers that include each other, however long the way round."""
    state = {}

    def visit(name, way):
        state[name] = "open"
        for other in sorted(uses.get(name, ())):
            if not other.endswith(".h"):
                continue
            if state.get(other) == "open":
                complaints.append(f"circle: {' -> '.join([*way, name, other])}")
            elif other not in state:
                visit(other, [*way, name])
        state[name] = "done"

    for name in sorted(name for name in uses if name.endswith(".h")):
        if name not in state:
            visit(name, [])


def check_sizes():
    for path in sources("extension/src", "bridge/src", "bridge/sim"):
        lines = path.read_text().splitlines()
        name = path.relative_to(TOP).as_posix()
        if lines[1] != f" * {path.name}":
            complain(path, 2, f"the head must begin with the file's name, {path.name}")
        if len(lines) > FILE_LINES_MAX and name not in TABLES:
            complain(path, len(lines), f"{len(lines)} lines, more than {FILE_LINES_MAX}")
        began = None
        for number, line in enumerate(lines, 1):
            if len(line.expandtabs(4)) > LINE_CHARS_MAX:
                complain(path, number, f"{len(line.expandtabs(4))} characters, more than {LINE_CHARS_MAX}")
            if line == "{":
                began = number
            elif line == "}" and began is not None:
                if number - began > FUNCTION_LINES_MAX:
                    complain(path, began, f"a function of {number - began} lines, more than {FUNCTION_LINES_MAX}")
                began = None


def check_widths():
    """SQL and the paragraphs of documents: what fits a screen. Tables and what is shown as code may be wider."""
    for path in sorted((TOP / "extension" / "sql").glob("*.sql")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line.expandtabs(4)) > LINE_CHARS_MAX:
                complain(path, number, f"{len(line.expandtabs(4))} characters, more than {LINE_CHARS_MAX}")
    for path in [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]:
        is_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            is_code ^= line.lstrip().startswith("```")
            if not is_code and not line.startswith("|") and len(line) > LINE_CHARS_MAX and " " in re.sub(r"`[^`]*`", "", line).strip():
                complain(path, number, f"{len(line)} characters, more than {LINE_CHARS_MAX}")


def check_rooms():
    for path in sources("extension/src", "bridge/src", "bridge/sim"):
        name = path.relative_to(TOP).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for pattern, allowed, what in ONLY:
                if re.search(pattern, line) and not name.startswith(allowed):
                    complain(path, number, f"{what} is the business of {allowed if isinstance(allowed, str) else ' and '.join(allowed)} alone")


def check_twice():
    """Six equal lines in two places, blanks, braces and includes not counted."""
    seen = {}
    for path in sources("extension/src", "bridge/src", "bridge/sim"):
        lines = [(number, line.strip()) for number, line in enumerate(path.read_text().splitlines(), 1)]
        in_comment, code = False, []
        for number, line in lines:
            if line.startswith("/*"):
                in_comment = True
            if not in_comment and len(line) > 3 and not line.startswith(("#", "//", "case ", "default:", "return ", "break;")):
                code.append((number, line))
            if "*/" in line:
                in_comment = False
        last = -SAME_LINES
        for i in range(len(code) - SAME_LINES + 1):
            block = tuple(line for _, line in code[i:i + SAME_LINES])
            if block in seen and i - last >= SAME_LINES and seen[block] != (path, code[i][0]):
                other, number = seen[block]
                complain(path, code[i][0], f"the same {SAME_LINES} lines as {other.relative_to(TOP)}:{number}")
                last = i
            seen.setdefault(block, (path, code[i][0]))


def check_documents():
    """A file that a document names is there."""
    there = {path.name for tree in ("extension", "bridge") for path in (TOP / tree).rglob("*.[ch]")}
    for document in [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]:
        for number, line in enumerate(document.read_text().splitlines(), 1):
            for name in re.findall(r"`(?:[a-z_]+/)*([a-z_]+\.[ch])`", line):
                if name not in there:
                    complain(document, number, f"there is no {name}")


def check_packages():
    """Whoever builds needs the same libraries; and there is one version."""
    def libraries(text):
        return set(re.findall(r"\b(?:lib[a-z0-9+-]+|zlib1g)-dev\b", text)) - {"libc6-dev"}
    texts = {name: (TOP / name).read_text() for name in ("Makefile", "debian/control.in", "Dockerfile", "debian/changelog", "META.json", "bridge/openapi.json",
                                                         "CHANGELOG.md", "extension/order_aggregator.control")}
    wanted = libraries(texts["Makefile"].split("PACKAGES =")[1].split("\n\n")[0])
    for name in ("debian/control.in", "Dockerfile"):
        if libraries(texts[name]) != wanted:
            complain(TOP / name, 1, f"other libraries than the Makefile's PACKAGES: {', '.join(sorted(wanted ^ libraries(texts[name])))}")
    version = re.search(r"\(([\d.]+)\)", texts["debian/changelog"])[1]
    for name, text in {"META.json": f'"version": "{version}"', "bridge/openapi.json": f'"version": "{version}"', "CHANGELOG.md": f"## {version}",
                       "extension/order_aggregator.control": f"default_version = '{version.rsplit('.', 1)[0]}'"}.items():
        if text not in texts[name]:
            complain(TOP / name, 1, f"the version is {version} in debian/changelog, and {text} is not here")


def main():
    check_arrows()
    check_sizes()
    check_widths()
    check_rooms()
    check_packages()
    check_twice()
    check_documents()
    for text in complaints:
        print(text)
    print(f"{len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
