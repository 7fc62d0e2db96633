"""What the writer remembers of rows: a turn costs what is new in it, and nothing is pointed at that is gone."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_addon import api
from gateway_addon.api.base import HistoryItem, Json
from gateway_addon.content import Content
from gateway_addon.record import Record
from gateway_addon.store import prune
from gateway_addon.store import writer as writing
from gateway_addon.store.bodies import load_body
from gateway_addon.store.database import open_database, open_readonly
from gateway_addon.store.writer import Writer
from gateway_addon.wire.elements import Memory
from tests.sessions import session
from tests.store.calls import make_record


class Statements:
    """Counts what a writer's connection is asked."""

    def __init__(self, writer: Writer) -> None:
        self.count = 0
        writer._db.conn.set_trace_callback(self._take)

    def _take(self, sql: str) -> None:
        self.count += 1


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    # each call is stored on its own here
    monkeypatch.setattr(writing, "LINGER_SECONDS", 0.0)
    writer = Writer(tmp_path / "gateway.db", "1")
    yield writer
    writer.close()


def calls(turns: int) -> Iterator[tuple[Record, Content]]:
    memory = Memory(api.members)
    for number, turn in enumerate(session("messages", turns, scale=0.1)):
        body = memory.read(turn.request)
        record = make_record(id=f"call-{number:03}", request_sha256=hashlib.sha256(turn.request).hexdigest())
        yield record, Content(body=turn.request, elements=body)


def store(writer: Writer, record: Record, content: Content) -> None:
    """Write a call, at once and in this thread."""
    writer.finish(record, content)
    with writer._changed:
        assert writer._changed.wait_for(lambda: not writer._queue, 30)


def all_bodies(path: Path) -> dict[str, bytes | None]:
    with open_readonly(path) as db:
        return {row["id"]: load_body(db, row["id"]) for row in db.query("SELECT id FROM requests ORDER BY id")}


def test_a_turn_takes_as_many_statements_however_long_its_history(writer: Writer):
    statements, taken = Statements(writer), []
    for record, content in calls(60):
        before = statements.count
        store(writer, record, content)
        taken.append(statements.count - before)
    assert sum(taken[-12:]) <= 1.05 * sum(taken[12:24])


@pytest.mark.parametrize("kind", api.KINDS)
def test_of_a_history_that_is_spelled_anew_the_results_are_not_looked_for_again(
    writer: Writer, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    # in a session of Messages a prompt is a list while it is marked, and a string later
    module, memory, looked_at = api.KINDS[kind], Memory(api.members), []
    history = module.history

    def watched(body: Json) -> Iterator[HistoryItem]:
        looked_at.append(len(body.get("messages") or body.get("input") or ()))
        return history(body)

    monkeypatch.setattr(module, "history", watched)
    asked: set[str | None] = set()
    for number, turn in enumerate(session(kind, 40, scale=0.1)):
        body = memory.read(turn.request)
        facts = module.read_request(body.json)
        asked |= {result.call_id for result in facts.tool_results}
        record = make_record(id=f"call-{number:03}", api_kind=kind, session_id="session", started_at=1000.0 + number)
        store(writer, record, Content(body=turn.request, elements=body, tool_results=facts.tool_results))
    writer.close()
    assert max(looked_at) <= 8
    with open_readonly(tmp_path / "gateway.db") as db:
        results = [row["call_id"] for row in db.query("SELECT call_id FROM stored_tool_results")]
    assert set(results) == asked
    assert len(results) == len(asked) == 36


@pytest.mark.parametrize("when", [5, 10])
def test_rows_that_another_process_has_removed_are_written_again(writer: Writer, tmp_path: Path, when: int):
    path, sent = tmp_path / "gateway.db", {}
    for number, (record, content) in enumerate(calls(15)):
        store(writer, record, content)
        sent[record.id] = content.body
        if number == when:
            with open_database(path) as other:
                other.execute("UPDATE requests SET outcome = 'complete'")
                other.conn.commit()
                assert prune.remove_before(other, "2999-01-01T00:00:00.000Z") == number + 1
                # so that another row takes the place of one that was
                other.execute("INSERT INTO elements (hash, template) VALUES (x'00', 'another')")
                other.conn.commit()
            sent.clear()
    writer.close()
    assert all_bodies(path) == sent


def test_rows_that_were_undone_are_written_again(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, sent = tmp_path / "gateway.db", {}
    for number, (record, content) in enumerate(calls(12)):
        if number == 6:
            # fails after its body is stored
            bad = Content(body=content.body, elements=content.elements)
            store(writer, make_record(id="bad", http_status=object()), bad)
        store(writer, record, content)
        sent[record.id] = content.body
    writer.close()
    assert all_bodies(path) == sent


def test_elements_of_another_body_are_not_believed(writer: Writer, tmp_path: Path):
    (_, first), (record, second) = calls(2)
    store(writer, record, Content(body=second.body, elements=first.elements))
    writer.close()
    assert all_bodies(tmp_path / "gateway.db") == {record.id: second.body}
