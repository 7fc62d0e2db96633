"""What the command line asks: the turns of a conversation, and why a cache was missed."""

import hashlib
import json
from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.store import queries
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import replace_finished
from gateway_addon.store.selection import Selection
from tests.store.calls import make_record


def put(db: Database, request_id: str, second: int, content: Content | None = None, **columns: Any) -> None:
    columns = {"started_at": f"2026-11-22T10:{second // 60:02}:{second % 60:02}.000Z", "session_id": "s"} | columns
    with transaction(db):
        replace_finished(db, make_record(id=request_id, **columns), content or Content())


def ids(db: Database, request_id: str) -> list[str]:
    return [turn["id"] for turn in queries.conversation(db, request_id)]


class TestConversation:
    def test_is_the_turns_up_to_a_call_oldest_first(self, db: Database):
        for name, second in (("c", 3), ("a", 1), ("d", 4), ("b", 2)):
            put(db, name, second)
        assert ids(db, "c") == ["a", "b", "c"]

    @pytest.mark.parametrize(
        "other",
        [
            {"session_id": "other"},
            {"agent_id": "explorer"},
            {"conversation_id": "other"},
            {"api_kind": "responses"},
            {"side_request": "title"},
        ],
    )
    def test_leaves_out_what_belongs_elsewhere(self, db: Database, other: dict[str, Any]):
        put(db, "a", 1, **other)
        put(db, "b", 2)
        assert ids(db, "b") == ["b"]

    @pytest.mark.parametrize("alone", [{"session_id": None}, {"side_request": "title"}])
    def test_a_call_may_be_alone(self, db: Database, alone: dict[str, Any]):
        put(db, "a", 1, **alone)
        put(db, "b", 2, **alone)
        assert ids(db, "b") == ["b"]

    def test_a_turn_has_its_texts_tools_and_calls_with_their_results(self, db: Database):
        calls = [ToolCall(str(number), "bash", "tool_use", "client", "{}") for number in range(2)]
        put(db, "a", 1, Content(user_prompt="Why?", answer_text="Let me look.", tools=["bash"], tool_calls=calls))
        put(db, "b", 2, Content(tool_results=[ToolResult("1", "bash", "done", True)]))
        turn, _ = queries.conversation(db, "b")
        assert (turn["user_prompt"], turn["answer_text"], turn["tools"]) == ("Why?", "Let me look.", ["bash"])
        assert [(call["call_id"], call["result"], call["is_error"]) for call in turn["tool_calls"]] == [
            ("0", None, None),
            ("1", "done", 1),
        ]


def body(system: str, *messages: str) -> bytes:
    turns = [{"role": "user", "content": message} for message in messages]
    return json.dumps({"model": "m", "system": system, "messages": turns}).encode()


def put_break(db: Database, before: bytes | None, after: bytes | None, **columns: Any) -> dict[str, Any]:
    """A turn that leaves 900 tokens in the cache, one that reads none of them, and what is made of it."""
    usage = {"input_tokens": 1000, "cache_read_tokens": 0, "cache_write_tokens": 900}
    put(db, "a", 0, Content(body=before), request_sha256=sha256(before), **usage)
    put(db, "b", 10, Content(body=after), request_sha256=sha256(after), **usage | columns)
    (row,) = queries.cache_breaks(db)
    return {name: row[name] for name in ("cause", "segment")}


