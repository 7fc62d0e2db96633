"""Runs of the proxy: who writes to a database, and whether it still lives."""

import os
import time
import uuid
from pathlib import Path

from sqlite_utils import Database

from gateway_addon.times import timestamp


def start_run(db: Database, version: str) -> str:
    """Register this process as a writer and return the run's id. Inside a transaction."""
    run_id = uuid.uuid4().hex[:16]
    db.execute(
        "INSERT INTO runs (id, pid, process, started_at, version) VALUES (?, ?, ?, ?, ?)",
        [run_id, os.getpid(), process_mark(os.getpid()), timestamp(time.time()), version],
    )
    return run_id


def end_run(db: Database, run_id: str) -> None:
    """Note that a run has ended in good order."""
    db.execute("UPDATE runs SET ended_at = ? WHERE id = ?", [timestamp(time.time()), run_id])


def interrupt_dead_calls(db: Database) -> None:
    """Mark the calls that a run has left `in_flight`, because it ended or its process is gone. Inside a transaction."""
    unfinished = db.execute(
        "SELECT id, pid, process, ended_at FROM runs "
        "WHERE id IN (SELECT run_id FROM requests WHERE outcome = 'in_flight')"
    ).fetchall()
    for run_id, pid, process, ended_at in unfinished:
        if ended_at is not None or not is_alive(pid, process):
            db.execute(
                "UPDATE requests SET outcome = 'interrupted' WHERE run_id = ? AND outcome = 'in_flight'", [run_id]
            )


def is_alive(pid: int, mark: str | None) -> bool:
    """Whether the process that had this pid and `process_mark` still runs."""
    if mark is not None:
        return process_mark(pid) == mark
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # it is there, but not ours to signal
        return True
    return True


def process_mark(pid: int) -> str | None:
    """What tells a process from a later one of the same pid: boot and start time.

    None if there is no such process, or the system has no /proc.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the second field is the program's name in parentheses and may hold anything; state is the third field,
    # start time in clock ticks the 22nd
    fields = status.rpartition(")")[2].split()
    state, start = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}/{start}"
