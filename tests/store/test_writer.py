"""The writer's thread and queue, on real files.

A lock held by another connection stands for a slow disk: while it lasts, what is queued stays queued.
"""

import itertools
import logging
import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content, limited
from gateway_addon.record import Record
from gateway_addon.store import database, writer
from gateway_addon.store.database import StoreError, open_readonly
from gateway_addon.store.writer import Loss, Writer
from tests.store.calls import make_content, make_record, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written now is tried again soon, and given up at the end."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RETRY_PAUSE", 0.01)
    monkeypatch.setattr(writer, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(writer, "FILE_SECONDS", 0.5)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.rollback()
    other.close()


def outcomes(path: Path) -> dict[str, str]:
    return {row["id"]: row["outcome"] for row in stored(path, "SELECT id, outcome FROM requests")}


def finish_all(to: Writer, ids: str) -> None:
    for name in ids:
        to.finish(make_record(id=name), make_content())


class TestWriting:
    def test_what_is_handed_over_is_there_after_closing(self, path: Path):
        writer = Writer(path, "1.2.3")
        writer.begin(make_record(id="a", run_id=writer.run_id, outcome="in_flight"))
        writer.begin(make_record(id="b", run_id=writer.run_id, outcome="in_flight"))
        writer.finish(make_record(id="a", run_id=writer.run_id), make_content())
        assert writer.close() == Loss(rows=0, texts=0)
        assert outcomes(path) == {"a": "complete", "b": "in_flight"}
        assert stored(path, "SELECT user_prompt FROM prompts WHERE request_id = 'a'") == [
            {"user_prompt": "what is new?"}
        ]
        (run,) = stored(path, "SELECT id, version, ended_at FROM runs")
        assert (run["id"], run["version"]) == (writer.run_id, "1.2.3")
        assert run["ended_at"] is not None

    def test_one_bad_row_costs_no_other(self, path: Path, caplog: pytest.LogCaptureFixture):
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "a")
            store.finish(make_record(id="b", max_tokens=1j), make_content())
            store.finish(make_record(id="c", request_model=object()), make_content())
            finish_all(store, "d")
        assert store.close() == Loss(rows=2, texts=0)
        assert list(outcomes(path)) == ["a", "d"]
        assert len(caplog.records) == 1

    def test_more_calls_than_one_transaction_takes(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "BATCH", 2)
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "abcde")
        assert store.close() == Loss(0, 0)
        assert list(outcomes(path)) == list("abcde")

    def test_two_processes_write_to_one_file(self, path: Path):
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=write_many, args=(path, name)) for name in "ab"]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        assert len(outcomes(path)) == 200

    def test_a_file_that_cannot_be_used_is_an_error_at_once(self, tmp_path: Path):
        with pytest.raises(StoreError, match="not a regular file"):
            Writer(tmp_path, "1")


