"""The tables and views: what they hold, and how an older file gets them."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon.api import KINDS
from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.record import COLUMNS, as_row
from gateway_addon.store.database import StoreError, open_database, open_readonly, transaction
from gateway_addon.store.rows import KEPT, REFERENCES, replace_finished
from gateway_addon.store.schema import MIGRATIONS
from gateway_addon.terms import Executor
from tests.api.test_history import SAME
from tests.store.calls import make_record

USAGE = (
    "calls, errors, calls_without_cost, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, "
    "reasoning_tokens, cost_microdollars, charged_microdollars"
)

CONTRACT = {
    "tool_calls": "request_id, position, call_id, name, type, executor, arguments, arguments_valid",
    "tool_results": "request_id, call_id, name, arguments, result, is_error, result_request_id, duration_ms",
    "request_tools": "request_id, name",
    "prompts": "request_id, started_at, session_id, client, api_kind, system_prompt, user_prompt",
    "answers": "request_id, answer_text, reasoning_text",
    "usage_by_model": f"model, {USAGE}",
    "usage_by_day": f"day, {USAGE}",
    "usage_by_session": f"session_id, {USAGE}",
    "usage_by_client": f"client, {USAGE}",
    "usage_by_agent": f"session_id, agent_id, {USAGE}",
    "tool_usage": "name, calls, errors, requests",
}


class TestTables:
    def test_a_record_is_a_row(self, db: Database):
        assert {column.name for column in db["requests"].columns} == {*COLUMNS, *REFERENCES, *KEPT}

    @pytest.mark.parametrize(("view", "columns"), CONTRACT.items())
    def test_views_have_the_columns_of_the_contract(self, db: Database, view: str, columns: str):
        assert ", ".join(column.name for column in db[view].columns) == columns


class TestMigrating:
    """`schema_1.sql` is the dump of a file that the first schema was made in, with two calls."""

    @pytest.fixture
    def old(self, path: Path) -> Path:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(Path(__file__).with_name("schema_1.sql").read_text())
        return path

    def test_an_older_file_gets_todays_tables(self, old: Path, tmp_path: Path):
        with open_database(old) as db, open_database(tmp_path / "new.db") as new:
            for each in new.tables + new.views:
                columns = {column.name for column in each.columns}
                assert {column.name for column in db[each.name].columns} == columns, each.name
            assert {index.name for index in db["requests"].indexes} == {index.name for index in new["requests"].indexes}

    def test_what_was_in_it_stays(self, old: Path):
        with open_database(old) as db:
            rows = db.query("SELECT id, cost_microdollars, request_sha256, envelope_id FROM requests ORDER BY id")
            assert [tuple(row.values()) for row in rows] == [("call-1", 4100, None, None), ("call-2", 4300, None, None)]
            assert [row["user_prompt"] for row in db["prompts"].rows] == ["Which file holds the ranks?"] * 2
            assert [row["arguments"] for row in db["tool_calls"].rows] == ['{"pattern": "rank"}']

    def test_new_calls_share_its_texts(self, old: Path):
        with open_database(old) as db:
            before = db["contents"].count
            put(db, Content(user_prompt="Which file holds the ranks?", body=b'{"messages":["x"]}'), id="call-3")
            # the envelope
            assert db["contents"].count == before + 1

    def test_it_is_not_read_before_that(self, old: Path):
        with pytest.raises(StoreError, match="older schema"):
            open_readonly(old)


def put(db: Database, content: Content | None = None, **columns: Any) -> None:
    with transaction(db):
        replace_finished(db, make_record(**columns), content or Content())


class TestAnswers:
    def test_each_call_has_its_texts(self, db: Database):
        put(db, Content(answer_text="So.", reasoning_text="Hm."), id="a")
        put(db, Content(answer_text="So."), id="b")
        put(db, id="c")
        assert [tuple(row.values()) for row in db["answers"].rows] == [
            ("a", "So.", "Hm."),
            ("b", "So.", None),
            ("c", None, None),
        ]


class TestUsage:
    def test_what_nobody_said_is_null_and_not_zero(self, db: Database):
        put(db, id="a")
        put(db, id="b")
        assert list(db["usage_by_model"].rows) == [
            {
                "model": "acme/model",
                "calls": 2,
                "errors": 0,
                "calls_without_cost": 2,
                "input_tokens": None,
                "cache_read_tokens": None,
                "cache_write_tokens": None,
                "output_tokens": None,
                "reasoning_tokens": None,
                "cost_microdollars": None,
                "charged_microdollars": None,
            }
        ]

    def test_sums_count_what_is_known(self, db: Database):
        put(db, id="a", cost_microdollars=12_300, charged_microdollars=0, input_tokens=40_003)
        put(db, id="b", cost_microdollars=700, output_tokens=5)
        put(db, id="c")
        (row,) = db["usage_by_client"].rows
        assert (row["calls"], row["calls_without_cost"], row["cost_microdollars"]) == (3, 1, 13_000)
        assert (row["charged_microdollars"], row["input_tokens"], row["output_tokens"]) == (0, 40_003, 5)

    @pytest.mark.parametrize(
        ("outcome", "calls", "errors"),
        [
            ("complete", 1, 0),
            ("client_aborted", 1, 0),
            ("interrupted", 1, 0),
            ("stream_error", 1, 1),
            ("http_error", 1, 1),
            ("unreadable", 1, 1),
            ("upstream_cut", 1, 1),
            ("rejected", 0, 0),
            ("in_flight", 0, 0),
        ],
    )
    def test_outcomes(self, db: Database, outcome: str, calls: int, errors: int):
        put(db, id="a", outcome=outcome)
        assert [(row["calls"], row["errors"]) for row in db["usage_by_day"].rows] == [(calls, errors)] * calls

    @pytest.mark.parametrize(
        ("request_id", "source", "calls"),
        [
            pytest.param("flow", "live", 1, id="live"),
            pytest.param("flow", "file", 1, id="file"),
            pytest.param("flow", "replay", 0, id="server replay: nobody was asked"),
            pytest.param("flow~1795341600000", "replay", 1, id="client replay: a provider was asked again"),
        ],
    )
    def test_sources(self, db: Database, request_id: str, source: str, calls: int):
        put(db, id=request_id, source=source)
        assert db["counted_requests"].count == calls

    @pytest.mark.parametrize(
        ("view", "columns", "key"),
        [
            ("usage_by_model", {"request_model": "auto", "upstream_model": "acme/large"}, "acme/large"),
            ("usage_by_model", {"request_model": "acme/small", "response_model": "acme/small-2"}, "acme/small"),
            ("usage_by_day", {"started_at": "2026-11-21T23:59:59.999Z"}, "2026-11-21"),
            ("usage_by_session", {"session_id": "s-1"}, "s-1"),
            ("usage_by_session", {}, None),
            ("usage_by_client", {"client": "aider"}, "aider"),
        ],
    )
    def test_keys(self, db: Database, view: str, columns: dict[str, str], key: str | None):
        put(db, None, **columns)
        assert [next(iter(row.values())) for row in db[view].rows] == [key]


class TestTools:
    def test_calls_are_counted_by_name(self, db: Database):
        read = ToolCall("1", "read_file", "tool_use", "client", "{}")
        put(db, Content(tool_calls=[read, read]), id="a")
        put(db, Content(tool_calls=[read, ToolCall("2", "bash", "tool_use", "client", "{}")]), id="b")
        assert list(db["tool_usage"].rows) == [
            {"name": "bash", "calls": 1, "errors": None, "requests": 1},
            {"name": "read_file", "calls": 3, "errors": None, "requests": 2},
        ]

    def test_the_tools_offered_are_a_row_each(self, db: Database):
        put(db, Content(tools=["bash", "read_file"]), id="a")
        put(db, Content(), id="b")
        assert list(db["request_tools"].rows) == [
            {"request_id": "a", "name": "bash"},
            {"request_id": "a", "name": "read_file"},
        ]


def at(second: int) -> str:
    return f"2026-11-22T10:{second // 60:02}:{second % 60:02}.000Z"


def call(call_id: str | None, name: str = "bash", executor: Executor = "client") -> ToolCall:
    return ToolCall(call_id, name, "tool_use", executor, "{}")


def result(call_id: str | None, content: str = "done", name: str | None = "bash", is_error: bool | None = None):
    return ToolResult(call_id, name, content, is_error)


type Call = tuple[str, dict[str, Any], Content]
"""A request's id, its columns, and its texts."""


