"""What every run that starts servers does first (demo, check, soak, mutants, a benchmark): one of a kind at a time, and none outlives its make."""

import ctypes
import fcntl
import os
import pathlib
import re
import signal
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
WAIT_S = 120        # an earlier run whose make was killed has stopped its servers by then
PR_SET_PDEATHSIG = 1

children = []       # processes that are told to end when we are
held = []           # our lock, until we end; nobody inherits it
is_ending = False

# all that a run starts is on this machine
os.environ.update(no_proxy="*", NO_PROXY="*")


def forget_settings():
    """What the shell has for a bridge of its own is not for ours."""
    for setting in re.findall(r"^\| `([A-Z0-9_]+)` \|", (TOP / "docs" / "settings.md").read_text(), re.M):
        os.environ.pop(setting, None)


def end_with_parent(number=signal.SIGTERM):
    """The system sends this process that signal when its parent has ended; for Popen's preexec_fn, too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end(*_):
    """Told to: the children are, too, and whoever called begin() stops the servers; told again, it goes on with that."""
    global is_ending
    is_ending = True
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for process in children:
        if process.poll() is None:
            process.terminate()
    sys.exit(1)


def lock(folder):
    """Waits for an earlier run in that folder; ends this one if that one does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_name(f"{folder.name}.lock").open("a+")
    deadline, told = time.monotonic() + WAIT_S, False
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            file.seek(0)
            words = f"another run, process {file.read().strip()}, is at work in {folder}"
            if time.monotonic() > deadline:
                sys.exit(words)
            if not told:
                print(f"{words}: waiting until it ends", file=sys.stderr, flush=True)
            told = True
            time.sleep(0.2)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    held.append(file)


def name_of(pid):
    """Of a process; None if it is none that we can see, as from within a container."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def begin(folder):
    """The folder of servers is ours until we end."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    parent = os.getppid()
    if name_of(parent) == "make":
        end_with_parent()
        if os.getppid() != parent:
            sys.exit(1)
    lock(folder)