def write_many(path: Path, name: str) -> None:
    store = Writer(path, "1")
    for number in range(100):
        store.finish(make_record(id=f"{name}{number}", run_id=store.run_id), make_content(), wait=True)
    assert store.close(timeout=60) == Loss(0, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
from gateway_addon.store.writer import Writer
from tests.store.calls import make_record, stored

path = Path(sys.argv[1])
writer = Writer(path, "1")
writer.begin(make_record(run_id=writer.run_id, outcome="in_flight"))
while not stored(path, "SELECT id FROM requests"):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestInterruption:
    def test_a_killed_process_leaves_calls_that_the_next_one_marks(self, path: Path):
        killed = subprocess.run([sys.executable, "-c", KILLED, path], cwd=Path(__file__).parents[2], timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert outcomes(path) == {"call-1": "in_flight"}
        Writer(path, "1").close()
        assert outcomes(path) == {"call-1": "interrupted"}
        assert [run["ended_at"] is None for run in stored(path, "SELECT ended_at FROM runs ORDER BY rowid")] == [
            True,
            False,
        ]

    def test_a_call_that_outlives_its_run_is_finished_by_the_next(self, path: Path):
        first = Writer(path, "1")
        first.begin(make_record(run_id=first.run_id, outcome="in_flight"))
        first.close()
        second = Writer(path, "1")
        second.finish(make_record(run_id=second.run_id), make_content())
        second.close()
        assert outcomes(path) == {"call-1": "complete"}


class TestFullQueue:
    def test_texts_go_first(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "MAX_TEXT", 10_000)
        store = Writer(path, "1")
        call = ToolCall("1", "bash", "function", "client", '{"cmd": "ls"}')
        with locked(path):
            store.finish(make_record(id="a"), make_content(system_prompt="x" * 9_500))
            store.finish(
                make_record(id="b", output_tokens=5, warnings=("reader_failed",), error_message="overloaded"),
                make_content(system_prompt="y" * 9_500, tools=["bash"], tool_calls=[call]),
            )
            store.finish(make_record(id="c"), Content())
        assert store.close() == Loss(rows=0, texts=1)
        rows = {row["id"]: row for row in stored(path, "SELECT * FROM requests")}
        assert {name: row["warnings"] for name, row in rows.items()} == {
            "a": "[]",
            "b": '["reader_failed", "content_dropped"]',
            "c": "[]",
        }
        assert (rows["b"]["output_tokens"], rows["b"]["error_message"]) == (5, "overloaded")
        assert {row["text"][0] for row in stored(path, "SELECT text FROM contents")} == {"x", "w", "n"}
        assert stored(path, "SELECT name, arguments, arguments_valid FROM tool_calls") == [
            {"name": "bash", "arguments": None, "arguments_valid": 1}
        ]
        assert stored(path, "SELECT name FROM request_tools") == [{"name": "bash"}]

    def test_a_body_counts_as_text(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "MAX_TEXT", 10_000)
        store = Writer(path, "1")
        body = b'{"input":"%s"}' % (b"x" * 9_500)
        with locked(path):
            for name in "ab":
                store.finish(make_record(id=name, request_sha256="noted"), Content(body=body))
        assert store.close() == Loss(rows=0, texts=1)
        assert stored(path, "SELECT request_sha256, envelope_id IS NULL AS bare, warnings FROM requests") == [
            {"request_sha256": "noted", "bare": 0, "warnings": "[]"},
            {"request_sha256": "noted", "bare": 1, "warnings": '["content_dropped"]'},
        ]

    def test_a_text_larger_than_the_bound_is_taken_alone(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "MAX_TEXT", 100)
        store = Writer(path, "1")
        with locked(path):
            store.finish(make_record(id="a"), make_content(system_prompt="x" * 1_000))
            store.begin(make_record(id="b", outcome="in_flight"))
            store.finish(make_record(id="c"), Content())
        assert store.close() == Loss(0, 0)
        assert {row["warnings"] for row in stored(path, "SELECT warnings FROM requests")} == {"[]"}

    def test_rows_go_last(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "MAX_JOBS", 2)
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "abcd")
            store.begin(make_record(id="e", outcome="in_flight"))
        assert store.close() == Loss(rows=2, texts=0)
        assert list(outcomes(path)) == ["a", "b"]

    @pytest.mark.parametrize(("bound", "value"), [("MAX_JOBS", 1), ("MAX_TEXT", 100)])
    def test_reading_a_file_waits_for_room(self, path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int):
        monkeypatch.setattr(writer, bound, value)
        store = Writer(path, "1")

        def read_file() -> None:
            for name in "abcd":
                store.finish(make_record(id=name), make_content(), wait=True)

        reader = threading.Thread(target=read_file)
        with locked(path):
            reader.start()
        reader.join()
        assert store.close() == Loss(0, 0)
        assert list(outcomes(path)) == list("abcd")
        assert len(stored(path, "SELECT 1 FROM prompts WHERE user_prompt IS NOT NULL")) == 4


class TestClosing:
    def test_may_be_done_twice(self, path: Path):
        store = Writer(path, "1")
        assert (store.close(), store.close()) == (Loss(0, 0), Loss(0, 0))

    def test_what_comes_later_is_lost(self, path: Path):
        store = Writer(path, "1")
        store.close()
        store.begin(make_record())
        store.finish(make_record(), make_content())
        store.finish(make_record(), make_content(), wait=True)
        assert store.close() == Loss(rows=2, texts=0)

    def test_does_not_wait_for_ever(self, path: Path):
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "abc")
            assert store.close(timeout=0) == Loss(rows=3, texts=0)
        assert store.close() == Loss(rows=0, texts=0)


