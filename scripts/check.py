#!/usr/bin/python3
"""All tests, against private servers in .run; `make check` runs it.

    check.py [lint] [unit] [regress] [upgraded] [isolation] [fuzz] [daemon] [soak]     all of these by default
    check.py all                      and analysis: clang-tidy, and the headers of later servers
    check.py --often N [PART...]      N times, both cores kept busy beside it; says how often each test failed

Ends with the line "N passed, N failed"; exits 1 if anything failed, or if a
part ran no test.
"""

import collections
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree

import runs

TOP = pathlib.Path(__file__).resolve().parent.parent
RUNS = [TOP / ".run" / name for name in ("check", "check2", "check3")]  # the daemon's tests run in all at a time, the extension's in two
RUN = RUNS[0]
BUILD = TOP / "build"
MAKE = ["make", "-s", "--no-print-directory"]
COMPILE = [*MAKE, "-C", "bridge", *([] if "-j" in os.environ.get("MAKEFLAGS", "") else [f"-j{os.cpu_count()}"])]


def run(words, **env):
    """Runs a command, shows what it prints as it comes, and returns (exit code, output)."""
    if runs.is_ending:
        return 1, ""
    process = subprocess.Popen([str(word) for word in words], cwd=TOP, env={**os.environ, **env}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=runs.end_with_parent)
    runs.children.append(process)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait(), "".join(lines)


def servers(command, folder=RUN):
    subprocess.run([TOP / "scripts" / "servers", command, folder], check=True, stdout=subprocess.DEVNULL)


def server_env(run_folder):
    ports = dict(line.split("=", 1) for line in (run_folder / "ports").read_text().split())
    return {"PGPASSWORD": ports["PG_PASSWORD"]}, ports["PG_PORT"]


# Each part returns its tests: name -> passed. A part that broke off says so under its own name.

def pg_regress(program, folder, output, tests, inputs=TOP, run_folder=RUN):
    pg_config = os.environ.get("PG_CONFIG", "pg_config")
    pgxs = pathlib.Path(subprocess.check_output([pg_config, "--pgxs"], text=True).strip())
    bindir = subprocess.check_output([pg_config, "--bindir"], text=True).strip()
    password, port = server_env(run_folder)
    (BUILD / output).mkdir(parents=True, exist_ok=True)
    major = int(subprocess.check_output([TOP / "scripts" / "postgresql-major"], text=True))
    expected = [f"--expecteddir={inputs}"] if major >= 16 else []       # before, it is beside the input
    _, text = run([pgxs.parent.parent / "test" / folder / program, f"--inputdir={inputs}", *expected, f"--outputdir={BUILD / output}",
                   f"--bindir={bindir}", "--host=127.0.0.1", f"--port={port}", "--user=order_aggregator", f"--dbname=check_{output}", *tests],
                  **password)
    passed = set(re.findall(r"^test (\S+)\s+\.\.\. ok", text, re.M)) | set(re.findall(r"^ok \d+\s+[-+] (\S+)", text, re.M))   # TAP since 16
    if not passed.issuperset(tests) and (BUILD / output / "regression.diffs").exists():
        print((BUILD / output / "regression.diffs").read_text())
    return {f"{output} {test}": test in passed for test in tests}


def tests_of_the_extension(kind):
    """As its Makefile lists them for make installcheck."""
    return re.search(rf"^{kind} = ((?:[^\\\n]|\\\n)*)", (TOP / "extension" / "Makefile").read_text(), re.M)[1].replace("\\\n", " ").split()


def lint():
    """The rules of the house, and the docs that are made of the code."""
    return {"lint rules": run(["/usr/bin/python3", "scripts/lint.py"])[0] == 0, "lint docs": run(["/usr/bin/python3", "scripts/docs.py", "--check"])[0] == 0}


def regress():
    return pg_regress("pg_regress", "regress", "regress", tests_of_the_extension("REGRESS"))


def upgraded():
    """The regression tests in databases that began with 1.0: what they show is the same."""
    folder = BUILD / "upgraded"
    for kind in ("sql", "expected"):
        (folder / "tests" / kind).mkdir(parents=True, exist_ok=True)
        for path in (TOP / kind).glob("*.*"):
            text = path.read_text().replace("CREATE EXTENSION order_aggregator;", "CREATE EXTENSION order_aggregator VERSION '1.0';\nALTER EXTENSION order_aggregator UPDATE;")
            (folder / "tests" / kind / path.name).write_text(text)
    return pg_regress("pg_regress", "regress", "upgraded", tests_of_the_extension("REGRESS"), folder / "tests", RUNS[1])


def isolation():
    return pg_regress("pg_isolation_regress", "isolation", "isolation", sorted(spec.stem for spec in (TOP / "specs").glob("*.spec")))


def unit():
    code, text = run([*COMPILE, f"BUILD={os.environ.get('BRIDGE_BUILD', BUILD)}", "unit"])
    tests = {f"unit {name}": True for name in re.findall(r"^\[       OK \] (\S+)", text, re.M)}
    tests |= {f"unit {name}": False for name in re.findall(r"^\[  FAILED  \] (?!\d+ test)(\S+)", text, re.M)}
    return tests if code == 0 or not all(tests.values()) else {**tests, "unit": False}