def turn(request_id: str, second: int, *found: ToolCall | ToolResult, **columns: Any) -> Call:
    """A request that carries the results, and whose answer makes the calls."""
    content = Content(
        tool_calls=[item for item in found if isinstance(item, ToolCall)],
        tool_results=[item for item in found if isinstance(item, ToolResult)],
    )
    return request_id, {"started_at": at(second), "session_id": "s", "conversation_id": "c"} | columns, content


def store(db: Database, turns: Iterable[Call]) -> None:
    for request_id, columns, content in turns:
        put(db, content, id=request_id, **columns)


def joined(db: Database) -> list[tuple[str, str | None, str, str]]:
    sql = "SELECT * FROM tool_results WHERE request_id IS NOT NULL ORDER BY request_id, call_id, result"
    return [(row["request_id"], row["call_id"], row["result"], row["result_request_id"]) for row in db.query(sql)]


def unseen(db: Database) -> list[dict[str, Any]]:
    return list(db.query("SELECT * FROM tool_results WHERE request_id IS NULL ORDER BY call_id, result"))


def resumption(kind: str, turns: int, first: str = "go") -> dict[str, Any]:
    """A body that ends with the result of the last of some calls, `call-0`, `call-1`, ..."""
    history: list[dict[str, Any]] = [{"role": "user", "content": first}]
    for number in range(turns):
        history += STEPS[kind](f"call-{number}", f"result {number}")
    return {"input" if kind == "responses" else "messages": history}