@pytest.mark.usefixtures("impatient")
class TestFailure:
    def test_rows_that_cannot_be_written_are_counted_and_told_once(
        self, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(writer, "BATCH", 1)
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "abc")
            assert store.close() == Loss(rows=3, texts=0)
        (warning,) = [record for record in caplog.records if "recorded" in record.message]
        assert warning.levelno == logging.WARNING
        assert str(path) in warning.message
        assert "locked" in warning.message
        assert "what is new?" not in caplog.text

    def test_nothing_is_lost_however_often_it_could_not_be_written(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        tried = trials(monkeypatch, 5)
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "abc")
            assert tried.wait(60)
        assert store.close(timeout=60) == Loss(0, 0)
        assert list(outcomes(path)) == list("abc")

    def test_only_what_the_queue_has_no_room_for_is_lost(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "MAX_JOBS", 3)
        tried = trials(monkeypatch, 5)
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "abcd")
            assert tried.wait(60)
        assert store.close(timeout=60) == Loss(rows=1, texts=0)
        assert list(outcomes(path)) == list("abc")

    def test_the_end_says_that_it_waits(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ):
        tried = trials(monkeypatch, 1)
        store = Writer(path, "1")
        with locked(path):
            finish_all(store, "a")
            assert tried.wait(60)
            store.close()
        assert "cannot be written to, waiting for at most" in caplog.text

    def test_reading_a_file_gives_up_in_the_end(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(writer, "MAX_JOBS", 1)
        store = Writer(path, "1")
        with locked(path):
            for name in "abc":
                store.finish(make_record(id=name), make_content(), wait=True)
            assert store.close() == Loss(rows=3, texts=0)

    def test_a_full_disk(self, path: Path):
        store = Writer(path, "1")
        fill_disk(store)
        store.finish(make_record(id="a"), make_content(system_prompt="x" * 1_000_000))
        assert store.close() == Loss(rows=1, texts=0)
        assert outcomes(path) == {}

    def test_a_disk_that_is_cleared_in_time_costs_nothing(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        store = Writer(path, "1")
        monkeypatch.setattr(writer.time, "sleep", lambda pause: store._db.execute("PRAGMA max_page_count = 1000000"))
        fill_disk(store)
        store.finish(make_record(id="a"), make_content(system_prompt="x" * 1_000_000))
        assert store.close(timeout=60) == Loss(0, 0)
        assert list(outcomes(path)) == ["a"]

    @pytest.mark.parametrize("instead", [None, b"", b"something else"])
    def test_a_database_that_was_taken_away(self, path: Path, instead: bytes | None):
        store = Writer(path, "1")
        path.unlink()
        if instead is not None:
            path.write_bytes(instead)
        finish_all(store, "a")
        assert store.close() == Loss(rows=1, texts=0)
        assert (path.read_bytes() if path.exists() else None) == instead


def trials(monkeypatch: pytest.MonkeyPatch, number: int) -> threading.Event:
    """Set once a transaction has failed so often."""
    enough, pauses = threading.Event(), itertools.count(1)

    def sleep(seconds: float) -> None:
        if next(pauses) >= number:
            enough.set()

    monkeypatch.setattr(writer.time, "sleep", sleep)
    return enough


def fill_disk(store: Writer) -> None:
    """SQLite says the same when no space is left."""
    store._db.execute("PRAGMA max_page_count = 1")


PLANTED = {
    "none": (),
    "prompts": ("planted-system", "planted-user", "planted-error", "planted-rewrite"),
    "full": (
        "planted-body",
        "planted-message",
        "planted-system",
        "planted-user",
        "planted-error",
        "planted-rewrite",
        "planted-answer",
        "planted-thought",
        "planted-argument",
    ),
}


@pytest.mark.parametrize("mode", PLANTED)
def test_what_the_content_option_keeps_out_is_nowhere_in_the_files(path: Path, mode: str):
    record, content = planted_call()
    store = Writer(path, "1")
    # as long as somebody reads, the write-ahead log stays
    with open_readonly(path):
        store.finish(*limited(record, content, mode))
        store.close()
        files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert set(files) == {"gateway.db", "gateway.db-wal", "gateway.db-shm"}
    found = [text for text in PLANTED["full"] if any(text.encode() in data for data in files.values())]
    assert found == [text for text in PLANTED["full"] if text in PLANTED[mode]]


def planted_call() -> tuple[Record, Content]:
    record = make_record(
        error_message="planted-error", rewrites=({"op": "add", "path": "/body/x", "value": "planted-rewrite"},)
    )
    content = Content(
        system_prompt="planted-system",
        user_prompt="planted-user",
        answer_text="planted-answer",
        reasoning_text="planted-thought",
        tool_calls=[ToolCall("1", "bash", "function", "client", '"planted-argument"')],
        tool_results=[ToolResult("0", "bash", "planted-result", None)],
        body=b'{"planted-body":1,"messages":["planted-message"]}',
    )
    return record, content
