"""Which call a person's turn began with."""

from typing import Any

import pytest
from sqlite_utils import Database

from gateway_addon.api.base import ToolCall, ToolResult
from gateway_addon.content import Content
from gateway_addon.store.database import transaction
from gateway_addon.store.rows import insert_begun, replace_finished
from gateway_addon.store.turns import assign_turns
from tests.store.calls import make_record


def put(db: Database, request_id: str, second: int, prompt: str = "Why?", tool: bool = False, **columns: Any) -> None:
    """A call of session `s`; `tool`: its answer asks for one."""
    calls = [ToolCall(request_id, "bash", "tool_use", "client", "{}")] if tool else []
    columns = {"started_at": f"2026-11-22T10:00:{second:02}.000Z", "session_id": "s"} | columns
    with transaction(db):
        replace_finished(db, make_record(id=request_id, **columns), Content(user_prompt=prompt, tool_calls=calls))


def turns(db: Database) -> dict[str, str]:
    return {row["id"]: row["turn_id"] for row in db.query("SELECT id, turn_id FROM requests ORDER BY started_at")}


def test_calls_go_on_with_a_turn_as_long_as_the_model_asks_for_tools(db: Database):
    put(db, "a", 1, tool=True)
    put(db, "b", 2, tool=True)
    put(db, "c", 3)
    put(db, "d", 4, "And then?")
    assert turns(db) == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_the_same_words_once_more_are_a_new_turn(db: Database):
    put(db, "a", 1, "continue")
    put(db, "b", 2, "continue")
    assert turns(db) == {"a": "a", "b": "b"}


def test_another_try_is_of_the_same_turn(db: Database):
    put(db, "a", 1, outcome="http_error")
    put(db, "b", 2)
    assert turns(db) == {"a": "a", "b": "a"}


def test_a_new_prompt_ends_a_turn_whatever_the_model_asked_for(db: Database):
    put(db, "a", 1, tool=True)
    put(db, "b", 2, "No, stop.")
    assert turns(db) == {"a": "a", "b": "b"}


@pytest.mark.parametrize("other", [{"agent_id": "explorer"}, {"side_request": "title"}])
def test_what_is_done_for_a_turn_belongs_to_it(db: Database, other: dict[str, Any]):
    put(db, "a", 1, tool=True)
    put(db, "b", 2, "Look for ranks.", tool=True, **other)
    put(db, "c", 3, "Look for ranks.", **other)
    put(db, "d", 4)
    assert set(turns(db).values()) == {"a"}


@pytest.mark.parametrize("other", [{"session_id": "t"}, {"session_id": None}, {"conversation_id": "x"}])
def test_others_have_turns_of_their_own(db: Database, other: dict[str, Any]):
    put(db, "a", 1, tool=True)
    put(db, "b", 2, **other)
    assert turns(db) == {"a": "a", "b": "b"}


def test_a_turn_stays_what_it_was_first(db: Database):
    put(db, "b", 2)
    # stored later, as from a file
    put(db, "a", 1, tool=True)
    put(db, "b", 2)
    assert turns(db) == {"a": "a", "b": "b"}


def test_calls_that_ended_without_a_turn_get_one(db: Database):
    put(db, "a", 1, tool=True)
    with transaction(db):
        insert_begun(db, make_record(id="b", outcome="in_flight"))
        db.execute("UPDATE requests SET outcome = 'interrupted' WHERE id = 'b'")
        db.execute("UPDATE requests SET turn_id = NULL")
    assign_turns(db, 0)
    assert turns(db) == {"a": "a", "b": "b"}


def test_results_do_not_matter_only_calls_do(db: Database):
    """Under gateway_content=none there are no prompts to compare."""
    with transaction(db):
        for second, tools in ((1, ["1"]), (2, []), (3, [])):
            content = Content(
                tool_calls=[ToolCall(call, "bash", "tool_use", "client", None) for call in tools],
                tool_results=[ToolResult("1", "bash", None, None)] if second == 2 else [],
            )
            time = f"2026-11-22T10:00:{second:02}.000Z"
            replace_finished(db, make_record(id=str(second), session_id="s", started_at=time), content)
    assert turns(db) == {"1": "1", "2": "1", "3": "3"}