def sha256(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


LONG_AFTER = "2026-11-22T10:05:00.001Z"


class TestCacheBreaks:
    def test_the_first_difference_explains_a_miss(self, db: Database):
        found = put_break(db, body("Be brief.", "Why?"), body("Be long.", "Why?"))
        assert found == {"cause": "changed text", "segment": "system"}

    def test_after_too_long_a_pause_the_cache_is_gone_whatever_differs(self, db: Database):
        found = put_break(db, body("Be brief.", "Why?"), body("Be long.", "Why?"), started_at=LONG_AFTER)
        assert found == {"cause": "expired", "segment": "system"}

    def test_another_model_has_a_cache_of_its_own(self, db: Database):
        found = put_break(db, None, None, request_model="acme/small", started_at=LONG_AFTER)
        assert found == {"cause": "other model", "segment": None}

    def test_without_bodies_or_a_difference_nothing_is_guessed(self, db: Database):
        assert put_break(db, None, body("Be brief.", "Why?")) == {"cause": None, "segment": None}
        assert put_break(db, body("Be brief."), body("Be brief.", "Why?")) == {"cause": None, "segment": None}

    def test_a_damaged_body_explains_nothing(self, db: Database):
        put_break(db, body("Be brief.", "Why?"), body("Be long.", "Why?"))
        db.execute("UPDATE requests SET request_sha256 = 'another' WHERE id = 'a'")
        assert [row["cause"] for row in queries.cache_breaks(db)] == [None]

    def test_the_dearest_come_first_and_unknown_costs_last(self, db: Database):
        for number, miss in enumerate([None, 20, None, 90, 50]):
            usage: dict[str, Any] = {"input_tokens": 1000, "cache_read_tokens": 0, "cache_write_tokens": 900}
            put(db, str(number), number, cache_miss_microdollars=miss, **usage)
        assert [row["request_id"] for row in queries.cache_breaks(db)] == ["3", "4", "1", "2"]
        assert [row["request_id"] for row in queries.cache_breaks(db, 2)] == ["3", "4"]

    def test_no_more_bodies_are_rebuilt_than_breaks_are_told(self, db: Database, monkeypatch: pytest.MonkeyPatch):
        for number in range(9):
            sent = body("Be brief.", f"Why? {number}")
            usage = {"input_tokens": 1000, "cache_read_tokens": 0, "cache_write_tokens": 900}
            put(db, str(number), number, Content(body=sent), request_sha256=sha256(sent), **usage)
        rebuilt: list[str] = []
        load_body = queries.load_body

        def load(db: Database, name: str) -> bytes | None:
            rebuilt.append(name)
            return load_body(db, name)

        monkeypatch.setattr(queries, "load_body", load)
        assert len(queries.cache_breaks(db, 2)) == 2
        assert len(rebuilt) == 4
        rebuilt.clear()
        assert queries.cache_breaks_in_all(db)["breaks"] == 8
        assert rebuilt == []

    @pytest.mark.parametrize(("selection", "breaks"), [(Selection(session="s"), 1), (Selection(session="t"), 0)])
    def test_only_of_selected_calls(self, db: Database, selection: Selection, breaks: int):
        put_break(db, None, None)
        assert len(queries.cache_breaks(db, selection=selection)) == breaks
        assert queries.cache_breaks_in_all(db, selection)["breaks"] == breaks

    @pytest.mark.parametrize(("paid_for", "ttl"), [(0, 300), (900, 3600)])
    def test_a_cache_lives_for_an_hour_only_if_an_earlier_turn_paid_for_that(
        self, db: Database, paid_for: int, ttl: int
    ):
        usage: dict[str, Any] = {"input_tokens": 1000, "cache_read_tokens": 0, "cache_write_tokens": 900}
        put(db, "a", 0, **usage, cache_write_1h_tokens=paid_for)
        put(db, "b", 10, **usage)
        put(db, "c", 20, **usage, cache_write_1h_tokens=0)
        assert {row["ttl_seconds"] for row in queries.cache_breaks(db)} == {ttl}

    def test_its_own_purchase_says_nothing_of_what_was_there_before(self, db: Database):
        usage: dict[str, Any] = {"input_tokens": 1000, "cache_read_tokens": 0, "cache_write_tokens": 900}
        put(db, "a", 0, **usage)
        put(db, "b", 10, **usage, cache_write_1h_tokens=900)
        assert [row["ttl_seconds"] for row in queries.cache_breaks(db)] == [300]
