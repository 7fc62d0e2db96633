"""What a record and its texts become in the database, the first time and when they are read again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Database

from gateway_addon.api.base import ToolCall
from gateway_addon.content import Content
from gateway_addon.record import COLUMNS, TIMINGS, as_row
from gateway_addon.store.contents import content_id
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import insert_begun, replace_finished
from gateway_addon.store.schema import create_calls
from tests.store.calls import make_content, make_record


def begin(db: Database, **columns: Any) -> None:
    with transaction(db):
        insert_begun(db, make_record(outcome="in_flight", **columns))


def finish(db: Database, content: Content | None = None, **columns: Any) -> None:
    with transaction(db):
        replace_finished(db, make_record(**columns), content or Content())


def only_row(db: Database) -> dict[str, Any]:
    (row,) = db["requests"].rows
    return row


class TestRequests:
    @pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30])
    def test_a_number_that_nobody_has_counted_is_unknown(self, db: Database, number: int):
        finish(db, http_status=number, max_tokens=number)
        assert (only_row(db)["http_status"], only_row(db)["max_tokens"]) == (None, None)

    def test_every_column_is_stored(self, db: Database):
        record = make_record(**{name: 7 for name in COLUMNS if name.endswith(("_tokens", "_microdollars", "_ms"))})
        with transaction(db):
            replace_finished(db, record, Content())
        assert {name: only_row(db)[name] for name in COLUMNS} == as_row(record)

    def test_the_end_of_a_call_replaces_its_beginning(self, db: Database):
        begin(db)
        finish(db, output_tokens=5, duration_ms=12.5)
        assert (only_row(db)["outcome"], only_row(db)["output_tokens"]) == ("complete", 5)
        assert only_row(db)["duration_ms"] == 12.5

    def test_a_beginning_never_replaces_an_end(self, db: Database):
        finish(db, make_content(), output_tokens=5)
        before = only_row(db)
        begin(db, started_at="2026-11-23T00:00:00.000Z")
        assert only_row(db) == before

    def test_reading_again_replaces_what_was_known(self, db: Database):
        finish(db, output_tokens=5, error_type="overloaded_error")
        finish(db, output_tokens=6)
        assert (only_row(db)["output_tokens"], only_row(db)["error_type"]) == (6, None)

    def test_reading_again_keeps_where_a_call_was_first_seen(self, db: Database):
        finish(db, source="live", run_id="first")
        finish(db, source="file", run_id="second")
        assert (only_row(db)["source"], only_row(db)["run_id"]) == ("live", "first")

    def test_the_same_run_may_learn_that_a_file_answered(self, db: Database):
        begin(db, source="live")
        finish(db, source="replay")
        assert only_row(db)["source"] == "replay"

    @pytest.mark.parametrize("name", TIMINGS)
    @pytest.mark.parametrize(
        ("first", "again", "kept"), [(10.0, None, 10.0), (10.0, 99.0, 10.0), (None, 99.0, 99.0), (None, None, None)]
    )
    def test_reading_again_keeps_the_timings_of_the_live_run(
        self, db: Database, name: str, first: float | None, again: float | None, kept: float | None
    ):
        finish(db, None, **{name: first})
        finish(db, None, **{name: again})
        assert only_row(db)[name] == kept


class TestToolCalls:
    def test_reading_again_replaces_them(self, db: Database):
        finish(db, Content(tool_calls=[ToolCall("1", "bash", "function", "client", "{}")] * 2))
        finish(db, Content(tool_calls=[ToolCall("2", "edit", "custom", "server", "free text")]))
        assert list(db["tool_calls"].rows) == [
            {
                "request_id": "call-1",
                "position": 0,
                "call_id": "2",
                "name": "edit",
                "type": "custom",
                "executor": "server",
                "arguments": "free text",
                "arguments_valid": None,
            }
        ]

    def test_a_call_may_have_no_id_and_no_name(self, db: Database):
        finish(db, Content(tool_calls=[ToolCall(None, None, "function", "client", '{"cut')]))
        (row,) = db["tool_calls"].rows
        assert (row["call_id"], row["name"], row["arguments"], row["arguments_valid"]) == (None, None, '{"cut', 0)

    def test_reading_again_replaces_the_tools_offered(self, db: Database):
        finish(db, Content(tools=["bash", "edit"]))
        finish(db, Content(tools=["bash"]))
        assert [row["name"] for row in db["request_tools"].rows] == ["bash"]


class TestStoredOnce:
    def test_a_text_that_is_sent_again_costs_nothing(self, db: Database):
        call = ToolCall("1", "echo", "function", "client", "be brief")
        finish(db, make_content(), id="a")
        finish(db, make_content(tool_calls=[call]), id="b")
        assert [row["text"] for row in db["contents"].rows] == ["be brief", "what is new?", "not much"]

    def test_the_same_tools_offered_again_cost_nothing(self, db: Database):
        for number in range(3):
            finish(db, Content(tools=["bash", "read_file"]), id=f"call-{number}")
        assert (db["tool_sets"].count, db["request_tools"].count) == (1, 6)

    def test_no_text_is_null_and_an_empty_one_is_not(self, db: Database):
        finish(db, Content(system_prompt=None, user_prompt=""))
        (row,) = db["prompts"].rows
        assert (row["system_prompt"], row["user_prompt"]) == (None, "")


class TestSurrogates:
    """JSON may spell half a surrogate pair; SQLite cannot hold one."""

    def test_in_texts_names_and_columns(self, db: Database):
        call = ToolCall("\udcff", "b\udcffsh", "function", "client", '"\ud800"')
        content = Content(user_prompt="a\ud800b", tools=["t\ud800"], tool_calls=[call])
        finish(db, content, id="i\ud800", error_message="e\ud800")
        finish(db, content, id="i\ud800", error_message="e\ud800")
        assert (only_row(db)["id"], only_row(db)["error_message"]) == ("i?", "e?")
        assert [row["user_prompt"] for row in db["prompts"].rows] == ["a?b"]
        assert [row["name"] for row in db["request_tools"].rows] == ["t?"]
        assert [(row["request_id"], row["name"], row["arguments"]) for row in db["tool_calls"].rows] == [
            ("i?", "b?sh", '"?"')
        ]

    @given(st.text(st.characters()))
    def test_any_other_text_comes_back_as_it_was(self, text: str):
        with Database(memory=True) as db:
            create_calls(db)
            number = content_id(db, text)
            assert content_id(db, text) == number
            assert db["contents"].get(number)["text"] == text.encode("utf-8", "replace").decode()
