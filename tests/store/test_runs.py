"""Which unfinished calls belong to a run that is gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from gateway_addon.store import runs
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import insert_begun
from gateway_addon.store.runs import end_run, interrupt_dead_calls, is_alive, process_mark, start_run
from tests.store.calls import make_record

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def outcome_after_interrupting(db: Database) -> str:
    with transaction(db):
        interrupt_dead_calls(db)
    (row,) = db["requests"].rows
    return str(row["outcome"])


def begin_call(db: Database) -> str:
    run_id = start_run(db, "1.2.3")
    insert_begun(db, make_record(run_id=run_id, outcome="in_flight"))
    return run_id


def test_a_run_tells_who_and_when(db: Database):
    run_id = start_run(db, "1.2.3")
    (run,) = db["runs"].rows
    assert (run["id"], run["pid"], run["version"], run["ended_at"]) == (run_id, os.getpid(), "1.2.3", None)
    end_run(db, run_id)
    (run,) = db["runs"].rows
    assert run["started_at"] <= run["ended_at"]


def test_calls_of_a_living_run_are_left_alone(db: Database):
    begin_call(db)
    assert outcome_after_interrupting(db) == "in_flight"


def test_calls_left_by_a_run_that_ended_are_interrupted(db: Database):
    end_run(db, begin_call(db))
    assert outcome_after_interrupting(db) == "interrupted"


@needs_proc
def test_a_process_that_was_given_the_pid_of_a_dead_one_does_not_count(db: Database, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(runs, "process_mark", lambda pid: "an earlier boot/1")
        begin_call(db)
    assert outcome_after_interrupting(db) == "interrupted"


def test_finished_calls_of_a_dead_run_stay_as_they_are(db: Database):
    end_run(db, begin_call(db))
    db.execute("UPDATE requests SET outcome = 'complete'")
    assert outcome_after_interrupting(db) == "complete"


@pytest.mark.parametrize("marked", [pytest.param(True, marks=needs_proc), False])
def test_a_process_lives_until_it_is_gone(child: subprocess.Popen[bytes], marked: bool):
    mark = process_mark(child.pid) if marked else None
    assert is_alive(child.pid, mark)
    child.kill()
    child.wait()
    assert not is_alive(child.pid, mark)


@needs_proc
def test_a_dead_process_that_nobody_has_waited_for_is_dead(child: subprocess.Popen[bytes]):
    mark = process_mark(child.pid)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(child.pid, mark)


@needs_proc
def test_no_process_has_no_mark(child: subprocess.Popen[bytes]):
    child.kill()
    child.wait()
    assert process_mark(child.pid) is None