STEPS: dict[str, Callable[[str, str], list[dict[str, Any]]]] = {
    "messages": lambda call_id, words: [
        {"role": "assistant", "content": [{"type": "tool_use", "id": call_id, "name": "bash", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": words}]},
    ],
    "chat_completions": lambda call_id, words: [
        {"role": "assistant", "tool_calls": [{"id": call_id, "function": {"name": "bash", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": call_id, "content": words},
    ],
    "responses": lambda call_id, words: [
        {"type": "function_call", "call_id": call_id, "name": "bash", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": words},
    ],
}


def with_body(kind: str, body: dict[str, Any]) -> Content:
    return Content(tool_results=KINDS[kind].read_request(body).tool_results, body=json.dumps(body).encode())


NUMBERED_ANEW = [
    turn("a", 0, call("call_0")),
    turn("b", 1, result("call_0", "one"), call("call_0")),
    turn("c", 2, result("call_0", "two")),
]


class TestToolResults:
    def test_a_row_has_the_call_and_its_result(self, db: Database):
        arguments = ToolCall("1", "bash", "tool_use", "client", '{"cmd": "ls"}')
        store(db, [turn("a", 0, arguments), turn("b", 1, result("1", "no such file", is_error=True))])
        assert list(db["tool_results"].rows) == [
            {
                "request_id": "a",
                "call_id": "1",
                "name": "bash",
                "arguments": '{"cmd": "ls"}',
                "result": "no such file",
                "is_error": 1,
                "result_request_id": "b",
                "duration_ms": None,
            }
        ]

    def test_how_long_a_tool_took_stands_with_its_result(self, db: Database):
        seen, unknown = (replace(result(call_id), duration_ms=12.5) for call_id in ("1", "2"))
        store(db, [turn("a", 0, call("1")), turn("b", 1, seen, unknown)])
        assert [row["duration_ms"] for row in db["tool_results"].rows] == [12.5, 12.5]

    @pytest.mark.parametrize("order", list(permutations(NUMBERED_ANEW)), ids=lambda turns: "".join(t[0] for t in turns))
    def test_the_order_of_arrival_and_reading_again_do_not_matter(self, db: Database, order: tuple[Call, ...]):
        store(db, [*order, *order])
        assert joined(db) == [("a", "call_0", "one", "b"), ("b", "call_0", "two", "c")]

    def test_a_history_that_is_sent_again_does_not_answer_again(self, db: Database):
        again = [turn(name, second, result("1")) for name, second in (("d", 3), ("b", 1), ("c", 2))]
        store(db, [turn("a", 0, call("1")), *again])
        assert joined(db) == [("a", "1", "done", "b")]

    def test_calls_of_one_answer_with_the_same_id_or_none_are_answered_in_their_order(self, db: Database):
        results = [result("0", "one"), result("0", "two"), result(None, "three"), result(None, "four")]
        store(db, [turn("a", 0, call("0"), call("0"), call(None), call(None)), turn("b", 1, *results)])
        assert [(call_id, text) for _, call_id, text, _ in joined(db)] == [
            (None, "four"),
            (None, "three"),
            ("0", "one"),
            ("0", "two"),
        ]

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"session_id": "other"}, id="of another session"),
            pytest.param({"session_id": None}, id="of an unknown session"),
            pytest.param({"agent_id": "explorer"}, id="of another agent"),
            pytest.param({"started_at": at(2)}, id="made later"),
        ],
    )
    def test_a_call_is_not_answered_that_is(self, db: Database, other: dict[str, Any]):
        store(db, [turn("a", 0, call("1"), **other), turn("b", 1, result("1"))])
        assert joined(db) == []

    def test_nor_one_of_another_tool(self, db: Database):
        store(db, [turn("a", 0, call("1", "edit")), turn("b", 1, result("1"))])
        assert joined(db) == []

    def test_a_result_without_a_name_is_told_by_its_id(self, db: Database):
        store(db, [turn("a", 0, call("1")), turn("b", 1, result("1", name=None))])
        assert joined(db) == [("a", "1", "done", "b")]

    def test_in_one_session_conversations_may_be_held_at_the_same_time(self, db: Database):
        mine, yours = {"conversation_id": "mine"}, {"conversation_id": "yours"}
        store(
            db,
            [
                turn("a", 0, call("call_0"), **mine),
                turn("b", 1, call("call_0"), **yours),
                turn("c", 2, result("call_0", "of a"), **mine),
                turn("d", 3, result("call_0", "of b"), **yours),
            ],
        )
        assert joined(db) == [("a", "call_0", "of a", "c"), ("b", "call_0", "of b", "d")]

    def test_a_session_goes_on_after_its_beginning_is_cut_off(self, db: Database):
        store(db, [turn("a", 0, call("1")), turn("b", 1, result("1"), conversation_id="cut")])
        assert joined(db) == [("a", "1", "done", "b")]

    def test_a_tool_that_the_server_ran_has_its_result_in_the_same_answer(self, db: Database):
        store(db, [turn("a", 0, call("1", executor="server"), result("1"), session_id=None)])
        assert joined(db) == [("a", "1", "done", "a")]

    def test_an_answer_does_not_answer_its_own_calls_of_the_clients_tools(self, db: Database):
        store(db, [turn("a", 0, result("call_0", "of what came before"), call("call_0"))])
        assert joined(db) == []

    def test_a_result_whose_call_nobody_saw_has_no_request(self, db: Database):
        store(db, [turn("b", 1, result("1", is_error=True))])
        assert list(db["tool_results"].rows) == [
            {
                "request_id": None,
                "call_id": "1",
                "name": "bash",
                "arguments": None,
                "result": "done",
                "is_error": 1,
                "result_request_id": "b",
                "duration_ms": None,
            }
        ]
        assert list(db["tool_usage"].rows) == []

    @pytest.mark.parametrize("kind", SAME)
    @pytest.mark.parametrize("order", [1, -1])
    def test_so_do_older_ones_of_a_session_that_was_resumed_each_once(self, db: Database, kind: str, order: int):
        resumed, later, rewritten = (
            resumption(kind, turns, first) for turns, first in ((3, "go"), (5, "go"), (6, "Go!"))
        )
        calls = [("a", 0, resumed), ("b", 1, later), ("c", 2, later), ("d", 3, rewritten)]
        for name, second, body in calls[::order]:
            columns = {"started_at": at(second), "session_id": "s", "api_kind": kind}
            put(db, with_body(kind, body), id=name, **columns)
        results = [(row["call_id"], row["name"], row["result"], row["result_request_id"]) for row in unseen(db)]
        assert results == [
            ("call-0", "bash", "result 0", "a"),
            ("call-1", "bash", "result 1", "a"),
            ("call-2", "bash", "result 2", "a"),
            ("call-3", "bash", "result 3", "b"),
            ("call-4", "bash", "result 4", "b"),
            ("call-5", "bash", "result 5", "d"),
        ]
        assert list(db["tool_calls"].rows) == []

    def test_nobody_saw_means_nobody(self, db: Database):
        body = resumption("messages", 2)
        asked_by = {"session_id": "s", "api_kind": "messages"}
        put(db, Content(tool_calls=[call("call-0")]), id="a", started_at=at(0), **asked_by)
        put(db, with_body("messages", body), id="b", started_at=at(1), **asked_by)
        assert [row["call_id"] for row in unseen(db)] == ["call-1"]
        # the request that brought it was not recorded, but the history has it
        assert joined(db) == [("a", "call-0", "result 0", "b")]

    @pytest.mark.parametrize("kind", STEPS)
    def test_of_another_conversation_the_same_id_is_another_result(self, db: Database, kind: str):
        asked_by = {"session_id": "s", "api_kind": kind}
        put(db, with_body(kind, resumption(kind, 1)), id="a", started_at=at(0), **asked_by)
        # some providers number the calls of each answer anew
        other = json.loads(json.dumps(resumption(kind, 2, "go on")).replace("result 0", "another result"))
        put(db, with_body(kind, other), id="b", started_at=at(1), **asked_by)
        sql = """SELECT request_id, call_id, text FROM stored_tool_results JOIN contents ON contents.id = result_id
                 ORDER BY request_id, call_id"""
        assert db.execute(sql).fetchall() == [
            ("a", "call-0", "result 0"),
            ("b", "call-0", "another result"),
            ("b", "call-1", "result 1"),
        ]

    def test_ids_that_come_again_in_a_history_are_results_each(self, db: Database):
        body = json.loads(json.dumps(resumption("messages", 3)).replace("call-1", "call-0"))
        put(db, with_body("messages", body), session_id="s")
        assert [row["result"] for row in unseen(db)] == ["result 0", "result 1", "result 2"]

    def test_and_answer_no_call_that_was_seen_as_nobody_can_say_which(self, db: Database):
        asked_by = {"session_id": "s", "api_kind": "messages"}
        put(db, Content(tool_calls=[call("call-0")]), id="a", started_at=at(0), **asked_by)
        body = json.loads(json.dumps(resumption("messages", 3)).replace("call-1", "call-0"))
        put(db, with_body("messages", body), id="b", started_at=at(1), **asked_by)
        assert joined(db) == []

    def test_without_bodies_only_the_newest_are_there(self, db: Database):
        content = with_body("messages", resumption("messages", 3))
        content.body = None
        put(db, content, session_id="s")
        assert [row["call_id"] for row in unseen(db)] == ["call-2"]

    def test_errors_are_counted_by_tool(self, db: Database):
        calls = [call("1"), call("2"), call("3", "edit"), call("4", "read")]
        results = [result("1", is_error=True), result("2", is_error=False), result("3", name="edit")]
        store(db, [turn("a", 0, *calls), turn("b", 1, *results)])
        assert [(row["name"], row["calls"], row["errors"]) for row in db["tool_usage"].rows] == [
            ("bash", 2, 1),
            ("edit", 1, None),
            ("read", 1, None),
        ]


def tokens(given: int, read: int | None, written: int | None = 0, miss: int | None = None, **columns: Any) -> dict:
    usage = {"input_tokens": given, "cache_read_tokens": read, "cache_write_tokens": written}
    return usage | {"cache_miss_microdollars": miss} | columns


def breaks(db: Database) -> list[str]:
    return [row["request_id"] for row in db["cache_breaks"].rows]


class TestCacheBreaks:
    def test_a_row_tells_what_was_there_and_what_was_read(self, db: Database):
        store(
            db,
            [
                turn("a", 0, **tokens(10_000, 1_000, 8_000)),
                turn("b", 60, **tokens(12_000, 2_000, 9_500, miss=34_000, request_model="acme/small")),
            ],
        )
        assert list(db["cache_breaks"].rows) == [
            {
                "request_id": "b",
                "started_at": at(60),
                "session_id": "s",
                "agent_id": None,
                "model": "acme/small",
                "previous_request_id": "a",
                "previous_model": "acme/model",
                "idle_seconds": 60.0,
                "ttl_seconds": 300,
                "cached_tokens": 9_000,
                "cache_read_tokens": 2_000,
                # of 10,000 tokens that were not read, which cost 34,000
                "rewritten_tokens": 7_000,
                "cost_microdollars": 23_800,
            }
        ]

    @pytest.mark.parametrize(
        ("before", "after", "found"),
        [
            pytest.param(tokens(1000, 0, 900), tokens(1200, 900, 200), [], id="all of it is read"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 850), [], id="a block that is rounded down is no break"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 0), ["b"], id="nothing is read"),
            pytest.param(tokens(1000, 800, None), tokens(1200, 0, None), ["b"], id="writes are not reported"),
            pytest.param(tokens(1000, 0, 0), tokens(1200, 0), [], id="nothing was there"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, None), [], id="nobody says what was read"),
            pytest.param(tokens(1000, 0, 900), tokens(300, 300), [], id="a history that was cut is read in full"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 0, session_id="t"), [], id="another session"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 0, agent_id="x"), [], id="another agent"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 0, conversation_id="x"), [], id="another conversation"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 0, side_request="title"), [], id="no turn"),
            pytest.param(tokens(1000, 0, 900), tokens(1200, 0, outcome="rejected"), [], id="never sent"),
        ],
    )
    def test_what_counts(self, db: Database, before: dict[str, Any], after: dict[str, Any], found: list[str]):
        store(db, [turn("a", 0, **before), turn("b", 1, **after)])
        assert breaks(db) == found

    def test_calls_in_between_that_say_nothing_of_a_cache_are_passed_over(self, db: Database):
        failed = turn("b", 1, outcome="http_error")
        store(db, [turn("a", 0, **tokens(1000, 0, 900)), failed, turn("c", 2, **tokens(1200, 0))])
        assert [row["previous_request_id"] for row in db["cache_breaks"].rows] == ["a"]

    @pytest.mark.parametrize(("written_1h", "seconds"), [(None, 300), (0, 300), (5, 3600)])
    def test_an_hour_that_was_paid_for_holds_for_the_conversation(
        self, db: Database, written_1h: int | None, seconds: int
    ):
        paid = turn("a", 0, **tokens(1000, 0, 900, cache_write_1h_tokens=written_1h))
        store(db, [paid, turn("b", 1, **tokens(1000, 900)), turn("c", 2, **tokens(1000, 0))])
        assert [row["ttl_seconds"] for row in db["cache_breaks"].rows] == [seconds]

    def test_an_hour_that_is_paid_for_now_comes_too_late(self, db: Database):
        store(
            db, [turn("a", 0, **tokens(1000, 0, 900)), turn("b", 1, **tokens(1000, 0, 900, cache_write_1h_tokens=900))]
        )
        assert [row["ttl_seconds"] for row in db["cache_breaks"].rows] == [300]

    def test_an_unknown_price_is_an_unknown_cost(self, db: Database):
        store(db, [turn("a", 0, **tokens(1000, 0, 900)), turn("b", 1, **tokens(1000, 0, miss=None))])
        assert [row["cost_microdollars"] for row in db["cache_breaks"].rows] == [None]


