"""Finished calls in the order they ended: no call is missed, whatever happens to it, and every pair is told once."""

from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.store import finished, prune
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import insert_begun, replace_finished
from gateway_addon.store.selection import Selection
from gateway_addon.store.writer import Writer
from gateway_addon.terms import Executor
from tests.store.calls import make_record


def begin(db: Database, request_id: str, second: int = 0) -> None:
    with transaction(db):
        insert_begun(db, record(request_id, second, outcome="in_flight"))


def put(db: Database, request_id: str, second: int = 0, content: Content | None = None, **columns: Any) -> None:
    with transaction(db):
        replace_finished(db, record(request_id, second, **columns), content or Content())


def record(request_id: str, second: int, **columns: Any):
    time = f"2026-11-22T10:{second // 60:02}:{second % 60:02}.000Z"
    return make_record(id=request_id, **{"started_at": time, "session_id": "s"} | columns)


class Listener:
    """Asks for what it has not been told of."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._after = 0

    def __call__(self) -> list[str]:
        rows = list(finished.finished(self._db, self._after))
        self._after = rows[-1]["finish_sequence"] if rows else self._after
        return [row["id"] for row in rows]


class TestOrder:
    def test_is_that_of_their_ends(self, db: Database):
        listen = Listener(db)
        for number in range(3):
            begin(db, f"call-{number}", number)
        assert listen() == []
        for number in (2, 0, 1):
            put(db, f"call-{number}", number)
        assert listen() == ["call-2", "call-0", "call-1"]
        assert listen() == []

    def test_a_call_that_ends_behind_a_later_one_is_not_missed(self, db: Database):
        listen = Listener(db)
        begin(db, "slow", 1)
        put(db, "fast", 2)
        assert listen() == ["fast"]
        put(db, "slow", 1)
        assert listen() == ["slow"]

    def test_a_call_that_is_read_again_comes_again(self, db: Database):
        listen = Listener(db)
        put(db, "a")
        put(db, "b")
        listen()
        put(db, "a", outcome="stream_error")
        assert listen() == ["a"]

    def test_a_call_whose_proxy_died_comes_when_that_is_found(self, db: Database, path: Path):
        listen = Listener(db)
        begin(db, "a")
        # its run is in no table: the next writer takes it for ended
        with transaction(db):
            db.execute("INSERT INTO runs VALUES ('run-1', 0, NULL, '', '', '')")
        assert listen() == []
        Writer(path, "1").close()
        assert listen() == ["a"]

    def test_a_call_that_inherits_a_session_comes_again(self, db: Database):
        listen = Listener(db)
        put(db, "b", 2, previous_id="resp_1", session_id=None)
        assert listen() == ["b"]
        put(db, "a", 1, response_id="resp_1")
        assert sorted(listen()) == ["a", "b"]

    def test_numbers_are_not_given_again_after_the_last_call_is_removed(self, db: Database):
        listen = Listener(db)
        put(db, "new", 30)
        put(db, "old", 1)
        listen()
        prune.remove_before(db, "2026-11-22T10:00:10.000Z")
        put(db, "next", 31)
        assert listen() == ["next"]

    def test_writers_share_the_numbers(self, db: Database, path: Path):
        listen = Listener(db)
        writers = [Writer(path, "1") for _ in range(3)]
        for number in range(60):
            writer = writers[number % 3]
            writer.finish(make_record(id=f"call-{number:02}", run_id=writer.run_id), Content())
        heard = listen()
        for writer in writers:
            writer.close()
        heard += listen()
        assert sorted(heard) == [f"call-{number:02}" for number in range(60)]

    def test_pages_are_joined(self, db: Database, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(finished, "PAGE", 4)
        for number in range(10):
            put(db, f"call-{number}", number)
        assert Listener(db)() == [f"call-{number}" for number in range(10)]
        assert finished.count_finished(db, 0) == 10


class TestWatermark:
    def test_each_endpoint_has_its_own_and_it_never_goes_back(self, db: Database):
        finished.set_told(db, "http://a", 7)
        finished.set_told(db, "http://a", 5)
        finished.set_told(db, "http://b", 2)
        assert [finished.told(db, endpoint) for endpoint in ("http://a", "http://b", "http://c")] == [7, 2, 0]


CALLS: dict[str, dict[str, Any]] = {
    "a": {"session_id": "s", "request_model": "acme/a", "upstream_model": "vendor/a", "api_kind": "messages"},
    "b": {"session_id": "t", "request_model": "acme/b", "response_model": "b-1", "api_kind": "responses"},
    "c": {"session_id": "t", "request_model": "acme/a", "outcome": "http_error"},
}


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, ["a", "b", "c"]),
        ({"since": "2026-11-22T10:00:01.000Z"}, ["b", "c"]),
        ({"until": "2026-11-22T10:00:01.000Z"}, ["a"]),
        ({"session": "t"}, ["b", "c"]),
        ({"model": "acme/a"}, ["a", "c"]),
        ({"model": "vendor/a"}, ["a"]),
        ({"model": "b-1"}, ["b"]),
        ({"kind": "responses"}, ["b"]),
        ({"outcome": "http_error"}, ["c"]),
        ({"session": "t", "model": "acme/a"}, ["c"]),
        ({"session": "' OR 1"}, []),
    ],
)
def test_calls_can_be_selected(db: Database, given: dict[str, str], ids: list[str]):
    for second, (name, columns) in enumerate(CALLS.items()):
        put(db, name, second, **columns)
    selection = Selection(**given)
    assert [row["id"] for row in finished.finished(db, 0, selection)] == ids
    assert finished.count_finished(db, 0, selection) == len(ids)
    assert selection.is_all == (not given)


def asks(*call_ids: str, executor: Executor = "client", name: str = "bash") -> Content:
    return Content(tool_calls=[ToolCall(call_id, name, "tool_use", executor, "{}") for call_id in call_ids])


def brings(*call_ids: str) -> Content:
    return Content(tool_results=[ToolResult(call_id, "bash", "done", None) for call_id in call_ids])


SECONDS = {"ask": 1, "answer": 2, "retry": 3}
CONTENTS = {"ask": asks("1", "2"), "answer": brings("1", "2"), "retry": brings("1", "2")}


class TestExecuted:
    @pytest.mark.parametrize(
        ("order", "told_with"), [(["ask", "answer", "retry"], "answer"), (["answer", "retry", "ask"], "ask")]
    )
    def test_a_pair_is_told_once_with_the_later_told(self, db: Database, order: list[str], told_with: str):
        for name in order:
            put(db, name, SECONDS[name], CONTENTS[name])
        pairs = [
            (row["id"], tool["request_id"], tool["call_id"])
            for row in finished.finished(db, 0)
            for tool in row["executed"]
        ]
        assert pairs == [(told_with, "ask", "1"), (told_with, "ask", "2")]

    def test_a_page_may_end_between_two_calls(self, db: Database, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(finished, "PAGE", 1)
        for name in SECONDS:
            put(db, name, SECONDS[name], CONTENTS[name])
        assert [len(row["executed"]) for row in finished.finished(db, 0)] == [0, 2, 0]

    def test_what_the_server_ran_took_an_unknown_time(self, db: Database):
        content = asks("1", executor="server")
        content.tool_results = [ToolResult("1", "bash", "found", None)]
        put(db, "a", 1, content)
        put(db, "b", 2)
        assert [row["executed"] for row in finished.finished(db, 0)] == [[], []]

    def test_pairs_are_those_of_the_view(self, db: Database):
        """With ids that are the same in every answer, in two agents of a session, and in conversations side by side."""
        second = 0
        for agent in (None, "explorer"):
            for conversation in ("x", "y"):
                for turn in range(4):
                    content = asks("call_0", "call_1")
                    content.tool_results = brings("call_0", "call_1").tool_results if turn else []
                    second += 1
                    put(
                        db,
                        f"{agent}-{conversation}-{turn}",
                        second,
                        content,
                        agent_id=agent,
                        conversation_id=conversation,
                    )
        found = {
            (tool["request_id"], tool["position"], row["id"])
            for row in finished.finished(db, 0)
            for tool in row["executed"]
        }
        view = db.query("SELECT request_id, position, result_request_id FROM answered_tool_calls")
        assert found == {tuple(row.values()) for row in view}
        assert len(found) == 24


def test_cache_breaks_are_those_of_the_view(db: Database):
    for second, (read, side) in enumerate([(0, None), (900, None), (0, "title"), (100, None), (None, None), (5, None)]):
        costs: dict[str, Any] = {"cache_miss_microdollars": 1000, "cache_write_tokens": 1000 - (read or 0)}
        put(db, f"call-{second}", second, input_tokens=1000, cache_read_tokens=read, side_request=side, **costs)
    view = {row["request_id"]: (row["rewritten_tokens"], row["cost_microdollars"]) for row in db["cache_breaks"].rows}
    found = {
        row["id"]: (broken["rewritten_tokens"], broken["cost_microdollars"])
        for row in finished.finished(db, 0)
        if (broken := row["cache_break"])
    }
    assert found == view
    assert len(found) == 2


def test_a_turn_knows_the_one_before_it(db: Database):
    put(db, "a", 1, Content(user_prompt="one", tool_calls=asks("1").tool_calls), traceparent="first")
    put(db, "b", 2, Content(user_prompt="one"))
    put(db, "c", 3, Content(user_prompt="two"))
    rows = {row["id"]: row for row in finished.finished(db, 0)}

    def columns(name: str) -> list[Any]:
        names = ("turn_id", "turn_traceparent", "previous_turn_id", "previous_traceparent")
        return [rows[name][column] for column in names]

    assert columns("b") == ["a", "first", None, None]
    assert columns("c") == ["c", None, "a", "first"]
