"""Who spends what: processor time by process and WAL bytes, from one moment to another."""

import collections
import os
import pathlib

from common import RUN

TICKS = os.sysconf("SC_CLK_TCK")
PROGRAMS = {"broker": "rabbitmq", "bridge": "bridge", "vendor simulator": "vendor-sim"}     # who -> the pid file's name


def stat(pid):
    """(parent, session, ticks of its own, ticks of its children that have ended), or None if it has gone."""
    try:
        words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(words[1]), int(words[3]), int(words[11]) + int(words[12]), int(words[13]) + int(words[14])


def processes():
    return {int(name): found for name in os.listdir("/proc") if name.isdigit() and (found := stat(name)) is not None}


def server_name(pid, backends):
    """What a process of PostgreSQL does: for whom, if it is a backend."""
    if pid in backends:
        return backends[pid]
    title = pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return title.partition("postgres: ")[2] or "postmaster"


def wal(db):
    """[bytes, records, full pages] written so far; a backend tells its records now and then, and when it ends."""
    db.execute("SELECT pg_stat_force_next_flush()")
    return [int(number) for number in db.execute("SELECT pg_current_wal_insert_lsn() - '0/0', wal_records, wal_fpi FROM pg_stat_wal").fetchone()]


class Spent:
    """Begun when it is made; since() tells what was spent from then on."""

    def __init__(self, db):
        self.db = db
        self.ticks, self.written = self.look()

    def look(self):
        all_of = processes()
        main = {who: int((RUN / f"{name}.pid").read_text().split()[0]) for who, name in PROGRAMS.items()}
        postmaster = int((RUN / "postgresql" / "postmaster.pid").read_text().split()[0])
        backends = dict(self.db.execute("SELECT pid, coalesce(nullif(application_name, ''), 'the load') FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchall())
        ticks = collections.Counter()
        for pid, (parent, session, own, ended) in all_of.items():
            for who, first in main.items():
                if pid == first or (who == "broker" and session == first):
                    ticks[who] += own
            if pid == postmaster:
                ticks["PostgreSQL: processes that have ended"] += ended
            if postmaster in (pid, parent):
                ticks[f"PostgreSQL: {server_name(pid, backends)}"] += own
        own = os.times()
        ticks["the load's client"] = round((own.user + own.system) * TICKS)
        return ticks, wal(self.db)

    def since(self):
        """({who: seconds}, bytes of WAL, records, full pages)."""
        ticks, written = self.look()
        return collections.Counter({who: (ticks[who] - self.ticks[who]) / TICKS for who in ticks}), *(after - before for before, after in zip(self.written, written))