def test_cost_by_sub_agent_is_one_query(db: Database):
    store(
        db,
        [
            turn("a", 0, cost_microdollars=5),
            turn("b", 1, cost_microdollars=70, agent_id="explorer"),
            turn("c", 2, cost_microdollars=8, agent_id="explorer"),
        ],
    )
    rows = db.query("SELECT session_id, agent_id, cost_microdollars FROM usage_by_agent")
    assert [tuple(row.values()) for row in rows] == [("s", None, 5), ("s", "explorer", 78)]


def test_a_count_from_before_there_was_a_bound_ends_no_report(tmp_path: Path):
    path = tmp_path / "old.db"
    with closing(Database(path)) as old:
        MIGRATIONS.apply(old, stop_before="plausible_counts")
        for name, cached in (("a", 5), ("b", 6)):
            row = as_row(make_record(id=name, **tokens(2**63 - 1, cached)))
            # as it was written then
            old.table("requests").insert({name: row[name] for name in old["requests"].columns_dict if name in row})
        with pytest.raises(sqlite3.OperationalError, match="overflow"):
            list(old["usage_by_day"].rows)
    with closing(open_database(path)) as db:
        (row,) = db["usage_by_day"].rows
        assert (row["calls"], row["input_tokens"], row["cache_read_tokens"]) == (2, None, 11)