def fuzz():
    """What parses a stranger's text, under sanitizers: the corpus and FUZZ_SECONDS of mutations, another seed each day."""
    code, _ = run([*COMPILE, f"BUILD={BUILD}", "fuzz-programs"])
    if code != 0:
        return {"fuzz": False}

    def one(target):
        return run([BUILD / "fuzz" / f"{target}_fuzz", os.environ.get("FUZZ_SECONDS", "5"), str(int(time.time()) // 86400),
                    *sorted((TOP / "bridge" / "fuzz" / f"{target}_corpus").iterdir())])[0] == 0

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return {f"fuzz {target}": passed for target, passed in zip(FUZZED, pool.map(one, FUZZED))}


def daemon():
    """Three runs at a time, each with servers of its own: most tests wait most of the time."""
    claims = BUILD / "claims"
    shutil.rmtree(claims, ignore_errors=True)
    claims.mkdir(parents=True)
    reports = [BUILD / f"daemon{number}.xml" for number in range(len(RUNS))]
    for report in reports:
        report.unlink(missing_ok=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        codes = list(pool.map(lambda folder, report: run(
            ["/usr/bin/python3", "-m", "pytest", "-v", "--durations=10", "-p", "no:cacheprovider", f"--junitxml={report}", *os.environ.get("CHECK_TESTS", "bridge/test").split()],
            CHECK_RUN=str(folder), CHECK_CLAIMS=str(claims))[0], RUNS, reports))
    tests = {}
    for report in reports:
        for case in xml.etree.ElementTree.parse(report).iter("testcase") if report.exists() else []:
            name = f"{case.get('classname')}::{case.get('name')}"
            if case.find("skipped") is None:
                tests[name] = tests.get(name, True) and case.find("failure") is None and case.find("error") is None
    return tests if set(codes) == {0} or not all(tests.values()) else {**tests, "daemon": False}


def soak():
    """Two minutes of faults, of another seed each day."""
    return {"soak": run(["/usr/bin/python3", "bridge/chaos/soak.py"], SOAK_MINUTES=os.environ.get("SOAK_MINUTES", "2"))[0] == 0}


def analysis():
    """What a compiler finds, also with the headers of the next Debian suites if they can be had: with what others leave of the processors."""
    tests = {"analysis clang-tidy": run(["nice", "-n", "19", *MAKE, "tidy"])[0] == 0}
    code, _ = run(["nice", "-n", "19", "scripts/compile-against", "trixie", "forky"])
    return tests if code == 75 else {**tests, "analysis headers": code == 0}


PARTS = {"lint": lint, "unit": unit, "regress": regress, "upgraded": upgraded, "isolation": isolation, "fuzz": fuzz, "daemon": daemon, "soak": soak, "analysis": analysis}
FUZZED = ("order", "feed")
EXTENSION = [["regress", "isolation"], ["upgraded"]]    # each keeps a core busy, and has a server of its own
AT_A_TIME = [EXTENSION, [["daemon"], ["soak"], ["analysis"]]]   # tests wait much, and so does the soak


def grouped(wanted):
    """What runs at a time, as lists of parts that run one after the other: each part alone, but for those of AT_A_TIME."""
    groups = []
    for name in wanted:
        whole = next((group for group in AT_A_TIME if any(name in names for names in group)), [[name]])
        group = [parts for parts in ([part for part in names if part in wanted] for names in whole) if parts]
        if group not in groups:
            groups.append(group)
    return groups


def parts_of(words):
    return list(PARTS) if words == ["all"] else words or [name for name in PARTS if name != "analysis"]


def runs_of(wanted):
    """The folders of the servers that these parts need."""
    return RUNS if "daemon" in wanted else [folder for names, folder in zip(EXTENSION, RUNS) if set(names) & set(wanted)]


def start(folders):
    for folder in folders:      # one after the other: each sees which ports are taken
        if not runs.is_ending:
            servers("base", folder)


def run_parts(names):
    return {test: passed for name in names for test, passed in (PARTS[name]() or {name: False}).items()}


def check(wanted):
    """Runs the parts; returns all their tests."""
    tests = {}
    # what an earlier run left, perhaps killed half-way
    for folder in RUNS:
        servers("down", folder)
        shutil.rmtree(folder, ignore_errors=True)
    pool = concurrent.futures.ThreadPoolExecutor()
    starting = pool.submit(start, runs_of(wanted))
    try:
        for group in grouped(wanted):
            parts, began = ", ".join(name for names in group for name in names), time.monotonic()
            print(f"\n=== {parts}", flush=True)
            if runs_of(sum(group, [])):
                starting.result()
            for found in pool.map(run_parts, group):
                tests |= found
            print(f"\n=== {parts}: {round(time.monotonic() - began)} s", flush=True)
    finally:
        pool.shutdown()
        for folder in RUNS:
            servers("down", folder)
    failed = [name for name, passed in tests.items() if not passed]
    for name in failed:
        print(f"failed: {name}")
    print(f"\n{len(tests) - len(failed)} passed, {len(failed)} failed", flush=True)
    return tests


def burn():
    """A process that keeps a core busy as long as we live."""
    return subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=runs.end_with_parent)


def often(times, wanted):
    failures, ran = collections.Counter(), 0
    burning = [burn() for _ in range(os.cpu_count())]
    try:
        for number in range(times):
            began = time.monotonic()
            tests = check(wanted)
            ran = max(ran, len(tests))
            failures.update(name for name, passed in tests.items() if not passed)
            print(f"run {number + 1} of {times}: {round(time.monotonic() - began)} s, failures so far: {sum(failures.values())}", flush=True)
    finally:
        for process in burning:
            process.kill()
    for name, count in failures.most_common():
        print(f"{name} failed in {count} of {times} runs")
    print(f"\n{ran - len(failures)} of {ran} tests passed in {times} of {times} runs, {len(failures)} did not", flush=True)
    return not failures


def main():
    runs.begin(RUN)
    words = sys.argv[1:]
    if words[:1] == ["--often"]:
        sys.exit(not often(int(words[1]), parts_of(words[2:])))
    sys.exit(not all(check(parts_of(words)).values()))


if __name__ == "__main__":
    main()
