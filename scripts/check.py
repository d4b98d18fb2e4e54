#!/usr/bin/python3
"""All tests, against private servers in .run/check; `make check` runs it.

    check.py [unit] [regress] [isolation] [fuzz] [daemon]     all of them by default

Ends with the line "N passed, N failed"; exits 1 if anything failed, or if a
part ran no test.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
RUN = TOP / ".run" / "check"
BUILD = TOP / "build"
REGRESS = ["place_order", "place_orders", "idempotency", "keys", "settlement", "guards", "consistency", "feed", "feed_parts", "sourcing", "errors", "privileges", "outbox", "read_only"]


def run(words, **env):
    """Runs a command, shows what it prints as it comes, and returns (exit code, output)."""
    process = subprocess.Popen([str(word) for word in words], cwd=TOP, env={**os.environ, **env}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait(), "".join(lines)


def servers(command):
    subprocess.run([TOP / "scripts" / "servers", command, RUN], check=True, stdout=subprocess.DEVNULL)


def server_env():
    ports = dict(line.split("=", 1) for line in (RUN / "ports").read_text().split())
    return {"PGPASSWORD": ports["PG_PASSWORD"]}, ports["PG_PORT"]


def pg_regress(program, folder, output, tests):
    pgxs = pathlib.Path(subprocess.check_output(["pg_config", "--pgxs"], text=True).strip())
    bindir = subprocess.check_output(["pg_config", "--bindir"], text=True).strip()
    password, port = server_env()
    (BUILD / output).mkdir(parents=True, exist_ok=True)
    code, text = run([pgxs.parent.parent / "test" / folder / program, f"--inputdir={TOP}", f"--outputdir={BUILD / output}",
                      f"--bindir={bindir}", "--host=127.0.0.1", f"--port={port}", "--user=order_aggregator", f"--dbname=check_{output}", *tests],
                     **password)
    failed = len(re.findall(r"^test .*\.\.\. FAILED", text, re.M))
    passed = len(re.findall(r"^test .*\.\.\. ok", text, re.M))
    if failed:
        print((BUILD / output / "regression.diffs").read_text())
    return passed, failed + (len(tests) - passed - failed) + (code != 0 and not failed)


def regress():
    return pg_regress("pg_regress", "regress", "regress", REGRESS)


def isolation():
    return pg_regress("pg_isolation_regress", "isolation", "isolation", sorted(spec.stem for spec in (TOP / "specs").glob("*.spec")))


def unit():
    code, text = run(["make", "-s", "--no-print-directory", "-C", "bridge", f"BUILD={BUILD}", "unit"])
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", text))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", text))
    return passed, failed or code != 0


def fuzz():
    """What parses a stranger's text, under sanitizers: the corpus and FUZZ_SECONDS of mutations, another seed each day."""
    code, _ = run(["make", "-s", "--no-print-directory", "-C", "bridge", f"BUILD={BUILD}", "fuzz-programs"])
    codes = [code]
    for target in ("order", "feed"):
        if code == 0:
            corpus = sorted((TOP / "bridge" / "fuzz" / f"{target}_corpus").iterdir())
            codes.append(run([BUILD / "fuzz" / f"{target}_fuzz", os.environ.get("FUZZ_SECONDS", "5"), str(int(time.time()) // 86400), *corpus])[0])
    return len(codes) - 1 - sum(c != 0 for c in codes[1:]), sum(c != 0 for c in codes)


def daemon():
    code, text = run(["/usr/bin/python3", "-m", "pytest", "-v", "--durations=5", "-p", "no:cacheprovider", "bridge/test"], CHECK_RUN=str(RUN))
    summary = text.splitlines()[-1] if text else ""
    passed, failed, errors = (int(m.group(1)) if (m := re.search(rf"(\d+) {word}", summary)) else 0 for word in ("passed", "failed", "error"))
    return passed, (failed + errors) or code != 0


def main():
    parts = {"unit": unit, "regress": regress, "isolation": isolation, "fuzz": fuzz, "daemon": daemon}
    wanted = sys.argv[1:] or list(parts)
    passed = failed = 0
    # what an earlier run left, perhaps killed half-way
    servers("down")
    shutil.rmtree(RUN, ignore_errors=True)
    try:
        servers("base")
        for name in wanted:
            print(f"\n=== {name}", flush=True)
            good, bad = parts[name]()
            passed, failed = passed + good, failed + int(bad) + (good == 0 and not bad)
    finally:
        servers("down")
    print(f"\n{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
