"""What holds a load up beside it: a disk that keeps a small write waiting, a host that takes the processors away.

The small write is to the load's own disk, and waits behind the load's: what it tells is of the disk under this load, not by itself.
"""

import multiprocessing
import os
import pathlib
import time

from common import OUT, runs

EVERY_SECONDS = 0.05
WAL_BLOCK = bytes(8192)
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def stolen_ms():
    """Time that the host has taken from each processor so far."""
    ticks = int(pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[8])
    return ticks * TICK_MS / os.cpu_count()


def watch(over, results):
    """Makes a block durable every 50 ms, until it is over."""
    runs.end_with_parent()
    longest = {"longest_disk_ms": 0, "longest_stolen_ms": 0}
    stolen = stolen_ms()
    with (OUT / "stalls").open("wb", buffering=0) as file:
        while not over.wait(EVERY_SECONDS):
            began = time.monotonic()
            os.pwrite(file.fileno(), WAL_BLOCK, 0)
            os.fdatasync(file.fileno())
            before, stolen = stolen, stolen_ms()
            for name, found in (("longest_disk_ms", (time.monotonic() - began) * 1000), ("longest_stolen_ms", stolen - before)):
                longest[name] = max(longest[name], found)
    results.put(longest)


class Stalls:
    """with Stalls() as stalls: a load. Then stalls.longest: the longest a block took to be durable, and the most that the host took in between two."""

    def __enter__(self):
        self.over, self.results = multiprocessing.Event(), multiprocessing.Queue()
        self.process = multiprocessing.Process(target=watch, args=[self.over, self.results], daemon=True)
        self.process.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.longest = {name: round(ms, 2) for name, ms in self.results.get(timeout=60).items()}
        self.process.join()
